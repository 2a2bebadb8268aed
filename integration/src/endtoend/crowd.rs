//! Many calls on containers that others are at work on: a thousand containers alive at a time, creates and
//! deletes that overlap, every verb against every verb on one id. Nothing is lost, nothing is left, nobody
//! waits for ever, and who comes too late is told so in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::{Group, Outcome, fail};
use crate::leftovers::Baseline;
use crate::trial::{Trial, alive};
use crate::{ensure, equal};

use super::kills::{base_name, delete_everything};
use super::random::Random;
use super::report;
use super::settings::Settings;
use super::stress::{expect_empty, make_bundles};

/// No call takes longer than this, however many others are at work.
const LIMIT: Duration = Duration::from_secs(20);

/// How many callers make and delete a thousand containers.
const HANDS: usize = 8;

/// Callers that create and delete, and the ids that they share.
const CALLERS: usize = 64;
const SHARED: usize = 8;

/// Callers of every verb on one id, and how long a round is.
const RIVALS: usize = 4;
const ROUND: Duration = Duration::from_millis(1500);

pub fn add_to(group: &mut Group) {
    group.add("a_thousand_containers_are_alive_at_once", |t| thousand(t, Settings::inherited()?.alive as usize));
    group.add("sixty_four_create_and_delete_overlapping_ids", |t| overlap(t, Settings::inherited()?.overlaps));
    group.add("every_verb_against_every_verb_on_one_id", |t| {
        let settings = Settings::inherited()?;
        clash(t, Duration::from_secs(settings.clash), settings.seed)
    });
}

/// What a call came to.
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

/// One caller: the runtime, and files for its words, which a created container keeps open.
struct Caller<'t> {
    runtime: &'t Path,
    root: &'t Path,
    files: [PathBuf; 2],
}

impl<'t> Caller<'t> {
    fn new(t: &'t Trial, number: usize) -> Caller<'t> {
        let file = |kind: &str| t.scratch.join(format!("caller-{number}.{kind}"));
        Caller { runtime: &t.runtime, root: &t.root, files: [file("stdout"), file("stderr")] }
    }

    /// The call's answer; an error is a hang, or that nothing could be started.
    fn call(&self, words: &[&str]) -> Result<Answer, String> {
        let told = |error: std::io::Error| format!("{words:?}: {error}");
        let [out, err] = &self.files;
        let mut command = Command::new(self.runtime);
        command.arg("--root").arg(self.root).args(words).stdin(Stdio::null());
        command.stdout(File::create(out).map_err(told)?).stderr(File::create(err).map_err(told)?);
        let mut child = command.spawn().map_err(told)?;
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(told)? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().and_then(|()| child.wait()).map_err(told)?;
                return Err(format!("{words:?} did not end within {LIMIT:?}: a hang"));
            }
            sleep(Duration::from_micros(300));
        };
        let text = |path: &PathBuf| fs::read_to_string(path).map_err(told);
        Ok(Answer { code: status.code(), stdout: text(out)?, stderr: text(err)? })
    }

    /// A call that has to succeed in silence.
    fn quiet(&self, words: &[&str]) -> Result<String, String> {
        let answer = self.call(words)?;
        if answer.succeeded() && answer.stderr.is_empty() {
            return Ok(answer.stdout);
        }
        Err(format!("{words:?}: {:?}: {}", answer.code, answer.stderr.trim()))
    }
}

