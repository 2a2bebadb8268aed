//! CHECK of `linux.sysctl`: only what belongs to a namespace that the container
//! does not share with its caller, for everything else is the host's.

use super::{Report, entry, has};
use crate::config::Config;

/// The kernel's own SysV IPC and POSIX message queue files (ipc_namespaces(7)).
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/msg_next_id",
    "kernel/sem",
    "kernel/sem_next_id",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_next_id",
    "kernel/shm_rmid_forced",
    "kernel/auto_msgmni",
];

/// The path of a sysctl below /proc/sys.
///
/// As in sysctl(8) the first separator decides: in `net.ipv4.conf.eth0/1.mtu`
/// a dot separates and a slash stands for a dot; in `net/ipv4/conf/eth0.1/mtu`
/// it is the path already. `None` for a name that leaves /proc/sys or is no path.
#[must_use]
pub fn sysctl_path(key: &str) -> Option<String> {
    let dots = key.find(['.', '/']).is_none_or(|at| key.as_bytes()[at] == b'.');
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dots { key.chars().map(swap).collect() } else { key.to_owned() };
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    path.split('/').all(plain).then_some(path)
}

pub(super) fn check(report: &mut Report, config: &Config<'_>) {
    for (key, value) in &config.linux.sysctl {
        let at = entry("/linux/sysctl", key);
        report.c_text(&at, value);
        let Some(path) = sysctl_path(key) else {
            report.find(at, "is not the name of a sysctl");
            continue;
        };
        let namespace = if path.starts_with("net/") {
            "network"
        } else if path.starts_with("fs/mqueue/") || IPC.contains(&&*path) {
            "ipc"
        } else if path == "kernel/domainname" {
            "uts"
        } else if path.starts_with("user/") {
            // user_namespaces(7): the counters of the namespace's own limits.
            "user"
        } else if path == "kernel/hostname" {
            report.find(at, "conflicts with /hostname, which is there for it");
            continue;
        } else {
            report.find(at, "is not of a namespace, so it would change the host");
            continue;
        };
        if !has(&config.linux, namespace) {
            let what = format_args!("needs a {namespace:?} entry in /linux/namespaces: it would change the host");
            report.find(at, what);
        }
    }
}
