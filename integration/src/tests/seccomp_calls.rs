//! config-linux.md#seccomp, call by call: a payload makes exactly the calls that a case names, so that
//! every action, operator and gate is seen from where the filter judges.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::Duration;

use nix::libc;
use serde_json::{Value, json};

use crate::call::{Done, eventually};
use crate::case::{Group, Outcome, skip};
use crate::trial::{Trial, status_field};
use crate::{ensure, equal};

/// data/calls.c, built; empty where it cannot be.
const PAYLOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/calls"));
const ALL_BUT_MKDIR: &str = include_str!("../../data/syscalls-without-mkdir.txt");

/// A call that does nothing and, when it is made, fails with EBADF whatever its other arguments are.
const CALL: &str = "lseek";
const MADE: &str = "-9";
const REFUSED: &str = "-1";
/// Numbers that no kernel has.
const UNKNOWN: &str = "5000";

pub fn group() -> Group {
    let mut group = Group::new("seccomp_calls", "config-linux.md#seccomp");
    errno(&mut group);
    kills(&mut group);
    told(&mut group);
    logged(&mut group);
    operators(&mut group);
    rules(&mut group);
    defaults(&mut group);
    other_gates(&mut group);
    unknown(&mut group);
    order(&mut group);
    group
}

/// Puts the payload into the root file system.
pub fn install(t: &Trial) -> Outcome {
    if PAYLOAD.is_empty() {
        return skip("requires a payload for this processor (data/calls.c)");
    }
    let path = t.rootfs().join("calls");
    fs::write(&path, PAYLOAD)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// `run` with the payload.
pub fn run_calls(t: &mut Trial, specs: &[String]) -> Outcome<Done> {
    install(t)?;
    let mut words = vec!["/calls"];
    words.extend(specs.iter().map(String::as_str));
    t.args(&words);
    t.run()
}

/// The payload's lines.
fn calls(t: &mut Trial, specs: &[String]) -> Outcome<Vec<String>> {
    Ok(run_calls(t, specs)?.ok()?.lines().into_iter().map(String::from).collect())
}

/// lseek of a descriptor that is not open, with these further arguments.
pub fn lseek(further: &str) -> String {
    format!("{},1000{further}", libc::SYS_lseek)
}

pub fn getppid() -> String {
    libc::SYS_getppid.to_string()
}

fn architectures() -> Value {
    if cfg!(target_arch = "x86_64") { json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]) } else { json!([]) }
}

/// Everything is allowed but for these rules.
pub fn filter(t: &mut Trial, rules: Value) {
    t.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures(), "syscalls": rules}),
    );
}

/// Everything is refused in this way but what a payload and a runtime's last steps need.
fn refuse_all(t: &mut Trial, action: &str) {
    let allowed: Vec<&str> = ALL_BUT_MKDIR.lines().collect();
    t.set(
        "/linux/seccomp",
        json!({"defaultAction": action, "architectures": architectures(),
               "syscalls": [{"names": allowed, "action": "SCMP_ACT_ALLOW"}]}),
    );
}

fn mkdirat() -> String {
    libc::SYS_mkdirat.to_string()
}

fn errno(group: &mut Group) {
    for (name, rule, expected) in [
        ("errno_without_a_value_is_eperm", json!({"action": "SCMP_ACT_ERRNO"}), "-1"),
        ("errno_ret_is_what_the_call_returns", json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 77}), "-77"),
        ("errno_ret_may_be_the_largest", json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 4094}), "-4094"),
        ("errno_ret_zero_pretends_success", json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}), "0"),
    ] {
        group.add(name, move |t| {
            let mut rule = rule.clone();
            rule["names"] = json!([CALL]);
            filter(t, json!([rule]));
            equal!(calls(t, &[lseek("")])?, [expected], "what lseek returns");
            Ok(())
        });
    }
}

fn kills(group: &mut Group) {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"] {
        group.add(format!("{}_ends_the_thread_alone", action.to_lowercase()), move |t| {
            filter(t, json!([{"names": [CALL], "action": action}]));
            let lines = calls(t, &[format!("thread:{}", lseek("")), getppid()])?;
            equal!(lines, ["thread ended", "0"], "what the process says when its thread is gone");
            Ok(())
        });
    }
    group.add("kill_process_ends_all_threads", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_KILL_PROCESS"}]));
        let lines = calls(t, &[format!("fork:thread:{}", lseek(""))])?;
        equal!(lines, ["signal 31"], "end of a process of which one thread made the call");
        Ok(())
    });
    group.add("kill_of_the_first_process_is_the_containers_end", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_KILL_PROCESS"}]));
        let done = run_calls(t, &[getppid(), lseek(""), getppid()])?;
        equal!((done.code, done.lines()), (Some(159), vec!["0"]), "exit status, 128 + SIGSYS, and output");
        Ok(())
    });
}

