//! `xebec seccomp test`: one call put to a profile.

use xebec::{Error, Result};
use xebec_seccomp::bpf::Call;
use xebec_seccomp::{Action, Arch, explain, syscall_name, syscall_number};

use super::args::Test;
use super::profile::{Source, options};
use super::{ANOTHER_ANSWER, short};
use crate::cli::print;

pub fn run(args: &Test) -> Result<u8> {
    let source = Source::read(&args.profile, &args.container.cap)?;
    let profile = source.profile()?;
    let options = options();
    let arch = args.arch.unwrap_or(options.native);
    let number = number(arch, &args.call)?;
    let mut values = [0; 6];
    values.iter_mut().zip(&args.args).for_each(|(value, given)| *value = *given);
    let why = explain(&profile, &options, &Call::new(arch, number, values)).map_err(|error| source.refusal(&error))?;
    let name = syscall_name(arch, number).unwrap_or("call");
    let given: Vec<String> = args.args.iter().map(|value| format!("{value:#x}")).collect();
    let call = format!("{} {name} [{number}] ({})", short(arch), given.join(", "));
    print(&format!("{call}\n{}\n", source.words(&why.to_string())))?;
    Ok(status(why.action))
}

/// 0: the call is made; 2: it is not; 3: an agent or a tracer decides.
fn status(action: Action) -> u8 {
    match action {
        Action::Allow | Action::Log => 0,
        Action::Notify | Action::Trace(_) => 3,
        Action::Errno(_) | Action::Trap | Action::KillThread | Action::KillProcess => ANOTHER_ANSWER,
    }
}

/// A number may be one that has no name: a profile answers it all the same.
fn number(arch: Arch, call: &str) -> Result<u32> {
    if let Some(number) = syscall_number(arch, call) {
        return Ok(number);
    }
    if let Ok(number) = call.parse() {
        return Ok(number);
    }
    let elsewhere: Vec<String> =
        Arch::ALL.into_iter().filter(|arch| syscall_number(*arch, call).is_some()).map(short).collect();
    let text = match elsewhere.as_slice() {
        [] => "no architecture has a system call of this name".to_owned(),
        some => format!("{} has no system call of this name; {} have", short(arch), some.join(", ")),
    };
    Err(Error::invalid(format!("SYSCALL {call}"), text))
}
