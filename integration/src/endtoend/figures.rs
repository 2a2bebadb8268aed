//! First figures: how long a whole container takes, for each given runtime, interleaved A B C A B C so
//! that whatever else the machine does meets all of them alike. Times of one run compare with each
//! other as ratios; they are no absolute truth.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle;
use crate::case::{Case, Group, Outcome, Stop, fail};
use crate::trial::Trial;

use super::settings::Settings;
use super::timed::{percentile, quiet};
use super::{payload, profile, report};

const LIMIT: Duration = Duration::from_secs(20);
const WARM_UP: u64 = 5;
const BPFFS: &str = "/sys/fs/bpf";

pub fn cases() -> Vec<Case> {
    let mut group = Group::new("figures", "engine contract");
    for (suffix, filtered) in [("", false), ("_with_seccomp", true)] {
        group.add(format!("run{suffix}"), move |t| compare(t, Contender::run, filtered));
        group.add(format!("create_start_wait_delete{suffix}"), move |t| compare(t, Contender::lifecycle, filtered));
        group.add(format!("exec{suffix}"), move |t| compare(t, Contender::exec, filtered));
    }
    group.add("probes", |t| super::probes::compare(t));
    group.cases
}

/// One runtime with what it needs here.
pub struct Contender {
    pub name: String,
    path: PathBuf,
    preload: Option<PathBuf>,
    root: PathBuf,
    bundle: PathBuf,
    pid_file: PathBuf,
    times: Vec<Duration>,
    /// User and system time of the runtime and of all that it has waited for.
    cpu: Vec<Duration>,
}

impl Contender {
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)));
        command.arg("--root").arg(&self.root).args(words);
        command.current_dir(&self.bundle);
        command
    }

    pub fn call(&self, words: &[&str]) -> Result<(), String> {
        let status = self.command(words).stdin(Stdio::null()).stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} {words:?}: {status}", self.name)),
            Err(error) => Err(format!("{} {words:?}: {error}", self.name)),
        }
    }

    /// `run` in the foreground, to its end.
    fn run(&self) -> Result<Duration, String> {
        quiet(&mut self.command(&["run", &self.name]), LIMIT)
    }

    /// A container that waits, for `exec`; it ends with [`Contender::remove`].
    pub fn make_waiting(&self) -> Result<(), String> {
        self.call(&["create", &self.name])?;
        self.call(&["start", &self.name])
    }

    pub fn remove(&self) -> Result<(), String> {
        self.call(&["delete", "--force", &self.name])
    }

    /// `exec` in the foreground, in the container that waits.
    pub fn exec(&self) -> Result<Duration, String> {
        quiet(&mut self.command(&["exec", &self.name, "/exit"]), LIMIT)
    }

    /// What an engine does: create, start, wait for the container as its subreaper, delete.
    fn lifecycle(&self) -> Result<Duration, String> {
        let pid_file = self.pid_file.display().to_string();
        let begun = Instant::now();
        self.call(&["create", "--pid-file", &pid_file, &self.name])?;
        let pid = fs::read_to_string(&self.pid_file).map_err(|error| error.to_string())?;
        let pid = Pid::from_raw(pid.trim().parse().map_err(|error| format!("{error}"))?);
        self.call(&["start", &self.name])?;
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, 0)) => {}
            other => return Err(format!("{}: the payload ended with {other:?}", self.name)),
        }
        self.call(&["delete", &self.name])?;
        let took = begun.elapsed();
        reap_strays();
        Ok(took)
    }
}

/// The processor time of all children that have been waited for.
pub fn cpu_of_children() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| format!("getrusage: {error}"))?;
    let spent = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    Ok(spent(usage.user_time()) + spent(usage.system_time()))
}

/// Orphans of the runtimes' own come to this process, the subreaper.
fn reap_strays() {
    while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))) {}
}

/// What the first runtime's `spec` writes, for a payload without terminal; all contenders get the same.
fn configuration(t: &mut Trial, filtered: bool) -> Outcome<Value> {
    let directory = t.scratch.join("spec");
    fs::create_dir(&directory)?;
    t.bare_call(&["spec"]).cwd(&directory).go()?.ok()?;
    let text = fs::read_to_string(directory.join("config.json"))?;
    let mut config: Value = serde_json::from_str(&text)?;
    bundle::remove(&mut config, "/linux/seccomp");
    if filtered {
        let held = config["process"]["capabilities"]["bounding"].as_array().cloned().unwrap_or_default();
        config["linux"]["seccomp"] = profile::seccomp(&held.iter().filter_map(Value::as_str).collect::<Vec<_>>())?;
    }
    // crun 1.8.1 accepts nothing newer.
    config["ociVersion"] = json!("1.0.2");
    config["process"]["terminal"] = json!(false);
    config["root"]["path"] = json!(t.rootfs());
    Ok(config)
}

