//! Calls that set one property of the calling process.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::raw::syscall;

/// prctl(2) with one argument, for the options rustix lacks.
fn prctl(option: i32, arg: u64) -> Result<(), Errno> {
    // SAFETY: the options used here take numbers, not pointers.
    unsafe { syscall!(libc::SYS_prctl, option, arg, 0, 0, 0) }?;
    Ok(())
}

/// Takes capability `number` out of the bounding set; `Ok(false)` when the kernel knows no such number.
pub fn drop_bounding(number: u32) -> Result<bool, Errno> {
    match prctl(libc::PR_CAPBSET_DROP, u64::from(number)) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Raises capability `number` in the ambient set.
pub fn raise_ambient(number: u32) -> Result<(), Errno> {
    // SAFETY: PR_CAP_AMBIENT takes numbers only.
    unsafe { syscall!(libc::SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) }?;
    Ok(())
}

/// Is capability `number` in the bounding set? One that the kernel does not know is not.
pub fn in_bounding(number: u32) -> Result<bool, Errno> {
    // SAFETY: PR_CAPBSET_READ takes a number only.
    match unsafe { syscall!(libc::SYS_prctl, libc::PR_CAPBSET_READ, number, 0, 0, 0) } {
        Err(Errno::INVAL) => Ok(false),
        answer => Ok(answer? == 1),
    }
}

/// The three sets of capset(2), one bit for each capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// capset(2) for the calling thread.
pub fn capset(sets: CapSets) -> Result<(), Errno> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let half = |shift: u32| {
        [(sets.effective >> shift) as u32, (sets.permitted >> shift) as u32, (sets.inheritable >> shift) as u32]
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two triples of u32; a kernel that does not know it writes its own into the header.
    unsafe { syscall!(libc::SYS_capset, &raw mut header, data.as_ptr()) }?;
    Ok(())
}

/// capget(2) of the calling thread.
pub fn capget() -> Result<CapSets, Errno> {
    let mut header = CapHeader { version: CAP_VERSION_3, pid: 0 };
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 writes two triples of u32 into `data`; for the header see `capset`.
    unsafe { syscall!(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) }?;
    let join = |i: usize| u64::from(data[0][i]) | u64::from(data[1][i]) << 32;
    Ok(CapSets { effective: join(0), permitted: join(1), inheritable: join(2) })
}

/// personality(2).
pub fn personality(persona: u32) -> Result<(), Errno> {
    // SAFETY: takes a number only.
    unsafe { syscall!(libc::SYS_personality, persona) }?;
    Ok(())
}

/// ioprio_set(2) for the calling process.
pub fn ioprio_set(value: u32) -> Result<(), Errno> {
    // SAFETY: IOPRIO_WHO_PROCESS (1) with id 0 is the caller; numbers only.
    unsafe { syscall!(libc::SYS_ioprio_set, 1, 0, value) }?;
    Ok(())
}

/// `struct sched_attr` of sched_setattr(2); times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) for the calling thread.
pub fn sched_setattr(attr: &SchedAttr) -> Result<(), Errno> {
    let mut attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` carries its own size, which a kernel that knows less writes its own into (E2BIG).
    unsafe { syscall!(libc::SYS_sched_setattr, 0, &raw mut attr, 0) }?;
    Ok(())
}

/// sched_setaffinity(2) for the calling thread; the kernel leaves out CPUs it does not have.
pub fn sched_setaffinity(mask: &[u64; 128]) -> Result<(), Errno> {
    // SAFETY: pointer and size describe one readable array.
    unsafe { syscall!(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) }?;
    Ok(())
}

/// set_mempolicy(2) with a mask of up to 1024 nodes.
pub fn set_mempolicy(mode: i32, nodes: &[u64; 16]) -> Result<(), Errno> {
    let any = nodes.iter().any(|&word| word != 0);
    let (mask, bits) = if any { (nodes.as_ptr(), 1024usize + 1) } else { (std::ptr::null(), 0) };
    // SAFETY: the mask is NULL or 1024 readable bits; the kernel reads maxnode - 1 of them.
    unsafe { syscall!(libc::SYS_set_mempolicy, mode, mask, bits) }?;
    Ok(())
}

/// A new session keyring with this name, which processes of other users do not see (keyctl(2)).
pub fn join_session_keyring(name: &std::ffi::CStr) -> Result<i32, Errno> {
    // SAFETY: the name is NUL-terminated; KEYCTL_JOIN_SESSION_KEYRING is 1.
    let serial = unsafe { syscall!(libc::SYS_keyctl, 1, name.as_ptr()) }?;
    Ok(serial as i32)
}

/// setdomainname(2).
pub fn setdomainname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe one readable slice.
    unsafe { syscall!(libc::SYS_setdomainname, name.as_ptr(), name.len()) }?;
    Ok(())
}

/// The namespace type (`CLONE_NEW*`) behind an nsfs fd; ENOTTY when it is none.
pub fn ns_type(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = unsafe {
        syscall!(libc::SYS_ioctl, fd.as_raw_fd(), 0xb703 /* NS_GET_NSTYPE */)
    }?;
    Ok(kind as u64)
}

/// The inode number of the namespace of one kind (`CLONE_NEW*`) that the process behind
/// `pidfd` is in; ENOTTY or EINVAL before kernel 6.11.
pub fn namespace_inode(pidfd: BorrowedFd<'_>, kind: u64) -> Result<u64, Errno> {
    // _IO(PIDFS_IOCTL_MAGIC, n) of linux/pidfd.h.
    let request: libc::c_ulong = match kind as i32 {
        libc::CLONE_NEWCGROUP => 0xff01,
        libc::CLONE_NEWIPC => 0xff02,
        libc::CLONE_NEWNS => 0xff03,
        libc::CLONE_NEWNET => 0xff04,
        libc::CLONE_NEWPID => 0xff05,
        0x80 /* CLONE_NEWTIME */ => 0xff07,
        libc::CLONE_NEWUSER => 0xff09,
        libc::CLONE_NEWUTS => 0xff0a,
        _ => return Err(Errno::INVAL),
    };
    // SAFETY: these requests take no argument.
    let fd = unsafe { syscall!(libc::SYS_ioctl, pidfd.as_raw_fd(), request, 0) }?;
    // SAFETY: the kernel has just given us this fd (close-on-exec), and nobody else knows it.
    let namespace = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    Ok(rustix::fs::fstat(&namespace)?.st_ino)
}

/// setns(2) into the namespace(s) of `fd`; `kind` is the expected `CLONE_NEW*`.
pub fn setns(fd: BorrowedFd<'_>, kind: u64) -> Result<(), Errno> {
    // SAFETY: takes an open fd and a number.
    unsafe { syscall!(libc::SYS_setns, fd.as_raw_fd(), kind) }?;
    Ok(())
}

/// unshare(2).
pub fn unshare(flags: u64) -> Result<(), Errno> {
    // SAFETY: only namespace flags are passed, which move no memory or fd table.
    unsafe { syscall!(libc::SYS_unshare, flags) }?;
    Ok(())
}

/// The soft and the hard limit of the calling process, with a raw resource number (prlimit(2)).
pub fn getrlimit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = [0u64; 2];
    // SAFETY: the kernel writes two u64 (rlim_cur, rlim_max) and reads nothing.
    unsafe { syscall!(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u64>(), limit.as_mut_ptr()) }?;
    Ok((limit[0], limit[1]))
}

/// prlimit(2) of the calling process with a raw resource number.
pub fn prlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: the kernel reads two u64 (rlim_cur, rlim_max) and writes nothing back.
    unsafe { syscall!(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), std::ptr::null_mut::<u64>()) }?;
    Ok(())
}
