//! `xebec start`.

use xebec::{Result, spawn};

use super::args::{Global, One};
use super::log::Log;
use super::settings;

pub fn run(global: &Global, log: &Log, args: &One) -> Result<u8> {
    log.warn(&spawn::start(&settings::root(global)?, &settings::id(&args.id)?)?);
    Ok(0)
}
