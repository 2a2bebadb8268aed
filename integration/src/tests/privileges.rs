//! config.md#linux-process: capabilities, limits, no_new_privs, scheduling, LSM labels.

use serde_json::json;

use crate::case::{Group, Outcome, skip};
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
/// Types and the row of /proc/PID/limits, see getrlimit(2) and proc_pid_limits(5).
const LIMITS: &[(&str, &str)] = &[
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_STACK", "Max stack size"),
];

pub fn group() -> Group {
    let mut group = Group::new("privileges", "config.md#linux-process");
    capabilities(&mut group);
    no_new_privileges(&mut group);
    limits(&mut group);
    oom(&mut group);
    labels(&mut group);
    scheduling(&mut group);
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
        group.add(
            format!("without_capabilities_{}_is_empty", set.to_lowercase()),
            move |t| {
                t.set("/process/capabilities", json!({}));
                equal!(set_of(t, set)?, 0, "{set}");
                Ok(())
            },
        );
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
        t.set(
            "/process/capabilities",
            json!({"bounding": ["CAP_CHOWN", "CAP_KILL"]}),
        );
        t.set("/process/noNewPrivileges", json!(false));
        // uid 0 gains at execve whatever the bounding set lets through, capabilities(7).
        equal!(
            set_of(t, "CapEff")?,
            1 | 1 << 5,
            "effective set of root after execve"
        );
        Ok(())
    });
    group.add("an_unknown_capability_is_only_a_warning", |t| {
        t.capabilities(&["CAP_KILL", "CAP_NO_SUCH_THING"]);
        equal!(set_of(t, "CapEff")?, 1 << 5, "effective set");
        Ok(())
    });
    let why = "both peers pass capset's EPERM on; config.md#linux-process: `cannot be granted otherwise MUST be logged as a warning`";
    group.add_beyond_peers(
        why,
        "a_capability_that_the_caller_lacks_is_only_a_warning",
        |t| {
            if has_capability(CAP_SYS_RESOURCE) {
                return skip("requires a caller without CAP_SYS_RESOURCE");
            }
            t.capabilities(&["CAP_KILL", "CAP_SYS_RESOURCE"]);
            equal!(set_of(t, "CapBnd")?, 1 << 5, "bounding set");
            Ok(())
        },
    );
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
            equal!(
                status_field(&out, "NoNewPrivs")?,
                if wanted { "1" } else { "0" },
                "NoNewPrivs"
            );
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

fn limit_row(t: &mut Trial, row: &str) -> Outcome<(String, String)> {
    let out = t.run_sh("cat /proc/self/limits")?;
    let line = out
        .lines()
        .find_map(|line| line.strip_prefix(row))
        .unwrap_or_default();
    let mut words = line.split_whitespace().map(str::to_string);
    Ok((
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    ))
}

