//! `hooks` of the config, ready for execve, by the side that runs them.

use std::ffi::CString;

use crate::config::words::{HOOKS_STDERR, HOOKS_STDOUT};
use crate::config::{Config, Hook, StringMap};
use crate::error::{Error, Result};

use super::cstring;

/// Hooks by the side that runs them.
#[derive(Debug, Default)]
pub struct HookPlan {
    /// prestart, then createRuntime.
    pub runtime: Vec<HookStep>,
    pub create_container: Vec<HookStep>,
    pub start_container: Vec<HookStep>,
    pub poststart: Vec<HookStep>,
    pub poststop: Vec<HookStep>,
    pub output: HookOutput,
}

/// Files that the hooks' output is appended to, as crun's annotations name them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HookOutput {
    pub stdout: Option<String>,
    pub stderr: Option<String>,
}

/// One hook, ready for execve.
#[derive(Debug)]
pub struct HookStep {
    /// As in config.json: `hooks.prestart[0]`.
    pub item: String,
    pub path: CString,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    /// In seconds.
    pub timeout: Option<u32>,
}

/// All hooks of the config, and where their output goes.
pub fn plan_hooks(config: &Config<'_>) -> Result<HookPlan> {
    let hooks = &config.hooks;
    let list = |kind: &str, hooks: &[Hook<'_>]| -> Result<Vec<HookStep>> {
        hooks.iter().enumerate().map(|(i, hook)| plan_hook(format!("hooks.{kind}[{i}]"), hook)).collect()
    };
    let mut runtime = list("prestart", &hooks.prestart)?;
    runtime.extend(list("createRuntime", &hooks.create_runtime)?);
    Ok(HookPlan {
        runtime,
        create_container: list("createContainer", &hooks.create_container)?,
        start_container: list("startContainer", &hooks.start_container)?,
        poststart: list("poststart", &hooks.poststart)?,
        poststop: list("poststop", &hooks.poststop)?,
        output: plan_output(&config.annotations)?,
    })
}

/// One hook; without args, argv[0] is the path.
pub fn plan_hook(item: String, hook: &Hook<'_>) -> Result<HookStep> {
    if !hook.path.starts_with('/') {
        return Err(Error::invalid(&item, format!("the path {:?} must be absolute", hook.path)));
    }
    let timeout = match hook.timeout {
        None => None,
        Some(seconds) if seconds > 0 => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
        Some(seconds) => return Err(Error::invalid(&item, format!("the timeout {seconds} must be greater than 0"))),
    };
    let path = cstring(&item, &hook.path)?;
    let mut args: Vec<CString> = hook.args.iter().map(|s| cstring(&item, s)).collect::<Result<_>>()?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = hook.env.iter().map(|s| cstring(&item, s)).collect::<Result<_>>()?;
    Ok(HookStep { item, path, args, env, timeout })
}

/// crun's annotations for the output of hooks; an empty one is absent.
pub fn plan_output(annotations: &StringMap<'_>) -> Result<HookOutput> {
    let file = |key: &str| match annotations.get(&key.into()).filter(|path| !path.is_empty()) {
        Some(path) if !path.starts_with('/') => {
            Err(Error::invalid(format!("annotations {key}"), format!("{:?} found, an absolute path expected", &**path)))
        }
        path => Ok(path.map(ToString::to_string)),
    };
    Ok(HookOutput { stdout: file(HOOKS_STDOUT)?, stderr: file(HOOKS_STDERR)? })
}
