//! CHECK: the rules of the specification and of the kernel that a config of the
//! right shape can still break, all findings at once.
//!
//! Pure: knows nothing of the host, so a rule that depends on it (ids, cgroup
//! version, kernel) belongs to the plan. What engines are known to write is
//! accepted; what cannot work is refused before anything is made.

mod ids;
mod linux;
mod mounts;
mod process;
mod resources;
mod sysctl;

use std::fmt;

use super::finding::{Finding, Warning, quoted, token};
use super::words::{self, HANDLER, Words};
use super::{Config, Hook, Linux, Process, Resources};

pub use sysctl::sysctl_path;

/// Judges a whole config.json, as `create` and `run` need it.
#[must_use]
pub fn check(config: &Config<'_>) -> (Vec<Finding>, Vec<Warning>) {
    let mut report = Report::default();
    version(&mut report, &config.oci_version);
    root(&mut report, config);
    match &config.process {
        Some(process) => process::check("/process", &mut report, process),
        // The specification needs it only at start, but create already sets the
        // process up; runc 1.1 and crun 1.8 refuse the same at create.
        None => report.find("/process", "required, an object was expected"),
    }
    uts_names(&mut report, config);
    hooks(&mut report, config);
    for _ in config.annotations.keys().filter(|key| key.is_empty()) {
        report.find("/annotations/", "an annotation's key must not be empty");
    }
    if let Some(handler) = config.annotations.get(&HANDLER.into()).filter(|handler| !handler.is_empty()) {
        let pointer = format!("/annotations/{HANDLER}");
        report.find(
            &pointer,
            format!("{:?} found, but there are no handlers: the kernel executes process.args", &**handler),
        );
    }
    for (i, mount) in config.mounts.iter().enumerate() {
        mounts::check(&mut report, i, mount, has(&config.linux, "user"));
    }
    linux::check(&mut report, config);
    (report.findings, report.warnings)
}

/// Judges a process.json, as `exec --process` needs it; its pointers start at the file.
#[must_use]
pub fn check_process(process: &Process<'_>) -> (Vec<Finding>, Vec<Warning>) {
    let mut report = Report::default();
    process::check("", &mut report, process);
    (report.findings, report.warnings)
}

/// Judges a resources.json, as `update` needs it; its pointers start at the file.
#[must_use]
pub fn check_resources(resources: &Resources<'_>) -> (Vec<Finding>, Vec<Warning>) {
    let mut report = Report::default();
    resources::check("", &mut report, resources);
    (report.findings, report.warnings)
}

/// What has been found so far.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    warnings: Vec<Warning>,
}

impl Report {
    fn find(&mut self, at: impl fmt::Display, what: impl fmt::Display) {
        self.findings.push(Finding { pointer: at.to_string(), what: what.to_string() });
    }

    fn warn(&mut self, at: impl fmt::Display, what: impl fmt::Display) {
        self.warnings.push(Warning { pointer: at.to_string(), what: what.to_string() });
    }

    /// Text that the kernel or another program takes: a NUL would cut it short.
    fn c_text(&mut self, at: impl fmt::Display, text: &str) {
        if text.contains('\0') {
            self.find(at, format_args!("{} found, a string without NUL expected", quoted(text)));
        }
    }

    fn c_texts<'t>(&mut self, at: impl fmt::Display, texts: impl IntoIterator<Item = &'t str>) {
        for (i, text) in texts.into_iter().enumerate() {
            self.c_text(format_args!("{at}/{i}"), text);
        }
    }

    fn absolute(&mut self, at: impl fmt::Display, path: &str) {
        if path.starts_with('/') {
            self.c_text(at, path);
        } else {
            self.find(at, format_args!("{} found, an absolute path expected", quoted(path)));
        }
    }

    /// A word of a list; `None` and a finding when the list does not have it.
    fn word<T: Copy>(&mut self, at: impl fmt::Display, words: &Words<T>, word: &str) -> Option<T> {
        let value = words::find(words, word);
        if value.is_none() {
            let known: Vec<_> = words.iter().map(|(name, _)| *name).collect();
            self.find(at, format_args!("{} found, one of {} expected", quoted(word), known.join(", ")));
        }
        value
    }
}

