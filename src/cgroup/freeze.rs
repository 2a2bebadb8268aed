//! Freezing and thawing a container's processes.
//!
//! The kernel freezes asynchronously: both directions are waited for, for a bounded
//! time, so that "paused" means that nothing runs.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use super::dir::Dir;
use super::record::{Record, open_if_there};
use crate::error::{Error, Kind, Result};

const EVENTS: &str = "cgroup.events";
/// How long a task in the kernel may keep a freeze from being complete.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(50);

/// A handle of the cgroup that freezes a container. It is never that of the next container which has a cgroup of this
/// name: when the cgroup has been removed, nothing can be written by it.
#[derive(Debug)]
pub struct Freezer {
    pub(super) dir: Dir,
    pub(super) v2: bool,
}

impl Freezer {
    /// Freezes every process, and returns once all are frozen. If that takes more
    /// than ten seconds the cgroup is thawed again and the call fails.
    pub fn freeze(&self) -> Result<()> {
        let dir = &self.dir;
        if self.v2 {
            return freeze_v2(dir);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut nap = Duration::from_micros(50);
        while Instant::now() < deadline {
            set(dir, "freezer.state", "FROZEN")?;
            if state(dir)? == "FROZEN" {
                return Ok(());
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(20));
        }
        set(dir, "freezer.state", "THAWED")?;
        Err(Error::sys("cgroup", format!("write({:?}, \"FROZEN\")", dir.join("freezer.state")), Errno::TIMEDOUT))
    }

    /// Lets a frozen container run again.
    pub fn thaw(&self) -> Result<()> {
        let (file, value) = if self.v2 { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
        set(&self.dir, file, value)
    }

    /// [`Freezer::thaw`]; who is in a cgroup that is gone is not frozen.
    pub fn thaw_if_there(&self) -> Result<()> {
        match self.thaw() {
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV)) => Ok(()),
            other => other,
        }
    }

    /// Whether this cgroup itself is frozen (not only one above it).
    pub fn is_frozen(&self) -> Result<bool> {
        let (file, frozen) = if self.v2 { ("cgroup.freeze", "1") } else { ("freezer.state", "FROZEN") };
        match self.dir.read(file) {
            Ok(text) => Ok(text.trim() == frozen),
            // ENOENT: kernels before 5.2 have no freezer in v2; ENODEV: just removed.
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(Error::sys("cgroup", format!("read({:?})", self.dir.join(file)), errno)),
        }
    }
}

impl Record {
    /// What freezes this container now.
    pub fn freezer(&self) -> Result<Freezer> {
        let none = || Error::invalid("cgroup", "this container has no cgroup that can be frozen");
        self.find_freezer()?.ok_or_else(none)
    }

    /// `None` if there is no such cgroup, or none any more.
    pub fn find_freezer(&self) -> Result<Option<Freezer>> {
        let dir = open_if_there(self.v2.as_deref().or(self.freezer_in_v1()))?;
        Ok(dir.map(|dir| Freezer { dir, v2: self.v2.is_some() }))
    }

    /// [`Freezer::freeze`].
    pub fn freeze(&self) -> Result<()> {
        self.freezer()?.freeze()
    }

    /// [`Freezer::thaw`].
    pub fn thaw(&self) -> Result<()> {
        self.freezer()?.thaw()
    }

    /// [`Freezer::is_frozen`].
    pub fn is_frozen(&self) -> Result<bool> {
        self.find_freezer()?.map_or(Ok(false), |freezer| freezer.is_frozen())
    }

    pub(super) fn freezer_in_v1(&self) -> Option<&str> {
        let freezer = |(controllers, _): &&(String, String)| controllers.split(',').any(|c| c == "freezer");
        self.v1.iter().find(freezer).map(|(_, path)| path.as_str())
    }
}

fn set(dir: &Dir, file: &str, value: &str) -> Result<()> {
    let failed = |errno| Error::sys("cgroup", format!("write({:?}, {value:?})", dir.join(file)), errno);
    dir.write(file, value).map_err(failed)
}

fn state(dir: &Dir) -> Result<String> {
    let failed = |errno| Error::sys("cgroup", format!("read({:?})", dir.join("freezer.state")), errno);
    Ok(dir.read("freezer.state").map_err(failed)?.trim().to_owned())
}

/// Nothing tells a waiter that somebody thaws or removes the cgroup before all is frozen: it looks from time to time.
fn freeze_v2(dir: &Dir) -> Result<()> {
    set(dir, "cgroup.freeze", "1")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let frozen = wait_event(dir, "frozen 1", Instant::now() + GLANCE)?;
        let failed = |errno| Error::sys("cgroup", format!("read({:?})", dir.join("cgroup.freeze")), errno);
        if dir.read("cgroup.freeze").map_err(failed)?.trim() != "1" {
            return Err(Error::new(Kind::WrongState, "cgroup", "was thawed by another command meanwhile"));
        }
        if frozen {
            return Ok(());
        }
        if Instant::now() > deadline {
            set(dir, "cgroup.freeze", "0")?;
            return Err(Error::sys("cgroup", format!("poll({:?}, \"frozen 1\")", dir.join(EVENTS)), Errno::TIMEDOUT));
        }
    }
}

/// Waits until cgroup.events holds `line`; `Ok(false)` if it does not by `deadline`.
/// A cgroup that vanishes meanwhile counts as having it.
pub fn wait_event(dir: &Dir, line: &str, deadline: Instant) -> Result<bool> {
    let failed = |call: &str, errno| Error::sys("cgroup", format!("{call}({:?})", dir.join(EVENTS)), errno);
    let events = match dir.open_file(EVENTS, OFlags::RDONLY) {
        Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
        other => other.map_err(|errno| failed("open", errno))?,
    };
    loop {
        // Reading also arms the next POLLPRI.
        match reread(&events) {
            Ok(text) if text.lines().any(|l| l == line) => return Ok(true),
            Ok(_) => {}
            Err(Errno::NODEV) => return Ok(true),
            Err(errno) => return Err(failed("read", errno)),
        }
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { return Ok(false) };
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let borrowed = events.as_fd();
        match poll(&mut [PollFd::from_borrowed_fd(borrowed, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("poll", errno)),
        }
    }
}

/// Reads a file that is open from its beginning.
pub fn reread(fd: &OwnedFd) -> Result<String, Errno> {
    rustix::fs::seek(fd, SeekFrom::Start(0))?;
    super::dir::read_once(fd)
}
