//! sd_notify(3) across the container's border: READY=1 of the container becomes ours.
//!
//! The service manager believes a message by the process that sent it, which must be
//! in the unit's cgroup: it would not believe the container's. So the container gets a
//! socket of its own, and what it says there the runtime says again. Only READY=1
//! passes: with other words a container could steer the unit that it runs in.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, chmodat, fstat, mkdirat, openat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Error, Result};
use crate::init::wire;
use crate::plan::notify::ITEM;
use crate::state::Container;
use crate::sys::process;

/// In the container's directory; bound on /run/notify in the container.
pub const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify/notify.sock";
/// How long the service manager may take to accept one message.
const SEND_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to have read all that we said.
const BARRIER_PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Both ends: the container's words come in, ours go out.
#[derive(Debug)]
pub struct Notify {
    container: OwnedFd,
    host: OwnedFd,
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::sys(ITEM, call, errno)
}

/// Makes the directory that will hold the socket; `start` and `run` make the socket.
pub fn make_directory(container: &Container) -> Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    mkdirat(container.dir(), DIRECTORY, mode).map_err(failed("mkdirat(\"notify\")"))?;
    // Whatever the umask: the container's user must get in.
    chmodat(container.dir(), DIRECTORY, mode, AtFlags::empty()).map_err(failed("fchmodat(\"notify\")"))
}

/// Whatever the umask: the container's user must be able to say something. By handle, as a container that may mount
/// can put a link to a file of ours in the socket's place.
fn open_to_all(container: &Container) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made =
        openat(container.dir(), SOCKET, flags, Mode::empty()).map_err(failed("openat(\"notify/notify.sock\")"))?;
    let kind = fstat(&made).map(|stat| FileType::from_raw_mode(stat.st_mode)).map_err(failed("fstat"))?;
    if kind != FileType::Socket {
        return Err(Error::invalid(ITEM, "notify/notify.sock has been replaced by something else"));
    }
    process::chmod(made.as_fd(), Mode::from_raw_mode(0o777)).map_err(failed("chmod(\"notify/notify.sock\")"))
}

/// Was the container created to tell when it is ready?
pub fn is_wanted(container: &Container) -> bool {
    statat(container.dir(), DIRECTORY, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

impl Notify {
    /// Listens for the container before its program runs; `None` when it was created without a notify socket.
    pub fn open(container: &Container, host: &Path) -> Result<Option<Notify>> {
        if !is_wanted(container) {
            return Ok(None);
        }
        let host = connect(host)?;
        let socket = datagram_socket()?;
        match unlinkat(container.dir(), SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("unlinkat(\"notify/notify.sock\")")(errno)),
        }
        // The real path may be longer than the 107 bytes of a socket's address.
        let short = format!("/proc/self/fd/{}/{SOCKET}", process::number(container.dir()));
        let address = SocketAddrUnix::new(&*short).map_err(failed("bind"))?;
        rustix::net::bind(&socket, &address).map_err(failed("bind(\"notify/notify.sock\")"))?;
        open_to_all(container)?;
        Ok(Some(Notify { container: socket, host }))
    }

    /// Readable when the container has said something.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }

    /// Reads what is waiting: was a READY=1 among it?
    fn heard_ready(&self) -> Result<bool> {
        let mut heard = false;
        let mut message = [0u8; 4096];
        loop {
            match rustix::net::recv(&self.container, &mut message[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => heard |= says_ready(&message[..len]),
                Err(Errno::AGAIN) => return Ok(heard),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("recv(\"notify/notify.sock\")")(errno)),
            }
        }
    }

    fn tell(&self, main_pid: i32) -> Result<()> {
        // One message: after a change of the main pid we might not be believed any more.
        let mut message = Vec::new();
        write!(message, "MAINPID={main_pid}\nREADY=1\n").map_err(|_| failed("send")(Errno::NOMEM))?;
        retry_on_intr(|| rustix::net::send(&self.host, &message, SendFlags::NOSIGNAL))
            .map(drop)
            .map_err(failed("send($NOTIFY_SOCKET)"))
    }

    /// For a foreground `run`, which stays the unit's main process: its exit status is the container's,
    /// and it has still to delete it when init is gone.
    pub fn forward(&self) -> Result<()> {
        if self.heard_ready()? { self.tell(process::own_pid()) } else { Ok(()) }
    }

    /// For `start` and `run --detach`: waits until the container is ready or has ended, and makes its
    /// init the unit's main process.
    pub fn wait(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.container, PollFlags::IN), PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
            retry_on_intr(|| poll(&mut fds, None)).map_err(failed("poll"))?;
            let ended = !fds[1].revents().is_empty();
            if self.heard_ready()? {
                self.tell(pid)?;
                return self.barrier();
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Waits until the service manager has read all messages (sd_notify_barrier(3)).
    ///
    /// It finds the unit by the sender, which must not have exited before.
    fn barrier(&self) -> Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("pipe2"))?;
        wire::send_fd(self.host.as_fd(), b"BARRIER=1", theirs.as_fd()).map_err(failed("sendmsg($NOTIFY_SOCKET)"))?;
        drop(theirs);
        // The end of file is the answer; a manager that does not know barriers closes the fd too.
        let mut fds = [PollFd::new(&ours, PollFlags::empty())];
        retry_on_intr(|| poll(&mut fds, Some(&BARRIER_PATIENCE))).map(drop).map_err(failed("poll"))
    }
}

