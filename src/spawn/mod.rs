//! The parent's story: from a plan to a container that waits for `start`.
//!
//! Each resource is on record before it exists, and a failed create undoes its own.
//!
//! ```text
//! parent                                   child
//! begin network namespace; plan
//! claim id, write state.json
//! make cgroup, clone3 ───────────────────▶ OomScoreAdj … UserNamespaceRoot
//! id maps, write `creating` ── MAPPED ───▶ becomes root in its user namespace
//! unit, or cgroup v1 ───────── PLACED ───▶ CgroupNamespace
//! limits, device filter                    mounts …
//! network namespace ────────── NETWORK ──▶ Network, /sys, devices …
//! seccomp filter, where memory is shared
//!                  ◀───────── Hooks ────── RuntimeHooks
//! run hooks ────────────────── HOOKED ───▶
//!                  ◀──── Console + fd ──── Console (foreground `run`)
//! ─────────────────────────────── GO ────▶ Ready
//!                  ◀───────── Ready ────── (or Failed, at any point)
//! pid file, rename `creating` to `init`    waits on the fifo, or for START
//! ```

mod console;
#[doc(hidden)]
pub mod failure;
mod hooks;
pub(crate) mod limits;
pub(crate) mod listener;
mod maps;
mod net_device;
mod network;
mod notify;
mod outside;
pub mod own_exe;
pub mod record;
mod refusal;
pub mod resctrl;
pub(crate) mod run;
pub(crate) mod settle;
mod start;
mod trees;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, mknodat, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::cgroup;
use crate::config::{Bundle, Config};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::init::wire::{self, Kind, Record as ChildRecord};
use crate::init::{Gate, Null, Scene, inroot};
use crate::mountns;
use crate::plan::step::Step;
use crate::plan::{self, Plan, Request};
use crate::state::{Container, ContainerId, Init, Record, Status, state_json};
use crate::sys::process::{self, Child, StringVector};
use crate::timings::Timings;

pub use hooks::{run_hooks, trace_parent};
use limits::Raised;
use network::Early;
use outside::Outside;
pub use run::{Exit, RunOptions, run};
pub use start::{start, start_and_notify};

/// What the caller of `create`, `run` and `exec` chooses.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where containers are remembered: an absolute path.
    pub root: PathBuf,
    /// Gets the terminal's master side (SCM_RIGHTS).
    pub console_socket: Option<PathBuf>,
    /// Gets the pid of init, in digits.
    pub pid_file: Option<PathBuf>,
    /// Gets a pidfd of init (SCM_RIGHTS).
    pub pidfd_socket: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// How many fds from 3 on the program gets. Each must be open without FD_CLOEXEC, as one is that was inherited.
    pub preserve_fds: u32,
    /// How many of these are sockets that systemd listens on (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Their names, $LISTEN_FDNAMES.
    pub listen_fdnames: Option<String>,
    /// The runtime has no rights outside its own user namespace.
    pub rootless: bool,
    /// The service manager's $NOTIFY_SOCKET: a path, or `@name`. It is told when the container says READY=1.
    pub notify_socket: Option<PathBuf>,
    /// Who makes the cgroup.
    pub cgroup_driver: cgroup::Driver,
    /// Records where the time goes.
    pub timings: Option<Arc<Timings>>,
    /// The container's first process may work in this memory until it executes, which saves a copy. What it uses
    /// is not given back, this process can be traced by nobody but root from then on (`PR_SET_DUMPABLE`), and takes
    /// the container's `oomScoreAdj`: it is for a process that makes one container and ends.
    pub share_memory: bool,
}

impl Options {
    /// The next step of the parent begins, for whoever records it.
    pub(crate) fn mark(&self, what: &'static str) {
        if let Some(timings) = &self.timings {
            timings.mark(what);
        }
    }
}

/// A container just created.
#[derive(Debug)]
pub struct Created {
    pub id: ContainerId,
    /// The pid of init, as the runtime sees it.
    pub pid: i32,
    /// What could not be had and is no error.
    pub warnings: Vec<String>,
}

/// Who opens the gate between create and the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// `start`, through the fifo.
    Fifo,
    /// This process, through the channel.
    Channel,
}

/// A container that waits for its start, with what this process holds of it.
#[derive(Debug)]
struct Made {
    container: Container,
    child: Child,
    channel: OwnedFd,
    /// The terminal's master side, in a foreground `run`.
    console: Option<OwnedFd>,
    plan: Arc<Plan>,
    outside: Outside,
}

