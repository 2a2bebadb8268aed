//! state.json: what is read can be written and is then read alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xebec::state::Container;
use xebec_fuzz::{assert_same, escaped};

fuzz_target!(|data: &[u8]| {
    let text = Some(data.to_vec());
    let Some(record) = Container::parse(&text) else { return };
    let written = Some(serde_json::to_vec(&record).expect("a record is JSON"));
    assert_same(&record, &Container::parse(&written).expect("what we wrote"));
    let long = Some(escaped(std::str::from_utf8(data).expect("JSON is UTF-8")).into_bytes());
    assert_same(&record, &Container::parse(&long).expect("the same text with escapes is read"));
});
