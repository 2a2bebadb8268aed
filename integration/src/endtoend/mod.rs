//! Demonstrations that take minutes: real servers, thousands of runs, kills at random moments, figures.
//! The front end runs each case as `runner` runs a test, in a sandboxed copy of this binary, but with
//! what it reports passed on: while it goes, or with `--jobs` in one piece. Judges no clause of the
//! specification.

mod crowd;
mod engines;
mod faults;
mod figures;
mod hostile;
mod kills;
pub mod payload;
mod probes;
pub mod profile;
mod random;
mod servers;
mod settings;
mod stress;
mod timed;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::case::Case;
use crate::leftovers;
use crate::options::View;
use crate::peers;
use crate::runner::{Verdict, judge, wait_in_time};
use crate::sandbox::{self, Order};

use settings::Settings;

/// Lines of a case's stderr that start so are its report; the rest is shown when it fails.
const REPORT: &str = "% ";

/// Upper bound of one case; single calls have their own, much shorter ones.
const CASE_LIMIT: Duration = Duration::from_secs(1800);

/// How much of the transcript of a failed case is shown.
const SHOWN_LINES: usize = 60;

/// Prints one line of a case's report.
macro_rules! report {
    ($($text:tt)+) => { eprintln!("{}{}", $crate::endtoend::REPORT, format!($($text)+)) };
}
use report;

/// How many containers a race takes, and how long at most, where a demonstration was asked for more than the suite does.
pub fn race_rounds() -> Option<(u64, Duration)> {
    let settings = Settings::inherited().ok()?;
    Some((settings.races, Duration::from_secs(120)))
}

/// A line of the report in a demonstration, of the transcript in the suite.
pub fn tell(text: &str) {
    report!("{text}");
}

/// The cases of the demonstration called `word`.
fn cases_of(word: &str) -> Option<Vec<Case>> {
    Some(match word {
        "servers" => servers::cases(),
        "stress" => [stress::cases(), kills::cases()].into_iter().flatten().collect(),
        "figures" => figures::cases(),
        "faults" => faults::cases(),
        "hostile" => hostile::cases(),
        "engines" => engines::cases(),
        _ => return None,
    })
}

/// Every case of every demonstration, for the sandboxed copy to find its own by name.
pub fn cases() -> impl Iterator<Item = Case> {
    ["servers", "stress", "figures", "engines", "faults", "hostile"].into_iter().filter_map(cases_of).flatten()
}

/// Runs the demonstration that the first word names; `None` where it names none.
pub fn run(words: &[String]) -> Option<ExitCode> {
    let (word, rest) = words.split_first()?;
    let cases = cases_of(word)?;
    let outcome = settings::parse(rest).and_then(|settings| run_cases(word, &cases, settings));
    Some(outcome.unwrap_or_else(|message| {
        eprintln!("xebec-integration {word}: {message}");
        ExitCode::from(2)
    }))
}

fn run_cases(word: &str, cases: &[Case], mut settings: Settings) -> Result<ExitCode, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root: it makes namespaces, mounts and cgroups".into());
    }
    if word == "servers" {
        settings.debian = servers::rootfs::prepare(&settings.debian)?;
    }
    let work = std::env::temp_dir().join(format!("xebec-{word}-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let outcome = match word {
        "engines" => engines::run_in(&work, cases, &mut settings),
        _ => run_in(&work, cases, &mut settings),
    };
    std::fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    outcome
}

