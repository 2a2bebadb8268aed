//! What does not depend on the machine's mood: system calls, execs, clones, page faults, bytes written,
//! peak memory and instructions of each call, for a container with docker's profile.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::{Bundle, Kit};
use crate::cases::Shape;
use crate::contender::{Contender, Verb, reap_strays, wait_for};
use crate::results::{Failure, Results};
use crate::trace::{self, Cost, Mode, Reached};

/// The counts of one call of one contender, each the smallest of a few tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pub contender: String,
    pub verb: String,
    pub cost: Cost,
}

/// Tries of each: caches are warm from the second on, and what is left then is the call's own.
const TRIES: usize = 3;

/// The case that a failed count is reported under.
pub const CASE: &str = "counts";

impl Counts {
    /// Name and value of each count.
    pub fn values(&self) -> [(&'static str, u64); 7] {
        let cost = &self.cost;
        [
            ("system_calls", cost.system_calls),
            ("execs", cost.execs),
            ("clones", cost.clones),
            ("bytes_written", cost.bytes_written),
            ("page_faults", cost.page_faults),
            ("peak_rss_kib", cost.peak_rss),
            ("instructions", cost.instructions),
        ]
    }

    pub fn to_json(&self) -> Value {
        let mut value = json!({"contender": self.contender, "verb": self.verb});
        for (name, count) in self.values() {
            value[name] = json!(count);
        }
        value
    }

    pub fn from_json(value: &Value) -> Option<Counts> {
        let number = |name: &str| value[name].as_u64();
        Some(Counts {
            contender: value["contender"].as_str()?.into(),
            verb: value["verb"].as_str()?.into(),
            cost: Cost {
                system_calls: number("system_calls")?,
                execs: number("execs")?,
                clones: number("clones")?,
                bytes_written: number("bytes_written")?,
                page_faults: number("page_faults")?,
                peak_rss: number("peak_rss_kib")?,
                instructions: number("instructions")?,
            },
        })
    }
}

/// Counts the verbs of all contenders; instructions only where `stepwise`, for they take seconds.
pub fn count_all(contenders: &[Contender], kit: &Kit, stepwise: bool, results: &mut Results) -> Result<(), String> {
    let shape = Shape { seccomp: true, ..Shape::default() };
    for contender in contenders {
        eprintln!("counting {}", contender.name);
        let ends = kit.bundle(&format!("{}-counted", contender.name), shape, "/exit")?;
        let waits = kit.bundle(&format!("{}-waiting", contender.name), shape, "/wait")?;
        let mut counted = Vec::new();
        let mut count = || {
            for mode in [Mode::Calls, Mode::Instructions] {
                for _ in 0..if mode == Mode::Calls { TRIES } else { usize::from(stepwise) } {
                    one_round(contender, &ends, &waits, mode, &mut counted)?;
                }
            }
            Ok(())
        };
        let outcome: Result<(), String> = count();
        results.counts.append(&mut counted);
        if let Err(message) = outcome {
            results.failures.push(Failure { case: CASE.into(), contender: contender.name.clone(), message });
        }
    }
    Ok(())
}

/// Every verb once, the container's whole life.
fn one_round(
    contender: &Contender,
    ends: &Bundle,
    waits: &Bundle,
    mode: Mode,
    all: &mut Vec<Counts>,
) -> Result<(), String> {
    let mut count = |verb: Verb, bundle: &Bundle| -> Result<(), String> {
        let cost = trace::count(&mut traced(contender, verb, bundle), mode, None)
            .map_err(|error| format!("{verb:?}: {error}"))?;
        keep_smallest(all, contender, verb, cost);
        Ok(())
    };
    // Step by step it would take a minute, and create has nearly all of it.
    if mode == Mode::Calls {
        count(Verb::Run, ends)?;
    }
    count(Verb::Create, waits)?;
    count(Verb::Start, waits)?;
    count(Verb::Exec, waits)?;
    count(Verb::State, waits)?;
    count(Verb::Kill, waits)?;
    wait_for(contender.created_pid(waits)?)?;
    count(Verb::Delete, waits)?;
    reap_strays();
    Ok(())
}

/// The code of a runtime that each of its verbs reaches. exec twice: its first call in a container does more than
/// those that follow.
pub fn reach(contender: &Contender, kit: &Kit) -> Result<Vec<Vec<u64>>, String> {
    let shape = Shape { seccomp: true, ..Shape::default() };
    let ends = kit.bundle("ends", shape, "/exit")?;
    let waits = kit.bundle("waits", shape, "/wait")?;
    let step = |verb: Verb, bundle: &Bundle| {
        let program = &contender.program;
        let mut reached = Reached::of(program).map_err(|error| format!("{}: {error}", program.display()))?;
        trace::count(&mut traced(contender, verb, bundle), Mode::Instructions, Some(&mut reached))
            .map_err(|error| format!("{verb:?}: {error}"))?;
        Ok::<_, String>(reached.places)
    };
    let mut all = Vec::new();
    for verb in [Verb::Create, Verb::Start, Verb::Exec, Verb::Exec, Verb::State, Verb::Kill] {
        all.push(step(verb, &waits)?);
    }
    wait_for(contender.created_pid(&waits)?)?;
    all.push(step(Verb::Delete, &waits)?);
    all.push(step(Verb::Run, &ends)?);
    reap_strays();
    Ok(all)
}

/// `call`'s command, but run by a copy of this program that stops for its tracer first.
fn traced(contender: &Contender, verb: Verb, bundle: &Bundle) -> Command {
    let plain = contender.command(verb, bundle);
    let mut command = Command::new("/proc/self/exe");
    command.arg("--traced").arg(plain.get_program()).args(plain.get_args());
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn keep_smallest(all: &mut Vec<Counts>, contender: &Contender, verb: Verb, cost: Cost) {
    let word = format!("{verb:?}").to_lowercase();
    let Some(known) = all.iter_mut().find(|counts| counts.verb == word) else {
        all.push(Counts { contender: contender.name.clone(), verb: word, cost });
        return;
    };
    let known = &mut known.cost;
    if cost.instructions > 0 {
        known.instructions = cost.instructions;
        return;
    }
    known.system_calls = known.system_calls.min(cost.system_calls);
    known.execs = known.execs.min(cost.execs);
    known.clones = known.clones.min(cost.clones);
    known.bytes_written = known.bytes_written.min(cost.bytes_written);
    known.page_faults = known.page_faults.min(cost.page_faults);
    known.peak_rss = known.peak_rss.min(cost.peak_rss);
}
