//! `exec`: a further process in a container that runs.
//!
//! ```text
//! parent                                  child
//! find init, decide the process
//! open the cgroup, clone3 ──────────────▶ OomScoreAdj, Undumpable
//! (in the container's PID namespace)      JoinContainer: one setns by init's pidfd
//!                      ◀── Console + fd ── Console (foreground)
//! place in cgroup v1, resctrl  PLACED ───▶ user, limits … AwaitPlacement
//!                      ◀── Ready ───────── Outlive
//!                      ◀── end of file ─── Exec (or Failed, at any point)
//! pid file, pidfd; watch until it ends
//! ```
//!
//! Needs no lock and writes nothing down: the kernel ends the process with the container.

mod prepared;
mod request;
mod target;

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitId, WaitIdOptions, geteuid, waitid};

use crate::cgroup::Join;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::init::{Scene, run as run_child, wire};
use crate::plan::Plan;
use crate::plan::exec::{Entry, ExecPlan, plan_exec};
use crate::plan::step::Step;
use crate::spawn::limits::Raised;
use crate::spawn::{self, Opener, Options, Parts, Tools, failure, listener, resctrl, run, settle};
use crate::state::{ContainerId, Status, state_json};
use crate::sys::process::{self, Child, pidfd_send_signal};
use crate::sys::settings;
use crate::sys::vfork::clone3_vfork;

use prepared::Prepared;
pub use request::Request;
use target::Target;

/// CLONE_NEWTIME of sched.h.
const NEW_TIME: u64 = 0x80;
/// How long a child has to obey a signal.
const GRACE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A process that `exec` has started.
#[derive(Debug)]
pub struct Executed {
    /// As the runtime sees it.
    pub pid: i32,
    /// Its exit status, or 128 and the number of the signal that killed it; `None` when detached.
    pub status: Option<i32>,
    /// What could not be had and is no error.
    pub warnings: Vec<String>,
}

/// Runs a program in a container; without `detach` waits for its end.
///
/// The foreground form takes all signals and reaps all children, and
/// `execCPUAffinity.initial` stays with the calling thread, and an ordinary user's `oomScoreAdj` with its process:
/// it is for a process of its own.
///
/// # Errors
/// The container does not run (or is paused), the process is not valid, or cannot be executed.
pub fn exec(id: &ContainerId, request: &Request, options: &Options) -> Result<Executed> {
    options.mark("find the container");
    let target = Target::find(&options.root, id, request.ignore_paused)?;
    exec_in(&target, request, options).map_err(|error| target.explain(error))
}

fn exec_in(target: &Target, request: &Request, options: &Options) -> Result<Executed> {
    options.mark("config.json and request");
    let mut prepared = prepare(target)?;
    let filter = prepared.take_filter();
    let file = request.read_process()?;
    let mut config = prepared.config()?;
    let (process, mut warnings) = request.decide(config.process.take(), file.as_deref())?;
    run::refuse_lost_terminal(request.detach, process.terminal, options)?;
    config.process = Some(process);
    let host = Host::default();
    let namespaces = target.namespaces(&config, &host)?;
    let record = target.record()?;
    let place = record.cgroup.join_words(&request.cgroup)?;
    let entry = Entry {
        id: target.container.id.as_str(),
        namespaces: namespaces.by_child,
        become_root: namespaces.user,
        joined_user_by_parent: namespaces.by_parent & libc::CLONE_NEWUSER as u64 != 0,
        chroot: !namespaces.configured.has("mount"),
        placed_late: place.has_v1() || record.resctrl.is_some(),
        no_new_keyring: record.no_new_keyring,
    };
    options.mark("plan");
    let ExecPlan { plan, initial } = plan_exec(&config, filter, &namespaces.configured, &entry, &host)?;
    // What the container's own config asks for in vain, its create has told.
    if file.is_some() || !request.capabilities.is_empty() {
        warnings.extend(plan.all_warnings());
    }
    if let Some(cpus) = initial {
        settings::sched_setaffinity(&cpus)
            .map_err(|errno| Error::sys("process.execCPUAffinity.initial", "sched_setaffinity", errno))?;
    }
    if let Some(score) = plan.oom_score_adj {
        settle::write_oom_score(std::process::id(), score)?;
    }
    let plan = Arc::new(plan);
    let (by_parent, user) = (namespaces.by_parent, namespaces.user);
    let started = Start { target, plan: &plan, request, options, by_parent, user };
    let (pid, status) = started.go(place)?;
    Ok(Executed { pid, status, warnings })
}

/// What an earlier call has worked out of the container's config, or this one does.
fn prepare(target: &Target) -> Result<Prepared> {
    if let Some(prepared) = Prepared::read(&target.container)? {
        return Ok(prepared);
    }
    let prepared = Prepared::make(&target.config_text()?)?;
    // It only saves time: where there is no room for it, the next call does without, too.
    prepared.keep(&target.container).ok();
    Ok(prepared)
}

