//! Kill, delete, and the undoing of a half-made container.
//!
//! Works from what is on record alone, so it serves a container whose create was
//! killed at any moment. What is absent is done.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::cgroup::Freezer;
use crate::error::{Error, Kind, Result};
use crate::plan::plan_hook;
use crate::spawn::{resctrl, run_hooks};
use crate::state::{Container, ContainerId, Init, Record, Status, state_json};
use crate::sys::process::pidfd_send_signal;

/// How long a killed init may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends signal number `signal` to init, or with `all` to every process of the container.
pub fn kill(root: &Path, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
    let container = Container::open(root, id)?;
    let text = container.record_text()?;
    let record = Container::parse(&text);
    // One that is just being created gets no signal (runtime.md, "Kill").
    let init = container.created_init()?;
    let pidfd = init.as_ref().map_or(Ok(None), Init::pidfd)?;
    if let (true, Some(record), Some(_)) = (all, &record, init) {
        let named = Signal::from_named_raw(signal)
            .ok_or_else(|| Error::invalid("--all", format!("signal {signal} cannot be sent to all")))?;
        // Without a cgroup of its own, init is all that is known of the container.
        if !record.cgroup.is_none() {
            // The cgroup of who is still there then, and not of the next container with this id.
            let everybody = record.cgroup.everybody(named)?;
            return match container.is_gone()? {
                true => Err(not_running(&container)),
                false => everybody.map_or(Ok(()), |everybody| everybody.kill(named)),
            };
        }
    }
    let Some(pidfd) = pidfd else {
        return Err(not_running(&container));
    };
    // Opened before: of whoever gets the signal.
    let freezer = record.map_or(Ok(None), |record| freezer_that_holds(&record, signal))?;
    match pidfd_send_signal(pidfd.as_fd(), signal) {
        Ok(()) => thaw(freezer),
        Err(Errno::SRCH) => Err(not_running(&container)),
        Err(errno) => Err(Error::sys(container.item(), format!("pidfd_send_signal({signal})"), errno)),
    }
}

/// Engines look for these words.
fn not_running(container: &Container) -> Error {
    Error::new(Kind::WrongState, container.item(), "container not running")
}

/// In a frozen cgroup v1 even SIGKILL waits for the thaw.
fn freezer_that_holds(record: &Record<'_>, signal: i32) -> Result<Option<Freezer>> {
    match signal == libc::SIGKILL && record.cgroup.v2.is_none() {
        true => record.cgroup.find_freezer(),
        false => Ok(None),
    }
}

fn thaw(freezer: Option<Freezer>) -> Result<()> {
    match freezer {
        Some(freezer) if freezer.is_frozen()? => freezer.thaw_if_there(),
        _ => Ok(()),
    }
}

/// Deletes a stopped or created container; with `force` a living one too, and an
/// unknown id is no error. The lines are warnings.
pub fn delete(root: &Path, id: &ContainerId, force: bool) -> Result<Vec<String>> {
    let container = match Container::open(root, id) {
        Err(error) if force && error.kind() == Kind::NoSuchContainer => return Ok(Vec::new()),
        other => other?,
    };
    match container.lock_or(|| if force { end_start(&container) } else { Ok(()) }) {
        Err(error) if force && error.kind() == Kind::NoSuchContainer => return Ok(Vec::new()),
        other => other?,
    }
    let text = container.record_text()?;
    let Some(record) = Container::parse(&text) else {
        // Killed before state.json was whole: nothing else was made. Or it has just begun, and will begin again.
        if force {
            return container.remove().map(|()| Vec::new());
        }
        return Err(container.recordless());
    };
    let (status, _) = container.status(&record.cgroup)?;
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        let text = format!("cannot be deleted while it is not stopped: it is {}", status.as_str());
        return Err(Error::new(Kind::WrongState, container.item(), text).hint("kill it first, or delete --force"));
    }
    destroy(&container, &record, None)
}

/// Ends the init that a `start` may be waiting for, with the lock: as long as a seccomp agent leaves
/// its execve unanswered, or as it is paused just before that. A create in a cgroup that somebody has frozen goes on.
fn end_start(container: &Container) -> Result<()> {
    let Some(init) = container.created_init()? else { return thaw_creating(container) };
    let Some(pidfd) = init.pidfd()? else { return Ok(()) };
    match pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::sys(container.item(), "pidfd_send_signal(SIGKILL)", errno)),
    }
}

fn thaw_creating(container: &Container) -> Result<()> {
    let text = container.record_text()?;
    match Container::parse(&text) {
        Some(record) => thaw(record.cgroup.find_freezer()?),
        None => Ok(()),
    }
}

/// Kills what lives, removes cgroup and directory, runs the poststop hooks.
///
/// `pidfd` is init's where the caller has it: the caller is then its parent and it is reaped here.
pub fn destroy(container: &Container, record: &Record<'_>, pidfd: Option<BorrowedFd<'_>>) -> Result<Vec<String>> {
    let init = container.init()?;
    let found: Option<OwnedFd> = match (pidfd, &init) {
        (None, Some(init)) => init.pidfd()?,
        _ => None,
    };
    if let Some(alive) = pidfd.or(found.as_ref().map(AsFd::as_fd)) {
        kill_init(container, record, alive)?;
    }
    // Without init on record its pid namespace does not help: create was killed right after clone3.
    if !record.own_pid_namespace || init.is_none() {
        record.cgroup.kill_all(Signal::KILL)?;
    }
    record.cgroup.remove()?;
    record.resctrl.as_ref().map_or(Ok(()), resctrl::remove)?;
    container.remove()?;
    Ok(poststop(record))
}

/// SIGKILL, and the wait until init is gone: with its PID namespace everything in it goes too.
fn kill_init(container: &Container, record: &Record<'_>, pidfd: BorrowedFd<'_>) -> Result<()> {
    match pidfd_send_signal(pidfd, libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(Error::sys(container.item(), "pidfd_send_signal(SIGKILL)", errno)),
    }
    thaw(freezer_that_holds(record, libc::SIGKILL)?)?;
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let ready = retry_on_intr(|| poll(&mut fds, Some(&timeout)))
        .map_err(|errno| Error::sys(container.item(), "poll(pidfd)", errno))?;
    if ready == 0 {
        return Err(Error::new(Kind::System, container.item(), "init does not die from SIGKILL within 10 s")
            .hint("is it in uninterruptible sleep (state D in ps)? its file system or device may hang"));
    }
    match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
        // ECHILD: somebody else's child, whom they reap.
        Ok(_) | Err(Errno::CHILD) => Ok(()),
        Err(errno) => Err(Error::sys(container.item(), "waitid(pidfd)", errno)),
    }
}

/// Runs all poststop hooks; failures are warnings (runtime.md, "Lifecycle", step 13).
fn poststop(record: &Record<'_>) -> Vec<String> {
    let state = state_json(record, Status::Stopped, None);
    let run = |(i, hook)| {
        let step = plan_hook(format!("hooks.poststop[{i}]"), hook)?;
        run_hooks(std::slice::from_ref(&step), &state, record)
    };
    let results = record.poststop.iter().enumerate().map(run);
    results.filter_map(Result::err).map(|error| error.to_string()).collect()
}
