//! Times that a child writes into memory it shares with its parent, one word a step.
//! Setting one neither allocates nor formats nor makes a system call that can fail.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the same clock for every process.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// An anonymous shared mapping of times, 0 where none was set. It does not survive execve(2).
#[derive(Debug)]
pub struct Stamps {
    first: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the mapping is reached through atomics only, and stays until the one owner drops it.
unsafe impl Send for Stamps {}
// SAFETY: as above.
unsafe impl Sync for Stamps {}

impl Stamps {
    /// Room for `len` times, at least one.
    pub fn new(len: usize) -> Result<Stamps, Errno> {
        let len = len.max(1);
        let bytes = len * size_of::<AtomicU64>();
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice harms no other.
        let address = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, flags, MapFlags::SHARED) }?;
        let first = NonNull::new(address.cast()).ok_or(Errno::NOMEM)?;
        Ok(Stamps { first, len })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds `len` words, zeroed by the kernel, page-aligned, until `self` is dropped.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }

    /// Notes that step `number` begins now; a number without room is ignored.
    pub fn set(&self, number: usize) {
        if let Some(word) = self.words().get(number) {
            word.store(now(), Ordering::Relaxed);
        }
    }

    /// When the step began, if it did.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<u64> {
        self.words().get(number).map(|word| word.load(Ordering::Relaxed)).filter(|time| *time != 0)
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it outlives `self`. It cannot fail for a whole mapping.
        unsafe { munmap(self.first.as_ptr().cast(), self.len * size_of::<AtomicU64>()) }.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_did_not_begin_has_no_time() {
        let stamps = Stamps::new(3).expect("memory");
        let before = now();
        stamps.set(1);
        stamps.set(9);
        assert_eq!((stamps.get(0), stamps.get(2), stamps.get(9)), (None, None, None));
        assert!(stamps.get(1).is_some_and(|time| time >= before && time <= now()));
    }
}
