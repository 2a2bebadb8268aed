//! A seccomp listener's way to its agent (config-linux.md, "The Container Process State").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::Pid;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::init::wire;
use crate::plan::Listener;
use crate::state::Container;
use crate::sys::process;

use super::settle;

const ITEM: &str = "linux.seccomp.listenerPath";
/// In the container's directory: where the child gives its listener to `start`.
const SOCKET: &str = "listener";
/// How long the child waits for a `start` that has let it go: one that was killed never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket that the child waits on for [`fetch`].
pub fn open(container: &Container) -> Result<OwnedFd> {
    let failed = |call: &str, errno| Error::sys(ITEM, format!("{call}({SOCKET:?})"), errno);
    let (socket, address) = socket(container)?;
    // The file that bind makes has the socket's mode, less the umask: whoever connects gets the listener.
    fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(|errno| failed("fchmod", errno))?;
    rustix::net::bind(&socket, &address).map_err(|errno| failed("bind", errno))?;
    rustix::net::listen(&socket, 1).map_err(|errno| failed("listen", errno))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).map_err(|errno| failed("setsockopt", errno))?;
    Ok(socket)
}

/// Takes the listener of a child that `start` has let go, and keeps the connection for the answer; no
/// listener when the child has ended.
pub fn fetch(container: &Container) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let (socket, address) = socket(container)?;
    rustix::net::connect(&socket, &address).map_err(|errno| Error::sys(ITEM, format!("connect({SOCKET:?})"), errno))?;
    let (_, listener) = settle::receive_with_fd(socket.as_fd())?;
    Ok((socket, listener))
}

/// The real path may be longer than the 107 bytes of a socket's address.
fn socket(container: &Container) -> Result<(OwnedFd, SocketAddrUnix)> {
    let path = format!("/proc/self/fd/{}/{SOCKET}", process::number(container.dir()));
    let address = SocketAddrUnix::new(&*path).map_err(|errno| Error::sys(ITEM, format!("bind({path:?})"), errno))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| Error::sys(ITEM, "socket", errno))?;
    Ok((socket, address))
}

/// Sends the listener to the agent, and lets the child go on, which waits on the `channel`.
///
/// Without an agent the child is never released, and the caller ends it.
pub fn hand_over(
    agent: &Listener,
    listener: BorrowedFd<'_>,
    pid: Pid,
    channel: BorrowedFd<'_>,
    state: Map<String, Value>,
) -> Result<()> {
    let socket = settle::connect(ITEM, Path::new(&agent.path))
        .map_err(|error| error.note("the agent must listen before the container starts"))?;
    let message = json!({
        "ociVersion": state.get("ociVersion"),
        "fds": ["seccompFd"],
        "pid": pid.as_raw_nonzero().get(),
        "metadata": agent.metadata.as_deref().unwrap_or_default(),
        "state": state,
    });
    wire::send_fd(socket.as_fd(), message.to_string().as_bytes(), listener)
        .map_err(|errno| Error::sys(ITEM, "sendmsg", errno))?;
    wire::send_byte(channel, wire::TAKEN).map_err(|errno| Error::sys(ITEM, "send to the child", errno))
}