fn limits(group: &mut Group) {
    group.citing("config.md#posix-process");
    for (name, row) in LIMITS {
        group.add(format!("{}_is_set", name.to_lowercase()), move |t| {
            let current = std::fs::read_to_string("/proc/self/limits")?;
            let line = current
                .lines()
                .find_map(|line| line.strip_prefix(row))
                .unwrap_or_default();
            let hard = line.split_whitespace().nth(1).unwrap_or_default();
            let ceiling = if hard == "unlimited" {
                u64::MAX
            } else {
                hard.parse()?
            };
            // Lower than what this machine allows, and enough for a shell to live.
            let value = ceiling.min(1 << 30);
            t.set(
                "/process/rlimits",
                json!([{"type": name, "soft": value - value / 4, "hard": value}]),
            );
            equal!(
                limit_row(t, row)?,
                ((value - value / 4).to_string(), value.to_string()),
                "{name}"
            );
            Ok(())
        });
    }
    group.add("rlimit_unlimited_is_understood", |t| {
        let current = std::fs::read_to_string("/proc/self/limits")?;
        if !current
            .lines()
            .any(|line| line.starts_with("Max cpu time") && line.matches("unlimited").count() == 2)
        {
            return skip("requires an unlimited RLIMIT_CPU");
        }
        t.set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": u64::MAX, "hard": u64::MAX}]),
        );
        equal!(
            limit_row(t, "Max cpu time")?,
            ("unlimited".into(), "unlimited".into()),
            "RLIMIT_CPU"
        );
        Ok(())
    });
    group.add("several_rlimits_are_set_together", |t| {
        t.set(
            "/process/rlimits",
            json!([
                {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_NPROC", "soft": 500, "hard": 600},
            ]),
        );
        let out = t.run_sh("ulimit -Sn; ulimit -Hn; ulimit -c")?;
        equal!(out, "100\n200\n0\n", "limits");
        Ok(())
    });
    group.add("without_rlimits_those_of_the_caller_are_kept", |t| {
        t.remove("/process/rlimits");
        t.sh("ulimit -Sn; ulimit -Hn");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let done = t
            .call_after("ulimit -n 777", &["run", "--bundle", &bundle, &id])
            .go()?
            .ok()?;
        equal!(done.stdout, "777\n777\n", "limits");
        Ok(())
    });
    group.add("an_unknown_rlimit_is_refused", |t| {
        t.push(
            "/process/rlimits",
            json!({"type": "RLIMIT_NO_SUCH_THING", "soft": 1, "hard": 1}),
        );
        t.run_refused()?;
        Ok(())
    });
    let why = "both peers accept it; config.md#posix-process: duplicated entries, `the runtime MUST generate an error`";
    group.add_beyond_peers(why, "a_duplicated_rlimit_is_refused", |t| {
        t.push(
            "/process/rlimits",
            json!({"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}),
        );
        t.run_refused()?;
        Ok(())
    });
    group.add("a_soft_limit_above_the_hard_one_is_refused", |t| {
        t.set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]),
        );
        t.run_refused()?;
        Ok(())
    });
    group.add("a_limit_that_may_not_be_raised_is_refused", |t| {
        if has_capability(CAP_SYS_RESOURCE) {
            return skip("requires a caller without CAP_SYS_RESOURCE");
        }
        t.set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 500}]),
        );
        t.sh("echo payload-has-run");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        t.call_after("ulimit -n 200", &["run", "--bundle", &bundle, &id])
            .go()?
            .refused()?;
        Ok(())
    });
}

fn oom(group: &mut Group) {
    group.citing("config.md#linux-process");
    for value in [0, 100, 1000] {
        group.add(format!("oom_score_adj_{value}_is_set"), move |t| {
            t.set("/process/oomScoreAdj", json!(value));
            equal!(
                t.run_sh("cat /proc/self/oom_score_adj")?,
                format!("{value}\n"),
                "oom_score_adj"
            );
            Ok(())
        });
    }
    group.add("oom_score_adj_is_left_alone_when_not_set", |t| {
        t.sh("cat /proc/self/oom_score_adj");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let done = t
            .call_after(
                "echo 321 > /proc/self/oom_score_adj",
                &["run", "--bundle", &bundle, &id],
            )
            .go()?
            .ok()?;
        equal!(done.stdout, "321\n", "oom_score_adj");
        Ok(())
    });
    group.add("an_oom_score_adj_out_of_range_is_refused", |t| {
        t.set("/process/oomScoreAdj", json!(5000));
        t.run_refused()?;
        Ok(())
    });
}

