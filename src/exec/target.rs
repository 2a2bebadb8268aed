//! The container to enter: its init, its namespaces, its cgroup.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::{Errno, retry_on_intr};

use crate::cgroup::Join;
use crate::config::Config;
use crate::config::words::NAMESPACES;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::{Namespaces, plan_namespaces};
use crate::state::{Container, ContainerId, Init, Record, Status};
use crate::sys::{process, settings};

use super::wrong_state;

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// A living container.
#[derive(Debug)]
pub struct Target {
    pub container: Container,
    record_text: Option<Vec<u8>>,
    init: Init,
    pidfd: OwnedFd,
}

/// How the namespaces are entered.
#[derive(Debug)]
pub struct Entering {
    pub configured: Namespaces,
    /// `CLONE_NEW*`, before clone3: only later children come into a PID namespace.
    pub by_parent: u64,
    /// `CLONE_NEW*`, after it.
    pub by_child: u64,
    /// The container has a user namespace.
    pub user: bool,
}

impl Target {
    /// Finds a container that can be entered: created, running, or paused where that is said to be right.
    pub fn find(root: &Path, id: &ContainerId, ignore_paused: bool) -> Result<Target> {
        let container = Container::open(root, id)?;
        let record_text = container.record_text()?;
        let record = container.finished(&record_text)?;
        let (init, pidfd) = match container.look_at_process()? {
            (Status::Running, Some(_)) if !ignore_paused && record.cgroup.is_frozen()? => {
                return Err(wrong_state(container.item(), "cannot exec in a paused container")
                    .hint("resume it first, or use --ignore-paused: the process then runs when it is resumed"));
            }
            (Status::Running, Some(living)) => living,
            (Status::Creating, _) => return Err(wrong_state(container.item(), "its create has not finished")),
            _ => {
                return Err(wrong_state(container.item(), "cannot exec in a stopped container: container not running"));
            }
        };
        Ok(Target { container, record_text, init, pidfd })
    }

