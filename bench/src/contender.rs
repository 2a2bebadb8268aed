//! How a contender is called: any OCI runtime by the command line that all share, the floor by its own words.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::bundle::{Bundle, HOST_ID};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Run,
    Create,
    Start,
    Delete,
    Exec,
    State,
    Kill,
    Features,
}

#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    pub program: PathBuf,
    /// What crun needs where CAP_SYS_RESOURCE is missing.
    pub preload: Option<PathBuf>,
    pub is_floor: bool,
    /// --root
    pub root: PathBuf,
    /// Where stderr goes.
    pub errors: PathBuf,
}

pub const FLOOR: &str = "floor";

impl Contender {
    pub fn pid_file(&self, bundle: &Bundle) -> PathBuf {
        self.root.with_extension(format!("{}.pid", bundle.id))
    }

    /// The words after the program.
    pub fn words(&self, verb: Verb, bundle: &Bundle) -> Vec<OsString> {
        if self.is_floor { self.floor_words(verb, bundle) } else { self.oci_words(verb, bundle) }
    }

    fn oci_words(&self, verb: Verb, bundle: &Bundle) -> Vec<OsString> {
        let (dir, pid_file) = (bundle.dir.clone().into_os_string(), self.pid_file(bundle).into_os_string());
        let words: Vec<OsString> = match verb {
            Verb::Run => vec!["run".into(), "--bundle".into(), dir],
            Verb::Create => vec!["create".into(), "--bundle".into(), dir, "--pid-file".into(), pid_file],
            Verb::Start => vec!["start".into()],
            Verb::Delete => vec!["delete".into()],
            Verb::Exec => vec!["exec".into()],
            Verb::State => vec!["state".into()],
            Verb::Kill => vec!["kill".into()],
            Verb::Features => return vec!["features".into()],
        };
        let mut all: Vec<OsString> = vec!["--root".into(), self.root.clone().into()];
        all.extend(words);
        all.push(bundle.id.clone().into());
        match verb {
            Verb::Exec => all.push("/exit".into()),
            Verb::Kill => all.push("KILL".into()),
            _ => {}
        }
        all
    }

    fn floor_words(&self, verb: Verb, bundle: &Bundle) -> Vec<OsString> {
        let verb = match verb {
            Verb::Run => "run",
            Verb::Create => "create",
            Verb::Start => "start",
            Verb::Delete => "delete",
            Verb::Exec => "exec",
            Verb::State => "state",
            Verb::Kill => "kill",
            // It has none, and fails on it.
            Verb::Features => "features",
        };
        let pair = |key: &str, value: &Path| {
            let mut word = OsString::from(format!("{key}="));
            word.push(value);
            word
        };
        let mut words = vec![verb.into(), pair("root", &self.root), format!("id={}", bundle.id).into()];
        words.push(pair("cgroup", &bundle.cgroup));
        words.push(pair("rootfs", &bundle.rootfs));
        words.push(pair("program", Path::new(bundle.program)));
        words.push(pair("pidfile", &self.pid_file(bundle)));
        let shape = bundle.shape;
        words.extend(shape.seccomp.then(|| pair("filter", &bundle.filter)));
        words.extend(shape.joined_network.then(|| pair("netns", &bundle.netns)));
        words.extend(shape.host_cgroup.then(|| "cgroupns=no".into()));
        words.extend(shape.user_namespace.then(|| format!("userns={HOST_ID}").into()));
        words
    }

    pub fn command(&self, verb: Verb, bundle: &Bundle) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)));
        command.args(self.words(verb, bundle));
        command
    }

    /// From the start of the process until it is reaped; with what it said when it fails.
    pub fn call(&self, verb: Verb, bundle: &Bundle) -> Result<Duration, String> {
        let errors = File::create(&self.errors).map_err(|error| format!("{}: {error}", self.errors.display()))?;
        let mut command = self.command(verb, bundle);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let begun = Instant::now();
        let status = command.status().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let took = begun.elapsed();
        if status.success() {
            return Ok(took);
        }
        let said = fs::read_to_string(&self.errors).unwrap_or_default();
        let last = said.trim().lines().last().unwrap_or("no message");
        Err(format!("{verb:?}: {status}: {last}"))
    }

    /// The pid that create has written, which is also taken away for the next time.
    pub fn created_pid(&self, bundle: &Bundle) -> Result<Pid, String> {
        let path = self.pid_file(bundle);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        text.trim().parse().map(Pid::from_raw).map_err(|error| format!("pid file {text:?}: {error}"))
    }
}

/// The container's end, which an engine waits for as its subreaper. `None`: somebody here has reaped it already.
pub fn wait_for(pid: Pid) -> Result<Option<WaitStatus>, String> {
    match waitpid(pid, None) {
        Err(Errno::ECHILD) => Ok(None),
        other => other.map(Some).map_err(|errno| format!("waitpid({pid}): {errno}")),
    }
}

/// Orphans of the runtimes' own come to this process, the subreaper.
pub fn reap_strays() {
    while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))) {}
}
