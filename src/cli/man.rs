//! `xebec man DIR`: a manual page for the program and one for each verb.

use std::path::Path;

use xebec::Result;

use super::args::Man;
use super::{full, io_error};

pub fn run(args: &Man) -> Result<u8> {
    let program = full::describe();
    write_verbs(&args.dir, &program, "xebec")?;
    write_page(&args.dir, program)?;
    Ok(0)
}

/// A page for each verb of `program`, and for the verbs below it.
fn write_verbs(dir: &Path, program: &clap::Command, usage: &str) -> Result<()> {
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let usage = format!("{usage} {}", verb.get_name());
        write_verbs(dir, verb, &usage)?;
        write_page(dir, verb.clone().name(usage.replace(' ', "-")).bin_name(usage))?;
    }
    Ok(())
}

fn write_page(dir: &Path, command: clap::Command) -> Result<()> {
    let path = dir.join(format!("{}.8", command.get_name()));
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .section("8")
        .render(&mut page)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|error| io_error(&path.display().to_string(), "write", &error))
}
