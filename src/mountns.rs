//! A mount namespace that holds nothing, made once and kept by a bind mount of its nsfs file. While it is there, containers
//! are made from it instead of from a copy of every mount of the host (docs/decisions/small-mount-namespace.md).
//!
//! The administrator makes and removes it; no other verb does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, fstatfs, mkdirat, openat, openat2, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::{
    FsOpenFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsopen, move_mount, unmount,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::{Error, Result};
use crate::sys::mount::{MountAttr, fsmount, mount, mount_setattr, pivot_root_here};
use crate::sys::{process, settings};

/// A tmpfs of its own: the file of a mount namespace can only be bound where the mount is private.
const DIRECTORY: &str = "/run/xebec-mountns";
/// The nsfs file of the mount namespace.
pub const PIN: &str = "/run/xebec-mountns/pin";

const NSFS_MAGIC: u64 = 0x6e73_6673;

const CURE: &str = "xebec mountns unpin, then xebec mountns pin";

/// Has the administrator made it? One look, at each create. A file that nothing is bound on yet is that of a `pin` on its way,
/// or of one that was killed.
pub fn is_pinned() -> Result<bool> {
    match open_file() {
        Ok(file) => {
            let about = fstatfs(&file).map_err(|errno| failed("fstatfs", PIN, errno))?;
            Ok(about.f_type as u64 == NSFS_MAGIC)
        }
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("openat2", PIN, errno)),
    }
}

/// Opens it. Only who may mount in the host's mount namespace can have put one there.
pub fn open() -> Result<OwnedFd> {
    let pin = open_file().map_err(|errno| failed("openat2", PIN, errno))?;
    match settings::ns_type(pin.as_fd()) {
        Ok(kind) if kind == libc::CLONE_NEWNS as u64 => Ok(pin),
        _ => Err(Error::invalid("mount namespace", format!("{PIN:?} is not one")).hint(CURE)),
    }
}

fn open_file() -> std::result::Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    retry_on_intr(|| openat2(CWD, PIN, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// Makes it; nothing is done where it is there already.
pub fn pin() -> Result<()> {
    if is_pinned()? {
        return open().map(drop);
    }
    refuse_user_namespace()?;
    // What a killed one has left.
    unpin()?;
    match mkdirat(CWD, DIRECTORY, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("mkdir", DIRECTORY, errno)),
    }
    fill_directory().map_err(|error| match unpin() {
        Ok(()) => error,
        Err(left) => error.note(&format!("and {left}")),
    })
}

/// Removes it; what is not there is removed already. Containers that were made from it keep what they have.
pub fn unpin() -> Result<()> {
    for path in [PIN, DIRECTORY] {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // EINVAL: there is no mount.
            Ok(()) | Err(Errno::NOENT | Errno::INVAL) => {}
            Err(errno) => return Err(failed("umount2", path, errno)),
        }
    }
    match unlinkat(CWD, DIRECTORY, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("rmdir", DIRECTORY, errno)),
    }
}

fn failed(call: &str, path: &str, errno: Errno) -> Error {
    Error::sys("mount namespace", format!("{call}({path:?})"), errno)
}

