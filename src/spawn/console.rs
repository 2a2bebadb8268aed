//! The terminal of a foreground `run`: ours made raw, and data copied both ways.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Error, Result};

const BUFFER_SIZE: usize = 16 << 10;
/// Several times what the kernel keeps of what was written to a terminal and not read yet.
const LEFT_MAX: usize = 128 << 10;

/// One direction's data that has not been written yet.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Nothing more will come.
    ended: bool,
}

/// The master side, joined to our standard streams.
#[derive(Debug)]
pub struct Console {
    master: OwnedFd,
    saved: Option<Termios>,
    input: Pending,
    output: Pending,
}

fn failed(call: &str, errno: Errno) -> Error {
    Error::sys("process.terminal", call, errno)
}

impl Console {
    /// Makes our terminal raw, if stdin is one, and gives the container's the same size.
    pub fn new(master: OwnedFd) -> Result<Console> {
        let flags = fcntl_getfl(&master).map_err(|errno| failed("fcntl(F_GETFL)", errno))?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(|errno| failed("fcntl(F_SETFL)", errno))?;
        let mut console = Console { master, saved: None, input: Pending::default(), output: Pending::default() };
        if isatty(stdin()) {
            let saved = tcgetattr(stdin()).map_err(|errno| failed("tcgetattr", errno))?;
            let mut raw = saved.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(|errno| failed("tcsetattr", errno))?;
            console.saved = Some(saved);
            console.resize()?;
        }
        Ok(console)
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) -> Result<()> {
        if !isatty(stdin()) {
            return Ok(());
        }
        let size = tcgetwinsize(stdin()).map_err(|errno| failed("ioctl(TIOCGWINSZ)", errno))?;
        tcsetwinsize(&self.master, size).map_err(|errno| failed("ioctl(TIOCSWINSZ)", errno))
    }

    /// What to wait for: stdin, the master, stdout; in the order of [`Console::copy`].
    pub fn poll_fds(&self) -> [PollFd<'_>; 3] {
        let when = |condition: bool, flags: PollFlags| if condition { flags } else { PollFlags::empty() };
        let read_master = when(self.output.bytes.is_empty() && !self.output.ended, PollFlags::IN);
        let write_master = when(!self.input.bytes.is_empty(), PollFlags::OUT);
        [
            PollFd::from_borrowed_fd(stdin(), when(self.input.bytes.is_empty() && !self.input.ended, PollFlags::IN)),
            PollFd::new(&self.master, read_master | write_master),
            PollFd::from_borrowed_fd(stdout(), when(!self.output.bytes.is_empty(), PollFlags::OUT)),
        ]
    }

    /// Copies what is ready.
    pub fn copy(&mut self, ready: &[PollFlags]) -> Result<()> {
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        if ready[0].intersects(readable) && self.input.bytes.is_empty() && !self.input.ended {
            self.input.read(stdin());
            if self.input.ended {
                // The end of our input is ^D for the program, as on a terminal (termios(3), VEOF).
                self.input.bytes.push(4);
            }
        }
        if ready[1].intersects(readable) && self.output.bytes.is_empty() && !self.output.ended {
            self.output.read(self.master.as_fd());
        }
        self.input.write(self.master.as_fd());
        self.output.write(stdout());
        Ok(())
    }

    /// Copies what the program has left in the terminal, and no more: who outlives it may write for ever.
    pub fn drain(&mut self) {
        let mut left = LEFT_MAX;
        while !self.output.ended {
            if self.output.bytes.is_empty() {
                if left == 0 || !self.output.read(self.master.as_fd()) {
                    return;
                }
                left = left.saturating_sub(self.output.bytes.len());
            }
            self.output.write(stdout());
        }
    }
}

impl Pending {
    /// Reads once; false when there is nothing to read now.
    fn read(&mut self, from: impl AsFd) -> bool {
        let mut buffer = [0u8; BUFFER_SIZE];
        match rustix::io::read(from, &mut buffer) {
            // EIO: the other side of the terminal is closed.
            Ok(0) | Err(Errno::IO) => self.ended = true,
            Ok(len) => self.bytes.extend_from_slice(&buffer[..len]),
            Err(Errno::AGAIN) => return false,
            Err(Errno::INTR) => {}
            Err(_) => self.ended = true,
        }
        true
    }

    fn write(&mut self, to: impl AsFd) {
        if self.bytes.is_empty() {
            return;
        }
        match rustix::io::write(to, &self.bytes) {
            Ok(len) => drop(self.bytes.drain(..len)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads any more; the program need not know.
            Err(_) => self.bytes.clear(),
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            // The terminal may be gone; there is nobody to tell.
            tcsetattr(stdin(), OptionalActions::Now, saved).ok();
        }
    }
}
