//! `start`: one byte to the child, then its answer (runtime.md, "Start").

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::Pid;

use crate::config::Bundle;
use crate::error::{Error, Kind, Result};
use crate::init::wire::{self, Record as ChildRecord};
use crate::plan::{Plan, plan_hook};
use crate::state::{Container, ContainerId, Record, Status, state_json};
use crate::sys::Call;

use super::notify::{self, Notify};
use super::{Options, failure, listener, run_hooks};

/// Runs the program of a created container, and its startContainer and poststart hooks.
///
/// Returns when the program is being executed; the lines are warnings.
pub fn start(root: &Path, id: &ContainerId) -> Result<Vec<String>> {
    start_and_notify(root, id, None)
}

/// [`start`] for a service manager that listens on `notify_socket` ($NOTIFY_SOCKET).
///
/// Where create was given it too, this waits until the container says READY=1 or has ended, and passes it on.
pub fn start_and_notify(root: &Path, id: &ContainerId, notify_socket: Option<&Path>) -> Result<Vec<String>> {
    let container = Container::open(root, id)?;
    container.lock()?;
    let text = container.record_text()?;
    let record = Container::parse(&text).ok_or_else(|| wrong_state(&container, "its create did not finish"))?;
    let Some(init) = container.init()? else { return Err(wrong_state(&container, "its create did not finish")) };
    let Some(pidfd) = init.pidfd()? else { return Err(wrong_state(&container, "it is stopped")) };
    let Some(fifo) = container.open_start_fifo()? else {
        return Err(wrong_state(&container, "it is running already"));
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let report = openat(container.dir(), "report", flags, Mode::empty())
        .map_err(|errno| Error::sys(container.item(), "openat(\"report\")", errno))?;
    let notify = notify_socket.map(|host| Notify::open(&container, host)).transpose()?.flatten();
    match retry_on_intr(|| rustix::io::write(&fifo, &[wire::START])) {
        Ok(_) => {}
        // Killed this moment.
        Err(Errno::PIPE) => return Err(wrong_state(&container, "it is stopped")),
        Err(errno) => return Err(Error::sys(container.item(), "write(\"start\")", errno)),
    }
    drop(fifo);
    follow(&container, &record, init.pid, pidfd.as_fd(), report.as_fd())?;
    let pid = init.pid.as_raw_nonzero().get();
    poststart(&container, &record, pid)?;
    // With the container's directory goes its lock: getting ready may take long.
    drop(container);
    let waited = notify.map_or(Ok(()), |notify| notify.wait(pidfd.as_fd(), pid));
    // The container runs; what was not told is no reason to say that it does not.
    Ok(waited.err().into_iter().map(|error| error.to_string()).collect())
}

/// Follows the child from its start to execve.
fn follow(
    container: &Container,
    record: &Record<'_>,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    report: BorrowedFd<'_>,
) -> Result<()> {
    let failed = |errno| Error::sys(container.item(), "read(\"report\")", errno);
    while let Some(message) = answer(report, pidfd).map_err(failed)? {
        let plan = plan_again(container, record)?;
        if let (wire::Kind::Listener, Some(agent)) = (message.kind, &plan.listener) {
            let state = state_json(record, Status::Created, Some(pid.as_raw_nonzero().get()));
            let handed = listener::fetch(container).and_then(|(channel, listener)| match listener {
                Some(listener) => listener::hand_over(agent, listener.as_fd(), pid, channel.as_fd(), state),
                // It could not load its filter: the next message says why.
                None => Ok(()),
            });
            handed.map_err(|error| destroy_after(container, record, error))?;
            continue;
        }
        let error = failure::child_failure(&plan, &message);
        // A failed startContainer hook ends the container (runtime.md, "Lifecycle", step 7).
        let hook = matches!(message.fail.call, Call::HookStatus | Call::HookTimeout);
        return Err(if hook { destroy_after(container, record, error) } else { error });
    }
    Ok(())
}

/// Runs the poststart hooks; a failure ends the container (runtime.md, "Lifecycle", step 9).
pub fn poststart(container: &Container, record: &Record<'_>, pid: i32) -> Result<()> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    let hooks = record.poststart.iter().enumerate().map(|(i, hook)| plan_hook(format!("hooks.poststart[{i}]"), hook));
    let hooks: Vec<_> = hooks.collect::<Result<_>>()?;
    run_hooks(&hooks, &state_json(record, Status::Running, Some(pid)), record)
        .map_err(|error| destroy_after(container, record, error))
}

fn destroy_after(container: &Container, record: &Record<'_>, error: Error) -> Error {
    match crate::teardown::destroy(container, record, None) {
        Ok(warnings) if warnings.is_empty() => error,
        Ok(warnings) => error.note(&warnings.join("; ")),
        Err(left) => error.note(&format!("and the container could not be destroyed: {left}; run delete --force")),
    }
}

fn wrong_state(container: &Container, why: &str) -> Error {
    Error::new(Kind::WrongState, container.item(), format!("cannot be started: {why}"))
}

/// The child's record, or `None` when its end of the fifo closed: execve succeeded.
///
/// A child that was killed before we opened the fifo has never been its writer for us: there is no end of
/// file to wake up for, and its pidfd tells.
fn answer(report: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> std::result::Result<Option<ChildRecord>, Errno> {
    let mut bytes = [0u8; wire::RECORD_SIZE];
    loop {
        let mut fds = [report, pidfd].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        retry_on_intr(|| poll(&mut fds, None))?;
        let ended = !fds[1].revents().is_empty();
        match rustix::io::read(report, &mut bytes) {
            Ok(0) => return Ok(None),
            Ok(len) => return ChildRecord::from_bytes(&bytes[..len]).map(Some).ok_or(Errno::PROTO),
            Err(Errno::AGAIN) if ended => return Ok(None),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The plan that create made, from the config it stored: `start` itself needs none.
fn plan_again(container: &Container, record: &Record<'_>) -> Result<Plan> {
    let text = container.read("config.json")?.unwrap_or_default();
    let text = String::from_utf8(text).map_err(|_| Error::invalid(container.item(), "its config.json is not UTF-8"))?;
    let bundle = Bundle::from_text(record.bundle.to_string().into(), text);
    let options = Options {
        notify_socket: notify::is_wanted(container).then(Default::default),
        no_new_keyring: record.no_new_keyring,
        ..Options::default()
    };
    super::plan(&bundle.config()?, &bundle, &container.id, &options)
}
