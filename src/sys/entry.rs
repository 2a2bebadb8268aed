//! The `xebec` program's entry, in place of std's: std installs handlers for stack overflow
//! and maps a stack for them, which is a tenth of what a short verb takes.
//!
//! Keeps what std does for safety: descriptors 0 to 2 are open, and SIGPIPE is ignored, so
//! that a hook that closes its stdin does not kill the runtime. SIGCHLD is not, whatever the caller
//! does with it. For the program only.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What C's start code calls.
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, words: *const *const libc::c_char) -> libc::c_int {
    if !hold_standard_descriptors() || !ignore_broken_pipes() || !hear_of_children() {
        // The allocator and std's streams are not to be trusted before this; where stderr is what is missing,
        // nobody can be told more than the exit status.
        let said = b"xebec: cannot make sure of the descriptors 0 to 2 and of signals before anything else\n";
        // SAFETY: the line is as long as it says; that it reaches nobody changes nothing.
        unsafe { libc::write(2, said.as_ptr().cast(), said.len()) };
        return 1;
    }
    libc::c_int::from(crate::run(&arguments(count, words)))
}

/// The words after the program's name. std's own reader knows them only after std's entry.
fn arguments(count: libc::c_int, words: *const *const libc::c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    let mut arguments = Vec::with_capacity(count);
    for at in 1..count {
        // SAFETY: the C start code gives `count` pointers to strings that end in NUL and
        // live as long as the process.
        let word = unsafe { CStr::from_ptr(*words.add(at)) };
        arguments.push(OsStr::from_bytes(word.to_bytes()).to_owned());
    }
    arguments
}

/// A caller may have closed stdin, stdout or stderr; the next file opened would take its
/// place and be handed to the container.
fn hold_standard_descriptors() -> bool {
    let mut polled = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    loop {
        // SAFETY: `polled` is an array of three; a closed descriptor is reported, not an error.
        if unsafe { libc::poll(polled.as_mut_ptr(), 3, 0) } >= 0 {
            break;
        }
        if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return false;
        }
    }
    // Lowest first: open takes the lowest free number, which is then the one that is missing.
    polled.iter().filter(|polled| polled.revents & libc::POLLNVAL != 0).all(|missing| {
        // SAFETY: the path is a string that ends in NUL; the descriptor stays open on purpose.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == missing.fd }
    })
}

fn ignore_broken_pipes() -> bool {
    // SAFETY: SIG_IGN is no function that could run.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) != libc::SIG_ERR }
}

/// A caller that ignores SIGCHLD leaves that to the programs it starts, and then a child's end is told to nobody: its
/// status is lost, a wait for it has no end, and its pid is free for another process at once (sigaction(2)).
fn hear_of_children() -> bool {
    // SAFETY: SIG_DFL is no function that could run.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) != libc::SIG_ERR }
}
