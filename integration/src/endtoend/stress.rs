//! Thousands of containers that end at once: one after the other, and many at a time on the same ids
//! over and over. No call may fail, speak or hang, and nothing may be left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::case::{Case, Group, Outcome, fail};
use crate::trial::Trial;
use crate::{ensure, equal};

use super::settings::Settings;
use super::timed::{ms, percentile, quiet};
use super::{payload, report};

/// How many containers one parallel round starts.
pub const AT_ONCE: usize = 16;

const LIMIT: Duration = Duration::from_secs(20);

pub fn cases() -> Vec<Case> {
    let mut group = Group::new("stress", "engine contract");
    group.add("runs_one_after_the_other", |t| {
        let count = Settings::inherited()?.runs;
        run_many(t, 1, count)
    });
    group.add("runs_sixteen_at_a_time", |t| {
        let count = Settings::inherited()?.parallel;
        run_many(t, AT_ONCE, count)
    });
    group.add("execs_eight_at_a_time_into_one_container", |t| {
        let count = Settings::inherited()?.execs;
        exec_many(t, count)
    });
    super::crowd::add_to(&mut group);
    group.cases
}

/// A bundle of its own for each lane, all with the one root file system.
pub fn make_bundles(t: &mut Trial, lanes: usize, program: &str) -> Outcome<Vec<(String, PathBuf)>> {
    payload::install(&t.rootfs())?;
    let rootfs = t.rootfs();
    t.args(&[program]);
    t.set("/root", json!({"path": rootfs, "readonly": true}));
    let mut bundles = Vec::new();
    for lane in 0..lanes {
        let id = t.another_id(&format!("lane-{lane}"));
        let cgroup = format!("{}/{id}", t.cgroup_base());
        t.set("/linux/cgroupsPath", json!(cgroup));
        let bundle = t.scratch.join(format!("bundle-{lane}"));
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), t.config.to_string())?;
        bundles.push((id, bundle));
    }
    Ok(bundles)
}

/// What one lane, or all of them, have come to.
#[derive(Default)]
struct Tally {
    times: Vec<Duration>,
    failures: Vec<String>,
}

fn run_many(t: &mut Trial, lanes: usize, rounds: u64) -> Outcome {
    let preload = Settings::inherited()?.preload_for(&t.runtime);
    let bundles = make_bundles(t, lanes, "/exit")?;
    fs::create_dir_all(&t.root)?;
    let descriptors = open_descriptors()?;
    let (barrier, total) = (Barrier::new(lanes), Mutex::new(Tally::default()));
    let begun = Instant::now();
    thread::scope(|scope| {
        for (id, bundle) in &bundles {
            let mut command = Command::new(&t.runtime);
            command.envs(preload.iter().map(|library| ("LD_PRELOAD", library)));
            command.arg("--root").arg(&t.root).arg("run").arg("--bundle").arg(bundle).arg(id);
            let (barrier, total) = (&barrier, &total);
            scope.spawn(move || {
                let mut own = run_lane(command, barrier, rounds);
                if let Ok(mut total) = total.lock() {
                    total.times.append(&mut own.times);
                    total.failures.append(&mut own.failures);
                }
            });
        }
    });
    let elapsed = begun.elapsed();
    let mut total = total.into_inner().unwrap_or_default();
    let due = rounds * lanes as u64;
    print_rate(&mut total.times, due, elapsed);
    if let Some(first) = total.failures.first() {
        return fail(format!("{} runs failed; the first: {first}", total.failures.len()));
    }
    equal!(total.times.len() as u64, due, "runs that ended well");
    equal!(open_descriptors()?, descriptors, "descriptors of the caller");
    expect_empty(&t.root)
}

/// One container id's share: a run in each round, begun together with all other lanes'.
fn run_lane(mut command: Command, barrier: &Barrier, rounds: u64) -> Tally {
    let mut tally = Tally::default();
    for round in 0..rounds {
        barrier.wait();
        match quiet(&mut command, LIMIT) {
            Ok(time) => tally.times.push(time),
            Err(message) => tally.failures.push(format!("round {round}, {command:?}: {message}")),
        }
    }
    tally
}

