//! The suite's only unsafe code.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{self, seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, Pid};

/// Takes ownership of a descriptor that recvmsg(2) delivered as SCM_RIGHTS.
/// Call it once for each received number.
pub fn own_received(descriptor: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) has just installed this descriptor in our table, and nobody else holds its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

mod ioctl {
    use nix::libc::{seccomp_notif, seccomp_notif_resp};

    nix::ioctl_readwrite!(receive, b'!', 0, seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, seccomp_notif_resp);
    nix::ioctl_write_ptr!(id_valid, b'!', 2, u64);
    nix::ioctl_write_ptr_bad!(set_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
}

/// The size of a terminal's window (TIOCSWINSZ, ioctl_tty(2)).
pub fn set_window_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> nix::Result<()> {
    // SAFETY: a valid descriptor, and a pointer to the structure that this request reads.
    unsafe { ioctl::set_size(terminal.as_raw_fd(), size) }.map(drop)
}

/// The next call that waits for the agent (seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_RECV).
pub fn receive_notification(listener: BorrowedFd<'_>) -> nix::Result<seccomp_notif> {
    // SAFETY: all of its fields are numbers, for which zero is a value; the kernel wants zeros.
    let mut notification: seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: a valid descriptor, and a pointer to the structure that this request writes.
    unsafe { ioctl::receive(listener.as_raw_fd(), &mut notification) }?;
    Ok(notification)
}

/// Answers a call (SECCOMP_IOCTL_NOTIF_SEND).
pub fn answer_notification(listener: BorrowedFd<'_>, mut response: seccomp_notif_resp) -> nix::Result<()> {
    // SAFETY: a valid descriptor, and a pointer to the structure that this request reads.
    unsafe { ioctl::send(listener.as_raw_fd(), &mut response) }.map(drop)
}

/// Whether the call with this id still waits (SECCOMP_IOCTL_NOTIF_ID_VALID).
pub fn notification_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: a valid descriptor, and a pointer to the number that this request reads.
    unsafe { ioctl::id_valid(listener.as_raw_fd(), &id) }.is_ok()
}

/// Takes a capability from every program executed from here on (PR_CAPBSET_DROP, capabilities(7)).
pub fn drop_from_bounding_set(capability: u32) -> nix::Result<()> {
    // SAFETY: numbers alone.
    let done = unsafe { nix::libc::prctl(nix::libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    nix::errno::Errno::result(done).map(drop)
}

/// Keeps what the caller left open beyond stderr from every program started from here (close_range(2)):
/// a test counts descriptors, and its own are all that it may find.
pub fn keep_inherited_descriptors() -> nix::Result<()> {
    // SAFETY: numbers alone; no descriptor is closed, so none that somebody owns becomes invalid.
    let done = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    Errno::result(done).map(drop)
}

/// A copy of this process, which has one thread, that does this and ends with its status.
pub fn fork(child: impl FnOnce() -> u8) -> io::Result<Pid> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("a fork of a process with {threads} threads")));
    }
    // SAFETY: no other thread is there that could hold a lock which the copy would wait for.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => std::process::exit(child().into()),
    }
}

/// Waits until the process, a child of ours that has not been waited for, has ended; false when the time is over.
/// No looking again and again: on an emulated machine that costs more than the tests do.
pub fn await_end(child: u32, limit: Duration) -> nix::Result<bool> {
    // SAFETY: numbers alone; a new descriptor comes back.
    let number = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, child as libc::pid_t, 0) })?;
    // SAFETY: pidfd_open(2) has just made this descriptor (CLOEXEC), and nobody else holds its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(number as RawFd) };
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}

/// Starts the command with SIGCHLD ignored, as a caller leaves it that wants no zombies (sigaction(2)).
pub fn ignore_children(command: &mut Command) {
    let ignore = || {
        // SAFETY: SIG_IGN is no function that could run.
        match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) } {
            libc::SIG_ERR => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and execve it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(ignore) };
}

/// Makes one system call answer `errno` in the command and in all that it starts, by a seccomp filter as a
/// container engine's or systemd's would be. For root, who needs no no_new_privs for it; looks at no architecture.
pub fn deny_call(command: &mut Command, call: u32, errno: Errno) {
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        // The call's number is the first word of struct seccomp_data.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the program is as long as it says and outlives the call, which copies it.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
        Ok(Errno::result(result).map(drop)?)
    };
    // SAFETY: between fork and execve it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(install) };
}
