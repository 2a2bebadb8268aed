//! The child's last act but one: its seccomp filter. From there on the container's profile judges its
//! calls too, so execve is the only one that it makes.
//!
//! A listener (SCMP_ACT_NOTIFY) has to leave the process first, and already that call could be one that
//! waits for the agent. Nor can it be fetched: we are undumpable, which keeps an ordinary user's runtime out as
//! it does the container. So a helper thread that the filter does not judge sends it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SocketFlags, accept_with};
use rustix::thread::nanosleep;
use rustix::time::Timespec;

use crate::sys::helper::Helper;
use crate::sys::{Call, During, Outcome, process};

use super::Scene;
use super::wire::{self, Kind, Record};

static HELPER: Helper = Helper::new();
/// The listener's number, once there is one.
static LISTENER: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = u32::MAX;
/// The agent has it.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// How long the helper sleeps between two looks: loading takes as much.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000 };

/// Loads the filter, and sees its listener off.
pub fn load(scene: &Scene) -> Outcome {
    let Some(filter) = scene.plan.seccomp.get() else { return Err(Errno::NOENT).during(Call::Seccomp) };
    let load = || xebec_seccomp::load(filter).map_err(|errno| Errno::from_raw_os_error(errno.0)).during(Call::Seccomp);
    if !filter.uses_notify {
        return load().map(drop);
    }
    let accepted = await_taker(scene)?;
    let taker = accepted.as_ref().map_or(process::number(scene.channel), |taker| process::number(taker.as_fd()));
    HELPER.start(send_listener, taker)?;
    let Some(listener) = load()? else { return Err(Errno::NOENT).during(Call::Seccomp) };
    LISTENER.store(process::number(listener.as_fd()), Ordering::Release);
    while !TAKEN.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
    // Both stay open until execve closes them: close(2) would be a call.
    std::mem::forget((listener, accepted));
    Ok(())
}

/// `start` connects when it is told to, and whoever else starts us holds the channel.
fn await_taker(scene: &Scene) -> Outcome<Option<OwnedFd>> {
    let Some(gate) = &scene.gate else { return Ok(None) };
    let Some(socket) = gate.listener else { return Err(Errno::NOENT).during(Call::Accept) };
    rustix::io::write(gate.report, &Record::note(Kind::Listener).to_bytes()).during(Call::Write)?;
    retry_on_intr(|| accept_with(socket, SocketFlags::CLOEXEC)).map(Some).during(Call::Accept)
}

/// The helper's story. Without a taker the filter's calls would wait for ever: then it ends the child.
fn send_listener(taker: u32) {
    let listener = loop {
        match LISTENER.load(Ordering::Acquire) {
            NONE => drop(nanosleep(&PAUSE)),
            number => break process::borrow(number),
        }
    };
    match give(process::borrow(taker), listener) {
        Ok(()) => TAKEN.store(true, Ordering::Release),
        Err(_) => process::exit_now(1),
    }
}

fn give(taker: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> Result<(), Errno> {
    wire::send_fd(taker, &Record::note(Kind::Listener).to_bytes(), listener)?;
    wire::expect_byte(taker, wire::TAKEN)
}