/// Is the container in a namespace of `kind` other than the caller's: a new one or a joined one?
fn has(linux: &Linux<'_>, kind: &str) -> bool {
    linux.namespaces.iter().any(|n| &*n.kind == kind)
}

/// config.md, "Specification version": SemVer 2.0.0; within a major version
/// everything is compatible, and 0.x was another format.
fn version(report: &mut Report, text: &str) {
    match semver(text) {
        None => report.find(
            "/ociVersion",
            format_args!("{} found, a version (SemVer 2.0.0) such as \"1.3.0\" expected", quoted(text)),
        ),
        Some((1, minor)) if minor > 3 => report.warn(
            "/ociVersion",
            format_args!("{text} is newer than {}: properties added since are ignored", super::OCI_VERSION),
        ),
        Some((1, _)) => {}
        Some(_) => report.find("/ociVersion", format_args!("{} found, version 1 expected", quoted(text))),
    }
}

/// Major and minor of a semantic version; `-pre` and `+build` are allowed.
pub(super) fn semver(text: &str) -> Option<(u64, u64)> {
    let (rest, build) = text.split_once('+').unwrap_or((text, "0"));
    let (core, pre) = rest.split_once('-').unwrap_or((rest, "0"));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !build.split('.').all(word) || !pre.split('.').all(word) {
        return None;
    }
    let number = |part: &str| {
        let digits = part.bytes().all(|b| b.is_ascii_digit()) && (part.len() == 1 || !part.starts_with('0'));
        if digits { part.parse::<u64>().ok() } else { None }
    };
    let mut parts = core.split('.').map(number);
    let (major, minor, _patch) = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some((major, minor))
}

/// config.md, "Root": REQUIRED on Linux.
fn root(report: &mut Report, config: &Config<'_>) {
    match &config.root {
        None => report.find("/root", "required, an object was expected"),
        Some(root) if root.path.is_empty() => report.find("/root/path", "\"\" found, a path expected"),
        Some(root) => report.c_text("/root/path", &root.path),
    }
}

/// config.md, "Hostname" and "Domainname"; sethostname(2) takes 64 bytes.
/// Without an own UTS namespace they would rename the host.
fn uts_names(report: &mut Report, config: &Config<'_>) {
    for (at, name) in [("/hostname", &config.hostname), ("/domainname", &config.domainname)] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        report.c_text(at, name);
        if name.len() > 64 {
            report.find(at, format_args!("{} found, at most 64 bytes expected", quoted(name)));
        }
        if !has(&config.linux, "uts") {
            report.find(at, "needs a \"uts\" entry in /linux/namespaces: it would rename the host");
        }
    }
}

/// config.md, "POSIX-platform Hooks".
fn hooks(report: &mut Report, config: &Config<'_>) {
    let hooks = &config.hooks;
    let lists = [
        &hooks.prestart,
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
        &hooks.poststop,
    ];
    for (name, list) in words::HOOKS.iter().zip(lists) {
        for (i, hook) in list.iter().enumerate() {
            hook_entry(report, &format_args!("/hooks/{name}/{i}"), hook);
        }
    }
}

fn hook_entry(report: &mut Report, at: &dyn fmt::Display, hook: &Hook<'_>) {
    report.absolute(format_args!("{at}/path"), &hook.path);
    report.c_texts(format_args!("{at}/args"), hook.args.iter().map(|t| &**t));
    report.c_texts(format_args!("{at}/env"), hook.env.iter().map(|t| &**t));
    if let Some(timeout) = hook.timeout.filter(|timeout| *timeout <= 0) {
        report.find(format_args!("{at}/timeout"), format_args!("{timeout} found, more than 0 seconds expected"));
    }
}

/// Are the words of a list all different? Reports the later of two equal ones.
fn unlike<'t>(report: &mut Report, at: &str, property: &str, words: impl Iterator<Item = &'t str> + Clone) {
    for (i, word) in words.clone().enumerate() {
        if words.clone().take(i).any(|earlier| earlier == word) {
            report.find(format_args!("{at}/{i}{property}"), format_args!("{} is given twice", quoted(word)));
        }
    }
}

/// The pointer of an entry of a JSON object whose names are free.
fn entry(at: &str, name: &str) -> String {
    format!("{at}/{}", token(name))
}

#[cfg(test)]
mod tests;
