//! Proof that the floor does the same work: its container and the first runtime's, seen from outside, must
//! have the same rights, namespaces, mounts and device nodes. Otherwise no ratio to it means anything.

use std::collections::BTreeSet;
use std::fs;

use crate::bundle::Kit;
use crate::cases::Shape;
use crate::contender::{Contender, Verb, reap_strays, wait_for};

/// Lines of proc_pid_status(5) that say what a process may do.
const RIGHTS: [&str; 11] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];

const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// An error that names the differences between the containers of the two.
pub fn check(floor: &Contender, other: &Contender, kit: &Kit) -> Result<(), String> {
    for user_namespace in [false, true] {
        let shape = Shape { seccomp: true, user_namespace, ..Shape::default() };
        let (ours, theirs) = (look_at(floor, kit, shape)?, look_at(other, kit, shape)?);
        let differences: Vec<String> = ours
            .difference(&theirs)
            .map(|line| format!("floor alone: {line}"))
            .chain(theirs.difference(&ours).map(|line| format!("{} alone: {line}", other.name)))
            .collect();
        if !differences.is_empty() {
            return Err(format!("the floor's container is not {}'s: {}", other.name, differences.join("; ")));
        }
    }
    Ok(())
}

/// A waiting container as a set of lines.
fn look_at(contender: &Contender, kit: &Kit, shape: Shape) -> Result<BTreeSet<String>, String> {
    let bundle = kit.bundle(&format!("{}-looked-at", contender.name), shape, "/wait")?;
    contender.call(Verb::Create, &bundle)?;
    contender.call(Verb::Start, &bundle)?;
    let pid = contender.created_pid(&bundle)?;
    let seen = describe(pid.as_raw()).map_err(|error| format!("/proc/{pid}: {error}"));
    contender.call(Verb::Kill, &bundle)?;
    wait_for(pid)?;
    contender.call(Verb::Delete, &bundle)?;
    reap_strays();
    seen
}

fn describe(pid: i32) -> std::io::Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    lines.extend(
        status
            .lines()
            .filter(|line| RIGHTS.iter().any(|name| line.starts_with(&format!("{name}:"))))
            .map(str::to_string),
    );
    for name in NAMESPACES {
        let (own, its) =
            (fs::read_link(format!("/proc/self/ns/{name}"))?, fs::read_link(format!("/proc/{pid}/ns/{name}"))?);
        lines.insert(format!("{name} namespace {}", if own == its { "shared" } else { "its own" }));
    }
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    lines.extend(mounts.lines().filter_map(mount_line));
    for node in fs::read_dir(format!("/proc/{pid}/root/dev"))? {
        lines.insert(format!("/dev/{}", node?.file_name().to_string_lossy()));
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    lines.extend(limits.lines().filter(|line| line.starts_with("Max open files")).map(str::to_string));
    Ok(lines)
}

/// Mount point and restrictions. A masked file has those of wherever its null device was taken from.
fn mount_line(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (root, point, options) = (fields.get(3)?, fields.get(4)?, fields.get(5)?);
    // The sandbox's null device is a file of its own, xbt-null.
    if root.ends_with("null") {
        return Some(format!("mask {point}"));
    }
    let strict: Vec<&str> =
        options.split(',').filter(|word| ["ro", "nosuid", "nodev", "noexec"].contains(word)).collect();
    Some(format!("mount {point} {}", strict.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_may_be_written_differs_from_one_that_may_not() {
        let line = |options: &str| mount_line(&format!("1 2 0:5 / /proc/sys {options} - proc proc rw"));
        assert_eq!(line("ro,nosuid,relatime"), Some("mount /proc/sys ro,nosuid".into()));
        assert_ne!(line("ro,nosuid,relatime"), line("rw,nosuid,relatime"));
        for root in ["/null", "/xbt-null"] {
            let line = format!("1 2 0:5 {root} /proc/keys rw - tmpfs x rw");
            assert_eq!(mount_line(&line), Some("mask /proc/keys".into()));
        }
    }
}