    /// state.json's content.
    pub fn record(&self) -> Result<Record<'_>> {
        self.container.finished(&self.record_text)
    }

    /// The config that the container was created with, never the bundle's as it is now.
    pub fn config_text(&self) -> Result<String> {
        let bytes = self.container.read("config.json")?;
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
            Error::invalid(self.container.item(), "its config.json is not in the state directory any more")
        })
    }

    /// Another handle of init.
    pub fn pidfd(&self) -> Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.pidfd, 3)
            .map_err(|errno| Error::sys(self.container.item(), "fcntl(F_DUPFD_CLOEXEC)", errno))
    }

    /// Init's pid.
    pub fn pid(&self) -> i32 {
        self.init.pid.as_raw_nonzero().get()
    }

    /// Init's root directory, where it is no mount namespace's.
    pub fn root(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/root", self.pid());
        let root = openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::sys(self.container.item(), format!("openat({path:?})"), errno))?;
        // Alive after it, it is the one that the number was of.
        match self.has_stopped()? {
            true => Err(wrong_state(self.container.item(), "container not running: it stopped meanwhile")),
            false => Ok(root),
        }
    }

    /// The cgroup that init is in now.
    pub fn join_init(&self) -> Result<Join> {
        self.record()?.cgroup.join_init(self.pid().unsigned_abs(), Host::default().cgroups()?)
    }

    /// The namespaces that are not ours: those made for the container, and of the others those that differ.
    ///
    /// The parent joins the PID namespace for the moment of the clone. Without CAP_SYS_ADMIN
    /// it can do so only from inside the user namespace, and then stays there.
    pub fn namespaces(&self, config: &Config<'_>, host: &Host) -> Result<Entering> {
        let configured = plan_namespaces(config)?;
        let mut all = 0;
        let own = process::pidfd_open_self();
        let own = own.as_ref().ok().map(AsFd::as_fd);
        for &(kind, flag) in NAMESPACES {
            if configured.is_new(kind) || self.differs(kind, flag as u64, own)? {
                all |= flag as u64;
            }
        }
        let (user_flag, pid_flag) = (libc::CLONE_NEWUSER as u64, libc::CLONE_NEWPID as u64);
        let mut by_parent = all & pid_flag;
        if by_parent != 0 && all & user_flag != 0 && host.capabilities(CAP_SYS_ADMIN)? == 0 {
            by_parent |= user_flag;
        }
        Ok(Entering { configured, by_parent, by_child: all & !by_parent, user: all & user_flag != 0 })
    }

    /// Is init's namespace of this kind another than ours?
    fn differs(&self, kind: &str, flag: u64, own: Option<BorrowedFd<'_>>) -> Result<bool> {
        // A tenth of the time of the paths below, which a kernel before 6.11 still needs.
        let by_pidfd = |pidfd| settings::namespace_inode(pidfd, flag);
        if let Some((Ok(ours), Ok(theirs))) = own.map(|own| (by_pidfd(own), by_pidfd(self.pidfd.as_fd()))) {
            return Ok(ours != theirs);
        }
        let file = match kind {
            "mount" => "mnt",
            "network" => "net",
            other => other,
        };
        let number = |process: &dyn std::fmt::Display| {
            let path = format!("/proc/{process}/ns/{file}");
            match statat(CWD, &path, AtFlags::empty()) {
                Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
                // A kernel without this kind (time namespaces came with 5.6).
                Err(Errno::NOENT) if !self.has_stopped()? => Ok(None),
                Err(errno) => Err(self.explain(Error::sys("its namespaces", format!("stat({path:?})"), errno))),
            }
        };
        Ok(number(&"self")? != number(&self.pid())?)
    }

    /// Has init ended meanwhile?
    pub fn has_stopped(&self) -> Result<bool> {
        crate::state::has_exited(&self.pidfd)
    }

    /// The same, of an init that seems to be about to: with its PID namespace it first ends all others in it.
    fn is_stopping(&self, patience: Timespec) -> Result<bool> {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut fds, Some(&patience)));
        ready.map(|ready| ready > 0).map_err(|errno| Error::sys(self.container.item(), "poll(pidfd)", errno))
    }

    /// When the container has stopped meanwhile, that is the reason of whatever failed.
    pub fn explain(&self, error: Error) -> Error {
        let stopped = match error.errno() {
            // setns(2) to the namespaces of one that exits, which takes long where the machine is busy.
            Some(Errno::SRCH) => self.is_stopping(Timespec { tv_sec: 5, tv_nsec: 0 }),
            // clone3(2) into its PID namespace. None: a child that died without a word.
            None | Some(Errno::NOMEM) => self.is_stopping(Timespec { tv_sec: 0, tv_nsec: 200_000_000 }),
            _ => self.has_stopped(),
        };
        match stopped {
            Ok(true) => {
                wrong_state(self.container.item(), format!("container not running: it stopped meanwhile ({error})"))
            }
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_later_process_with_the_same_number_is_not_taken() {
        let top = std::env::temp_dir().join(format!("xebec-target-{}", std::process::id()));
        let id = ContainerId::new("c").expect("valid");
        let container = Container::claim(&top, &id).expect("free");
        let own = process::pidfd_open_self().expect("opened");
        let init = Init::of(rustix::process::getpid(), own.as_fd()).expect("alive");
        let target = Target { container, record_text: None, init, pidfd: own };
        assert!(target.root().is_ok());
        // Our number with the handle of one that has ended: as when it was that one's before.
        let ended = process::clone3(0, None, || 0).expect("cloned").pidfd;
        while !crate::state::has_exited(&ended).expect("asked") {}
        let target = Target { pidfd: ended, ..target };
        assert!(target.root().is_err());
        target.container.remove().expect("removed");
        std::fs::remove_dir(&top).expect("empty");
    }

    #[test]
    fn a_pidfd_and_proc_name_the_same_namespaces() {
        let own = process::pidfd_open_self().expect("opened");
        for &(kind, flag) in NAMESPACES {
            let file = match kind {
                "mount" => "mnt",
                "network" => "net",
                other => other,
            };
            let path = format!("/proc/self/ns/{file}");
            match settings::namespace_inode(own.as_fd(), flag as u64) {
                Ok(inode) => assert_eq!(inode, rustix::fs::stat(&path).expect("there").st_ino, "{kind}"),
                Err(errno) => {
                    assert!(matches!(errno, Errno::NOTTY | Errno::INVAL | Errno::OPNOTSUPP), "{kind}: {errno}")
                }
            }
        }
    }
}
