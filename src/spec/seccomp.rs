//! Seccomp profiles for people without an engine: the default one, and named groups of system calls
//! to add to it or take from it.
//!
//! Pure: the profile is a data file beside this one, read when it is asked for. Only `spec` does so; a
//! container gets what stands in its config.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use xebec_seccomp::Arch;

use crate::error::{Error, Result};

const DEFAULT: &str = include_str!("seccomp-default.txt");
const EPERM: u32 = 1;

/// What a profile is made for.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The architecture of the host.
    pub native: Arch,
    /// The capabilities of the config's bounding set.
    pub caps: &'a [String],
    /// System calls and `@groups` allowed beside the default, whatever their arguments.
    pub allow: &'a [String],
    /// System calls and `@groups` not allowed; stronger than `allow`.
    pub deny: &'a [String],
}

/// A profile on its way: calls allowed whatever their arguments, and the other rules.
#[derive(Debug, Default)]
struct Draft {
    allowed: BTreeSet<&'static str>,
    others: Vec<(&'static str, Value)>,
}

/// `linux.seccomp` for containers without an engine.
///
/// # Errors
/// `allow` or `deny` names a group or a system call that nobody knows.
pub fn default_profile(wish: &Wish<'_>) -> Result<Value> {
    let mut draft = Draft::default();
    lines(DEFAULT).for_each(|line| draft.apply(line, wish));
    for (option, names) in [("--seccomp-allow", wish.allow), ("--seccomp-deny", wish.deny)] {
        for name in names {
            let calls = expand(name).ok_or_else(|| unknown(option, name))?;
            for call in calls {
                draft.forget(call);
                if option == "--seccomp-allow" {
                    draft.allowed.insert(call);
                }
            }
        }
    }
    Ok(draft.profile(wish.native))
}

/// systemd's groups but for @known, which is everything.
fn groups() -> BTreeMap<&'static str, Vec<&'static str>> {
    xebec_seccomp::groups().filter(|(name, _)| *name != "@known").collect()
}

/// The calls of a group with those of the groups in it, or the call itself; `None` when nobody knows it.
fn expand(name: &str) -> Option<BTreeSet<&'static str>> {
    if !name.starts_with('@') {
        let known = Arch::ALL
            .into_iter()
            .find_map(|arch| xebec_seccomp::syscalls(arch).find(|(call, _)| *call == name).map(|(call, _)| call));
        return known.map(|call| BTreeSet::from([call]));
    }
    let groups = groups();
    let (mut calls, mut waiting) = (BTreeSet::new(), groups.get(name)?.clone());
    while let Some(member) = waiting.pop() {
        match groups.get(member) {
            Some(members) => waiting.extend(members),
            None => {
                calls.insert(member);
            }
        }
    }
    Some(calls)
}

impl Draft {
    /// One line of the default profile; its grammar stands at its top.
    fn apply(&mut self, line: &'static str, wish: &Wish<'_>) {
        let (rule, condition) = line.split_once(" if ").map_or((line, None), |(rule, cond)| (rule, Some(cond)));
        let mut words = rule.split_whitespace();
        let mut word = || words.next().unwrap_or_default();
        let action = loop {
            let applies = match word() {
                "on" => is_arch(wish.native, word()),
                "off" => !is_arch(wish.native, word()),
                "with" => has(wish.caps, word()),
                "without" => !has(wish.caps, word()),
                action => break action,
            };
            if !applies {
                return;
            }
        };
        let errno = if action == "errno" { words.next() } else { None };
        let names: Vec<&'static str> = words.collect();
        if let Some(condition) = condition {
            let args = json!([argument(condition)]);
            self.others.extend(
                names.iter().map(|name| (*name, json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args}))),
            );
            return;
        }
        for call in names.iter().filter_map(|name| expand_listed(name)).flatten() {
            self.forget(call);
            match (action, errno.and_then(|number| number.parse::<u32>().ok())) {
                ("allow", _) => {
                    self.allowed.insert(call);
                }
                ("errno", Some(number)) => {
                    let rule = json!({"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": number});
                    self.others.push((call, rule));
                }
                _ => {}
            }
        }
    }

    fn forget(&mut self, call: &str) {
        self.allowed.remove(call);
        self.others.retain(|(name, _)| *name != call);
    }

    fn profile(self, native: Arch) -> Value {
        let mut rules = vec![json!({"names": self.allowed, "action": "SCMP_ACT_ALLOW"})];
        rules.extend(self.others.into_iter().map(|(_, rule)| rule));
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": EPERM,
            "architectures": family(native).iter().map(|arch| arch.spec_name()).collect::<Vec<_>>(),
            "syscalls": rules,
        })
    }
}

/// A group, or a name as it stands: the data may name calls that the tables do not have.
fn expand_listed(name: &'static str) -> Option<BTreeSet<&'static str>> {
    if name.starts_with('@') { expand(name) } else { Some(BTreeSet::from([name])) }
}

/// `INDEX OP VALUE [TWO]` as an element of `args`.
fn argument(text: &str) -> Value {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |at: usize| {
        words.get(at).and_then(|word| match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        })
    };
    let op = format!("SCMP_CMP_{}", words.get(1).unwrap_or(&""));
    let mut arg = json!({"index": number(0), "value": number(2), "op": op});
    if let Some(two) = number(3) {
        arg["valueTwo"] = json!(two);
    }
    arg
}

/// The architectures whose programs run on a host of this one.
fn family(native: Arch) -> &'static [Arch] {
    use Arch::*;
    match native {
        X86_64 => &[X86_64, X86, X32],
        Aarch64 => &[Aarch64, Arm],
        Mips64 => &[Mips64, Mips, Mips64n32],
        Mipsel64 => &[Mipsel64, Mipsel, Mipsel64n32],
        _ => &[],
    }
}

fn is_arch(native: Arch, word: &str) -> bool {
    native.spec_name().trim_start_matches("SCMP_ARCH_").eq_ignore_ascii_case(word)
}

fn has(caps: &[String], cap: &str) -> bool {
    caps.iter().any(|own| own == cap)
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn unknown(option: &str, name: &str) -> Error {
    let item = format!("{option} {name}");
    if name.starts_with('@') {
        let names: Vec<&str> = groups().into_keys().collect();
        return Error::invalid(item, "there is no such group").hint(format!("the groups are {}", names.join(", ")));
    }
    Error::invalid(item, "no architecture has a system call of this name")
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