fn labels(group: &mut Group) {
    group.citing("runtime.md#create");
    group.add("an_apparmor_profile_without_apparmor_is_refused", |t| {
        let enabled =
            std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
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
        t.set(
            "/process/selinuxLabel",
            json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675"),
        );
        t.run_refused()?;
        Ok(())
    });
    group.add("a_mount_label_without_selinux_is_refused", |t| {
        if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            return skip("requires a kernel without active SELinux");
        }
        t.set(
            "/linux/mountLabel",
            json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"),
        );
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
    let why = "process.scheduler and ioPriority came with runtime-spec 1.1 and 1.2, after runc 1.1.5 and crun 1.8.1; config.md#linux-process";
    for (policy, number) in [
        ("SCHED_OTHER", "0"),
        ("SCHED_BATCH", "3"),
        ("SCHED_IDLE", "5"),
    ] {
        let body = move |t: &mut Trial| -> Outcome {
            t.set("/process/scheduler", json!({"policy": policy}));
            equal!(
                scheduling_of(t, "1")?.policy,
                number,
                "policy, see sched(7)"
            );
            Ok(())
        };
        let name = policy.to_lowercase();
        if number == "0" {
            group.add(name, body)
        } else {
            group.add_beyond_peers(why, name, body)
        }
    }
    for (policy, number) in [("SCHED_FIFO", "1"), ("SCHED_RR", "2")] {
        group.add_beyond_peers(
            why,
            format!("{}_with_a_priority", policy.to_lowercase()),
            move |t| {
                if !has_capability(CAP_SYS_NICE) {
                    return skip("requires CAP_SYS_NICE");
                }
                t.set(
                    "/process/scheduler",
                    json!({"policy": policy, "priority": 7}),
                );
                let found = scheduling_of(t, "1")?;
                equal!(
                    (found.policy.as_str(), found.priority.as_str()),
                    (number, "7"),
                    "policy and priority"
                );
                Ok(())
            },
        );
    }
    group.add_beyond_peers(why, "scheduler_nice_is_set", |t| {
        t.set(
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 5}),
        );
        equal!(scheduling_of(t, "1")?.nice, "5", "nice value");
        Ok(())
    });
    group.add_beyond_peers(why, "scheduler_reset_on_fork_is_set", |t| {
        if !has_capability(CAP_SYS_NICE) {
            return skip("requires CAP_SYS_NICE");
        }
        t.set(
            "/process/scheduler",
            json!({"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        );
        equal!(scheduling_of(t, "1")?.policy, "1", "policy of the payload");
        equal!(scheduling_of(t, "self")?.policy, "0", "policy of its child");
        Ok(())
    });
    group.add_beyond_peers(why, "an_unknown_scheduler_policy_is_refused", |t| {
        t.set("/process/scheduler", json!({"policy": "SCHED_NO_SUCH"}));
        t.run_refused()?;
        Ok(())
    });
    for (class, priority, shown) in [
        ("IOPRIO_CLASS_BE", 3, "best-effort: prio 3"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
        ("IOPRIO_CLASS_RT", 6, "realtime: prio 6"),
    ] {
        group.add_beyond_peers(
            why,
            format!("io_priority_{}", class[13..].to_lowercase()),
            move |t| {
                t.set(
                    "/process/ioPriority",
                    json!({"class": class, "priority": priority}),
                );
                let out = t.run_sh("ionice -p $$")?;
                ensure!(out.contains(shown), "{out}");
                Ok(())
            },
        );
    }
    group.add_beyond_peers(why, "an_unknown_io_priority_class_is_refused", |t| {
        t.set(
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_NO_SUCH", "priority": 1}),
        );
        t.run_refused()?;
        Ok(())
    });
    group.add("exec_cpu_affinity_does_not_touch_the_first_process", |t| {
        t.set(
            "/process/execCPUAffinity",
            json!({"initial": "0", "final": "0"}),
        );
        let own = std::fs::read_to_string("/proc/self/status")?;
        let out = t.run_sh("cat /proc/self/status")?;
        equal!(
            status_field(&out, "Cpus_allowed_list")?,
            status_field(&own, "Cpus_allowed_list")?,
            "CPUs of init"
        );
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
    Ok(Scheduling {
        nice: field(19),
        priority: field(40),
        policy: field(41),
    })
}
