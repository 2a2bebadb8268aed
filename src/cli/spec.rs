//! `xebec spec`: writes a config.json to start from; never over one that is there.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use xebec::Result;

use super::args::Spec;
use super::io_error;

pub fn run(args: &Spec) -> Result<u8> {
    let owner = args.rootless.then(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    let config = format!("{}\n", xebec::spec::default_config(owner).trim_end());
    let file = args.file.as_deref().unwrap_or(Path::new("config.json"));
    if file == Path::new("-") {
        return super::print(&config);
    }
    let path = args.bundle.as_deref().unwrap_or(Path::new(".")).join(file);
    let written = OpenOptions::new().write(true).create_new(true).open(&path);
    written.and_then(|mut file| file.write_all(config.as_bytes())).map_err(|error| {
        let failure = io_error(&path.display().to_string(), "write", &error);
        if error.kind() == ErrorKind::AlreadyExists { failure.hint("remove it first") } else { failure }
    })?;
    Ok(0)
}
