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

fn run_many(t: &mut Trial, lanes: usize, rounds: u64) -> Outcome {
    let bundles = make_bundles(t, lanes)?;
    fs::create_dir_all(&t.root)?;
    let descriptors = open_descriptors()?;
    let barrier = Barrier::new(lanes);
    let times = Mutex::new(Vec::new());
    let failures = Mutex::new(Vec::new());
    let preload = Settings::inherited()?.preload_for(&t.runtime);
    let (runtime, root) = (&t.runtime, &t.root);
    let begun = Instant::now();
    thread::scope(|scope| {
        for (id, bundle) in &bundles {
            let (barrier, times, failures) = (&barrier, &times, &failures);
            let preload = &preload;
            scope.spawn(move || {
                let (mut took, mut failed) = (Vec::new(), Vec::new());
                for round in 0..rounds {
                    barrier.wait();
                    match quiet(
                        run_command(runtime, root, bundle, id)
                            .envs(preload.iter().map(|library| ("LD_PRELOAD", library))),
                        LIMIT,
                    ) {
                        Ok(time) => took.push(time),
                        Err(message) => failed.push(format!("round {round}, {id}: {message}")),
                    }
                }
                times.lock().map(|mut all| all.append(&mut took)).is_ok()
                    && failures.lock().map(|mut all| all.append(&mut failed)).is_ok()
            });
        }
    });
    let elapsed = begun.elapsed();
    let mut times = times.into_inner().unwrap_or_default();
    times.sort();
    let failures = failures.into_inner().unwrap_or_default();
    report!(
        "{} of {} runs ended well in {:.1} s: {:.0} a second; each p10 {}, median {}, longest {}",
        times.len(),
        rounds * lanes as u64,
        elapsed.as_secs_f64(),
        times.len() as f64 / elapsed.as_secs_f64(),
        ms(percentile(&times, 0.1)),
        ms(percentile(&times, 0.5)),
        ms(percentile(&times, 1.0)),
    );
    if let Some(first) = failures.first() {
        return fail(format!("{} runs failed; the first: {first}", failures.len()));
    }
    equal!(times.len() as u64, rounds * lanes as u64, "runs that ended well");
    equal!(open_descriptors()?, descriptors, "descriptors of the caller");
    expect_empty(&t.root)
}

fn run_command(runtime: &Path, root: &Path, bundle: &Path, id: &str) -> Command {
    let mut command = Command::new(runtime);
    command.arg("--root").arg(root).arg("run");
    command.arg("--bundle").arg(bundle).arg(id);
    command
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