/// Plans `create` without doing anything: what `xebec plan` prints.
pub fn plan(config: &Config<'_>, bundle: &Bundle, id: &ContainerId, options: &Options) -> Result<Plan> {
    plan_for(config, bundle, id, options, false)
}

/// `filter_later`: who asks adds the seccomp filter where the plan leaves it out ([`Request::filter_later`]).
fn plan_for(
    config: &Config<'_>,
    bundle: &Bundle,
    id: &ContainerId,
    options: &Options,
    filter_later: bool,
) -> Result<Plan> {
    let request = Request {
        id: id.as_str().to_owned(),
        bundle: bundle.dir().display().to_string(),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        rootless: options.rootless,
        notify: options
            .notify_socket
            .as_ref()
            .map(|_| format!("{}/{id}/{}", options.root.display(), notify::DIRECTORY)),
        cgroup_driver: options.cgroup_driver,
        // A recording tells how long the filter is before there is a child.
        filter_later: filter_later && options.share_memory && options.timings.is_none(),
    };
    plan::plan(config, &request, &Host::default())
}

/// Creates a container that waits for [`crate::start`] (runtime.md, "Create").
pub fn create(bundle: &Bundle, id: &ContainerId, options: &Options) -> Result<Created> {
    let made = make(bundle, id, options, Opener::Fifo, true)?;
    let pid = made.child.pid.as_raw_nonzero().get();
    Ok(Created { id: id.clone(), pid, warnings: made.plan.all_warnings() })
}

/// The whole way from the bundle to a child that is ready; undone when it fails.
///
/// `detached`: nobody here will serve the container's terminal.
fn make(bundle: &Bundle, id: &ContainerId, options: &Options, opener: Opener, detached: bool) -> Result<Made> {
    options.mark("config.json: parse");
    let config = bundle.config()?;
    let early = network::begin(&config)?;
    options.mark("config.json: check");
    let (findings, warnings) = crate::config::check(&config);
    crate::config::Findings(&findings).refuse(bundle.config_name())?;
    options.mark("plan");
    let mut plan = plan_for(&config, bundle, id, options, true)?;
    run::refuse_lost_terminal(detached, plan.terminal, options)?;
    plan.warnings.extend(warnings.iter().map(ToString::to_string));
    let shares_memory = shares_memory(&plan, options, opener);
    if !shares_memory {
        plan.add_filter(&config)?;
    }
    let plan = Arc::new(plan);
    let early = early.map_or_else(|| network::begin_in_new_user(&plan), |early| Ok(Some(early)))?;
    options.mark("open namespaces, trees, sockets");
    let tools = Tools::open(&plan, options)?;
    let mut outside = Outside::survey(&plan)?;
    options.mark("claim the id, write the record");
    let container = Container::claim(&options.root, id)?;
    let record = record(&config, bundle, id, &plan, &outside, options);
    // Until the cgroup is known to be free, the record must not name it: delete would remove somebody else's.
    let claim = match plan.cgroup.claim() {
        Ok(claim) => claim,
        Err(error) => return Err(forget(&container, error)),
    };
    let parts = Parts {
        container: &container,
        record: &record,
        plan: &plan,
        tools: &tools,
        options,
        opener,
        network_comes: early.is_some(),
        shares_memory,
    };
    let mut child = None;
    let built = remember(&container, &record, bundle)
        .and_then(|()| build(&parts, &config, claim, early, &mut outside, &mut child));
    match (built, child) {
        (Ok((channel, console)), Some(child)) => Ok(Made { container, child, channel, console, plan, outside }),
        (Err(error), child) => Err(undo(&container, &record, child.as_ref(), outside.take_back(error))),
        (Ok(_), None) => Err(forget(&container, Error::invalid(container.item(), "no process was made"))),
    }
}

/// Gives the id back when nothing else has been made.
fn forget(container: &Container, error: Error) -> Error {
    match container.remove() {
        Ok(()) => error,
        Err(left) => error.note(&format!("and {left}")),
    }
}

/// What is opened before anything is made, so that a wrong path leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Tools {
    proc: OwnedFd,
    /// Namespaces, or for `exec` a pidfd of init.
    pub joins: Vec<OwnedFd>,
    /// Bind mounts that the parent cloned, detached.
    trees: Vec<OwnedFd>,
    /// The small mount namespace, where the container's is made from it.
    mountns: Option<OwnedFd>,
    console_socket: Option<OwnedFd>,
    pub pidfd_socket: Option<OwnedFd>,
    /// For the hooks that the child runs.
    hook_output: hooks::OutputFiles,
}

