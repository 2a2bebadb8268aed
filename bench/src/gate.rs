//! The regression gate: counts against the limits of a committed file. Times are no part of it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::counts::Counts;
use crate::results::Results;
use crate::table::judged;

/// How far above today's count a new limit lies, in percent: what varies from run to run.
const ROOM: [(&str, u64); 7] = [
    ("system_calls", 2),
    ("execs", 0),
    ("clones", 0),
    ("bytes_written", 2),
    ("page_faults", 10),
    ("peak_rss_kib", 15),
    ("instructions", 5),
];

/// Compares, or with `write` sets the limits anew; fails when a limit is exceeded or a count is missing.
pub fn judge(results: &Results, path: &Path, write: bool) -> Result<ExitCode, String> {
    if let Some(failure) = results.failures.first() {
        return Err(format!("{} {}: {}", failure.case, failure.contender, failure.message));
    }
    let first = judged(results).ok_or("no runtime to judge")?;
    let counts: Vec<&Counts> = results.counts.iter().filter(|counts| counts.contender == first).collect();
    if write {
        let text = serde_json::to_string_pretty(&limits_of(&counts)).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let limits: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let limits = limits.as_object().ok_or_else(|| format!("{}: not an object", path.display()))?;
    let findings = findings(&counts, limits);
    for finding in &findings.exceeded {
        println!("EXCEEDED {finding}");
    }
    println!("{} passed, {} failed, 0 skipped", findings.within, findings.exceeded.len());
    Ok(ExitCode::from(u8::from(!findings.exceeded.is_empty() || findings.within == 0)))
}

#[derive(Debug, Default, PartialEq)]
struct Findings {
    within: usize,
    exceeded: Vec<String>,
}

fn findings(counts: &[&Counts], limits: &Map<String, Value>) -> Findings {
    let mut findings = Findings::default();
    for (verb, limits) in limits {
        let counted = counts.iter().find(|counts| counts.verb == *verb).map(|counts| counts.values());
        for (name, limit) in limits.as_object().into_iter().flatten() {
            let value = counted.iter().flatten().find(|(known, _)| known == name).map(|(_, value)| *value);
            match (value, limit.as_u64()) {
                (Some(value), Some(limit)) if value <= limit => {
                    println!("{verb:<8} {name:<14} {value:>9} of {limit:>9}");
                    findings.within += 1;
                }
                (Some(value), Some(limit)) => findings.exceeded.push(format!(
                    "{verb} {name}: {value}, the limit is {limit}: {} more ({:+.1} %)",
                    value - limit,
                    (value as f64 / limit.max(1) as f64 - 1.0) * 100.0
                )),
                _ => findings.exceeded.push(format!("{verb} {name}: not counted, the limit is {limit}")),
            }
        }
    }
    findings
}

fn limits_of(counts: &[&Counts]) -> Value {
    let mut all = Map::new();
    for counts in counts {
        let mut limits = Map::new();
        for (name, value) in counts.values() {
            if name == "instructions" && value == 0 {
                // Not stepped through.
                continue;
            }
            let percent = ROOM.iter().find(|(known, _)| *known == name).map_or(0, |(_, percent)| *percent);
            limits.insert(name.into(), json!(value + (value * percent).div_ceil(100)));
        }
        all.insert(counts.verb.clone(), Value::Object(limits));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Cost;

    fn counts(system_calls: u64) -> Counts {
        let cost = Cost { system_calls, execs: 2, ..Cost::default() };
        Counts { contender: "xebec".into(), verb: "run".into(), cost }
    }

    #[test]
    fn new_limits_are_kept_and_one_call_too_many_is_named() {
        let limits = limits_of(&[&counts(100)]);
        let limits = limits.as_object().expect("an object");
        assert_eq!(findings(&[&counts(102)], limits), Findings { within: 6, exceeded: Vec::new() });
        let found = findings(&[&counts(103)], limits);
        assert_eq!(found.exceeded, ["run system_calls: 103, the limit is 102: 1 more (+1.0 %)"]);
    }

    #[test]
    fn a_count_that_is_missing_is_no_pass() {
        let limits = limits_of(&[&counts(100)]);
        assert_eq!(findings(&[], limits.as_object().expect("an object")).exceeded.len(), 6);
    }
}
