//! `process` to the steps that make the child the configured user with the configured rights.

use std::str::FromStr;

use rustix::process::Gid;

use crate::config::words::{self, Words};
use crate::config::{Capabilities, Process, Rlimit, Scheduler, Text};
use crate::error::{Error, Result};
use crate::sys::settings::{CapSets, SchedAttr};

use super::step::{CpuMask, Credentials, Step};

/// Every capability that a set of the process names, one bit each.
pub fn named_capabilities(process: &Process<'_>) -> u64 {
    let Some(caps) = &process.capabilities else { return 0 };
    let sets = [&caps.bounding, &caps.permitted, &caps.inheritable, &caps.effective, &caps.ambient];
    let known = |word: &Text<'_>| caps::Capability::from_str(word).map_or(0, |cap| cap.bitmask());
    sets.into_iter().flatten().fold(0, |bits, word| bits | known(word))
}

/// Who the process is to be; warnings name the capabilities that cannot be granted.
///
/// An absent set means none (CVE-2022-29162 and its kin filled the inheritable set).
/// `grantable` are the capabilities that the runtime can pass on.
pub fn plan_credentials(process: &Process<'_>, grantable: u64, warnings: &mut Vec<String>) -> Credentials {
    let none = Capabilities::default();
    let caps = process.capabilities.as_ref().unwrap_or(&none);
    let mut set = |name: &str, words: &[Text<'_>]| {
        let mut bits = 0u64;
        for word in words {
            match caps::Capability::from_str(word) {
                Ok(cap) if grantable & cap.bitmask() != 0 => bits |= cap.bitmask(),
                Ok(_) => warnings.push(format!(
                    "process.capabilities.{name}: {word} cannot be granted: the runtime does not have it"
                )),
                // `check` has warned of it.
                Err(_) => {}
            }
        }
        bits
    };
    let bounding = set("bounding", &caps.bounding);
    let permitted = set("permitted", &caps.permitted);
    // What the kernel would refuse in one go is left out; `check` has warned of it.
    let inheritable = set("inheritable", &caps.inheritable) & bounding;
    let effective = set("effective", &caps.effective) & permitted;
    let ambient = set("ambient", &caps.ambient);
    // capabilities(7): an ambient capability must be both permitted and inheritable.
    let raisable = ambient & permitted & inheritable;
    let user = &process.user;
    Credentials {
        uid: user.uid,
        gid: user.gid,
        groups: Some(user.additional_gids.iter().map(|&gid| Gid::from_raw(gid)).collect()),
        bounding,
        sets: CapSets { effective, permitted, inheritable },
        ambient: raisable,
    }
}

/// The step for `process.rlimits[index]`.
pub fn plan_rlimit(index: usize, rlimit: &Rlimit<'_>) -> Result<Step> {
    let (name, resource) = word(&format!("process.rlimits[{index}].type"), words::RLIMITS, &rlimit.kind)?;
    Ok(Step::Rlimit { index, name, resource: resource as u32, soft: rlimit.soft, hard: rlimit.hard })
}

/// The entry of `words` for `text`.
fn word<T: Copy>(item: &str, words: &'static Words<T>, text: &str) -> Result<(&'static str, T)> {
    words.iter().find(|(known, _)| *known == text).copied().ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
        Error::invalid(item, format!("{text} is not one of {}", known.join(", ")))
    })
}

/// The step for `process.scheduler` (sched_setattr(2)).
pub fn plan_scheduler(scheduler: &Scheduler<'_>) -> Result<Step> {
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= word("process.scheduler.flags", words::SCHEDULER_FLAGS, flag)?.1;
    }
    let priority = u32::try_from(scheduler.priority)
        .map_err(|_| Error::invalid("process.scheduler.priority", "must not be negative"))?;
    Ok(Step::Scheduler(SchedAttr {
        size: 0,
        policy: word("process.scheduler.policy", words::SCHEDULER_POLICIES, &scheduler.policy)?.1,
        flags,
        nice: scheduler.nice,
        priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    }))
}

/// The step for `process.ioPriority` (ioprio_set(2)).
pub fn plan_io_priority(priority: &crate::config::IoPriority<'_>) -> Result<Step> {
    let class = u32::from(word("process.ioPriority.class", words::IO_PRIORITY_CLASSES, &priority.class)?.1);
    match u32::try_from(priority.priority) {
        Ok(level) if level <= 7 => Ok(Step::IoPriority(class << 13 | level)),
        _ => Err(Error::invalid("process.ioPriority.priority", "must be from 0 to 7")),
    }
}

/// The step for `linux.personality` (personality(2)).
pub fn plan_personality(personality: &crate::config::Personality<'_>) -> Result<Step> {
    let mut persona = word("linux.personality.domain", words::PERSONALITY_DOMAINS, &personality.domain)?.1;
    for flag in &personality.flags {
        persona |= word("linux.personality.flags", words::PERSONALITY_FLAGS, flag)?.1;
    }
    Ok(Step::Personality(persona as u32))
}

/// The step for `linux.memoryPolicy` (set_mempolicy(2)).
pub fn plan_memory_policy(policy: &crate::config::MemoryPolicy<'_>) -> Result<Step> {
    let mut mode = word("linux.memoryPolicy.mode", words::MEMORY_POLICY_MODES, &policy.mode)?.1;
    for flag in &policy.flags {
        mode |= word("linux.memoryPolicy.flags", words::MEMORY_POLICY_FLAGS, flag)?.1;
    }
    let mut nodes = Box::new([0u64; 16]);
    for node in number_list("linux.memoryPolicy.nodes", policy.nodes.as_deref().unwrap_or(""), 1023)? {
        nodes[node / 64] |= 1 << (node % 64);
    }
    Ok(Step::MemoryPolicy { mode, nodes })
}

/// The mask for sched_setaffinity(2) of a list of CPUs.
pub fn plan_cpus(item: &str, list: &str) -> Result<CpuMask> {
    let mut mask = Box::new([0u64; 128]);
    for cpu in number_list(item, list, 8191)? {
        mask[cpu / 64] |= 1 << (cpu % 64);
    }
    Ok(mask)
}

/// The numbers of a list such as `0-3,7`.
pub fn number_list(item: &str, list: &str, max: usize) -> Result<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last <= max => numbers.extend(first..=last),
            _ => return Err(Error::invalid(item, format!("{part:?} is not a number or range up to {max}"))),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process<'_> {
        serde_json::from_str(json).expect("a process")
    }

    #[test]
    fn absent_capability_sets_are_empty() {
        let mut warnings = Vec::new();
        let c = plan_credentials(&process(r#"{"cwd":"/"}"#), u64::MAX, &mut warnings);
        assert_eq!((c.bounding, c.sets, c.ambient), (0, CapSets::default(), 0));
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_capability_that_the_runtime_lacks_is_a_warning() {
        let mut warnings = Vec::new();
        let json = r#"{"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_NONSENSE","CAP_SYS_ADMIN"]}}"#;
        let c = plan_credentials(&process(json), 1 << 5, &mut warnings);
        assert_eq!(c.bounding, 1 << 5);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn a_list_of_numbers_has_ranges() {
        assert_eq!(number_list("x", "0-2, 5", 9).expect("valid"), [0, 1, 2, 5]);
        for bad in ["a", "3-1", "0-10", "1,,-"] {
            assert!(number_list("x", bad, 9).is_err(), "{bad}");
        }
    }
}