/// Does `work` with every number below `count`, `hands` at a time; the failures, but for those after twenty.
fn in_parallel(count: usize, hands: usize, work: impl Fn(usize, usize) -> Result<(), String> + Sync) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for hand in 0..hands {
            let (next, failures, work) = (&next, &failures, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || lock(failures).len() > 20 {
                        return;
                    }
                    if let Err(message) = work(hand, number) {
                        lock(failures).push(message);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn none_failed(failures: &[String]) -> Outcome {
    ensure!(failures.is_empty(), "{} calls failed: {}", failures.len(), failures.join("; "));
    Ok(())
}

fn thousand(t: &mut Trial, count: usize) -> Outcome {
    let bundles = make_bundles(t, count, "/wait")?;
    fs::create_dir_all(&t.root)?;
    let baseline = Baseline::take(t.view, base_name(t));
    let callers: Vec<Caller<'_>> = (0..HANDS).map(|number| Caller::new(t, number)).collect();
    let begun = Instant::now();
    none_failed(&in_parallel(count, HANDS, |hand, number| {
        let (id, bundle) = &bundles[number];
        callers[hand].quiet(&["create", "--bundle", &bundle.display().to_string(), id])?;
        callers[hand].quiet(&["start", id]).map(drop)
    }))?;
    let made = begun.elapsed();
    expect_all_running(&callers[0], &bundles)?;
    none_failed(&in_parallel(count, HANDS, |hand, number| {
        let state: Value = serde_json::from_str(&callers[hand].quiet(&["state", &bundles[number].0])?)
            .map_err(|error| format!("state of {}: {error}", bundles[number].0))?;
        let right = state["id"] == json!(bundles[number].0) && state["status"] == "running";
        if right { Ok(()) } else { Err(format!("state of {}: {state}", bundles[number].0)) }
    }))?;
    let begun = Instant::now();
    none_failed(&in_parallel(count, HANDS, |hand, number| {
        callers[hand].quiet(&["delete", "--force", &bundles[number].0]).map(drop)
    }))?;
    let (made, gone) = (made.as_secs_f64(), begun.elapsed().as_secs_f64());
    let ids: Vec<String> = bundles.iter().map(|(id, _)| id.clone()).collect();
    let left = baseline.compare(&t.root, &ids);
    ensure!(left.is_empty(), "left: {}", left.join("; "));
    report!("{count} containers alive at once: created and started in {made:.1} s, deleted in {gone:.1} s, none left");
    expect_empty(&t.root)
}

/// `list` names each once, running, with a process of its own that lives.
fn expect_all_running(caller: &Caller<'_>, bundles: &[(String, PathBuf)]) -> Outcome {
    let listed = caller.quiet(&["list", "--format", "json"]).map_err(crate::case::Stop::Fail)?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let due: BTreeSet<&str> = bundles.iter().map(|(id, _)| id.as_str()).collect();
    let named: BTreeSet<&str> = listed.iter().filter_map(|entry| entry["id"].as_str()).collect();
    ensure!(named == due && listed.len() == due.len(), "list has {} entries, {} were made", listed.len(), due.len());
    let mut pids = BTreeSet::new();
    for entry in &listed {
        let living = entry["status"] == "running" && alive(&entry["pid"]);
        ensure!(living && pids.insert(entry["pid"].as_i64()), "list says {entry}");
    }
    Ok(())
}

/// Callers that fight over a few ids: whatever was created is deleted by just one of them, or still there.
fn overlap(t: &mut Trial, rounds: u64) -> Outcome {
    let bundles = make_bundles(t, SHARED, "/wait")?;
    fs::create_dir_all(&t.root)?;
    let callers: Vec<Caller<'_>> = (0..CALLERS).map(|number| Caller::new(t, number)).collect();
    let balance: Vec<AtomicUsize> = (0..2 * SHARED).map(|_| AtomicUsize::new(0)).collect();
    let (made, gone) = balance.split_at(SHARED);
    let failures = in_parallel(CALLERS * rounds as usize, CALLERS, |hand, number| {
        // Neighbours in time meet on the same id.
        let at = number / 8 % SHARED;
        let (id, bundle) = (&bundles[at].0, bundles[at].1.display().to_string());
        let (answer, count) = match number % 2 {
            0 => (callers[hand].call(&["create", "--bundle", &bundle, id])?, &made[at]),
            _ => (callers[hand].call(&["delete", id])?, &gone[at]),
        };
        match answer.succeeded() {
            true => drop(count.fetch_add(1, Ordering::Relaxed)),
            false => expect_too_late(&answer)?,
        }
        Ok(())
    });
    none_failed(&failures)?;
    let listed = callers[0].quiet(&["list", "--format", "json"]).map_err(crate::case::Stop::Fail)?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let (mut all_made, mut all_gone) = (0, 0);
    for (at, (id, _)) in bundles.iter().enumerate() {
        let (made, gone) = (made[at].load(Ordering::Relaxed), gone[at].load(Ordering::Relaxed));
        let there = listed.iter().filter(|entry| entry["id"] == json!(id)).count();
        equal!(
            made,
            gone + there,
            "{id} was deleted {gone} times and is listed {there} times; how often it was created"
        );
        (all_made, all_gone) = (all_made + made, all_gone + gone);
    }
    ensure!(all_made > 0 && all_gone > 0, "{all_made} creates and {all_gone} deletes succeeded");
    for (id, _) in &bundles {
        callers[0].quiet(&["delete", "--force", id]).map_err(crate::case::Stop::Fail)?;
    }
    report!(
        "{} calls by {CALLERS} callers on {SHARED} ids: {all_made} creates and {all_gone} deletes came in time, the \
         others were told so",
        CALLERS * rounds as usize
    );
    expect_empty(&t.root)
}

/// What a call may be told when another one was faster; everything else is a race lost inside.
const TOO_LATE: [&str; 10] = [
    "exists already",
    "does not exist",
    "create has not finished",
    "is just being created or deleted",
    "cannot be ",
    "cannot exec",
    "container not running",
    "container not paused",
    "was thawed by another command",
    "it was killed by signal",
];

/// One line of those.
fn expect_too_late(answer: &Answer) -> Result<(), String> {
    let known = TOO_LATE.iter().any(|words| answer.stderr.contains(words));
    if known && answer.stderr.lines().count() == 1 && answer.code.is_some() {
        return Ok(());
    }
    Err(format!("{:?}: {}", answer.code, answer.stderr.trim()))
}

const VERBS: [&[&str]; 17] = [
    &["create", "--bundle", "BUNDLE", "ID"],
    &["run", "--detach", "--bundle", "BUNDLE", "ID"],
    &["start", "ID"],
    &["start", "ID"],
    &["exec", "ID", "/exit"],
    &["exec", "--detach", "ID", "/wait"],
    &["kill", "ID", "TERM"],
    &["kill", "ID", "KILL"],
    &["kill", "--all", "ID", "KILL"],
    &["kill", "--all", "ID", "TERM"],
    &["pause", "ID"],
    &["resume", "ID"],
    &["update", "--resources", "RESOURCES", "ID"],
    &["state", "ID"],
    &["ps", "ID"],
    &["delete", "ID"],
    &["delete", "--force", "ID"],
];

/// Rounds in which a few callers do whatever comes to their mind with one id; after each of them one
/// `delete --force` is the end of everything.
fn clash(t: &mut Trial, time: Duration, seed: u64) -> Outcome {
    let bundle = make_bundles(t, 1, "/wait")?.remove(0);
    t.id = bundle.0.clone();
    fs::create_dir_all(&t.root)?;
    let resources = t.scratch.join("resources.json");
    // Needs no controller, and so is there everywhere.
    fs::write(&resources, r#"{"unified":{"cgroup.max.depth":"7"}}"#)?;
    let baseline = Baseline::take(t.view, base_name(t));
    let (begun, mut round) = (Instant::now(), 0);
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    while begun.elapsed() < time {
        let failures = one_round(t, &bundle, &resources, seed.wrapping_add(round), &mut told)?;
        if !failures.is_empty() {
            let kinds: BTreeSet<&String> = failures.iter().collect();
            return fail(format!("seed {seed}, round {round}: {} calls went wrong: {kinds:?}", failures.len()));
        }
        delete_everything(t, &baseline)?;
        round += 1;
    }
    let calls: usize = told.values().sum();
    report!("seed {seed}: {calls} calls in {round} rounds by {RIVALS} callers on one id; nothing lost, nothing left");
    for (words, count) in told {
        report!("  {count:6} {words}");
    }
    Ok(())
}

fn one_round(
    t: &Trial,
    (id, bundle): &(String, PathBuf),
    resources: &Path,
    seed: u64,
    told: &mut BTreeMap<String, usize>,
) -> Outcome<Vec<String>> {
    let (over, busy) = (AtomicBool::new(false), AtomicUsize::new(RIVALS));
    let found = Mutex::new((Vec::new(), told));
    thread::scope(|scope| {
        for rival in 0..RIVALS {
            let (over, busy, found) = (&over, &busy, &found);
            let caller = Caller::new(t, rival);
            scope.spawn(move || {
                let mut random = Random::new(seed, &format!("rival-{rival}"));
                while !over.load(Ordering::Relaxed) {
                    let verb = VERBS[random.next() as usize % VERBS.len()];
                    let words: Vec<String> = verb.iter().map(|word| word_for(word, id, bundle, resources)).collect();
                    let answer = caller.call(&crate::trial::as_words(&words));
                    note(&mut lock(found), verb, answer);
                }
                busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
        sleep(ROUND);
        over.store(true, Ordering::Relaxed);
        // An exec that was let in before a pause waits for somebody to end it.
        let caller = Caller::new(t, RIVALS);
        while busy.load(Ordering::Relaxed) > 0 {
            if let Err(message) = caller.quiet(&["delete", "--force", id]) {
                lock(&found).0.push(message);
            }
            sleep(Duration::from_millis(50));
        }
    });
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner).0)
}

fn word_for(word: &str, id: &str, bundle: &Path, resources: &Path) -> String {
    match word {
        "ID" => id.to_string(),
        "BUNDLE" => bundle.display().to_string(),
        "RESOURCES" => resources.display().to_string(),
        other => other.to_string(),
    }
}

/// Counts an answer by verb and outcome; what is neither success nor a known refusal is a failure.
fn note(found: &mut (Vec<String>, &mut BTreeMap<String, usize>), verb: &[&str], answer: Result<Answer, String>) {
    let name = verb.iter().filter(|word| word.starts_with('-') || **word == verb[0]).copied().collect::<Vec<_>>();
    let name = name.join(" ");
    let outcome = match &answer {
        Err(message) => return found.0.push(message.clone()),
        Ok(answer) if answer.succeeded() && answer.stderr.is_empty() => "done",
        // Its process was killed by another caller.
        Ok(Answer { code: Some(137 | 143), stderr, .. }) if verb[0] == "exec" && stderr.is_empty() => "killed",
        Ok(answer) => match expect_too_late(answer) {
            Ok(()) => "too late",
            Err(message) => return found.0.push(format!("{name}: {message}")),
        },
    };
    *found.1.entry(format!("{name}: {outcome}")).or_default() += 1;
}
