//! What state.json keeps of a cgroup, and everything that can be done from it alone.
//!
//! The record is stored before anything exists, so all of this works on a container
//! whose create was killed half-way: what is absent is done.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::dir::Dir;
use super::freeze::{Freezer, wait_event};
use super::systemd::{self, Unit};
use crate::error::{Error, Result};

/// How long killed processes may take to go, and a cgroup to become removable.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many processes are held at once: a container may have more of them than we may open files.
const HELD: usize = 100;

/// The directories of a container's cgroup, as absolute paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// In the v2 hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<String>,
    /// In each v1 hierarchy: its controllers, joined by commas, and the path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v1: Vec<(String, String)>,
    /// The unit that systemd has made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl Record {
    /// Whether the container has no cgroup of its own.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.v2.is_none() && self.v1.is_empty()
    }

    /// The directory that is asked about processes: v2's, or v1's freezer, or any.
    fn main(&self) -> Option<&str> {
        let first = || self.v1.first().map(|(_, path)| path.as_str());
        self.v2.as_deref().or_else(|| self.freezer_in_v1()).or_else(first)
    }

    /// The top of what is the container's: beside its own cgroup a unit may hold a process that
    /// a killed create has left there.
    fn top(&self) -> Option<&str> {
        self.unit.as_ref().and_then(|unit| unit.top.as_deref()).or(self.v2.as_deref())
    }

    /// The processes in the cgroup and below it. Those outside the caller's PID
    /// namespace have no number here and are left out.
    pub fn procs(&self) -> Result<Vec<u32>> {
        let mut pids = match open_if_there(self.main())? {
            Some(dir) => procs_below(&dir)?,
            None => Vec::new(),
        };
        pids.retain(|pid| *pid != 0);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends `signal` to every process of the cgroup and below it.
    ///
    /// SIGKILL goes by cgroup.kill (kernel 5.14), which misses nobody and returns at
    /// once; the processes are gone when [`Record::remove`] says so. Without that
    /// file, and for other signals, the cgroup is frozen while its processes are
    /// counted; SIGKILL is then repeated until none is left, for ten seconds at most.
    pub fn kill_all(&self, signal: Signal) -> Result<()> {
        self.everybody(signal)?.map_or(Ok(()), |everybody| everybody.kill(signal))
    }

    /// Who is to get `signal`, if the cgroup is there.
    pub fn everybody(&self, signal: Signal) -> Result<Option<Everybody>> {
        let kill = signal == Signal::KILL;
        let Some(dir) = open_if_there(self.top().filter(|_| kill).or(self.main()))? else { return Ok(None) };
        let v2 = self.v2.is_some();
        let mut v1 = Vec::new();
        if kill && v2 {
            for (_, path) in &self.v1 {
                v1.extend(open_if_there(Some(path))?);
            }
        }
        Ok(Some(Everybody { group: Freezer { dir, v2 }, v1 }))
    }

    /// Removes the cgroup with everything below it. Waits up to ten seconds for killed
    /// processes to go, then for systemd to forget the unit. What is absent is fine; cgroups
    /// above are left alone.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let paths = self.top().into_iter().chain(self.v1.iter().map(|(_, path)| path.as_str()));
        // Every hierarchy is tried, and the first failure reported.
        let results: Vec<Result<()>> = paths.map(|path| remove_tree(path, deadline)).collect();
        results.into_iter().collect::<Result<()>>()?;
        self.unit.as_ref().map_or(Ok(()), systemd::stop)
    }
}

/// The processes of a container's cgroup, by handles: never those of the next container which has a cgroup of this name.
#[derive(Debug)]
pub struct Everybody {
    /// The cgroup with all of them; in v1, it freezes only if it is the freezer's.
    group: Freezer,
    /// On a hybrid host, those of v1: a create killed between two moves has left its process there alone, or
    /// somebody has moved one.
    v1: Vec<Dir>,
}

