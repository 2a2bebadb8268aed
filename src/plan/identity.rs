//! `process` to the steps that make the child the configured user with the configured rights.

use std::str::FromStr;

use rustix::process::Gid;

use crate::config::{Capabilities, Process, Rlimit, Scheduler, Text};
use crate::error::{Error, Result};
use crate::sys::settings::{CapSets, SchedAttr};

use super::step::{Credentials, Step};

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
                Err(_) => warnings.push(format!("process.capabilities.{name}: {word} is not a known capability")),
            }
        }
        bits
    };
    let bounding = set("bounding", &caps.bounding);
    let permitted = set("permitted", &caps.permitted);
    let inheritable = set("inheritable", &caps.inheritable);
    let effective = set("effective", &caps.effective);
    let ambient = set("ambient", &caps.ambient);
    let raisable = ambient & permitted & inheritable;
    if raisable != ambient {
        // capabilities(7): an ambient capability must be both permitted and inheritable.
        warnings
            .push("process.capabilities.ambient: what is not also permitted and inheritable cannot be granted".into());
    }
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

/// The `RLIMIT_*` names and numbers of getrlimit(2).
const RLIMITS: &[(&str, u32)] = &[
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// The step for `process.rlimits[index]`.
pub fn plan_rlimit(index: usize, rlimit: &Rlimit<'_>) -> Result<Step> {
    let known = RLIMITS.iter().find(|(name, _)| *name == &*rlimit.kind);
    let Some(&(name, resource)) = known else {
        return Err(Error::invalid(
            format!("process.rlimits[{index}]"),
            format!("{} is not a known limit", rlimit.kind),
        )
        .hint("getrlimit(2) lists the names"));
    };
    Ok(Step::Rlimit { index, name, resource, soft: rlimit.soft, hard: rlimit.hard })
}

fn number_of(item: &str, table: &[(&str, u64)], word: &str) -> Result<u64> {
    match table.iter().find(|(name, _)| *name == word) {
        Some(&(_, number)) => Ok(number),
        None => {
            let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            Err(Error::invalid(item, format!("{word} is not one of {}", names.join(", "))))
        }
    }
}

/// The step for `process.scheduler` (sched_setattr(2)).
pub fn plan_scheduler(scheduler: &Scheduler<'_>) -> Result<Step> {
    const POLICIES: &[(&str, u64)] = &[
        ("SCHED_OTHER", 0),
        ("SCHED_FIFO", 1),
        ("SCHED_RR", 2),
        ("SCHED_BATCH", 3),
        ("SCHED_ISO", 4),
        ("SCHED_IDLE", 5),
        ("SCHED_DEADLINE", 6),
    ];
    const FLAGS: &[(&str, u64)] = &[
        ("SCHED_FLAG_RESET_ON_FORK", 0x01),
        ("SCHED_FLAG_RECLAIM", 0x02),
        ("SCHED_FLAG_DL_OVERRUN", 0x04),
        ("SCHED_FLAG_KEEP_POLICY", 0x08),
        ("SCHED_FLAG_KEEP_PARAMS", 0x10),
        ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
        ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
    ];
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= number_of("process.scheduler.flags", FLAGS, flag)?;
    }
    let priority = u32::try_from(scheduler.priority)
        .map_err(|_| Error::invalid("process.scheduler.priority", "must not be negative"))?;
    Ok(Step::Scheduler(SchedAttr {
        size: 0,
        policy: number_of("process.scheduler.policy", POLICIES, &scheduler.policy)? as u32,
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
    const CLASSES: &[(&str, u64)] = &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    let class = number_of("process.ioPriority.class", CLASSES, &priority.class)? as u32;
    match u32::try_from(priority.priority) {
        Ok(level) if level <= 7 => Ok(Step::IoPriority(class << 13 | level)),
        _ => Err(Error::invalid("process.ioPriority.priority", "must be from 0 to 7")),
    }
}

/// The step for `linux.personality` (personality(2)).
pub fn plan_personality(personality: &crate::config::Personality<'_>) -> Result<Step> {
    const DOMAINS: &[(&str, u64)] = &[("LINUX", 0), ("LINUX32", 0x0008)];
    const FLAGS: &[(&str, u64)] = &[
        ("UNAME26", 0x0020000),
        ("ADDR_NO_RANDOMIZE", 0x0040000),
        ("FDPIC_FUNCPTRS", 0x0080000),
        ("MMAP_PAGE_ZERO", 0x0100000),
        ("ADDR_COMPAT_LAYOUT", 0x0200000),
        ("READ_IMPLIES_EXEC", 0x0400000),
        ("ADDR_LIMIT_32BIT", 0x0800000),
        ("SHORT_INODE", 0x1000000),
        ("WHOLE_SECONDS", 0x2000000),
        ("STICKY_TIMEOUTS", 0x4000000),
        ("ADDR_LIMIT_3GB", 0x8000000),
    ];
    let mut persona = number_of("linux.personality.domain", DOMAINS, &personality.domain)?;
    for flag in &personality.flags {
        persona |= number_of("linux.personality.flags", FLAGS, flag)?;
    }
    Ok(Step::Personality(persona as u32))
}

/// The step for `linux.memoryPolicy` (set_mempolicy(2)).
pub fn plan_memory_policy(policy: &crate::config::MemoryPolicy<'_>) -> Result<Step> {
    const MODES: &[(&str, u64)] = &[
        ("MPOL_DEFAULT", 0),
        ("MPOL_PREFERRED", 1),
        ("MPOL_BIND", 2),
        ("MPOL_INTERLEAVE", 3),
        ("MPOL_LOCAL", 4),
        ("MPOL_PREFERRED_MANY", 5),
        ("MPOL_WEIGHTED_INTERLEAVE", 6),
    ];
    const FLAGS: &[(&str, u64)] =
        &[("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];
    let mut mode = number_of("linux.memoryPolicy.mode", MODES, &policy.mode)?;
    for flag in &policy.flags {
        mode |= number_of("linux.memoryPolicy.flags", FLAGS, flag)?;
    }
    let mut nodes = Box::new([0u64; 16]);
    for node in number_list("linux.memoryPolicy.nodes", policy.nodes.as_deref().unwrap_or(""), 1023)? {
        nodes[node / 64] |= 1 << (node % 64);
    }
    Ok(Step::MemoryPolicy { mode: mode as i32, nodes })
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
    fn unknown_and_unavailable_capabilities_are_warnings() {
        let mut warnings = Vec::new();
        let json = r#"{"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_NONSENSE","CAP_SYS_ADMIN"]}}"#;
        let c = plan_credentials(&process(json), 1 << 5, &mut warnings);
        assert_eq!(c.bounding, 1 << 5);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn a_list_of_numbers_has_ranges() {
        assert_eq!(number_list("x", "0-2, 5", 9).expect("valid"), [0, 1, 2, 5]);
        for bad in ["a", "3-1", "0-10", "1,,-"] {
            assert!(number_list("x", bad, 9).is_err(), "{bad}");
        }
    }
}
