//! The command line's allocator: a short process frees by ending.
//!
//! Hands out one static arena from its beginning to its end; only the newest block can
//! grow, shrink or be given back. What does not fit goes to the system's allocator, so a
//! long-lived verb leaks at most the arena. Takes no lock: a child cloned while another
//! thread allocates can still allocate. For the `xebec` program only, not for the library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

/// An arena of `SIZE` bytes. In a static it lies in .bss: untouched pages cost nothing.
#[repr(C, align(64))]
pub struct Bump<const SIZE: usize> {
    memory: UnsafeCell<[u8; SIZE]>,
    /// Offset in `memory` behind the newest block; everything from there on is free.
    end: AtomicUsize,
}

// SAFETY: `memory` is only handed out in blocks, each claimed by a compare-and-swap of
// `end`, so no byte belongs to two blocks at a time.
unsafe impl<const SIZE: usize> Sync for Bump<SIZE> {}

impl<const SIZE: usize> Bump<SIZE> {
    pub const fn new() -> Self {
        Bump { memory: UnsafeCell::new([0; SIZE]), end: AtomicUsize::new(0) }
    }

    fn base(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    /// The offset of a block of this arena; None for one of the system's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.base().addr()).filter(|offset| *offset < SIZE)
    }

    /// Moves the end from one offset to another, when nobody else has moved it.
    fn shift(&self, from: usize, to: usize) -> Result<usize, usize> {
        self.end.compare_exchange(from, to, AcqRel, Acquire)
    }

    /// Claims a block; its offset.
    fn claim(&self, layout: Layout) -> Option<usize> {
        let base = self.base().addr();
        let mut end = self.end.load(Acquire);
        loop {
            let start = (base + end).checked_next_multiple_of(layout.align())? - base;
            let new_end = start.checked_add(layout.size()).filter(|new_end| *new_end <= SIZE)?;
            match self.shift(end, new_end) {
                Ok(_) => return Some(start),
                Err(moved) => end = moved,
            }
        }
    }
}

// SAFETY: blocks are disjoint (see `claim`), aligned as asked, and stay valid as long as
// the arena, which is 'static where it is the global allocator; other blocks are the
// system allocator's and go back to it, told apart by their address.
// Not inlined: at every place that allocates that would add a sixth to the program.
unsafe impl<const SIZE: usize> GlobalAlloc for Bump<SIZE> {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.claim(layout) {
            // SAFETY: `claim` gives an offset of at most SIZE.
            Some(start) => unsafe { self.base().add(start) },
            // SAFETY: the caller's promise on `layout` is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            // Another block came after it: it stays until the process ends.
            Some(start) => drop(self.shift(start + layout.size(), start)),
            // SAFETY: not of the arena, so it came from System with this layout.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(block) else {
            // SAFETY: not of the arena, so it came from System with this layout.
            return unsafe { System.realloc(block, layout, size) };
        };
        let fits = start.checked_add(size).filter(|end| *end <= SIZE);
        if fits.is_some_and(|end| self.shift(start + layout.size(), end).is_ok()) || size <= layout.size() {
            return block;
        }
        // SAFETY: `size` with this alignment does not overflow, by the caller's promise.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both blocks hold `layout.size()` bytes (the new one is larger), and
            // are disjoint, the old one being still claimed.
            unsafe { std::ptr::copy_nonoverlapping(block, moved, layout.size()) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a valid layout")
    }

    #[test]
    fn blocks_are_aligned_and_disjoint_and_the_newest_is_given_back() {
        let arena = Bump::<4096>::new();
        // SAFETY: each block is used with the layout it was allocated with, within its size.
        unsafe {
            let first = arena.alloc(layout(3, 1));
            let second = arena.alloc(layout(64, 64));
            assert!(second.addr().is_multiple_of(64) && second.addr() >= first.addr() + 3);
            first.write_bytes(1, 3);
            second.write_bytes(2, 64);
            assert_eq!(std::slice::from_raw_parts(first, 3), [1; 3]);
            arena.dealloc(second, layout(64, 64));
            assert_eq!(arena.alloc(layout(64, 64)), second);
            arena.dealloc(first, layout(3, 1));
            assert_ne!(arena.alloc(layout(3, 1)), first, "an older block is not handed out again");
        }
    }

    #[test]
    fn the_newest_block_grows_in_place_and_an_older_one_moves_with_its_contents() {
        let arena = Bump::<4096>::new();
        // SAFETY: as above.
        unsafe {
            let first = arena.alloc(layout(8, 8));
            first.write_bytes(7, 8);
            assert_eq!(arena.realloc(first, layout(8, 8), 100), first);
            let second = arena.alloc(layout(8, 8));
            assert!(second.addr() >= first.addr() + 100);
            let moved = arena.realloc(first, layout(100, 8), 200);
            assert_ne!(moved, first);
            assert_eq!(std::slice::from_raw_parts(moved, 8), [7; 8]);
            assert_eq!(arena.realloc(second, layout(8, 8), 4), second, "shrinking never moves");
        }
    }

    #[test]
    fn what_does_not_fit_goes_to_the_system_and_back() {
        let arena = Bump::<128>::new();
        // SAFETY: as above.
        unsafe {
            let large = arena.alloc(layout(4096, 16));
            assert!(!large.is_null() && arena.offset(large).is_none());
            large.write_bytes(3, 4096);
            let larger = arena.realloc(large, layout(4096, 16), 8192);
            assert_eq!(std::slice::from_raw_parts(larger, 4096), [3; 4096]);
            arena.dealloc(larger, layout(8192, 16));
            let small = arena.alloc(layout(100, 1));
            let outgrown = arena.realloc(small, layout(100, 1), 1000);
            assert!(arena.offset(small).is_some() && arena.offset(outgrown).is_none());
            arena.dealloc(outgrown, layout(1000, 1));
        }
    }

    #[test]
    fn zeroed_memory_is_zero_even_where_a_block_was_before() {
        let arena = Bump::<4096>::new();
        // SAFETY: as above.
        unsafe {
            let dirty = arena.alloc(layout(64, 8));
            dirty.write_bytes(0xff, 64);
            arena.dealloc(dirty, layout(64, 8));
            let clean = arena.alloc_zeroed(layout(64, 8));
            assert_eq!(clean, dirty);
            assert_eq!(std::slice::from_raw_parts(clean, 64), [0; 64]);
        }
    }

    #[test]
    fn threads_never_get_the_same_bytes() {
        static ARENA: Bump<{ 1 << 16 }> = Bump::new();
        // Miri takes a thousand times as long.
        let rounds = if cfg!(miri) { 30usize } else { 2000 };
        let fill = |mark: u8| {
            for round in 0..rounds {
                let layout = layout(1 + round % 24, 8);
                // SAFETY: as above; the block is this thread's alone until given back.
                unsafe {
                    let block = ARENA.alloc(layout);
                    block.write_bytes(mark, layout.size());
                    std::thread::yield_now();
                    assert!(std::slice::from_raw_parts(block, layout.size()).iter().all(|byte| *byte == mark));
                    ARENA.dealloc(block, layout);
                }
            }
        };
        std::thread::scope(|scope| {
            for mark in 1..5 {
                scope.spawn(move || fill(mark));
            }
        });
    }
}
