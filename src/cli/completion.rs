//! `xebec completion SHELL`: completions for a shell on stdout.

use xebec::Result;

use super::args::Completion;
use super::full;

pub fn run(args: &Completion) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut full::describe(), "xebec", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
