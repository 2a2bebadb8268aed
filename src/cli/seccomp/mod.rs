//! `xebec seccomp`: profiles for people. One file a verb.

pub mod args;
mod diff;
mod engine;
mod profile;
mod record;
mod show;
mod test;

use xebec::Result;
use xebec_seccomp::Arch;

use super::args::Global;
use super::log::Log;
use args::{Seccomp, Verb};

/// An answer that a script may want to tell from success and from failure.
const ANOTHER_ANSWER: u8 = 2;

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: &Seccomp) -> Result<u8> {
    match &args.verb {
        Verb::Show(args) => show::run(args),
        Verb::Test(args) => test::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Record(args) => record::run(global, log, args),
    }
}

/// An architecture as people call it: `x86_64`.
fn short(arch: Arch) -> String {
    arch.spec_name().trim_start_matches("SCMP_ARCH_").to_lowercase()
}
