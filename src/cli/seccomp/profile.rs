//! A profile that a person names: in which file, in which of three forms, and how its places are
//! called when something is to be said about them.

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use xebec::config::{Findings, parse_config, parse_seccomp, read_text};
use xebec::{Error, Kind, Result};
use xebec_seccomp::{Arch, Options, Profile};

use super::engine::{self, Host};
use crate::cli::io_error;

/// Where the rules are pointed to in a profile, whatever its form.
const RULES: &str = "/syscalls/";

/// A profile's text, and what is needed to speak of it in the words of its file.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// The `linux.seccomp` object itself.
    Plain,
    /// A whole config.json around it.
    Config,
    /// Made from an engine's file: for each rule its place there.
    Engine(Vec<usize>),
}

impl Source {
    /// Reads the profile at `path`, `-` for stdin; an engine's file for a container with `caps`.
    pub fn read(path: &Path, caps: &[String]) -> Result<Source> {
        if path.as_os_str() == "-" {
            return Source::new("stdin".to_owned(), stdin()?, caps);
        }
        let file = if path.is_dir() { &path.join("config.json") } else { path };
        let text = read_text("profile", file)?;
        Source::new(file.display().to_string(), text, caps)
    }

    fn new(name: String, text: String, caps: &[String]) -> Result<Source> {
        // What is no JSON object is refused by `profile`, which can say where.
        let Ok(Value::Object(object)) = serde_json::from_str(&text) else {
            return Ok(Source { name, text, form: Form::Plain });
        };
        if object.contains_key("ociVersion") || object.contains_key("linux") {
            return Ok(Source { name, text, form: Form::Config });
        }
        if !engine::is_engine_file(&object) {
            return Ok(Source { name, text, form: Form::Plain });
        }
        let host = Host { native: Arch::native(), caps, kernel: kernel() };
        let (profile, places) = engine::resolve(&object, &host).map_err(|findings| Findings(&findings).error(&name))?;
        Ok(Source { name, text: profile.to_string(), form: Form::Engine(places) })
    }

    /// The profile, of the right shape and with words that the specification knows.
    pub fn profile(&self) -> Result<Profile<'_>> {
        let profile = match self.form {
            Form::Config => {
                let config = parse_config(&self.name, &self.text)?;
                let none = || Error::invalid(&self.name, "/linux/seccomp: there is no profile");
                *config.linux.seccomp.ok_or_else(none)?
            }
            Form::Plain | Form::Engine(_) => parse_seccomp(&self.name, &self.text)
                .map_err(|error| Error::new(Kind::Invalid, "", self.words(&error.to_string())))?,
        };
        // Compiled to be judged: contradictions show only there.
        xebec_seccomp::compile(&profile, &options()).map_err(|error| self.refusal(&error))?;
        Ok(profile)
    }

    /// What the compiler says of this profile, as an error about its file.
    pub fn refusal(&self, error: &xebec_seccomp::Error) -> Error {
        let text = match error {
            xebec_seccomp::Error::Invalid(findings) => {
                let base = self.base();
                let all: Vec<String> = findings.iter().map(|finding| format!("{base}{finding}")).collect();
                // The base is there already.
                return Error::invalid(&self.name, self.places(&all.join("; "), ""));
            }
            other => other.to_string(),
        };
        Error::invalid(&self.name, self.words(text.trim_start_matches("seccomp profile: ")))
    }

    /// `text` with its pointers as they stand in the file.
    pub fn words(&self, text: &str) -> String {
        self.places(text, self.base())
    }

    fn base(&self) -> &'static str {
        if matches!(self.form, Form::Config) { "/linux/seccomp" } else { "" }
    }

    fn places(&self, text: &str, base: &str) -> String {
        let mut parts = text.split(RULES);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let (number, rest) = part.split_at(digits);
            let place = match (&self.form, number.parse::<usize>()) {
                (Form::Engine(places), Ok(rule)) => places.get(rule).copied().unwrap_or(rule).to_string(),
                _ => number.to_owned(),
            };
            out.push_str(&format!("{base}{RULES}{place}{rest}"));
        }
        out
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A profile as a container gets it here.
pub fn options() -> Options {
    Options::default()
}

fn stdin() -> Result<String> {
    let mut text = String::new();
    match std::io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(io_error("stdin", "read", &error)),
    }
}

/// The running kernel's VERSION.PATCHLEVEL; an engine's rules may ask for it.
fn kernel() -> (u64, u64) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let source = Source::new("p".to_owned(), text.to_owned(), &[]);
        source.and_then(|source| source.profile().map(drop)).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_fault_is_told_with_its_place_in_the_file() {
        let rule = r#"{"names":["read"],"action":"SCMP_ACT_NONE"}"#;
        let plain = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
        assert!(refused(&plain).starts_with("p: /syscalls/0/action: expected one of"), "{}", refused(&plain));
        let config = format!(r#"{{"ociVersion":"1.3.0","linux":{{"seccomp":{plain}}}}}"#);
        assert!(refused(&config).starts_with("p: /linux/seccomp/syscalls/0/action: "), "{}", refused(&config));
        let dropped = r#"{"names":["acct"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_PACCT"]}}"#;
        let engine = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{dropped},{rule}]}}"#);
        assert!(refused(&engine).starts_with("p: /syscalls/1/action: "), "{}", refused(&engine));
    }

    #[test]
    fn every_sort_of_bad_profile_is_told_with_its_place() {
        let with = |rules: &str| refused(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#));
        let arg = |arg: &str| with(&format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{arg}]}}"#));
        let contradiction = with(
            r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
               {"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}"#,
        );
        for (text, expected) in [
            (refused(r#"{"syscalls":[]}"#), "p: /defaultAction: expected one of"),
            (refused(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x"]}"#), "p: /architectures/0: expected"),
            (
                refused(r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#),
                "p: /defaultErrnoRet: expected no errno",
            ),
            (refused(r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["x"]}"#), "p: /flags/0: expected"),
            (
                with(r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","errnoRet":1}"#),
                "p: /syscalls/0/errnoRet: expected no errno",
            ),
            (with(r#"{"names":[],"action":"SCMP_ACT_ALLOW"}"#), "p: /syscalls/0/names: expected at least one name"),
            (
                arg(r#"{"index":6,"value":1,"op":"SCMP_CMP_EQ"}"#),
                "p: /syscalls/0/args/0/index: expected an argument index from 0 to 5",
            ),
            (arg(r#"{"index":0,"value":1,"op":"="}"#), "p: /syscalls/0/args/0/op: expected"),
            (arg(r#"{"index":"0","value":1,"op":"SCMP_CMP_EQ"}"#), "p: /syscalls/0/args/0/index: "),
            (contradiction, "p: /syscalls/0 and /syscalls/1 have the same conditions"),
            (refused(r#"{"ociVersion":"1.3.0","linux":{}}"#), "p: /linux/seccomp: there is no profile"),
            (refused("[]"), "p: "),
            (refused("{"), "p: not JSON: "),
        ] {
            assert!(text.starts_with(expected), "{text}");
        }
    }
}
