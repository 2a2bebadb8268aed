//! process.json of `exec`: never a panic, and escapes change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xebec::config::parse_process;
use xebec_fuzz::{assert_same, escaped};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(process) = parse_process("process.json", text) else { return };
    let long = escaped(text);
    let again = parse_process("process.json", &long).expect("the same text with escapes is read");
    assert_same(&process, &again);
});
