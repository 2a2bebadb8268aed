//! Prints results: TAP, JSON lines, or a table of tests by runtime; and decides the exit status.

use std::process::ExitCode;

use serde_json::json;

use crate::case::Case;
use crate::options::{Format, Options};
use crate::runner::{Finding, RuntimeResults, Verdict, selected};

/// `--list`: one line a test, with its clause.
pub fn list(cases: &[Case], options: &Options) -> ExitCode {
    let chosen: Vec<&Case> = cases.iter().filter(|case| selected(case, options)).collect();
    for case in &chosen {
        let note = case.beyond_peers.map(|why| format!("  (beyond peers: {why})")).unwrap_or_default();
        println!("{}  [{}]{note}", case.name, case.cites);
    }
    println!("{} tests", chosen.len());
    ExitCode::SUCCESS
}

/// Prints everything in the asked format; the status says whether the judged runtime passed.
pub fn print(all: &[RuntimeResults], options: &Options) -> ExitCode {
    match options.format {
        Format::Tap => all.iter().for_each(|results| print_tap(results, options)),
        Format::Json => all.iter().for_each(print_json),
        Format::Table => print_table(all),
    }
    for results in all {
        let took: f64 = results.results.iter().map(|finding| finding.took.as_secs_f64()).sum();
        println!("# {} ({}), {took:.1} s of test time", results.label, results.runtime.display());
        println!("{}", totals(&results.results));
    }
    match &options.judge {
        Some(name) => judge(name, all),
        None if all.iter().all(|results| failures(results) == 0) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

fn count(results: &[Finding], verdict: Verdict) -> usize {
    results.iter().filter(|finding| finding.verdict == verdict).count()
}

fn failures(results: &RuntimeResults) -> usize {
    count(&results.results, Verdict::Fail)
}

fn totals(results: &[Finding]) -> String {
    format!(
        "{} passed, {} failed, {} skipped",
        count(results, Verdict::Pass),
        count(results, Verdict::Fail),
        count(results, Verdict::Skip)
    )
}

fn print_tap(results: &RuntimeResults, options: &Options) {
    println!("# {}", results.runtime.display());
    println!("1..{}", results.results.len());
    for (index, finding) in results.results.iter().enumerate() {
        let number = index + 1;
        match finding.verdict {
            Verdict::Pass => println!("ok {number} - {}", finding.name),
            Verdict::Skip => println!("ok {number} - {} # SKIP {}", finding.name, finding.message),
            Verdict::Fail => {
                println!("not ok {number} - {} [{}]", finding.name, finding.cites);
                println!("  {}", finding.message);
            }
        }
        if finding.verdict == Verdict::Fail || options.verbose {
            finding.transcript.lines().for_each(|line| println!("    {line}"));
        }
    }
}

fn print_json(results: &RuntimeResults) {
    for finding in &results.results {
        println!(
            "{}",
            json!({
                "runtime": results.label,
                "test": finding.name,
                "cites": finding.cites,
                "beyondPeers": finding.beyond_peers,
                "verdict": word(finding.verdict),
                "message": finding.message,
                "transcript": finding.transcript,
                "milliseconds": finding.took.as_millis() as u64,
            })
        );
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Skip => "skip",
    }
}

fn print_table(all: &[RuntimeResults]) {
    let Some(first) = all.first() else { return };
    let width = first.results.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let header: Vec<String> = all.iter().map(|results| format!("{:>8}", results.label)).collect();
    println!("{:width$} {}", "test", header.join(" "));
    for (index, finding) in first.results.iter().enumerate() {
        let row: Vec<String> = all
            .iter()
            .map(|results| format!("{:>1$}", word(results.results[index].verdict), results.label.len().max(8)))
            .collect();
        println!("{:width$} {}", finding.name, row.join(" "));
    }
    print_suspects(all);
}

/// A test that every runtime fails is taken for wrong unless it says which clause outruns the peers.
fn print_suspects(all: &[RuntimeResults]) {
    for (index, finding) in all[0].results.iter().enumerate() {
        let failed = all.iter().all(|results| results.results[index].verdict == Verdict::Fail);
        if failed && finding.beyond_peers.is_none() {
            println!("# suspect, no runtime passes: {}: {}", finding.name, finding.message);
        }
    }
}

/// `--judge`: the first runtime's failures, and who passes each of those tests.
fn judge(name: &str, all: &[RuntimeResults]) -> ExitCode {
    let Some((judged, peers)) = all.split_first() else {
        return ExitCode::from(2);
    };
    if judged.label != name && !judged.runtime.ends_with(name) {
        eprintln!("--judge {name}: the first --runtime is {}", judged.runtime.display());
        return ExitCode::from(2);
    }
    let failed: Vec<(usize, &Finding)> =
        judged.results.iter().enumerate().filter(|(_, finding)| finding.verdict == Verdict::Fail).collect();
    for (index, finding) in &failed {
        let passing: Vec<&str> = peers
            .iter()
            .filter(|peer| peer.results[*index].verdict == Verdict::Pass)
            .map(|peer| peer.label.as_str())
            .collect();
        let passing = if passing.is_empty() { "no peer".to_string() } else { passing.join(" and ") };
        println!("# {name} fails {} which {passing} passed: {}", finding.name, finding.message);
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
