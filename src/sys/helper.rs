//! A second thread, or a process in this memory, that neither allocates nor links a thread library.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::futex;
use rustix::time::Timespec;

use super::process::CloneArgs;
use super::raw::syscall;
use super::vfork::clone3_on_stack;
use super::{Call, During, Outcome};

/// More than the frames of a few system calls.
const STACK: usize = 64 << 10;

/// What a helper runs.
type Body = fn(u32);

/// A place for one helper at a time: its stack and its story.
#[repr(C, align(16))]
pub struct Helper {
    stack: UnsafeCell<[u8; STACK]>,
    /// `None` when new: a place of zeros takes no room in the program.
    body: UnsafeCell<Option<(Body, u32)>>,
    /// 0 when there is no helper; the kernel writes it when one has ended (CLONE_CHILD_CLEARTID).
    busy: AtomicU32,
}

// SAFETY: `busy` lets one thread in at a time: it writes `body` before the helper exists, and both cells are
// the helper's alone until the kernel says that it has ended.
unsafe impl Sync for Helper {}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helper").field("busy", &self.busy).finish_non_exhaustive()
    }
}

impl Helper {
    /// Room for one, with nobody in it; it has to be a static.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Helper {
        Helper { stack: UnsafeCell::new([0; STACK]), body: UnsafeCell::new(None), busy: AtomicU32::new(0) }
    }

    /// clone3(2) of a thread that calls `body(argument)` and ends. It shares everything with this one, file
    /// descriptors too, but has what belongs to a task for itself: namespaces that it unshares, and a seccomp
    /// filter that this thread loads afterwards does not judge it. execve(2) ends it, exit_group(2) ends both.
    ///
    /// It shares this thread's thread-local variables as well, errno among them: `body` must neither use any (so no
    /// call of the C library's), nor allocate, nor panic. EBUSY while the place is taken, which it stays for ever
    /// after another error; ENOSYS on other machines than x86_64 and aarch64.
    ///
    /// All signals are blocked in it: a handler of the caller's program would run with this thread's variables.
    pub fn start(&'static self, body: Body, argument: u32) -> Outcome {
        let shared = libc::CLONE_FS | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;
        self.clone(shared, body, argument).map(drop)
    }

    /// The same as a process of its own, in a new user namespace, which a thread cannot have. It shares memory and file
    /// descriptors with this one, and not its end: neither execve(2) nor exit_group(2) here ends it. Whoever may trace
    /// it may change this process too (`PR_SET_DUMPABLE` counts for both), and its user namespace's owner may.
    ///
    /// Nobody is told of its end (no signal): the caller waits for it with __WALL.
    pub fn start_in_new_user(&'static self, body: Body, argument: u32) -> Outcome<Pid> {
        let pid = self.clone(libc::CLONE_NEWUSER, body, argument)?;
        Pid::from_raw(pid as i32).ok_or(Errno::INVAL).during(Call::Clone3)
    }

    /// Is nobody in it, or nobody any more?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }

    /// Waits until nobody is.
    pub fn join(&self) {
        const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        while !self.has_ended() {
            // The kernel wakes whoever waits (not privately); EINTR, EAGAIN and the time are looked at in the loop.
            futex::wait(&self.busy, futex::Flags::empty(), 1, Some(&GLANCE)).ok();
        }
    }

    fn clone(&'static self, flags: i32, body: Body, argument: u32) -> Outcome<i64> {
        if self.busy.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(Errno::BUSY).during(Call::Clone3);
        }
        // SAFETY: `busy` makes us the only one here, and there is no helper.
        unsafe { *self.body.get() = Some((body, argument)) };
        let flags = flags | libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID;
        let mut args = CloneArgs {
            flags: flags as u64,
            child_tid: self.busy.as_ptr() as u64,
            stack: self.stack.get() as u64,
            stack_size: STACK as u64,
            ..CloneArgs::default()
        };
        let mask = set_signal_mask(u64::MAX).during(Call::Sigprocmask)?;
        // SAFETY: the stack is aligned (its type says so), the helper's alone, and static; so is `busy`, which the
        // kernel clears; `enter` never returns.
        let made = unsafe { clone3_on_stack(&raw mut args, enter, self.body.get().cast()) };
        set_signal_mask(mask).during(Call::Sigprocmask)?;
        match made {
            result if result < 0 => Err(Errno::from_raw_os_error(-result as i32)).during(Call::Clone3),
            pid => Ok(pid),
        }
    }
}

/// rt_sigprocmask(2) of the kernel's 64 signals, those included that a C library keeps for itself; the mask before.
fn set_signal_mask(mask: u64) -> Result<u64, Errno> {
    let mut before = 0u64;
    // SAFETY: both masks are of the size told, and the kernel only reads the first and writes the second.
    let set = unsafe {
        syscall!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, size_of::<u64>())
    };
    set.map(|_| before)
}

/// The helper's first function.
///
/// # Safety
/// `story` is its place's `body`.
unsafe extern "C" fn enter(story: *mut c_void) -> ! {
    // SAFETY: written before this thread was made, and not touched until it has ended.
    if let Some((body, argument)) = unsafe { *story.cast::<Option<(Body, u32)>>() } {
        body(argument);
    }
    loop {
        // SAFETY: exit(2) ends this thread only, or the process that it is; nothing of it is used afterwards.
        unsafe { syscall!(libc::SYS_exit, 0) }.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn wait_for(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() && Instant::now() < deadline {
            std::hint::spin_loop();
        }
        assert!(what());
    }

    #[test]
    fn a_helper_works_in_our_memory_one_at_a_time() {
        static PLACE: Helper = Helper::new();
        static SEEN: AtomicU32 = AtomicU32::new(0);
        static MAY_END: AtomicU32 = AtomicU32::new(0);
        fn body(argument: u32) {
            SEEN.store(argument, Ordering::Release);
            while MAY_END.load(Ordering::Acquire) != argument {
                std::hint::spin_loop();
            }
        }
        for argument in [42, 43] {
            match PLACE.start(body, argument) {
                Err(fail) if fail.errno == Errno::NOSYS => return,
                started => started.expect("started"),
            }
            wait_for(|| SEEN.load(Ordering::Acquire) == argument);
            assert_eq!(PLACE.start(body, 0), Err(Errno::BUSY).during(Call::Clone3));
            MAY_END.store(argument, Ordering::Release);
            wait_for(|| PLACE.busy.load(Ordering::Acquire) == 0);
        }
    }
}
