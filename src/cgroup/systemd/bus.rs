//! A connection to a service manager: bounded in every wait, closed when dropped.
//!
//! No thread and no library behind it: docs/decisions/dbus.md says why. The authentication is sent
//! when the connection is opened and its answer read before the first call: the time in between
//! is the caller's.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};

use super::wire::{self, Address, Body, Kind, Message};
use crate::error::{Error, Kind as ErrorKind, Result};

/// How long systemd may take for one call, its job included. Engines wait for minutes.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer of more bytes than these before the first message is no authentication.
const LONGEST_LINE: usize = 4096;

const DAEMON: Address =
    Address { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };
/// `RemoveMatch` is not needed: the match goes with the connection.
const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
    interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// A connection to systemd, of the system or of a user.
#[derive(Debug)]
pub struct Bus {
    socket: OwnedFd,
    /// Where it leads, for messages.
    place: String,
    /// The authentication has been answered.
    accepted: bool,
    last_serial: u32,
    out: Vec<u8>,
    inbox: Vec<u8>,
    deadline: Instant,
    /// Jobs that have ended: the job's path and its result.
    ended: Vec<(String, String)>,
}

/// A call that the other side has answered with an error.
#[derive(Debug)]
pub struct Refused {
    /// `org.freedesktop.systemd1.NoSuchUnit`
    pub name: String,
    pub text: String,
}

impl Bus {
    /// Connects to the system's or the user's service manager; `Ok(None)` where nobody listens.
    pub fn try_connect(user: bool) -> Result<Option<Bus>> {
        for (address, direct) in addresses(user)? {
            match Bus::open(&address, direct) {
                Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::CONNREFUSED)) => {}
                other => return other.map(Some),
            }
        }
        Ok(None)
    }

    /// Like [`Bus::try_connect`], where nobody listening is an error.
    pub fn connect(user: bool) -> Result<Bus> {
        Bus::try_connect(user)?.ok_or_else(|| absent(user))
    }

    /// `direct`: the manager itself listens there, without a bus in between.
    fn open(address: &str, direct: bool) -> Result<Bus> {
        let failed = |call: &str, errno| Error::sys("systemd", format!("{call}({address:?})"), errno);
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|errno| failed("socket", errno))?;
        // unix(7): it bounds connect(2), too, when the listener's queue is full.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))
            .map_err(|errno| failed("setsockopt", errno))?;
        let name = match address.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            None => SocketAddrUnix::new(address),
        };
        let name = name.map_err(|errno| failed("connect", errno))?;
        retry_on_intr(|| connect(&socket, &name)).map_err(|errno| failed("connect", errno))?;
        let mut bus = Bus {
            socket,
            place: address.to_owned(),
            accepted: false,
            last_serial: 0,
            // The socket's credentials tell who we are, also from a user namespace, whose uids a
            // bus would not know.
            out: b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_vec(),
            inbox: Vec::new(),
            deadline: Instant::now() + PATIENCE,
            ended: Vec::new(),
        };
        bus.flush()?;
        if !direct {
            bus.queue(DAEMON, "Hello", "", &Body::default());
            let mut rule = Body::default();
            rule.text(MATCH);
            bus.queue(DAEMON, "AddMatch", "s", &rule);
        }
        Ok(bus)
    }

    fn queue(&mut self, to: Address, member: &str, signature: &str, body: &Body) -> u32 {
        self.last_serial += 1;
        self.out.extend(wire::method_call(to, member, signature, body, self.last_serial));
        self.last_serial
    }

    /// Calls a method and waits for its answer.
    pub fn call(
        &mut self,
        to: Address,
        member: &str,
        signature: &str,
        body: &Body,
    ) -> Result<std::result::Result<Message, Refused>> {
        self.deadline = Instant::now() + PATIENCE;
        while !self.accepted {
            // sd-bus forgets a call that it reads together with BEGIN until more bytes come.
            self.accepted = self.take_acceptance()?;
            if !self.accepted {
                self.receive()?;
            }
        }
        let serial = self.queue(to, member, signature, body);
        self.flush()?;
        loop {
            let message = self.next()?;
            match message.kind {
                Kind::Return if message.reply_to == serial => return Ok(Ok(message)),
                // An earlier serial is Hello or AddMatch: without these there is no answer to wait for.
                Kind::Error if message.reply_to != 0 => {
                    let text = message.body().text().unwrap_or_default();
                    return Ok(Err(Refused { name: message.error_name, text }));
                }
                _ => self.note(&message),
            }
        }
    }

    /// Waits for the end of the job with this path; its result, such as `done`.
    pub fn job_result(&mut self, job: &str) -> Result<String> {
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(path, _)| path == job) {
                return Ok(result.clone());
            }
            let message = self.next()?;
            self.note(&message);
        }
    }

    /// JobRemoved(u id, o job, s unit, s result); it may come before the answer that names the job.
    fn note(&mut self, message: &Message) {
        if message.kind != Kind::Signal || message.member != "JobRemoved" {
            return;
        }
        let mut body = message.body();
        let read = |body: &mut wire::Reader<'_>| Some((body.u32()?, body.text()?, body.text()?, body.text()?));
        if let Some((_, job, _, result)) = read(&mut body) {
            self.ended.push((job, result));
        }
    }

    fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match send(&self.socket, &self.out, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.broken("send", errno)),
            }
        }
        Ok(())
    }

    /// The next message, whatever it is.
    fn next(&mut self) -> Result<Message> {
        loop {
            if self.inbox.len() >= wire::FIXED {
                let Some(length) = wire::length(&self.inbox) else { return Err(self.senseless()) };
                if self.inbox.len() >= length {
                    let bytes: Vec<u8> = self.inbox.drain(..length).collect();
                    return wire::message(&bytes).ok_or_else(|| self.senseless());
                }
            }
            self.receive()?;
        }
    }

    /// Takes the lines of the authentication off the inbox; true once we are accepted.
    fn take_acceptance(&mut self) -> Result<bool> {
        while let Some(end) = self.inbox.windows(2).position(|two| two == b"\r\n") {
            let line: Vec<u8> = self.inbox.drain(..end + 2).collect();
            match line.split(|b| matches!(b, b' ' | b'\r')).next() {
                Some(b"OK") => return Ok(true),
                Some(b"DATA") => {}
                _ => {
                    let said = String::from_utf8_lossy(&line).trim_end().to_owned();
                    return Err(Error::new(ErrorKind::System, "systemd", format!("{} says {said:?}", self.place))
                        .hint("does it belong to another user?"));
                }
            }
        }
        if self.inbox.len() > LONGEST_LINE { Err(self.senseless()) } else { Ok(false) }
    }

    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0u8; 4096];
        match recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(self.broken("recv", Errno::CONNRESET)),
            Ok((got, _)) => {
                self.inbox.extend(&chunk[..got]);
                Ok(())
            }
            Err(Errno::AGAIN) => self.wait(PollFlags::IN),
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(self.broken("recv", errno)),
        }
    }

    fn wait(&self, flags: PollFlags) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.broken("poll", Errno::TIMEDOUT).hint(format!(
                "systemd has not answered within {} s; is it, or the bus, overloaded or stopped?",
                PATIENCE.as_secs()
            )));
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(self.socket.as_fd(), flags)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(self.broken("poll", errno)),
        }
    }

    fn broken(&self, call: &str, errno: Errno) -> Error {
        Error::sys("systemd", format!("{call}({:?})", self.place), errno)
    }

    fn senseless(&self) -> Error {
        Error::new(ErrorKind::System, "systemd", format!("{} sends what is not D-Bus", self.place))
    }
}