impl Everybody {
    /// [`Record::kill_all`].
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let dir = &self.group.dir;
        if signal == Signal::KILL && self.group.v2 {
            match dir.write("cgroup.kill", "1") {
                Ok(()) | Err(Errno::NODEV) => {
                    return self.v1.iter().try_for_each(|dir| signal_procs(dir, Signal::KILL).map(drop));
                }
                // ENOENT: kernel before 5.14; EOPNOTSUPP: a threaded cgroup.
                Err(Errno::NOENT | Errno::OPNOTSUPP) => {}
                Err(errno) => {
                    return Err(Error::sys("cgroup", format!("write({:?}, \"1\")", dir.join("cgroup.kill")), errno));
                }
            }
        }
        self.kill_one_by_one(signal)
    }

    fn kill_one_by_one(&self, signal: Signal) -> Result<()> {
        let paused = self.group.is_frozen()?;
        let deadline = Instant::now() + PATIENCE;
        let mut nap = Duration::from_micros(100);
        loop {
            // Without a freezer, or with a task that will not freeze, the loop still
            // converges: it repeats until nobody is left.
            let frozen = paused || self.group.freeze().is_ok();
            let sent = signal_procs(&self.group.dir, signal);
            // A paused container stays paused, but SIGKILL has to reach it (v1).
            if frozen && (!paused || signal == Signal::KILL) {
                self.group.thaw_if_there()?;
            }
            if sent? == 0 || signal != Signal::KILL {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let pids = procs_below(&self.group.dir)?;
                return Err(Error::sys("cgroup", format!("kill({pids:?}, SIGKILL)"), Errno::TIMEDOUT));
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(20));
        }
    }
}

/// `None` if there is no cgroup (any more).
pub fn open_if_there(path: Option<&str>) -> Result<Option<Dir>> {
    let Some(path) = path else { return Ok(None) };
    match Dir::open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::sys("cgroup", format!("open({path:?})"), errno)),
    }
}

/// Sends `signal` to the processes of `dir` and below, and counts them.
fn signal_procs(dir: &Dir, signal: Signal) -> Result<usize> {
    procs_below(dir)?.chunks(HELD).try_fold(0, |sent, pids| Ok(sent + signal_some(dir, pids, signal)?))
}

/// Each of `pids` is held by a pidfd and looked for a second time, so that a reused number is never hit.
fn signal_some(dir: &Dir, pids: &[u32], signal: Signal) -> Result<usize> {
    let mut held = Vec::new();
    for &pid in pids {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => held.push((pid, fd)),
            Err(Errno::SRCH) => {}
            Err(errno) => return Err(Error::sys("cgroup", format!("pidfd_open({pid})"), errno)),
        }
    }
    if held.is_empty() {
        return Ok(0);
    }
    let there = procs_below(dir)?;
    for (pid, fd) in held.iter().filter(|(pid, _)| there.contains(pid)) {
        match pidfd_send_signal(fd, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(Error::sys("cgroup", format!("pidfd_send_signal({pid}, {signal:?})"), errno)),
        }
    }
    Ok(held.len())
}

/// The processes of `dir` and the cgroups below it; 0 for one without a number here.
///
/// Holds two fds however deep the tree is: the container may have made it.
pub fn procs_below(dir: &Dir) -> Result<Vec<u32>> {
    let failed = |call: &str, path: &OsStr, errno| Error::sys("cgroup", format!("{call}({:?})", dir.join(path)), errno);
    let mut pids = procs_of(dir)?;
    let below = |here: &Dir, path: &OsStr| -> Result<Vec<OsString>> {
        let names = match here.children() {
            Err(Errno::NODEV | Errno::NOENT) => Vec::new(),
            other => other.map_err(|errno| failed("getdents64", path, errno))?,
        };
        let slash = if path.is_empty() { "" } else { "/" };
        Ok(names.into_iter().map(|name| OsString::from_iter([path, slash.as_ref(), &name])).collect())
    };
    let mut ahead = below(dir, OsStr::new(""))?;
    while let Some(path) = ahead.pop() {
        match dir.open_deep(&path) {
            Ok(here) => {
                pids.extend(procs_of(&here)?);
                ahead.extend(below(&here, &path)?);
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("openat2", &path, errno)),
        }
    }
    Ok(pids)
}

/// The processes of one cgroup.
fn procs_of(dir: &Dir) -> Result<Vec<u32>> {
    match dir.read_list("cgroup.procs") {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        // EOPNOTSUPP: a threaded cgroup; the caller may have made ours one. (The container
        // cannot: a cgroup with processes does not become threaded.)
        Err(Errno::OPNOTSUPP) => Ok(threads_owners(dir)),
        // Removed meanwhile.
        Err(Errno::NODEV | Errno::NOENT) => Ok(Vec::new()),
        Err(errno) => Err(Error::sys("cgroup", format!("read({:?})", dir.join("cgroup.procs")), errno)),
    }
}

