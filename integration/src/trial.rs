//! One test's run: its bundle, its configuration, the runtime under test, and what is left afterwards.
//! Lives in the `body` stage only, inside the private namespaces that `sandbox` made.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bundle;
use crate::call::{Call, Done, Live, eventually};
use crate::case::{Outcome, Stop, fail, skip};
use crate::leftovers::Baseline;
use crate::mode::{self, Mode};
use crate::options::View;
use crate::sandbox::{self, Order};
use crate::systemd;

/// Limit of one call of the runtime.
const CALL_LIMIT: Duration = Duration::from_secs(15);
const HOME: &str = "/run/xbt";
const ID: &str = "trial-1";

#[derive(Debug)]
pub struct Trial {
    pub runtime: PathBuf,
    pub view: View,
    pub mode: Mode,
    /// OCI bundle directory.
    pub bundle: PathBuf,
    /// The runtime's --root.
    pub root: PathBuf,
    /// Scratch directory outside the bundle.
    pub scratch: PathBuf,
    /// Container id of the plain verbs below.
    pub id: String,
    /// The configuration to be written; change it with [`Trial::set`].
    pub config: Value,
    preload: Option<PathBuf>,
    time_scale: u32,
    cgroup_base: String,
    /// PID 1 is systemd, and the runtime is to ask it for the cgroup.
    systemd: bool,
    calls: usize,
    ids: Vec<String>,
    payload_seen: bool,
}

/// The `body` stage: performs one test and prints its verdict as JSON on stdout.
pub fn perform(order: &Order) -> u8 {
    let Some(case) =
        crate::tests::all().into_iter().chain(crate::endtoend::cases()).find(|case| case.name == order.test)
    else {
        eprintln!("no test is called {}", order.test);
        return 2;
    };
    let outcome = Trial::new(order).and_then(|mut trial| {
        let baseline = Baseline::take(trial.view, &order.cgroup);
        let outcome = (case.body)(&mut trial).and_then(|()| trial.control());
        let default = bundle::default_config(&trial.cgroups_path(ID))?;
        for line in bundle::differences(&default, &trial.config, "") {
            eprintln!("# config.json: {line}");
        }
        let left = trial.clean_up(&baseline);
        outcome.and(left)
    });
    let (verdict, message) = match outcome {
        Ok(()) => ("pass", String::new()),
        Err(Stop::Skip(reason)) => ("skip", reason),
        Err(Stop::Fail(message)) => ("fail", message),
    };
    println!("{}", json!({"verdict": verdict, "message": message}));
    0
}

impl Trial {
    fn new(order: &Order) -> Outcome<Trial> {
        if systemd::is_wanted(order) {
            systemd::settle()?;
        }
        let home = Path::new(HOME);
        let user = order.mode == Mode::User;
        let bundle = home.join("bundle");
        let scratch = home.join("scratch");
        fs::create_dir_all(&scratch)?;
        bundle::make_rootfs(&bundle.join("rootfs"))?;
        let cgroup_base = match order.view {
            View::V2 => "/xbt".to_string(),
            View::Host => format!("/{}", order.cgroup),
        };
        if order.view == View::V2 {
            fs::create_dir(format!("/sys/fs/cgroup{cgroup_base}"))?;
            match (user, systemd::is_wanted(order)) {
                (true, true) => delegate(Path::new(&format!("/sys/fs/cgroup{}", systemd::manager_cgroup(order.mode))))?,
                (true, false) => {
                    hand_down_controllers()?;
                    delegate(Path::new(&format!("/sys/fs/cgroup{cgroup_base}")))?;
                }
                (false, _) => {}
            }
        }
        order.mode.hand_over(home)?;
        let mut trial = Trial {
            runtime: if user { sandbox::USERS_RUNTIME.into() } else { order.runtime.clone() },
            view: order.view,
            mode: order.mode,
            root: if user { Path::new(mode::RUNTIME_DIR).join("root") } else { home.join("root") },
            config: Value::Null,
            bundle,
            scratch,
            id: ID.to_string(),
            preload: order.preload.clone(),
            time_scale: order.time_scale,
            cgroup_base,
            systemd: systemd::is_wanted(order),
            calls: 0,
            ids: vec![ID.to_string()],
            payload_seen: false,
        };
        trial.config = bundle::default_config(&trial.cgroups_path(ID))?;
        Ok(trial)
    }