/// Does a line of the message say that the sender is ready?
fn says_ready(message: &[u8]) -> bool {
    message.split(|&byte| byte == b'\n').any(|line| line == b"READY=1")
}

fn datagram_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(failed("socket(AF_UNIX, SOCK_DGRAM)"))
}

/// Connects to the service manager: a path, or `@name` in the abstract namespace.
fn connect(path: &Path) -> Result<OwnedFd> {
    let bytes = path.as_os_str().as_bytes();
    let address = match bytes.first() {
        Some(b'/') => SocketAddrUnix::new(path),
        Some(b'@') => SocketAddrUnix::new_abstract_name(&bytes[1..]),
        _ => return Err(Error::invalid(ITEM, format!("{path:?} is neither an absolute path nor @name"))),
    };
    let socket = datagram_socket()?;
    set_socket_timeout(&socket, Timeout::Send, Some(SEND_PATIENCE)).map_err(failed("setsockopt(SO_SNDTIMEO)"))?;
    let connected = address.and_then(|address| rustix::net::connect(&socket, &address));
    connected.map_err(|errno| {
        Error::sys(ITEM, format!("connect({path:?})"), errno)
            .hint("unset NOTIFY_SOCKET where nobody waits for the container to be ready")
    })?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ContainerId;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_link_in_the_place_of_the_socket_opens_nothing_to_all() {
        let root = std::env::temp_dir().join(format!("xebec-notify-{}", std::process::id()));
        let id = ContainerId::new("c").expect("valid");
        let container = Container::claim(&root, &id).expect("free");
        make_directory(&container).expect("made");
        let victim = root.join("victim");
        std::fs::write(&victim, "the host's").expect("written");
        std::fs::set_permissions(&victim, PermissionsExt::from_mode(0o600)).expect("closed");
        symlink(&victim, root.join("c").join(SOCKET)).expect("linked");
        assert!(open_to_all(&container).is_err());
        assert_eq!(std::fs::metadata(&victim).expect("there").mode() & 0o777, 0o600);
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn only_a_whole_line_says_ready() {
        assert!(says_ready(b"READY=1"));
        assert!(says_ready(b"STATUS=up\nREADY=1\n"));
        assert!(!says_ready(b"STATUS=READY=1\n"));
        assert!(!says_ready(b"READY=10"));
        assert!(!says_ready(b""));
    }
}
