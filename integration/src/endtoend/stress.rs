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
    group.cases
}

/// A bundle of its own for each lane, all with the one root file system.
fn make_bundles(t: &mut Trial, lanes: usize) -> Outcome<Vec<(String, PathBuf)>> {
    payload::install(&t.rootfs())?;
    let rootfs = t.rootfs();
    t.args(&["/exit"]);
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
    let bundles = make_bundles(t, lanes)?;
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

fn open_descriptors() -> Outcome<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
