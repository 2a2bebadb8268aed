//! The messages between parent and child, and the child's error record.
//!
//! One SOCK_SEQPACKET pair carries them: the child sends [`Record`]s of a fixed
//! size, the parent answers with single bytes. End of file means that the other
//! side is gone.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
};

use crate::sys::{Call, Fail};

/// Parent to child: the id maps are written.
pub const MAPPED: u8 = b'm';
/// Parent to child: it is in its cgroup v1 directories.
pub const PLACED: u8 = b'p';
/// Parent to child, with a handle of it: the network namespace is made.
pub const NETWORK: u8 = b'n';
/// Parent to child: the network devices are in its network namespace.
pub const EQUIPPED: u8 = b'e';
/// Parent to child: the runtime's hooks have run.
pub const HOOKED: u8 = b'h';
/// Parent to child: the cgroup's limits and device filter are in force.
pub const GO: u8 = b'g';
/// Parent to child (and `start` through the fifo): run the program.
pub const START: u8 = b's';
/// Whoever starts the child to its helper: the agent has the listener.
pub const TAKEN: u8 = b't';

/// The number of a step, in a failure of what comes before the first one.
pub const BEFORE_STEPS: usize = u16::MAX as usize;

/// Bytes of a record on the wire.
pub const RECORD_SIZE: usize = 256;
const HEADER: usize = 12;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A step failed; the child exits.
    Failed = 1,
    /// The mounts are there: the runtime's hooks may run.
    Hooks = 2,
    /// All is done but what belongs to `start`.
    Ready = 3,
    /// The terminal's master side comes with this message.
    Console = 4,
    /// The filter's listener comes with this message; in the fifo, it is about to come through the socket.
    Listener = 5,
}

/// One message of the child.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub kind: Kind,
    /// Number of the step in the plan.
    pub step: u16,
    /// What the step was at: the number of an option, a path, or an exit status.
    pub index: u16,
    pub fail: Fail,
    detail: [u8; RECORD_SIZE - HEADER],
    detail_len: usize,
}

impl Record {
    /// A record without a failure.
    #[must_use]
    pub fn note(kind: Kind) -> Record {
        // Read only in records of failures; there is no errno 0.
        let fail = Fail { call: Call::Execve, errno: Errno::PROTO };
        Record { kind, step: 0, index: 0, fail, detail: [0; RECORD_SIZE - HEADER], detail_len: 0 }
    }

    /// A failure in `step`.
    #[must_use]
    pub fn failed(step: usize, index: u16, fail: Fail, detail: &[u8]) -> Record {
        let mut record = Record::note(Kind::Failed);
        record.step = step as u16;
        record.index = index;
        record.fail = fail;
        record.detail_len = detail.len().min(record.detail.len());
        record.detail[..record.detail_len].copy_from_slice(&detail[..record.detail_len]);
        record
    }

    /// What the kernel or a hook said about it.
    #[must_use]
    pub fn detail(&self) -> &[u8] {
        &self.detail[..self.detail_len]
    }

    /// The record as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0u8; RECORD_SIZE];
        bytes[0] = self.kind as u8;
        bytes[1] = self.detail_len as u8;
        bytes[2..4].copy_from_slice(&(self.fail.call as u16).to_le_bytes());
        bytes[4..6].copy_from_slice(&self.step.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.fail.errno.raw_os_error().to_le_bytes());
        bytes[HEADER..].copy_from_slice(&self.detail);
        bytes
    }

    /// Reads a record; `None` when the bytes are none of ours.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        let bytes: &[u8; RECORD_SIZE] = bytes.try_into().ok()?;
        let kind = match bytes[0] {
            1 => Kind::Failed,
            2 => Kind::Hooks,
            3 => Kind::Ready,
            4 => Kind::Console,
            5 => Kind::Listener,
            _ => return None,
        };
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let errno = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if !(1..4096).contains(&errno) {
            return None;
        }
        let fail = Fail { call: Call::from_number(short(2))?, errno: Errno::from_raw_os_error(errno) };
        let mut record = Record::failed(usize::from(short(4)), short(6), fail, &bytes[HEADER..]);
        record.kind = kind;
        record.detail_len = usize::from(bytes[1]).min(record.detail.len());
        Some(record)
    }
}

/// Sends a record; the error is that the other side is gone.
pub fn send(channel: BorrowedFd<'_>, record: &Record) -> Result<(), Errno> {
    let bytes = record.to_bytes();
    retry_on_intr(|| rustix::net::send(channel, &bytes, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Sends one byte to the child.
pub fn send_byte(channel: BorrowedFd<'_>, byte: u8) -> Result<(), Errno> {
    retry_on_intr(|| rustix::net::send(channel, &[byte], SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Waits for `expected` from the parent; EPIPE when the parent is gone.
pub fn expect_byte(channel: BorrowedFd<'_>, expected: u8) -> Result<(), Errno> {
    let mut byte = [0u8; 1];
    let (received, _) = retry_on_intr(|| rustix::net::recv(channel, &mut byte[..], RecvFlags::empty()))?;
    match (received, byte[0]) {
        (1, byte) if byte == expected => Ok(()),
        (0, _) => Err(Errno::PIPE),
        _ => Err(Errno::PROTO),
    }
}

/// Waits for `expected` and the file descriptor that comes with it; EPIPE when the parent is gone.
pub fn expect_fd(channel: BorrowedFd<'_>, expected: u8) -> Result<OwnedFd, Errno> {
    let mut byte = [0u8; 1];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(channel, &mut [std::io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (received.bytes, byte[0], fd) {
        (1, byte, Some(fd)) if byte == expected => Ok(fd),
        (0, ..) => Err(Errno::PIPE),
        _ => Err(Errno::PROTO),
    }
}

/// Is the other side still there? EPIPE when not.
pub fn check_open(channel: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut byte = [0u8; 1];
    match rustix::net::recv(channel, &mut byte[..], RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN) => Ok(()),
        Ok((0, _)) => Err(Errno::PIPE),
        Ok(_) => Err(Errno::PROTO),
        Err(errno) => Err(errno),
    }
}

/// Sends `bytes` together with a file descriptor (unix(7), SCM_RIGHTS).
pub fn send_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    let iov = [std::io::IoSlice::new(bytes)];
    let mut sent = retry_on_intr(|| rustix::net::sendmsg(socket, &iov, &mut control, SendFlags::NOSIGNAL))?;
    // A stream takes a part when a signal comes while it is full; the fd has gone with the first.
    while sent < bytes.len() {
        sent += retry_on_intr(|| rustix::net::send(socket, &bytes[sent..], SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_wire() {
        let fail = Fail { call: Call::OpenTree, errno: Errno::NOENT };
        let sent = Record::failed(300, 7, fail, b"tmpfs: Bad value");
        let got = Record::from_bytes(&sent.to_bytes()).expect("valid");
        assert_eq!((got.kind, got.step, got.index, got.fail), (Kind::Failed, 300, 7, fail));
        assert_eq!(got.detail(), b"tmpfs: Bad value");
    }

    #[test]
    fn bytes_of_the_attacker_are_no_record() {
        assert!(Record::from_bytes(&[0; RECORD_SIZE]).is_none());
        assert!(Record::from_bytes(&[1; 3]).is_none());
        assert!(Record::from_bytes(&[0xff; RECORD_SIZE]).is_none());
    }
}
