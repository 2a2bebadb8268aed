//! The allowed device list: rules of the config to an eBPF program (v2) or to lines
//! for devices.allow and devices.deny (v1).
//!
//! Pure. An access is allowed if each of its bits (read, write, mknod) is allowed by
//! the last rule that speaks of this device and this bit. All devices are denied
//! before the first rule (GHSA-g54h-m393-cpwq), and the devices that every container
//! gets are allowed after the last.

use std::collections::BTreeMap;

use crate::config::DeviceCgroup;
use crate::error::{Error, Result};
use crate::sys::bpf::Insn;

/// Bits of an access, as in `struct bpf_cgroup_dev_ctx`.
pub const MKNOD: u8 = 1;
pub const READ: u8 = 2;
pub const WRITE: u8 = 4;
const RWM: u8 = MKNOD | READ | WRITE;

/// Device types, as in `struct bpf_cgroup_dev_ctx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Block = 1,
    Char = 2,
}

/// One rule: `None` stands for every type or every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub allow: bool,
    pub node: Option<Node>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u8,
}

/// What every container may use, as in runc: mknod of anything (opening it is
/// another matter), null, zero, full, random, urandom, tty, ptmx and its own
/// pseudoterminals.
const DEFAULT_NODES: [(Node, Option<u32>, Option<u32>, u8); 10] = [
    (Node::Char, None, None, MKNOD),
    (Node::Block, None, None, MKNOD),
    (Node::Char, Some(1), Some(3), RWM),
    (Node::Char, Some(1), Some(5), RWM),
    (Node::Char, Some(1), Some(7), RWM),
    (Node::Char, Some(1), Some(8), RWM),
    (Node::Char, Some(1), Some(9), RWM),
    (Node::Char, Some(5), Some(0), RWM),
    (Node::Char, Some(5), Some(2), RWM),
    (Node::Char, Some(136), None, RWM),
];

/// The rules in force: deny all, the config's in its order, the defaults.
pub fn plan_rules(configured: &[DeviceCgroup<'_>]) -> Result<Vec<Rule>> {
    let mut rules = vec![Rule { allow: false, node: None, major: None, minor: None, access: RWM }];
    for (i, rule) in configured.iter().enumerate() {
        rules.push(parse(&format!("linux.resources.devices[{i}]"), rule)?);
    }
    let allowed = |&(node, major, minor, access)| Rule { allow: true, node: Some(node), major, minor, access };
    rules.extend(DEFAULT_NODES.iter().map(allowed));
    Ok(rules)
}

fn parse(item: &str, rule: &DeviceCgroup<'_>) -> Result<Rule> {
    let node = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("c") => Some(Node::Char),
        Some("b") => Some(Node::Block),
        Some(other) => {
            return Err(Error::invalid(format!("{item}.type"), format!("{other:?} is none of a, b and c")));
        }
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => super::values::non_negative(&format!("{item}.{name}"), value).map(Some),
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(Error::invalid(format!("{item}.access"), format!("{letter:?} is none of r, w and m"))),
        };
    }
    Ok(Rule {
        allow: rule.allow,
        node,
        major: number("major", rule.major)?,
        minor: number("minor", rule.minor)?,
        access,
    })
}

/// Rules from last to first, each with the access bits that no later rule for all
/// devices has decided, ending where all are decided.
fn decisive(rules: &[Rule]) -> Vec<Rule> {
    let (mut open, mut kept) = (RWM, Vec::new());
    for rule in rules.iter().rev() {
        let access = rule.access & open;
        // dev_t has 12 bits of major and 20 of minor: larger numbers match nothing.
        let exists = rule.major.is_none_or(|n| n < 1 << 12) && rule.minor.is_none_or(|n| n < 1 << 20);
        if access == 0 || !exists {
            continue;
        }
        if rule.node.is_none() && rule.major.is_none() && rule.minor.is_none() {
            open &= !access;
        }
        kept.push(Rule { access, ..*rule });
        if open == 0 {
            break;
        }
    }
    kept
}

/// Whether the rules allow everything, so that no program is needed.
#[must_use]
pub fn allow_all(rules: &[Rule]) -> bool {
    let open = |rule: &Rule| rule.node.is_none() && rule.major.is_none() && rule.minor.is_none();
    let kept = decisive(rules);
    let last = kept.iter().filter(|rule| open(rule)).fold(0, |bits, rule| bits | rule.access);
    last == RWM && kept.iter().all(|rule| rule.allow)
}

/// Registers: the access bits not decided yet, the type, the numbers, and a scratch.
const OPEN: u8 = 3;
const NODE: u8 = 2;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs: if cfg!(target_endian = "big") { dst << 4 | src } else { src << 4 | dst }, off, imm }
}

/// `return verdict`.
fn verdict(allow: bool) -> [Insn; 2] {
    [insn(0xb7, 0, 0, 0, i32::from(allow)), insn(0x95, 0, 0, 0, 0)]
}

