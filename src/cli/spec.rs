//! `xebec spec`: a config to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use rustix::process::{getegid, geteuid};
use xebec::{Error, Result, spec};

use super::args::{Spec, SpecSeccomp};
use super::{io_error, print};

#[inline(never)]
pub fn run(args: &Spec) -> Result<u8> {
    let ids = args.rootless.then(|| (geteuid().as_raw(), getegid().as_raw()));
    let text = match args.seccomp {
        Some(SpecSeccomp::Default) => spec::config_with_seccomp(ids, &args.seccomp_allow, &args.seccomp_deny)?,
        None => spec::default_config(ids),
    };
    match &args.file {
        Some(file) if file.as_os_str() == "-" => return print(&text),
        Some(file) => write(&args.bundle.as_deref().unwrap_or("".as_ref()).join(file), &text)?,
        None => write(&args.bundle.as_deref().unwrap_or("".as_ref()).join("config.json"), &text)?,
    }
    Ok(0)
}

/// Never over a config that is there: it may be somebody's work.
fn write(path: &Path, text: &str) -> Result<()> {
    let item = path.display().to_string();
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::invalid(&item, "exists already").hint("remove it first, or write another with --file"));
        }
        other => other.map_err(|error| io_error(&item, "open", &error))?,
    };
    file.write_all(text.as_bytes()).map_err(|error| io_error(&item, "write", &error))
}
