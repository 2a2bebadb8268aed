//! Out-of-memory events of a container as they happen, without asking at intervals.
//!
//! One fd to poll and one call that says what has changed; no thread, no loop.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::dir::Dir;
use super::record::Record;
use crate::error::{Error, Result};

/// Watches memory.events (cgroup v2) or memory.oom_control (v1).
#[derive(Debug)]
pub struct MemoryWatch {
    dir: Dir,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// memory.events, open; POLLPRI on each change.
    Events(OwnedFd),
    /// An eventfd that the kernel counts up at each OOM and when the cgroup goes.
    Eventfd(OwnedFd),
}

impl Record {
    /// Begins to watch. An error if the container has no memory controller.
    pub fn watch_memory(&self) -> Result<MemoryWatch> {
        let has = |(controllers, _): &&(String, String)| controllers.split(',').any(|c| c == "memory");
        let v1 = self.v1.iter().find(has).map(|(_, path)| path);
        let Some(path) = v1.or(self.v2.as_ref()) else {
            return Err(Error::invalid("cgroup", "this container has no cgroup of its own to watch"));
        };
        let failed = |call: &str, name: &str, errno| Error::sys("cgroup", format!("{call}({name:?})"), errno);
        let dir = Dir::open(path).map_err(|errno| failed("open", path, errno))?;
        if v1.is_none() {
            let events = dir.open_file("memory.events", OFlags::RDONLY);
            let events = events.map_err(|errno| failed("open", &dir.join("memory.events"), errno))?;
            let watch = MemoryWatch { dir, source: Source::Events(events) };
            // The first read arms the notification.
            watch.read()?;
            return Ok(watch);
        }
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::sys("cgroup", "eventfd2(0)", errno))?;
        let control = dir.open_file("memory.oom_control", OFlags::RDONLY);
        let control = control.map_err(|errno| failed("open", &dir.join("memory.oom_control"), errno))?;
        let line = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
        let file = "cgroup.event_control";
        let written = dir.write(file, &line);
        written.map_err(|errno| Error::sys("cgroup", format!("write({:?}, {line:?})", dir.join(file)), errno))?;
        Ok(MemoryWatch { dir, source: Source::Eventfd(counter) })
    }
}

impl MemoryWatch {
    /// What to poll for on [`MemoryWatch::as_fd`].
    #[must_use]
    pub fn flags(&self) -> PollFlags {
        match self.source {
            Source::Events(_) => PollFlags::PRI,
            Source::Eventfd(_) => PollFlags::IN,
        }
    }

    /// Whether a notification says that memory ran out, with the counters read before and
    /// after it. On v1 each does: the kernel tells before it counts.
    #[must_use]
    pub fn tells_oom(&self, before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> bool {
        match self.source {
            Source::Events(_) => after.get("oom_kill") > before.get("oom_kill"),
            Source::Eventfd(_) => true,
        }
    }

    /// The counters now (`oom_kill` and others), and ready for the next change. `None`
    /// once the cgroup is gone.
    pub fn read(&self) -> Result<Option<BTreeMap<String, u64>>> {
        let (file, text) = match &self.source {
            Source::Events(fd) => ("memory.events", super::freeze::reread(fd)),
            Source::Eventfd(fd) => {
                match rustix::io::read(fd, &mut [0u8; 8]) {
                    // EAGAIN: read without an event.
                    Ok(_) | Err(Errno::AGAIN) => {}
                    Err(errno) => return Err(Error::sys("cgroup", "read(eventfd)", errno)),
                }
                ("memory.oom_control", self.dir.read("memory.oom_control"))
            }
        };
        match text {
            Ok(text) => Ok(Some(super::measure::key_values(&text))),
            Err(Errno::NODEV | Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::sys("cgroup", format!("read({:?})", self.dir.join(file)), errno)),
        }
    }
}

impl AsFd for MemoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Events(fd) | Source::Eventfd(fd) => fd.as_fd(),
        }
    }
}
