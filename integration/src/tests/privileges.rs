//! config.md#linux-process: capabilities, no_new_privs, scheduling, LSM labels.

use serde_json::json;

use crate::case::{Group, Outcome, skip};
use crate::options::View;
use crate::peers::has_capability;
use crate::trial::{Trial, status_field};
use crate::{ensure, equal};

const CAP_SYS_RESOURCE: u32 = 24;
const CAP_SYS_NICE: u32 = 23;

/// Names and numbers from capabilities(7).
const CAPABILITIES: &[(&str, u32)] = &[
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_SETUID", 7),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_WAKE_ALARM", 35),
    ("CAP_AUDIT_READ", 37),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
    ("CAP_CHECKPOINT_RESTORE", 40),
];
const NEWER_THAN_PEERS: &str = "process.scheduler and ioPriority came with runtime-spec 1.1 and 1.2, after runc 1.1.5 and crun 1.8.1; config.md#linux-process";

pub fn group() -> Group {
    let mut group = Group::new("privileges", "config.md#linux-process");
    capabilities(&mut group);
    capability_warnings(&mut group);
    no_new_privileges(&mut group);
    labels(&mut group);
    scheduling(&mut group);
    io_priority(&mut group);
    exec_affinity(&mut group);
    group
}

fn mask(text: &str, set: &str) -> Outcome<u64> {
    Ok(u64::from_str_radix(status_field(text, set)?, 16)?)
}

fn set_of(t: &mut Trial, set: &str) -> Outcome<u64> {
    mask(&t.run_sh("cat /proc/self/status")?, set)
}

fn capabilities(group: &mut Group) {
    for (name, number) in CAPABILITIES {
        group.add(format!("{}_is_granted", name.to_lowercase()), move |t| {
            t.capabilities(&[name]);
            let out = t.run_sh("cat /proc/self/status")?;
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                equal!(mask(&out, set)?, 1u64 << number, "{set}");
            }
            Ok(())
        });
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        group.add(format!("without_capabilities_{}_is_empty", set.to_lowercase()), move |t| {
            t.set("/process/capabilities", json!({}));
            equal!(set_of(t, set)?, 0, "{set}");
            Ok(())
        });
    }
    group.add("the_five_sets_are_told_apart", |t| {
        let list = |names: &[&str]| json!(names);
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        t.set(
            "/process/capabilities",
            json!({
                "bounding": list(&["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"]),
                "permitted": list(&["CAP_CHOWN", "CAP_KILL"]),
                "inheritable": list(&["CAP_CHOWN"]),
                "effective": list(&["CAP_CHOWN"]),
                "ambient": list(&["CAP_CHOWN"]),
            }),
        );
        let out = t.run_sh("cat /proc/self/status")?;
        equal!(mask(&out, "CapBnd")?, 1 | 1 << 5 | 1 << 7, "bounding set");
        equal!(mask(&out, "CapInh")?, 1, "inheritable set");
        equal!(mask(&out, "CapAmb")?, 1, "ambient set");
        // Not root: after execve permitted and effective are what is ambient.
        equal!(mask(&out, "CapPrm")?, 1, "permitted set");
        equal!(mask(&out, "CapEff")?, 1, "effective set");
        Ok(())
    });
    group.add("the_bounding_set_is_a_ceiling_for_root", |t| {
        t.set("/process/capabilities", json!({"bounding": ["CAP_CHOWN", "CAP_KILL"]}));
        t.set("/process/noNewPrivileges", json!(false));
        // uid 0 gains at execve whatever the bounding set lets through, capabilities(7).
        equal!(set_of(t, "CapEff")?, 1 | 1 << 5, "effective set of root after execve");
        Ok(())
    });
}

fn capability_warnings(group: &mut Group) {
    group.add("an_unknown_capability_is_only_a_warning", |t| {
        t.capabilities(&["CAP_KILL", "CAP_NO_SUCH_THING"]);
        equal!(set_of(t, "CapEff")?, 1 << 5, "effective set");
        Ok(())
    });
    let why = "both peers pass capset's EPERM on; config.md#linux-process: `cannot be granted otherwise MUST be logged as a warning`";
    group.add_beyond_peers(why, "a_capability_that_the_caller_lacks_is_only_a_warning", |t| {
        if has_capability(CAP_SYS_RESOURCE) {
            return skip("requires a caller without CAP_SYS_RESOURCE");
        }
        t.capabilities(&["CAP_KILL", "CAP_SYS_RESOURCE"]);
        equal!(set_of(t, "CapBnd")?, 1 << 5, "bounding set");
        Ok(())
    });
    group.add("an_ambient_capability_that_is_not_inheritable_is_not_granted", |t| {
        t.set("/process/capabilities", json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]}));
        t.sh("cat /proc/self/status");
        let done = t.run()?;
        // The kernel refuses it, capabilities(7); the runtime may refuse, warn or drop.
        if done.succeeded() {
            equal!(mask(&done.stdout, "CapAmb")?, 0, "ambient set");
        }
        Ok(())
    });
}

fn no_new_privileges(group: &mut Group) {
    for wanted in [true, false] {
        group.add(format!("no_new_privileges_{wanted}"), move |t| {
            t.set("/process/noNewPrivileges", json!(wanted));
            let out = t.run_sh("cat /proc/self/status")?;
            equal!(status_field(&out, "NoNewPrivs")?, if wanted { "1" } else { "0" }, "NoNewPrivs");
            Ok(())
        });
    }
    group.add("no_new_privileges_is_off_by_default", |t| {
        t.remove("/process/noNewPrivileges");
        let out = t.run_sh("cat /proc/self/status")?;
        equal!(status_field(&out, "NoNewPrivs")?, "0", "NoNewPrivs");
        Ok(())
    });
}

