//! Takes the times: round by round, one contender after the other, so that whatever else the machine does
//! meets all of them alike. A contender that fails leaves the case, and the report says why.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::WaitStatus;

use crate::bundle::{Bundle, Kit};
use crate::cases::{Action, Case};
use crate::contender::{Contender, Verb, reap_strays, wait_for};
use crate::results::{Failure, Results, Series};

/// Rounds that fill caches and are not counted.
const WARM_UP: usize = 5;

/// How many containers each of the workers of a parallel case runs in a round.
const EACH: usize = 4;

/// What one round of one contender gives: a value for each thing that is timed.
type Values = Vec<(&'static str, f64)>;

/// A contender with its bundles for one case.
struct Entry<'a> {
    contender: &'a Contender,
    bundles: Vec<Bundle>,
    /// In the order in which they are taken.
    samples: Vec<(&'static str, Vec<f64>)>,
    failed: Option<String>,
}

pub struct Limits {
    pub rounds: usize,
    pub seconds: u64,
}

/// Measures one case and adds what came out.
pub fn measure(
    case: &Case,
    contenders: &[Contender],
    kit: &Kit,
    limits: &Limits,
    results: &mut Results,
) -> Result<(), String> {
    let mut entries = Vec::new();
    for contender in contenders {
        if contender.is_floor && case.action == Action::Features {
            continue;
        }
        entries.push(Entry { contender, bundles: bundles(case, contender, kit)?, samples: Vec::new(), failed: None });
    }
    let more = MoreMounts::mount(case.mounts, &kit.work)?;
    let pinned = if case.mountns { pin_mount_namespaces(contenders) } else { None };
    if case.mountns && pinned.is_none() {
        eprintln!("{}: nobody here can pin a mount namespace", case.name);
    }
    prepare(case, &mut entries);
    let begun = Instant::now();
    for round in 0..limits.rounds + WARM_UP {
        if begun.elapsed() > Duration::from_secs(limits.seconds) {
            break;
        }
        take_turns(case, &mut entries, round >= WARM_UP);
    }
    finish(case, &mut entries);
    if let Some(contender) = pinned {
        mountns(contender, "unpin").map_err(|error| format!("mountns unpin: {error}"))?;
    }
    more.unmount()?;
    collect(case, entries, results);
    Ok(())
}

fn bundles(case: &Case, contender: &Contender, kit: &Kit) -> Result<Vec<Bundle>, String> {
    let many = if let Action::Parallel(at_once) = case.action { at_once } else { 1 };
    let program = if matches!(case.action, Action::Exec | Action::Attend) { "/wait" } else { "/exit" };
    (0..many).map(|n| kit.bundle(&format!("{}-{n}", contender.name), case.shape, program)).collect()
}

/// One value of each contender. In the parallel cases a round is skipped whole when one of them has failed.
fn take_turns(case: &Case, entries: &mut [Entry<'_>], counted: bool) {
    for entry in entries.iter_mut().filter(|entry| entry.failed.is_none()) {
        match one(case, entry) {
            Ok(values) => {
                for (what, value) in values.into_iter().filter(|_| counted) {
                    match entry.samples.iter_mut().find(|(known, _)| *known == what) {
                        Some((_, values)) => values.push(value),
                        None => entry.samples.push((what, vec![value])),
                    }
                }
            }
            Err(message) => entry.failed = Some(message),
        }
    }
}

fn one(case: &Case, entry: &Entry<'_>) -> Result<Values, String> {
    let (contender, bundle) = (entry.contender, &entry.bundles[0]);
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    match case.action {
        Action::Run => Ok(vec![("run", us(contender.call(Verb::Run, bundle)?))]),
        Action::Exec => Ok(vec![("exec", us(contender.call(Verb::Exec, bundle)?))]),
        Action::Features => Ok(vec![("features", us(contender.call(Verb::Features, bundle)?))]),
        Action::Lifecycle => lifecycle(contender, bundle),
        Action::Attend => attend(contender, bundle),
        Action::Parallel(_) => parallel(contender, &entry.bundles),
    }
}

/// What an engine does for a container that ends by itself.
fn lifecycle(contender: &Contender, bundle: &Bundle) -> Result<Values, String> {
    let begun = Instant::now();
    let create = contender.call(Verb::Create, bundle)?;
    let pid = contender.created_pid(bundle)?;
    let start = contender.call(Verb::Start, bundle)?;
    match wait_for(pid)? {
        Some(WaitStatus::Exited(_, 0)) => {}
        other => return Err(format!("the payload ended with {other:?}")),
    }
    let delete = contender.call(Verb::Delete, bundle)?;
    let whole = begun.elapsed();
    reap_strays();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(vec![("create", us(create)), ("start", us(start)), ("delete", us(delete)), ("lifecycle", us(whole))])
}

fn attend(contender: &Contender, bundle: &Bundle) -> Result<Values, String> {
    begin(contender, bundle)?;
    let state = contender.call(Verb::State, bundle)?;
    let kill = contender.call(Verb::Kill, bundle)?;
    wait_for(contender.created_pid(bundle)?)?;
    contender.call(Verb::Delete, bundle)?;
    reap_strays();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(vec![("state", us(state)), ("kill", us(kill))])
}

fn begin(contender: &Contender, bundle: &Bundle) -> Result<(), String> {
    contender.call(Verb::Create, bundle)?;
    contender.call(Verb::Start, bundle).map(drop)
}

/// Containers per second, with a worker for each bundle.
fn parallel(contender: &Contender, bundles: &[Bundle]) -> Result<Values, String> {
    let begun = Instant::now();
    let done: Result<Vec<()>, String> = thread::scope(|scope| {
        let work = |bundle| move || (0..EACH).try_for_each(|_| contender.call(Verb::Run, bundle).map(drop));
        let workers: Vec<_> = bundles.iter().map(|bundle| scope.spawn(work(bundle))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into()))).collect()
    });
    done?;
    Ok(vec![("containers per second", (bundles.len() * EACH) as f64 / begun.elapsed().as_secs_f64())])
}

