//! clone3(2) of a child that works in this memory beside us, until it executes a program or ends
//! (docs/decisions/shared-memory.md).

use std::ffi::c_void;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::process::Pid;

use super::process::{CLONE_CLEAR_SIGHAND, Child, CloneArgs, exit_now};
use super::vfork::clone3_on_stack;
use super::{Call, During, Fail};

/// Several times what the deepest step takes (paths of PATH_MAX); what is not touched costs nothing.
const STACK: usize = 256 << 10;
/// Below it: to leave the stack is to die.
const GUARD: usize = 64 << 10;

/// What the child is made with, and does.
struct Story<T> {
    body: fn(&mut T) -> i32,
    scene: T,
}

/// clone3(2) without a copy of the memory, and without standing still: the child runs `body(&mut scene)`, on a stack of
/// its own, and ends with the status that this gives. `flags` are `CLONE_NEW*` and CLONE_PARENT; CLONE_PIDFD is added, and
/// CLONE_INTO_CGROUP where `cgroup` is given.
///
/// The scene and the stack are the child's and stay for ever: nobody tells when it needs them no longer. After an
/// error the caller has the scene again; that is ENOSYS on other machines than x86_64 and aarch64.
///
/// The child has this thread's thread-local variables, errno among them, while this thread uses them too: `body` must not
/// use any (no call of the C library's that sets errno), not allocate, not panic. Its descriptors are copies: it closes
/// its own, by number or as `OwnedFd`s that it has opened. What it shares with us besides is what the kernel keeps for a
/// memory: `PR_SET_DUMPABLE`, the OOM score (`oom_score_adj`), and the end: the OOM killer takes both.
pub fn clone3_sharing<T: Send + 'static>(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    scene: T,
    body: fn(&mut T) -> i32,
) -> Result<Child, (Fail, T)> {
    let stack = match map_stack().during(Call::Mmap) {
        Ok(stack) => stack,
        Err(fail) => return Err((fail, scene)),
    };
    let (bottom, story) = (stack as usize + GUARD, top_for::<Story<T>>(stack));
    // SAFETY: the place is aligned for a Story, in the new mapping, and nobody else's.
    unsafe { story.write(Story { body, scene }) };
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: flags | (libc::CLONE_VM | libc::CLONE_PIDFD) as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        // A sibling (CLONE_PARENT) has the exit signal of its cloner (clone(2)).
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        stack: bottom as u64,
        stack_size: (story as usize - bottom) as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.enter_cgroup(cgroup);
    }
    // SAFETY: the stack is new, its end aligned to 16 bytes, and it is never unmapped once there is a child; `story` is a
    // valid Story that is the child's alone from here on; `enter::<T>` never returns.
    let result = unsafe { clone3_on_stack(&raw mut args, enter::<T>, story.cast()) };
    match Pid::from_raw(result.max(0) as i32) {
        // SAFETY: the kernel wrote a fresh fd for the child into `pidfd`.
        Some(pid) => Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
        None => {
            // SAFETY: there is no child; the story is ours again as it was written, and is moved out before its memory goes.
            let scene = unsafe {
                let Story { scene, .. } = story.read();
                munmap(stack, GUARD + STACK).ok();
                scene
            };
            Err((Fail { call: Call::Clone3, errno: Errno::from_raw_os_error(-result as i32) }, scene))
        }
    }
}

/// The place for a `T` at the top of a stack, which begins below it.
fn top_for<T>(stack: *mut c_void) -> *mut T {
    const { assert!(size_of::<T>() <= STACK / 4 && align_of::<T>() <= 4096) };
    let below = size_of::<T>().next_multiple_of(align_of::<T>().max(16));
    stack.wrapping_byte_add(GUARD + STACK - below).cast()
}

/// Memory for a stack, behind pages that nobody may touch.
fn map_stack() -> Result<*mut c_void, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice, of which a part becomes writable.
    unsafe {
        let all = mmap_anonymous(std::ptr::null_mut(), GUARD + STACK, ProtFlags::empty(), MapFlags::PRIVATE)?;
        let usable = mprotect(all.byte_add(GUARD), STACK, MprotectFlags::READ | MprotectFlags::WRITE);
        if let Err(errno) = usable {
            // It cannot fail for a whole mapping.
            munmap(all, GUARD + STACK).ok();
            return Err(errno);
        }
        Ok(all)
    }
}

/// The child's first function.
///
/// # Safety
/// `story` is a valid `Story<T>` that nobody else uses.
unsafe extern "C" fn enter<T>(story: *mut c_void) -> ! {
    // SAFETY: the caller's promise.
    let story = unsafe { &mut *story.cast::<Story<T>>() };
    exit_now((story.body)(&mut story.scene))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::AsFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn status(child: &Child) -> Option<i32> {
        let ended = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).expect("waited");
        ended.and_then(|ended| ended.exit_status())
    }

    #[test]
    fn the_child_works_in_our_memory_while_we_go_on_and_keeps_its_scene() {
        static WORD: AtomicU32 = AtomicU32::new(0);
        struct Kept;
        impl Drop for Kept {
            fn drop(&mut self) {
                WORD.store(99, Ordering::Release);
            }
        }
        let child = clone3_sharing(0, None, Kept, |_| {
            WORD.store(1, Ordering::Release);
            while WORD.load(Ordering::Acquire) != 2 {
                std::hint::spin_loop();
            }
            7
        });
        let child = match child {
            Err((Fail { errno: Errno::NOSYS, .. }, _)) => return,
            child => child.map_err(|(fail, _)| fail).expect("cloned"),
        };
        while WORD.load(Ordering::Acquire) != 1 {
            std::hint::spin_loop();
        }
        WORD.store(2, Ordering::Release);
        assert_eq!(status(&child), Some(7));
        assert_eq!(WORD.load(Ordering::Acquire), 2, "what the child may use is not dropped");
    }

    #[test]
    fn after_an_error_the_scene_is_the_callers_again() {
        let word = Arc::new(());
        let no_such_flags = libc::CLONE_SIGHAND as u64;
        let (fail, scene) = clone3_sharing(no_such_flags, None, Arc::clone(&word), |_| 0).expect_err("refused");
        assert!(fail.call == Call::Clone3 && matches!(fail.errno, Errno::INVAL | Errno::NOSYS), "{fail:?}");
        drop(scene);
        assert_eq!(Arc::strong_count(&word), 1);
    }
}