fn told(group: &mut Group) {
    group.add("trap_tells_the_handler_the_call", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_TRAP"}]));
        let lines = calls(t, &[format!("trap:{}", lseek(""))])?;
        equal!(lines, [format!("trap {} 0", libc::SYS_lseek), "exit 0".into()], "si_syscall and si_errno");
        Ok(())
    });
    group.add("log_makes_the_call", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_LOG"}]));
        equal!(calls(t, &[lseek("")])?, [MADE], "what lseek returns");
        Ok(())
    });
    group.add("trace_without_a_tracer_is_enosys", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_TRACE"}]));
        equal!(calls(t, &[lseek("")])?, ["-38"], "what lseek returns");
        Ok(())
    });
    group.add("trace_tells_the_tracer", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_TRACE", "errnoRet": 77}]));
        let lines = calls(t, &[format!("traced:{}", lseek(""))])?;
        equal!(lines, ["event 77", MADE, "exit 0"], "PTRACE_EVENT_SECCOMP with errnoRet, then the call");
        Ok(())
    });
    group.add("trace_tells_eperm_without_a_value", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_TRACE"}]));
        let lines = calls(t, &[format!("traced:{}", lseek(""))])?;
        equal!(lines, ["event 1", MADE, "exit 0"], "PTRACE_EVENT_SECCOMP with EPERM, then the call");
        Ok(())
    });
}

/// Calls of which each is judged by one case only: the kernel log is the whole machine's.
const LOGGED: [(&str, &str, libc::c_long); 4] = [
    ("log_makes_the_call_and_a_record", "getpgid", libc::SYS_getpgid),
    ("the_flag_log_makes_a_record_of_an_errno", "getsid", libc::SYS_getsid),
    ("log_makes_the_call_and_a_record, killed", "sched_get_priority_max", libc::SYS_sched_get_priority_max),
    ("the_flag_log_makes_a_record_of_an_errno, killed", "sched_get_priority_min", libc::SYS_sched_get_priority_min),
];