fn print_rate(times: &mut [Duration], due: u64, elapsed: Duration) {
    times.sort();
    report!(
        "{} of {due} runs ended well in {:.1} s: {:.0} a second; each p10 {}, median {}, longest {}",
        times.len(),
        elapsed.as_secs_f64(),
        times.len() as f64 / elapsed.as_secs_f64(),
        ms(percentile(times, 0.1)),
        ms(percentile(times, 0.5)),
        ms(percentile(times, 1.0)),
    );
}

/// The state directory remembers nobody. Processes, mounts and cgroups are compared by `Trial`.
pub fn expect_empty(root: &Path) -> Outcome {
    let left: Vec<_> = fs::read_dir(root)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left.is_empty(), "left in {}: {left:?}", root.display());
    Ok(())
}

/// How many `exec`s are under way at a time.
const EXECS_AT_ONCE: u64 = 8;

/// What must be as it was after thousands of `exec`s.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors_of_caller: usize,
    descriptors_of_init: usize,
    processes_in_cgroup: usize,
    entries_of_state: Vec<String>,
}

impl Holdings {
    fn of(t: &mut Trial) -> Outcome<Holdings> {
        let pid = t.pid()?;
        let id = t.id.clone();
        let processes: Vec<i32> = serde_json::from_str(&t.call(&["ps", "--format", "json", &id]).go()?.ok()?.stdout)?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(t.root.join(&id))? {
            entries.push(entry?.file_name().to_string_lossy().into_owned());
        }
        entries.sort();
        Ok(Holdings {
            descriptors_of_caller: open_descriptors()?,
            descriptors_of_init: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            processes_in_cgroup: processes.len(),
            entries_of_state: entries,
        })
    }
}

/// Session keyrings of this user that the kernel still holds (keyrings(7)); `None` without /proc/key-users.
fn keys() -> Option<u64> {
    let text = fs::read_to_string("/proc/key-users").ok()?;
    let own = text.lines().find_map(|line| line.trim_start().strip_prefix("0:"))?;
    own.split_whitespace().nth(1)?.split('/').next()?.parse().ok()
}

fn exec_many(t: &mut Trial, count: u64) -> Outcome {
    let preload = Settings::inherited()?.preload_for(&t.runtime);
    payload::install(&t.rootfs())?;
    t.args(&["/wait"]);
    t.create_started()?;
    let command = || {
        let mut command = Command::new(&t.runtime);
        command.envs(preload.iter().map(|library| ("LD_PRELOAD", library)));
        command.arg("--root").arg(&t.root).arg("exec").arg(&t.id).arg("/exit");
        command
    };
    // The first may leave what all others share.
    quiet(&mut command(), LIMIT).map_err(crate::case::Stop::Fail)?;
    let commands: Vec<Command> = (0..EXECS_AT_ONCE).map(|_| command()).collect();
    let (before, keys_before) = (Holdings::of(t)?, keys());
    let total = Mutex::new(Tally::default());
    let barrier = Barrier::new(1);
    let begun = Instant::now();
    thread::scope(|scope| {
        for command in commands {
            let (total, barrier) = (&total, &barrier);
            scope.spawn(move || {
                let mut own = run_lane(command, barrier, count.div_ceil(EXECS_AT_ONCE));
                if let Ok(mut total) = total.lock() {
                    total.times.append(&mut own.times);
                    total.failures.append(&mut own.failures);
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_default();
    let due = count.div_ceil(EXECS_AT_ONCE) * EXECS_AT_ONCE;
    print_rate(&mut total.times, due, begun.elapsed());
    if let Some(first) = total.failures.first() {
        return fail(format!("{} execs failed; the first: {first}", total.failures.len()));
    }
    equal!(total.times.len() as u64, due, "execs that ended well");
    equal!(Holdings::of(t)?, before, "what caller, container and state directory hold");
    // The kernel frees keyrings a while after their last user.
    let few = |now: u64, then: u64| now <= then + 100;
    let freed = crate::call::eventually(t.limit(Duration::from_secs(20)), || {
        Ok(keys().zip(keys_before).is_none_or(|(now, then)| few(now, then)))
    })?;
    ensure!(freed, "keys: {keys_before:?} before, {:?} after", keys());
    equal!(t.status()?, "running", "status of the container");
    Ok(())
}

fn open_descriptors() -> Outcome<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
