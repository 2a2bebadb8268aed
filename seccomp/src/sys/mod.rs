//! seccomp(2) and its ioctls, the only unsafe code of the crate. Knows no profile.

use crate::bpf::{Call, Instruction};
use crate::load::Errno;
use crate::notify::Notification;
use crate::parse::{FLAG_NEW_LISTENER, FLAG_TSYNC};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

// The kernel reads the program as an array of sock_filter.
const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

/// seccomp(SECCOMP_SET_MODE_FILTER). The listener is close-on-exec, as the
/// kernel makes it.
pub(crate) fn seccomp_set_mode_filter(flags: u32, program: &[Instruction]) -> Result<Option<OwnedFd>, Errno> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Errno(libc::EINVAL));
    };
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `prog` points to `len` instructions laid out as sock_filter (the
    // assertions above, repr(C)); the kernel copies them and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER as libc::c_uint,
            flags as libc::c_ulong,
            &raw const prog,
        )
    };
    if result < 0 {
        return Err(errno());
    }
    if flags & FLAG_NEW_LISTENER != 0 {
        // SAFETY: with NEW_LISTENER a result that is not an error is a new
        // descriptor that nobody else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(result as RawFd) }));
    }
    // TSYNC without TSYNC_ESRCH tells the thread that could not be joined.
    if flags & FLAG_TSYNC != 0 && result > 0 {
        return Err(Errno(libc::ESRCH));
    }
    Ok(None)
}

/// Whether the kernel knows flags of SECCOMP_SET_MODE_FILTER: it looks at them
/// before the program, of which there is none (EFAULT).
pub(crate) fn knows_flags(flags: u32) -> bool {
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel copies from the null pointer, which fails, and writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER as libc::c_uint, flags as libc::c_ulong, nothing)
    };
    result < 0 && errno() == Errno(libc::EFAULT)
}

/// A kernel may write more than the struct of today (seccomp_unotify(2)).
#[repr(C)]
struct Notif {
    known: libc::seccomp_notif,
    more: [u64; 64],
}

/// ioctl(SECCOMP_IOCTL_NOTIF_RECV).
pub(crate) fn notif_recv(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    const RECV: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif>(b'!' as u32, 0);
    // SAFETY: the struct is plain integers, for which zeros are values; the
    // kernel wants it zeroed.
    let mut notif: Notif = unsafe { std::mem::zeroed() };
    // SAFETY: `notif` has room for what the kernel writes.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECV, &raw mut notif) } < 0 {
        return Err(errno());
    }
    let libc::seccomp_notif { id, pid, data, .. } = notif.known;
    let call =
        Call { nr: data.nr as u32, arch: data.arch, instruction_pointer: data.instruction_pointer, args: data.args };
    Ok(Notification { id, pid, call })
}

/// ioctl(SECCOMP_IOCTL_NOTIF_SEND) with SECCOMP_USER_NOTIF_FLAG_CONTINUE.
pub(crate) fn notif_continue(listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    const SEND: libc::Ioctl = libc::_IOWR::<libc::seccomp_notif_resp>(b'!' as u32, 1);
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    // SAFETY: the kernel reads one seccomp_notif_resp.
    if unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut answer) } < 0 {
        return Err(errno());
    }
    Ok(())
}

fn errno() -> Errno {
    // SAFETY: errno is this thread's own and always readable.
    Errno(unsafe { *libc::__errno_location() })
}