/// The container that exec cases work in.
fn prepare(case: &Case, entries: &mut [Entry<'_>]) {
    for entry in entries.iter_mut().filter(|_| case.action == Action::Exec) {
        entry.failed = begin(entry.contender, &entry.bundles[0]).err();
    }
}

fn finish(case: &Case, entries: &mut [Entry<'_>]) {
    for entry in entries.iter_mut() {
        let (contender, bundle) = (entry.contender, &entry.bundles[0]);
        let ended = match (case.action, &entry.failed) {
            (Action::Exec, _) => end(contender, bundle),
            // What a failed call has left must not meet the next case.
            (Action::Lifecycle | Action::Attend, Some(_)) => end(contender, bundle),
            _ => Ok(()),
        };
        reap_strays();
        if let (Err(message), None) = (ended, &entry.failed) {
            entry.failed = Some(format!("at its end: {message}"));
        }
    }
}

fn end(contender: &Contender, bundle: &Bundle) -> Result<(), String> {
    contender.call(Verb::Kill, bundle)?;
    wait_for(contender.created_pid(bundle)?)?;
    contender.call(Verb::Delete, bundle).map(drop)
}

fn collect(case: &Case, entries: Vec<Entry<'_>>, results: &mut Results) {
    let mut whats: Vec<&'static str> = Vec::new();
    for what in entries.iter().flat_map(|entry| &entry.samples).map(|(what, _)| *what) {
        if !whats.contains(&what) {
            whats.push(what);
        }
    }
    for what in whats {
        let samples = entries.iter().filter(|entry| entry.failed.is_none()).filter_map(|entry| {
            let (_, values) = entry.samples.iter().find(|(known, _)| *known == what)?;
            Some((entry.contender.name.clone(), values.clone()))
        });
        results.series.push(Series {
            case: case.name.clone(),
            title: case.title.to_string(),
            what: what.to_string(),
            rate: matches!(case.action, Action::Parallel(_)),
            samples: samples.collect(),
        });
    }
    for entry in entries {
        if let Some(message) = entry.failed {
            let contender = entry.contender.name.clone();
            results.failures.push(Failure { case: case.name.clone(), contender, message });
        }
    }
}

/// The first contender that can pin one; the others either use it or do not know of it.
fn pin_mount_namespaces(contenders: &[Contender]) -> Option<&Contender> {
    contenders.iter().find(|contender| !contender.is_floor && mountns(contender, "pin").is_ok())
}

fn mountns(contender: &Contender, action: &str) -> Result<(), String> {
    let done =
        Command::new(&contender.program).args(["mountns", action]).output().map_err(|error| error.to_string())?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
    }
}

/// Bind mounts below one directory, gone with that.
struct MoreMounts(Option<std::path::PathBuf>);

impl MoreMounts {
    fn mount(many: usize, work: &Path) -> Result<MoreMounts, String> {
        if many == 0 {
            return Ok(MoreMounts(None));
        }
        let none: Option<&str> = None;
        let top = work.join("mounts");
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", top.display());
        fs::create_dir_all(&top).map_err(|error| failed(&error))?;
        mount(Some("tmpfs"), &top, Some("tmpfs"), MsFlags::empty(), none).map_err(|errno| failed(&errno))?;
        for n in 0..many {
            let point = top.join(n.to_string());
            fs::create_dir(&point).map_err(|error| failed(&error))?;
            mount(Some("tmpfs"), &point, Some("tmpfs"), MsFlags::empty(), none).map_err(|errno| failed(&errno))?;
        }
        Ok(MoreMounts(Some(top)))
    }

    fn unmount(self) -> Result<(), String> {
        let Some(top) = self.0 else { return Ok(()) };
        umount2(&top, MntFlags::MNT_DETACH).map_err(|errno| format!("{}: {errno}", top.display()))
    }
}
