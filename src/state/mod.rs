//! What is remembered about a container: one directory under --root, named by its id.
//!
//! | entry        | written                                   | holds |
//! |--------------|-------------------------------------------|-------|
//! | `state.json` | once, before anything else is made        | [`Record`] |
//! | `config.json`| with it                                   | the config as create read it |
//! | `start`      | fifo, before clone3                       | one byte from `start` to the child |
//! | `report`     | fifo, before clone3                       | the child's error after `start` |
//! | `creating`   | link, right after clone3                  | the init process, see [`Init`] |
//! | `init`       | `creating` renamed, when create succeeded | the same |
//! | `exec`       | by the first `exec`, linked when whole    | what further ones need (a cache) |
//! | `notify/`    | before clone3, under $NOTIFY_SOCKET       | the socket for READY=1, made by `start` |
//!
//! Nothing is ever rewritten, so a runtime that is killed at any moment leaves
//! either a directory that owns nothing yet, or a complete record of what to undo.
//! The status is not stored: the kernel knows it (see [`Container::status`]).

mod claim;
mod pause;
mod process;
mod remove;
mod snapshot;
mod update;

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, readlinkat, renameat, symlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::config::{Hook, StringMap, Text};
use crate::error::{Error, Kind, Result};
use crate::spawn::resctrl;

pub use pause::{pause, resume};
pub use process::Init;
pub(crate) use process::has_exited;
pub use snapshot::{State, list, state};
pub use update::{update, update_schemata};