fn labels(group: &mut Group) {
    group.citing("runtime.md#create");
    group.add("an_apparmor_profile_without_apparmor_is_refused", |t| {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        if enabled.starts_with('Y') {
            return skip("requires a kernel without active AppArmor");
        }
        t.set("/process/apparmorProfile", json!("no-such-profile"));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_selinux_label_without_selinux_is_refused", |t| {
        if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            return skip("requires a kernel without active SELinux");
        }
        t.set("/process/selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675"));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_mount_label_without_selinux_is_refused", |t| {
        if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            return skip("requires a kernel without active SELinux");
        }
        t.set("/linux/mountLabel", json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"));
        t.run_refused()?;
        Ok(())
    });
    group.add("empty_labels_ask_for_nothing", |t| {
        t.set("/process/apparmorProfile", json!(""));
        t.set("/process/selinuxLabel", json!(""));
        t.set("/linux/mountLabel", json!(""));
        t.run_sh("true")?;
        Ok(())
    });
}

fn scheduling(group: &mut Group) {
    group.citing("config.md#linux-process");
    for (policy, number) in [("SCHED_OTHER", "0"), ("SCHED_BATCH", "3"), ("SCHED_IDLE", "5")] {
        let body = move |t: &mut Trial| -> Outcome {
            t.set("/process/scheduler", json!({"policy": policy}));
            equal!(scheduling_of(t, "1")?.policy, number, "policy, see sched(7)");
            Ok(())
        };
        let name = policy.to_lowercase();
        if number == "0" { group.add(name, body) } else { group.add_beyond_peers(NEWER_THAN_PEERS, name, body) }
    }
    for (policy, number) in [("SCHED_FIFO", "1"), ("SCHED_RR", "2")] {
        group.add_beyond_peers(NEWER_THAN_PEERS, format!("{}_with_a_priority", policy.to_lowercase()), move |t| {
            requires_real_time(t)?;
            t.set("/process/scheduler", json!({"policy": policy, "priority": 7}));
            let found = scheduling_of(t, "1")?;
            equal!((found.policy.as_str(), found.priority.as_str()), (number, "7"), "policy and priority");
            Ok(())
        });
    }
    group.add_beyond_peers(NEWER_THAN_PEERS, "scheduler_nice_is_set", |t| {
        t.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 5}));
        equal!(scheduling_of(t, "1")?.nice, "5", "nice value");
        Ok(())
    });
}

/// A real-time policy takes CAP_SYS_NICE; and in a cgroup v1 `cpu` hierarchy of a kernel
/// with CONFIG_RT_GROUP_SCHED a new cgroup has no real-time budget.
fn requires_real_time(t: &Trial) -> Outcome {
    if !has_capability(CAP_SYS_NICE) {
        return skip("requires CAP_SYS_NICE");
    }
    if t.view == View::Host && std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        return skip("requires a cpu hierarchy without real-time budgets");
    }
    Ok(())
}

fn io_priority(group: &mut Group) {
    group.add_beyond_peers(NEWER_THAN_PEERS, "scheduler_reset_on_fork_is_set", |t| {
        requires_real_time(t)?;
        t.set(
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        );
        equal!(scheduling_of(t, "1")?.policy, "1", "policy of the payload");
        equal!(scheduling_of(t, "self")?.policy, "0", "policy of its child");
        Ok(())
    });
    group.add_beyond_peers(NEWER_THAN_PEERS, "an_unknown_scheduler_policy_is_refused", |t| {
        t.set("/process/scheduler", json!({"policy": "SCHED_NO_SUCH"}));
        t.run_refused()?;
        Ok(())
    });
    for (class, priority, shown) in [
        ("IOPRIO_CLASS_BE", 3, "best-effort: prio 3"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
        ("IOPRIO_CLASS_RT", 6, "realtime: prio 6"),
    ] {
        group.add_beyond_peers(NEWER_THAN_PEERS, format!("io_priority_{}", class[13..].to_lowercase()), move |t| {
            t.set("/process/ioPriority", json!({"class": class, "priority": priority}));
            let out = t.run_sh("ionice -p $$")?;
            ensure!(out.contains(shown), "{out}");
            Ok(())
        });
    }
    group.add_beyond_peers(NEWER_THAN_PEERS, "an_unknown_io_priority_class_is_refused", |t| {
        t.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_NO_SUCH", "priority": 1}));
        t.run_refused()?;
        Ok(())
    });
}

fn exec_affinity(group: &mut Group) {
    group.add("exec_cpu_affinity_does_not_touch_the_first_process", |t| {
        t.set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
        let own = std::fs::read_to_string("/proc/self/status")?;
        let out = t.run_sh("cat /proc/self/status")?;
        equal!(status_field(&out, "Cpus_allowed_list")?, status_field(&own, "Cpus_allowed_list")?, "CPUs of init");
        Ok(())
    });
}

/// Fields 19, 40 and 41 of /proc/PID/stat, see proc_pid_stat(5).
struct Scheduling {
    nice: String,
    priority: String,
    policy: String,
}

fn scheduling_of(t: &mut Trial, process: &str) -> Outcome<Scheduling> {
    let out = t.run_sh(&format!("cat /proc/{process}/stat; true"))?;
    let words: Vec<&str> = out.split_whitespace().collect();
    let field = |number: usize| words.get(number - 1).unwrap_or(&"").to_string();
    Ok(Scheduling { nice: field(19), priority: field(40), policy: field(41) })
}
