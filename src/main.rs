//! The `xebec` program: a command line in front of the library.
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]

#[allow(unsafe_code)]
#[path = "sys/alloc.rs"]
mod alloc;
mod cli;
#[cfg(all(not(test), target_arch = "x86_64"))]
#[allow(unsafe_code)]
#[path = "sys/door.rs"]
mod door;
#[cfg(not(test))]
#[allow(unsafe_code)]
#[path = "sys/entry.rs"]
mod entry;

// 512 KiB is several times what the largest configs take to parse and plan.
#[global_allocator]
static ALLOCATOR: alloc::Bump<{ 512 << 10 }> = alloc::Bump::new();

/// What `entry` calls with the words after the program's name; gives the exit status.
#[cfg_attr(test, allow(dead_code))]
fn run(words: &[std::ffi::OsString]) -> u8 {
    cli::main(words)
}

/// Does the running binary lie on a read-only mount, as its first instructions have seen?
fn is_on_read_only_mount() -> bool {
    #[cfg(all(not(test), target_arch = "x86_64"))]
    let seen = door::saw_read_only_mount();
    #[cfg(not(all(not(test), target_arch = "x86_64")))]
    let seen = false;
    seen
}
