//! The `xebec` program: a command line in front of the library.
#![deny(unsafe_code)]

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    cli::run(&words)
}
