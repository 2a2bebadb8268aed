//! resources.json of `update`: never a panic, and escapes change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xebec::config::check::check_resources;
use xebec::config::parse_resources;
use xebec_fuzz::{assert_same, escaped};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(resources) = parse_resources("resources.json", text) else { return };
    let long = escaped(text);
    let again = parse_resources("resources.json", &long).expect("the same text with escapes is read");
    assert_same(&resources, &again);
    assert_same(&check_resources(&resources), &check_resources(&again));
});