/// Compiles rules to a BPF_PROG_TYPE_CGROUP_DEVICE program.
///
/// The context holds `access << 16 | type`, major and minor, 32 bits each. Rules are
/// tried from the last to the first: a deny that speaks of an open bit ends in 0, an
/// allow closes its bits and ends in 1 once none is open.
#[must_use]
pub fn compile(rules: &[Rule]) -> Vec<Insn> {
    let mut program = vec![
        insn(0x61, NODE, 1, 0, 0),
        insn(0x61, MAJOR, 1, 4, 0),
        insn(0x61, MINOR, 1, 8, 0),
        insn(0xbf, OPEN, NODE, 0, 0),
        insn(0x77, OPEN, 0, 0, 16),
        insn(0x57, NODE, 0, 0, 0xffff),
    ];
    for rule in decisive(rules) {
        let action = act(&rule);
        let mut tests: Vec<(u8, i32)> = Vec::with_capacity(3);
        tests.extend(rule.node.map(|node| (NODE, node as i32)));
        tests.extend(rule.major.map(|number| (MAJOR, number as i32)));
        tests.extend(rule.minor.map(|number| (MINOR, number as i32)));
        let conditional = !tests.is_empty() || action.len() > 2;
        for (i, (register, value)) in tests.iter().enumerate() {
            let skip = tests.len() - i - 1 + action.len();
            program.push(insn(0x55, *register, 0, skip as i16, *value));
        }
        program.extend(action);
        if !conditional {
            // Nothing behind an unconditional verdict: the verifier refuses dead code.
            return program;
        }
    }
    program.extend(verdict(false));
    program
}

/// What a matching rule does.
fn act(rule: &Rule) -> Vec<Insn> {
    let access = i32::from(rule.access);
    let mut action = Vec::with_capacity(5);
    match (rule.allow, rule.access == RWM) {
        // Whatever is open is one of these bits.
        (_, true) => {}
        (true, false) => {
            action.push(insn(0x57, OPEN, 0, 0, !access));
            action.push(insn(0x55, OPEN, 0, 2, 0));
        }
        (false, false) => {
            action.push(insn(0xbf, SCRATCH, OPEN, 0, 0));
            action.push(insn(0x57, SCRATCH, 0, 0, access));
            action.push(insn(0x15, SCRATCH, 0, 2, 0));
        }
    }
    action.extend(verdict(rule.allow));
    action
}

/// A device set of cgroup v1: type, major and minor.
pub type Key = (Node, Option<u32>, Option<u32>);

/// cgroup v1's view of the rules: a default and the exceptions from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceptions {
    pub default_allow: bool,
    pub list: BTreeMap<Key, u8>,
}

/// Does `wide` hold every device of `narrow`?
fn covers(wide: &Key, narrow: &Key) -> bool {
    let holds = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    wide.0 == narrow.0 && holds(wide.1, narrow.1) && holds(wide.2, narrow.2)
}

/// The devices that both hold, if any.
fn common(a: &Key, b: &Key) -> Option<Key> {
    let both = |a: Option<u32>, b: Option<u32>| match (a, b) {
        (Some(a), Some(b)) if a != b => None,
        (a, b) => Some(a.or(b)),
    };
    (a.0 == b.0).then_some(())?;
    Some((a.0, both(a.1, b.1)?, both(a.2, b.2)?))
}

/// Rules as cgroup v1 can hold them. Some cannot be said there: v1 knows only
/// exceptions from one default, so a hole in a wildcard exception is an error.
pub fn exceptions(rules: &[Rule]) -> Result<Exceptions> {
    let mut state = Exceptions { default_allow: false, list: BTreeMap::new() };
    for rule in rules {
        if rule.node.is_none() && rule.major.is_none() && rule.minor.is_none() && rule.access == RWM {
            state = Exceptions { default_allow: rule.allow, list: BTreeMap::new() };
            continue;
        }
        for node in [Node::Block, Node::Char] {
            if rule.node.is_none_or(|only| only == node) {
                apply(&mut state, (node, rule.major, rule.minor), rule)?;
            }
        }
    }
    state.list.retain(|_, access| *access != 0);
    Ok(widen(state))
}

fn apply(state: &mut Exceptions, key: Key, rule: &Rule) -> Result<()> {
    if rule.allow != state.default_allow {
        *state.list.entry(key).or_default() |= rule.access;
        return Ok(());
    }
    for (other, access) in &mut state.list {
        if covers(&key, other) {
            *access &= !rule.access;
        } else if common(&key, other).is_some() && *access & rule.access != 0 {
            let text = "cgroup v1 cannot take single devices out of a rule for all of a kind";
            return Err(Error::invalid("linux.resources.devices", text));
        }
    }
    Ok(())
}

/// cgroup v1 allows an access only if one exception has all its bits: each gets the
/// bits of those around it, and what two have in common becomes one of its own.
fn widen(mut state: Exceptions) -> Exceptions {
    let given: Vec<(Key, u8)> = state.list.iter().map(|(key, access)| (*key, *access)).collect();
    for (i, (a, _)) in given.iter().enumerate() {
        for (b, _) in &given[i + 1..] {
            if let Some(key) = common(a, b) {
                state.list.entry(key).or_default();
            }
        }
    }
    for (key, access) in &mut state.list {
        let around = given.iter().filter(|(wide, _)| covers(wide, key));
        *access = around.fold(*access, |bits, (_, more)| bits | more);
    }
    state
}

/// The writes to devices.allow and devices.deny, in order.
#[must_use]
pub fn v1_lines(state: &Exceptions) -> Vec<(&'static str, String)> {
    let (reset, except) =
        if state.default_allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    let mut lines = vec![(reset, "a".to_owned())];
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    for ((node, major, minor), access) in &state.list {
        let letter = if *node == Node::Block { 'b' } else { 'c' };
        let bits: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter_map(|(bit, letter)| (access & bit != 0).then_some(*letter))
            .collect();
        lines.push((except, format!("{letter} {}:{} {bits}", number(*major), number(*minor))));
    }
    lines
}
