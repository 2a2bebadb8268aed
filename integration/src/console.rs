//! The caller's end of --console-socket and --pidfd-socket: a listening socket that receives one
//! descriptor, as conmon and the shims do.

use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::call::eventually;
use crate::case::{Outcome, Stop, fail};
use crate::sys;

#[derive(Debug)]
pub struct DescriptorSocket {
    listener: UnixListener,
    pub path: PathBuf,
}

impl DescriptorSocket {
    pub fn listen(path: &Path) -> Outcome<DescriptorSocket> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(DescriptorSocket { listener, path: path.to_path_buf() })
    }

    /// Waits for a connection and takes the one descriptor that is sent over it.
    pub fn receive(&self, limit: Duration) -> Outcome<std::fs::File> {
        let mut stream = None;
        eventually(limit, || {
            stream = self.listener.accept().ok();
            Ok(stream.is_some())
        })?;
        let Some((stream, _)) = stream else {
            return fail("nobody connected to the socket");
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(limit))?;
        let mut name = [0u8; 4096];
        let mut buffers = [IoSliceMut::new(&mut name)];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        let mut received = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                received.extend(descriptors.into_iter().map(sys::own_received));
            }
        }
        match received.pop() {
            Some(descriptor) if received.is_empty() => Ok(std::fs::File::from(descriptor)),
            Some(_) => fail("more than one descriptor was sent"),
            None => fail("no descriptor was sent"),
        }
    }
}

/// Reads from a terminal until the text holds `needle`, or the other side is gone.
pub fn read_until(terminal: &mut std::fs::File, needle: &str, limit: Duration) -> Outcome<String> {
    let mut text = String::new();
    let mut buffer = [0u8; 4096];
    let found = eventually(limit, || {
        let mut polled = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(terminal), nix::poll::PollFlags::POLLIN)];
        if nix::poll::poll(&mut polled, 50u8)? == 0 {
            return Ok(false);
        }
        // EIO: every process on the other side has closed its end, see pty(7).
        let count = terminal.read(&mut buffer).unwrap_or(0);
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        Ok(text.contains(needle) || count == 0)
    })?;
    if found && text.contains(needle) {
        Ok(text)
    } else {
        Err(Stop::Fail(format!("the terminal said {text:?} and never {needle:?}")))
    }
}

pub fn type_in(terminal: &mut std::fs::File, text: &str) -> Outcome {
    Ok(terminal.write_all(text.as_bytes())?)
}