impl Tools {
    pub fn open(plan: &Plan, options: &Options) -> Result<Tools> {
        settle::check_preserved_fds(options.preserve_fds)?;
        if options.console_socket.is_some() && !plan.terminal {
            return Err(Error::invalid("--console-socket", "given, but process.terminal is false")
                .hint("set process.terminal, or leave the option out"));
        }
        let child_hooks = plan.hooks.create_container.len() + plan.hooks.start_container.len();
        Ok(Tools {
            hook_output: match child_hooks {
                0 => hooks::OutputFiles::default(),
                _ => hooks::OutputFiles::open(&plan.hooks.output)?,
            },
            proc: settle::open_proc()?,
            trees: trees::make_trees(plan)?,
            mountns: plan.namespaces.small_mounts.then(mountns::open).transpose()?,
            joins: plan.namespaces.joins.iter().map(settle::open_namespace).collect::<Result<_>>()?,
            console_socket: options
                .console_socket
                .as_deref()
                .map(|p| settle::connect("--console-socket", p))
                .transpose()?,
            pidfd_socket: options.pidfd_socket.as_deref().map(|p| settle::connect("--pidfd-socket", p)).transpose()?,
        })
    }
}

/// state.json's content.
fn record<'a>(
    config: &'a Config<'a>,
    bundle: &'a Bundle,
    id: &'a ContainerId,
    plan: &'a Plan,
    outside: &Outside,
    options: &Options,
) -> Record<'a> {
    let created = humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string();
    Record {
        oci_version: config.oci_version.clone(),
        id: id.as_str().into(),
        bundle: crate::config::Text(bundle.dir().to_string_lossy()),
        rootfs: plan.rootfs.as_str().into(),
        created: crate::config::Text(created.into()),
        owner: rustix::process::getuid().as_raw(),
        annotations: config.annotations.clone(),
        cgroup: plan.cgroup.record(),
        resctrl: outside.record(),
        own_pid_namespace: plan.namespaces.is_new("pid"),
        no_new_keyring: options.no_new_keyring,
        poststart: config.hooks.poststart.clone(),
        poststop: config.hooks.poststop.clone(),
    }
}

fn remember(container: &Container, record: &Record<'_>, bundle: &Bundle) -> Result<()> {
    let text = serde_json::to_vec(record)
        .map_err(|e| Error::invalid(container.item(), format!("state.json cannot be written: {e}")))?;
    container.write_new("state.json", &text)?;
    container.write_new("config.json", bundle.text().as_bytes())
}

/// What a container, or a further process in one, is made from.
pub(crate) struct Parts<'p> {
    pub container: &'p Container,
    pub record: &'p Record<'p>,
    pub plan: &'p Arc<Plan>,
    pub tools: &'p Tools,
    pub options: &'p Options,
    pub opener: Opener,
    /// The network namespace is made apart, and sent to the child.
    pub network_comes: bool,
    /// The child works in our memory until it executes.
    pub shares_memory: bool,
}

