//! config.json -> findings -> plan -> text: never a panic, and escapes change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xebec::config::{check, parse_config};
use xebec_fuzz::{assert_same, escaped, plan_of};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = parse_config("config.json", text) else { return };
    let long = escaped(text);
    let again = parse_config("config.json", &long).expect("the same text with escapes is read");
    assert_same(&config, &again);
    let (findings, warnings) = check(&config);
    assert_same(&(&findings, &warnings), &check(&again));
    if findings.is_empty() {
        match (plan_of(&config), plan_of(&again)) {
            (Ok(one), Ok(two)) => assert_eq!(one.to_string(), two.to_string()),
            (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
            (one, two) => panic!("{:?} and {:?}", one.err(), two.err()),
        }
    }
});
