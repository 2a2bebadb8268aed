//! Runs tests side by side: one sandboxed copy of this binary a test, with a time limit and SIGKILL.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::Case;
use crate::differences;
use crate::leftovers;
use crate::mode::Mode;
use crate::options::{Options, Tested, View};
use crate::peers;
use crate::sandbox::{self, Order};
use crate::sys::await_end;

/// Whole-test limit; single calls of a runtime have a shorter one (see `trial`).
const TEST_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// What became of one test under one runtime.
#[derive(Clone, Debug)]
pub struct Finding {
    pub name: String,
    pub cites: &'static str,
    pub beyond_peers: Option<&'static str>,
    pub verdict: Verdict,
    /// Why it failed or was skipped.
    pub message: String,
    /// Commands, outputs and configuration, as the body wrote them.
    pub transcript: String,
    pub took: Duration,
}

/// All results of one runtime, in the suite's order.
#[derive(Debug)]
pub struct RuntimeResults {
    pub runtime: PathBuf,
    pub label: String,
    pub results: Vec<Finding>,
}

/// Runs every selected test against every runtime.
pub fn run(options: &Options) -> Result<Vec<RuntimeResults>, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("the suite needs root: it makes namespaces, mounts and cgroups".into());
    }
    if !Path::new(crate::bundle::BUSYBOX).exists() {
        return Err("/bin/busybox is missing: install busybox-static".into());
    }
    let work = std::env::temp_dir().join(format!("xebec-integration-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    leftovers::sweep_abandoned();
    let outcome = run_in(&work, options);
    std::fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    outcome
}

fn run_in(work: &Path, options: &Options) -> Result<Vec<RuntimeResults>, String> {
    let programs: Vec<PathBuf> = options.runtimes.iter().map(|tested| tested.program.clone()).collect();
    let preload = peers::prepare_preload(&programs, work)?;
    let cases: Vec<Case> = crate::tests::all().into_iter().filter(|case| selected(case, options)).collect();
    let mut all = Vec::new();
    for (index, tested) in options.runtimes.iter().enumerate() {
        let preload = preload.clone().filter(|_| peers::is_crun(&tested.program));
        let orders = cases.iter().enumerate().map(|(number, case)| Order {
            test: case.name.clone(),
            runtime: tested.program.clone(),
            mode: tested.mode,
            preload: preload.clone(),
            view: options.view,
            mountns: options.mountns,
            time_scale: options.time_scale,
            cgroup: format!("xebec-it-{}-{index}-{number}", std::process::id()),
        });
        let results = run_all(&cases, &orders.collect::<Vec<_>>(), options);
        all.push(RuntimeResults { runtime: tested.program.clone(), label: label(tested, options), results });
    }
    Ok(all)
}

pub fn selected(case: &Case, options: &Options) -> bool {
    options.filters.is_empty() || options.filters.iter().any(|filter| case.name.contains(filter.as_str()))
}

/// A runtime is called by its file's name, or by its path where two share a name; and by its mode.
fn label(tested: &Tested, options: &Options) -> String {
    let program = &tested.program;
    let namesake = |other: &&Tested| other.program != *program && other.program.file_name() == program.file_name();
    let name = match options.runtimes.iter().find(namesake) {
        Some(_) => program.display().to_string(),
        None => program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    match tested.mode {
        Mode::Root => name,
        mode => format!("{name}+{}", mode.word()),
    }
}

fn run_all(cases: &[Case], orders: &[Order], options: &Options) -> Vec<Finding> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Finding>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { return };
                    let result = run_one(case, &orders[index], options);
                    if options.progress {
                        let (verdict, took) = (result.verdict, result.took.as_secs_f64());
                        eprintln!("# {took:6.1} s {verdict:?} {}", result.name);
                    }
                    if let Ok(mut slot) = slots[index].lock() {
                        *slot = Some(result);
                    }
                }
            });
        }
    });
    slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect()
}

fn run_one(case: &Case, order: &Order, options: &Options) -> Finding {
    let started = Instant::now();
    let cgroup = sandbox::own_cgroup_directory(&order.cgroup);
    let (verdict, message, transcript) = match spawn_and_wait(order, options) {
        Ok((stdout, stderr)) => judge(&stdout, stderr),
        Err(message) => (Verdict::Fail, message, String::new()),
    };
    let (verdict, message) = expected(order, verdict, message);
    if options.view == View::V2 {
        cgroup.iter().for_each(|directory| leftovers::remove_cgroup(directory));
    } else {
        leftovers::cgroups_named(&order.cgroup).iter().for_each(|directory| leftovers::remove_cgroup(directory));
    }
    Finding {
        name: case.name.clone(),
        cites: case.cites,
        beyond_peers: case.beyond_peers,
        verdict,
        message,
        transcript,
        took: started.elapsed(),
    }
}

/// A test that is listed as different has to fail, and then counts as skipped.
fn expected(order: &Order, verdict: Verdict, message: String) -> (Verdict, String) {
    match (differences::reason(order.mode, &order.test), verdict) {
        (Some(why), Verdict::Fail) => (Verdict::Skip, why.to_string()),
        (Some(why), Verdict::Pass) => {
            (Verdict::Fail, format!("passes, and is listed as different ({why}): strike it from the list"))
        }
        _ => (verdict, message),
    }
}

/// Starts the sandbox and returns its stdout (the verdict) and stderr (the transcript).
fn spawn_and_wait(order: &Order, options: &Options) -> Result<(String, String), String> {
    let mut child = order
        .command("outer")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the sandbox: {error}"))?;
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("the sandbox has no pipes".into());
    };
    thread::scope(|scope| {
        let stdout = scope.spawn(move || read_all(&mut out));
        let stderr = scope.spawn(move || read_all(&mut err));
        let in_time = wait_in_time(&mut child, TEST_LIMIT * options.time_scale);
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        if in_time {
            Ok((stdout, stderr))
        } else {
            Ok((String::new(), format!("{stderr}\n# the test's time limit passed\n")))
        }
    })
}

pub fn wait_in_time(child: &mut Child, limit: Duration) -> bool {
    // Waited for already is ended, too.
    if !matches!(child.try_wait(), Ok(None)) || await_end(child.id(), limit) == Ok(true) {
        drop(child.wait());
        return true;
    }
    // Already gone is as good as killed.
    drop(child.kill());
    drop(child.wait());
    false
}

fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("# unreadable: {error}"),
    }
}

pub fn judge(stdout: &str, transcript: String) -> (Verdict, String, String) {
    let Ok(report) = serde_json::from_str::<Value>(stdout.trim()) else {
        return (Verdict::Fail, "no verdict: the test was killed or crashed (a hang is a failure)".into(), transcript);
    };
    let message = report["message"].as_str().unwrap_or_default().to_string();
    let verdict = match report["verdict"].as_str() {
        Some("pass") => Verdict::Pass,
        Some("skip") => Verdict::Skip,
        _ => Verdict::Fail,
    };
    (verdict, message, transcript)
}
