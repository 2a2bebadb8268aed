//! `run`: create and start in one, then watch the container until it ends.
//!
//! The foreground form is for a process of its own: it takes all signals and reaps all children.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::config::Bundle;
use crate::error::{Error, Result};
use crate::init::wire::{self, Kind};
use crate::state::{Container, ContainerId, Status, state_json};
use crate::sys::process::{Child, pidfd_send_signal};

use super::console::Console;
use super::notify::Notify;
use super::{Made, Opener, Options, failure, listener, make, settle};

/// How `run` ended.
#[derive(Debug)]
pub struct Exit {
    /// The program's exit status, or 128 and the number of the signal that killed it; 0 when detached.
    pub status: i32,
    /// What could not be had and is no error.
    pub warnings: Vec<String>,
}

/// What `run` has besides create's options.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Return as soon as the program runs.
    pub detach: bool,
    /// Leave the container behind when it has ended.
    pub keep: bool,
    /// Let orphans of the container go to the next subreaper above.
    pub no_subreaper: bool,
}

/// Creates and starts a container; without `detach` waits for its end and deletes it.
pub fn run(bundle: &Bundle, id: &ContainerId, options: &Options, how: RunOptions) -> Result<Exit> {
    let signals = if how.detach { None } else { Some(take_signals(!how.no_subreaper)?) };
    let made = make(bundle, id, options, Opener::Channel, how.detach)?;
    options.mark("start, until execve has succeeded");
    let notify = match start(&made, options) {
        Ok(notify) => notify,
        Err(error) => return Err(discard(made, error)),
    };
    // With the container's directory goes its lock: other verbs may work on it from here.
    let Made { container, child, console, plan, .. } = made;
    drop(container);
    let mut warnings = plan.all_warnings();
    let Some(signals) = signals else {
        let waited = notify.map_or(Ok(()), |n| n.wait(child.pidfd.as_fd(), child.pid.as_raw_nonzero().get()));
        warnings.extend(waited.err().map(|error| error.to_string()));
        return Ok(Exit { status: 0, warnings });
    };
    options.mark("the program runs");
    let status = watch(&child, &signals, console, notify.as_ref(), &mut warnings)?;
    if !how.keep {
        options.mark("delete");
        warnings.extend(crate::teardown::delete(&options.root, id, true)?);
    }
    Ok(Exit { status, warnings })
}

/// Who detaches must say who gets the terminal.
pub fn refuse_lost_terminal(detach: bool, terminal: bool, options: &Options) -> Result<()> {
    if detach && terminal && options.console_socket.is_none() {
        return Err(Error::invalid(
            "process.terminal",
            "cannot allocate tty if xebec will detach without setting console socket",
        )
        .hint("give --console-socket, run in the foreground, or set process.terminal to false"));
    }
    Ok(())
}

/// Opens the gate; the channel's end of file says that execve has succeeded.
fn start(made: &Made, options: &Options) -> Result<Option<Notify>> {
    let channel = made.channel.as_fd();
    let host = options.notify_socket.as_deref();
    let notify = host.map(|host| Notify::open(&made.container, host)).transpose()?.flatten();
    super::tell(channel, wire::START, &made.child, &made.plan)?;
    // Most containers have neither, and need no look at their record.
    let needs_record = made.plan.listener.is_some() || !made.plan.hooks.poststart.is_empty();
    let text = if needs_record { made.container.record_text()? } else { None };
    let record = Container::parse(&text);
    loop {
        let (bytes, fd) = settle::receive_with_fd(channel)?;
        let message = wire::Record::from_bytes(&bytes);
        match (message, fd, &made.plan.listener, &record) {
            (None, ..) if bytes.is_empty() => break,
            (Some(message), ..) if message.kind == Kind::Failed => {
                return Err(failure::child_failure(&made.plan, &message));
            }
            (Some(message), Some(fd), Some(agent), Some(record)) if message.kind == Kind::Listener => {
                let pid = made.child.pid;
                let state = state_json(record, Status::Created, Some(pid.as_raw_nonzero().get()));
                listener::hand_over(agent, fd.as_fd(), pid, channel, state)?;
            }
            _ => return Err(Error::invalid("run", "the child sent what is not a record")),
        }
    }
    if let Some(record) = record {
        super::start::poststart(&made.container, &record, made.child.pid.as_raw_nonzero().get())?;
    }
    Ok(notify)
}

