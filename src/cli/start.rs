//! `xebec start`.

use xebec::{Result, spawn};

use super::args::{Global, One};
use super::log::Log;
use super::settings;

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: &One) -> Result<u8> {
    let (root, id) = (settings::root(global)?, settings::id(&args.id)?);
    log.warn(&spawn::start_and_notify(&root, &id, settings::notify_socket().as_deref())?);
    Ok(0)
}
