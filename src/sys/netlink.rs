//! rtnetlink(7) for the parent: one request at a time, answered by the kernel alone.
//!
//! Knows messages and attributes, not what they are for. Unlike the rest of
//! sys/ it allocates: it must not be used between clone3 and execve.

use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::raw::syscall;

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// `struct nlattr`: length, type.
const ATTRIBUTE: usize = 4;
/// How often a dump is asked for again that changed while it was read.
const DUMP_TRIES: usize = 16;

/// A socket in the network namespace of the thread that opened it, whatever becomes of the thread.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

/// A message to the kernel.
#[derive(Debug, Clone)]
pub struct Request(Vec<u8>);

/// A message of the kernel: what follows its header.
#[derive(Debug)]
pub struct Message {
    body: Vec<u8>,
}

/// The kernel's no, with its own words where it has some (NETLINK_EXT_ACK, Linux 4.12).
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub errno: Errno,
    pub said: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, said: String::new() }
    }
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

impl Request {
    /// A request of type `kind` with `NLM_F_*` flags; `fixed` is the family's header (`struct ifinfomsg`, …).
    #[must_use]
    pub fn new(kind: u16, flags: i32, fixed: &[u8]) -> Request {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0u8; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Request(bytes)
    }

    /// Adds an attribute; values are shorter than 64 KiB.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.resize(aligned(self.0.len()), 0);
        self.0.extend_from_slice(&((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self
    }

    fn seal(&mut self, sequence: u32) {
        self.0.resize(aligned(self.0.len()), 0);
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

impl Message {
    /// The family's header and the attributes behind it; `None` when the message is too short.
    #[must_use]
    pub fn split(&self, fixed: usize) -> Option<(&[u8], Attributes<'_>)> {
        let (head, rest) = self.body.split_at_checked(aligned(fixed))?;
        Some((head, Attributes(rest)))
    }
}

/// The attributes of a message, each with its type and value.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = self.0.get(ATTRIBUTE..len)?;
        self.0 = self.0.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    /// The tables changed under a dump (NLM_F_DUMP_INTR).
    Interrupted,
}

impl Netlink {
    /// Opens a NETLINK_ROUTE socket that hears the kernel and nobody else (connected to port 0).
    pub fn open() -> Result<Netlink, Errno> {
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        let on: libc::c_int = 1;
        // SAFETY: NETLINK_EXT_ACK reads one int, which lives through the call.
        let set = unsafe {
            syscall!(
                libc::SYS_setsockopt,
                socket.as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_EXT_ACK,
                &raw const on,
                size_of::<libc::c_int>(),
            )
        };
        match set {
            // Older kernels say no without words.
            Ok(_) | Err(Errno::NOPROTOOPT) => Ok(Netlink { socket, sequence: Cell::new(0) }),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a request and gathers the answer: every message up to the kernel's acknowledgement.
    pub fn ask(&self, request: &Request) -> Result<Vec<Message>, Refusal> {
        let mut request = request.clone();
        for _ in 0..DUMP_TRIES {
            let sequence = self.sequence.get().wrapping_add(1);
            self.sequence.set(sequence);
            request.seal(sequence);
            retry_on_intr(|| rustix::net::send(&self.socket, &request.0, SendFlags::NOSIGNAL))?;
            let mut messages = Vec::new();
            if self.gather(sequence, &mut messages)? == End::Done {
                return Ok(messages);
            }
        }
        Err(Errno::AGAIN.into())
    }

    fn gather(&self, sequence: u32, messages: &mut Vec<Message>) -> Result<End, Refusal> {
        let mut interrupted = false;
        loop {
            let datagram = self.receive()?;
            if let Some(end) = read(&datagram, sequence, messages, &mut interrupted) {
                end?;
                return Ok(if interrupted { End::Interrupted } else { End::Done });
            }
        }
    }

    /// One whole datagram, however long it is.
    fn receive(&self) -> Result<Vec<u8>, Errno> {
        let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, len) = retry_on_intr(|| rustix::net::recv(&self.socket, &mut [0u8; 1][..], peek))?;
        let mut datagram = vec![0u8; len];
        let (_, len) = retry_on_intr(|| rustix::net::recv(&self.socket, &mut datagram[..], RecvFlags::empty()))?;
        datagram.truncate(len);
        Ok(datagram)
    }
}

/// Reads the messages of one datagram; `Some` when the answer is complete.
fn read(
    datagram: &[u8],
    sequence: u32,
    messages: &mut Vec<Message>,
    interrupted: &mut bool,
) -> Option<Result<(), Refusal>> {
    let mut rest = datagram;
    while let Some(len) = u32_at(rest, 0) {
        let len = len as usize;
        let (Some(body), Some(kind), Some(flags)) = (rest.get(HEADER..len), u16_at(rest, 4), u16_at(rest, 6)) else {
            return Some(Err(Errno::BADMSG.into()));
        };
        if u32_at(rest, 8) == Some(sequence) {
            *interrupted |= i32::from(flags) & libc::NLM_F_DUMP_INTR != 0;
            match i32::from(kind) {
                libc::NLMSG_ERROR | libc::NLMSG_DONE => return Some(verdict(body, i32::from(flags))),
                libc::NLMSG_NOOP => {}
                _ => messages.push(Message { body: body.to_vec() }),
            }
        }
        rest = rest.get(aligned(len)..).unwrap_or_default();
    }
    None
}

/// The error code at the end of an answer, and what the kernel adds in words.
fn verdict(body: &[u8], flags: i32) -> Result<(), Refusal> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let code = u32_at(body, 0).map_or(0, |code| code as i32);
    if code == 0 {
        return Ok(());
    }
    // The request comes back in front of the attributes, whole or only its header.
    let request = if flags & libc::NLM_F_CAPPED != 0 { HEADER } else { u32_at(body, 4).unwrap_or(0) as usize };
    let attributes = match flags & libc::NLM_F_ACK_TLVS != 0 {
        true => Attributes(body.get(aligned(4 + request)..).unwrap_or_default()),
        false => Attributes(&[]),
    };
    let said = attributes.filter(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, text)| text).next();
    let said = String::from_utf8_lossy(said.unwrap_or_default()).trim_end_matches('\0').to_owned();
    Err(Refusal { errno: Errno::from_raw_os_error(code.wrapping_neg()), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_four_bytes_and_read_back() {
        let mut request = Request::new(16, 0, &[0; 16]).attribute(3, b"eth0\0").attribute(28, &7i32.to_ne_bytes());
        request.seal(1);
        assert_eq!(request.0.len(), 16 + 16 + 12 + 8);
        let message = Message { body: request.0[HEADER..].to_vec() };
        let (_, attributes) = message.split(16).expect("long enough");
        let found: Vec<_> = attributes.collect();
        assert_eq!(found, [(3, &b"eth0\0"[..]), (28, &7i32.to_ne_bytes()[..])]);
    }

    #[test]
    fn a_broken_attribute_ends_the_list() {
        let found: Vec<_> = Attributes(&[200, 0, 1, 0, 1, 2, 3, 4]).collect();
        assert_eq!(found, []);
        let found: Vec<_> = Attributes(&[0, 0, 1, 0, 1, 2, 3, 4]).collect();
        assert_eq!(found, []);
    }

    #[test]
    fn answers_to_an_earlier_request_are_not_ours() {
        let mut old = Request::new(16, 0, b"old!");
        old.seal(1);
        let mut new = Request::new(16, 0, b"new!");
        new.seal(2);
        let datagram = [old.0, new.0].concat();
        let mut messages = Vec::new();
        assert_eq!(read(&datagram, 2, &mut messages, &mut false), None);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].body, b"new!");
    }

    #[test]
    fn the_kernel_answers_with_lo_and_refuses_what_is_not_there() {
        let netlink = Netlink::open().expect("a socket");
        let get = Request::new(libc::RTM_GETLINK, 0, &[0; 16]);
        let links = netlink.ask(&get.clone().attribute(libc::IFLA_IFNAME, b"lo\0")).expect("lo");
        let (head, _) = links[0].split(16).expect("an ifinfomsg");
        assert_eq!(u32_at(head, 4), Some(1), "lo is interface 1");
        let refusal = netlink.ask(&get.attribute(libc::IFLA_IFNAME, b"no-such-0\0")).expect_err("not there");
        assert_eq!(refusal.errno, Errno::NODEV);
    }
}