/// A `run` that fails leaves nothing behind.
fn discard(made: Made, error: Error) -> Error {
    let Made { container, child, outside, .. } = made;
    let error = outside.take_back(error);
    let undo = || {
        let text = container.record_text()?;
        match Container::parse(&text) {
            Some(record) => crate::teardown::destroy(&container, &record, Some(child.pidfd.as_fd())),
            None => Ok(Vec::new()),
        }
    };
    match undo() {
        Ok(warnings) if warnings.is_empty() => error,
        Ok(warnings) => error.note(&warnings.join("; ")),
        Err(left) => error.note(&format!("and undoing failed: {left}; run delete --force")),
    }
}

/// Blocks all signals and makes them readable, before there is a child to miss one of.
pub fn take_signals(subreaper: bool) -> Result<SignalFd> {
    let failed = |call: &'static str| {
        move |errno: nix::errno::Errno| Error::sys("run", call, Errno::from_raw_os_error(errno as i32))
    };
    if subreaper {
        // Orphans of a container without a PID namespace of its own come to us.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| Error::sys("run", "prctl(PR_SET_CHILD_SUBREAPER)", errno))?;
    }
    let all = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).map_err(failed("sigprocmask"))?;
    SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed("signalfd"))
}

/// Forwards signals and terminal data until init has ended.
pub fn watch(
    child: &Child,
    signals: &SignalFd,
    master: Option<OwnedFd>,
    notify: Option<&Notify>,
    warnings: &mut Vec<String>,
) -> Result<i32> {
    let failed = |errno| Error::sys("run", "poll", errno);
    let mut console = master.map(Console::new).transpose()?;
    loop {
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if let Some(console) = &console {
            fds.extend(console.poll_fds());
        }
        let of_console = 1..fds.len();
        fds.extend(notify.map(|notify| PollFd::from_borrowed_fd(notify.fd(), PollFlags::IN)));
        retry_on_intr(|| poll(&mut fds, None)).map_err(failed)?;
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if let Some(notify) = notify {
            // A manager that does not hear it is no reason to leave the container alone.
            warnings.extend(notify.forward().err().map(|error| error.to_string()));
        }
        if let Some(console) = &mut console {
            console.copy(&ready[of_console])?;
        }
        if let Some(status) = handle_signals(child, signals, console.as_ref())? {
            if let Some(console) = &mut console {
                console.drain();
            }
            return Ok(status);
        }
    }
}

/// Shows what a program that has ended already has left in its terminal.
pub fn copy_rest(master: Option<OwnedFd>) -> Result<()> {
    if let Some(mut console) = master.map(Console::new).transpose()? {
        console.drain();
    }
    Ok(())
}

/// Reads all pending signals; the status of init when it has ended.
fn handle_signals(child: &Child, signals: &SignalFd, console: Option<&Console>) -> Result<Option<i32>> {
    while let Some(signal) = next_signal(signals)? {
        if let Some(status) = handle_signal(signal, child, console)? {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

/// The next pending signal.
pub fn next_signal(signals: &SignalFd) -> Result<Option<i32>> {
    match signals.read_signal() {
        Ok(info) => Ok(info.map(|info| info.ssi_signo as i32)),
        Err(errno) => Err(Error::sys("signals", "read(signalfd)", Errno::from_raw_os_error(errno as i32))),
    }
}

/// What a signal means for the child; its status when it has ended.
pub fn handle_signal(signal: i32, child: &Child, console: Option<&Console>) -> Result<Option<i32>> {
    match signal {
        libc::SIGCHLD => return reap(child.pid),
        libc::SIGWINCH => {
            if let Some(console) = console {
                console.resize()?;
            }
        }
        // Ours: from writing to a reader that is gone, and from the terminal of a background job.
        libc::SIGPIPE | libc::SIGTTIN | libc::SIGTTOU => {}
        other => forward(child.pidfd.as_fd(), other)?,
    }
    Ok(None)
}

fn forward(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::sys("run", format!("pidfd_send_signal({signal})"), errno)),
    }
}

/// Reaps every child that has ended, orphans included.
fn reap(init: Pid) -> Result<Option<i32>> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == init => ended = Some(exit_status(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(ended),
            Err(errno) => return Err(Error::sys("run", "wait4", errno)),
        }
    }
}

/// As a shell shows it.
fn exit_status(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => status,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}
