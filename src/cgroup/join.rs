//! How a further process (exec) enters a container's cgroup.
//!
//! The place is resolved under the container's own directory and never leaves it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;

use super::dir::Dir;
use super::layout::Layout;
use super::record::Record;
use crate::error::{Error, Result};

/// The directories that a process enters.
#[derive(Debug)]
pub struct Join {
    v2: Option<Dir>,
    v1: Vec<Dir>,
}

impl Record {
    /// Opens the container's cgroup, or `below` in it (`exec --cgroup`): a relative path
    /// of existing cgroups without `..`; a leading slash counts from the container's.
    pub fn join(&self, below: Option<&str>) -> Result<Join> {
        let v2 = self.v2.as_ref().map(|path| enter(path, below)).transpose()?;
        let v1 = self.v1.iter().map(|(_, path)| enter(path, below)).collect::<Result<Vec<Dir>>>()?;
        Ok(Join { v2, v1 })
    }

    /// The words of `exec --cgroup`: one PATH for every hierarchy, or for cgroup v1
    /// CONTROLLER\[,CONTROLLER\]:PATH, each for the hierarchies of its controllers.
    pub fn join_words(&self, words: &[String]) -> Result<Join> {
        let wrong = |word: &str, what: &str| Error::invalid("--cgroup", format!("{word:?} {what}"));
        let mut parts = Vec::new();
        for word in words {
            match word.split_once(':').filter(|_| !word.starts_with('/')) {
                None if words.len() == 1 => return self.join(Some(word)),
                None => return Err(wrong(word, "is for every controller, so it must be the only one")),
                Some((controllers, path)) => {
                    let known = |name: &str| self.v1.iter().any(|(has, _)| has.split(',').any(|c| c == name));
                    if let Some(unknown) = controllers.split(',').find(|name| !known(name)) {
                        return Err(wrong(
                            word,
                            &format!("names {unknown:?}, which the container has no v1 cgroup of"),
                        ));
                    }
                    parts.push((controllers, path));
                }
            }
        }
        let below = |has: &str| {
            let asked = |list: &str| list.split(',').any(|name| has.split(',').any(|c| c == name));
            parts.iter().find(|(list, _)| asked(list)).map(|(_, path)| *path)
        };
        let v2 = self.v2.as_ref().map(|path| enter(path, None)).transpose()?;
        let v1 = self.v1.iter().map(|(has, path)| enter(path, below(has))).collect::<Result<Vec<Dir>>>()?;
        Ok(Join { v2, v1 })
    }

    /// Like [`Record::join`], into the v2 cgroup that process `init` of the container is
    /// in now. Needed when the container has made cgroups of its own and handed them
    /// controllers: its top cgroup then takes no process (clone3 gives EBUSY).
    pub fn join_init(&self, init: u32, layout: &Layout) -> Result<Join> {
        let Some(top) = &self.v2 else { return self.join(None) };
        let file = format!("/proc/{init}/cgroup");
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Error::sys("cgroup", format!("read({file:?})"), errno)
        })?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("");
        let top = layout.v2_mount().and_then(|mount| top.strip_prefix(mount)).unwrap_or(top);
        match own.strip_prefix(top) {
            Some(below) if below.is_empty() || below.starts_with('/') => self.join(Some(below)),
            _ => Err(Error::invalid("cgroup", format!("process {init} is in {own}, not below the container's {top}"))),
        }
    }
}

/// Opens `below` in the container's own cgroup at `path`.
fn enter(path: &str, below: Option<&str>) -> Result<Dir> {
    let below = below.map_or("", |path| path.trim_matches('/'));
    let top = Dir::open(path).map_err(|errno| Error::sys("cgroup", format!("open({path:?})"), errno))?;
    if below.is_empty() || below == "." {
        return Ok(top);
    }
    if below.split('/').any(|name| name == "..") {
        return Err(Error::invalid("--cgroup", format!("{below:?} holds `..`")));
    }
    let failed = |errno| Error::sys("--cgroup", format!("openat2({path:?}, {below:?})"), errno);
    top.open_below(below).map_err(failed)
}

impl Join {
    /// The cgroup v2 directory for CLONE_INTO_CGROUP.
    #[must_use]
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Whether [`Join::place`] has anything to do for a process born in [`Join::v2`].
    #[must_use]
    pub fn has_v1(&self) -> bool {
        !self.v1.is_empty()
    }

    /// Moves process `pid` into every v1 hierarchy, and into the v2 one unless it was
    /// born there.
    pub fn place(&self, pid: u32, born_in_v2: bool) -> Result<()> {
        let v2 = self.v2.iter().filter(|_| !born_in_v2);
        v2.chain(&self.v1).try_for_each(|dir| place(dir, pid))
    }
}

/// Moves one process into one cgroup.
pub fn place(dir: &Dir, pid: u32) -> Result<()> {
    // EINVAL: the kernel has not finished making the task (TASK_NEW); it soon will.
    for _ in 0..5 {
        match dir.write("cgroup.procs", &pid.to_string()) {
            Err(Errno::INVAL) => std::thread::sleep(Duration::from_millis(5)),
            other => return other.map_err(|errno| place_error(dir, pid, errno)),
        }
    }
    Err(place_error(dir, pid, Errno::INVAL))
}

fn place_error(dir: &Dir, pid: u32, errno: Errno) -> Error {
    let error = Error::sys("cgroup", format!("write({:?}, \"{pid}\")", dir.join("cgroup.procs")), errno);
    match errno {
        Errno::BUSY => error.hint("it has handed controllers to cgroups below, so it takes no processes"),
        Errno::INVAL => error.hint("a process with real-time scheduling needs cpu.rt_runtime_us in its cgroup"),
        Errno::NOSPC => error.hint("its cpuset has no CPUs or memory nodes"),
        _ => error,
    }
}
