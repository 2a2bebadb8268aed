//! config.md#posix-process: rlimits; and oomScoreAdj.

use serde_json::json;

use crate::case::{Group, Outcome, skip};
use crate::equal;
use crate::mode::Mode;
use crate::peers::has_capability;
use crate::trial::Trial;

const CAP_SYS_RESOURCE: u32 = 24;

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
    let mut group = Group::new("limits", "config.md#posix-process");
    limits(&mut group);
    limit_lists(&mut group);
    limits_above(&mut group);
    oom(&mut group);
    group
}

fn limit_row(t: &mut Trial, row: &str) -> Outcome<(String, String)> {
    let out = t.run_sh("cat /proc/self/limits")?;
    let line = out.lines().find_map(|line| line.strip_prefix(row)).unwrap_or_default();
    let mut words = line.split_whitespace().map(str::to_string);
    Ok((words.next().unwrap_or_default(), words.next().unwrap_or_default()))
}

fn limits(group: &mut Group) {
    group.citing("config.md#posix-process");
    for (name, row) in LIMITS {
        group.add(format!("{}_is_set", name.to_lowercase()), move |t| {
            let current = std::fs::read_to_string("/proc/self/limits")?;
            let line = current.lines().find_map(|line| line.strip_prefix(row)).unwrap_or_default();
            let hard = line.split_whitespace().nth(1).unwrap_or_default();
            let ceiling = if hard == "unlimited" { u64::MAX } else { hard.parse()? };
            // Lower than what this machine allows, and enough for a shell to live.
            let value = ceiling.min(1 << 30);
            t.set("/process/rlimits", json!([{"type": name, "soft": value - value / 4, "hard": value}]));
            equal!(limit_row(t, row)?, ((value - value / 4).to_string(), value.to_string()), "{name}");
            Ok(())
        });
    }
    group.add("rlimit_unlimited_is_understood", |t| {
        let current = std::fs::read_to_string("/proc/self/limits")?;
        if !current.lines().any(|line| line.starts_with("Max cpu time") && line.matches("unlimited").count() == 2) {
            return skip("requires an unlimited RLIMIT_CPU");
        }
        t.set("/process/rlimits", json!([{"type": "RLIMIT_CPU", "soft": u64::MAX, "hard": u64::MAX}]));
        equal!(limit_row(t, "Max cpu time")?, ("unlimited".into(), "unlimited".into()), "RLIMIT_CPU");
        Ok(())
    });
}

fn limit_lists(group: &mut Group) {
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
        let done = t.call_after("ulimit -n 777", &["run", "--bundle", &bundle, &id]).go()?.ok()?;
        equal!(done.stdout, "777\n777\n", "limits");
        Ok(())
    });
    group.add("an_unknown_rlimit_is_refused", |t| {
        t.push("/process/rlimits", json!({"type": "RLIMIT_NO_SUCH_THING", "soft": 1, "hard": 1}));
        t.run_refused()?;
        Ok(())
    });
    let why = "both peers accept it; config.md#posix-process: duplicated entries, `the runtime MUST generate an error`";
    group.add_beyond_peers(why, "a_duplicated_rlimit_is_refused", |t| {
        t.push("/process/rlimits", json!({"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_soft_limit_above_the_hard_one_is_refused", |t| {
        t.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]));
        t.run_refused()?;
        Ok(())
    });
}

fn limits_above(group: &mut Group) {
    group.add("a_limit_that_may_not_be_raised_is_refused", |t| {
        if has_capability(CAP_SYS_RESOURCE) {
            return skip("requires a caller without CAP_SYS_RESOURCE");
        }
        t.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 500}]));
        t.sh("echo payload-has-run");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        t.call_after("ulimit -n 200", &["run", "--bundle", &bundle, &id]).go()?.refused()?;
        Ok(())
    });
    group.add("a_hard_limit_is_raised_by_a_caller_that_may", |t| {
        if t.mode == Mode::User || !has_capability(CAP_SYS_RESOURCE) {
            return skip("requires a caller with CAP_SYS_RESOURCE");
        }
        t.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 300, "hard": 500}]));
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        t.call_after("ulimit -n 200", &["create", "--bundle", &bundle, &id]).go()?.ok()?;
        t.start()?;
        let mut of = |process: &str| -> Outcome<Vec<String>> {
            let words = ["exec", &id, "grep", "open files", &format!("/proc/{process}/limits")];
            let said = t.call_after("ulimit -n 200", &words).go()?.ok()?.stdout;
            Ok(said.split_whitespace().skip(3).take(2).map(String::from).collect())
        };
        equal!(of("1")?, ["300", "500"], "limits of init");
        // runc's own language makes the soft one of the hard one.
        equal!(of("self")?[1], "500", "hard limit of what is executed");
        Ok(())
    });
}

fn oom(group: &mut Group) {
    group.citing("config.md#linux-process");
    for value in [0, 100, 1000] {
        group.add(format!("oom_score_adj_{value}_is_set"), move |t| {
            t.set("/process/oomScoreAdj", json!(value));
            equal!(t.run_sh("cat /proc/self/oom_score_adj")?, format!("{value}\n"), "oom_score_adj");
            Ok(())
        });
    }
    // As engines have it for a pod's sandbox and its most important containers, also with a user namespace.
    group.add("oom_score_adj_is_lowered_by_a_caller_that_may", |t| {
        t.set("/process/oomScoreAdj", json!(-998));
        if t.mode == Mode::User || !has_capability(CAP_SYS_RESOURCE) {
            return t.create_with(&[])?.refused().map(drop);
        }
        t.sleeper()?;
        let id = t.id.clone();
        for process in ["1", "self"] {
            let said = t.call(&["exec", &id, "cat", &format!("/proc/{process}/oom_score_adj")]).go()?.ok()?.stdout;
            equal!(said, "-998\n", "oom_score_adj of {process}");
        }
        Ok(())
    });
    group.add("oom_score_adj_is_left_alone_when_not_set", |t| {
        t.sh("cat /proc/self/oom_score_adj");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let done =
            t.call_after("echo 321 > /proc/self/oom_score_adj", &["run", "--bundle", &bundle, &id]).go()?.ok()?;
        equal!(done.stdout, "321\n", "oom_score_adj");
        Ok(())
    });
    group.add("oom_score_adj_is_the_containers_and_not_that_of_run", |t| {
        t.set("/process/oomScoreAdj", json!(700));
        t.sh("cat /proc/self/oom_score_adj > /out/score; sleep 1000");
        let own = std::fs::read_to_string("/proc/self/oom_score_adj")?;
        let live = t.spawn_run(&[])?;
        equal!(t.wait_for_file(t.rootfs().join("out/score"))?, "700\n", "oom_score_adj of the program");
        let of_run = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", live.pid()))?;
        equal!(of_run, own, "oom_score_adj of the runtime");
        t.kill("KILL")?.ok()?;
        equal!(live.wait()?.code, Some(137), "exit status of run");
        Ok(())
    });
    group.add("an_oom_score_adj_out_of_range_is_refused", |t| {
        t.set("/process/oomScoreAdj", json!(5000));
        t.run_refused()?;
        Ok(())
    });
}
