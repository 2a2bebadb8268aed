//! config-linux.md#seccomp: actions, flags, arguments, refusals.

use serde_json::{Value, json};

use crate::case::Group;
use crate::trial::Trial;
use crate::trial::status_field;
use crate::{ensure, equal};

/// Names of system calls, from the kernel's asm/unistd_64.h, without mkdir and mkdirat.
const ALL_BUT_MKDIR: &str = include_str!("../../data/syscalls-without-mkdir.txt");

pub fn group() -> Group {
    let mut group = Group::new("seccomp", "config-linux.md#seccomp");
    seccomp_actions(&mut group);
    seccomp_other_actions(&mut group);
    seccomp_flags(&mut group);
    seccomp_arguments(&mut group);
    seccomp_refusals(&mut group);
    pointers(&mut group);
    group
}

fn filter(t: &mut Trial, rules: Value) {
    let architectures = if cfg!(target_arch = "x86_64") {
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    } else {
        json!([])
    };
    t.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules}),
    );
}

fn seccomp_actions(group: &mut Group) {
    group.add("a_filter_is_loaded", |t| {
        filter(t, json!([{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]));
        let out = t.run_sh("cat /proc/self/status")?;
        equal!(status_field(&out, "Seccomp")?, "2", "seccomp mode");
        Ok(())
    });
    group.add("no_filter_without_the_property", |t| {
        let out = t.run_sh("cat /proc/self/status")?;
        equal!(status_field(&out, "Seccomp")?, "0", "seccomp mode");
        Ok(())
    });
    group.add("errno_is_eperm_by_default", |t| {
        filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
        let out = t.run_sh("mkdir /tmp/x 2>&1; true")?;
        ensure!(out.contains("Operation not permitted"), "{out}");
        Ok(())
    });
    group.add("errno_ret_is_returned", |t| {
        filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]));
        let out = t.run_sh("mkdir /tmp/x 2>&1; true")?;
        ensure!(out.contains("No space left"), "{out}");
        Ok(())
    });
    group.add("default_errno_ret_is_returned", |t| {
        let allowed: Vec<&str> = ALL_BUT_MKDIR.lines().collect();
        t.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 28,
                                       "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}),
        );
        let out = t.run_sh("mkdir /tmp/x 2>&1; true")?;
        ensure!(out.contains("No space left"), "{out}");
        Ok(())
    });
    group.add("kill_process_ends_the_payload", |t| {
        filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]));
        t.sh("mkdir /tmp/x; echo $?");
        equal!(t.run()?.stdout.trim(), "159", "status of the killed child: 128 + SIGSYS");
        Ok(())
    });
}