/// How long a verb waits for another one on the same container.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A valid container id: letters, digits and `_+-.`, not starting with a dot, at most 255.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks an id.
    pub fn new(id: &str) -> Result<ContainerId> {
        let valid = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.len() > 255 || id.starts_with('.') || !id.chars().all(valid) {
            return Err(Error::invalid("container id", format!("invalid id {id:?}"))
                .hint("use letters, digits and _+-. with no dot in front, at most 255"));
        }
        Ok(ContainerId(id.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a container is in its lifecycle (runtime.md, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// The word of the specification (`paused` is runc's).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// state.json: what is needed after create, and all that delete must undo.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<'a> {
    #[serde(borrow)]
    pub oci_version: Text<'a>,
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow)]
    pub bundle: Text<'a>,
    #[serde(borrow)]
    pub rootfs: Text<'a>,
    /// RFC 3339.
    #[serde(borrow)]
    pub created: Text<'a>,
    /// The uid of whoever created it.
    pub owner: u32,
    #[serde(borrow, default)]
    pub annotations: StringMap<'a>,
    pub cgroup: cgroup::Record,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<resctrl::Record>,
    /// The container has a PID namespace of its own: with its init everything dies.
    pub own_pid_namespace: bool,
    /// --no-new-keyring, which changes the plan.
    #[serde(default)]
    pub no_new_keyring: bool,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook<'a>>,
}

/// A container's directory.
#[derive(Debug)]
pub struct Container {
    pub id: ContainerId,
    root: PathBuf,
    dir: OwnedFd,
}

fn directory(path: &Path, id: &ContainerId) -> String {
    path.join(id.as_str()).display().to_string()
}

fn item(id: &ContainerId) -> String {
    format!("container {:?}", id.as_str())
}

/// The error for an id that nobody has; engines look for "does not exist".
fn no_such(id: &ContainerId, root: &Path) -> Error {
    Error::new(Kind::NoSuchContainer, item(id), format!("does not exist (looked in {})", root.display()))
}

fn open_dir(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

impl Container {
    /// Opens an existing container's directory, unlocked.
    pub fn open(root: &Path, id: &ContainerId) -> Result<Container> {
        match open_dir(&root.join(id.as_str())) {
            Ok(dir) => Ok(Container { id: id.clone(), root: root.to_owned(), dir }),
            Err(Errno::NOENT) => Err(no_such(id, root)),
            Err(errno) => Err(Error::sys(item(id), format!("openat({:?})", directory(root, id)), errno)),
        }
    }

    /// Waits until no other verb works on the container. The lock ends with the process.
    pub fn lock(&self) -> Result<()> {
        self.lock_or(|| Ok(()))
    }

    /// The same; calls `busy` as long as somebody has the lock.
    pub fn lock_or(&self, mut busy: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        let mut nap = Duration::from_micros(50);
        loop {
            match flock(&self.dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                    busy()?;
                    std::thread::sleep(nap);
                    nap = (nap * 2).min(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::new(
                        Kind::WrongState,
                        item(&self.id),
                        "another command works on this container",
                    )
                    .hint(format!(
                        "it holds the lock on {} for over 10 s; a hook that hangs?",
                        directory(&self.root, &self.id)
                    )));
                }
                Err(errno) => return Err(Error::sys(item(&self.id), "flock", errno)),
            }
        }
        // Deleted while we waited.
        if self.is_gone()? { Err(no_such(&self.id, &self.root)) } else { Ok(()) }
    }

    /// Has it been deleted since it was opened?
    pub fn is_gone(&self) -> Result<bool> {
        let stat = fstat(&self.dir).map_err(|errno| Error::sys(item(&self.id), "fstat", errno))?;
        Ok(stat.st_nlink == 0)
    }

    /// Is another verb at work on it?
    fn is_locked(&self) -> bool {
        // By its handle: the path may be the next container's by now.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(probe) = openat(&self.dir, ".", flags, Mode::empty()) else { return false };
        matches!(flock(&probe, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
    }

    /// For error messages.
    #[must_use]
    pub fn item(&self) -> String {
        item(&self.id)
    }

    /// The directory's handle.
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    fn failed(&self, call: &str, name: &str, errno: Errno) -> Error {
        Error::sys(self.item(), format!("{call}(\"{}/{name}\")", directory(&self.root, &self.id)), errno)
    }

    /// Writes a new file of this directory.
    pub fn write_new(&self, name: &str, content: &[u8]) -> Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| self.failed("openat", name, errno))?;
        let mut rest = content;
        while !rest.is_empty() {
            match rustix::io::write(&file, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("write", name, errno)),
            }
        }
        Ok(())
    }

    /// Reads a file of this directory; `None` when it is not there.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("openat", name, errno)),
        };
        // Room for what these files usually are: one call reads all of it.
        let mut content = Vec::with_capacity(8 << 10);
        loop {
            match rustix::io::read(&file, spare_capacity(&mut content)) {
                Ok(0) => return Ok(Some(content)),
                // A regular file gives less than there is room for at its end only.
                Ok(_) if content.len() < content.capacity() => return Ok(Some(content)),
                Ok(_) => content.reserve(content.len()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("read", name, errno)),
            }
        }
    }

    /// The text of state.json; `None` when create was killed before it was written, and owns nothing else.
    pub fn record_text(&self) -> Result<Option<Vec<u8>>> {
        self.read("state.json")
    }

    /// Parses state.json. A broken one means that create was killed while writing it.
    #[must_use]
    pub fn parse(text: &Option<Vec<u8>>) -> Option<Record<'_>> {
        text.as_deref().and_then(|text| serde_json::from_slice(text).ok())
    }

    /// The record of a container whose create finished writing it down.
    pub fn finished<'t>(&self, text: &'t Option<Vec<u8>>) -> Result<Record<'t>> {
        match Container::parse(text) {
            Some(record) => Ok(record),
            None => Err(self.unfinished()?),
        }
    }

    /// Why there is no record: create or delete is at work, or create was killed.
    fn unfinished(&self) -> Result<Error> {
        if self.is_gone()? {
            return Ok(no_such(&self.id, &self.root));
        }
        match self.is_locked() {
            true => Ok(Error::new(Kind::WrongState, self.item(), "is just being created or deleted")),
            false => Ok(self.recordless()),
        }
    }

    /// The error of one without a record that nobody has locked: a create that has just made the directory
    /// looks like one that was killed then.
    #[must_use]
    pub fn recordless(&self) -> Error {
        Error::new(Kind::WrongState, self.item(), "its create has not finished, or was killed")
            .hint("delete --force removes what is left of it")
    }

    /// Puts the new init process on record.
    pub fn note_creating(&self, init: &Init) -> Result<()> {
        symlinkat(init.to_string(), &self.dir, "creating").map_err(|errno| self.failed("symlinkat", "creating", errno))
    }

    /// Create has succeeded.
    pub fn note_created(&self) -> Result<()> {
        renameat(&self.dir, "creating", &self.dir, "init").map_err(|errno| self.failed("renameat", "init", errno))
    }

    /// The init process, whatever has become of it; `Some(true)` when create has finished.
    fn init_link(&self) -> Result<Option<(Init, bool)>> {
        for (name, created) in [("init", true), ("creating", false)] {
            match readlinkat(&self.dir, name, Vec::new()) {
                Ok(text) => {
                    let init = text.to_str().ok().and_then(Init::parse);
                    let broken = || Error::new(Kind::System, self.item(), format!("the link {name} is not a process"));
                    return Ok(Some((init.ok_or_else(broken)?, created)));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.failed("readlinkat", name, errno)),
            }
        }
        Ok(None)
    }

    /// The init process on record once create has succeeded.
    pub fn created_init(&self) -> Result<Option<Init>> {
        Ok(self.init_link()?.filter(|(_, created)| *created).map(|(init, _)| init))
    }

    /// The init process on record.
    pub fn init(&self) -> Result<Option<Init>> {
        Ok(self.init_link()?.map(|(init, _)| init))
    }

    /// The container's status, asked from the kernel: is init alive, does it still
    /// hold the fifo that `start` writes to, is the cgroup frozen.
    pub fn status(&self, cgroup: &cgroup::Record) -> Result<(Status, Option<Init>)> {
        let (status, living) = self.look(cgroup)?;
        Ok((status, living.map(|(init, _)| init)))
    }

    /// The same, with a pidfd of init while it is alive.
    pub fn look(&self, cgroup: &cgroup::Record) -> Result<(Status, Option<(Init, OwnedFd)>)> {
        let (status, living) = self.look_at_process()?;
        let status = match status {
            Status::Running if self.waits_for_start()? => Status::Created,
            Status::Running if cgroup.is_frozen()? => Status::Paused,
            other => other,
        };
        Ok((status, living))
    }

    /// The same as far as the process alone tells it: what is created or paused runs, too.
    pub fn look_at_process(&self) -> Result<(Status, Option<(Init, OwnedFd)>)> {
        let Some((init, created)) = self.init_link()? else {
            return Ok((if self.is_locked() { Status::Creating } else { Status::Stopped }, None));
        };
        let Some(pidfd) = init.pidfd()? else { return Ok((Status::Stopped, None)) };
        Ok((if created { Status::Running } else { Status::Creating }, Some((init, pidfd))))
    }

    /// Opens the fifo to the child; `None` when nobody reads it (it has executed the program).
    pub fn open_start_fifo(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.dir, "start", flags, Mode::empty()) {
            Ok(fifo) => Ok(Some(fifo)),
            Err(Errno::NXIO | Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("openat", "start", errno)),
        }
    }

    fn waits_for_start(&self) -> Result<bool> {
        Ok(self.open_start_fifo()?.is_some())
    }
}

