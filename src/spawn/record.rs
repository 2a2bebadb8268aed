//! `seccomp record`: a foreground `run` whose filter notifies of every call, beside a process that
//! notes each call and lets it go on.
//!
//! The kernel holds a notified call until it is answered, so none can be missed. The noting process is
//! forked before there is a container: `run` stays as it is, and has no thread.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{WaitOptions, waitpid};
use serde_json::{Value, json};
use xebec_seccomp::bpf::{self, Instruction};
use xebec_seccomp::{Action, Arch, notify};

use super::run::{self, Exit, RunOptions};
use super::{Options, settle};
use crate::config::Bundle;
use crate::error::{Error, Result};
use crate::state::ContainerId;
use crate::sys::process::{self, Child};

const ITEM: &str = "seccomp record";
/// How long processes may outlive their container.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many names are tried for a directory.
const MOST_NAMES: u32 = 1000;
/// The last line of the notes: without it they are not whole.
const END: &str = "end";

/// A system call as a filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// AUDIT_ARCH_*.
    pub audit: u32,
    pub number: u32,
}

/// Runs a container until it ends, under a filter that lets everything through on `archs` and the
/// native architecture and kills calls of others. Gives back each call of it that the program `base`
/// would not let through. As the foreground `run` it is for a process of its own, with one thread.
///
/// # Errors
/// As `run`, and where the calls could not be noted to the end.
pub fn record(
    bundle: &Bundle,
    id: &ContainerId,
    options: &Options,
    archs: &[Arch],
    base: &[Instruction],
) -> Result<(Exit, BTreeSet<Seen>)> {
    let place = Place::make()?;
    let bundle = notifying(bundle, &place, archs)?;
    let mut noting = Noting::begin(&place, base)?;
    let exit = run::run(&bundle, id, options, RunOptions::default());
    let seen = noting.end();
    Ok((exit?, seen?))
}

/// The bundle with a filter that asks us about every call.
fn notifying(bundle: &Bundle, place: &Place, archs: &[Arch]) -> Result<Bundle> {
    // Judged as it stands first, so that errors speak of the file and not of what we make of it.
    bundle.config()?;
    let mut config: Value =
        serde_json::from_str(bundle.text()).map_err(|error| Error::invalid(bundle.config_name(), error.to_string()))?;
    let flags: &[&str] = if notify::has_wait_killable() { &["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] } else { &[] };
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_NOTIFY",
        "architectures": archs.iter().map(|arch| arch.spec_name()).collect::<Vec<_>>(),
        "flags": flags,
        "listenerPath": place.socket(),
    });
    Ok(Bundle::from_text(bundle.dir().to_owned(), config.to_string()))
}

/// A directory of our own for the socket; gone when dropped.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn make() -> Result<Place> {
        let pid = std::process::id();
        // The pid is taken where another PID namespace shares the directory.
        let mut dirs = (0..MOST_NAMES).map(|n| std::env::temp_dir().join(format!("xebec-record-{pid}-{n}")));
        loop {
            let dir = dirs.next().ok_or_else(|| Error::sys(ITEM, "mkdir in the temporary directory", Errno::EXIST))?;
            match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Place(dir)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&format!("mkdir({:?})", dir.display().to_string()), &error)),
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.0.join("listener")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Left behind, it is an empty directory of the user's own in the system's temporary one.
        std::fs::remove_file(self.socket()).ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

/// The process that notes, from the side of `run`.
struct Noting {
    process: Child,
    /// Closed for writing it says that the container has ended; read it gives the notes.
    notes: UnixStream,
}

impl Noting {
    fn begin(place: &Place, base: &[Instruction]) -> Result<Noting> {
        let agents = UnixListener::bind(place.socket()).map_err(|error| failed("bind", &error))?;
        let (notes, ours) = UnixStream::pair().map_err(|error| failed("socketpair", &error))?;
        let noting = process::clone3(0, None, || {
            // SIGKILL apart, nothing that is meant for the container ends its notes.
            let blocked = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None);
            // With our copy of it the parent's end would outlive the parent.
            let closed = process::close_one(process::number(notes.as_fd()));
            match (blocked, closed) {
                (Ok(()), Ok(())) => note(&agents, ours, base),
                _ => 1,
            }
        });
        Ok(Noting { process: noting.map_err(|errno| Error::sys(ITEM, "clone3", errno))?, notes })
    }

    /// The notes, when nobody is left to make a call.
    fn end(&mut self) -> Result<BTreeSet<Seen>> {
        let mut text = String::new();
        self.notes.shutdown(Shutdown::Write).map_err(|error| failed("shutdown", &error))?;
        self.notes.read_to_string(&mut text).map_err(|error| failed("read the notes", &error))?;
        // It may have been reaped with the container's orphans.
        match retry_on_intr(|| waitpid(Some(self.process.pid), WaitOptions::empty())) {
            Ok(_) | Err(Errno::CHILD) => {}
            Err(errno) => return Err(Error::sys(ITEM, "waitpid", errno)),
        }
        let Some(lines) = text.strip_suffix(&format!("{END}\n")) else {
            let why = text.lines().last().unwrap_or("the process that notes them has died").to_owned();
            return Err(Error::new(crate::Kind::System, ITEM, format!("not all calls were noted: {why}")));
        };
        Ok(lines.lines().filter_map(parse).collect())
    }
}