/// The parts of the second half of the story.
struct Start<'s> {
    target: &'s Target,
    plan: &'s Arc<Plan>,
    request: &'s Request,
    options: &'s Options,
    /// `CLONE_NEW*` of what must be joined before clone3.
    by_parent: u64,
    /// The container has a user namespace.
    user: bool,
}

impl Start<'_> {
    /// From the plan to a program that runs, or has ended.
    fn go(&self, place: Join) -> Result<(i32, Option<i32>)> {
        self.options.mark("open sockets, channel");
        let mut tools = Tools::open(self.plan, self.options)?;
        tools.joins.push(self.target.pidfd()?);
        let (ours, theirs) = spawn::channel()?;
        let signals = if self.request.detach { None } else { Some(run::take_signals(false)?) };
        self.options.mark("clone3");
        let (child, place) = self.clone_into(place, &tools, theirs.as_fd())?;
        self.options.mark("wait until execve has succeeded");
        drop(theirs);
        let pid = child.pid.as_raw_nonzero().get();
        let begun = self
            .place(&place, &child, ours.as_fd())
            .and_then(|()| self.await_program(&child, ours.as_fd(), signals.as_ref()));
        let (console, ended) = match begun {
            Ok(begun) => begun,
            Err(error) => return Err(discard(&child, error)),
        };
        self.options.mark("the program runs");
        settle::announce(self.options, &child, tools.pidfd_socket.as_ref()).map_err(|error| discard(&child, error))?;
        match (signals, ended) {
            (None, _) => Ok((pid, None)),
            (Some(_), Some(status)) => {
                run::copy_rest(console)?;
                Ok((pid, Some(status)))
            }
            (Some(signals), None) => Ok((pid, Some(run::watch(&child, &signals, console, None, &mut Vec::new())?))),
        }
    }

    /// clone3 into the container's cgroup, or, where that has handed its controllers
    /// down and takes no process, into the one that init is in.
    fn clone_into(&self, place: Join, tools: &Tools, channel: BorrowedFd<'_>) -> Result<(Child, Join)> {
        match self.clone_child(&place, tools, channel) {
            Err(error)
                if matches!(error.errno(), Some(Errno::BUSY | Errno::OPNOTSUPP)) && self.request.cgroup.is_empty() =>
            {
                let place = self.target.join_init()?;
                self.clone_child(&place, tools, channel).map(|child| (child, place))
            }
            other => other.map(|child| (child, place)),
        }
    }

    fn clone_child(&self, place: &Join, tools: &Tools, channel: BorrowedFd<'_>) -> Result<Child> {
        let record = self.target.record()?;
        let parts = Parts {
            container: &self.target.container,
            record: &record,
            plan: self.plan,
            tools,
            options: self.options,
            opener: Opener::Channel,
            network_comes: false,
            shares_memory: false,
        };
        let mut scene = spawn::scene(&parts, channel, None)?;
        self.add_root(&mut scene)?;
        let _raised = Raised::for_child(self.plan, self.user)?;
        let mut clone = || {
            let made = match self.may_borrow_memory() {
                true => self.clone_borrowing(place, &mut scene),
                false => process::clone3(0, place.v2(), || run_child(&mut scene)),
            };
            made.map_err(|errno| Error::sys("exec", "clone3(into the container's cgroup)", errno))
        };
        // Born undumpable, since it is born in the container's PID namespace; but files of an undumpable
        // process in /proc are root's, and another user's child still has to write one.
        let clone = || match geteuid().is_root() {
            true => settle::undumpable("exec", clone),
            false => clone(),
        };
        match (self.by_parent, tools.joins.first()) {
            (0, _) | (_, None) => clone(),
            (flags, Some(pidfd)) => settle::in_namespaces("exec", "pidfd of init", pidfd.as_fd(), flags, clone),
        }
    }

    /// Can the child work in our memory while we stand still (docs/decisions/exec.md)?
    ///
    /// Not when it waits for us, when it may be born frozen, or when it enters a time namespace,
    /// which takes a memory of its own (setns(2)).
    fn may_borrow_memory(&self) -> bool {
        let speaks_against = |step: &Step| match step {
            Step::AwaitPlacement | Step::Chroot => true,
            Step::JoinContainer { namespaces, .. } => namespaces & NEW_TIME != 0,
            _ => false,
        };
        geteuid().is_root()
            && self.plan.listener.is_none()
            && !self.request.ignore_paused
            && !self.plan.steps.iter().any(speaks_against)
    }

    /// Signals that come while we stand still wait until the program runs, and are forwarded then: to die of one
    /// would lose it, had the program just begun. SIGKILL ends us, and with us a child that is still on its way.
    fn clone_borrowing(&self, place: &Join, scene: &mut Scene) -> std::result::Result<Child, Errno> {
        let made = clone3_vfork(place.v2(), false, || run_child(scene));
        scene.disown();
        match made {
            // A machine that this is not written for.
            Err(Errno::NOSYS) => process::clone3(0, place.v2(), || run_child(scene)),
            made => made,
        }
    }

    /// Where the container has no mount namespace, its root is but init's.
    fn add_root(&self, scene: &mut Scene) -> Result<()> {
        if self.plan.steps.iter().any(|step| matches!(step, Step::Chroot)) {
            let root = self.target.root()?;
            scene.keep.push(process::number(root.as_fd()));
            scene.root = Some(root);
        }
        Ok(())
    }

    /// The place in cgroup v1 and in resctrl, which clone3 cannot give.
    fn place(&self, place: &Join, child: &Child, channel: BorrowedFd<'_>) -> Result<()> {
        if !self.plan.steps.iter().any(|step| matches!(step, Step::AwaitPlacement)) {
            return Ok(());
        }
        let pid = child.pid.as_raw_nonzero().get();
        place.place(pid.unsigned_abs(), place.v2().is_some())?;
        if let Some(group) = &self.target.record()?.resctrl {
            resctrl::join(group, pid)?;
        }
        match wire::send_byte(channel, wire::PLACED) {
            // Gone: its last word tells why.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(Error::sys("exec", "send to the child", errno)),
        }
    }

    /// Waits until the child's end of the channel is gone, by execve or by its death, and
    /// reads what it has said. Gives the terminal, and the status if it has ended already.
    fn await_program(
        &self,
        child: &Child,
        channel: BorrowedFd<'_>,
        signals: Option<&SignalFd>,
    ) -> Result<(Option<OwnedFd>, Option<i32>)> {
        // Messages wait for the end of file, one wake-up for all, but for one: that child waits for us.
        let events = if self.plan.listener.is_some() { PollFlags::IN } else { PollFlags::empty() };
        let (mut console, mut ready, mut ended) = (None, false, None);
        loop {
            if ended.is_none() {
                ended = await_channel(child, channel, events, signals)?;
            }
            let (bytes, fd) = settle::receive_with_fd(channel)?;
            match wire::Record::from_bytes(&bytes) {
                Some(record) => match record.kind {
                    wire::Kind::Console => console = fd,
                    wire::Kind::Ready => ready = true,
                    wire::Kind::Listener => self.hand_over(fd, child, channel)?,
                    _ => return Err(failure::child_failure(self.plan, &record)),
                },
                None if bytes.is_empty() && ready => return Ok((console, ended)),
                None if bytes.is_empty() => return Err(failure::silent_death("exec", child)),
                None => return Err(Error::invalid("exec", "the child sent what is not a record")),
            }
        }
    }

    /// The listener of a seccomp filter that notifies, to its agent.
    fn hand_over(&self, listener: Option<OwnedFd>, child: &Child, channel: BorrowedFd<'_>) -> Result<()> {
        let (Some(agent), Some(listener)) = (&self.plan.listener, listener) else {
            return Err(Error::invalid("exec", "the child sent a listener that is not in the plan"));
        };
        let record = self.target.record()?;
        let state = state_json(&record, Status::Running, Some(self.target.pid()));
        listener::hand_over(agent, listener.as_fd(), child.pid, channel, state)
    }
}