/// There a new /proc takes one that is in sight already (mount_namespaces(7)), and here is none.
fn refuse_user_namespace() -> Result<()> {
    let path = "/proc/self/uid_map";
    let map = std::fs::read_to_string(path)
        .map_err(|error| failed("open", path, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    match map.split_ascii_whitespace().eq(["0", "0", "4294967295"]) {
        true => Ok(()),
        false => {
            Err(Error::invalid("mount namespace", "in a user namespace no container can be made from an empty one")
                .hint("run xebec mountns pin on the host itself"))
        }
    }
}

/// The private tmpfs, and in it the file that keeps the namespace.
fn fill_directory() -> Result<()> {
    let place =
        openat(CWD, DIRECTORY, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("openat", DIRECTORY, errno))?;
    let keep = tmpfs(0).map_err(|errno| failed("mount", DIRECTORY, errno))?;
    attach(keep.as_fd(), place.as_fd()).map_err(|errno| failed("move_mount", DIRECTORY, errno))?;
    let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    mount_setattr(keep.as_fd(), false, &private).map_err(|errno| failed("mount_setattr", DIRECTORY, errno))?;
    openat(&keep, c"pin", OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
        .map_err(|errno| failed("openat", PIN, errno))?;
    keep_namespace()
}

/// The kernel binds the file of a younger mount namespace only, and takes for younger what has a higher number. Where each
/// CPU has a supply of numbers of its own (6.18), that goes by the CPU on which a namespace is made: all are tried.
fn keep_namespace() -> Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)
        .map_err(|errno| Error::sys("mount namespace", "sched_getaffinity", errno))?;
    let cpus = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let mut result = Err(Error::invalid("mount namespace", "no CPU to make it on"));
    for cpu in cpus {
        result = keep_namespace_of(cpu);
        if !matches!(&result, Err(error) if error.errno() == Some(Errno::INVAL)) {
            break;
        }
    }
    result
}

/// A process makes the namespace, on this CPU, and lives until its file is bound.
fn keep_namespace_of(cpu: usize) -> Result<()> {
    let failed = |call: &str, errno| Error::sys("mount namespace", call, errno);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("socketpair", errno))?;
    let ours_number = process::number(ours.as_fd());
    let maker = process::clone3(0, None, || {
        let closed = process::close_one(ours_number);
        let word = match closed.and_then(|()| become_empty(cpu)) {
            Ok(()) => 0,
            Err(errno) => errno.raw_os_error(),
        };
        let told = send(&theirs, &word.to_ne_bytes(), SendFlags::NOSIGNAL);
        let released = retry_on_intr(|| recv(&theirs, &mut [0u8; 1][..], RecvFlags::empty()));
        i32::from(told.is_err() || released.is_err())
    })
    .map_err(|errno| failed("clone3", errno))?;
    drop(theirs);
    let mut word = [0u8; 4];
    let made = match retry_on_intr(|| recv(&ours, &mut word[..], RecvFlags::empty())) {
        Ok((4, _)) => match i32::from_ne_bytes(word) {
            0 => bind_file(maker.pid.as_raw_nonzero().get()),
            errno => {
                Err(failed("unshare(mount), and empty the copy of the host's mounts", Errno::from_raw_os_error(errno)))
            }
        },
        Ok(_) => Err(Error::invalid("mount namespace", "the process that makes it has died")),
        Err(errno) => Err(failed("recv", errno)),
    };
    drop(ours);
    retry_on_intr(|| waitid(WaitId::PidFd(maker.pidfd.as_fd()), WaitIdOptions::EXITED))
        .map_err(|errno| failed("waitid", errno))?;
    made
}

/// mount(2), because move_mount(2) refuses files of mount namespaces.
fn bind_file(pid: i32) -> Result<()> {
    let text = |path: String| std::ffi::CString::new(path).map_err(|_| Error::invalid("mount namespace", "a NUL byte"));
    let source = format!("/proc/{pid}/ns/mnt");
    mount(&text(source.clone())?, &text(PIN.to_owned())?, c"none", libc::MS_BIND, c"")
        .map_err(|errno| Error::sys("mount namespace", format!("mount({source:?}, {PIN:?}, MS_BIND)"), errno))
}

/// In a copy of the host's mounts, made on this CPU: an empty read-only tmpfs becomes the root, all others go.
fn become_empty(cpu: usize) -> std::result::Result<(), Errno> {
    let mut only = rustix::thread::CpuSet::new();
    only.set(cpu);
    rustix::thread::sched_setaffinity(None, &only)?;
    settings::unshare(libc::CLONE_NEWNS as u64)?;
    let root = openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    mount_setattr(root.as_fd(), true, &private)?;
    let empty =
        tmpfs(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC)?;
    attach(empty.as_fd(), root.as_fd())?;
    rustix::process::fchdir(&empty)?;
    pivot_root_here()?;
    rustix::process::fchdir(&root)?;
    unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn attach(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    move_mount(tree, c"", place, c"", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH)
}

/// A tmpfs for one file, of root alone.
fn tmpfs(attributes: u64) -> std::result::Result<OwnedFd, Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [(c"source", c"xebec"), (c"mode", c"0700"), (c"size", c"4096"), (c"nr_inodes", c"2")] {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_create(&context)?;
    fsmount(context.as_fd(), attributes)
}
