//! `xebec run`.

use xebec::Result;
use xebec::spawn::{self, RunOptions};

use super::args::{Global, Run};
use super::log::Log;
use super::{create, settings};

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: &Run) -> Result<u8> {
    let options = settings::options(global, &args.create)?;
    let id = settings::id(&args.create.id)?;
    let how = RunOptions { detach: args.detach, keep: args.keep, no_subreaper: args.no_subreaper };
    let ended = spawn::run(&create::bundle(&args.create)?, &id, &options, how);
    settings::finish_timings(&options, log);
    let exit = ended?;
    log.warn(&exit.warnings);
    Ok(exit.status as u8)
}
