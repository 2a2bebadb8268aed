//! Runs one hook: state on stdin, bounded in time, its output kept for the error.
//!
//! Parent and child both use it, so it neither allocates nor formats.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, ftruncate, memfd_create, seek};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, waitid};

use crate::sys::process::{self, StringVector};
use crate::sys::{Call, During, Outcome};

/// The container's state as hooks get it: the JSON text around the pid.
#[derive(Debug, Default, Clone)]
pub struct StateText {
    pub before_pid: Vec<u8>,
    pub after_pid: Vec<u8>,
}

/// A hook ready to run.
#[derive(Debug)]
pub struct Prepared {
    pub path: std::ffi::CString,
    pub args: StringVector,
    pub env: StringVector,
    /// Where it runs; `None`: where the caller is.
    pub cwd: Option<std::ffi::CString>,
    /// In seconds.
    pub timeout: Option<u32>,
    pub state: StateText,
    /// What its output is appended to; `None`: it is kept for the error.
    pub stdout: Option<u32>,
    pub stderr: Option<u32>,
}

/// How a hook ended.
#[derive(Debug)]
pub enum Ending {
    Success,
    /// With this status (128 and the signal's number where one killed it) and this output.
    Failure(i32, OwnedFd),
    /// Killed after its timeout.
    Timeout,
}

/// Runs the hook and waits for it. `pid` is the container's as the hook sees it.
///
/// The state lies in a memfd and not in a pipe: a hook that does not read it harms nobody.
pub fn run(hook: &Prepared, pid: i32) -> Outcome<Ending> {
    let state = state_file(&hook.state, pid)?;
    let output = memfd_create(c"hook", MemfdFlags::CLOEXEC).during(Call::MemfdCreate)?;
    let child = process::clone3(0, None, || execute(hook, state.as_fd(), output.as_fd())).during(Call::Clone3)?;
    if !wait_for_exit(child.pidfd.as_fd(), hook.timeout)? {
        pidfd_send_signal(&child.pidfd, Signal::KILL).during(Call::PidfdOpen)?;
        reap(child.pidfd.as_fd())?;
        return Ok(Ending::Timeout);
    }
    match reap(child.pidfd.as_fd())? {
        0 => Ok(Ending::Success),
        status => Ok(Ending::Failure(status, output)),
    }
}

fn execute(hook: &Prepared, state: BorrowedFd<'_>, output: BorrowedFd<'_>) -> i32 {
    let path: &CStr = &hook.path;
    let ready = set_parent_process_death_signal(Some(Signal::KILL))
        .and_then(|()| process::reset_signals())
        .and_then(|()| process::make_stdio(state, 0))
        .and_then(|()| process::make_stdio(sink(hook.stdout, output), 1))
        .and_then(|()| process::make_stdio(sink(hook.stderr, output), 2))
        .and_then(|()| hook.cwd.as_deref().map_or(Ok(()), rustix::process::chdir))
        .and_then(|()| process::cloexec_from(3));
    let errno = match ready {
        Ok(()) => process::execve(path, &hook.args, &hook.env),
        Err(errno) => errno,
    };
    // As a shell says it: 126 for "not executable", 127 for "not found".
    if errno == Errno::NOENT { 127 } else { 126 }
}

/// The file that was asked for, or the one that is kept for the error.
fn sink(asked: Option<u32>, kept: BorrowedFd<'_>) -> BorrowedFd<'_> {
    match asked {
        Some(number) => process::borrow(number),
        None => kept,
    }
}

fn state_file(state: &StateText, pid: i32) -> Outcome<OwnedFd> {
    let file = memfd_create(c"state", MemfdFlags::CLOEXEC).during(Call::MemfdCreate)?;
    let mut digits = [0u8; 12];
    for part in [&state.before_pid, decimal(pid, &mut digits), &state.after_pid] {
        let mut rest: &[u8] = part;
        while !rest.is_empty() {
            let written = retry_on_intr(|| rustix::io::write(&file, rest)).during(Call::Write)?;
            rest = &rest[written..];
        }
    }
    seek(&file, SeekFrom::Start(0)).during(Call::Write)?;
    Ok(file)
}

/// `number` in decimal digits, without allocation.
fn decimal(number: i32, buffer: &mut [u8; 12]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &buffer[at..];
        }
    }
}

/// False when the time is over first.
fn wait_for_exit(pidfd: BorrowedFd<'_>, timeout: Option<u32>) -> Outcome<bool> {
    let timeout = timeout.map(|seconds| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 });
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            other => return other.map(|ready| ready > 0).during(Call::Poll),
        }
    }
}

fn reap(pidfd: BorrowedFd<'_>) -> Outcome<i32> {
    let status = retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)).during(Call::Wait)?;
    let Some(status) = status else { return Err(Errno::CHILD).during(Call::Wait) };
    let killed = status.terminating_signal().map(|signal| 128 + signal);
    Ok(status.exit_status().or(killed).unwrap_or(255))
}

/// The last bytes that the hook wrote, without the final newline.
pub fn tail<'b>(output: &OwnedFd, buffer: &'b mut [u8]) -> &'b [u8] {
    let start = rustix::fs::fstat(output).map_or(0, |stat| (stat.st_size as u64).saturating_sub(buffer.len() as u64));
    let read = rustix::io::pread(output, &mut buffer[..], start).unwrap_or(0);
    // Free the memory early: a hook may have written much.
    if ftruncate(output, 0).is_err() {
        return buffer[..read].trim_ascii();
    }
    buffer[..read].trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_in_digits() {
        let mut buffer = [0u8; 12];
        assert_eq!(decimal(0, &mut buffer), b"0");
        assert_eq!(decimal(4_194_304, &mut buffer), b"4194304");
    }
}