    /// linux.cgroupsPath of a container, in the words of the driver.
    fn cgroups_path(&self, id: &str) -> String {
        match (self.systemd, self.mode) {
            (true, Mode::User) => format!("user.slice:xbt:{id}"),
            (true, _) => format!("system.slice:xbt:{id}"),
            (false, _) => format!("{}/{id}", self.cgroup_base),
        }
    }

    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    pub fn limit(&self, limit: Duration) -> Duration {
        limit * self.time_scale
    }

    /// Parent, in the cgroup hierarchy, of every container of this test.
    pub fn cgroup_base(&self) -> &str {
        &self.cgroup_base
    }

    /// Another container id, cleaned up like the first.
    pub fn another_id(&mut self, id: &str) -> String {
        self.ids.push(id.to_string());
        id.to_string()
    }

    /// Makes `id` the one the plain verbs use, with its own cgroup.
    pub fn switch_id(&mut self, id: &str) {
        self.id = self.another_id(id);
        let path = self.cgroups_path(id);
        self.set("/linux/cgroupsPath", json!(path));
    }

    /// The configuration that every test begins with.
    pub fn reset_config(&mut self) -> Outcome {
        self.config = bundle::default_config(&self.cgroups_path(&self.id))?;
        Ok(())
    }

    /// Strikes the id of [`Trial::switch_id`], whose container is gone, off the list of what is cleaned up.
    pub fn forget_id(&mut self) {
        let id = std::mem::replace(&mut self.id, ID.to_string());
        self.ids.retain(|known| *known != id);
    }

    // Configuration.

    pub fn set(&mut self, pointer: &str, value: Value) {
        bundle::set(&mut self.config, pointer, value);
    }

    /// Appends to the array at `pointer`.
    pub fn push(&mut self, pointer: &str, value: Value) {
        bundle::set(&mut self.config, &format!("{pointer}/-"), value);
    }

    pub fn remove(&mut self, pointer: &str) {
        bundle::remove(&mut self.config, pointer);
    }

    pub fn args(&mut self, words: &[&str]) {
        self.set("/process/args", json!(words));
    }

    pub fn sh(&mut self, script: &str) {
        self.args(&["/bin/sh", "-c", script]);
    }

