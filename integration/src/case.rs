//! What a test is: a sentence for a name, the clause it holds a runtime to, and a body.

use crate::trial::Trial;

/// Why a body ended early.
#[derive(Debug)]
pub enum Stop {
    /// The runtime did not do what the cited clause says.
    Fail(String),
    /// This machine cannot show it; the text says what is missing.
    Skip(String),
}

pub type Outcome<T = ()> = Result<T, Stop>;

/// One conformance test.
pub struct Case {
    /// `group.sentence_with_underscores`, unique in the suite.
    pub name: String,
    /// Section of the runtime specification, or `engine contract` for what engines rely on.
    pub cites: &'static str,
    /// Set when neither runc 1.1.5 nor crun 1.8.1 can pass: why, and the clause that still asks for it.
    pub beyond_peers: Option<&'static str>,
    pub body: Box<dyn Fn(&mut Trial) -> Outcome + Send + Sync>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Case({})", self.name)
    }
}

/// A group of cases under one name prefix and, unless a case says otherwise, one citation.
#[derive(Debug)]
pub struct Group {
    prefix: &'static str,
    cites: &'static str,
    pub cases: Vec<Case>,
}

impl Group {
    pub fn new(prefix: &'static str, cites: &'static str) -> Group {
        Group { prefix, cites, cases: Vec::new() }
    }

    /// Cases added from here on cite this clause.
    pub fn citing(&mut self, cites: &'static str) {
        self.cites = cites;
    }

    pub fn add(&mut self, name: impl AsRef<str>, body: impl Fn(&mut Trial) -> Outcome + Send + Sync + 'static) {
        self.cases.push(Case {
            name: format!("{}.{}", self.prefix, name.as_ref()),
            cites: self.cites,
            beyond_peers: None,
            body: Box::new(body),
        });
    }

    /// A case for what the specification asks and both peers lack; `why` names the clause.
    pub fn add_beyond_peers(
        &mut self,
        why: &'static str,
        name: impl AsRef<str>,
        body: impl Fn(&mut Trial) -> Outcome + Send + Sync + 'static,
    ) {
        self.add(name, body);
        if let Some(case) = self.cases.last_mut() {
            case.beyond_peers = Some(why);
        }
    }
}

macro_rules! stop_from {
    ($($error:ty),*) => { $(
        impl From<$error> for Stop {
            fn from(error: $error) -> Stop {
                Stop::Fail(format!("the harness could not go on: {error}"))
            }
        }
    )* };
}
stop_from!(std::io::Error, nix::Error, serde_json::Error, std::string::FromUtf8Error, std::num::ParseIntError);

pub fn fail<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Stop::Fail(message.into()))
}

pub fn skip<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Stop::Skip(reason.into()))
}

/// Fails the test with a message unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::case::Stop::Fail(format!($($message)+)));
        }
    };
}

/// Fails the test unless both sides are equal; says what was compared.
#[macro_export]
macro_rules! equal {
    ($found:expr, $expected:expr, $($what:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if found != expected {
                    return Err($crate::case::Stop::Fail(format!(
                        "{}: expected {:?}, found {:?}", format!($($what)+), expected, found
                    )));
                }
            }
        }
    };
}
