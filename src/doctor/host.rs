//! What the administrator has made of the host.

use std::fs::read_to_string;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use crate::cgroup::{Layout, probe_layout};
use crate::mountns;

use super::Finding;

const BPF_MAGIC: u64 = 0xcafe_4a11;

/// Figures of docs/performance.md's kind of machine: a virtual one with two CPUs.
const SECOND_START: &str =
    "0.15 ms at each create, run and exec: the binary is started a second time, from a read-only clone";

/// From here on the mounts are worth a line.
const MANY_MOUNTS: usize = 200;

pub fn user() -> Finding {
    const CHECK: &str = "user";
    if !rustix::process::geteuid().is_root() {
        let cost = "containers are rootless: one id unless mapped, no cgroup limits unless delegated";
        return Finding::costs(
            CHECK,
            "not root",
            cost,
            "run xebec as root, or see what rootless containers need below",
        );
    }
    let wanted = [("CAP_SYS_ADMIN", 21), ("CAP_SYS_RESOURCE", 24), ("CAP_NET_ADMIN", 12), ("CAP_MKNOD", 27)];
    let held = match crate::host::Host::default().capabilities(u64::MAX) {
        Ok(held) => held,
        Err(error) => {
            let cost = "no container is made without knowing what can be passed on";
            return Finding::fails(CHECK, error.to_string(), cost, "allow capget(2) and prctl(2)");
        }
    };
    let lacking: Vec<&str> =
        wanted.into_iter().filter_map(|(name, number)| (held >> number & 1 == 0).then_some(name)).collect();
    match lacking.as_slice() {
        [] => Finding::good(CHECK, "root, with the capabilities that containers take"),
        lacking if lacking.contains(&"CAP_SYS_ADMIN") => Finding::fails(
            CHECK,
            "root without CAP_SYS_ADMIN",
            "no namespace but with a user namespace",
            "a container with more rights",
        ),
        lacking => {
            let cost = "configs that need it fail: raised rlimits and lower oomScoreAdj (SYS_RESOURCE), network (NET_ADMIN), nodes (MKNOD)";
            Finding::costs(
                CHECK,
                format!("root without {}", lacking.join(", ")),
                cost,
                "start xebec with these capabilities",
            )
        }
    }
}

/// CVE-2019-5736: what protects the binary, and what that costs.
pub fn binary() -> Finding {
    const CHECK: &str = "xebec binary";
    let path = std::fs::read_link("/proc/self/exe").unwrap_or_else(|_| "xebec".into());
    let shown = path.display();
    match statvfs(&path) {
        Ok(fs) if fs.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            Finding::good(CHECK, format!("{shown}, on a read-only mount"))
        }
        Ok(_) => {
            let directory = path.parent().unwrap_or(Path::new("/")).display();
            // A bind mount of a whole system directory would make all of it read-only.
            let cure = "mkdir -p /opt/xebec && install -m 0755 xebec /opt/xebec/ && mount --bind /opt/xebec /opt/xebec && mount -o remount,bind,ro /opt/xebec";
            Finding::costs(CHECK, format!("{shown}, on a mount that may be written ({directory})"), SECOND_START, cure)
        }
        Err(errno) => Finding::costs(CHECK, format!("{shown}: {errno}"), SECOND_START, ""),
    }
}

pub fn cgroups() -> Finding {
    const CHECK: &str = "cgroups";
    match probe_layout() {
        Ok(Layout::V2 { .. }) => Finding::good(CHECK, "v2"),
        Ok(Layout::Hybrid { v1, v2 }) if v1.is_empty() && v2.is_none() => none("not mounted".into()),
        Ok(Layout::Hybrid { v2: Some(_), .. }) => mixed("hybrid: v1 hierarchies beside v2"),
        Ok(Layout::Hybrid { .. }) => mixed("v1 only"),
        Err(error) => none(error.to_string()),
    }
}

fn none(found: String) -> Finding {
    let cure = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
    Finding::fails("cgroups", found, "containers have no cgroup, which most need", cure)
}

fn mixed(found: &str) -> Finding {
    let cost = "each hierarchy is one more directory and one more write that waits for RCU, up to 15 ms; no OOM groups, no `unified`";
    Finding::costs(
        "cgroups",
        found,
        cost,
        "boot with systemd.unified_cgroup_hierarchy=1 (systemd), or cgroup_no_v1=all",
    )
}

