//! Why a call gets its answer: a profile read rule by rule, without BPF and
//! without the tables of `rules`. The slow, plain reading; tests hold the
//! compiled filter against it. For people, not for the hot path.

use crate::action::Action;
use crate::arch::{Arch, X32_BIT};
use crate::bpf::Call;
use crate::filter::{self, Error, Options};
use crate::order::tree_order;
use crate::parse::{Cond, Op, Parsed};
use crate::profile::Profile;
use crate::rules::{BAD_ARCH, ENOSYS, is_noop, listed_archs};
use crate::table;
use std::fmt;

/// What decides a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rule at this JSON pointer, relative to the seccomp object.
    Rule(String),
    /// No rule matches.
    Default,
    /// Neither native nor listed in `architectures`.
    BadArch,
    /// Newer than every call the profile names for the ABI.
    NewerThanProfile {
        /// The largest number the profile names there.
        largest: u32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule(pointer) => write!(f, "rule {pointer}"),
            Reason::Default => f.write_str("no rule matches, defaultAction"),
            Reason::BadArch => f.write_str("architecture not in the profile"),
            Reason::NewerThanProfile { largest } => {
                write!(f, "newer than the profile, whose last call is {largest}")
            }
        }
    }
}

/// The answer to one call, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The answer.
    pub action: Action,
    /// What decides it.
    pub reason: Reason,
    /// Rules that name the call but do not decide this one, with the reason,
    /// in the order of the profile.
    pub passed_over: Vec<(String, &'static str)>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.reason)?;
        for (pointer, why) in &self.passed_over {
            write!(f, "\n  {pointer}: {why}")?;
        }
        Ok(())
    }
}

/// A rule's way to match a call: all of its conditions.
struct Candidate {
    rule: u16,
    action: Action,
    conds: Vec<Cond>,
}

/// Says what the filter of a profile answers to `call`, and which rule does.
///
/// ```
/// use xebec_seccomp::{Action, Arch, Options, Profile, Reason, bpf::Call, explain};
/// let profile: Profile = serde_json::from_str(r#"{
///     "defaultAction": "SCMP_ACT_ERRNO",
///     "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_ALLOW",
///                    "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] }] }"#)?;
/// let options = Options { native: Arch::X86_64, ..Options::default() };
/// let why = explain(&profile, &options, &Call::new(Arch::X86_64, 135, [8, 0, 0, 0, 0, 0]))?;
/// assert_eq!(why.action, Action::Allow);
/// assert_eq!(why.reason, Reason::Rule("/syscalls/0".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`compile`](crate::compile), but for the length of the program.
pub fn explain(profile: &Profile<'_>, options: &Options, call: &Call) -> Result<Explanation, Error> {
    let (parsed, _) = filter::understand(profile, options)?;
    let archs = listed_archs(&parsed, options.native);
    let plain = |action, reason| Explanation { action, reason, passed_over: Vec::new() };
    if let Some(largest) = newer_than(profile, &parsed, options, &archs, call) {
        return Ok(plain(ENOSYS, Reason::NewerThanProfile { largest }));
    }
    let Some(arch) = abi_of(&archs, call) else {
        return Ok(plain(BAD_ARCH, Reason::BadArch));
    };
    Ok(decide(profile, &parsed, arch, call))
}

/// The ABI whose rules a call meets; on x86_64 the number tells it from x32,
/// and -1, a tracer's "skip", belongs to whichever is listed.
fn abi_of(archs: &[Arch], call: &Call) -> Option<Arch> {
    let mut same = archs.iter().copied().filter(|a| a.audit() == call.arch);
    match (archs.contains(&Arch::X86_64), archs.contains(&Arch::X32)) {
        _ if call.arch != Arch::X86_64.audit() => same.next(),
        (true, true) if call.nr >= X32_BIT => Some(Arch::X32),
        (true, _) if call.nr < X32_BIT || call.nr == u32::MAX => Some(Arch::X86_64),
        (_, true) if call.nr >= X32_BIT => Some(Arch::X32),
        _ => None,
    }
}

