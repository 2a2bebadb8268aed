//! `xebec delete`.

use xebec::{Result, teardown};

use super::args::{Delete, Global};
use super::log::Log;
use super::{matching, settings};

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: &Delete) -> Result<u8> {
    let root = settings::root(global)?;
    if !args.regex {
        log.warn(&teardown::delete(&root, &settings::id(&args.id)?, args.force)?);
        return Ok(0);
    }
    matching::each(&root, &args.id, |id| {
        log.warn(&teardown::delete(&root, id, args.force)?);
        Ok(())
    })?;
    Ok(0)
}
