//! Protection of the runtime's own binary (CVE-2019-5736).
//!
//! A process in a container can reach the runtime's executable through
//! /proc/PID/exe while the runtime, or what it was cloned from, is in its sight.
//! So none of our processes near a container may run from a file that can be
//! written through that link: the binary lies on a read-only mount, or is run
//! again from one, or from a sealed copy.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, memfd_create, openat,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Result};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::process::{self, StringVector};

const EXE: &CStr = c"/proc/self/exe";
/// Tells the second start when the first began, in nanoseconds of CLOCK_MONOTONIC.
pub const BEGUN: &str = "XEBEC_TIMINGS_BEGUN";
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Makes sure that nobody can write the running binary through /proc/PID/exe;
/// runs it again where it must. Call it before anything else is open or made.
///
/// On a read-only mount there is nothing to do. Otherwise it is run from a clone of
/// the mount, made read-only and never attached, which lives as long as the process
/// executed from it. Without the right to make one (an ordinary user, a user
/// namespace) it is run from a sealed copy in memory (memfd_create(2)).
pub fn protect() -> Result<()> {
    protect_telling(None)
}

/// [`protect`], with `begun` passed on as [`BEGUN`] to the second start.
pub fn protect_telling(begun: Option<u64>) -> Result<()> {
    if is_read_only()? {
        return Ok(());
    }
    let exe = match read_only_clone() {
        // EINVAL is also what a sealed copy gives, which is on no mount of ours.
        Err(Errno::PERM | Errno::NOSYS | Errno::INVAL) if is_sealed()? => return Ok(()),
        Err(Errno::PERM | Errno::NOSYS | Errno::INVAL) => {
            sealed_copy().map_err(|errno| failed("memfd_create", errno))?
        }
        other => other.map_err(|errno| failed("open_tree", errno))?,
    };
    Err(failed("execveat", process::fexecve(exe.as_fd(), &arguments()?, &environment(begun))))
}

/// The environment as we got it, with [`BEGUN`].
fn environment(begun: Option<u64>) -> StringVector {
    let others = std::env::vars_os().filter(|(name, _)| name.as_bytes() != BEGUN.as_bytes());
    let mut lines: Vec<Vec<u8>> =
        others.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();
    lines.extend(begun.map(|time| format!("{BEGUN}={time}").into_bytes()));
    StringVector::new(lines.into_iter().filter_map(|line| CString::new(line).ok()).collect())
}

/// argv exactly as we got it: proc(5) keeps it, ending each word with NUL.
fn arguments() -> Result<StringVector> {
    let item = "protection of the xebec binary";
    let failed = |call: &str, errno| Error::sys(item, format!("{call}(\"/proc/self/cmdline\")"), errno);
    let file = openat(CWD, c"/proc/self/cmdline", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("openat", errno))?;
    // procfs gives no size; a usual line comes in one piece.
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        match rustix::io::read(&file, &mut bytes[filled..]).map_err(|errno| failed("read", errno))? {
            0 => break,
            read => filled += read,
        }
        if filled < bytes.len() {
            break;
        }
        bytes.resize(2 * filled, 0);
    }
    let strings = bytes[..filled].split_inclusive(|&b| b == 0).filter_map(|s| CStr::from_bytes_with_nul(s).ok());
    Ok(StringVector::new(strings.map(CStr::to_owned).collect()))
}

fn failed(call: &str, errno: Errno) -> Error {
    Error::sys("protection of the xebec binary", format!("{call}(\"/proc/self/exe\")"), errno)
        .hint("install xebec on a read-only mount, and this step is not needed")
}

fn is_read_only() -> Result<bool> {
    let fs = rustix::fs::statvfs(EXE).map_err(|errno| failed("statfs", errno))?;
    Ok(fs.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn is_sealed() -> Result<bool> {
    let exe =
        openat(CWD, EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed("openat", errno))?;
    Ok(fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SEALS)))
}

/// The fd is CLOEXEC and dies with this execve: while a copy of it lived, a
/// privileged container could make the clone writable again.
fn read_only_clone() -> std::result::Result<OwnedFd, Errno> {
    let tree = open_tree(CWD, EXE, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), false, &attr)?;
    Ok(tree)
}

fn sealed_copy() -> std::result::Result<OwnedFd, Errno> {
    let exe = openat(CWD, EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // MFD_EXEC (6.3) satisfies vm.memfd_noexec; older kernels refuse the unknown flag.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match memfd_create(c"xebec", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(c"xebec", flags)?,
        other => other?,
    };
    while rustix::fs::sendfile(&copy, &exe, None, 1 << 30)? > 0 {}
    fcntl_add_seals(&copy, SEALS)?;
    Ok(copy)
}
