//! `xebec features`: nothing but JSON on stdout, for engines to read.

use xebec::Result;

pub fn run() -> Result<u8> {
    super::print(&format!("{}\n", xebec::features::features_json().trim_end()))
}
