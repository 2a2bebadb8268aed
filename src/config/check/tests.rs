//! One test a rule: what is refused or warned of, in its exact words, and the
//! nearest neighbour that is accepted in silence.

use serde_json::{Value, json};

use super::*;
use crate::config::{parse_config, parse_process, parse_resources};

/// A small valid config with `changes` put in at their JSON pointers.
fn with(changes: &[(&str, Value)]) -> String {
    let mut config = json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"]},
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}
        ]},
    });
    for (pointer, value) in changes {
        let mut at = &mut config;
        for step in pointer.split('/').skip(1) {
            at = match at {
                Value::Array(list) => &mut list[step.parse::<usize>().expect("index")],
                other => &mut other[step],
            };
        }
        *at = value.clone();
    }
    config.to_string()
}

fn judge(changes: &[(&str, Value)]) -> (Vec<String>, Vec<String>) {
    let text = with(changes);
    let config = parse_config("c", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let (findings, warnings) = check(&config);
    (findings.iter().map(ToString::to_string).collect(), warnings.iter().map(ToString::to_string).collect())
}

/// Exactly these findings and no warning.
#[track_caller]
fn bad(changes: &[(&str, Value)], findings: &[&str]) {
    assert_eq!(judge(changes), (findings.iter().map(|f| (*f).to_owned()).collect(), vec![]));
}

/// Exactly these warnings and no finding.
#[track_caller]
fn odd(changes: &[(&str, Value)], warnings: &[&str]) {
    assert_eq!(judge(changes), (vec![], warnings.iter().map(|w| (*w).to_owned()).collect()));
}

/// Neither a finding nor a warning.
#[track_caller]
fn good(changes: &[(&str, Value)]) {
    assert_eq!(judge(changes), (vec![], vec![]));
}

#[test]
fn the_version_is_semver_and_of_major_version_1() {
    for version in ["1.0.0", "1.0.2-dev", "1.1.0-rc.2", "1.3.0", "1.0.0-rc5-dev+x.1"] {
        good(&[("/ociVersion", json!(version))]);
    }
    odd(
        &[("/ociVersion", json!("1.4.1"))],
        &["/ociVersion: 1.4.1 is newer than 1.3.0: properties added since are ignored"],
    );
    for version in ["0.5.0-dev", "2.0.0"] {
        bad(&[("/ociVersion", json!(version))], &[&format!("/ociVersion: {version:?} found, version 1 expected")]);
    }
    for version in ["", "1", "1.0", "1.0.x", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-a..b", "1.0.0+", "+1.0.0"]
    {
        let expected = format!("/ociVersion: {version:?} found, a version (SemVer 2.0.0) such as \"1.3.0\" expected");
        bad(&[("/ociVersion", json!(version))], &[&expected]);
    }
}

#[test]
fn a_root_with_a_path_is_required() {
    bad(&[("/root", json!(null))], &["/root: required, an object was expected"]);
    bad(&[("/root/path", json!(""))], &["/root/path: \"\" found, a path expected"]);
    bad(&[("/root/path", json!("a\0b"))], &["/root/path: \"a\\0b\" found, a string without NUL expected"]);
    good(&[("/root/path", json!("/"))]);
}

#[test]
fn a_process_is_required_with_a_program_and_an_absolute_cwd() {
    bad(&[("/process", json!(null))], &["/process: required, an object was expected"]);
    bad(&[("/process/args", json!(null))], &["/process/args: at least one entry is required"]);
    bad(&[("/process/args", json!(["", "x"]))], &["/process/args/0: \"\" found, a program expected"]);
    good(&[("/process/args", json!(["x", ""]))]);
    bad(&[("/process/cwd", json!(""))], &["/process/cwd: \"\" found, an absolute path expected"]);
    bad(&[("/process/cwd", json!("tmp"))], &["/process/cwd: \"tmp\" found, an absolute path expected"]);
}

#[test]
fn no_nul_in_what_becomes_a_c_string() {
    let nul = || json!("/\0");
    let places = [
        "/process/cwd",
        "/process/args",
        "/process/apparmorProfile",
        "/process/selinuxLabel",
        "/hostname",
        "/domainname",
        "/linux/cgroupsPath",
        "/linux/mountLabel",
    ];
    for place in places {
        let (value, at) = match place {
            "/process/args" => (json!(["sh", "/\0"]), "/process/args/1"),
            _ => (nul(), place),
        };
        bad(&[(place, value)], &[&format!("{at}: \"/\\0\" found, a string without NUL expected")]);
    }
    let mount = json!([{"destination": "/\0", "type": "/\0", "source": "/\0", "options": ["/\0"]}]);
    let (findings, _) = judge(&[("/mounts", mount)]);
    let expected = ["destination", "type", "source", "options/0"]
        .map(|at| format!("/mounts/0/{at}: \"/\\0\" found, a string without NUL expected"));
    assert_eq!(findings, expected);
}

#[test]
fn the_environment_passes_with_a_warning_where_it_is_odd() {
    good(&[("/process/env", json!(["A=", "A=b=c", "PATH=/bin"]))]);
    odd(
        &[("/process/env", json!(["A", "=x"]))],
        &[
            "/process/env/0: \"A\" is not of the form NAME=VALUE; it is passed on as it is",
            "/process/env/1: \"=x\" is not of the form NAME=VALUE; it is passed on as it is",
        ],
    );
    bad(&[("/process/env", json!(["A=\0"]))], &["/process/env/0: \"A=\\0\" found, a string without NUL expected"]);
}

#[test]
fn ids_and_umask_have_their_ranges() {
    good(&[("/process/user", json!({"uid": 4294967294u32, "gid": 0, "umask": 511, "additionalGids": [0]}))]);
    bad(
        &[("/process/user", json!({"uid": u32::MAX, "gid": u32::MAX, "umask": 512, "additionalGids": [1, u32::MAX]}))],
        &[
            "/process/user/uid: 4294967295 found, which is no id (it is -1 to the kernel)",
            "/process/user/gid: 4294967295 found, which is no id (it is -1 to the kernel)",
            "/process/user/additionalGids/1: 4294967295 found, which is no id (it is -1 to the kernel)",
            "/process/user/umask: 512 found, at most 511 (octal 777) expected",
        ],
    );
}

#[test]
fn a_capability_that_is_unknown_or_cannot_be_granted_is_a_warning() {
    let all = json!(["CAP_KILL", "CAP_BPF"]);
    good(&[(
        "/process/capabilities",
        json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all}),
    )]);
    odd(
        &[("/process/capabilities", json!({"bounding": ["CAP_FLY", "CAP_KILL", "kill"]}))],
        &["/process/capabilities/bounding: \"CAP_FLY\", \"kill\": ignored, not known to xebec"],
    );
    odd(
        &[(
            "/process/capabilities",
            json!({"effective": ["CAP_KILL"], "permitted": ["CAP_BPF"], "ambient": ["CAP_BPF"]}),
        )],
        &[
            "/process/capabilities/effective: \"CAP_KILL\": ignored, not permitted",
            "/process/capabilities/ambient: \"CAP_BPF\": ignored, not both permitted and inheritable",
        ],
    );
}

