//! `xebec pause` and `xebec resume`.

use xebec::Result;

use super::args::{Global, One};
use super::settings;

#[inline(never)]
pub fn run(global: &Global, args: &One) -> Result<u8> {
    xebec::pause(&settings::root(global)?, &settings::id(&args.id)?).map(|()| 0)
}

/// Lets it go on.
#[inline(never)]
pub fn resume(global: &Global, args: &One) -> Result<u8> {
    xebec::resume(&settings::root(global)?, &settings::id(&args.id)?).map(|()| 0)
}
