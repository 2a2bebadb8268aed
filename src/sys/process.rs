//! Process creation and replacement: clone3, execve, signals of the child.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::raw::syscall;

/// `struct clone_args` of clone3(2), version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

impl CloneArgs {
    /// CLONE_INTO_CGROUP (Linux 5.7).
    pub(super) fn enter_cgroup(&mut self, cgroup: BorrowedFd<'_>) {
        self.flags |= 0x2_0000_0000;
        self.cgroup = cgroup.as_raw_fd() as u64;
    }
}

/// Handlers are this program's, and must not run in a child that has our memory (Linux 5.5).
pub(super) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// The new process, as its parent sees it.
#[derive(Debug)]
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// clone3(2) like fork: the child runs `body` on a copy of this memory and never returns.
///
/// `flags` are `CLONE_NEW*`; `CLONE_PIDFD` is added, and `CLONE_INTO_CGROUP`
/// where `cgroup` is given. `body` must not allocate: other threads' locks may
/// be held for ever in the copy.
pub fn clone3<F: FnOnce() -> i32>(flags: u64, cgroup: Option<BorrowedFd<'_>>, body: F) -> Result<Child, Errno> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        // A sibling (CLONE_PARENT) has the exit signal of its cloner (clone(2)).
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.enter_cgroup(cgroup);
    }
    // SAFETY: `args` is a valid clone_args; without CLONE_VM the child has its own copy of the memory.
    let pid = unsafe { syscall!(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) }?;
    if pid == 0 {
        exit_now(body());
    }
    let pid = Pid::from_raw(pid as i32).ok_or(Errno::INVAL)?;
    // SAFETY: the kernel wrote a fresh fd for the child into `pidfd`.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// exit_group(2): no destructors, no flushing, nothing of the C library's.
pub fn exit_now(status: i32) -> ! {
    loop {
        // SAFETY: it ends the process, and nothing of it is used afterwards.
        unsafe { syscall!(libc::SYS_exit_group, status) }.ok();
    }
}

/// Bytes of the variable that can be added after the child exists.
const SPARE_SIZE: usize = 512;

/// A NULL-terminated vector of C strings, made before the child exists, with place for one more.
#[derive(Debug)]
pub struct StringVector {
    pointers: Vec<*const c_char>,
    strings: Vec<CString>,
    spare: Box<[u8; SPARE_SIZE]>,
}

// SAFETY: the pointers lead to `strings` and `spare`, which go where they go.
unsafe impl Send for StringVector {}

impl StringVector {
    /// Keeps `strings` alive beside the pointers to them.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> StringVector {
        let mut pointers: Vec<*const c_char> = Vec::with_capacity(strings.len() + 2);
        pointers.extend(strings.iter().map(|s| s.as_ptr()));
        pointers.extend([std::ptr::null(), std::ptr::null()]);
        StringVector { pointers, strings, spare: Box::new([0; SPARE_SIZE]) }
    }

    /// Adds one string without allocating; what is too long or holds a NUL is left out.
    pub fn set_spare(&mut self, text: &[u8]) {
        if text.len() < SPARE_SIZE && !text.contains(&0) {
            self.spare[..text.len()].copy_from_slice(text);
            self.spare[text.len()] = 0;
            self.pointers[self.strings.len()] = self.spare.as_ptr().cast();
        }
    }
}

