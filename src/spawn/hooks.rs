//! Hooks on the runtime's side: prestart, createRuntime, poststart, poststop.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, openat};
use rustix::process::getpid;
use serde_json::{Map, Value};

use crate::config::words::{HOOKS_STDERR, HOOKS_STDOUT};
use crate::error::{Error, Kind, Result};
use crate::init::hook::{self, Ending, Prepared, StateText};
use crate::plan::{HookOutput, HookStep, plan_output};
use crate::state::Record;
use crate::sys::process::{self, StringVector};

/// Runs hooks in order; the first failure ends it.
///
/// They run in the bundle, as engines expect of runc.
pub fn run_hooks(hooks: &[HookStep], state: &Map<String, Value>, record: &Record<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let output = OutputFiles::open(&plan_output(&record.annotations)?)?;
    let pid = state.get("pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    for step in hooks {
        let prepared = prepare_one(step, state, &output, Some(&record.bundle))?;
        let ending = hook::run(&prepared, pid).map_err(|fail| {
            Error::sys(&step.item, format!("{} for {:?}", fail.call.name(), step.path.to_string_lossy()), fail.errno)
        })?;
        judge(step, ending)?;
    }
    Ok(())
}

fn judge(step: &HookStep, ending: Ending) -> Result<()> {
    match ending {
        Ending::Success => Ok(()),
        Ending::Timeout => Err(timeout(step)),
        Ending::Failure(status, output) => {
            let mut buffer = [0u8; 4096];
            Err(failure(step, status, hook::tail(&output, &mut buffer)))
        }
    }
}

/// The words for a hook that was killed after its timeout.
pub fn timeout(step: &HookStep) -> Error {
    let seconds = step.timeout.unwrap_or(0);
    let text =
        format!("{:?} did not end within its timeout of {seconds} s and was killed", step.path.to_string_lossy());
    Error::new(Kind::System, &step.item, text)
}

/// The words for a hook that failed: how, and the last thing it said.
pub fn failure(step: &HookStep, status: i32, output: &[u8]) -> Error {
    let how = match status {
        126 => "could not be executed or ended with status 126".to_owned(),
        127 => "was not found (no such file or directory) or ended with status 127".to_owned(),
        129..=192 => format!("was killed by signal {}", status - 128),
        _ => format!("ended with status {status}"),
    };
    let output = String::from_utf8_lossy(output);
    let said = if output.is_empty() { String::new() } else { format!(", output: {}", output.trim_end()) };
    Error::new(Kind::System, &step.item, format!("{:?} {how}{said}", step.path.to_string_lossy()))
}

/// Makes hooks ready for the child, whose pid is not known yet.
pub fn prepare(hooks: &[HookStep], state: &Map<String, Value>, output: &OutputFiles) -> Result<Vec<Prepared>> {
    hooks.iter().map(|hook| prepare_one(hook, state, output, None)).collect()
}

fn prepare_one(
    step: &HookStep,
    state: &Map<String, Value>,
    output: &OutputFiles,
    cwd: Option<&str>,
) -> Result<Prepared> {
    let number = |file: &Option<OwnedFd>| file.as_ref().map(|file| process::number(file.as_fd()));
    let cwd = cwd.map(|cwd| crate::plan::cstring(&step.item, cwd)).transpose()?;
    Ok(Prepared {
        path: step.path.clone(),
        args: StringVector::new(step.args.clone()),
        env: StringVector::new(with_trace_parent(step)),
        cwd,
        timeout: step.timeout,
        state: state_text(state),
        stdout: number(&output.stdout),
        stderr: number(&output.stderr),
    })
}

/// The files of [`HookOutput`], open.
#[derive(Debug, Default)]
pub struct OutputFiles {
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl OutputFiles {
    pub fn open(output: &HookOutput) -> Result<OutputFiles> {
        Ok(OutputFiles {
            stdout: output.stdout.as_deref().map(|path| open_output(HOOKS_STDOUT, path)).transpose()?,
            stderr: output.stderr.as_deref().map(|path| open_output(HOOKS_STDERR, path)).transpose()?,
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &OwnedFd> {
        self.stdout.iter().chain(&self.stderr)
    }
}

/// Made when absent. A fifo that nobody reads is an error and no wait.
fn open_output(annotation: &str, path: &str) -> Result<OwnedFd> {
    let item = format!("annotations {annotation}");
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o600))
        .map_err(|errno| Error::sys(&item, format!("openat({path:?})"), errno))?;
    fcntl_setfl(&file, OFlags::APPEND).map_err(|errno| Error::sys(&item, "fcntl(F_SETFL)", errno))?;
    Ok(file)
}

/// The caller's place in a distributed trace (W3C Trace Context), where it has one.
#[must_use]
pub fn trace_parent() -> Option<String> {
    let value = std::env::var("TRACEPARENT").ok()?;
    let well_formed = value.is_ascii() && !value.is_empty() && !value.bytes().any(|byte| byte.is_ascii_control());
    well_formed.then_some(value)
}

/// A hook's environment is the config's; the trace is told too, unless the config does.
fn with_trace_parent(step: &HookStep) -> Vec<CString> {
    let mut env = step.env.clone();
    if !env.iter().any(|entry| entry.to_bytes().starts_with(b"TRACEPARENT=")) {
        env.extend(trace_parent().and_then(|value| CString::new(format!("TRACEPARENT={value}")).ok()));
    }
    env
}

/// The state's JSON, cut where the pid goes.
fn state_text(state: &Map<String, Value>) -> StateText {
    let mut state = state.clone();
    // A value that nobody can put into an annotation: it carries this process's pid and an odd mark.
    let mark = format!("xebec-pid-{}-\u{1}", getpid().as_raw_nonzero());
    state.insert("pid".into(), Value::String(mark.clone()));
    let text = Value::Object(state).to_string();
    let quoted = Value::String(mark).to_string();
    match text.split_once(&quoted) {
        Some((before, after)) => StateText { before_pid: before.into(), after_pid: after.into() },
        None => StateText { before_pid: text.into(), after_pid: Vec::new() },
    }
}
