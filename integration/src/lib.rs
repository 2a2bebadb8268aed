//! Black-box conformance tests for OCI container runtimes: the command line, and what bench uses of it.
//!
//! `runner` starts every test as a fresh copy of this binary, `sandbox` isolates that copy,
//! `trial` is what a test body works with, `tests/` holds the cases and `report` prints.
//! Nothing here knows how a particular runtime is built: a runtime is a path.

mod agent;
mod bundle;
mod call;
mod case;
mod console;
mod differences;
pub mod endtoend;
mod hosttree;
pub mod leftovers;
mod mode;
mod mountinfo;
pub mod options;
pub mod peers;
mod proc;
mod report;
mod runner;
pub mod sandbox;
mod sys;
mod systemd;
mod tests;
mod trial;

use std::process::ExitCode;

/// What the program does.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "--stage") {
        return sandbox::enter(&arguments[1..]);
    }
    if let Err(errno) = sys::keep_inherited_descriptors() {
        eprintln!("xebec-integration: close_range: {errno}");
        return ExitCode::from(2);
    }
    if let Some(code) = endtoend::run(&arguments) {
        return code;
    }
    let options = match options::parse(&arguments) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("xebec-integration: {message}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        return report::list(&tests::all(), &options);
    }
    match runner::run(&options) {
        Ok(results) => report::print(&results, &options),
        Err(message) => {
            eprintln!("xebec-integration: {message}");
            ExitCode::from(2)
        }
    }
}
