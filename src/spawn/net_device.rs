//! `linux.netDevices`: host interfaces to the container's network namespace, and back when create fails.
//!
//! The parent does it through two rtnetlink sockets, one in each namespace. A socket
//! stays in the namespace of the thread that opened it, so a thread that ends at once
//! joins the container's, and no other thread of this process ever leaves its own.
//! Once the container runs, its interfaces are its own: delete does not touch them
//! (config-linux.md, "Namespace Lifecycle and Container Termination").

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::sys::netlink::{Message, Netlink, Refusal, Request};
use crate::sys::process::{self, Child};
use crate::sys::settings;

/// Sizes of `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK_HEAD: usize = 16;
const ADDRESS_HEAD: usize = 8;

/// Address flags that say what is wanted; all others say what became of it.
const WANTED_FLAGS: u32 = libc::IFA_F_PERMANENT
    | libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;

/// if_addr.h; not in every libc.
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;

/// Interfaces that have been moved, with what it takes to move them back.
#[derive(Debug)]
pub struct Moved {
    host: Side,
    container: Side,
    devices: Vec<Device>,
}

/// A network namespace: its handle, and a socket in it.
#[derive(Debug)]
struct Side {
    namespace: OwnedFd,
    netlink: Netlink,
}

/// One interface of the plan as it was on the host.
#[derive(Debug)]
struct Device {
    name: String,
    inside: String,
    was_up: bool,
    addresses: Vec<Address>,
    /// Its index: on the host, then in the container.
    index: i32,
}

/// A permanent address of global scope.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// `IFA_*` attributes as the kernel gave them, but for flags and label.
    attributes: Vec<(u16, Vec<u8>)>,
    /// What an IPv4 label adds to the interface's name: `:1` of `eth0:1`.
    label_suffix: Option<String>,
}

/// Moves all of the plan's interfaces into the network namespace of `child`, or of `join` where it joins one.
///
/// All are looked up before the first is moved; when one fails, those that were moved come back.
pub fn move_in(plan: &Plan, proc: BorrowedFd<'_>, join: Option<&OwnedFd>, child: &Child) -> Result<Moved> {
    let item = "linux.netDevices";
    let path = match join {
        None => format!("{}/ns/net", child.pid.as_raw_nonzero()),
        Some(fd) => format!("thread-self/fd/{}", process::number(fd.as_fd())),
    };
    let container = open_namespace(item, proc, &path)?;
    let host = open_namespace(item, proc, "thread-self/ns/net")?;
    let identity = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let same = identity(&host) == identity(&container);
    if same {
        return Err(Error::invalid(item, "the container's network namespace is the runtime's own")
            .hint("give the container one with {\"type\": \"network\"} in linux.namespaces"));
    }
    let failed = |call: &'static str| move |errno| Error::sys(item, call, errno);
    let host = Side { netlink: Netlink::open().map_err(failed("socket(AF_NETLINK, NETLINK_ROUTE)"))?, namespace: host };
    let netlink = open_in(container.as_fd()).map_err(failed("setns(the container's network namespace)"))?;
    let mut moved = Moved { host, container: Side { namespace: container, netlink }, devices: Vec::new() };
    let devices: Vec<Device> =
        plan.net_devices.iter().map(|(name, inside)| moved.look_up(name, inside)).collect::<Result<_>>()?;
    for device in devices {
        if let Err(error) = moved.move_one(device) {
            return Err(moved.give_back(error));
        }
    }
    Ok(moved)
}

fn open_namespace(item: &str, proc: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(item, format!("openat(\"/proc/{path}\")"), errno))
}

/// A socket in another network namespace, opened by a thread that joins it and ends.
fn open_in(namespace: BorrowedFd<'_>) -> Result<Netlink, Errno> {
    let join_and_open = || {
        settings::setns(namespace, libc::CLONE_NEWNET as u64)?;
        Netlink::open()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, join_and_open);
        let thread = thread.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::AGAIN))?;
        // The closure does not panic.
        thread.join().unwrap_or(Err(Errno::CANCELED))
    })
}

fn failed(name: &str, call: String, refusal: Refusal) -> Error {
    let error = Error::sys(format!("linux.netDevices {name}"), call, refusal.errno);
    if refusal.said.is_empty() { error } else { error.note(&format!("the kernel says: {}", refusal.said)) }
}

/// A string attribute's value.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

/// `struct ifinfomsg` with an index and flags to change.
fn link_head(index: i32, flags: i32) -> [u8; LINK_HEAD] {
    let mut head = [0u8; LINK_HEAD];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..16].copy_from_slice(&flags.to_ne_bytes());
    head
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes)
}

