//! What the caller of `exec` asks for, laid over what the container is configured with.
//!
//! Decides; makes no system call besides reading the process file.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::config::words::capability;
use crate::config::{Capabilities, Findings, Process, Text, check, parse_process, read_text};
use crate::error::{Error, Result};

/// What the process is to be. Everything that is left out is as in the container's config.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// A file with the whole process object, in place of the config's.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    pub cwd: Option<String>,
    /// `NAME=VALUE`, each in place of a variable of that name.
    pub env: Vec<String>,
    pub tty: bool,
    /// User id, and group id where another than configured.
    pub user: Option<(u32, Option<u32>)>,
    /// Besides the configured ones.
    pub additional_gids: Vec<u32>,
    /// Besides the configured ones: bounding, permitted and effective, never inheritable.
    pub capabilities: Vec<String>,
    pub no_new_privileges: bool,
    /// SELinux.
    pub process_label: Option<String>,
    pub apparmor: Option<String>,
    /// Cgroups below the container's own.
    pub cgroup: Vec<String>,
    /// Join a paused container: the process runs when it is resumed.
    pub ignore_paused: bool,
    /// Return as soon as the program runs.
    pub detach: bool,
}

impl Request {
    /// The text of the process file, where there is one.
    pub fn read_process(&self) -> Result<Option<String>> {
        let read = |path: &PathBuf| read_text("--process", path);
        self.process.as_ref().map(read).transpose()
    }

    /// The process, judged as a whole; the lines are warnings about a process file.
    pub fn decide<'a>(
        &'a self,
        configured: Option<Box<Process<'a>>>,
        file: Option<&'a str>,
    ) -> Result<(Box<Process<'a>>, Vec<String>)> {
        let name = match &self.process {
            Some(path) => format!("--process {}", path.display()),
            None => "exec".to_owned(),
        };
        let mut process = match file {
            Some(text) => Box::new(parse_process(&name, text)?),
            None => configured.ok_or_else(|| self.no_program())?,
        };
        process.terminal &= file.is_some();
        self.lay_over(&mut process)?;
        let (findings, warnings) = check::check_process(&process);
        Findings(&findings).refuse(&name)?;
        // Those about the container's own config are create's to tell.
        let warnings = if file.is_some() { warnings } else { Vec::new() };
        Ok((process, warnings.iter().map(|warning| format!("{name}: {warning}")).collect()))
    }

    fn no_program(&self) -> Error {
        Error::invalid("exec", "the container has no configured process").hint("give a whole one with --process")
    }

    fn lay_over<'a>(&'a self, process: &mut Process<'a>) -> Result<()> {
        match (self.process.is_some(), self.args.is_empty()) {
            (true, false) => return Err(Error::invalid("exec", "a program is given, and --process names one too")),
            (false, true) => return Err(Error::invalid("exec", "no program is given")),
            (true, true) => {}
            (false, false) => process.args = self.args.iter().map(|arg| Text::from(&**arg)).collect(),
        }
        for variable in &self.env {
            let name = variable.split_once('=').map_or(&**variable, |(name, _)| name);
            process.env.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
            process.env.push(Text::from(&**variable));
        }
        if let Some(cwd) = &self.cwd {
            process.cwd = Text::from(&**cwd);
        }
        if let Some((uid, gid)) = self.user {
            process.user.uid = uid;
            process.user.gid = gid.unwrap_or(process.user.gid);
        }
        process.user.additional_gids.extend(&self.additional_gids);
        process.terminal |= self.tty;
        process.no_new_privileges |= self.no_new_privileges;
        if let Some(label) = &self.process_label {
            process.selinux_label = Some(Text::from(&**label));
        }
        if let Some(profile) = &self.apparmor {
            process.apparmor_profile = Some(Text::from(&**profile));
        }
        self.add_capabilities(process)
    }

    /// The inheritable set stays as configured (CVE-2022-29162), and so does the ambient one,
    /// which cannot have more.
    fn add_capabilities(&self, process: &mut Process<'_>) -> Result<()> {
        for word in &self.capabilities {
            let upper = word.to_ascii_uppercase();
            let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if capability(&name).is_none() {
                return Err(Error::invalid("--cap", format!("{word:?} is not a capability")));
            }
            let sets = process.capabilities.get_or_insert_with(Capabilities::default);
            for set in [&mut sets.bounding, &mut sets.permitted, &mut sets.effective] {
                if !set.iter().any(|known| **known == *name) {
                    set.push(Text(Cow::Owned(name.clone())));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: &str = r#"{"cwd":"/c","terminal":true,"args":["sleep"],"env":["A=old","B=1"],
        "user":{"uid":5,"gid":6,"additionalGids":[7]},"capabilities":{"bounding":["CAP_KILL"]}}"#;

    fn decide(request: &Request, file: Option<&str>) -> Result<String> {
        let configured = serde_json::from_str(CONFIGURED).expect("a process");
        request.decide(Some(configured), file).map(|(process, _)| format!("{process:?}"))
    }

    #[test]
    fn what_is_left_out_is_as_configured_but_for_the_terminal() {
        let request = Request { args: vec!["id".into()], ..Request::default() };
        let process = decide(&request, None).expect("decided");
        for part in [r#"cwd: "/c""#, "terminal: false", r#"args: ["id"]"#, r#"["A=old", "B=1"]"#, "uid: 5, gid: 6"] {
            assert!(process.contains(part), "{part} in {process}");
        }
    }

    #[test]
    fn flags_are_laid_over_and_never_reach_the_inheritable_set() {
        let request = Request {
            args: vec!["id".into()],
            env: vec!["A=new".into()],
            user: Some((9, None)),
            additional_gids: vec![8],
            capabilities: vec!["net_raw".into(), "CAP_KILL".into()],
            tty: true,
            ..Request::default()
        };
        let process = decide(&request, None).expect("decided");
        for part in [
            r#"["B=1", "A=new"]"#,
            "uid: 9, gid: 6",
            "additional_gids: [7, 8]",
            r#"bounding: ["CAP_KILL", "CAP_NET_RAW"], effective: ["CAP_NET_RAW", "CAP_KILL"], inheritable: []"#,
            "ambient: []",
            "terminal: true",
        ] {
            assert!(process.contains(part), "{part} in {process}");
        }
    }

    #[test]
    fn a_request_that_cannot_be_is_refused_with_every_finding() {
        let words = |request: &Request, file| decide(request, file).expect_err("refused").to_string();
        assert_eq!(words(&Request::default(), None), "exec: no program is given");
        let unknown = Request { args: vec!["a".into()], capabilities: vec!["CAP_X".into()], ..Request::default() };
        assert_eq!(words(&unknown, None), "--cap: \"CAP_X\" is not a capability");
        let file = Request { process: Some("p.json".into()), ..Request::default() };
        let found = words(&file, Some(r#"{"cwd":"x","args":[""]}"#));
        assert!(found.starts_with("--process p.json: 2 findings: /cwd") && found.contains("/args/0"), "{found}");
        let both = Request { args: vec!["a".into()], ..file };
        assert!(words(&both, Some(r#"{"cwd":"/","args":["b"]}"#)).contains("--process names one too"));
    }
}