/// Whether the kernel log tells of the payload's call under a rule with this action.
///
/// The kernel limits how many records it writes in a while: asked again until one comes.
fn is_logged(t: &mut Trial, call: (&str, &str, libc::c_long), action: &str, patience: Duration) -> Outcome<bool> {
    let Ok(mut log) = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg") else {
        return skip("requires a readable /dev/kmsg");
    };
    let (_, name, number) = call;
    t.set("/linux/seccomp/syscalls", json!([{"names": [name], "action": action}]));
    let wanted = format!(" syscall={number} ");
    log.seek(SeekFrom::End(0))?;
    let limit = t.limit(patience);
    eventually(limit, || {
        calls(t, &[format!("fork:{number}")])?;
        let mut record = [0u8; 8192];
        while let Ok(length @ 1..) = log.read(&mut record) {
            let text = String::from_utf8_lossy(&record[..length]);
            if text.contains("comm=\"calls\"") && text.contains(&wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

fn logged(group: &mut Group) {
    const PATIENCE: Duration = Duration::from_secs(12);
    let [log, flag, log_killed, flag_killed] = LOGGED;
    // A kill is always logged: where that does not show, nothing would.
    let requires_a_log = |t: &mut Trial, killed| {
        filter(t, json!([]));
        let shown = is_logged(t, killed, "SCMP_ACT_KILL_PROCESS", PATIENCE)?;
        if shown { Ok(()) } else { skip("requires seccomp's records in the kernel log") }
    };
    group.add(log.0, move |t| {
        requires_a_log(t, log_killed)?;
        ensure!(is_logged(t, log, "SCMP_ACT_LOG", PATIENCE)?, "the kernel log has no record of the call");
        Ok(())
    });
    group.add(flag.0, move |t| {
        requires_a_log(t, flag_killed)?;
        t.set("/linux/seccomp/flags", json!([]));
        let early = is_logged(t, flag, "SCMP_ACT_ERRNO", Duration::from_millis(1))?;
        ensure!(!early, "there is a record without the flag");
        t.set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_LOG"]));
        ensure!(is_logged(t, flag, "SCMP_ACT_ERRNO", PATIENCE)?, "the kernel log has no record of the call");
        Ok(())
    });
}

/// Calls of lseek with each offset under one rule: all of the first list are refused, none of the second.
fn compare(t: &mut Trial, rule: Value, refused: &[u64], made: &[u64]) -> Outcome {
    filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO", "args": rule}]));
    let specs: Vec<String> = refused.iter().chain(made).map(|offset| lseek(&format!(",{offset:#x}"))).collect();
    let expected: Vec<&str> = refused.iter().map(|_| REFUSED).chain(made.iter().map(|_| MADE)).collect();
    equal!(calls(t, &specs)?, expected, "what lseek returns for the offsets {refused:x?} and then {made:x?}");
    Ok(())
}

fn operators(group: &mut Group) {
    const HIGH: u64 = 1 << 32;
    let cases: [(&str, u64, u64, &'static [u64], &'static [u64]); 7] = [
        ("EQ", HIGH | 5, 0, &[HIGH | 5], &[5, HIGH | 4, (2 * HIGH) | 5, 0, u64::MAX]),
        ("NE", HIGH | 5, 0, &[5, HIGH | 4, (2 * HIGH) | 5], &[HIGH | 5]),
        ("LT", HIGH, 0, &[0, HIGH - 1], &[HIGH, HIGH + 1, u64::MAX]),
        ("LE", HIGH, 0, &[0, HIGH - 1, HIGH], &[HIGH + 1, u64::MAX]),
        ("GT", HIGH, 0, &[HIGH + 1, u64::MAX], &[0, HIGH - 1, HIGH]),
        ("GE", HIGH, 0, &[HIGH, HIGH + 1, u64::MAX], &[0, HIGH - 1]),
        ("MASKED_EQ", 0xff << 32, 0x12 << 32, &[0x12 << 32, (0x3412 << 32) | 7], &[0x13 << 32, 0x12, 0]),
    ];
    for (op, value, two, refused, made) in cases {
        group.add(format!("{}_compares_all_64_bits", op.to_lowercase()), move |t| {
            if cfg!(not(target_pointer_width = "64")) {
                return skip("requires a 64-bit processor");
            }
            let op = format!("SCMP_CMP_{op}");
            compare(t, json!([{"index": 1, "value": value, "valueTwo": two, "op": op}]), refused, made)
        });
    }
    for index in 0..6 {
        group.add(format!("argument_{index}_can_be_compared"), move |t| {
            let with = |value: u64| {
                let all: Vec<String> = (0..6).map(|i| if i == index { value } else { 1000 }.to_string()).collect();
                format!("{},{}", libc::SYS_lseek, all.join(","))
            };
            filter(
                t,
                json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO",
                              "args": [{"index": index, "value": 1001, "op": "SCMP_CMP_EQ"}]}]),
            );
            equal!(calls(t, &[with(1001), with(1002)])?, [REFUSED, MADE], "equal, and not");
            Ok(())
        });
    }
}

fn rules(group: &mut Group) {
    group.add("all_conditions_of_a_rule_must_hold", |t| {
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO",
                          "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_GE"}, {"index": 2, "value": 1, "op": "SCMP_CMP_EQ"}]}]));
        let specs = [lseek(",10,1"), lseek(",9,1"), lseek(",10,2"), lseek(",9,2")];
        equal!(calls(t, &specs)?, [REFUSED, MADE, MADE, MADE], "both, either, none");
        Ok(())
    });
    group.add("any_of_several_rules_decides", |t| {
        let rule = |value: u64, errno: u64| {
            json!({"names": [CALL], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
                   "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
        };
        filter(t, json!([rule(1, 11), rule(2, 12), rule(3, 13)]));
        let specs = [lseek(",1"), lseek(",2"), lseek(",3"), lseek(",4")];
        equal!(calls(t, &specs)?, ["-11", "-12", "-13", MADE], "what lseek returns");
        Ok(())
    });
    group.add("a_rule_holds_for_all_its_names", |t| {
        filter(t, json!([{"names": [CALL, "getppid", "getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
        let specs = [lseek(""), getppid(), libc::SYS_getpid.to_string(), libc::SYS_getuid.to_string()];
        equal!(calls(t, &specs)?, ["-77", "-77", "-77", "0"], "what the calls return");
        Ok(())
    });
    group.citing("engine contract");
    group.add("conditions_on_one_argument_twice_are_alternatives", |t| {
        let range =
            json!([{"index": 1, "value": 3, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]);
        compare(t, range, &[3, 5], &[4, 6])
    });
    group.add("a_rule_without_conditions_wins", |t| {
        filter(
            t,
            json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO", "errnoRet": 11,
                          "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]},
                         {"names": [CALL], "action": "SCMP_ACT_ERRNO", "errnoRet": 12}]),
        );
        equal!(calls(t, &[lseek(",1"), lseek(",2")])?, ["-12", "-12"], "what lseek returns");
        Ok(())
    });
    group.citing("config-linux.md#seccomp");
}

fn defaults(group: &mut Group) {
    group.add("allow_excepts_from_the_default", |t| {
        refuse_all(t, "SCMP_ACT_ERRNO");
        equal!(calls(t, &[lseek(""), mkdirat()])?, [MADE, REFUSED], "an allowed call and another");
        Ok(())
    });
    group.add("default_errno_ret_is_for_the_default_alone", |t| {
        refuse_all(t, "SCMP_ACT_ERRNO");
        t.set("/linux/seccomp/defaultErrnoRet", json!(77));
        t.push("/linux/seccomp/syscalls", json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78}));
        let mut specs = vec![mkdirat()];
        let mut expected = vec!["-77"];
        if cfg!(target_arch = "x86_64") {
            specs.push("83".into());
            expected.push("-78");
        }
        equal!(calls(t, &specs)?, expected, "mkdirat by the default, mkdir by its rule");
        Ok(())
    });
    for (action, expected) in [
        ("SCMP_ACT_KILL", "signal 31"),
        ("SCMP_ACT_KILL_THREAD", "signal 31"),
        ("SCMP_ACT_KILL_PROCESS", "signal 31"),
        ("SCMP_ACT_TRAP", "signal 31"),
    ] {
        group.add(format!("{}_may_be_the_default", action.to_lowercase()), move |t| {
            refuse_all(t, action);
            equal!(calls(t, &[lseek(""), format!("fork:{}", mkdirat())])?, [MADE, expected], "allowed, and not");
            Ok(())
        });
    }
    for (action, expected) in [("SCMP_ACT_TRACE", "-38"), ("SCMP_ACT_LOG", "-14")] {
        group.add(format!("{}_may_be_the_default", action.to_lowercase()), move |t| {
            refuse_all(t, action);
            equal!(calls(t, &[lseek(""), mkdirat()])?, [MADE, expected], "allowed, and not");
            Ok(())
        });
    }
    for action in ["ALLOW", "KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "LOG"] {
        group.add(format!("an_errno_for_{}_is_refused", action.to_lowercase()), move |t| {
            filter(t, json!([{"names": [CALL], "action": format!("SCMP_ACT_{action}"), "errnoRet": 5}]));
            t.run_refused().map(drop)
        });
    }
}

/// Whether this kernel takes calls of 32-bit programs.
fn require_x86(t: &mut Trial) -> Outcome {
    if cfg!(not(target_arch = "x86_64")) {
        return skip("requires x86_64");
    }
    t.remove("/linux/seccomp");
    match calls(t, &["fork:x86:20".into()])?.last().map(String::as_str) {
        Some("exit 0") => Ok(()),
        _ => skip("requires a kernel with int 0x80 (CONFIG_IA32_EMULATION)"),
    }
}

fn other_gates(group: &mut Group) {
    group.add("a_rule_holds_for_32_bit_calls", |t| {
        require_x86(t)?;
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO"}]));
        // 19 is lseek there, 8 is creat, which is lseek of 64 bits.
        let specs = ["x86:19,1000", "x86:64", "x86:8,0"].map(String::from);
        equal!(calls(t, &specs)?, [REFUSED, "0", "-14"], "lseek, getppid and creat through int 0x80");
        Ok(())
    });
    group.add("arguments_of_32_bit_calls_are_32_bits", |t| {
        require_x86(t)?;
        filter(
            t,
            json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO",
                          "args": [{"index": 1, "value": 0xffff_fff0_u32, "op": "SCMP_CMP_GE"}]}]),
        );
        let specs = ["x86:19,1000,0xfffffff1", "x86:19,1000,0xf0"].map(String::from);
        equal!(calls(t, &specs)?, [REFUSED, MADE], "what lseek returns through int 0x80");
        Ok(())
    });
    group.add("socket_calls_of_32_bit_programs_go_by_their_names", |t| {
        require_x86(t)?;
        filter(t, json!([{"names": ["socket"], "action": "SCMP_ACT_ERRNO"}]));
        // socketcall(2): 1 is socket, 2 bind, their arguments at address 0; 359 is socket itself.
        let specs = ["x86:102,1,0", "x86:102,2,0", "x86:359,1000"].map(String::from);
        equal!(calls(t, &specs)?, [REFUSED, "-14", REFUSED], "socketcall(socket), socketcall(bind), socket");
        Ok(())
    });
    group.citing("engine contract");
    group.add("calls_of_an_unlisted_architecture_kill", |t| {
        require_x86(t)?;
        filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO"}]));
        t.set("/linux/seccomp/architectures", json!(["SCMP_ARCH_X86_64"]));
        let specs = ["fork:x86:20", "fork:0x40000027", "39"].map(String::from);
        let lines = calls(t, &specs)?;
        equal!(lines[..2], ["signal 31", "signal 31"], "getpid of x86, and of x32");
        equal!(lines[2], "1", "getpid of x86_64");
        Ok(())
    });
    group.citing("config-linux.md#seccomp");
}

