//! Command lines, a word each line: what the fast parser reads clap reads alike, and neither panics.
#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub)]

#[path = "../../../src/cli/args.rs"]
mod args;
#[path = "../../../src/cli/fast.rs"]
mod fast;
#[path = "../../../src/cli/full.rs"]
mod full;
#[path = "../../../src/cli/leading.rs"]
mod leading;
#[path = "../../../src/cli/value.rs"]
mod value;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let words: Vec<OsString> = data.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec())).collect();
    let fast = fast::parse(&words);
    let full = full::parse(&words, &leading::leading(&words));
    if let Some(fast) = fast {
        assert_eq!(full::Parsed::Run(Box::new(fast)), full, "{words:?}");
    }
});
