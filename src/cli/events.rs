//! `xebec events`: samples of a container's resource use, and its out-of-memory events.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use xebec::cgroup::{MemoryWatch, Record};
use xebec::state::Container;
use xebec::{Error, Kind, Result};

use super::args::{Events, Global};
use super::log::Log;
use super::{print, settings};

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: &Events) -> Result<u8> {
    let container = Container::open(&settings::root(global)?, &settings::id(&args.id)?)?;
    let text = container.record_text()?;
    let cgroup = container.finished(&text)?.cgroup;
    let Some((_, init)) = container.look(&cgroup)?.1 else {
        // Engines know runc's words.
        let words = format!("container with id {} is not running", container.id);
        return Err(Error::new(Kind::WrongState, container.item(), words));
    };
    if cgroup.is_none() {
        return Err(Error::invalid(container.item(), "it has no cgroup of its own to measure"));
    }
    let source = Source { id: container.id.as_str(), cgroup: &cgroup, init };
    if args.stats { print(&source.sample()?) } else { source.follow(log, args.interval) }
}

struct Source<'a> {
    id: &'a str,
    cgroup: &'a Record,
    init: OwnedFd,
}

impl Source<'_> {
    /// One line with runc's names.
    fn sample(&self) -> Result<String> {
        let stats = self.cgroup.stats()?;
        let mut data = serde_json::to_value(stats).map_err(|e| Error::invalid("stats", e.to_string()))?;
        // No part of the cgroup: runc writes them, and empty, for every container of an engine.
        data["intel_rdt"] = json!({});
        data["network_interfaces"] = Value::Null;
        Ok(format!("{}\n", json!({"type": "stats", "id": self.id, "data": data})))
    }

    /// A sample each `interval` and a line for each OOM, until the container's init has exited.
    fn follow(&self, log: &Log, interval: Duration) -> Result<u8> {
        let watch = match self.cgroup.watch_memory() {
            Ok(watch) => Some(watch),
            Err(error) => {
                log.warn(&[format!("out-of-memory events cannot be had: {error}")]);
                None
            }
        };
        let mut counters = watch.as_ref().map(MemoryWatch::read).transpose()?.flatten().unwrap_or_default();
        let mut next = Instant::now() + interval;
        loop {
            let woken = self.wait(watch.as_ref(), next)?;
            if let Some(watch) = &watch
                && !self.tell_oom(watch, &mut counters, woken)?
            {
                return Ok(0);
            }
            if woken.ended {
                return Ok(0);
            }
            if Instant::now() >= next {
                match self.sample() {
                    Ok(line) => print(&line)?,
                    // The cgroup is gone: so is the container.
                    Err(_) if self.wait(None, Instant::now())?.ended => return Ok(0),
                    Err(error) => return Err(error),
                };
                next = Instant::now() + interval;
            }
        }
    }

    /// Prints what the watch has to tell; false when the cgroup is gone.
    fn tell_oom(&self, watch: &MemoryWatch, counters: &mut BTreeMap<String, u64>, woken: Woken) -> Result<bool> {
        // v2's notification is deferred and may come after the exit, but the counter does not.
        if !woken.told && (!woken.ended || watch.flags() != PollFlags::PRI) {
            return Ok(true);
        }
        let Some(now) = watch.read()? else { return Ok(false) };
        if watch.tells_oom(counters, &now) {
            print(&format!("{}\n", json!({"type": "oom", "id": self.id})))?;
        }
        *counters = now;
        Ok(true)
    }

    /// Waits until init has exited, the watch tells something, or `until`.
    fn wait(&self, watch: Option<&MemoryWatch>, until: Instant) -> Result<Woken> {
        // init before the watch: an OOM that ended it is then seen in the same call.
        let mut fds = vec![PollFd::new(&self.init, PollFlags::IN)];
        fds.extend(watch.map(|watch| PollFd::new(watch, watch.flags())));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| Error::invalid("--interval", "is too long"))?;
            match poll(&mut fds, Some(&left)) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::sys("events", "poll", errno)),
            }
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd: &PollFd<'_>| !fd.revents().is_empty());
        Ok(Woken { ended: ready(0), told: ready(1) })
    }
}

/// What a wait ended with; nothing of it when the time was over.
#[derive(Clone, Copy)]
struct Woken {
    ended: bool,
    told: bool,
}