impl Side {
    /// Index and flags of the interface called `name`.
    fn find(&self, name: &str) -> Result<(i32, i32), Refusal> {
        let get = Request::new(libc::RTM_GETLINK, 0, &link_head(0, 0)).attribute(libc::IFLA_IFNAME, &c_name(name));
        let answer = self.netlink.ask(&get)?;
        let (head, _) = answer.first().and_then(|link| link.split(LINK_HEAD)).ok_or(Errno::NODEV)?;
        Ok((i32_at(head, 4), i32_at(head, 8)))
    }

    /// The indices of all interfaces.
    fn indices(&self) -> Result<Vec<i32>, Refusal> {
        let links = self.netlink.ask(&Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &link_head(0, 0)))?;
        Ok(links.iter().filter_map(|link| link.split(LINK_HEAD)).map(|(head, _)| i32_at(head, 4)).collect())
    }

    /// The addresses that the specification wants to be kept.
    fn addresses(&self, index: i32, name: &str) -> Result<Vec<Address>, Refusal> {
        let dump = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; ADDRESS_HEAD]);
        let all = self.netlink.ask(&dump)?;
        let kept = all.iter().filter_map(|message| Address::read(message, index, name));
        let (mut v6, mut addresses): (Vec<_>, Vec<_>) = kept.partition(|a| i32::from(a.family) == libc::AF_INET6);
        // The kernel lists IPv6 addresses newest first, and source selection follows its list.
        v6.reverse();
        addresses.append(&mut v6);
        Ok(addresses)
    }

    fn name_of(&self, index: i32) -> Result<String, Refusal> {
        let answer = self.netlink.ask(&Request::new(libc::RTM_GETLINK, 0, &link_head(index, 0)))?;
        let (_, mut attributes) = answer.first().and_then(|link| link.split(LINK_HEAD)).ok_or(Errno::NODEV)?;
        let (_, name) = attributes.find(|(kind, _)| *kind == libc::IFLA_IFNAME).ok_or(Errno::NODEV)?;
        Ok(text(name))
    }

    /// Gives an interface that has arrived here its addresses, then sets it up where `up` says so.
    fn equip(&self, device: &Device, up: bool) -> Result<()> {
        let failed = |call: String| move |refusal| failed(&device.name, call, refusal);
        let name = self.name_of(device.index).map_err(failed("RTM_GETLINK".to_owned()))?;
        for address in &device.addresses {
            let request = address.request(device.index, &name);
            self.netlink.ask(&request).map_err(failed(format!("RTM_NEWADDR({address})")))?;
        }
        if up {
            let request = Request::new(libc::RTM_NEWLINK, 0, &link_head(device.index, libc::IFF_UP));
            self.netlink.ask(&request).map_err(failed("RTM_NEWLINK(IFF_UP)".to_owned()))?;
        }
        Ok(())
    }

    /// Moves an interface from here to `to`, as `name`: its index there.
    ///
    /// The kernel moves first and renames then: an error with an index says that it has moved all the same.
    fn send(&self, to: &Side, index: i32, name: &str) -> Result<i32, (Option<i32>, Refusal)> {
        let lost = |refusal| (None, refusal);
        let before = to.indices().map_err(lost)?;
        let there = process::number(to.namespace.as_fd());
        let request = Request::new(libc::RTM_NEWLINK, 0, &link_head(index, 0))
            .attribute(libc::IFLA_NET_NS_FD, &there.to_ne_bytes())
            .attribute(libc::IFLA_IFNAME, &c_name(name));
        let result = self.netlink.ask(&request);
        if let Err(refusal) = result {
            let stayed = self.indices().is_ok_and(|here| here.contains(&index));
            let moved = if stayed { None } else { arrived(&before, &to.indices().map_err(lost)?, index) };
            return Err((moved, refusal));
        }
        arrived(&before, &to.indices().map_err(lost)?, index).ok_or((None, Errno::NODEV.into()))
    }
}

/// The index that an interface has where it was moved to: its old one where that was free.
fn arrived(before: &[i32], after: &[i32], index: i32) -> Option<i32> {
    match before.contains(&index) {
        false => Some(index).filter(|index| after.contains(index)),
        true => after.iter().copied().find(|index| !before.contains(index)),
    }
}

impl Moved {
    /// Reads an interface and sees whether its name in the container is free.
    fn look_up(&self, name: &str, inside: &str) -> Result<Device> {
        let failed = |call: String| move |refusal| failed(name, call, refusal);
        let (index, flags) = self.host.find(name).map_err(failed(format!("RTM_GETLINK({name:?})")))?;
        let addresses = self.host.addresses(index, name).map_err(failed("RTM_GETADDR".to_owned()))?;
        if !inside.contains("%d") && self.container.find(inside).is_ok() {
            return Err(failed(move_call(inside))(Errno::EXIST.into()));
        }
        let was_up = flags & libc::IFF_UP != 0;
        Ok(Device { name: name.to_owned(), inside: inside.to_owned(), was_up, addresses, index })
    }