/// runc's answer to calls newer than the profile comes before any rule.
fn newer_than(profile: &Profile<'_>, parsed: &Parsed, options: &Options, archs: &[Arch], call: &Call) -> Option<u32> {
    if !options.enosys_stub || parsed.default.lets_through() || parsed.default == ENOSYS {
        return None;
    }
    let x32 = call.nr & X32_BIT != 0;
    let here = archs.iter().copied().filter(|arch| {
        arch.audit() == call.arch
            && match arch {
                Arch::X86_64 => !x32,
                Arch::X32 => x32,
                _ => true,
            }
    });
    for arch in here {
        let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
        let numbers = names.filter_map(|name| {
            let id = table::find(name)?;
            let muxed = arch.multiplexes() && table::mux(id).is_some();
            if muxed { None } else { table::number(arch, id) }
        });
        let largest = numbers.max().unwrap_or(0);
        let setup = arch == Arch::S390x && call.nr == 0;
        if largest != 0 && (call.nr > largest || setup) {
            return Some(largest);
        }
    }
    None
}

fn decide(profile: &Profile<'_>, parsed: &Parsed, arch: Arch, call: &Call) -> Explanation {
    let mut passed_over = Vec::new();
    let mut candidates = Vec::new();
    for (rule, own) in profile.syscalls.iter().zip(&parsed.rules) {
        let before = candidates.len();
        for name in &rule.names {
            add_candidates(&mut candidates, name, own, arch, call.nr);
        }
        if own.action == parsed.default && candidates.len() > before {
            candidates.truncate(before);
            passed_over.push((pointer(own.index), "says what the default says, dropped"));
        }
    }
    let winner = candidates.iter().position(|c| c.conds.is_empty()).or_else(|| {
        let conds: Vec<Vec<Cond>> = candidates.iter().map(|c| c.conds.clone()).collect();
        let holds = |at: &usize| conds[*at].iter().all(|cond| holds(cond, arch, call));
        tree_order(&conds, arch.is_64bit()).into_iter().find(holds)
    });
    for (at, candidate) in candidates.iter().enumerate() {
        let why = match winner {
            Some(winner) if candidates[winner].rule == candidate.rule => continue,
            _ if candidate.conds.iter().all(|c| holds(c, arch, call)) => "another rule goes first",
            _ => "a condition does not hold",
        };
        let entry = (pointer(candidate.rule), why);
        if at == 0 || passed_over.last() != Some(&entry) {
            passed_over.push(entry);
        }
    }
    let (action, reason) = match winner {
        Some(at) => (candidates[at].action, Reason::Rule(pointer(candidates[at].rule))),
        None => (parsed.default, Reason::Default),
    };
    Explanation { action, reason, passed_over }
}

fn pointer(rule: u16) -> String {
    format!("/syscalls/{rule}")
}

/// The ways in which a name's rule can match number `nr`, through a
/// multiplexer too.
fn add_candidates(candidates: &mut Vec<Candidate>, name: &str, rule: &crate::parse::ParsedRule, arch: Arch, nr: u32) {
    let Some(id) = table::find(name) else { return };
    let chains: Vec<Vec<Cond>> =
        if rule.each { rule.conds.iter().map(|cond| vec![*cond]).collect() } else { vec![rule.conds.clone()] };
    let mut add = |conds: Vec<Cond>| {
        let conds = conds.into_iter().filter(|c| !is_noop(c, arch.is_64bit())).map(|c| {
            let low = if arch.is_64bit() { u64::MAX } else { 0xffff_ffff };
            Cond { datum: c.datum & low, mask: c.mask & low, ..c }
        });
        candidates.push(Candidate { rule: rule.index, action: rule.action, conds: conds.collect() });
    };
    if table::number(arch, id) == Some(nr) {
        chains.iter().cloned().for_each(&mut add);
    }
    let mux = if arch.multiplexes() { table::mux(id) } else { None };
    let Some(mux) = mux else { return };
    if table::syscall_number(arch, mux.call) == Some(nr) {
        for mut conds in chains {
            conds.retain(|c| c.arg != 0);
            let datum = u64::from(mux.selector);
            conds.insert(0, Cond { arg: 0, op: Op::Eq, datum, mask: u64::MAX });
            add(conds);
        }
    }
}

fn holds(cond: &Cond, arch: Arch, call: &Call) -> bool {
    let value = call.args[usize::from(cond.arg)];
    let value = if arch.is_64bit() { value } else { value & 0xffff_ffff };
    match cond.op {
        Op::Ne => value != cond.datum,
        Op::Lt => value < cond.datum,
        Op::Le => value <= cond.datum,
        Op::Eq => value == cond.datum,
        Op::Ge => value >= cond.datum,
        Op::Gt => value > cond.datum,
        Op::MaskedEq => value & cond.mask == cond.datum,
    }
}