fn seccomp_other_actions(group: &mut Group) {
    group.add("kill_is_kill_thread", |t| {
        filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}]));
        t.sh("mkdir /tmp/x; echo $?");
        equal!(t.run()?.stdout.trim(), "159", "status of the killed child: 128 + SIGSYS");
        Ok(())
    });
    group.add("trap_raises_sigsys", |t| {
        filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRAP"}]));
        t.sh("mkdir /tmp/x; echo $?");
        equal!(t.run()?.stdout.trim(), "159", "status of the child: 128 + SIGSYS");
        Ok(())
    });
    group.add("log_lets_the_call_through", |t| {
        filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG"}]));
        equal!(t.run_sh("mkdir /tmp/x && echo made")?, "made\n", "output");
        Ok(())
    });
    group.add("an_unknown_system_call_name_is_ignored", |t| {
        filter(t, json!([{"names": ["no_such_call", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
        let out = t.run_sh("mkdir /tmp/x 2>&1; true")?;
        ensure!(out.contains("Operation not permitted"), "{out}");
        Ok(())
    });
    group.add("a_filter_works_without_no_new_privileges", |t| {
        t.set("/process/noNewPrivileges", json!(false));
        filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
        let out = t.run_sh("mkdir /tmp/x 2>&1; cat /proc/self/status")?;
        ensure!(out.contains("Operation not permitted"), "{out}");
        equal!(status_field(&out, "NoNewPrivs")?, "0", "NoNewPrivs");
        Ok(())
    });
}

fn seccomp_flags(group: &mut Group) {
    for flag in ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"] {
        group.add(format!("{}_is_accepted", flag.to_lowercase()), move |t| {
            filter(t, json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
            t.set("/linux/seccomp/flags", json!([flag]));
            let out = t.run_sh("mkdir /tmp/x 2>&1; true")?;
            ensure!(out.contains("Operation not permitted"), "{out}");
            Ok(())
        });
    }
}

fn seccomp_arguments(group: &mut Group) {
    // personality(2) takes one number and changes nothing for 0xffffffff; busybox's `linux32`/`setarch`
    // is not linked, so `kill -N PID`'s second argument serves: kill(own pid, N).
    for (op, value, two, blocked, free) in [
        ("SCMP_CMP_EQ", 10, 0, 10, 12),
        ("SCMP_CMP_NE", 12, 0, 10, 12),
        ("SCMP_CMP_LT", 12, 0, 10, 12),
        ("SCMP_CMP_LE", 10, 0, 10, 12),
        ("SCMP_CMP_GT", 10, 0, 12, 10),
        ("SCMP_CMP_GE", 12, 0, 12, 10),
        ("SCMP_CMP_MASKED_EQ", 2, 2, 10, 12),
    ] {
        group.add(format!("{}_compares_an_argument", op.to_lowercase()), move |t| {
            filter(t, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO",
                              "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]}]));
            let script = format!(
                "trap : 10 12; kill -{blocked} $$ 2>/dev/null && echo blocked-went-through; kill -{free} $$ && echo free-went-through"
            );
            equal!(t.run_sh(&script)?, "free-went-through\n", "calls that went through");
            Ok(())
        });
    }
}

fn seccomp_refusals(group: &mut Group) {
    group.add("an_unknown_action_is_refused", |t| {
        filter(t, json!([{"names": ["mkdir"], "action": "SCMP_ACT_NO_SUCH"}]));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_unknown_operator_is_refused", |t| {
        filter(t, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_NO_SUCH"}]}]));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_unknown_default_action_is_refused", |t| {
        t.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NO_SUCH"}));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_unknown_architecture_is_refused", |t| {
        filter(t, json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        t.set("/linux/seccomp/architectures", json!(["SCMP_ARCH_NO_SUCH"]));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_unknown_flag_is_refused", |t| {
        filter(t, json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        t.set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_NO_SUCH"]));
        t.run_refused()?;
        Ok(())
    });
    group.add("notify_without_a_listener_is_refused", |t| {
        filter(t, json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_argument_index_above_5_is_refused", |t| {
        filter(t, json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]));
        t.run_refused()?;
        Ok(())
    });
}

/// What is wrong, by its place in config.json.
fn pointers(group: &mut Group) {
    const WORDS: &str = "the peers' errors name no place; config-linux.md#seccomp gives each property its values";
    let personality = |action: &str| json!({"names": ["personality"], "action": action, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]});
    let argument = |index: u32, op: &str| json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": index, "value": 1, "op": op}]}]);
    let cases = [
        (
            "action",
            json!([{"names": ["mkdir"], "action": "SCMP_ACT_NO_SUCH"}]),
            ["/syscalls/0/action", "SCMP_ACT_NO_SUCH"],
        ),
        ("operator", argument(1, "SCMP_CMP_NO_SUCH"), ["/syscalls/0/args/0/op", "SCMP_CMP_NO_SUCH"]),
        ("argument_index", argument(6, "SCMP_CMP_EQ"), ["/syscalls/0/args/0/index", "6"]),
        (
            "errno_without_meaning",
            json!([{"names": ["mkdir"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]),
            ["/syscalls/0/errnoRet", "SCMP_ACT_KILL"],
        ),
        (
            "contradiction",
            json!([personality("SCMP_ACT_ERRNO"), personality("SCMP_ACT_KILL")]),
            ["/syscalls/0", "/syscalls/1"],
        ),
    ];
    for (name, rules, words) in cases {
        group.add_beyond_peers(WORDS, format!("a_wrong_{name}_is_named_with_its_place"), move |t| {
            filter(t, rules.clone());
            let done = t.run_refused()?;
            for word in words {
                ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
            }
            Ok(())
        });
    }
    group.add_beyond_peers(WORDS, "a_wrong_architecture_is_named_with_its_place", |t| {
        filter(t, json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        t.set("/linux/seccomp/architectures", json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_NO_SUCH"]));
        let done = t.run_refused()?;
        for word in ["/architectures/1", "SCMP_ARCH_NO_SUCH"] {
            ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
        }
        Ok(())
    });
    group.add_beyond_peers(WORDS, "a_filter_that_is_too_long_is_refused_with_the_number_above_the_limit", |t| {
        // Six bounds for each call, no two alike.
        let condition = |call: usize, index: usize| {
            let value = ((call as u64) << 36) | ((index as u64) << 33) | 0x1234_5678;
            json!({"index": index, "value": value, "op": "SCMP_CMP_GE"})
        };
        let rule = |(call, name): (usize, &str)| {
            let args: Vec<Value> = (0..6).map(|index| condition(call, index)).collect();
            json!({"names": [name], "action": "SCMP_ACT_ERRNO", "args": args})
        };
        let rules: Vec<Value> = ALL_BUT_MKDIR.lines().enumerate().map(rule).collect();
        filter(t, json!(rules));
        let done = t.run_refused()?;
        let number = |word: &str| word.parse::<u32>().ok();
        let numbers: Vec<u32> = done.stderr.split(|c: char| !c.is_ascii_digit()).filter_map(number).collect();
        let found = numbers.windows(3).any(|three| three[0] == three[1] + 4096 && three[2] == 4096);
        ensure!(found, "length, excess and limit are not in: {}", done.stderr);
        Ok(())
    });
}