/// The controllers that limits of linux.resources need.
pub fn controllers() -> Finding {
    const CHECK: &str = "controllers";
    const WANTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
    let there: Vec<String> = match probe_layout() {
        Ok(Layout::V2 { mount }) => words(&format!("{mount}/cgroup.controllers")),
        Ok(Layout::Hybrid { v1, v2 }) => {
            let own = v2.map(|mount| words(&format!("{mount}/cgroup.controllers"))).unwrap_or_default();
            v1.into_iter().flat_map(|one| one.controllers).chain(own).collect()
        }
        Err(_) => Vec::new(),
    };
    // v1 calls it blkio.
    let has = |name: &str| there.iter().any(|one| one == name || name == "io" && one == "blkio");
    let missing: Vec<&str> = WANTED.into_iter().filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return Finding::good(CHECK, there.join(" "));
    }
    let found =
        format!("{}, without {}", if there.is_empty() { "none".into() } else { there.join(" ") }, missing.join(", "));
    let cure = "hand them down: echo '+cpu +cpuset +io +memory +pids' > cgroup.subtree_control of the parent; Debian's memory: boot with cgroup_enable=memory";
    Finding::costs(CHECK, found, "a config that limits one of these fails", cure)
}

fn words(path: &str) -> Vec<String> {
    read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

pub fn bpffs() -> Finding {
    const CHECK: &str = "bpffs";
    if statfs("/sys/fs/bpf").is_ok_and(|fs| fs.f_type as u64 == BPF_MAGIC) {
        return Finding::good(CHECK, "on /sys/fs/bpf: device programs are kept");
    }
    let cost = "0.2 ms for each container on cgroup v2: its device program is checked and loaded anew";
    Finding::costs(CHECK, "not on /sys/fs/bpf", cost, "mount -t bpf bpf /sys/fs/bpf")
}

/// clone copies them all, pivot_root and the unmount of the old root meet them again.
pub fn mounts() -> Finding {
    const CHECK: &str = "mounts";
    let many = read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().count();
    if matches!(mountns::is_pinned(), Ok(true)) {
        return Finding::good(CHECK, format!("{many} in this mount namespace, an empty one for containers"));
    }
    if many < MANY_MOUNTS {
        return Finding::good(CHECK, format!("{many} in this mount namespace"));
    }
    let cost =
        format!("about {:.1} ms for each container: a new mount namespace is a copy of them all", many as f64 * 0.001);
    let cure = "xebec mountns pin, at each boot: containers are then made from an empty mount namespace";
    Finding::costs(CHECK, format!("{many} in this mount namespace"), cost, cure)
}

pub fn id_map_helpers() -> Finding {
    const CHECK: &str = "newuidmap, newgidmap";
    let path = std::env::var("PATH").unwrap_or_default();
    let there = |name: &str| path.split(':').any(|directory| Path::new(directory).join(name).is_file());
    let missing: Vec<&str> = ["newuidmap", "newgidmap"].into_iter().filter(|name| !there(name)).collect();
    if missing.is_empty() {
        return Finding::good(CHECK, "in $PATH");
    }
    let cost = "a rootless engine can map one id only";
    Finding::costs(CHECK, format!("{} not in $PATH", missing.join(", ")), cost, "apt-get install uidmap")
}

pub fn service_manager() -> Finding {
    const CHECK: &str = "systemd";
    let runs = Path::new("/run/systemd/system").is_dir();
    let bus = Path::new("/run/dbus/system_bus_socket").exists() || Path::new("/run/systemd/private").exists();
    match (runs, bus) {
        (true, true) => Finding::good(CHECK, "runs, and can be reached"),
        (true, false) => Finding::costs(
            CHECK,
            "runs, without D-Bus",
            "engines that use its cgroup driver fail",
            "apt-get install dbus",
        ),
        (false, _) => {
            let cure = "tell the engine to use cgroupfs (podman: cgroup_manager=\"cgroupfs\"; containerd: SystemdCgroup = false)";
            Finding::costs(CHECK, "is not the service manager here", "engines must use the cgroupfs driver", cure)
        }
    }
}
