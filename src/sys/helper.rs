//! A second thread beside the child, which neither allocates nor links a thread library.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::process::CloneArgs;
use super::vfork::clone3_on_stack;

/// More than the frames of a few system calls.
const STACK: usize = 64 << 10;

/// What the helper runs.
type Body = fn(u32);

/// The one helper's stack and story; never used twice in a process.
#[repr(C, align(16))]
struct Helper {
    stack: UnsafeCell<[u8; STACK]>,
    body: UnsafeCell<(Body, u32)>,
    used: AtomicBool,
}

// SAFETY: `used` lets one thread in, once: it writes `body` before the helper exists, and both cells are
// the helper's alone from then on.
unsafe impl Sync for Helper {}

static HELPER: Helper =
    Helper { stack: UnsafeCell::new([0; STACK]), body: UnsafeCell::new((|_| (), 0)), used: AtomicBool::new(false) };

/// clone3(2) of a thread that calls `body(argument)` and ends. It shares everything with this one, file
/// descriptors too, but has what belongs to a task for itself: a seccomp filter that this thread loads
/// afterwards does not judge it. execve(2) ends it, exit_group(2) ends both.
///
/// It shares this thread's thread-local variables as well, errno among them: `body` must neither use any, nor
/// allocate, nor panic. EBUSY for the second one in a process; ENOSYS on other machines than x86_64 and aarch64.
pub fn start(body: Body, argument: u32) -> Result<(), Errno> {
    if HELPER.used.swap(true, Ordering::Relaxed) {
        return Err(Errno::BUSY);
    }
    // SAFETY: `used` makes us the first and only one here, and the helper does not exist yet.
    unsafe { *HELPER.body.get() = (body, argument) };
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let mut args = CloneArgs {
        flags: flags as u64,
        stack: HELPER.stack.get() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    // SAFETY: the stack is aligned (its type says so), the helper's alone, and static; `enter` never returns.
    match unsafe { clone3_on_stack(&raw mut args, enter, std::ptr::null_mut()) } {
        result if result < 0 => Err(Errno::from_raw_os_error(-result as i32)),
        _ => Ok(()),
    }
}

/// The helper's first function.
///
/// # Safety
/// Only for the helper.
unsafe extern "C" fn enter(_: *mut c_void) -> ! {
    // SAFETY: written before this thread was made, and not touched since.
    let (body, argument) = unsafe { *HELPER.body.get() };
    body(argument);
    loop {
        // SAFETY: exit(2) ends this thread only; nothing of it is used afterwards.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::time::{Duration, Instant};

    #[test]
    fn the_helper_works_in_our_memory_and_there_is_one() {
        static SEEN: AtomicU32 = AtomicU32::new(0);
        match start(|argument| SEEN.store(argument, Ordering::Release), 42) {
            Err(Errno::NOSYS) => return,
            started => started.expect("started"),
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while SEEN.load(Ordering::Acquire) == 0 && Instant::now() < deadline {
            std::hint::spin_loop();
        }
        assert_eq!(SEEN.load(Ordering::Acquire), 42);
        assert_eq!(start(|_| (), 0), Err(Errno::BUSY));
    }
}
