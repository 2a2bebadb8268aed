//! An agent's side of SCMP_ACT_NOTIFY: calls that wait at a listener, one by
//! one. For agents that watch; answers other than "go on" are not made here.

use crate::bpf::Call;
use crate::load::Errno;
use crate::sys;
use std::os::fd::BorrowedFd;

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The kernel's name for it, for [`proceed`].
    pub id: u64,
    /// The thread that waits, as the agent's PID namespace numbers it; 0 if it
    /// does not.
    pub pid: u32,
    /// The call.
    pub call: Call,
}

/// Takes the next call that waits at `listener`; waits for one. The listener
/// comes from [`load`](crate::load), and can be asked by poll(2): POLLIN says
/// that a call waits, POLLHUP that no process has the filter any more (Linux
/// 5.9).
///
/// # Errors
///
/// `ENOENT`: the call was given up meanwhile, by a signal or the end of its
/// process. `EINTR`: a signal of the agent's.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    sys::notif_recv(listener)
}

/// Lets a call go on as if there were no filter (Linux 5.5). What the agent saw
/// of its memory may have changed since: this is for watching, not for
/// permitting (seccomp_unotify(2)).
///
/// # Errors
///
/// `ENOENT`: the call was given up meanwhile.
pub fn proceed(listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    sys::notif_continue(listener, id)
}

/// Whether the running kernel takes SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
/// (Linux 5.19): a call that an agent has taken is then given up for a fatal
/// signal only.
pub fn has_wait_killable() -> bool {
    sys::knows_flags(crate::parse::FLAG_NEW_LISTENER | crate::parse::FLAG_WAIT_KILLABLE_RECV)
}