pub fn contenders(t: &mut Trial, settings: &Settings, filtered: bool, program: &str) -> Outcome<Vec<Contender>> {
    payload::install(&t.rootfs())?;
    let mut config = configuration(t, filtered)?;
    config["process"]["args"] = json!([program]);
    let mut all = Vec::new();
    for (name, path) in &settings.runtimes {
        let directory = |kind: &str| t.scratch.join(format!("{kind}-{name}"));
        fs::create_dir(directory("bundle"))?;
        config["linux"]["cgroupsPath"] = json!(format!("{}/{name}", t.cgroup_base()));
        fs::write(directory("bundle").join("config.json"), config.to_string())?;
        all.push(Contender {
            name: name.clone(),
            path: path.clone(),
            preload: settings.preload_for(path),
            root: directory("root"),
            bundle: directory("bundle"),
            pid_file: directory("pid"),
            times: Vec::new(),
            cpu: Vec::new(),
        });
    }
    Ok(all)
}

/// bpffs as systemd mounts it on real hosts, but private: device programs are kept there.
fn mount_bpffs() -> Outcome<bool> {
    let none: Option<&str> = None;
    if !Path::new(BPFFS).is_dir() {
        return Ok(false);
    }
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)?;
    Ok(true)
}

/// A real-time priority for this process and all it starts, where that is allowed.
pub fn take_priority() -> bool {
    let own = std::process::id().to_string();
    let status = Command::new("chrt").args(["-f", "-p", "10", &own]).status();
    status.is_ok_and(|status| status.success())
}

/// One measurement of one contender.
type Measure = fn(&Contender) -> Result<Duration, String>;

fn compare(t: &mut Trial, measure: Measure, filtered: bool) -> Outcome {
    let settings = Settings::inherited()?;
    set_child_subreaper(true)?;
    let waiting = std::ptr::fn_addr_eq(measure, Contender::exec as Measure);
    let mut all = contenders(t, &settings, filtered, if waiting { "/wait" } else { "/exit" })?;
    if waiting {
        all.iter().try_for_each(Contender::make_waiting).map_err(Stop::Fail)?;
    }
    let bpffs = mount_bpffs()?;
    let priority = take_priority();
    for round in 0..settings.rounds + WARM_UP {
        for contender in &mut all {
            let before = cpu_of_children().map_err(Stop::Fail)?;
            let took = measure(contender).map_err(Stop::Fail)?;
            if round >= WARM_UP {
                contender.times.push(took);
                contender.cpu.push(cpu_of_children().map_err(Stop::Fail)?.saturating_sub(before));
            }
        }
    }
    if waiting {
        all.iter().try_for_each(Contender::remove).map_err(Stop::Fail)?;
        reap_strays();
    }
    if bpffs {
        umount2(BPFFS, MntFlags::empty())?;
    }
    let with = |there: bool| if there { "with" } else { "without" };
    report!(
        "{} rounds, interleaved, {} SCHED_FIFO, {} bpffs, {} the engines' seccomp profile",
        settings.rounds,
        with(priority),
        with(bpffs),
        with(filtered)
    );
    print_table(&mut all)
}

fn print_table(all: &mut [Contender]) -> Outcome {
    for contender in all.iter_mut() {
        contender.times.sort();
    }
    let Some(first) = all.first() else { return fail("no runtime was given") };
    let at = |contender: &Contender, part| percentile(&contender.times, part).as_secs_f64() * 1e6;
    report!("{:<12} {:>10} {:>10} {:>8} {:>8} {:>8}", "runtime", "p10 us", "median us", "p10 x", "median x", "CPU us");
    for contender in all.iter() {
        report!(
            "{:<12} {:>10.0} {:>10.0} {:>8.2} {:>8.2} {:>8.0}",
            contender.name,
            at(contender, 0.1),
            at(contender, 0.5),
            at(contender, 0.1) / at(first, 0.1),
            at(contender, 0.5) / at(first, 0.5),
            // The kernel counts in ticks or finer; over many rounds the mean is right either way.
            contender.cpu.iter().sum::<Duration>().as_secs_f64() * 1e6 / contender.cpu.len().max(1) as f64
        );
    }
    Ok(())
}
