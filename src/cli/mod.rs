//! The command line: arguments in, one printed result or one error out.
//!
//! Holds nothing that another caller of the library needs.

pub mod args;
mod completion;
mod create;
mod delete;
mod doctor;
mod events;
mod exec;
pub mod fast;
mod features;
pub mod full;
mod kill;
pub mod leading;
mod log;
mod man;
mod matching;
mod mountns;
mod pause;
mod plan;
mod ps;
mod run;
mod seccomp;
mod settings;
mod spec;
mod start;
mod state;
mod update;
pub mod value;
mod version;

#[cfg(test)]
mod agreement;

use std::ffi::OsString;
use std::io::Write;

use rustix::io::Errno;
use xebec::{Error, Result};

use args::{Command, Global};
use log::Log;

/// Does what the words after the program's name say.
pub fn main(words: &[OsString]) -> u8 {
    let invocation = match fast::parse(words) {
        Some(invocation) => invocation,
        None => {
            let leading = leading::leading(words);
            match full::parse(words, &leading) {
                full::Parsed::Run(invocation) => *invocation,
                full::Parsed::Print(text) => return finish(print(&text), &Log::new(&Global::default()), 1),
                full::Parsed::Wrong(text) => {
                    let global = Global { log: leading.log, log_format: leading.log_format, ..Global::default() };
                    let verb = leading.verb.and_then(|at| words[at].to_str());
                    return finish(Err(Error::invalid("", text)), &Log::new(&global), failure(verb));
                }
            }
        }
    };
    let log = Log::new(&invocation.global);
    let failure = failure(Some(invocation.command.name()));
    finish(dispatch(&invocation.global, &log, invocation.command), &log, failure)
}

/// Engines tell a failed exec from a failed program by 255, as runc gives it.
fn failure(verb: Option<&str>) -> u8 {
    if verb == Some("exec") { 255 } else { 1 }
}

/// One file a verb; what a verb prints goes through [`print`]. None of them is inlined here, and `full` not into `main`:
/// a verb would pay with pages of stack for what the others keep there.
fn dispatch(global: &Global, log: &Log, command: Command) -> Result<u8> {
    match command {
        Command::Create(args) => create::run(global, log, &args),
        Command::Start(args) => start::run(global, log, &args),
        Command::Run(args) => run::run(global, log, &args),
        Command::State(args) => state::run(global, &args),
        Command::Kill(args) => kill::run(global, &args),
        Command::Delete(args) => delete::run(global, log, &args),
        Command::List(args) => state::list(global, &args),
        Command::Ps(args) => ps::run(global, &args),
        Command::Exec(args) => exec::run(global, log, *args),
        Command::Pause(args) => pause::run(global, &args),
        Command::Resume(args) => pause::resume(global, &args),
        Command::Update(args) => update::run(global, log, &args),
        Command::Events(args) => events::run(global, log, &args),
        Command::Seccomp(args) => seccomp::run(global, log, &args),
        Command::Spec(args) => spec::run(&args),
        Command::Features(_) => features::run(),
        Command::Plan(args) => plan::run(global, &args),
        Command::Doctor(args) => doctor::run(&args),
        Command::MountNamespace(args) => mountns::run(&args),
        Command::Version => version::run(),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The one place where a failure is told.
fn finish(result: Result<u8>, log: &Log, failure: u8) -> u8 {
    match result {
        Ok(code) => code,
        Err(error) => {
            log.fail(&error);
            failure
        }
    }
}

/// Writes a verb's result to stdout.
fn print(text: &str) -> Result<u8> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| io_error("stdout", "write", &error))?;
    Ok(0)
}

/// An [`std::io::Error`] as this crate's; one without an errno keeps its words.
fn io_error(item: &str, tried: &str, error: &std::io::Error) -> Error {
    match Errno::from_io_error(error) {
        Some(errno) => Error::sys(item, tried, errno),
        None => Error::new(xebec::Kind::System, item, format!("{tried}: {error}")),
    }
}
