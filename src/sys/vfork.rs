//! clone3(2) as vfork(2) does it: the child borrows this process's memory until it executes.

use std::ffi::c_void;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::process::{CLONE_CLEAR_SIGHAND, Child, CloneArgs, exit_now};

/// clone3(2) without a copy of the memory: the child runs `body` on what is left of this stack, and
/// the calling thread stands still until it has executed a program or ended (CLONE_VFORK).
///
/// The child has this thread's thread-local variables too, errno among them; nobody else uses them meanwhile.
/// What `body` allocates and frees is the caller's, in whose place it works. It must not panic, must not close what an `OwnedFd` of the caller's stands for in
/// any other way than by closing its own copy (the fd table is its own, unless `share_files`), and what it leaves
/// in memory is what the caller finds. ENOSYS on other machines than x86_64 and aarch64.
pub fn clone3_vfork<F: FnMut() -> i32>(
    cgroup: Option<BorrowedFd<'_>>,
    share_files: bool,
    mut body: F,
) -> Result<Child, Errno> {
    let mut pidfd: i32 = -1;
    let files = if share_files { libc::CLONE_FILES } else { 0 };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | files;
    let mut args = CloneArgs {
        flags: flags as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.enter_cgroup(cgroup);
    }
    let entry: unsafe extern "C" fn(*mut c_void) -> ! = enter::<F>;
    // SAFETY: without a stack of its own the child begins where ours is, aligned, and never returns to what is
    // above; CLONE_VFORK keeps this thread from using what is below. `body` is a valid F that nobody else
    // uses meanwhile; `enter::<F>` never returns.
    let result = unsafe { clone3_on_stack(&raw mut args, entry, (&raw mut body).cast()) };
    if result < 0 {
        return Err(Errno::from_raw_os_error(-result as i32));
    }
    let pid = Pid::from_raw(result as i32).ok_or(Errno::INVAL)?;
    // SAFETY: the kernel wrote a fresh fd for the child into `pidfd`.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// The child's first function.
///
/// # Safety
/// `body` points to an F that is the child's alone.
unsafe extern "C" fn enter<F: FnMut() -> i32>(body: *mut c_void) -> ! {
    // SAFETY: the caller's promise.
    let body = unsafe { &mut *body.cast::<F>() };
    exit_now(body())
}

/// The call itself. The child goes on with another stack pointer, or on a stack that is not its own, so it may not
/// return through any frame: it calls `entry(data)` right away. Other machines than these copy the memory.
///
/// # Safety
/// `args` is valid and names a stack aligned to 16 bytes, or has CLONE_VFORK and none; `entry` may be called with `data`.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(unused_variables))]
pub(super) unsafe fn clone3_on_stack(
    args: *mut CloneArgs,
    entry: unsafe extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> i64 {
    let result: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: syscall clobbers rcx and r11 only; in the child, where it gives 0, nothing returns here.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") entry,
            in("r13") data,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: svc clobbers x0 only; in the child, where it gives 0, nothing returns here.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk 1",
            "2:",
            inlateout("x0") args => result,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x20") entry,
            in("x21") data,
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        result = -i64::from(libc::ENOSYS);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;

    #[test]
    fn the_child_works_in_our_memory_before_we_go_on() {
        let mut seen = 0;
        let child = clone3_vfork(None, false, || {
            seen = 42;
            7
        });
        let child = match child {
            Err(Errno::NOSYS) => return,
            child => child.expect("cloned"),
        };
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).expect("waited");
        assert_eq!(status.and_then(|status| status.exit_status()), Some(7));
        assert_eq!(seen, 42);
    }
}
