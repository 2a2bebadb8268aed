//! The options before the verb that must be known even when the rest of the line is wrong.

use std::ffi::{OsStr, OsString};

use super::args::{LogFormat, LogTarget};
use super::value;

/// Where the verb stands, and where its failure is recorded.
#[derive(Debug, Default, PartialEq)]
pub struct Leading {
    pub verb: Option<usize>,
    pub log: Option<LogTarget>,
    pub log_format: LogFormat,
}

/// Reads the options before the verb as well as it can; never fails.
pub fn leading(words: &[OsString]) -> Leading {
    const VALUED: [&str; 6] = ["--root", "--log", "--log-format", "--log-level", "--cgroup-manager", "--rootless"];
    let mut found = Leading::default();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        if !text.starts_with('-') {
            found.verb = Some(at);
            break;
        }
        let (name, mut given) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (&*text, None),
        };
        if given.is_none() && VALUED.contains(&name) {
            at += 1;
            given = words.get(at).cloned();
        }
        match (name, given.as_deref()) {
            ("--log", Some(target)) => found.log = value::parse_log_target(target).ok(),
            ("--log-format", Some(format)) if format == OsStr::new("json") => found.log_format = LogFormat::Json,
            _ => {}
        }
        at += 1;
    }
    found
}
