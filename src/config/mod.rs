//! PARSE: a bundle's config.json to a [`Config`], with all findings at once.
//!
//! Makes no system call besides reading the bundle; knows nothing of the host.

mod bundle;
pub mod check;
mod finding;
pub mod mount_options;
mod shape;
mod types;
pub mod words;

pub use bundle::Bundle;
pub use check::check;
pub use finding::{Finding, Findings, Warning};
pub use types::*;

use serde::Deserialize;

use crate::error::{Error, Result};
use shape::Shape;

/// The newest runtime-spec version whose properties are all known here.
pub const OCI_VERSION: &str = "1.3.0";

/// Reads a whole config.json. `name` is what errors call the file.
///
/// # Errors
/// Every place at which the text is not of the specification's shape.
pub fn parse_config<'a>(name: &str, text: &'a str) -> Result<Config<'a>> {
    parse(name, text, &shape::CONFIG)
}

/// Reads a process.json: what `exec --process` takes.
///
/// # Errors
/// As [`parse_config`].
pub fn parse_process<'a>(name: &str, text: &'a str) -> Result<Process<'a>> {
    parse(name, text, &shape::PROCESS)
}

/// Reads a resources.json: what `update --resources` takes.
///
/// # Errors
/// As [`parse_config`].
pub fn parse_resources<'a>(name: &str, text: &'a str) -> Result<Resources<'a>> {
    parse(name, text, &shape::RESOURCES)
}

/// The fast path stops at the first fault; only then is the text read again to
/// collect all of them.
fn parse<'a, T: Deserialize<'a>>(name: &str, text: &'a str, shape: &'static Shape) -> Result<T> {
    serde_json::from_str(text).map_err(|first| {
        let findings = shape::compare(text, shape);
        if findings.is_empty() { Error::invalid(name, first.to_string()) } else { Findings(&findings).error(name) }
    })
}
