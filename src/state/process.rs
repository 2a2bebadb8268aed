//! The init process on record: a pid, and what tells it from a later process with the same one.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, Result};

/// A process, for ever: the kernel may give its pid to another, but not what else stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    pub pid: Pid,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)).
    start_time: u64,
    /// The inode number of its pidfds, where the kernel gives each process one of its own
    /// (pidfs, 6.9): asking for that takes a fiftieth of the time.
    inode: Option<u64>,
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid.as_raw_nonzero(), self.start_time)?;
        self.inode.map_or(Ok(()), |inode| write!(f, " {inode}"))
    }
}

impl Init {
    /// The process behind `pidfd`, which has this pid and has not been waited for.
    pub fn of(pid: Pid, pidfd: BorrowedFd<'_>) -> Result<Init> {
        let start_time = start_time(pid)?.ok_or_else(|| failed(pid, "read", Errno::SRCH))?;
        let inode = inode(pidfd).map_err(|errno| failed(pid, "fstatfs", errno))?;
        Ok(Init { pid, start_time, inode })
    }

    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Init> {
        let mut words = text.split(' ');
        let pid = Pid::from_raw(words.next()?.parse().ok()?)?;
        let start_time = words.next()?.parse().ok()?;
        let inode = words.next().map(str::parse).transpose().ok()?;
        Some(Init { pid, start_time, inode })
    }

    /// A pidfd of the process while it is alive. A zombie is dead: it still answers kill(pid, 0).
    pub fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // EINVAL: the number belongs to a thread by now.
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(failed(self.pid, "pidfd_open", errno)),
        };
        // With the pidfd in hand the pid cannot change its owner between these looks.
        if !self.is_behind(pidfd.as_fd())? || has_exited(&pidfd)? {
            return Ok(None);
        }
        Ok(Some(pidfd))
    }

    fn is_behind(&self, pidfd: BorrowedFd<'_>) -> Result<bool> {
        match self.inode {
            Some(known) => {
                let now = inode(pidfd).map_err(|errno| failed(self.pid, "fstatfs", errno))?;
                Ok(now == Some(known))
            }
            None => Ok(start_time(self.pid)? == Some(self.start_time)),
        }
    }
}

/// The number of a pidfd's inode; `None` where all pidfds share the one of anonymous inodes (before 6.9).
fn inode(pidfd: BorrowedFd<'_>) -> std::result::Result<Option<u64>, Errno> {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    match fstatfs(pidfd)?.f_type as u64 {
        PID_FS_MAGIC => fstat(pidfd).map(|stat| Some(stat.st_ino)),
        _ => Ok(None),
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
    // More than the longest line there can be, which the kernel gives in one piece.
    let mut stat = [0; 2048];
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let read = openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| retry_on_intr(|| rustix::io::read(&file, &mut stat)));
    match read {
        Ok(len) => Ok(start_time_in(&stat[..len])),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(failed(pid, "read", errno)),
    }
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
        let pid = rustix::process::getpid();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("opened");
        let own = Init::of(pid, pidfd.as_fd()).expect("alive");
        assert!(own.pidfd().expect("asked").is_some());
        assert_eq!(Init::parse(&own.to_string()), Some(own));
        // A kernel before 6.9, and one that went on to the next process with this pid.
        let by_time = Init { inode: None, ..own };
        assert!(by_time.pidfd().expect("asked").is_some());
        assert_eq!(Init::parse(&by_time.to_string()), Some(by_time));
        let earlier = Init { start_time: own.start_time - 1, ..by_time };
        assert!(earlier.pidfd().expect("asked").is_none());
        let earlier = Init { inode: own.inode.map(|inode| inode - 1), start_time: own.start_time - 1, ..own };
        assert!(earlier.pidfd().expect("asked").is_none());
    }
}
