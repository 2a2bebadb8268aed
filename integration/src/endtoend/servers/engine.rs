//! A configuration as docker writes it for a plain `docker run`: its namespaces, mounts, devices,
//! capabilities, masks, seccomp profile and sysctls. Decides nothing about the server inside.

use std::path::Path;

use serde_json::{Value, json};

use crate::endtoend::profile;

const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What differs from container to container.
#[derive(Debug)]
pub struct Container<'a> {
    pub args: Vec<String>,
    pub uid: u32,
    pub gid: u32,
    pub cgroup: String,
    /// The network namespace to join; a new one without.
    pub network: Option<&'a Path>,
    /// Host directories bound into the container: source, destination.
    pub volumes: Vec<(&'a Path, &'a str)>,
}

/// The configuration; the root file system is the bundle's `rootfs`.
pub fn configuration(container: &Container<'_>) -> Result<Value, serde_json::Error> {
    // docker clears the effective and permitted sets of a program that is not root by its user id.
    let held = if container.uid == 0 { CAPABILITIES } else { &[] };
    Ok(json!({
        "ociVersion": "1.0.2",
        "hostname": "8e1bb6ff3c5d",
        "domainname": "",
        "root": {"path": "rootfs"},
        "process": {
            "terminal": false,
            "user": {"uid": container.uid, "gid": container.gid, "additionalGids": [container.gid]},
            "args": container.args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=8e1bb6ff3c5d"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": held, "permitted": held,
            },
            "oomScoreAdj": 0,
        },
        "mounts": mounts(&container.volumes),
        "linux": {
            "cgroupsPath": container.cgroup,
            "namespaces": namespaces(container.network),
            "resources": {"devices": devices(), "blockIO": {}, "cpu": {"shares": 0}, "memory": {}},
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"},
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": profile::seccomp(CAPABILITIES)?,
        },
    }))
}

fn namespaces(network: Option<&Path>) -> Value {
    let mut list: Vec<Value> =
        ["mount", "uts", "pid", "ipc", "cgroup"].iter().map(|kind| json!({"type": kind})).collect();
    list.push(match network {
        Some(path) => json!({"type": "network", "path": path}),
        None => json!({"type": "network"}),
    });
    Value::Array(list)
}

fn mounts(volumes: &[(&Path, &str)]) -> Value {
    let mut list = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["ro", "nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]}),
    ];
    list.extend(volumes.iter().map(|(source, destination)| {
        json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate"]})
    }));
    Value::Array(list)
}

/// Nothing but making any node, and using the harmless ones.
fn devices() -> Value {
    let mut list = vec![
        json!({"allow": false, "access": "rwm"}),
        json!({"allow": true, "type": "c", "access": "m"}),
        json!({"allow": true, "type": "b", "access": "m"}),
    ];
    // null, zero, full, tty, random, urandom, console, ptmx, and all pseudo-terminals.
    let used = [(1, 3), (1, 5), (1, 7), (5, 0), (1, 8), (1, 9), (5, 1), (5, 2)];
    list.extend(
        used.map(|(major, minor)| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"})),
    );
    list.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
    Value::Array(list)
}
