//! The one error type: which item, what was tried, why it failed, what helps.
//!
//! An error is built where the facts are, passed up, and printed once, by the
//! CLI. It renders as one line:
//! `mounts[3] /data: open_tree("/srv/web"): no such file or directory (ENOENT); hint: ...`

use std::borrow::Cow;
use std::fmt;

use rustix::io::Errno;

use crate::hint;

/// The result of everything that can fail in the parent.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller of the library may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The config, an argument or a file given by the caller is not valid.
    Invalid,
    /// No container has this id under this root.
    NoSuchContainer,
    /// A container with this id is there already.
    Exists,
    /// The container is not in a state that allows the operation.
    WrongState,
    /// A system call failed.
    System,
}

/// Why something failed.
#[derive(Debug, Clone)]
pub enum Cause {
    /// A system call's errno.
    Errno(Errno),
    /// A judgement of our own.
    Text(Cow<'static, str>),
}

/// One failure, ready to be printed as one line.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    item: String,
    tried: String,
    cause: Cause,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    /// `tried` (a system call as written) failed with `errno` for `item`.
    pub fn sys(item: impl fmt::Display, tried: impl fmt::Display, errno: Errno) -> Error {
        let (item, tried) = (item.to_string(), tried.to_string());
        let hint = hint::for_call(&item, &tried, errno).map(Cow::Borrowed);
        Error(Box::new(Inner { kind: Kind::System, item, tried, cause: Cause::Errno(errno), hint }))
    }

    /// A judgement of our own about `item`.
    pub fn new(kind: Kind, item: impl fmt::Display, text: impl Into<Cow<'static, str>>) -> Error {
        let cause = Cause::Text(text.into());
        Error(Box::new(Inner { kind, item: item.to_string(), tried: String::new(), cause, hint: None }))
    }

    /// `item` of the config or of the arguments is not valid.
    pub fn invalid(item: impl fmt::Display, text: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::Invalid, item, text)
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what else went wrong after it.
    #[must_use]
    pub fn note(mut self, text: &str) -> Error {
        let hint = match self.0.hint.take() {
            Some(hint) => format!("{hint}; {text}"),
            None => text.to_owned(),
        };
        self.0.hint = Some(Cow::Owned(hint));
        self
    }

    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The errno, where a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self.0.cause {
            Cause::Errno(errno) => Some(errno),
            Cause::Text(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { item, tried, cause, hint, .. } = &*self.0;
        for part in [item, tried] {
            if !part.is_empty() {
                write!(f, "{}: ", OneLine(part))?;
            }
        }
        match cause {
            Cause::Errno(errno) => write!(f, "{}", ErrnoText(*errno))?,
            Cause::Text(text) => write!(f, "{}", OneLine(text))?,
        }
        match hint {
            Some(hint) => write!(f, "; hint: {}", OneLine(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Text of a config or an image, kept on one line: control characters escaped.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(|c: char| c.is_control()) {
            match part.char_indices().last() {
                Some((at, c)) if c.is_control() => write!(f, "{}{}", &part[..at], c.escape_default())?,
                _ => f.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// `no such file or directory (ENOENT)`: the words callers match, and the name. In small letters, as Go
/// writes them: docker's client takes its exit status 126 or 127 from them and minds the case.
pub struct ErrnoText(pub Errno);

impl fmt::Display for ErrnoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.0).to_string();
        let words = text.split(" (os error").next().unwrap_or(&text);
        let (first, rest) = words.split_at_checked(1).unwrap_or(("", words));
        let words = first.to_lowercase() + rest;
        write!(f, "{words} ({:?})", nix::errno::Errno::from_raw(self.0.raw_os_error()))
    }
}

impl fmt::Debug for ErrnoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_item_call_errno_and_hint() {
        let e = Error::sys("mounts[3] /da\nta", "open_tree(\"/srv/web\")", Errno::NOENT).hint("make it first");
        assert_eq!(
            e.to_string(),
            "mounts[3] /da\\nta: open_tree(\"/srv/web\"): no such file or directory (ENOENT); hint: make it first"
        );
    }
}
