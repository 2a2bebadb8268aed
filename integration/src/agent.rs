//! A seccomp agent (config-linux.md, "The Container Process State"): listens on a socket, takes what a
//! runtime sends there, and answers the calls that the kernel reports through the received descriptor.

use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use nix::libc::{self, seccomp_notif_resp};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::call::eventually;
use crate::case::{Outcome, fail};
use crate::sys;

/// How long a runtime may take to send all and to close the connection.
const LIMIT: Duration = Duration::from_secs(5);

/// What the agent says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Make the call.
    Continue,
    /// The call fails with this errno.
    Errno(i32),
    /// The call returns this and is not made.
    Value(i64),
    /// Send SIGUSR1 to the caller, wait, note whether the call still waits, then let it be made.
    Interrupt,
    /// No answer at all.
    Silence,
}

/// How the agent behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub answer: Answer,
    /// Before the connection is accepted.
    pub accept_after: Duration,
    /// Before each answer.
    pub answer_after: Duration,
    /// Close the descriptor after so many answers.
    pub die_after: Option<usize>,
}

impl Manner {
    pub fn new(answer: Answer) -> Manner {
        Manner { answer, accept_after: Duration::ZERO, answer_after: Duration::ZERO, die_after: None }
    }
}

/// What came over one connection.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The container process state; an error text when it was not one JSON value.
    pub state: Result<Value, String>,
    /// How many descriptors, and in which message they came, from 0.
    pub descriptors: Vec<usize>,
    /// Whether the runtime closed the connection.
    pub closed: bool,
}

/// What the agent has seen so far.
#[derive(Debug, Default)]
struct Seen {
    heard: Vec<Heard>,
    /// Numbers of the notified calls.
    calls: Vec<i64>,
    /// After [`Answer::Interrupt`]: did the call still wait?
    waited: Vec<bool>,
    trouble: Vec<String>,
}

#[derive(Debug)]
pub struct Agent {
    pub path: PathBuf,
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    pub fn listen(path: &Path, manner: Manner) -> Outcome<Agent> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let shared = (Arc::clone(&seen), Arc::clone(&over));
        let thread = thread::spawn(move || accept_all(&listener, manner, &shared.0, &shared.1));
        Ok(Agent { path: path.to_path_buf(), seen, over, thread: Some(thread) })
    }

    /// All connections; waits until there are `count`.
    pub fn heard(&self, count: usize) -> Outcome<Vec<Heard>> {
        let mut heard = Vec::new();
        eventually(LIMIT, || {
            heard = self.look(|seen| seen.heard.clone());
            Ok(heard.len() >= count)
        })?;
        let trouble = self.look(|seen| seen.trouble.clone());
        crate::equal!(heard.len(), count, "connections to the agent; its trouble: {trouble:?}");
        crate::ensure!(trouble.is_empty(), "the agent says: {trouble:?}");
        Ok(heard)
    }

    /// Numbers of the calls that it was asked about.
    pub fn calls(&self) -> Vec<i64> {
        self.look(|seen| seen.calls.clone())
    }

    /// For each interrupted call: did it still wait?
    pub fn waited(&self) -> Vec<bool> {
        self.look(|seen| seen.waited.clone())
    }

    fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Ends the agent: no socket, no descriptor.
    pub fn end(&mut self) -> Outcome {
        self.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        std::fs::remove_file(&self.path)?;
        if thread.join().is_err() { fail("the agent has panicked") } else { Ok(()) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A body that has failed already says why.
        self.end().ok();
    }
}

fn accept_all(listener: &UnixListener, manner: Manner, seen: &Mutex<Seen>, over: &AtomicBool) {
    thread::scope(|scope| {
        while !over.load(Ordering::Relaxed) {
            let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, 20u8).unwrap_or(0) == 0 {
                continue;
            }
            sleep(manner.accept_after);
            let Ok((stream, _)) = listener.accept() else { continue };
            scope.spawn(move || match receive(stream) {
                Ok((heard, listener)) => {
                    note(seen, |seen| seen.heard.push(heard));
                    if let Some(listener) = listener {
                        serve(&listener, manner, seen, over);
                    }
                }
                Err(error) => note(seen, |seen| seen.trouble.push(format!("{error:?}"))),
            });
        }
    });
}

fn note(seen: &Mutex<Seen>, what: impl FnOnce(&mut Seen)) {
    what(&mut seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
}

/// Reads one connection to its end, or for as long as a runtime may take.
fn receive(mut stream: UnixStream) -> Outcome<(Heard, Option<OwnedFd>)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let (mut text, mut received, mut descriptors) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = [0u8; 16 * 1024];
    let mut closed = false;
    for message in 0.. {
        let mut buffers = [IoSliceMut::new(&mut buffer)];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let got = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
        let Ok(got) = got else { break };
        for control in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                descriptors.extend(numbers.iter().map(|_| message));
                received.extend(numbers.into_iter().map(sys::own_received));
            }
        }
        let length = got.bytes;
        if length == 0 {
            closed = true;
            break;
        }
        text.extend_from_slice(&buffer[..length]);
        // A runtime that does not close is found by the time limit, but the container must not wait for it.
        if serde_json::from_slice::<Value>(&text).is_ok() {
            stream.set_read_timeout(Some(Duration::from_millis(500)))?;
            closed = matches!(stream.read(&mut [0u8; 1]), Ok(0));
            break;
        }
    }
    let state = serde_json::from_slice(&text).map_err(|e| format!("{e}: {:?}", String::from_utf8_lossy(&text)));
    Ok((Heard { state, descriptors, closed }, received.into_iter().next()))
}

/// Answers until nobody is left under the filter (POLLHUP) or the agent ends.
fn serve(listener: &OwnedFd, manner: Manner, seen: &Mutex<Seen>, over: &AtomicBool) {
    let mut answered = 0;
    while !over.load(Ordering::Relaxed) && manner.die_after.is_none_or(|most| answered < most) {
        let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, 20u8).unwrap_or(0) == 0 {
            continue;
        }
        let events = polled[0].revents().unwrap_or(PollFlags::empty());
        if !events.contains(PollFlags::POLLIN) {
            return;
        }
        // ENOENT: the caller was killed meanwhile.
        let Ok(call) = sys::receive_notification(listener.as_fd()) else { continue };
        note(seen, |seen| seen.calls.push(i64::from(call.data.nr)));
        sleep(manner.answer_after);
        if manner.answer == Answer::Interrupt {
            let sent = kill(Pid::from_raw(call.pid as i32), Signal::SIGUSR1);
            sleep(Duration::from_millis(200));
            let waits = sent.is_ok() && sys::notification_waits(listener.as_fd(), call.id);
            note(seen, |seen| seen.waited.push(waits));
        }
        let (val, error, flags) = match manner.answer {
            Answer::Continue | Answer::Interrupt => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Errno(errno) => (0, -errno, 0),
            Answer::Value(value) => (value, 0, 0),
            Answer::Silence => continue,
        };
        match sys::answer_notification(listener.as_fd(), seccomp_notif_resp { id: call.id, val, error, flags }) {
            // The caller was interrupted or killed meanwhile.
            Ok(()) | Err(nix::Error::ENOENT) => answered += 1,
            Err(error) => note(seen, |seen| seen.trouble.push(format!("SECCOMP_IOCTL_NOTIF_SEND: {error}"))),
        }
    }
}