fn unknown(group: &mut Group) {
    group.citing("engine contract");
    group.add("calls_newer_than_the_profile_are_enosys", |t| {
        refuse_all(t, "SCMP_ACT_ERRNO");
        equal!(calls(t, &[UNKNOWN.into(), mkdirat()])?, ["-38", REFUSED], "an unknown number, and a known call");
        Ok(())
    });
    group.add("calls_newer_than_the_profile_are_enosys_even_where_the_default_kills", |t| {
        refuse_all(t, "SCMP_ACT_KILL_PROCESS");
        let lines = calls(t, &[UNKNOWN.into(), format!("fork:{}", mkdirat())])?;
        equal!(lines, ["-38", "signal 31"], "an unknown number, and a known call");
        Ok(())
    });
    group.add("unknown_names_are_refused_with_the_annotation", |t| {
        filter(t, json!([{"names": ["no_such_call", CALL], "action": "SCMP_ACT_ERRNO"}]));
        equal!(calls(t, &[lseek("")])?, [REFUSED], "lseek beside an unknown name");
        t.set("/annotations/run.oci.seccomp_fail_unknown_syscall", json!("1"));
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("no_such_call"), "the refusal does not name the call: {}", done.stderr);
        Ok(())
    });
    group.citing("config-linux.md#seccomp");
}