/// Waits for `events` on the channel or its end of file; gives the status of a child that ends first.
///
/// Forwards signals meanwhile, as the container may be frozen and take long. A child that is
/// frozen from birth still blocks all signals, as we do: when one that means the end does
/// nothing, the child is given up.
fn await_channel(
    child: &Child,
    channel: BorrowedFd<'_>,
    events: PollFlags,
    signals: Option<&SignalFd>,
) -> Result<Option<i32>> {
    let mut patience = None;
    loop {
        // POLLHUP and POLLERR are reported unasked (poll(2)).
        let mut fds = vec![PollFd::from_borrowed_fd(channel, events)];
        fds.extend(signals.map(|signals| PollFd::new(signals, PollFlags::IN)));
        let ready = retry_on_intr(|| poll(&mut fds, patience.as_ref()));
        if ready.map_err(|errno| Error::sys("exec", "poll", errno))? == 0 {
            return Err(Error::new(Kind::System, "exec", "interrupted before the program could run")
                .hint("is the container paused?"));
        }
        let ready = !fds[0].revents().is_empty();
        let Some(signals) = signals.filter(|_| !ready) else { return Ok(None) };
        while let Some(signal) = run::next_signal(signals)? {
            if matches!(signal, libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM) {
                patience = Some(GRACE);
            }
            if let Some(status) = run::handle_signal(signal, child, None)? {
                return Ok(Some(status));
            }
        }
    }
}

/// Ends a child that was made in vain, and takes it off the list of processes.
///
/// In a frozen cgroup v1 it dies only when that is thawed: nobody waits for it.
fn discard(child: &Child, error: Error) -> Error {
    let pidfd = child.pidfd.as_fd();
    let killed = pidfd_send_signal(pidfd, libc::SIGKILL).and_then(|()| {
        let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, Some(&GRACE)))?;
        retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)).map(drop)
    });
    match killed {
        Ok(()) | Err(Errno::SRCH | Errno::CHILD) => error,
        Err(errno) => error.note(&format!("and the process {:?} could not be killed: {errno}", child.pid)),
    }
}

/// The error of a container in the wrong state.
fn wrong_state(item: String, text: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Kind::WrongState, item, text)
}
