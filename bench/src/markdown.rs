//! The generated part of docs/performance.md, between two markers.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::contender::FLOOR;
use crate::results::{Results, Series};
use crate::statistics::{Ratio, percentile};
use crate::table::{judged, ratio};

const BEGIN: &str = "<!-- begin of what `xebec-bench --markdown` writes -->\n";
const END: &str = "<!-- end of what `xebec-bench --markdown` writes -->\n";

/// What the project aims at: against the floor at most, against a peer at least. For rates at least both.
struct Goal {
    text: &'static str,
    case: &'static str,
    what: &'static str,
    floor: f64,
    crun: f64,
    runc: f64,
}

const GOALS: [Goal; 7] = [
    Goal { text: "run", case: "run_seccomp", what: "run", floor: 1.3, crun: 10.0, runc: 15.0 },
    Goal { text: "run, no seccomp", case: "run", what: "run", floor: 1.3, crun: 4.0, runc: 8.0 },
    Goal {
        text: "create, start, delete",
        case: "lifecycle_seccomp",
        what: "lifecycle",
        floor: 1.3,
        crun: 10.0,
        runc: 15.0,
    },
    Goal { text: "exec", case: "exec_seccomp", what: "exec", floor: 1.3, crun: 8.0, runc: 30.0 },
    Goal {
        text: "run, 8 at a time",
        case: "parallel_8",
        what: "containers per second",
        floor: 0.75,
        crun: 6.0,
        runc: 8.0,
    },
    Goal {
        text: "run, 2000 more host mounts",
        case: "run_2000_mounts",
        what: "run",
        floor: 1.5,
        crun: 6.0,
        runc: 15.0,
    },
    Goal {
        text: "the same, with `mountns pin`",
        case: "run_2000_mounts_mountns",
        what: "run",
        floor: 1.5,
        crun: 6.0,
        runc: 15.0,
    },
];

/// Replaces what stands between the markers of the file; a file that is not there is begun.
pub fn write(results: &Results, path: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let old = if path.exists() { fs::read_to_string(path).map_err(failed)? } else { format!("{BEGIN}{END}") };
    let (Some(begin), Some(end)) = (old.find(BEGIN), old.find(END)) else {
        return Err(format!("{}: it lacks the lines {BEGIN:?} and {END:?}", path.display()));
    };
    let text = [&old[..begin + BEGIN.len()], &generated(results), &old[end..]].concat();
    fs::write(path, text).map_err(failed)
}

fn generated(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let written = goals(results, &mut text)
        .and_then(|()| times(results, &mut text))
        .and_then(|()| counts(results, &mut text))
        .and_then(|()| machine(results, &mut text));
    if written.is_ok() { text } else { String::new() }
}

fn peers(results: &Results) -> Vec<&str> {
    let first = judged(results);
    results.contenders.iter().map(String::as_str).filter(|name| Some(*name) != first).collect()
}

fn met(value: Option<Ratio>, goal: f64, at_most: bool) -> String {
    match value {
        None => "not measured".into(),
        Some(ratio) if !ratio.is_clear() => {
            let within = if at_most { ratio.high <= goal } else { ratio.low >= goal };
            format!("about 1{}", if within { ", met" } else { "" })
        }
        Some(ratio) => {
            let reached = if at_most { ratio.value <= goal } else { ratio.value >= goal };
            format!("{ratio}{}", if reached { ", met" } else { ", **missed**" })
        }
    }
}

fn goals(results: &Results, text: &mut String) -> std::fmt::Result {
    let Some(first) = judged(results) else { return Ok(()) };
    writeln!(
        text,
        "\n### Goals\n\nAgainst the floor: how many times its time. Against a peer: how many times faster.\n"
    )?;
    writeln!(
        text,
        "| case | goal: floor, crun, runc | against the floor | against crun | against runc |\n|---|---|---|---|---|"
    )?;
    for goal in &GOALS {
        let Some(series) = results.series(goal.case, goal.what) else { continue };
        let many_mounts = goal.case.starts_with("run_2000_mounts");
        let floor =
            if many_mounts { against_no_mounts(results, goal.case, first) } else { ratio(series, first, FLOOR) };
        let beside = if many_mounts { " (of its own with none)" } else { "" };
        writeln!(
            text,
            "| {} | {} {}, {}, {} | {}{beside} | {} | {} |",
            goal.text,
            if series.rate { "at least" } else { "at most" },
            goal.floor,
            goal.crun,
            goal.runc,
            met(floor, goal.floor, !series.rate),
            met(ratio(series, first, "crun"), goal.crun, false),
            met(ratio(series, first, "runc"), goal.runc, false)
        )?;
    }
    Ok(())
}

