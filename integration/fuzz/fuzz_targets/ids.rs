//! Container ids, user ids, lists of numbers and sizes: what is taken is exactly what it says.
#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub)]

#[path = "../../../src/cli/args.rs"]
mod args;
#[path = "../../../src/cli/value.rs"]
mod value;

use libfuzzer_sys::fuzz_target;
use xebec::ContainerId;
use xebec::config::words::ranges;

/// Digits without a sign, as the number's own text but for leading zeros.
fn is_number(word: &str, number: u32) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_digit())
        && word.trim_start_matches('0') == number.to_string().trim_start_matches('0')
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = ContainerId::new(text) {
        assert_eq!(id.as_str(), text);
        assert!(!text.contains('/') && text != "." && text != ".." && (1..=255).contains(&text.len()), "{text:?}");
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    }
    if let Ok(user) = value::user(text) {
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        assert!(is_number(uid, user.uid), "{text:?} is {user:?}");
        assert_eq!(gid.is_some(), user.gid.is_some());
        assert!(gid.zip(user.gid).is_none_or(|(word, gid)| is_number(word, gid)), "{text:?} is {user:?}");
    }
    if let Some(list) = ranges(text) {
        let printed: Vec<String> = list.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        assert_eq!(ranges(&printed.join(",")), Some(list));
    }
    if let Ok(bytes) = value::bytes(text) {
        assert!(bytes >= -1, "{text:?} is {bytes}");
        assert_eq!(value::bytes(&bytes.to_string()), Ok(bytes));
    }
    if let Ok(signal) = value::signal(text) {
        assert!((0..=64).contains(&signal), "{text:?} is {signal}");
    }
    if let Ok(interval) = value::interval(text) {
        assert!(!interval.is_zero(), "{text:?}");
    }
});
