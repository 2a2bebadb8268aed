//! The child's error records: whatever the bytes, the parent finds one line of words.
#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use xebec::config::parse_config;
use xebec::init::wire::{RECORD_SIZE, Record};
use xebec::plan::Plan;
use xebec::spawn::failure::child_failure;
use xebec_fuzz::{assert_same, plan_of};

thread_local!(static PLAN: OnceCell<Plan> = const { OnceCell::new() });

fn plan() -> Plan {
    let config = include_str!("../corpus/config/full.json");
    plan_of(&parse_config("config.json", config).expect("the config is right")).expect("and can be planned")
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = [0u8; RECORD_SIZE];
    let length = data.len().min(RECORD_SIZE);
    bytes[..length].copy_from_slice(&data[..length]);
    assert!(data.len() == RECORD_SIZE || Record::from_bytes(data).is_none(), "a record of another length");
    let Some(record) = Record::from_bytes(&bytes) else { return };
    let again = Record::from_bytes(&record.to_bytes()).expect("what we wrote");
    assert_same(&record, &again);
    PLAN.with(|cell| {
        let error = child_failure(cell.get_or_init(plan), &record).to_string();
        assert!(!error.contains('\n'), "{error:?}");
    });
});