#[test]
fn rlimits_are_known_single_and_soft_up_to_hard() {
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    good(&[("/process/rlimits", json!([limit("RLIMIT_CORE", 0, u64::MAX), limit("RLIMIT_NOFILE", 8, 8)]))]);
    bad(
        &[(
            "/process/rlimits",
            json!([limit("RLIMIT_CORE", 2, 1), limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CORE", 1, 1)]),
        )],
        &[
            "/process/rlimits/0/soft: 2 found, at most the hard limit 1 expected",
            "/process/rlimits/2/type: \"RLIMIT_CORE\" is given twice",
        ],
    );
    let (findings, _) = judge(&[("/process/rlimits", json!([limit("RLIMIT_FOO", 1, 1)]))]);
    assert!(findings[0].starts_with("/process/rlimits/0/type: \"RLIMIT_FOO\" found, one of RLIMIT_AS, RLIMIT_CORE,"));
}

#[test]
fn the_console_size_counts_only_with_a_terminal() {
    let size = json!({"height": 65536, "width": 80});
    good(&[("/process/consoleSize", size.clone())]);
    bad(
        &[("/process/consoleSize", size), ("/process/terminal", json!(true))],
        &["/process/consoleSize/height: 65536 found, at most 65535 expected"],
    );
}

#[test]
fn oom_score_adj_is_within_a_thousand() {
    for value in [-1000, 0, 1000] {
        good(&[("/process/oomScoreAdj", json!(value))]);
    }
    for value in [-1001, 1001] {
        let expected = format!("/process/oomScoreAdj: {value} found, -1000 to 1000 expected");
        bad(&[("/process/oomScoreAdj", json!(value))], &[&expected]);
    }
}

#[test]
fn a_scheduler_fits_its_policy() {
    let at = "/process/scheduler";
    good(&[(at, json!({"policy": "SCHED_OTHER", "nice": -20}))]);
    good(&[(at, json!({"policy": "SCHED_FIFO", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}))]);
    good(&[(at, json!({"policy": "SCHED_RR", "flags": ["SCHED_FLAG_KEEP_PARAMS"]}))]);
    good(&[(at, json!({"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2048}))]);
    bad(
        &[(at, json!({"policy": "SCHED_BATCH", "nice": 20, "priority": 1, "runtime": 5}))],
        &[
            "/process/scheduler/nice: 20 found, -20 to 19 expected",
            "/process/scheduler/priority: 1 found, 0 expected with SCHED_BATCH",
            "/process/scheduler/runtime: belongs to SCHED_DEADLINE, not to SCHED_BATCH",
        ],
    );
    for priority in [0, 100] {
        let expected = format!("/process/scheduler/priority: {priority} found, 1 to 99 expected with SCHED_FIFO");
        bad(&[(at, json!({"policy": "SCHED_FIFO", "priority": priority}))], &[&expected]);
    }
    bad(
        &[(at, json!({"policy": "SCHED_DEADLINE", "runtime": 1023, "deadline": 30, "period": 20}))],
        &[
            "/process/scheduler/runtime: 1023 found, 1024 ns to the deadline (30 ns) expected",
            "/process/scheduler/deadline: 30 found, 1 ns to the period (20 ns) expected",
        ],
    );
    bad(
        &[(at, json!({"policy": "SCHED_ISO"}))],
        &["/process/scheduler/policy: SCHED_ISO is reserved by Linux and was never implemented"],
    );
    bad(
        &[(at, json!({"policy": "SCHED_X", "flags": ["F"]}))],
        &[
            "/process/scheduler/policy: \"SCHED_X\" found, one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, \
             SCHED_IDLE, SCHED_DEADLINE expected",
            "/process/scheduler/flags/0: \"F\" found, one of SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, \
             SCHED_FLAG_DL_OVERRUN, SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, \
             SCHED_FLAG_UTIL_CLAMP_MAX expected",
        ],
    );
}

#[test]
fn an_io_priority_is_of_a_class_and_0_to_7() {
    good(&[("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 7}))]);
    bad(
        &[("/process/ioPriority", json!({"class": "RT", "priority": 8}))],
        &[
            "/process/ioPriority/class: \"RT\" found, \
             one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE expected",
            "/process/ioPriority/priority: 8 found, 0 to 7 expected",
        ],
    );
}

#[test]
fn cpu_affinities_are_lists_of_cpus() {
    good(&[("/process/execCPUAffinity", json!({"initial": "0-3, 7", "final": ""}))]);
    bad(
        &[("/process/execCPUAffinity", json!({"initial": "3-0", "final": "a"}))],
        &[
            "/process/execCPUAffinity/initial: \"3-0\" found, a list of CPUs such as \"0-3,7\" expected",
            "/process/execCPUAffinity/final: \"a\" found, a list of CPUs such as \"0-3,7\" expected",
        ],
    );
}

#[test]
fn host_names_are_short_and_need_a_uts_namespace() {
    good(&[("/hostname", json!("h")), ("/domainname", json!("d".repeat(64)))]);
    let no_uts = ("/linux/namespaces", json!([{"type": "mount"}]));
    good(&[("/hostname", json!("")), no_uts.clone()]);
    bad(
        &[("/hostname", json!("h")), ("/domainname", json!("d")), no_uts],
        &[
            "/hostname: needs a \"uts\" entry in /linux/namespaces: it would rename the host",
            "/domainname: needs a \"uts\" entry in /linux/namespaces: it would rename the host",
        ],
    );
    let (findings, _) = judge(&[("/hostname", json!("h".repeat(65)))]);
    assert!(findings[0].ends_with("found, at most 64 bytes expected"), "{findings:?}");
}

#[test]
fn hooks_have_absolute_paths_and_positive_timeouts() {
    for name in words::HOOKS {
        let at = format!("/hooks/{name}");
        good(&[(&at, json!([{"path": "/bin/true", "timeout": 1}]))]);
        bad(
            &[(&at, json!([{"path": "bin/true", "timeout": 0}, {"path": "", "args": ["\0"], "env": ["\0"]}]))],
            &[
                &format!("{at}/0/path: \"bin/true\" found, an absolute path expected"),
                &format!("{at}/0/timeout: 0 found, more than 0 seconds expected"),
                &format!("{at}/1/path: \"\" found, an absolute path expected"),
                &format!("{at}/1/args/0: \"\\0\" found, a string without NUL expected"),
                &format!("{at}/1/env/0: \"\\0\" found, a string without NUL expected"),
            ],
        );
    }
}

#[test]
fn an_annotation_has_a_key() {
    good(&[("/annotations", json!({"a": ""}))]);
    bad(&[("/annotations", json!({"": "a"}))], &["/annotations/: an annotation's key must not be empty"]);
}

/// crun runs WebAssembly by it; here the program would be executed as if it were not there.
#[test]
fn a_handler_is_refused() {
    good(&[("/annotations", json!({"run.oci.handler": ""}))]);
    bad(
        &[("/annotations", json!({"run.oci.handler": "wasm"}))],
        &["/annotations/run.oci.handler: \"wasm\" found, but there are no handlers: the kernel executes process.args"],
    );
}

#[test]
fn a_mount_has_a_destination_and_what_its_kind_needs() {
    let mount = |value: Value| [("/mounts", json!([value]))];
    good(&mount(json!({"destination": "/a", "source": "b", "options": ["rbind", "ro"]})));
    good(&mount(json!({"destination": "/a", "type": "tmpfs", "options": ["tmpcopyup", "mode=755"]})));
    good(&mount(json!({"destination": "/a", "options": ["remount", "ro"]})));
    bad(
        &mount(json!({"destination": "", "type": "tmpfs"})),
        &["/mounts/0/destination: \"\" found, an absolute path expected"],
    );
    odd(
        &mount(json!({"destination": "a", "type": "tmpfs"})),
        &["/mounts/0/destination: \"a\" is relative, which is deprecated; it is taken from /"],
    );
    bad(
        &mount(json!({"destination": "/a", "options": ["bind"]})),
        &["/mounts/0/source: required for a bind mount, a path was expected"],
    );
    bad(
        &mount(json!({"destination": "/a", "source": "/b"})),
        &["/mounts/0/type: required unless the options have bind or rbind"],
    );
    odd(
        &mount(json!({"destination": "/a", "source": "/b", "type": "bind", "options": ["ro", "mode=1", "x=y"]})),
        &[
            "/mounts/0/type: \"bind\" without the option bind or rbind is taken as bind",
            "/mounts/0/options/1: \"mode=1\" belongs to a file system; a bind mount ignores it",
        ],
    );
    odd(
        &mount(json!({"destination": "/a", "source": "/b", "type": "none", "options": ["bind", "tmpcopyup"]})),
        &["/mounts/0/options: tmpcopyup is for tmpfs; it is ignored"],
    );
}

#[test]
fn an_idmapped_mount_has_both_mappings_or_a_user_namespace() {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let mount = |options: Value, uids: &Value, gids: &Value| {
        (
            "/mounts",
            json!([{"destination": "/a", "source": "/b", "options": options, "uidMappings": uids, "gidMappings": gids}]),
        )
    };
    let none = json!(null);
    good(&[mount(json!(["rbind", "ridmap"]), &map, &map)]);
    bad(&[mount(json!(["bind", "idmap"]), &map, &none)], &["/mounts/0/gidMappings: required along with uidMappings"]);
    bad(&[mount(json!(["bind", "idmap"]), &none, &map)], &["/mounts/0/uidMappings: required along with gidMappings"]);
    odd(
        &[mount(json!(["bind"]), &map, &map)],
        &["/mounts/0/options: mappings without the option idmap or ridmap are taken as idmap"],
    );
    bad(
        &[mount(json!(["bind", "idmap"]), &none, &none)],
        &["/mounts/0/options: idmap takes uidMappings and gidMappings, or a user namespace whose mappings it can use"],
    );
    let user = ("/linux/namespaces", json!([{"type": "user", "path": "/proc/1/ns/user"}]));
    good(&[mount(json!(["bind", "idmap"]), &none, &none), user]);
    let empty = json!([{"containerID": 0, "hostID": 0, "size": 0}]);
    bad(
        &[mount(json!(["bind", "idmap"]), &map, &empty)],
        &["/mounts/0/gidMappings/0/size: 0 found, 1 or more expected"],
    );
}

#[test]
fn namespaces_are_known_single_and_joined_by_absolute_path() {
    good(&[("/linux/namespaces", json!([{"type": "pid", "path": ""}, {"type": "time"}, {"type": "cgroup"}]))]);
    bad(
        &[("/linux/namespaces", json!([{"type": "pid"}, {"type": "net"}, {"type": "pid", "path": "ns/pid"}]))],
        &[
            "/linux/namespaces/1/type: \"net\" found, \
             one of cgroup, ipc, mount, network, pid, time, user, uts expected",
            "/linux/namespaces/2/path: \"ns/pid\" found, an absolute path expected",
            "/linux/namespaces/2/type: \"pid\" is given twice",
        ],
    );
}

#[test]
fn a_user_namespace_and_its_mappings_come_together() {
    let map = |list: &[(u32, u32, u32)]| {
        let entry = |(c, h, s): &(u32, u32, u32)| json!({"containerID": c, "hostID": h, "size": s});
        Value::Array(list.iter().map(entry).collect())
    };
    let user = |path: &str| ("/linux/namespaces", json!([{"type": "user", "path": path}]));
    let maps = |uids: &[(u32, u32, u32)], gids: &[(u32, u32, u32)]| {
        [("/linux/uidMappings", map(uids)), ("/linux/gidMappings", map(gids))]
    };
    let [uids, gids] = maps(&[(0, 1000, 1), (1, 100_000, 65_536)], &[(0, 1000, 1)]);
    good(&[user(""), uids.clone(), gids.clone()]);
    good(&[user("/proc/1/ns/user")]);
    good(&[user("/proc/1/ns/user"), uids.clone(), gids.clone()]);
    bad(
        &[uids.clone(), gids.clone()],
        &[
            "/linux/uidMappings: needs a \"user\" entry in /linux/namespaces",
            "/linux/gidMappings: needs a \"user\" entry in /linux/namespaces",
        ],
    );
    bad(&[user(""), uids.clone()], &["/linux/gidMappings: required for a new user namespace, a list was expected"]);
    bad(
        &[user(""), uids, gids, ("/process/user", json!({"uid": 65536, "gid": 1}))],
        &["/process/user/gid: 1 is not mapped by /linux/gidMappings"],
    );
    let [uids, gids] = maps(&[(0, 0, 10), (20, 20, 5), (9, 100, 1)], &[(5, 5, 5), (0, 9, 1), (100, 1, 0)]);
    bad(
        &[user(""), uids, gids],
        &[
            "/linux/uidMappings/2/containerID: 9 is mapped twice",
            "/linux/gidMappings/2/size: 0 found, 1 or more expected",
            "/linux/gidMappings/1/hostID: 9 is mapped twice",
        ],
    );
    let [uids, gids] = maps(&[(0, 0, u32::MAX)], &[(0, 1, u32::MAX)]);
    bad(&[user(""), uids, gids], &["/linux/gidMappings/0/hostID: 1 with size 4294967295 goes beyond 4294967294"]);
    let many: Vec<_> = (0..341).map(|i| (i, i, 1)).collect();
    let [uids, gids] = maps(&many, &many[..340]);
    bad(&[user(""), uids, gids], &["/linux/uidMappings: 341 mappings found, at most 340 expected"]);
}

#[test]
fn time_offsets_are_of_two_clocks_in_a_time_namespace() {
    let time = ("/linux/namespaces", json!([{"type": "time"}]));
    let offsets = json!({"boottime": {"secs": -1, "nanosecs": 999_999_999}, "monotonic": {}});
    good(&[time.clone(), ("/linux/timeOffsets", offsets.clone())]);
    bad(&[("/linux/timeOffsets", offsets)], &["/linux/timeOffsets: needs a \"time\" entry in /linux/namespaces"]);
    bad(
        &[time, ("/linux/timeOffsets", json!({"real/time": {"nanosecs": 1_000_000_000}}))],
        &[
            "/linux/timeOffsets/real~1time: \"real/time\" found, one of boottime, monotonic expected",
            "/linux/timeOffsets/real~1time/nanosecs: 1000000000 found, at most 999999999 expected",
        ],
    );
}

#[test]
fn a_device_node_has_a_type_a_path_and_numbers() {
    let device = |value: Value| [("/linux/devices", json!([value]))];
    good(&device(json!({"type": "c", "path": "/dev/x", "major": 1, "minor": 3, "fileMode": 438})));
    good(&device(json!({"type": "c", "path": "/dev/x", "major": 4095, "minor": 1_048_575, "fileMode": 0o20666})));
    good(&device(json!({"type": "p", "path": "/dev/fifo"})));
    bad(
        &device(json!({"type": "x", "path": "dev/x", "major": 4096, "fileMode": 0o200_000})),
        &[
            "/linux/devices/0/path: \"dev/x\" found, an absolute path expected",
            "/linux/devices/0/type: \"x\" found, one of c, b, u, p expected",
            "/linux/devices/0/major: 4096 found, 0 to 4095 expected",
            "/linux/devices/0/minor: required unless the type is p, a number was expected",
            "/linux/devices/0/fileMode: 65536 found, permission bits (at most 4095, octal 7777) expected",
        ],
    );
}

#[test]
fn network_devices_have_interface_names_and_a_namespace() {
    let at = "/linux/netDevices";
    good(&[(at, json!({"eth0": {"name": "fifteen-bytes-x"}, "a": {"name": "e%d"}, "b": {"name": "e%d"}, "c": {}}))]);
    bad(
        &[(at, json!({"eth0": {}})), ("/linux/namespaces", json!([{"type": "mount"}]))],
        &["/linux/netDevices: needs a \"network\" entry in /linux/namespaces"],
    );
    for name in ["sixteen-bytes-xx", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{b}b", "a\0b"] {
        let expected = format!("/linux/netDevices/eth0/name: {name:?} is not the name of a network interface");
        bad(&[(at, json!({"eth0": {"name": name}}))], &[&expected]);
    }
    bad(&[(at, json!({"": {}}))], &["/linux/netDevices/: \"\" is not the name of a network interface"]);
    bad(&[(at, json!({"a": {"name": "eth0"}, "eth0": {}}))], &["/linux/netDevices/eth0/name: \"eth0\" is given twice"]);
}

#[test]
fn a_cgroup_path_does_not_climb() {
    for path in ["/a/b", "a", "system.slice:docker:1", "/a..b/..c", ""] {
        good(&[("/linux/cgroupsPath", json!(path))]);
    }
    for path in ["..", "/a/../b", "a/.."] {
        let expected = format!("/linux/cgroupsPath: {path:?} found, a path without \"..\" expected");
        bad(&[("/linux/cgroupsPath", json!(path))], &[&expected]);
    }
}

#[test]
fn rdt_schemas_are_single_lines_and_the_clos_a_name() {
    let at = "/linux/intelRdt";
    good(&[(at, json!({"closID": "/", "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f", "schemata": ["L2:0=f"]}))]);
    for id in [".", "..", "a/b", "//"] {
        let expected = format!("/linux/intelRdt/closID: {id:?} is neither a name nor \"/\"");
        bad(&[(at, json!({"closID": id}))], &[&expected]);
    }
    for schema in ["L3:0=f", "MB:0=20\nMB:1=20"] {
        let expected = format!("/linux/intelRdt/memBwSchema: {schema:?} found, one line that starts with MB: expected");
        bad(&[(at, json!({"memBwSchema": schema}))], &[&expected]);
    }
    bad(
        &[(at, json!({"schemata": ["ok", "a\nb"]}))],
        &["/linux/intelRdt/schemata/1: \"a\\nb\" found, one line expected"],
    );
    odd(
        &[(at, json!({"l3CacheSchema": "0=f"}))],
        &["/linux/intelRdt/l3CacheSchema: \"0=f\" should be one line that starts with L3:"],
    );
}

#[test]
fn a_memory_policy_fits_its_mode() {
    let policy = |mode: &str, nodes: &str, flags: &[&str]| {
        [("/linux/memoryPolicy", json!({"mode": mode, "nodes": nodes, "flags": flags}))]
    };
    for mode in ["MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED_MANY"] {
        good(&policy(mode, "0-1, 3", &["MPOL_F_STATIC_NODES"]));
        let expected = format!("/linux/memoryPolicy/nodes: required with {mode}, a list was expected");
        bad(&policy(mode, "", &[]), &[&expected]);
    }
    for mode in ["MPOL_DEFAULT", "MPOL_LOCAL"] {
        good(&policy(mode, "", &[]));
        let expected = format!("/linux/memoryPolicy/nodes: \"0\" found, none expected with {mode}");
        bad(&policy(mode, "0", &[]), &[&expected]);
    }
    good(&policy("MPOL_PREFERRED", "", &[]));
    bad(
        &policy("MPOL_PREFERRED", "", &["MPOL_F_RELATIVE_NODES"]),
        &["/linux/memoryPolicy/flags: MPOL_PREFERRED without nodes takes neither of the node flags"],
    );
    bad(
        &policy("MPOL_BIND", "0", &["MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]),
        &["/linux/memoryPolicy/flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"],
    );
    good(&policy("MPOL_BIND", "0", &["MPOL_F_NUMA_BALANCING"]));
    bad(
        &policy("MPOL_INTERLEAVE", "0", &["MPOL_F_NUMA_BALANCING"]),
        &["/linux/memoryPolicy/flags: MPOL_F_NUMA_BALANCING goes with MPOL_BIND or MPOL_PREFERRED_MANY only"],
    );
    bad(
        &policy("MPOL_BIND", "x", &[]),
        &["/linux/memoryPolicy/nodes: \"x\" found, a list of nodes such as \"0-3,7\" expected"],
    );
    bad(
        &policy("BIND", "0", &["STATIC"]),
        &[
            "/linux/memoryPolicy/mode: \"BIND\" found, one of MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, \
             MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE expected",
            "/linux/memoryPolicy/flags/0: \"STATIC\" found, \
             one of MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES expected",
        ],
    );
}

#[test]
fn a_sysctl_belongs_to_a_namespace_of_the_container() {
    let sysctl = |key: &str| ("/linux/sysctl", json!({key: "1"}));
    let none = ("/linux/namespaces", json!([]));
    let cases = [
        ("net.ipv4.ip_forward", "network"),
        ("net/core/somaxconn", "network"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel/msgmax", "ipc"),
        ("kernel.sem", "ipc"),
        ("kernel.shmall", "ipc"),
        ("kernel.domainname", "uts"),
        ("user.max_user_namespaces", "user"),
    ];
    for (key, namespace) in cases {
        let joined = ("/linux/namespaces", json!([{"type": namespace, "path": "/proc/1/ns/x"}]));
        good(&[sysctl(key), joined]);
        let at = entry("/linux/sysctl", key);
        let expected = format!("{at}: needs a \"{namespace}\" entry in /linux/namespaces: it would change the host");
        bad(&[sysctl(key), none.clone()], &[&expected]);
    }
    for key in ["kernel.core_pattern", "kernel/sysrq", "vm.overcommit_memory", "fs.file-max", "networks.x", "kernel"] {
        let at = entry("/linux/sysctl", key);
        bad(&[sysctl(key)], &[&format!("{at}: is not of a namespace, so it would change the host")]);
    }
    bad(
        &[sysctl("kernel.hostname")],
        &["/linux/sysctl/kernel.hostname: conflicts with /hostname, which is there for it"],
    );
    for key in ["", ".", "net/../kernel/core_pattern", "net.//.kernel.core_pattern", "net..x", "/net/x", "net.x\0"] {
        let at = entry("/linux/sysctl", key);
        bad(&[sysctl(key)], &[&format!("{at}: is not the name of a sysctl")]);
    }
}

#[test]
fn the_first_separator_of_a_sysctl_decides() {
    assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding").as_deref(), Some("net/ipv4/conf/eth0.1/forwarding"));
    assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding").as_deref(), Some("net/ipv4/conf/eth0.1/forwarding"));
    assert_eq!(sysctl_path("kernel"), Some("kernel".to_owned()));
}

#[test]
fn the_rootfs_propagation_is_a_known_one() {
    for (word, _) in words::ROOTFS_PROPAGATIONS {
        good(&[("/linux/rootfsPropagation", json!(word))]);
    }
    good(&[("/linux/rootfsPropagation", json!(""))]);
    bad(
        &[("/linux/rootfsPropagation", json!("Slave"))],
        &["/linux/rootfsPropagation: \"Slave\" found, one of private, rprivate, rshared, rslave, runbindable, \
           shared, slave, unbindable expected"],
    );
}

#[test]
fn covered_paths_are_absolute_and_need_a_mount_namespace() {
    for at in ["/linux/maskedPaths", "/linux/readonlyPaths"] {
        good(&[(at, json!(["/proc/kcore"]))]);
        bad(&[(at, json!(["/a", "b"]))], &[&format!("{at}/1: \"b\" found, an absolute path expected")]);
        let no_mount = ("/linux/namespaces", json!([{"type": "pid"}]));
        good(&[(at, json!([])), no_mount.clone()]);
        let expected = format!("{at}: needs a \"mount\" entry in /linux/namespaces: it would cover the host's paths");
        bad(&[(at, json!(["/a"])), no_mount], &[&expected]);
    }
}

#[test]
fn a_personality_is_of_known_words() {
    good(&[("/linux/personality", json!({"domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"]}))]);
    let (findings, _) = judge(&[("/linux/personality", json!({"domain": "BSD", "flags": ["X"]}))]);
    assert_eq!(findings[0], "/linux/personality/domain: \"BSD\" found, one of LINUX, LINUX32 expected");
    assert!(findings[1].starts_with("/linux/personality/flags/0: \"X\" found, one of UNAME26, "), "{findings:?}");
}

#[test]
fn device_rules_have_known_types_accesses_and_numbers() {
    let rule = |value: Value| [("/linux/resources", json!({"devices": [value]}))];
    good(&rule(json!({"allow": false})));
    good(&rule(json!({"allow": true, "type": "", "access": ""})));
    good(&rule(json!({"allow": true, "type": "c", "major": -1, "minor": 1_048_575, "access": "rwm"})));
    bad(
        &rule(json!({"allow": true, "type": "p", "major": -2, "minor": 4_294_967_296_i64, "access": "rx"})),
        &[
            "/linux/resources/devices/0/type: \"p\" found, one of a, b, c expected",
            "/linux/resources/devices/0/access: \"rx\" found, some of r, w, m expected",
            "/linux/resources/devices/0/major: -2 found, a device number or -1 (all) expected",
            "/linux/resources/devices/0/minor: 4294967296 found, a device number or -1 (all) expected",
        ],
    );
}

#[test]
fn memory_limits_are_bytes_and_swap_holds_the_memory() {
    let memory = |value: Value| [("/linux/resources", json!({"memory": value}))];
    good(&memory(json!({"limit": 10, "swap": 10, "reservation": 20, "kernel": -1, "swappiness": 100})));
    good(&memory(json!({"limit": 10, "swap": -1})));
    good(&memory(json!({"limit": 10, "swap": 0})));
    good(&memory(json!({"limit": -1, "swap": 5})));
    bad(
        &memory(json!({"limit": 10, "swap": 9, "reservation": -2, "swappiness": 101})),
        &[
            "/linux/resources/memory/reservation: -2 found, bytes or -1 (no limit) expected",
            "/linux/resources/memory/swap: 9 found, at least the limit 10 expected: swap is memory and swap together",
            "/linux/resources/memory/swappiness: 101 found, 0 to 100 expected",
        ],
    );
}

#[test]
fn cpu_burst_idle_and_sets_are_judged() {
    let cpu = |value: Value| [("/linux/resources", json!({"cpu": value}))];
    good(&cpu(json!({"quota": 5, "burst": 5, "idle": 1, "cpus": "0-3,7", "mems": "0-31:1/2"})));
    good(&cpu(json!({"quota": -1, "burst": 5})));
    bad(
        &cpu(json!({"quota": 5, "burst": 6, "idle": 2, "cpus": "x", "mems": "0;1"})),
        &[
            "/linux/resources/cpu/burst: 6 found, at most the quota 5 expected",
            "/linux/resources/cpu/idle: 2 found, 0 or 1 expected",
            "/linux/resources/cpu/cpus: \"x\" found, a list such as \"0-3,7\" expected",
            "/linux/resources/cpu/mems: \"0;1\" found, a list such as \"0-3,7\" expected",
        ],
    );
}

#[test]
fn a_pids_limit_is_minus_one_or_more() {
    for limit in [-1, 0, 100] {
        good(&[("/linux/resources", json!({"pids": {"limit": limit}}))]);
    }
    bad(
        &[("/linux/resources", json!({"pids": {"limit": -2}}))],
        &["/linux/resources/pids/limit: -2 found, -1 (no limit) or more expected"],
    );
}

#[test]
fn block_io_weights_and_devices_have_their_ranges() {
    let block_io = |value: Value| [("/linux/resources", json!({"blockIO": value}))];
    good(&block_io(json!({"weight": 0, "leafWeight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]})));
    bad(
        &block_io(json!({
            "weight": 9,
            "weightDevice": [{"major": 8, "minor": 0}, {"major": -1, "minor": 0, "leafWeight": 1001}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": -1, "rate": 1}],
        })),
        &[
            "/linux/resources/blockIO/weightDevice/0: weight or leafWeight is required",
            "/linux/resources/blockIO/weight: 9 found, 10 to 1000 expected",
            "/linux/resources/blockIO/weightDevice/1/leafWeight: 1001 found, 10 to 1000 expected",
            "/linux/resources/blockIO/throttleReadIOPSDevice/0/minor: -1 found, a device number expected",
            "/linux/resources/blockIO/weightDevice/1/major: -1 found, a device number expected",
        ],
    );
}

#[test]
fn huge_page_sizes_are_in_the_kernels_units() {
    let limit = |size: &str| [("/linux/resources", json!({"hugepageLimits": [{"pageSize": size, "limit": 1}]}))];
    for size in ["64KB", "2MB", "1GB", "16GB"] {
        good(&limit(size));
    }
    for size in ["64kB", "2M", "0MB", "MB", "", "2 MB", "1TB"] {
        let expected = format!(
            "/linux/resources/hugepageLimits/0/pageSize: {size:?} found, \
             a size such as \"64KB\", \"2MB\" or \"1GB\" expected"
        );
        bad(&limit(size), &[&expected]);
    }
}

#[test]
fn an_rdma_device_has_a_limit() {
    good(&[("/linux/resources", json!({"rdma": {"mlx5_1": {"hcaObjects": 0}}}))]);
    bad(
        &[("/linux/resources", json!({"rdma": {"mlx5_1": {}}}))],
        &["/linux/resources/rdma/mlx5_1: hcaHandles or hcaObjects is required"],
    );
}

#[test]
fn unified_keys_are_cgroup_files() {
    good(&[(
        "/linux/resources",
        json!({"unified": {"memory.high": "1", "hugetlb.1GB.max": "1", "some.new.file": ""}}),
    )]);
    for key in ["", ".", "..", "memory", "a/b.c", "../memory.max", "memory.", ".max", "memory.max\0"] {
        let at = entry("/linux/resources/unified", key);
        bad(
            &[("/linux/resources", json!({"unified": {key: "1"}}))],
            &[&format!("{at}: is not the name of a cgroup file (CONTROLLER.PARAMETER)")],
        );
    }
}

#[test]
fn all_findings_of_a_config_come_at_once() {
    let changes = [("/root", json!(null)), ("/process/cwd", json!("x")), ("/linux/namespaces/0/type", json!("p"))];
    let (findings, _) = judge(&changes);
    let pointers: Vec<_> = findings.iter().map(|f| f.split(':').next().unwrap_or_default()).collect();
    assert_eq!(pointers, ["/root", "/process/cwd", "/linux/namespaces/0/type"]);
}

#[test]
fn an_execs_process_and_an_updates_resources_are_judged_alone() {
    let process = parse_process("p", r#"{"cwd":"x","args":["sh"]}"#).expect("process");
    let (findings, _) = check_process(&process);
    assert_eq!(findings[0].to_string(), "/cwd: \"x\" found, an absolute path expected");
    let resources = parse_resources("r", r#"{"pids":{"limit":-5}}"#).expect("resources");
    let (findings, _) = check_resources(&resources);
    assert_eq!(findings[0].to_string(), "/pids/limit: -5 found, -1 (no limit) or more expected");
    let error = parse_process("process.json", "{}").expect_err("no cwd");
    assert_eq!(error.to_string(), "process.json: /cwd: required, an absolute path was expected");
}

#[test]
fn long_texts_are_cut_in_a_finding() {
    let (findings, _) = judge(&[("/process/cwd", json!("é".repeat(100)))]);
    assert_eq!(findings[0], format!("/process/cwd: {:?}... found, an absolute path expected", "é".repeat(60)));
}
