//! What the host's cgroup mounts look like.
//!
//! Reads only; on a cgroup v2 host it costs one statfs and never reads mountinfo,
//! which grows with the host's mounts.

use rustix::fs::CWD;

use crate::error::{Error, Result};

/// Where cgroups are mounted, by custom of systemd and every engine.
const MOUNT: &str = "/sys/fs/cgroup";
/// CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The controllers that cgroup v1 knows; other words in a mount's options are flags.
const V1_CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

/// The host's cgroup mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One cgroup v2 hierarchy with everything.
    V2 {
        /// Its mount point.
        mount: String,
    },
    /// cgroup v1 hierarchies, with or without a cgroup v2 beside them. Both empty
    /// on a host that mounts none.
    Hybrid {
        /// The v1 hierarchies, in the order of the mount table.
        v1: Vec<Hierarchy>,
        /// The mount point of the v2 part.
        v2: Option<String>,
    },
}

impl Layout {
    /// Where cgroup v2 is mounted, alone or beside v1.
    #[must_use]
    pub fn v2_mount(&self) -> Option<&str> {
        match self {
            Layout::V2 { mount } => Some(mount),
            Layout::Hybrid { v2, .. } => v2.as_deref(),
        }
    }
}

/// One mounted cgroup v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers, or its name as `name=systemd`.
    pub controllers: Vec<String>,
    /// Its mount point.
    pub mount: String,
}

/// Looks at the host: one system call where cgroup v2 is all there is.
pub fn probe_layout() -> Result<Layout> {
    match rustix::fs::statfs(MOUNT) {
        Ok(fs) if fs.f_type as u64 == CGROUP2_SUPER_MAGIC => return Ok(Layout::V2 { mount: MOUNT.to_owned() }),
        Ok(_) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(Error::sys("cgroup", format!("statfs({MOUNT:?})"), errno)),
    }
    let mountinfo = read_proc("/proc/self/mountinfo")?;
    Ok(layout_of(&mountinfo))
}

/// The runtime's own cgroup in the v2 hierarchy (`0::` in /proc/self/cgroup), which
/// relative paths of a rootless runtime hang on.
pub fn probe_own_cgroup() -> Result<Option<String>> {
    let text = read_proc("/proc/self/cgroup")?;
    Ok(text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned))
}

fn read_proc(path: &str) -> Result<String> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let failed = |errno| Error::sys("cgroup", format!("open({path:?})"), errno);
    let fd = rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty()).map_err(failed)?;
    super::dir::read_all(&fd).map_err(|errno| Error::sys("cgroup", format!("read({path:?})"), errno))
}

/// The layout that a mount table (proc_pid_mountinfo(5)) describes.
fn layout_of(mountinfo: &str) -> Layout {
    let (mut v1, mut v2) = (Vec::<Hierarchy>::new(), None);
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(mount), mut right) = (left.split(' ').nth(4).map(unescape), right.split(' ')) else { continue };
        match (right.next(), right.nth(1)) {
            (Some("cgroup2"), _) if v2.is_none() => v2 = Some(mount),
            (Some("cgroup"), Some(options)) => {
                let known = |word: &&str| word.starts_with("name=") || V1_CONTROLLERS.contains(word);
                let controllers: Vec<String> = options.split(',').filter(known).map(str::to_owned).collect();
                let seen = v1.iter().any(|h| h.controllers == controllers);
                if !seen && !controllers.is_empty() {
                    v1.push(Hierarchy { controllers, mount });
                }
            }
            _ => {}
        }
    }
    Layout::Hybrid { v1, v2 }
}

/// Undoes mountinfo's octal escapes (`\040` for a blank).
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_mount_table_gives_every_hierarchy_once_with_its_controllers() {
        let table = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,seclabel,cpu,cpuacct
33 31 0:29 / /mnt/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/net\\040prio rw - cgroup cgroup rw,net_cls,net_prio
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
        let Layout::Hybrid { v1, v2 } = layout_of(table) else { panic!("not hybrid") };
        let seen: Vec<String> = v1.iter().map(|h| format!("{} {}", h.controllers.join(","), h.mount)).collect();
        assert_eq!(
            seen,
            [
                "cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct",
                "net_cls,net_prio /sys/fs/cgroup/net prio",
                "name=systemd /sys/fs/cgroup/systemd"
            ]
        );
        assert_eq!(v2.as_deref(), Some("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_host_without_cgroups_has_neither() {
        assert_eq!(layout_of("1 1 0:1 / / rw - ext4 /dev/sda rw\n"), Layout::Hybrid { v1: vec![], v2: None });
    }
}
