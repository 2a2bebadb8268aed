//! The words of a profile turned into values, with a finding for each that
//! has none. Pure; names of system calls are resolved later, in `rules`.

use crate::action::{Action, Fault};
use crate::arch::{self, Arch, Named};
use crate::profile::{Arg, Profile, Rule, Text};
use std::fmt;

/// A place in the profile that is not as the spec wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// JSON pointer (RFC 6901), relative to the seccomp object.
    pub pointer: String,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.pointer, self.expected, self.found)
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

/// One condition. `mask` is all ones but for [`Op::MaskedEq`], whose `datum`
/// has no bit outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cond {
    pub(crate) arg: u8,
    pub(crate) op: Op,
    pub(crate) datum: u64,
    pub(crate) mask: u64,
}

/// A rule with its words understood; names are still those of the profile.
#[derive(Debug)]
pub(crate) struct ParsedRule {
    /// Position in `syscalls`.
    pub(crate) index: u16,
    pub(crate) action: Action,
    /// Sorted by argument; empty for an unconditional rule.
    pub(crate) conds: Vec<Cond>,
    /// One index comes twice: each condition is a rule of its own.
    pub(crate) each: bool,
}

#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) default: Action,
    pub(crate) archs: Vec<Arch>,
    /// Positions in `architectures` that name an ABI without a table.
    pub(crate) without_table: Vec<usize>,
    pub(crate) flags: Option<u32>,
    pub(crate) rules: Vec<ParsedRule>,
}

/// `SECCOMP_FILTER_FLAG_*` bits (uapi/linux/seccomp.h).
pub(crate) const FLAG_TSYNC: u32 = 1;
pub(crate) const FLAG_LOG: u32 = 1 << 1;
pub(crate) const FLAG_SPEC_ALLOW: u32 = 1 << 2;
pub(crate) const FLAG_NEW_LISTENER: u32 = 1 << 3;
pub(crate) const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
pub(crate) const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The operators of the spec by name.
const OPERATORS: [(&str, Op); 7] = [
    ("SCMP_CMP_EQ", Op::Eq),
    ("SCMP_CMP_GE", Op::Ge),
    ("SCMP_CMP_GT", Op::Gt),
    ("SCMP_CMP_LE", Op::Le),
    ("SCMP_CMP_LT", Op::Lt),
    ("SCMP_CMP_MASKED_EQ", Op::MaskedEq),
    ("SCMP_CMP_NE", Op::Ne),
];

/// The flags of the spec by name.
const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

/// The names of all operators, as the spec writes them: `SCMP_CMP_*`.
pub fn operator_names() -> impl Iterator<Item = &'static str> {
    OPERATORS.iter().map(|word| word.0)
}

/// The names of all flags, as the spec writes them: `SECCOMP_FILTER_FLAG_*`.
pub fn flag_names() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|word| word.0)
}

const ACTIONS: &str = "one of SCMP_ACT_KILL, _KILL_PROCESS, _KILL_THREAD, _TRAP, _ERRNO, _TRACE, \
                       _ALLOW, _LOG, _NOTIFY";

/// The word of [`Action::Notify`].
const NOTIFY: &str = "SCMP_ACT_NOTIFY";

impl Profile<'_> {
    /// Whether an action asks for an agent, so that the filter has a listener.
    #[must_use]
    pub fn uses_notify(&self) -> bool {
        let actions = self.syscalls.iter().map(|rule| &rule.action).chain([&self.default_action]);
        actions.flatten().any(|action| &**action == NOTIFY)
    }

    /// Everything in the profile that the spec does not allow; empty when it
    /// is right. Unknown system call names are not findings: they depend on
    /// the kernel, and [`compile`](crate::compile) reports them as warnings.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        parse(self, &mut findings);
        findings
    }
}

