//! What the kernel offers.

use std::fs::read_to_string;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::sys::mount::{MountAttr, mount_setattr};

use super::Finding;

/// The newest call that create cannot do without is mount_setattr.
const NEEDED: &str = "5.12";

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The calls without which nothing goes (docs/kernel-features.md), tried where trying changes nothing.
pub fn calls() -> Finding {
    let openat2 = openat2(CWD, c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).map(drop);
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).map(drop);
    // A regular descriptor is no mount: EINVAL or EPERM says that the call is there.
    let setattr = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map(|(read, _write)| {
        use std::os::fd::AsFd;
        mount_setattr(read.as_fd(), false, &MountAttr::default())
    });
    let missing: Vec<&str> = [
        ("openat2", openat2 == Err(Errno::NOSYS) || openat2 == Err(Errno::PERM)),
        ("pidfd_open", pidfd == Err(Errno::NOSYS) || pidfd == Err(Errno::PERM)),
        ("mount_setattr", matches!(setattr, Ok(Err(Errno::NOSYS)))),
    ]
    .into_iter()
    .filter_map(|(name, lacks)| lacks.then_some(name))
    .collect();
    let release = release();
    if missing.is_empty() {
        return Finding::good("kernel", format!("{release}, every call that create needs"));
    }
    let cost = "no container can be made";
    let cure = format!("Linux {NEEDED} or newer, and no outer seccomp filter that hides these calls");
    Finding::fails("kernel", format!("{release} without {}", missing.join(", ")), cost, cure)
}

pub fn seccomp() -> Finding {
    let actions = read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let has = |word: &str| actions.split_whitespace().any(|action| action == word);
    if actions.is_empty() {
        let cure = "a kernel with CONFIG_SECCOMP_FILTER";
        return Finding::fails(
            "seccomp",
            "no filters",
            "a config with linux.seccomp, which engines write, fails",
            cure,
        );
    }
    if !has("user_notif") {
        return Finding::costs("seccomp", "filters without user_notif", "SCMP_ACT_NOTIFY fails", "Linux 5.0 or newer");
    }
    Finding::good("seccomp", "filters, notifications")
}

/// How many user namespaces there may be, and who may make one.
pub fn user_namespaces() -> Finding {
    const CHECK: &str = "user namespaces";
    let number = |path: &str| read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match number("/proc/sys/user/max_user_namespaces") {
        None => {
            let cure = "a kernel with CONFIG_USER_NS";
            return Finding::costs(CHECK, "none", "rootless containers and `user` in linux.namespaces fail", cure);
        }
        Some(0) => {
            let cure = "sysctl -w user.max_user_namespaces=15000";
            return Finding::costs(CHECK, "0 allowed", "rootless containers and `user` in linux.namespaces fail", cure);
        }
        Some(_) => {}
    }
    // The first is Debian's own, the second Ubuntu's.
    for (path, bad, cure) in [
        ("/proc/sys/kernel/unprivileged_userns_clone", 0, "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            1,
            "an AppArmor profile for xebec that has `userns,`; or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ] {
        if number(path) == Some(bad) {
            return Finding::costs(CHECK, format!("{path} is {bad}"), "rootless containers fail", cure);
        }
    }
    Finding::good(CHECK, "allowed for all users")
}

pub fn security_modules() -> Finding {
    const CHECK: &str = "security modules";
    let host = crate::host::Host::default();
    let active: Vec<&str> = [("AppArmor", host.apparmor()), ("SELinux", host.selinux())]
        .into_iter()
        .filter_map(|(name, active)| active.then_some(name))
        .collect();
    if active.is_empty() {
        let cost =
            "process.apparmorProfile and process.selinuxLabel fail; others rely on namespaces, capabilities, seccomp";
        return Finding::costs(
            CHECK,
            "neither AppArmor nor SELinux",
            cost,
            "boot with lsm=…,apparmor, where the kernel has it",
        );
    }
    Finding::good(CHECK, active.join(", "))
}
