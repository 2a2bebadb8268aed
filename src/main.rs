//! The `xebec` program: a command line in front of the library.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
#[path = "sys/alloc.rs"]
mod alloc;
mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

// 512 KiB is several times what the largest configs take to parse and plan.
#[global_allocator]
static ALLOCATOR: alloc::Bump<{ 512 << 10 }> = alloc::Bump::new();

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    cli::run(&words)
}
