//! The lists of words that the specification allows, with what each stands for.
//!
//! `check` judges by them, the plan translates by them, and `features` prints
//! them: one list, so that the three cannot disagree. Makes no system call.

use rustix::process::Resource;

/// A word of the config and its value for the kernel.
pub type Words<T> = [(&'static str, T)];

/// The value of `word`, if the list has it.
#[must_use]
pub fn find<T: Copy>(words: &Words<T>, word: &str) -> Option<T> {
    words.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

/// `linux.namespaces[].type` to `CLONE_NEW*`.
pub static NAMESPACES: &Words<libc::c_int> = &[
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mount", libc::CLONE_NEWNS),
    ("network", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("time", libc::CLONE_NEWTIME),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

/// `linux.timeOffsets` keys to the clock's name in timens_offsets (time_namespaces(7)).
pub static CLOCKS: &Words<libc::clockid_t> =
    &[("boottime", libc::CLOCK_BOOTTIME), ("monotonic", libc::CLOCK_MONOTONIC)];

/// `process.rlimits[].type` (getrlimit(2)).
pub static RLIMITS: &Words<Resource> = &[
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// `process.scheduler.policy` (sched(7)). SCHED_ISO (4) is reserved in the
/// kernel's headers and was never implemented, so it is not here.
pub static SCHEDULER_POLICIES: &Words<u32> = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// `process.scheduler.flags`, `SCHED_FLAG_*` of linux/sched.h.
pub static SCHEDULER_FLAGS: &Words<u64> = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// `process.ioPriority.class`, `IOPRIO_CLASS_*` of linux/ioprio.h.
pub static IO_PRIORITY_CLASSES: &Words<u16> =
    &[("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// `linux.memoryPolicy.mode`, `MPOL_*` of linux/mempolicy.h.
pub static MEMORY_POLICY_MODES: &Words<i32> = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// `linux.memoryPolicy.flags`, `MPOL_F_*` of linux/mempolicy.h.
pub static MEMORY_POLICY_FLAGS: &Words<i32> =
    &[("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// `linux.personality.domain`, `PER_*` of linux/personality.h.
pub static PERSONALITY_DOMAINS: &Words<u64> = &[("LINUX", 0), ("LINUX32", 0x0008)];

/// `linux.personality.flags`: those of personality(2). The specification leaves
/// the list empty because some weaken the process (no address randomisation);
/// the config's author is trusted with that choice.
pub static PERSONALITY_FLAGS: &Words<u64> = &[
    ("UNAME26", 0x0002_0000),
    ("ADDR_NO_RANDOMIZE", 0x0004_0000),
    ("FDPIC_FUNCPTRS", 0x0008_0000),
    ("MMAP_PAGE_ZERO", 0x0010_0000),
    ("ADDR_COMPAT_LAYOUT", 0x0020_0000),
    ("READ_IMPLIES_EXEC", 0x0040_0000),
    ("ADDR_LIMIT_32BIT", 0x0080_0000),
    ("SHORT_INODE", 0x0100_0000),
    ("WHOLE_SECONDS", 0x0200_0000),
    ("STICKY_TIMEOUTS", 0x0400_0000),
    ("ADDR_LIMIT_3GB", 0x0800_0000),
];

/// `linux.rootfsPropagation`: the specification's four, and the recursive
/// spellings that Docker and podman write (`rslave`, `rprivate`, `rshared`).
pub static ROOTFS_PROPAGATIONS: &Words<libc::c_ulong> = &[
    ("private", libc::MS_PRIVATE),
    ("rprivate", libc::MS_PRIVATE | libc::MS_REC),
    ("rshared", libc::MS_SHARED | libc::MS_REC),
    ("rslave", libc::MS_SLAVE | libc::MS_REC),
    ("runbindable", libc::MS_UNBINDABLE | libc::MS_REC),
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// The names of `hooks`, in the order in which they run.
pub static HOOKS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Annotations that change what the runtime does, for
/// `features`' potentiallyUnsafeConfigAnnotations: what has an effect here. Names and meanings are crun's.
pub static ANNOTATIONS: &[&str] = &[
    DELEGATE_CGROUP,
    HANDLER,
    HOOKS_STDERR,
    HOOKS_STDOUT,
    KEEP_ORIGINAL_GROUPS,
    SECCOMP_FAIL_UNKNOWN,
    SECCOMP_RECEIVER,
    SYSTEMD_PROPERTY,
    SYSTEMD_SUBGROUP,
];

/// The container's process in a cgroup of its own below the one with the limits, as in crun.
pub const DELEGATE_CGROUP: &str = "run.oci.delegate-cgroup";
/// The program that is to execute the container's in place of the kernel. There are none here: an error.
pub const HANDLER: &str = "run.oci.handler";
/// A file that the hooks' stderr is appended to.
pub const HOOKS_STDERR: &str = "run.oci.hooks.stderr";
/// A file that the hooks' stdout is appended to.
pub const HOOKS_STDOUT: &str = "run.oci.hooks.stdout";
/// "1": the process keeps the runtime's supplementary groups.
pub const KEEP_ORIGINAL_GROUPS: &str = "run.oci.keep_original_groups";
/// "1": a system call name that nobody knows is an error.
pub const SECCOMP_FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
/// The agent's socket, where `linux.seccomp.listenerPath` names none.
pub const SECCOMP_RECEIVER: &str = "run.oci.seccomp.receiver";
/// What the keys of properties of the systemd unit begin with.
pub const SYSTEMD_PROPERTY: &str = "org.systemd.property.";
/// The name of a cgroup below the systemd unit's, for the container.
pub const SYSTEMD_SUBGROUP: &str = "run.oci.systemd.subgroup";

/// A capability's name (capabilities(7)) to its number.
#[must_use]
pub fn capability(name: &str) -> Option<u8> {
    name.parse::<caps::Capability>().ok().map(|known| known.index())
}

/// The names of all capabilities, by number.
#[must_use]
pub fn capability_names() -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

/// A list such as `0-3,7` to inclusive ranges; blanks around the numbers are
/// allowed (the schema's pattern has them) and so are empty items.
#[must_use]
pub fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let mut ranges = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        if first > last {
            return None;
        }
        ranges.push((first, last));
    }
    Some(ranges)
}

/// Digits only: `u32::from_str` would also take a plus sign.
fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_has_a_word_twice() {
        fn names<T>(words: &Words<T>) -> Vec<&'static str> {
            words.iter().map(|(name, _)| *name).collect()
        }
        let lists = [
            names(NAMESPACES),
            names(CLOCKS),
            names(RLIMITS),
            names(SCHEDULER_POLICIES),
            names(SCHEDULER_FLAGS),
            names(IO_PRIORITY_CLASSES),
            names(MEMORY_POLICY_MODES),
            names(MEMORY_POLICY_FLAGS),
            names(PERSONALITY_DOMAINS),
            names(PERSONALITY_FLAGS),
            names(ROOTFS_PROPAGATIONS),
            HOOKS.to_vec(),
        ];
        for mut list in lists {
            let len = list.len();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), len, "{list:?}");
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_c_library() {
        assert_eq!(find(SCHEDULER_POLICIES, "SCHED_BATCH"), Some(libc::SCHED_BATCH as u32));
        assert_eq!(find(SCHEDULER_POLICIES, "SCHED_DEADLINE"), Some(libc::SCHED_DEADLINE as u32));
        assert_eq!(find(SCHEDULER_FLAGS, "SCHED_FLAG_RESET_ON_FORK"), Some(libc::SCHED_FLAG_RESET_ON_FORK as u64));
        assert_eq!(find(SCHEDULER_FLAGS, "SCHED_FLAG_UTIL_CLAMP_MAX"), Some(libc::SCHED_FLAG_UTIL_CLAMP_MAX as u64));
        assert_eq!(find(MEMORY_POLICY_MODES, "MPOL_BIND"), Some(libc::MPOL_BIND));
        assert_eq!(find(MEMORY_POLICY_FLAGS, "MPOL_F_STATIC_NODES"), Some(libc::MPOL_F_STATIC_NODES));
        assert_eq!(find(MEMORY_POLICY_FLAGS, "MPOL_F_NUMA_BALANCING"), Some(libc::MPOL_F_NUMA_BALANCING));
        assert_eq!(find(PERSONALITY_FLAGS, "UNAME26"), Some(libc::UNAME26 as u64));
        assert_eq!(find(PERSONALITY_FLAGS, "ADDR_NO_RANDOMIZE"), Some(libc::ADDR_NO_RANDOMIZE as u64));
    }

    #[test]
    fn capabilities_go_by_their_kernel_numbers() {
        assert_eq!(capability("CAP_CHOWN"), Some(0));
        assert_eq!(capability("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(capability("CAP_NONE"), None);
        assert_eq!(capability("chown"), None);
        let names = capability_names();
        assert_eq!(names.len(), 41);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(capability(name).map(usize::from), Some(number));
        }
    }

    #[test]
    fn ranges_take_blanks_and_refuse_the_rest() {
        assert_eq!(ranges("0-3, 7"), Some(vec![(0, 3), (7, 7)]));
        assert_eq!(ranges(" 5 - 6 ,"), Some(vec![(5, 6)]));
        assert_eq!(ranges(""), Some(vec![]));
        for bad in ["3-1", "a", "-1", "1-", "1-2-3", "+1", "4294967296", "0 1"] {
            assert_eq!(ranges(bad), None, "{bad}");
        }
    }
}