fn order(group: &mut Group) {
    /// What a runtime calls to become the configured user.
    const IDENTITY: [&str; 9] =
        ["setuid", "setgid", "setgroups", "setresuid", "setresgid", "setreuid", "setregid", "capset", "chdir"];
    group.add("a_filter_without_the_runtimes_calls_is_loaded_last", |t| {
        t.set("/process/noNewPrivileges", json!(true));
        t.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}));
        filter(t, json!([{"names": IDENTITY, "action": "SCMP_ACT_KILL_PROCESS"}]));
        let specs = [libc::SYS_getuid.to_string(), format!("fork:{},0", libc::SYS_setuid)];
        equal!(calls(t, &specs)?, ["1000", "signal 31"], "uid, and the end of a child that calls setuid");
        Ok(())
    });
    for no_new_privileges in [false, true] {
        group.add(format!("the_right_to_load_does_not_stay_with_no_new_privileges_{no_new_privileges}"), move |t| {
            t.set("/process/noNewPrivileges", json!(no_new_privileges));
            t.capabilities(&["CAP_KILL"]);
            filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO"}]));
            let out = t.run_sh("cat /proc/self/status")?;
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                equal!(status_field(&out, set)?, "0000000000000020", "{set}");
            }
            equal!(status_field(&out, "NoNewPrivs")?, if no_new_privileges { "1" } else { "0" }, "NoNewPrivs");
            equal!(status_field(&out, "Seccomp")?, "2", "seccomp mode");
            equal!(status_field(&out, "Seccomp_filters")?, "1", "number of filters");
            Ok(())
        });
        group.add(format!("another_users_filter_is_loaded_with_no_new_privileges_{no_new_privileges}"), move |t| {
            t.set("/process/noNewPrivileges", json!(no_new_privileges));
            t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
            for set in ["effective", "inheritable", "permitted", "ambient"] {
                t.set(&format!("/process/capabilities/{set}"), json!([]));
            }
            filter(t, json!([{"names": [CALL], "action": "SCMP_ACT_ERRNO"}]));
            equal!(calls(t, &[libc::SYS_getuid.to_string(), lseek("")])?, ["1000", REFUSED], "uid, and lseek");
            Ok(())
        });
    }
}
