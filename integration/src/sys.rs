//! The suite's only unsafe code.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that recvmsg(2) delivered as SCM_RIGHTS.
/// Call it once for each received number.
pub fn own_received(descriptor: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) has just installed this descriptor in our table, and nobody else holds its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
