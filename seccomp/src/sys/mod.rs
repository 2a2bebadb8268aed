//! seccomp(2), the only unsafe code of the crate. Knows no profile.

use crate::bpf::Instruction;
use crate::load::Errno;
use crate::parse::{FLAG_NEW_LISTENER, FLAG_TSYNC};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

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
        // SAFETY: errno is this thread's own and always readable.
        return Err(Errno(unsafe { *libc::__errno_location() }));
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
