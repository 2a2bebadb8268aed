//! The last step: a filter into the kernel. Nothing is allocated or formatted,
//! so it may run between fork and execve. no_new_privs is never set here.

use crate::filter::Filter;
use crate::sys;
use std::os::fd::OwnedFd;

/// An error number of the kernel, as errno(3) lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        std::io::Error::from_raw_os_error(errno.0)
    }
}

/// Makes the filter that of the calling thread (of every thread, with
/// SECCOMP_FILTER_FLAG_TSYNC) by one call of seccomp(2). Gives the listener,
/// close-on-exec, when the profile uses SCMP_ACT_NOTIFY.
///
/// From its return on, the thread's calls are judged: whatever the caller does
/// next, execve(2) included, must be allowed by the profile.
///
/// # Errors
///
/// * `EACCES`: neither no_new_privs nor CAP_SYS_ADMIN in the thread's user
///   namespace.
/// * `EINVAL`: a flag the kernel does not know (LOG before 4.14, SPEC_ALLOW
///   before 4.17, NEW_LISTENER before 5.0, TSYNC_ESRCH before 5.7,
///   WAIT_KILLABLE_RECV before 5.19).
/// * `EBUSY`: NEW_LISTENER, but a filter of the thread already has a listener.
/// * `ESRCH`: TSYNC, but a thread has other filters.
/// * `ENOMEM`: over 32768 instructions in all filters of the thread together.
/// * `ENOSYS`: no seccomp(2), before Linux 3.17.
pub fn load(filter: &Filter) -> Result<Option<OwnedFd>, Errno> {
    sys::seccomp_set_mode_filter(filter.flags, &filter.program)
}
