//! `xebec completion SHELL`: completions for a shell on stdout.

use std::process::ExitCode;

use xebec::Result;

use super::args::Completion;
use super::full;

pub fn run(args: &Completion) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut full::describe(), "xebec", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
