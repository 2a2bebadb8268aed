//! The pure table from (item, call, errno) to a cure, for where the errno alone misleads.

use rustix::io::Errno;

/// The cure for a failed call, where one is known.
///
/// `item` is the config item (`mounts[3] /data`), `call` the call as written.
pub fn for_call(item: &str, call: &str, errno: Errno) -> Option<&'static str> {
    let name = call.split('(').next().unwrap_or(call);
    Some(match (name, errno) {
        ("open_tree", Errno::NOENT) if item.starts_with("mounts") => "the bind source must exist before create",
        ("write", Errno::ACCESS) if item == "process.oomScoreAdj" => {
            "lowering it takes CAP_SYS_RESOURCE in the runtime"
        }
        ("prlimit", Errno::PERM) => "raising a hard limit takes CAP_SYS_RESOURCE in the runtime",
        ("open_tree", Errno::INVAL) if item.starts_with("mounts") => {
            "in a user namespace what is mounted below a source cannot be left out: use rbind"
        }
        ("open_tree", Errno::NOENT) if item.contains("device") => {
            "in a user namespace a device is bound from the host's node of the same path, and there is none"
        }
        ("open_tree", Errno::ACCESS) if item.starts_with("mounts") => {
            "the container's root must be able to search every directory above the source"
        }
        ("fsopen" | "fsconfig" | "fsmount", Errno::PERM) if call.contains("(\"proc\"") => {
            "in a user namespace a new /proc takes a PID namespace of the container's own, and a /proc of the runtime's that nothing is mounted over (an outer container masks paths there); otherwise bind /proc"
        }
        ("fsopen" | "fsconfig" | "fsmount", Errno::PERM) if call.contains("(\"sysfs\"") => {
            "in a user namespace a new /sys takes a network namespace of the container's own, and a /sys of the runtime's that nothing is mounted over; otherwise bind /sys"
        }
        ("fsopen" | "fsconfig" | "fsmount", Errno::PERM) => {
            "in a user namespace only some file systems can be mounted, and only over namespaces of its own"
        }
        ("mount_setattr", Errno::PERM) if item.starts_with("mounts") => {
            "flags of a mount from outside are locked in a user namespace (mount_namespaces(7))"
        }
        ("setns" | "unshare", _) if item.starts_with("mount namespace ") => {
            "make it anew: xebec mountns unpin, then xebec mountns pin"
        }
        ("setns", Errno::PERM) => {
            "joining takes CAP_SYS_ADMIN in the user namespace that owns it: join that one by its path too, or run as root"
        }
        ("clone3", Errno::NOSPC) => "a limit in /proc/sys/user/max_*_namespaces is reached",
        ("clone3", Errno::AGAIN) => "the limit of processes (ulimit -u, pids.max, kernel.pid_max) is reached",
        ("clone3", Errno::ACCESS) => {
            "only root moves a process between cgroups whose common one above is not the user's; from a login session: systemd-run --user --scope xebec …"
        }
        ("clone3", Errno::BUSY) => {
            "the cgroup has controllers enabled for its children, so it cannot hold processes itself"
        }
        ("mkdir", Errno::ROFS) if item == "cgroup" => {
            "cgroups are mounted read-only here, as in most containers: --rootless true goes without one where no limit is asked for"
        }
        ("fsopen", Errno::NODEV) => "the kernel does not know this file system type; is its module loaded?",
        ("seccomp", Errno::ACCESS) => {
            "without noNewPrivileges loading a filter takes CAP_SYS_ADMIN; set process.noNewPrivileges"
        }
        ("keyctl", Errno::PERM) => "an outer seccomp filter refuses keyrings; --no-new-keyring goes without one",
        ("sched_setattr", Errno::PERM) => {
            "a real-time policy takes CAP_SYS_NICE, and on cgroup v1 with CONFIG_RT_GROUP_SCHED linux.resources.cpu.realtimeRuntime"
        }
        ("faccessat", Errno::ACCESS) => "it must be a regular file that this user may execute (chmod +x)",
        ("openat", Errno::NOENT | Errno::NOTDIR) if item.starts_with("root.path") => {
            "root.path must name a directory, absolute or relative to the bundle"
        }
        ("openat2", Errno::LOOP) if item.starts_with("process.cwd") => {
            "a path through /proc/self/fd or another magic link leads out of the container and is refused"
        }
        ("execve", Errno::NOEXEC) => "the file is neither a program for this machine nor a script with a #! line",
        ("execve", Errno::NOENT) => "the file is there, but its interpreter (the #! line or the ELF loader) is not",
        ("RTM_GETLINK", Errno::NODEV) => "the interface must be in the runtime's network namespace; see ip link",
        ("RTM_NEWLINK", Errno::EXIST) => "the name is taken there; choose another, or a template such as eth%d",
        ("RTM_NEWLINK", Errno::PERM) => "moving an interface takes CAP_NET_ADMIN over both network namespaces",
        ("RTM_NEWLINK", Errno::INVAL) => "some interfaces, lo among them, cannot leave their network namespace",
        (_, Errno::ROFS) if call.contains("mkdirat") => "the mount point must exist where the file system is read-only",
        _ => return None,
    })
}