pub(crate) fn parse(profile: &Profile<'_>, findings: &mut Vec<Finding>) -> Parsed {
    let default = action(
        profile.default_action.as_ref(),
        profile.default_errno_ret,
        findings,
        || "/defaultAction".to_owned(),
        || "/defaultErrnoRet".to_owned(),
    );
    let mut parsed = Parsed {
        default,
        archs: Vec::with_capacity(4),
        without_table: Vec::new(),
        flags: profile.flags.as_ref().map(|flags| parse_flags(flags, findings)),
        rules: Vec::with_capacity(profile.syscalls.len()),
    };
    parse_archs(profile, &mut parsed, findings);
    if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
        findings.push(Finding {
            pointer: "/listenerMetadata".to_owned(),
            expected: "no listenerMetadata without listenerPath".to_owned(),
            found: "listenerMetadata alone".to_owned(),
        });
    }
    // Later stages count rules, and conditions that are rules of their own, in
    // 16 bits; the kernel's limit on instructions is far below.
    let chains: usize = profile.syscalls.iter().map(|rule| rule.args.len().max(1)).sum();
    if chains > usize::from(u16::MAX) {
        findings.push(Finding {
            pointer: "/syscalls".to_owned(),
            expected: format!("at most {} rules and conditions", u16::MAX),
            found: chains.to_string(),
        });
        return parsed;
    }
    for (index, rule) in profile.syscalls.iter().enumerate() {
        parsed.rules.push(parse_rule(index, rule, findings));
    }
    parsed
}

fn parse_archs(profile: &Profile<'_>, parsed: &mut Parsed, findings: &mut Vec<Finding>) {
    for (index, name) in profile.architectures.iter().enumerate() {
        match arch::named(name) {
            Named::Known(arch) if parsed.archs.contains(&arch) => {}
            Named::Known(arch) => parsed.archs.push(arch),
            Named::WithoutTable => parsed.without_table.push(index),
            Named::Unknown => findings.push(Finding {
                pointer: format!("/architectures/{index}"),
                expected: "a SCMP_ARCH_ name of the runtime spec".to_owned(),
                found: quoted(name),
            }),
        }
    }
}

