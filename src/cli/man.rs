//! `xebec man DIR`: a manual page for the program and one for each verb.

use std::path::Path;

use xebec::Result;

use super::args::Man;
use super::{full, io_error};

pub fn run(args: &Man) -> Result<u8> {
    let program = full::describe();
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let (page, usage) = (format!("xebec-{}", verb.get_name()), format!("xebec {}", verb.get_name()));
        write_page(&args.dir, verb.clone().name(page).bin_name(usage))?;
    }
    write_page(&args.dir, program)?;
    Ok(0)
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
