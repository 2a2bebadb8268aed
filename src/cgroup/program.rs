//! The device program of a cgroup v2: fetched from bpffs, or loaded and pinned there.
//!
//! Loading takes time linear in the rules; a pinned program costs one call. Nothing
//! is ever detached: rmdir of the cgroup does that.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::dir::Dir;
use crate::error::{Error, Result};
use crate::sys::bpf::{self, Insn};

const ITEM: &str = "linux.resources.devices";
const BPFFS: &str = "/sys/fs/bpf";
const PINS: &str = "/sys/fs/bpf/xebec";
/// BPF_FS_MAGIC of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Puts `program` in force for `cgroup`. `Ok(false)` if the kernel refuses programs
/// (bpf(2) gives EPERM) and `may_be_missing` allows that.
pub fn attach(cgroup: &Dir, program: &[Insn], pin: &str, may_be_missing: bool) -> Result<bool> {
    let fd = match fetch(program, pin) {
        Ok(fd) => fd,
        Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) if may_be_missing => return Ok(false),
        Err(errno) => return Err(load_error(program.len(), errno)),
    };
    match bpf::prog_attach_cgroup_device(cgroup.as_fd(), fd.as_fd()) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS) if may_be_missing => Ok(false),
        Err(errno) => {
            let call = format!("bpf(BPF_PROG_ATTACH, {:?}, BPF_CGROUP_DEVICE)", cgroup.path);
            Err(Error::sys(ITEM, call, errno))
        }
    }
}

fn load_error(instructions: usize, errno: Errno) -> Error {
    let error = Error::sys(ITEM, format!("bpf(BPF_PROG_LOAD, {instructions} instructions)"), errno);
    match errno {
        Errno::PERM => error.hint("loading a device program takes CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN"),
        Errno::NOSYS => error.hint("the kernel lacks CONFIG_BPF_SYSCALL"),
        Errno::INVAL => error.hint("the kernel may lack CONFIG_CGROUP_BPF"),
        _ => error,
    }
}

fn fetch(program: &[Insn], pin: &str) -> Result<OwnedFd, Errno> {
    let Some(pins) = trusted_pins() else { return load(program) };
    let path = CString::new(format!("{pins}/{pin}")).map_err(|_| Errno::INVAL)?;
    // Whatever keeps the pinned program from being used, loading still works.
    if let Ok(fd) = bpf::obj_get(&path) {
        return Ok(fd);
    }
    let fd = load(program)?;
    match bpf::obj_pin(fd.as_fd(), &path) {
        // Another create was faster (EEXIST), or there is no room: only the cache suffers.
        Ok(()) | Err(_) => Ok(fd),
    }
}

/// The directory of the pins, made if need be; `None` where bpffs is not mounted or
/// somebody else could have put a program there.
fn trusted_pins() -> Option<&'static str> {
    let own = || {
        let stat = rustix::fs::statat(CWD, PINS, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let mode = rustix::fs::RawMode::from(stat.st_mode as rustix::fs::RawMode);
        let private = mode & 0o170_777 == 0o040_700;
        (private && stat.st_uid == rustix::process::geteuid().as_raw()).then_some(PINS)
    };
    if let Some(pins) = own() {
        return Some(pins);
    }
    let fs = rustix::fs::statfs(BPFFS).ok()?;
    if fs.f_type as u64 != BPF_FS_MAGIC {
        return None;
    }
    rustix::fs::mkdirat(CWD, PINS, Mode::RWXU).ok()?;
    own()
}

/// Loads the program. Kernels before 5.11 count it against RLIMIT_MEMLOCK and say
/// EPERM; only then is the limit lifted, for the time of the call.
fn load(program: &[Insn]) -> Result<OwnedFd, Errno> {
    let errno = match load_undisturbed(program) {
        Err(errno @ (Errno::PERM | Errno::NOMEM)) => errno,
        other => return other,
    };
    let before = getrlimit(Resource::Memlock);
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        return Err(errno);
    }
    let again = load_undisturbed(program);
    // The container must not inherit the lifted limit.
    setrlimit(Resource::Memlock, before)?;
    again
}

/// The verifier gives up with EAGAIN when a signal waits, such as that of a child which has just failed.
fn load_undisturbed(program: &[Insn]) -> Result<OwnedFd, Errno> {
    let mut loaded = bpf::prog_load_cgroup_device(program);
    for _ in 0..30 {
        match loaded {
            Err(Errno::AGAIN) => loaded = bpf::prog_load_cgroup_device(program),
            other => return other,
        }
    }
    loaded
}