fn parse(line: &str) -> Option<Seen> {
    let (audit, number) = line.split_once(' ')?;
    Some(Seen { audit: audit.parse().ok()?, number: number.parse().ok()? })
}

/// The process that notes: writes its notes when told that the container has ended.
fn note(agents: &UnixListener, mut parent: UnixStream, base: &[Instruction]) -> i32 {
    let mut seen = BTreeSet::new();
    let result = watch(agents, &parent, base, &mut seen);
    let mut text: String = seen.iter().map(|call| format!("{} {}\n", call.audit, call.number)).collect();
    match result {
        Ok(()) => text.push_str(&format!("{END}\n")),
        Err(error) => text.push_str(&format!("{error}\n")),
    }
    i32::from(parent.write_all(text.as_bytes()).is_err())
}

/// Serves every listener (the container's, and those of `exec`) until the container has ended and no
/// process has the filter. With the container its processes have been killed, so that takes no time;
/// what has escaped from its cgroup is not waited for.
fn watch(agents: &UnixListener, parent: &UnixStream, base: &[Instruction], seen: &mut BTreeSet<Seen>) -> Result<()> {
    let mut listeners: Vec<OwnedFd> = Vec::new();
    let mut ended: Option<Instant> = None;
    while ended.is_none() || !listeners.is_empty() {
        if ended.is_some_and(|since| since.elapsed() > PATIENCE) {
            return Err(Error::invalid(ITEM, "the container has ended, and processes with its filter live on"));
        }
        let mut fds = vec![PollFd::new(agents, PollFlags::IN)];
        fds.extend(listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        // An end of file stays readable for ever.
        fds.extend(ended.is_none().then(|| PollFd::new(parent, PollFlags::IN)));
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        retry_on_intr(|| poll(&mut fds, ended.is_some().then_some(&second)))
            .map_err(|errno| Error::sys(ITEM, "poll", errno))?;
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if ready.get(listeners.len() + 1).is_some_and(|events| !events.is_empty()) {
            ended = Some(Instant::now());
        }
        for at in (0..listeners.len()).rev() {
            let events = ready[at + 1];
            if events.contains(PollFlags::IN) {
                answer(&listeners[at], base, seen)?;
            } else if events.intersects(PollFlags::HUP | PollFlags::ERR) {
                listeners.remove(at);
            }
        }
        if ready[0].contains(PollFlags::IN) {
            let (connection, _) = agents.accept().map_err(|error| failed("accept", &error))?;
            listeners.extend(settle::receive_with_fd(connection.as_fd())?.1);
        }
    }
    Ok(())
}

/// Notes one call and lets it go on. A call that was given up meanwhile (ENOENT) comes again if it is
/// made again.
fn answer(listener: &OwnedFd, base: &[Instruction], seen: &mut BTreeSet<Seen>) -> Result<()> {
    let gone = |error: xebec_seccomp::Errno| matches!(error.0, libc::ENOENT | libc::EINTR);
    let failed = |call: &str, error: xebec_seccomp::Errno| Error::sys(ITEM, call, Errno::from_raw_os_error(error.0));
    let waiting = match notify::receive(listener.as_fd()) {
        Err(error) if gone(error) => return Ok(()),
        other => other.map_err(|error| failed("ioctl(SECCOMP_IOCTL_NOTIF_RECV)", error))?,
    };
    let call = waiting.call;
    let big_endian = Arch::native().is_big_endian();
    if !passes(Action::from_value(bpf::execute(base, &call, big_endian).value)) {
        seen.insert(Seen { audit: call.arch, number: call.nr });
    }
    match notify::proceed(listener.as_fd(), waiting.id) {
        Err(error) if !gone(error) => Err(failed("ioctl(SECCOMP_IOCTL_NOTIF_SEND)", error)),
        _ => Ok(()),
    }
}

/// Whether a filter's answer makes the call, and asks nobody.
pub fn passes(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log)
}

fn failed(call: &str, error: &std::io::Error) -> Error {
    Error::sys(ITEM, call, Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)))
}