fn run_in(work: &Path, cases: &[Case], settings: &mut Settings) -> Result<ExitCode, String> {
    let paths: Vec<_> = settings.runtimes.iter().map(|(_, path)| path.clone()).collect();
    settings.preload = peers::prepare_preload(&paths, work)?;
    let selected: Vec<&Case> = cases.iter().filter(|case| settings.selects(case)).collect();
    let (next, verdicts, settings) = (AtomicUsize::new(0), Mutex::new(Vec::new()), &*settings);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = selected.get(number) else { return };
            let verdict = if settings.jobs > 1 {
                // Told in one piece: others are at work too.
                let mut lines = Vec::new();
                let verdict = show_one(case, &paths[0], number, settings, &mut |line| lines.push(line));
                println!("{}", lines.join("\n"));
                verdict
            } else {
                show_one(case, &paths[0], number, settings, &mut |line| println!("{line}"))
            };
            verdicts.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
        }
    };
    thread::scope(|scope| (0..settings.jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    let verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let (passed, failed, skipped) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(ExitCode::from(u8::from(failed > 0 || passed == 0)))
}

/// Where the lines about a case go.
type Say<'a> = dyn FnMut(String) + Send + 'a;

fn show_one(case: &Case, runtime: &Path, number: usize, settings: &Settings, say: &mut Say<'_>) -> Verdict {
    say(case.name.clone());
    let begun = Instant::now();
    let (verdict, message, transcript) = run_one(case, runtime, number, settings, say);
    let word = match verdict {
        Verdict::Pass => "ok",
        Verdict::Fail => "FAILED",
        Verdict::Skip => "skipped",
    };
    say(format!("  {word} {:.1} s {message}", begun.elapsed().as_secs_f64()));
    if verdict == Verdict::Fail {
        let lines: Vec<&str> = transcript.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().for_each(|line| say(format!("    {line}")));
    }
    verdict
}

fn run_one(
    case: &Case,
    runtime: &Path,
    number: usize,
    settings: &Settings,
    say: &mut Say<'_>,
) -> (Verdict, String, String) {
    let order = Order {
        test: case.name.clone(),
        mode: hostile::mode_of(&case.name),
        runtime: runtime.to_path_buf(),
        preload: settings.preload_for(runtime),
        view: settings.view,
        mountns: settings.mountns,
        time_scale: 1,
        cgroup: format!("xebec-it-{}-0-{number}", std::process::id()),
    };
    let directory = sandbox::own_cgroup_directory(&order.cgroup);
    let mut command = order.command("outer");
    command.env(settings::VARIABLE, settings.to_text());
    let result = match watch(&mut command, settings.verbose, say) {
        Ok((verdict, transcript)) => judge(&verdict, transcript),
        Err(message) => (Verdict::Fail, message, String::new()),
    };
    match settings.view {
        View::V2 => directory.iter().for_each(|path| leftovers::remove_cgroup(path)),
        View::Host => leftovers::cgroups_named(&order.cgroup).iter().for_each(|path| leftovers::remove_cgroup(path)),
    }
    result
}

/// Runs the sandbox to its end; its stdout is the verdict, its stderr report and transcript.
fn watch(command: &mut Command, verbose: bool, say: &mut Say<'_>) -> Result<(String, String), String> {
    let mut child: Child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the sandbox: {error}"))?;
    let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("the sandbox has no pipes".into());
    };
    thread::scope(|scope| {
        let verdict = scope.spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).map(|_| text)
        });
        let transcript = scope.spawn(move || pass_on(BufReader::new(err), verbose, say));
        let in_time = wait_in_time(&mut child, CASE_LIMIT);
        let transcript = transcript.join().unwrap_or_default();
        match verdict.join() {
            _ if !in_time => Err(format!("did not end within {CASE_LIMIT:?}")),
            Ok(Ok(verdict)) => Ok((verdict, transcript)),
            _ => Err("the verdict is unreadable".into()),
        }
    })
}

/// Says the report's lines as they come and returns the others.
fn pass_on(lines: impl BufRead, verbose: bool, say: &mut Say<'_>) -> String {
    let mut transcript = String::new();
    for line in lines.lines().map_while(Result::ok) {
        match line.strip_prefix(REPORT) {
            Some(text) => say(format!("  {text}")),
            None => {
                if verbose {
                    say(format!("    {line}"));
                }
                transcript += &line;
                transcript.push('\n');
            }
        }
    }
    transcript
}
