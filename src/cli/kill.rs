//! `xebec kill`.

use xebec::{Result, teardown};

use super::args::{Global, Kill};
use super::matching;
use super::settings;

#[inline(never)]
pub fn run(global: &Global, args: &Kill) -> Result<u8> {
    let root = settings::root(global)?;
    if !args.regex {
        teardown::kill(&root, &settings::id(&args.id)?, args.signal, args.all)?;
        return Ok(0);
    }
    matching::each(&root, &args.id, |id| teardown::kill(&root, id, args.signal, args.all))?;
    Ok(0)
}