fn against_no_mounts(results: &Results, case: &str, name: &str) -> Option<Ratio> {
    let with = results.series(case, "run")?.of(name)?;
    let without = results.series("run_0_mounts", "run")?.of(name)?;
    Ratio::unpaired(with, without)
}

fn times(results: &Results, text: &mut String) -> std::fmt::Result {
    let Some(first) = judged(results) else { return Ok(()) };
    let peers = peers(results);
    writeln!(
        text,
        "\n### Times\n\nMedian in microseconds, and the range from p10 to p90; `parallel` in containers per second."
    )?;
    writeln!(text, "`unclear`: the spread of the ratio is wider than its distance from 1.\n")?;
    write!(text, "| case | {} |", results.contenders.join(" | "))?;
    for peer in &peers {
        if *peer == FLOOR { write!(text, " {first} : floor |")? } else { write!(text, " {peer} : {first} |")? }
    }
    writeln!(text, "\n|{}", "---|".repeat(1 + results.contenders.len() + peers.len()))?;
    for series in &results.series {
        write!(text, "| {} |", series.name())?;
        for name in &results.contenders {
            write!(text, " {} |", cell(series, name))?;
        }
        for peer in &peers {
            match ratio(series, first, peer) {
                Some(ratio) => write!(text, " {ratio} |")?,
                None => write!(text, " |")?,
            }
        }
        writeln!(text)?;
    }
    for failure in &results.failures {
        writeln!(text, "\nNot measured: {} of {}: `{}`", failure.case, failure.contender, failure.message)?;
    }
    Ok(())
}

fn cell(series: &Series, name: &str) -> String {
    let Some(values) = series.of(name) else { return String::new() };
    let at = |part| percentile(values, part);
    format!("{:.0} ({:.0}–{:.0})", at(0.5), at(0.1), at(0.9))
}

fn counts(results: &Results, text: &mut String) -> std::fmt::Result {
    let Some(one) = results.counts.first() else { return Ok(()) };
    writeln!(
        text,
        "\n### Counts\n\nAll processes of a call together, the container's until its program ends or waits; peak_rss_kib: of the largest.\n"
    )?;
    let names: Vec<&str> = one.values().iter().map(|(name, _)| *name).filter(|name| *name != "instructions").collect();
    writeln!(text, "| call | | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    let verbs: Vec<&str> =
        results.counts.iter().filter(|c| c.contender == one.contender).map(|c| c.verb.as_str()).collect();
    for verb in verbs {
        for counts in results.counts.iter().filter(|counts| counts.verb == verb) {
            write!(text, "| {verb} | {} |", counts.contender)?;
            for (_, value) in counts.values().iter().filter(|(name, _)| *name != "instructions") {
                write!(text, " {value} |")?;
            }
            writeln!(text)?;
        }
    }
    let sizes: Vec<String> = results.sizes.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
    writeln!(text, "\nBytes of the programs: {}.", sizes.join(", "))?;
    let memory: Vec<String> = results.memory.iter().map(|(name, kib)| format!("{name} {kib}")).collect();
    if !memory.is_empty() {
        writeln!(text, "\nSmallest memory limit for runtime and container together, in KiB: {}.", memory.join(", "))?;
    }
    Ok(())
}

fn machine(results: &Results, text: &mut String) -> std::fmt::Result {
    writeln!(text, "\n### The machine\n")?;
    for (item, value) in &results.machine {
        writeln!(text, "- {item}: {value}")?;
    }
    Ok(())
}
