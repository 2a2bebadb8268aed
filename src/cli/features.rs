//! `xebec features`: what this runtime can do, as features.md of the specification has it.

use xebec::{Result, features};

use super::print;

pub fn run() -> Result<u8> {
    print(&features::features_json())
}