    /// Moves one interface, gives it its addresses and sets it up.
    fn move_one(&mut self, mut device: Device) -> Result<()> {
        let sent = self.host.send(&self.container, device.index, &device.inside);
        let refused = match sent {
            Ok(index) => {
                device.index = index;
                None
            }
            Err((moved, refusal)) => {
                let error = failed(&device.name, move_call(&device.inside), refusal);
                let Some(index) = moved else { return Err(error) };
                device.index = index;
                Some(error)
            }
        };
        let equipped = match refused {
            Some(error) => Err(error),
            None => self.container.equip(&device, true),
        };
        // Also after an error: it must come back.
        self.devices.push(device);
        equipped
    }

    /// After a failed create: every interface home, under its old name and with its addresses.
    ///
    /// The kernel itself would bring only physical ones home, and destroy the others with the namespace.
    #[must_use]
    pub fn give_back(self, mut error: Error) -> Error {
        let Moved { host, container, devices } = self;
        for mut device in devices.into_iter().rev() {
            let returned = match container.send(&host, device.index, &device.name) {
                Ok(index) => {
                    device.index = index;
                    host.equip(&device, device.was_up)
                }
                Err((_, refusal)) => Err(failed(&device.name, "RTM_NEWLINK(back to the host)".to_owned(), refusal)),
            };
            if let Err(left) = returned {
                error = error.note(&format!("and {left}"));
            }
        }
        error
    }
}

/// The call that moves and renames, as written in errors.
fn move_call(inside: &str) -> String {
    format!("RTM_NEWLINK(IFLA_NET_NS_FD, IFLA_IFNAME {inside:?})")
}

impl Address {
    /// An address of interface `index`; `None` when it is another's, not permanent or not global.
    fn read(message: &Message, index: i32, name: &str) -> Option<Address> {
        const KEPT: &[u16] = &[
            libc::IFA_ADDRESS,
            libc::IFA_LOCAL,
            libc::IFA_BROADCAST,
            libc::IFA_ANYCAST,
            libc::IFA_CACHEINFO,
            IFA_RT_PRIORITY,
            IFA_PROTO,
        ];
        let (head, attributes) = message.split(ADDRESS_HEAD)?;
        let value = |wanted: u16| attributes.clone().find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        // The head has room for eight flags only.
        let flags = value(libc::IFA_FLAGS).map_or(u32::from(head[2]), |flags| i32_at(flags, 0) as u32);
        let global = head[3] == libc::RT_SCOPE_UNIVERSE;
        if i32_at(head, 4) != index || !global || flags & libc::IFA_F_PERMANENT == 0 {
            return None;
        }
        let label = value(libc::IFA_LABEL).map(text);
        let kept = attributes.filter(|(kind, _)| KEPT.contains(kind)).map(|(kind, value)| (kind, value.to_vec()));
        Some(Address {
            family: head[0],
            prefix: head[1],
            flags: flags & WANTED_FLAGS,
            attributes: kept.collect(),
            label_suffix: label.and_then(|label| label.strip_prefix(name).map(str::to_owned)),
        })
    }

    /// What adds it to the interface `index`, which is called `name` now.
    fn request(&self, index: i32, name: &str) -> Request {
        // The wide flags attribute overrides the head's.
        let mut head = [self.family, self.prefix, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head)
            .attribute(libc::IFA_FLAGS, &self.flags.to_ne_bytes());
        for (kind, value) in &self.attributes {
            request = request.attribute(*kind, value);
        }
        // A label that does not fit behind the new name goes; the kernel then uses the name.
        let label = self.label_suffix.as_ref().map(|suffix| format!("{name}{suffix}"));
        match label.filter(|label| label.len() < libc::IFNAMSIZ) {
            Some(label) => request.attribute(libc::IFA_LABEL, &c_name(&label)),
            None => request,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |wanted: u16| self.attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| &**value);
        let bytes = value(libc::IFA_LOCAL).or(value(libc::IFA_ADDRESS)).unwrap_or_default();
        match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(v4), _) => write!(f, "{}/{}", Ipv4Addr::from(v4), self.prefix),
            (_, Ok(v6)) => write!(f, "{}/{}", Ipv6Addr::from(v6), self.prefix),
            _ => write!(f, "family {}", self.family),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_keeps_its_index_where_that_is_free() {
        assert_eq!(arrived(&[1], &[1, 7], 7), Some(7));
        assert_eq!(arrived(&[1, 7], &[1, 7, 8], 7), Some(8));
        assert_eq!(arrived(&[1, 2], &[1, 2], 7), None);
        assert_eq!(arrived(&[1, 7], &[1, 7], 7), None);
    }
}