    /// Gives the payload these capabilities in all five sets.
    pub fn capabilities(&mut self, names: &[&str]) {
        for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
            self.set(&format!("/process/capabilities/{set}"), json!(names));
        }
    }

    /// Appends a mount and makes sure that nothing else in the test depends on the order before it.
    pub fn mount(&mut self, destination: &str, kind: &str, source: impl AsRef<Path>, options: &[&str]) {
        self.push(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source.as_ref(), "options": options}),
        );
    }

    /// Drops the namespace of this type from the configuration.
    pub fn drop_namespace(&mut self, kind: &str) {
        if let Some(list) = self.config["linux"]["namespaces"].as_array_mut() {
            list.retain(|entry| entry["type"] != kind);
        }
    }

    /// New user namespace with the mode's maps ([`Trial::host_id`]), and the root file system is theirs.
    pub fn use_user_namespace(&mut self) -> Outcome {
        self.push("/linux/namespaces", json!({"type": "user"}));
        self.set("/linux/uidMappings", self.mode.maps());
        self.set("/linux/gidMappings", self.mode.maps());
        let root = self.mode.host_id(0);
        for entry in [self.rootfs(), self.rootfs().join("dev"), self.rootfs().join("out"), self.rootfs().join("mnt")] {
            chown(entry, Some(root), Some(root))?;
        }
        Ok(())
    }

    /// The host's id of an id inside [`Trial::use_user_namespace`].
    pub fn host_id(&self, inside: u32) -> u32 {
        self.mode.host_id(inside)
    }

    pub fn write_config(&self) -> Outcome {
        self.write_config_of(&self.bundle, &self.config)
    }

    /// Writes a config.json as the mode wants it, and gives the container what is its own.
    pub fn write_config_of(&self, bundle: &Path, config: &Value) -> Outcome {
        fs::write(bundle.join("config.json"), serde_json::to_vec(&self.adapted(config))?)?;
        self.hand_over()
    }

    /// The configuration as the mode wants it, for tests that write it themselves.
    pub fn adapted(&self, config: &Value) -> Value {
        let mut config = config.clone();
        self.mode.adapt(&mut config);
        config
    }

    /// Gives what the test has made to the container's ids, and so to the caller of the runtime.
    pub fn hand_over(&self) -> Outcome {
        Ok(self.mode.hand_over(Path::new(HOME))?)
    }

    /// Output of a payload was seen in a call of the test's own.
    pub fn saw_payload(&mut self) {
        self.payload_seen = true;
    }

    /// In [`Mode::User`]: gives the test's cgroups to the caller once more.
    pub fn delegate_again(&self) -> Outcome {
        delegate(&Path::new("/sys/fs/cgroup").join(&self.cgroup_base[1..]))
    }

    /// Skips the test where its caller cannot limit anything by this controller.
    ///
    /// On Linux 6.1, whoever hands cpuset down needs rights over each process below, the test's own among them.
    pub fn requires_controller(&mut self, name: &str) -> Outcome {
        requires_controller(name)?;
        if self.mode != Mode::User || name != "cpuset" {
            return Ok(());
        }
        let switch = format!("/sys/fs/cgroup{}/cgroup.subtree_control", self.cgroup_base);
        let script = format!("echo +cpuset >{switch} && echo -cpuset >{switch} || exit 77");
        match self.call_after(&script, &["--version"]).go()?.code {
            Some(77) => skip("requires a kernel that lets an ordinary user hand cpuset down"),
            _ => Ok(()),
        }
    }

    /// Gives one directory or file to the caller of the runtime, as if the caller had made it.
    pub fn give_to_caller(&self, path: &Path) -> Outcome {
        match self.mode {
            Mode::User => Ok(chown(path, Some(mode::USER), Some(mode::USER))?),
            _ => Ok(()),
        }
    }

    // Calls.

    /// A call with `--root`, standing in the bundle.
    pub fn call(&mut self, words: &[&str]) -> Call {
        let mut command = Command::new(&self.runtime);
        command.args(self.systemd.then_some("--systemd-cgroup")).arg("--root").arg(&self.root).args(words);
        self.prepare(command)
    }

    /// A call without any global option.
    pub fn bare_call(&mut self, words: &[&str]) -> Call {
        let mut command = Command::new(&self.runtime);
        command.args(words);
        self.prepare(command)
    }

    /// A call through `sh -c 'SCRIPT; exec "$@"'`, for descriptors, limits and masks of the caller.
    pub fn call_after(&mut self, script: &str, words: &[&str]) -> Call {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{script}\nexec \"$@\""), "sh"]);
        command.arg(&self.runtime).arg("--root").arg(&self.root).args(words);
        self.prepare(command)
    }

    fn prepare(&mut self, mut command: Command) -> Call {
        self.calls += 1;
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)));
        command.current_dir(&self.bundle);
        if self.mode == Mode::User {
            // Sockets and directories that the test has just made are the caller's; a failure shows in the call.
            self.hand_over().ok();
            command.uid(mode::USER).gid(mode::USER).env("XDG_RUNTIME_DIR", mode::RUNTIME_DIR);
        }
        let file = |kind: &str| self.scratch.join(format!("{}.{kind}", self.calls));
        Call { command, stdin: None, limit: self.limit(CALL_LIMIT), stdout: file("stdout"), stderr: file("stderr") }
    }

    /// `run` of the written configuration, in the foreground, to its end.
    pub fn run(&mut self) -> Outcome<Done> {
        self.run_with(&[])
    }

    /// `run` with more options before the id.
    pub fn run_with(&mut self, options: &[&str]) -> Outcome<Done> {
        self.spawn_run(options)?.wait()
    }

    pub fn spawn_run(&mut self, options: &[&str]) -> Outcome<Live> {
        self.write_config()?;
        let words = self.verb("run", options);
        let call = self.call(&as_words(&words));
        call.spawn()
    }

    /// Runs a shell script as the payload and returns its stdout; the script has to exit 0.
    pub fn run_sh(&mut self, script: &str) -> Outcome<String> {
        self.sh(script);
        let out = self.run()?.ok()?.stdout;
        self.payload_seen |= !out.is_empty();
        Ok(out)
    }

    /// Runs the configuration and expects an error before the payload starts.
    pub fn run_refused(&mut self) -> Outcome<Done> {
        self.sh("echo payload-has-run");
        self.expect_refusal()
    }

    /// Like [`Trial::run_refused`], with the arguments as they are configured.
    pub fn expect_refusal(&mut self) -> Outcome<Done> {
        let done = self.run()?.refused()?;
        crate::ensure!(
            !done.stdout.contains("payload-has-run"),
            "the payload ran although the configuration is refused"
        );
        crate::ensure!(!done.stderr.trim().is_empty(), "the refusal says nothing on stderr");
        self.expect_unknown()?;
        Ok(done)
    }

    /// A runtime that refuses everything, or does nothing and exits 0, must not pass: unless the body
    /// has seen output of a payload, a plain container has to run in a bundle of its own.
    fn control(&mut self) -> Outcome {
        if self.payload_seen {
            return Ok(());
        }
        let id = self.another_id("control");
        let bundle = Path::new(HOME).join("control");
        bundle::make_rootfs(&bundle.join("rootfs"))?;
        let mut config = bundle::default_config(&self.cgroups_path(&id))?;
        config["process"]["args"] = json!(["/bin/echo", "control"]);
        self.write_config_of(&bundle, &config)?;
        let done = self.call(&["run", "--bundle", &bundle.display().to_string(), &id]).go()?;
        crate::ensure!(done.stdout == "control\n", "a plain container does not run either: {}", done.stderr.trim());
        Ok(())
    }

    /// After a failed create nothing may know the id any more.
    pub fn expect_unknown(&mut self) -> Outcome {
        let id = self.id.clone();
        let done = self.call(&["state", &id]).go()?;
        crate::ensure!(!done.succeeded(), "the runtime still knows the container: {}", done.stdout.trim());
        Ok(())
    }

    fn verb(&self, verb: &str, options: &[&str]) -> Vec<String> {
        let mut words = vec![verb.to_string()];
        if matches!(verb, "create" | "run") {
            words.extend(["--bundle".to_string(), self.bundle.display().to_string()]);
        }
        words.extend(options.iter().map(|word| word.to_string()));
        words.push(self.id.clone());
        words
    }

    pub fn create_with(&mut self, options: &[&str]) -> Outcome<Done> {
        self.write_config()?;
        let words = self.verb("create", options);
        let call = self.call(&as_words(&words));
        call.go()
    }

    pub fn create(&mut self) -> Outcome<Done> {
        self.create_with(&[])?.ok()
    }

    pub fn start(&mut self) -> Outcome<Done> {
        let id = self.id.clone();
        self.call(&["start", &id]).go()?.ok()
    }

    /// create and start.
    pub fn create_started(&mut self) -> Outcome {
        self.create()?;
        self.start()?;
        Ok(())
    }

    /// create and start of a container that sleeps until it is killed.
    pub fn sleeper(&mut self) -> Outcome {
        self.args(&["/bin/sleep", "1000"]);
        self.create_started()
    }

    pub fn kill(&mut self, signal: &str) -> Outcome<Done> {
        let id = self.id.clone();
        self.call(&["kill", &id, signal]).go()
    }

    pub fn delete(&mut self) -> Outcome<Done> {
        let id = self.id.clone();
        self.call(&["delete", &id]).go()?.ok()
    }

    /// `state` as JSON.
    pub fn state(&mut self) -> Outcome<Value> {
        let id = self.id.clone();
        let done = self.call(&["state", &id]).go()?.ok()?;
        Ok(serde_json::from_str(&done.stdout)?)
    }

    pub fn status(&mut self) -> Outcome<String> {
        Ok(self.state()?["status"].as_str().unwrap_or_default().to_string())
    }

    pub fn pid(&mut self) -> Outcome<i32> {
        Ok(self.state()?["pid"].as_i64().unwrap_or_default() as i32)
    }

    pub fn wait_for_status(&mut self, wanted: &str) -> Outcome {
        let mut last = String::new();
        let limit = self.limit(Duration::from_secs(5));
        let reached = eventually(limit, || {
            last = self.status()?;
            Ok(last == wanted)
        })?;
        crate::ensure!(reached, "the container never became {wanted}; it is {last}");
        Ok(())
    }

    /// Waits until the container is stopped, or nobody knows it any more.
    pub fn wait_for_end(&mut self) -> Outcome {
        let limit = self.limit(Duration::from_secs(5));
        let id = self.id.clone();
        let ended = eventually(limit, || {
            let done = self.call(&["state", &id]).go()?;
            Ok(!done.succeeded() || done.stdout.contains("stopped"))
        })?;
        crate::ensure!(ended, "the container neither stopped nor went away");
        Ok(())
    }

    /// Waits until the file appears, with a bound.
    pub fn wait_for_file(&mut self, path: impl AsRef<Path>) -> Outcome<String> {
        let path = path.as_ref();
        let limit = self.limit(Duration::from_secs(5));
        // A file that is created but still empty is half written.
        let there = eventually(limit, || Ok(fs::metadata(path).is_ok_and(|meta| meta.len() > 0)))?;
        crate::ensure!(there, "{} never appeared", path.display());
        Ok(fs::read_to_string(path)?)
    }

    /// Deletes what a test left on purpose, then looks for what the runtime left.
    fn clean_up(&mut self, baseline: &Baseline) -> Outcome {
        for id in self.ids.clone() {
            if self.root.exists() {
                self.call(&["delete", "--force", &id]).go()?;
            }
        }
        let left = baseline.compare(&self.root, &self.ids);
        if left.is_empty() { Ok(()) } else { fail(format!("left behind: {}", left.join("; "))) }
    }
}