/// execve(2); returns only on failure.
pub fn execve(path: &CStr, argv: &StringVector, envp: &StringVector) -> Errno {
    // SAFETY: both vectors are NULL-terminated arrays of strings that `StringVector` keeps alive.
    let result = unsafe { syscall!(libc::SYS_execve, path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    result.err().unwrap_or(Errno::INVAL)
}

/// execveat(2) of the file that `fd` refers to; returns only on failure.
pub fn fexecve(fd: BorrowedFd<'_>, argv: &StringVector, envp: &StringVector) -> Errno {
    // SAFETY: as for `execve`; the empty path with AT_EMPTY_PATH names the open `fd`.
    let result = unsafe {
        syscall!(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    result.err().unwrap_or(Errno::INVAL)
}

/// close_range(2) with CLOSE_RANGE_CLOEXEC from `first` to the highest fd.
pub fn cloexec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only sets flags; no fd is closed under anybody.
    unsafe { syscall!(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }?;
    Ok(())
}

/// Is `fd` open, and open over execve, as one is that came over execve? (fcntl(F_GETFD))
///
/// Descriptors of our own never are: CLOEXEC is on from their birth.
#[must_use]
pub fn is_inherited(fd: u32) -> bool {
    // SAFETY: F_GETFD only reads the flags of a number.
    let flags = unsafe { syscall!(libc::SYS_fcntl, fd, libc::F_GETFD) };
    flags.is_ok_and(|flags| flags & libc::c_long::from(libc::FD_CLOEXEC) == 0)
}

/// Closes every fd above 2 that is not in `keep` (the child's first act).
///
/// Neither `OwnedFd`s of the parent's copy nor anything else may use the closed numbers afterwards.
pub fn close_all_but(keep: &mut [u32]) -> Result<(), Errno> {
    keep.sort_unstable();
    let mut first = 3;
    for &fd in keep.iter() {
        if fd > first {
            close_between(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_between(first, u32::MAX)
}

fn close_between(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the caller has listed every fd that this process still uses in `keep`.
    unsafe { syscall!(libc::SYS_close_range, first, last, 0) }?;
    Ok(())
}

/// Clears FD_CLOEXEC on a number that the caller passed us for the container.
pub fn keep_over_exec(fd: u32) -> Result<(), Errno> {
    // SAFETY: F_SETFD only changes a flag; EBADF is reported.
    unsafe { syscall!(libc::SYS_fcntl, fd, libc::F_SETFD, 0) }?;
    Ok(())
}

/// Makes `fd` one of 0, 1, 2 (dup3(2) clears CLOEXEC on the copy).
pub fn make_stdio(fd: BorrowedFd<'_>, number: i32) -> Result<(), Errno> {
    if fd.as_raw_fd() == number {
        return Ok(());
    }
    // SAFETY: both numbers are open or replaceable standard streams.
    unsafe { syscall!(libc::SYS_dup3, fd.as_raw_fd(), number, 0) }?;
    Ok(())
}

/// Gives every signal its default action and unblocks all of them, as a new program expects.
pub fn reset_signals() -> Result<(), Errno> {
    // Zeros: SIG_DFL, no flags, an empty mask; larger than the struct sigaction of any kernel.
    let default = [0u64; 8];
    let empty = 0u64;
    // SAFETY: both are as large as the kernel reads, whose sets are of 64 signals; it writes nothing back.
    unsafe {
        // Rust's runtime ignores SIGPIPE and catches SIGSEGV and SIGBUS; execve resets the caught ones itself.
        syscall!(libc::SYS_rt_sigaction, libc::SIGPIPE, default.as_ptr(), 0, size_of_val(&empty))?;
        syscall!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, 0, size_of_val(&empty))?;
    }
    Ok(())
}

/// getcwd(2) without allocation: is the working directory reachable from the root?
pub fn cwd_is_reachable() -> Result<bool, Errno> {
    // Most are short; a page of stack is one more that a container needs at its start.
    match cwd_begins_with_slash(&mut [0u8; 256]) {
        Err(Errno::RANGE) => long_cwd_is_reachable(),
        other => other,
    }
}

#[cold]
#[inline(never)]
fn long_cwd_is_reachable() -> Result<bool, Errno> {
    cwd_begins_with_slash(&mut [0u8; libc::PATH_MAX as usize])
}

fn cwd_begins_with_slash(buffer: &mut [u8]) -> Result<bool, Errno> {
    // SAFETY: the buffer is writable for the length passed.
    unsafe { syscall!(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) }?;
    Ok(buffer[0] == b'/')
}

/// The number behind a typed fd, for messages between parent and child.
#[must_use]
pub fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// The fd with this number, which the parent opened before clone3 and the child keeps.
///
/// Only for numbers that were listed in `close_all_but`'s `keep`.
#[must_use]
pub fn borrow(number: u32) -> BorrowedFd<'static> {
    // SAFETY: the number was an open fd at clone3, and the child never closes it before execve: it is in `keep`,
    // or the child is a hook of the parent's, which holds it.
    unsafe { BorrowedFd::borrow_raw(number as i32) }
}

/// chmod(2) of the very file behind `fd`, which may be an O_PATH handle: no name is looked at again.
pub fn chmod(fd: BorrowedFd<'_>, mode: rustix::fs::Mode) -> Result<(), Errno> {
    rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)
}

/// getpid(2), asked anew: a library's cached number would be the parent's.
#[must_use]
pub fn own_pid() -> i32 {
    // SAFETY: getpid has no preconditions.
    unsafe { syscall!(libc::SYS_getpid) }.unwrap_or(0) as i32
}

/// pidfd_send_signal(2) with a raw signal number: real-time signals have no name.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a NULL siginfo lets the kernel fill in its own.
    unsafe { syscall!(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) }?;
    Ok(())
}

/// close(2) by number, in a child that has a copy of an fd which its parent owns.
pub fn close_one(fd: u32) -> Result<(), Errno> {
    close_between(fd, fd)
}

/// realpath(3) into a buffer of its own: musl's malloc, which it would ask otherwise, starts with five system calls.
pub fn realpath(path: &std::path::Path) -> Result<std::path::PathBuf, Errno> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    let mut buffer = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the path ends in NUL, and the buffer has the PATH_MAX bytes that realpath may write.
    if unsafe { libc::realpath(path.as_ptr(), buffer.as_mut_ptr().cast()) }.is_null() {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL));
    }
    buffer.truncate(buffer.iter().position(|&byte| byte == 0).unwrap_or(0));
    Ok(std::ffi::OsString::from_vec(buffer).into())
}

/// A pidfd of the calling process (pidfd_open(2)).
pub fn pidfd_open_self() -> Result<OwnedFd, Errno> {
    rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
}