/// The sockets to try, in order, and whether the manager itself listens there.
///
/// As root the manager's own socket comes first: it spares the bus daemon, which may be
/// overloaded, and needs none. A bus that the environment names is taken at its word.
fn addresses(user: bool) -> Result<Vec<(String, bool)>> {
    let named = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let variable = if user { "DBUS_SESSION_BUS_ADDRESS" } else { "DBUS_SYSTEM_BUS_ADDRESS" };
    if let Some(text) = named(variable) {
        let found: Vec<(String, bool)> = text.split(';').filter_map(unix_address).map(|path| (path, false)).collect();
        return match found.is_empty() {
            true => Err(Error::invalid(variable, format!("{text:?} names no unix socket"))
                .hint("unix:path=… and unix:abstract=… are understood")),
            false => Ok(found),
        };
    }
    if !user {
        let direct = rustix::process::geteuid().is_root().then(|| ("/run/systemd/private".to_owned(), true));
        return Ok(direct.into_iter().chain([("/run/dbus/system_bus_socket".to_owned(), false)]).collect());
    }
    let runtime =
        named("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{}", rustix::process::getuid().as_raw()));
    Ok(vec![(format!("{runtime}/bus"), false), (format!("{runtime}/systemd/private"), true)])
}

/// The socket of one address (D-Bus Specification, "Server Addresses"); an abstract one begins with `@`.
fn unix_address(text: &str) -> Option<String> {
    let value = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        match key {
            "path" => Some(unescape(value)),
            "abstract" => Some(format!("@{}", unescape(value))),
            _ => None,
        }
    };
    text.strip_prefix("unix:")?.split(',').find_map(value)
}

/// Undoes `%20`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nobody listens: the error says what is missing.
fn absent(user: bool) -> Error {
    // sd_booted(3)
    let booted = rustix::fs::lstat(c"/run/systemd/system").is_ok();
    let tried = match addresses(user) {
        Ok(addresses) => addresses.into_iter().map(|(path, _)| path).collect::<Vec<_>>().join(" or "),
        Err(error) => return error,
    };
    let error = Error::new(ErrorKind::System, "systemd", format!("nobody listens on {tried}"));
    match (booted, user) {
        (false, _) => error.hint("PID 1 is not systemd here: use --cgroup-manager cgroupfs"),
        (true, true) => {
            error.hint("is there a `systemd --user`? see loginctl enable-linger, or use --cgroup-manager cgroupfs")
        }
        (true, false) => error.hint("is /run of the host visible here?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_address_names_a_socket() {
        for (text, want) in [
            ("unix:path=/run/user/1000/bus", Some("/run/user/1000/bus")),
            ("unix:path=/a%20b%2Cc,guid=00", Some("/a b,c")),
            ("unix:guid=00,abstract=/tmp/x", Some("@/tmp/x")),
            ("unix:path=/100%", Some("/100%")),
            ("tcp:host=localhost,port=1", None),
            ("unix:tmpdir=/tmp", None),
        ] {
            assert_eq!(unix_address(text).as_deref(), want, "{text}");
        }
    }
}