/// Switches on what systemd can delegate, as far as the host has it.
fn hand_down_controllers() -> Outcome {
    let list = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    for controller in list.split_whitespace().filter(|name| ["cpu", "cpuset", "io", "memory", "pids"].contains(name)) {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"))?;
    }
    Ok(())
}

/// Gives a cgroup to the user as systemd does (cgroups(7), "Cgroup delegation: transferring ownership"), and
/// goes below it: whoever moves a process needs the right to write to what both cgroups have above them.
fn delegate(cgroup: &Path) -> Outcome {
    let caller = cgroup.join("caller");
    fs::create_dir_all(&caller)?;
    for directory in [cgroup, &caller] {
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(directory.join(name), Some(mode::USER), Some(mode::USER))?;
        }
    }
    Ok(fs::write(caller.join("cgroup.procs"), "0")?)
}

pub fn as_words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The value of a field in /proc/PID/status text.
pub fn status_field<'a>(text: &'a str, field: &str) -> Outcome<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.map(str::trim).ok_or_else(|| Stop::Fail(format!("no field {field} in: {text}")))
}

/// Whether cgroup v2 has this controller where we are.
pub fn has_controller(name: &str) -> bool {
    let list = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    list.split_whitespace().any(|controller| controller == name)
}

pub fn requires_controller(name: &str) -> Outcome {
    if has_controller(name) { Ok(()) } else { skip(format!("requires controller {name} on cgroup2")) }
}

/// Whether a process lives: a zombie is dead and only waits for its parent to ask.
pub fn alive(pid: impl std::fmt::Display) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
