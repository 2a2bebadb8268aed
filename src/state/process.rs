//! The init process on record: a pid and the start time that tells it from a later one.

use std::fmt;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, Result};

/// A process, for ever: the kernel may give its pid to another, but not its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    pub pid: Pid,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)).
    start_time: u64,
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid.as_raw_nonzero(), self.start_time)
    }
}

impl Init {
    /// The process that has this pid now; the caller holds its pidfd or is its parent.
    pub fn of(pid: Pid) -> Result<Init> {
        let start_time = start_time(pid)?.ok_or_else(|| failed(pid, "read", Errno::SRCH))?;
        Ok(Init { pid, start_time })
    }

    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Init> {
        let (pid, start_time) = text.split_once(' ')?;
        Some(Init { pid: Pid::from_raw(pid.parse().ok()?)?, start_time: start_time.parse().ok()? })
    }

    /// A pidfd of the process while it is alive. A zombie is dead: it still answers kill(pid, 0).
    pub fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // EINVAL: the number belongs to a thread by now.
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(failed(self.pid, "pidfd_open", errno)),
        };
        // With the pidfd in hand the pid cannot change its owner between these two looks.
        if start_time(self.pid)? != Some(self.start_time) || has_exited(&pidfd)? {
            return Ok(None);
        }
        Ok(Some(pidfd))
    }
}

fn failed(pid: Pid, call: &str, errno: Errno) -> Error {
    let number = pid.as_raw_nonzero();
    let what = if call == "read" { format!("read(\"/proc/{number}/stat\")") } else { format!("{call}({number})") };
    Error::sys("init process", what, errno)
}

/// pidfd_open(2): a pidfd becomes readable when its process has exited.
pub(crate) fn has_exited(pidfd: &OwnedFd) -> Result<bool> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).map(|ready| ready > 0).map_err(|errno| Error::sys("init process", "poll(pidfd)", errno))
}

fn start_time(pid: Pid) -> Result<Option<u64>> {
    let stat = match std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())) {
        Ok(stat) => stat,
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::NOENT | Errno::SRCH) => return Ok(None),
            errno => return Err(failed(pid, "read", errno.unwrap_or(Errno::IO))),
        },
    };
    Ok(start_time_in(&stat))
}

/// The command name in parentheses may hold anything, so counting starts at the last one.
fn start_time_in(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_command_name() {
        let stat = b"42 (a) R 1 2) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2";
        assert_eq!(start_time_in(stat), Some(98765));
        assert_eq!(start_time_in(b"42 (a"), None);
    }

    #[test]
    fn this_process_is_alive_and_an_earlier_one_is_not() {
        let own = Init::of(rustix::process::getpid()).expect("alive");
        assert!(own.pidfd().expect("asked").is_some());
        let earlier = Init { start_time: own.start_time - 1, ..own };
        assert!(earlier.pidfd().expect("asked").is_none());
        assert_eq!(Init::parse(&own.to_string()), Some(own));
    }
}