/// Makes cgroup and child, and brings the child to its gate.
fn build(
    parts: &Parts<'_>,
    config: &Config<'_>,
    claim: cgroup::Claim<'_>,
    mut early: Option<Early>,
    outside: &mut Outside,
    child: &mut Option<Child>,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let Parts { container, plan, tools, .. } = *parts;
    parts.options.mark("cgroup: make");
    let mut cgroup = claim.create()?;
    if parts.options.notify_socket.is_some() {
        notify::make_directory(container)?;
    }
    parts.options.mark("channel and fifos");
    let gate = if parts.opener == Opener::Fifo { Some(make_gate(container, plan)?) } else { None };
    let (ours, theirs) = channel()?;
    let scene = scene(parts, theirs.as_fd(), gate.as_ref())?;
    parts.options.mark("clone3");
    let user = early.as_ref().map_or(Ok(None), Early::user_namespace)?;
    if user.is_some() {
        // Its ids are there before the child is.
        wire::send_byte(ours.as_fd(), wire::MAPPED)
            .map_err(|errno| Error::sys("create", "send to the child", errno))?;
    }
    if let Some(early) = early.as_mut().filter(|_| parts.shares_memory) {
        early.stay_untraced();
    }
    let birth = settle::Birth { user: user.as_ref().map(AsFd::as_fd), shares_memory: parts.shares_memory };
    let raised = Raised::for_child(plan, plan.namespaces.has("user"))?;
    let made = &*child.insert(settle::clone_child(plan, &tools.joins, birth, &cgroup, scene)?);
    drop(raised);
    parts.options.mark("record the process");
    drop((theirs, gate));
    if user.is_none() {
        settle::map_ids(plan, made, ours.as_fd())?;
    }
    container.note_creating(&Init::of(made.pid, made.pidfd.as_fd())?)?;
    parts.options.mark("id maps, limits, device filter");
    settle::settle(plan, &mut cgroup, made, ours.as_fd())?;
    if let Some(early) = early {
        parts.options.mark("network namespace");
        network::hand_over(early, ours.as_fd(), made, plan)?;
    }
    outside.change(plan, tools.proc.as_fd(), &tools.joins, made)?;
    if !plan.net_devices.is_empty() {
        tell(ours.as_fd(), wire::EQUIPPED, made, plan)?;
    }
    // The child builds meanwhile, and looks at it after GO.
    plan.add_filter(config)?;
    parts.options.mark("wait until the child is ready");
    let console = accompany(parts, ours.as_fd(), made)?;
    // The child has unshared its cgroup namespace by now.
    cgroup.delegate(made.pid.as_raw_nonzero().get().unsigned_abs())?;
    parts.options.mark("pid file, record");
    settle::announce(parts.options, made, tools.pidfd_socket.as_ref())?;
    container.note_created()?;
    Ok((ours, console))
}

/// Does the child work in our memory until it executes (docs/decisions/shared-memory.md)?
///
/// Its OOM score would be ours, too: for `create` that is over in a moment.
fn shares_memory(plan: &Plan, options: &Options, opener: Opener) -> bool {
    let by_child = || plan.steps.iter().any(|step| matches!(step, Step::OomScoreAdj(_)));
    let has_score = || plan.oom_score_adj.is_some() || by_child();
    options.share_memory
        && !plan.own_memory
        && cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
        && rustix::process::geteuid().is_root()
        && (opener == Opener::Fifo || !has_score())
}

/// Does the parent's part while the child builds, until it is ready; the terminal, if it sent one.
fn accompany(parts: &Parts<'_>, channel: BorrowedFd<'_>, child: &Child) -> Result<Option<OwnedFd>> {
    let hooks = &parts.plan.hooks.runtime;
    let mut console = None;
    if hooks.is_empty() {
        tell(channel, wire::GO, child, parts.plan)?;
    }
    loop {
        let (message, fd) = receive(channel, child, parts.plan)?;
        match message.kind {
            Kind::Console => console = fd,
            Kind::Hooks => {
                let pid = child.pid.as_raw_nonzero().get();
                run_hooks(hooks, &state_json(parts.record, Status::Creating, Some(pid)), parts.record)?;
                tell(channel, wire::HOOKED, child, parts.plan)?;
                tell(channel, wire::GO, child, parts.plan)?;
            }
            // Announced after `start` only.
            Kind::Listener => return Err(Error::invalid("create", "the child announced a listener too early")),
            Kind::Ready => return Ok(console),
            Kind::Failed => return Err(failure::child_failure(parts.plan, &message)),
        }
    }
}

/// The pair of sockets between parent and child: message boundaries, and an end of file when one dies.
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| Error::sys("create", "socketpair", errno))
}

/// What [`Gate`] borrows.
pub(crate) struct GateFiles {
    start: OwnedFd,
    report: OwnedFd,
    listener: Option<OwnedFd>,
}

impl GateFiles {
    fn all(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.start, &self.report].into_iter().chain(&self.listener)
    }
}