/// The ids of all containers under `root`, sorted.
pub fn ids(root: &Path) -> Result<Vec<ContainerId>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
            return Err(Error::sys("--root", format!("open({:?})", root.display()), errno));
        }
    };
    let ids = entries.flatten().filter_map(|entry| ContainerId::new(&entry.file_name().to_string_lossy()).ok());
    let mut ids: Vec<ContainerId> = ids.collect();
    ids.sort();
    Ok(ids)
}

/// The state as the specification shows it, for hooks and for the `state` verb.
#[must_use]
pub fn state_json(record: &Record<'_>, status: Status, pid: Option<i32>) -> serde_json::Map<String, serde_json::Value> {
    let mut map = serde_json::Map::new();
    map.insert("ociVersion".into(), Cow::from(&*record.oci_version).into());
    map.insert("id".into(), Cow::from(&*record.id).into());
    map.insert("pid".into(), pid.unwrap_or(0).into());
    map.insert("status".into(), status.as_str().into());
    map.insert("bundle".into(), Cow::from(&*record.bundle).into());
    let annotations = record.annotations.iter().map(|(k, v)| (k.to_string(), Cow::from(&**v).into())).collect();
    map.insert("annotations".into(), serde_json::Value::Object(annotations));
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_letters_digits_and_four_signs() {
        for good in ["a", "A-1_b+c.d", "0", &"x".repeat(255)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "a\n", "ä", "a\0", &"x".repeat(256)] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_claimed_id_is_taken_until_it_is_removed() {
        let root = std::env::temp_dir().join(format!("xebec-state-{}", std::process::id()));
        let id = ContainerId::new("c").expect("valid");
        let container = Container::claim(&root, &id).expect("free");
        container.write_new("state.json", b"{").expect("written");
        assert_eq!(Container::claim(&root, &id).expect_err("taken").kind(), Kind::Exists);
        assert_eq!(ids(&root).expect("listed"), std::slice::from_ref(&id));
        let text = container.record_text().expect("read");
        assert!(Container::parse(&text).is_none(), "half a record is none");
        container.remove().expect("removed");
        assert_eq!(Container::open(&root, &id).expect_err("gone").kind(), Kind::NoSuchContainer);
        std::fs::remove_dir(&root).expect("empty");
    }
}