/// The processes whose threads are in a threaded cgroup. What vanishes is left out.
fn threads_owners(dir: &Dir) -> Vec<u32> {
    let owner = |tid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
    };
    let threads = dir.read_list("cgroup.threads").unwrap_or_default();
    let mut pids: Vec<u32> = threads.lines().filter_map(owner).collect();
    pids.dedup();
    pids
}

/// rmdir, by way of what keeps it from succeeding.
fn remove_tree(path: &str, deadline: Instant) -> Result<()> {
    let mut nap = Duration::from_micros(200);
    loop {
        match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // On a read-only mount rmdir(2) does not look whether there is anything.
            Err(Errno::ROFS) if matches!(rustix::fs::stat(path), Err(Errno::NOENT)) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(Error::sys("cgroup", format!("rmdir({path:?})"), errno)),
        }
        let dir = match Dir::open(path) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(Error::sys("cgroup", format!("open({path:?})"), errno)),
        };
        let progress = remove_deepest(&dir, deadline)?;
        if Instant::now() >= deadline {
            return Err(busy(path, &dir));
        }
        if progress {
            continue;
        }
        // v2 says when the last process has gone; v1 has to be asked again.
        if !wait_event(&dir, "populated 0", deadline)? {
            return Err(busy(path, &dir));
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
}

fn busy(path: &str, dir: &Dir) -> Error {
    let error = Error::sys("cgroup", format!("rmdir({path:?})"), Errno::BUSY);
    match procs_below(dir) {
        Ok(pids) if !pids.is_empty() => error.hint(format!("processes are still in it: {pids:?}")),
        _ => error,
    }
}

/// Walks down to cgroups without children and removes them, one after another, until
/// nothing is left below `top` or nothing yields. Holds two fds however deep the tree
/// is: the container may have made it, and may still be making more, hence the
/// deadline. Says whether anything was removed.
fn remove_deepest(top: &Dir, deadline: Instant) -> Result<bool> {
    let failed = |call: &str, path: String, errno| Error::sys("cgroup", format!("{call}({path:?})"), errno);
    let mut progress = false;
    // The way from `top`, which `None` stands for, to where we are.
    let (mut names, mut at): (Vec<OsString>, Option<Dir>) = (Vec::new(), None);
    while Instant::now() < deadline {
        let here = at.as_ref().unwrap_or(top);
        let children = match here.children() {
            Err(Errno::NODEV | Errno::NOENT) => Vec::new(),
            other => other.map_err(|errno| failed("getdents64", here.path.clone(), errno))?,
        };
        if let Some(next) = children.into_iter().next() {
            match here.open_below(&next) {
                Ok(dir) => at = Some(dir),
                // Removed meanwhile: what else is there?
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed("openat2", here.join(&next), errno)),
            }
            names.push(next);
            continue;
        }
        let Some(leaf) = names.pop() else { return Ok(progress) };
        let above = match names.is_empty() {
            true => None,
            false => Some(here.above().map_err(|errno| failed("openat2", here.join(".."), errno))?),
        };
        match above.as_ref().unwrap_or(top).rmdir(&leaf) {
            Ok(()) => progress = true,
            Err(Errno::NOENT) => {}
            Err(Errno::BUSY) => return Ok(progress),
            Err(errno) => return Err(failed("rmdir", here.path.clone(), errno)),
        }
        at = above;
    }
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small_json_and_back() {
        let record = Record {
            v2: Some("/sys/fs/cgroup/c1".into()),
            v1: vec![("cpu,cpuacct".into(), "/sys/fs/cgroup/cpu/c1".into())],
            unit: None,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(text, r#"{"v2":"/sys/fs/cgroup/c1","v1":[["cpu,cpuacct","/sys/fs/cgroup/cpu/c1"]]}"#);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert_eq!(serde_json::to_string(&Record::default()).unwrap(), "{}");
    }

    #[test]
    fn what_is_absent_is_dead_and_removed() {
        let gone = Record { v2: Some("/sys/fs/cgroup/no/such".into()), ..Record::default() };
        gone.kill_all(Signal::KILL).unwrap();
        gone.remove().unwrap();
        assert!(gone.procs().unwrap().is_empty());
        assert!(!gone.is_frozen().unwrap());
    }
}
