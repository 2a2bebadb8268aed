//! What is wrong with a config, and where: the findings of `shape` and `check`.
//!
//! Findings become one error on one line, because callers show only one.

use std::fmt;

use crate::error::{Error, Result};

/// A place in the config that makes it invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// JSON pointer (RFC 6901) of the place; empty for the whole file.
    pub pointer: String,
    /// What was found there and what was expected.
    pub what: String,
}

/// A place in the config that is accepted, but perhaps not as its author meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// JSON pointer (RFC 6901) of the place.
    pub pointer: String,
    /// What was found and what happens with it.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.pointer, &self.what)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, &self.pointer, &self.what)
    }
}

fn place(f: &mut fmt::Formatter<'_>, pointer: &str, what: &str) -> fmt::Result {
    if pointer.is_empty() { f.write_str(what) } else { write!(f, "{pointer}: {what}") }
}

/// All findings of one file, for one line: `3 findings: /a: ...; /b: ...; /c: ...`.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a>(pub &'a [Finding]);

impl fmt::Display for Findings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 1 {
            write!(f, "{} findings: ", self.0.len())?;
        }
        for (i, finding) in self.0.iter().enumerate() {
            write!(f, "{}{finding}", if i > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl Findings<'_> {
    /// All findings as one error about the file `name`.
    #[must_use]
    pub fn error(&self, name: &str) -> Error {
        Error::invalid(name, self.to_string())
    }

    /// Nothing found is fine; anything found is an error about the file `name`.
    ///
    /// # Errors
    /// [`Findings::error`].
    pub fn refuse(&self, name: &str) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(self.error(name)) }
    }
}

/// A property's name as one token of a JSON pointer.
pub fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A string of the config as it is shown in a finding: quoted, and cut short.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((at, _)) => format!("{:?}...", &text[..at]),
    }
}
