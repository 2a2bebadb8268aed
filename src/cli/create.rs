//! `xebec create`.

use xebec::config::Bundle;
use xebec::{Result, spawn};

use super::args::{Create, Global};
use super::log::Log;
use super::settings;

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: &Create) -> Result<u8> {
    let options = settings::options(global, args)?;
    let id = settings::id(&args.id)?;
    let created = spawn::create(&bundle(args)?, &id, &options);
    settings::finish_timings(&options, log);
    let created = created?;
    log.warn(&created.warnings);
    Ok(0)
}

/// The bundle that --bundle and --config name.
pub fn bundle(args: &Create) -> Result<Bundle> {
    Bundle::load(args.bundle.as_deref().unwrap_or(".".as_ref()), args.config.as_deref())
}