/// The files of [`Gate`]; both ends of the fifos are open so that no open ever blocks.
fn make_gate(container: &Container, plan: &Plan) -> Result<GateFiles> {
    let make = |name: &str| {
        let failed = |call: &str, errno| Error::sys(container.item(), format!("{call}({name:?})"), errno);
        mknodat(container.dir(), name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .map_err(|errno| failed("mknodat", errno))?;
        openat(container.dir(), name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("openat", errno))
    };
    let listener = plan.listener.as_ref().map(|_| listener::open(container)).transpose()?;
    Ok(GateFiles { start: make("start")?, report: make("report")?, listener })
}

/// Everything the child needs, made while allocation is still allowed.
pub(crate) fn scene(parts: &Parts<'_>, channel: BorrowedFd<'_>, gate: Option<&GateFiles>) -> Result<Scene> {
    let Parts { record, plan, tools, options, .. } = *parts;
    let number = |fd: &OwnedFd| process::number(fd.as_fd());
    let mut keep: Vec<u32> = (3..3 + options.preserve_fds).collect();
    keep.push(process::number(channel));
    keep.push(number(&tools.proc));
    keep.extend(tools.joins.iter().chain(&tools.trees).map(number));
    keep.extend(tools.mountns.iter().chain(&tools.console_socket).map(number));
    let hook_output: Vec<u32> = tools.hook_output.all().map(number).collect();
    keep.extend(&hook_output);
    keep.extend(gate.into_iter().flat_map(GateFiles::all).map(number));
    let prepare =
        |hooks: &[plan::HookStep], status| hooks::prepare(hooks, &state_json(record, status, None), &tools.hook_output);
    let mut env = plan.exec.env.clone();
    settle::add_socket_activation(&mut env, options)?;
    let late = plan.steps.iter().filter(|step| matches!(step, Step::LateReadonly { .. })).count();
    // All of these are among `keep`.
    let kept = |fd: BorrowedFd<'_>| process::borrow(process::number(fd));
    let gate = gate.map(|gate| Gate {
        start: kept(gate.start.as_fd()),
        report: kept(gate.report.as_fd()),
        listener: gate.listener.as_ref().map(|listener| kept(listener.as_fd())),
    });
    Ok(Scene {
        plan: Arc::clone(plan),
        channel: kept(channel),
        gate,
        proc: kept(tools.proc.as_fd()),
        joins: tools.joins.iter().map(number).collect(),
        trees: tools.trees.iter().map(number).collect(),
        mountns: tools.mountns.as_ref().map(number),
        console_socket: tools.console_socket.as_ref().map(number),
        network_comes: parts.network_comes,
        argv: StringVector::new(plan.exec.args.clone()),
        envp: StringVector::new(env),
        create_container: prepare(&plan.hooks.create_container, Status::Creating)?,
        start_container: prepare(&plan.hooks.start_container, Status::Created)?,
        hook_output,
        keep,
        preserve_fds: options.preserve_fds,
        root: None,
        parent: inroot::Parent::none(),
        late: Vec::with_capacity(late),
        empty_dir: None,
        null: Null::OnHost,
        program: 0,
        cwd_as_user: false,
        umask: Mode::empty(),
        stamps: options.timings.as_ref().map(|timings| timings.watch(plan)).transpose()?,
    })
}

/// Sends one byte; when the child is gone, its own last word is the better error.
pub(super) fn tell(channel: BorrowedFd<'_>, byte: u8, child: &Child, plan: &Plan) -> Result<()> {
    deliver(channel, child, plan, || wire::send_byte(channel, byte))
}

/// Sends; when the child is gone, its last word says why.
fn deliver(
    channel: BorrowedFd<'_>,
    child: &Child,
    plan: &Plan,
    send: impl FnOnce() -> std::result::Result<(), Errno>,
) -> Result<()> {
    match send() {
        Ok(()) => Ok(()),
        Err(Errno::PIPE | Errno::CONNRESET) => loop {
            let (message, _) = receive(channel, child, plan)?;
            if message.kind == Kind::Failed {
                return Err(failure::child_failure(plan, &message));
            }
        },
        Err(errno) => Err(Error::sys("create", "send to the child", errno)),
    }
}

/// Waits for the child's next message; its death without one is an error that says how it died.
fn receive(channel: BorrowedFd<'_>, child: &Child, plan: &Plan) -> Result<(ChildRecord, Option<OwnedFd>)> {
    let (bytes, fd) = settle::receive_with_fd(channel)?;
    match ChildRecord::from_bytes(&bytes) {
        Some(message) => Ok((message, fd)),
        None if bytes.is_empty() => Err(failure::silent_death(plan.verb, child)),
        None => Err(Error::invalid("create", "the child sent what is not a record")),
    }
}

/// Takes back what a failed create made: child, cgroup, state; poststop hooks run as the specification asks.
fn undo(container: &Container, record: &Record<'_>, child: Option<&Child>, error: Error) -> Error {
    let undone = crate::teardown::destroy(container, record, child.map(|child| child.pidfd.as_fd()));
    match undone {
        Ok(warnings) if warnings.is_empty() => error,
        Ok(warnings) => error.note(&warnings.join("; ")),
        Err(left) => error.note(&format!("and undoing failed: {left}; run delete --force")),
    }
}