fn parse_flags(flags: &[Text<'_>], findings: &mut Vec<Finding>) -> u32 {
    let mut bits = 0;
    for (index, flag) in flags.iter().enumerate() {
        match FLAGS.iter().find(|word| word.0 == &**flag) {
            Some(word) => bits |= word.1,
            None => findings.push(Finding {
                pointer: format!("/flags/{index}"),
                expected: "SECCOMP_FILTER_FLAG_TSYNC, _LOG, _SPEC_ALLOW or \
                           _WAIT_KILLABLE_RECV"
                    .to_owned(),
                found: quoted(flag),
            }),
        }
    }
    bits
}

fn parse_rule(index: usize, rule: &Rule<'_>, findings: &mut Vec<Finding>) -> ParsedRule {
    if rule.names.is_empty() {
        findings.push(Finding {
            pointer: format!("/syscalls/{index}/names"),
            expected: "at least one name".to_owned(),
            found: "none".to_owned(),
        });
    }
    let action = action(
        rule.action.as_ref(),
        rule.errno_ret,
        findings,
        || format!("/syscalls/{index}/action"),
        || format!("/syscalls/{index}/errnoRet"),
    );
    let mut conds = Vec::with_capacity(rule.args.len());
    let mut seen = 0u8;
    let mut each = false;
    for (at, arg) in rule.args.iter().enumerate() {
        let place = |key: &str| format!("/syscalls/{index}/args/{at}/{key}");
        let Some(cond) = parse_arg(arg, findings, place) else {
            continue;
        };
        each |= seen & (1 << cond.arg) != 0;
        seen |= 1 << cond.arg;
        conds.push(cond);
    }
    conds.sort_by_key(|cond| cond.arg);
    ParsedRule { index: index as u16, action, conds, each }
}

fn parse_arg(arg: &Arg<'_>, findings: &mut Vec<Finding>, place: impl Fn(&str) -> String) -> Option<Cond> {
    let before = findings.len();
    if arg.index.is_none_or(|index| index > 5) {
        findings.push(Finding {
            pointer: place("index"),
            expected: "an argument index from 0 to 5".to_owned(),
            found: shown(arg.index),
        });
    }
    if arg.value.is_none() {
        findings.push(Finding {
            pointer: place("value"),
            expected: "a number below 2^64".to_owned(),
            found: "nothing".to_owned(),
        });
    }
    let op = arg.op.as_deref().and_then(|name| OPERATORS.iter().find(|word| word.0 == name)).map(|word| word.1);
    if op.is_none() {
        findings.push(Finding {
            pointer: place("op"),
            expected: "SCMP_CMP_NE, _LT, _LE, _EQ, _GE, _GT or _MASKED_EQ".to_owned(),
            found: arg.op.as_deref().map_or("nothing".to_owned(), quoted),
        });
    }
    if findings.len() > before {
        return None;
    }
    let (arg_index, value, op) = (arg.index? as u8, arg.value?, op?);
    let (datum, mask) = match op {
        Op::MaskedEq => (arg.value_two.unwrap_or(0) & value, value),
        _ => (value, u64::MAX),
    };
    Some(Cond { arg: arg_index, op, datum, mask })
}

/// KillThread stands in for an action that has a finding; nobody compiles it.
fn action(
    name: Option<&Text<'_>>,
    errno: Option<u64>,
    findings: &mut Vec<Finding>,
    action_place: impl Fn() -> String,
    errno_place: impl Fn() -> String,
) -> Action {
    let Some(name) = name else {
        findings.push(Finding { pointer: action_place(), expected: ACTIONS.to_owned(), found: "nothing".to_owned() });
        return Action::KillThread;
    };
    let (pointer, expected, found) = match Action::parse(name, errno) {
        Ok(action) => return action,
        Err(Fault::Unknown) => (action_place(), ACTIONS.to_owned(), quoted(name)),
        Err(Fault::ErrnoWithout) => (errno_place(), format!("no errno: {} takes none", &**name), shown(errno)),
        Err(Fault::ErrnoRange) => (errno_place(), "a number from 0 to 65535".to_owned(), shown(errno)),
    };
    findings.push(Finding { pointer, expected, found });
    Action::KillThread
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn shown(number: Option<u64>) -> String {
    number.map_or("nothing".to_owned(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(action: &str, op: &str, flag: &str) -> usize {
        let profile = Profile {
            default_action: Some("SCMP_ACT_ALLOW".into()),
            flags: Some(vec![flag.into()]),
            syscalls: vec![Rule {
                names: vec!["read".into()],
                action: Some(action.into()),
                args: vec![Arg { index: Some(0), value: Some(1), value_two: None, op: Some(op.into()) }],
                ..Rule::default()
            }],
            ..Profile::default()
        };
        profile.check().len()
    }

    #[test]
    fn who_uses_notify_is_known_before_it_is_compiled() {
        for action in Action::names() {
            let rule = Rule { names: vec!["read".into()], action: Some(action.into()), ..Rule::default() };
            let other = Rule { names: vec!["write".into()], action: Some("SCMP_ACT_LOG".into()), ..Rule::default() };
            for (default, syscalls) in [("SCMP_ACT_LOG", vec![other.clone(), rule]), (action, vec![other])] {
                let profile = Profile { default_action: Some(default.into()), syscalls, ..Profile::default() };
                let filter = crate::compile(&profile, &crate::Options::default()).expect("a filter");
                assert_eq!(profile.uses_notify(), filter.uses_notify, "{default} {action}");
            }
        }
    }

    #[test]
    fn every_listed_word_is_taken_and_no_other() {
        for action in Action::names() {
            for op in operator_names() {
                for flag in flag_names() {
                    assert_eq!(faults(action, op, flag), 0, "{action} {op} {flag}");
                }
            }
        }
        assert_eq!(faults("SCMP_ACT_NONE", "SCMP_CMP_NONE", "SECCOMP_FILTER_FLAG_NONE"), 3);
    }
}
