//! A seccomp listener's way to its agent (config-linux.md, "The Container Process State").

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Pid;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::init::wire::{self, Record as ChildRecord};
use crate::plan::Listener;
use crate::sys::process;

use super::settle;

const ITEM: &str = "linux.seccomp.listenerPath";
/// How long the child may take from announcing the listener to having it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fetches the listener that the child has announced, sends it to the agent, and lets the child go on.
///
/// The connection is made first: without an agent the child is never released,
/// and the caller ends it.
pub fn hand_over(
    listener: &Listener,
    announced: &ChildRecord,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    state: Map<String, Value>,
) -> Result<()> {
    let failed = |call: &str, errno| Error::sys(ITEM, call, errno);
    let address = announced.flag_address().ok_or_else(|| Error::invalid(ITEM, "the child announced no address"))?;
    let agent = settle::connect(ITEM, Path::new(&listener.path))
        .map_err(|error| error.note("the agent must listen before the container starts"))?;
    let fd = fetch(pidfd, u32::from(announced.index)).map_err(|errno| failed("pidfd_getfd", errno))?;
    let message = json!({
        "ociVersion": state.get("ociVersion"),
        "fds": ["seccompFd"],
        "pid": pid.as_raw_nonzero().get(),
        "metadata": listener.metadata.as_deref().unwrap_or_default(),
        "state": state,
    });
    wire::send_fd(agent.as_fd(), message.to_string().as_bytes(), fd.as_fd())
        .map_err(|errno| failed("sendmsg", errno))?;
    process::write_word(pid, address, 1).map_err(|errno| failed("process_vm_writev", errno))
}

/// The number is free until the child has loaded its filter, and the listener's from then on.
fn fetch(pidfd: BorrowedFd<'_>, number: u32) -> std::result::Result<OwnedFd, Errno> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match process::pidfd_getfd(pidfd, number) {
            Err(Errno::BADF) if Instant::now() < deadline => std::thread::sleep(Duration::from_micros(20)),
            other => return other,
        }
    }
}
