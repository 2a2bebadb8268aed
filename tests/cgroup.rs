//! The cgroup module against the kernel, as root, in private mount, PID and cgroup
//! namespaces: once with a cgroup v2 view of its own, once on the host's own layout.
//!
//! Each test starts itself again inside the namespaces; what cannot run there says so.

mod inside;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use inside::{Removed, config, hybrid, inside, layout, made, name, plan};
use rustix::process::Signal;
use xebec::cgroup::{Cgroup, DeviceFilter, Layout, Options, Record, plan_cgroup, plan_update};
use xebec::config::Resources;

const V2_VIEW: &str = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && ";
const BPFFS: &str = "mount -t bpf none /sys/fs/bpf && ";

/// A shell that waits for a line on its stdin and then runs `script`.
fn shell(script: &str) -> Child {
    let script = format!("read go; {script}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Runs `script` in the cgroup: exit status and all output.
fn run_in(cgroup: &Cgroup<'_>, script: &str) -> (Option<i32>, String) {
    let mut child = shell(script);
    cgroup.place(child.id(), false).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn sleeper(cgroup: &Cgroup<'_>) -> Child {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup.place(child.id(), false).unwrap();
    child
}

fn killed(child: &mut Child) -> bool {
    child.wait().unwrap().signal() == Some(9)
}

fn v2_path(record: &Record) -> String {
    record.v2.clone().unwrap()
}

#[test]
fn a_cgroup_is_made_entered_killed_and_removed() {
    inside("a_cgroup_is_made_entered_killed_and_removed", V2_VIEW, || {
        let layout = layout();
        assert_eq!(layout, Layout::V2 { mount: "/sys/fs/cgroup".into() });
        let plan = plan("life", &layout, "{}").unwrap();
        let (cgroup, removed) = made(&plan);
        let (record, path) = (&removed.0, v2_path(&removed.0));
        assert!(cgroup.v2().is_some() && !cgroup.has_v1());
        let mut child = sleeper(&cgroup);
        assert_eq!(record.procs().unwrap(), [child.id()]);
        assert_eq!(fs::read_to_string(format!("{path}/cgroup.procs")).unwrap().trim(), child.id().to_string());
        record.kill_all(Signal::KILL).unwrap();
        record.remove().unwrap();
        assert!(!Path::new(&path).exists());
        assert!(killed(&mut child));
    });
}

#[test]
fn removal_takes_nested_and_threaded_cgroups_along() {
    inside("removal_takes_nested_and_threaded_cgroups_along", V2_VIEW, || {
        let plan = plan("nested", &layout(), "{}").unwrap();
        let (_cgroup, removed) = made(&plan);
        let path = v2_path(&removed.0);
        for below in ["a/b/c/d", "a/x", "t/u"] {
            fs::create_dir_all(format!("{path}/{below}")).unwrap();
        }
        fs::write(format!("{path}/t/u/cgroup.type"), "threaded").unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(format!("{path}/a/b/c/cgroup.procs"), child.id().to_string()).unwrap();
        assert_eq!(removed.0.procs().unwrap(), [child.id()]);
        removed.0.kill_all(Signal::KILL).unwrap();
        removed.0.remove().unwrap();
        assert!(!Path::new(&path).exists());
        assert!(killed(&mut child));
    });
}

#[test]
fn a_container_in_a_threaded_cgroup_is_killed_and_removed() {
    // cgroup.kill and cgroup.procs refuse such a cgroup: this is also the way without
    // cgroup.kill (kernels before 5.14).
    inside("a_container_in_a_threaded_cgroup_is_killed_and_removed", V2_VIEW, || {
        let plan = plan("threaded", &layout(), "{}").unwrap();
        let (cgroup, removed) = made(&plan);
        let path = v2_path(&removed.0);
        fs::write(format!("{path}/cgroup.type"), "threaded").unwrap();
        let mut children: Vec<Child> = (0..3).map(|_| sleeper(&cgroup)).collect();
        assert!(fs::write(format!("{path}/cgroup.kill"), "1").is_err());
        let mut pids: Vec<u32> = children.iter().map(Child::id).collect();
        pids.sort_unstable();
        assert_eq!(removed.0.procs().unwrap(), pids);
        assert!(plan.claim().is_err(), "a threaded cgroup with processes is in use");
        removed.0.kill_all(Signal::KILL).unwrap();
        removed.0.remove().unwrap();
        assert!(!Path::new(&path).exists());
        assert!(children.iter_mut().all(killed));
    });
}

#[test]
fn removal_names_the_processes_that_keep_it_from_succeeding() {
    inside("removal_names_the_processes_that_keep_it_from_succeeding", V2_VIEW, || {
        let plan = plan("busy", &layout(), "{}").unwrap();
        let (cgroup, removed) = made(&plan);
        let mut child = sleeper(&cgroup);
        let start = Instant::now();
        let error = removed.0.remove().unwrap_err().to_string();
        assert!(error.contains("EBUSY") && error.contains(&format!("[{}]", child.id())), "{error}");
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
        removed.0.kill_all(Signal::KILL).unwrap();
        assert!(killed(&mut child));
    });
}

#[test]
fn a_cgroup_in_use_is_refused_and_left_alone() {
    inside("a_cgroup_in_use_is_refused_and_left_alone", V2_VIEW, || {
        let plan = plan("used", &layout(), "{}").unwrap();
        let (cgroup, removed) = made(&plan);
        plan.claim().expect("an empty cgroup may be taken");
        let mut child = sleeper(&cgroup);
        let error = plan.claim().unwrap_err();
        assert_eq!(error.kind(), xebec::Kind::Exists);
        assert!(error.to_string().contains("holds processes"), "{error}");
        assert!(child.try_wait().unwrap().is_none());
        removed.0.kill_all(Signal::KILL).unwrap();
        assert!(killed(&mut child));
        removed.0.freeze().unwrap();
        let error = plan.claim().unwrap_err();
        assert!(error.to_string().contains("is frozen"), "{error}");
        removed.0.thaw().unwrap();
    });
}

#[test]
fn two_creates_of_one_place_do_not_share_it() {
    inside("two_creates_of_one_place_do_not_share_it", V2_VIEW, || {
        let plan = plan("race", &layout(), "{}").unwrap();
        let (first, second) = (plan.claim().unwrap(), plan.claim().unwrap());
        let removed = Removed(plan.record());
        let cgroup = first.create().unwrap();
        let error = second.create().unwrap_err();
        assert_eq!(error.kind(), xebec::Kind::Exists, "{error}");
        assert!(Path::new(&v2_path(&removed.0)).exists(), "the loser must not remove the winner's");
        drop(cgroup);
    });
}

fn ticks(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

fn freeze_and_thaw(layout: &Layout, what: &str) {
    let plan = plan(what, layout, "{}").unwrap();
    let (cgroup, removed) = made(&plan);
    let log = std::env::temp_dir().join(name(what));
    let mut child = shell(&format!("while :; do printf x >> {}; done", log.display()));
    cgroup.place(child.id(), false).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    let moves = |expected: bool| {
        let (start, before) = (Instant::now(), ticks(&log));
        let patience = Duration::from_millis(if expected { 5000 } else { 300 });
        while start.elapsed() < patience && ticks(&log) == before {
            std::thread::sleep(Duration::from_millis(10));
        }
        ticks(&log) != before
    };
    assert!(moves(true));
    removed.0.freeze().unwrap();
    assert!(removed.0.is_frozen().unwrap());
    assert!(!moves(false), "it runs while frozen");
    removed.0.thaw().unwrap();
    assert!(!removed.0.is_frozen().unwrap());
    assert!(moves(true));
    // A frozen container can still be killed.
    removed.0.freeze().unwrap();
    removed.0.kill_all(Signal::KILL).unwrap();
    assert!(killed(&mut child));
    fs::remove_file(log).unwrap();
}

#[test]
fn a_frozen_cgroup_stands_still_until_thawed() {
    inside("a_frozen_cgroup_stands_still_until_thawed", V2_VIEW, || freeze_and_thaw(&layout(), "freeze"));
}

#[test]
fn a_limit_without_its_controller_is_an_error_and_no_limit_is_not() {
    inside("a_limit_without_its_controller_is_an_error_and_no_limit_is_not", V2_VIEW, || {
        if fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap().contains("memory") {
            return eprintln!("SKIP: this host has the memory controller in v2");
        }
        let layout = layout();
        let none = r#"{"memory":{"limit":-1,"swap":-1},"pids":{"limit":-1},"cpu":{"shares":0,"quota":-1}}"#;
        let no_limit = plan("nolimit", &layout, none).unwrap();
        drop(made(&no_limit));
        let limited = plan("limit", &layout, r#"{"memory":{"limit":9000000}}"#).unwrap();
        let error = limited.claim().unwrap().create().unwrap_err().to_string();
        assert_eq!(
            error,
            "linux.resources.memory.limit: the memory controller is not in /sys/fs/cgroup/cgroup.controllers; \
             hint: a cgroup v1 hierarchy may hold it, or the kernel lacks it (/proc/cgroups)"
        );
        assert!(!Path::new(&v2_path(&limited.record())).exists());
        let unknown = plan("unified", &layout, r#"{"unified":{"memory.no_such":"1"}}"#).unwrap();
        let cgroup = unknown.claim().unwrap().create().unwrap();
        let _removed = Removed(unknown.record());
        let error = cgroup.apply().unwrap_err().to_string();
        assert!(
            error.contains("linux.resources.unified.memory.no_such: write(") && error.contains("ENOENT"),
            "{error}"
        );
        assert!(error.contains("the memory controller is not available in"), "{error}");
    });
}

#[test]
fn unified_values_are_written_verbatim() {
    inside("unified_values_are_written_verbatim", V2_VIEW, || {
        let resources = r#"{"unified":{"cgroup.max.depth":"3","cgroup.max.descendants":"7"}}"#;
        let plan = plan("verbatim", &layout(), resources).unwrap();
        let (_cgroup, removed) = made(&plan);
        let path = v2_path(&removed.0);
        assert_eq!(fs::read_to_string(format!("{path}/cgroup.max.depth")).unwrap().trim(), "3");
        assert_eq!(fs::read_to_string(format!("{path}/cgroup.max.descendants")).unwrap().trim(), "7");
    });
}

#[test]
fn a_mount_below_the_hierarchy_is_not_followed() {
    inside("a_mount_below_the_hierarchy_is_not_followed", V2_VIEW, || {
        let outer = format!("/sys/fs/cgroup/{}", name("over"));
        fs::create_dir(&outer).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "none", &outer]).status().unwrap();
        assert!(mounted.success());
        let text = format!(r#"{{"ociVersion":"1.3.0","linux":{{"cgroupsPath":"/{}/c"}}}}"#, name("over"));
        let plan = plan_cgroup("c", &config(&text), &layout(), &Options::default()).unwrap();
        let error = plan.claim().unwrap_err().to_string();
        assert!(error.contains("EXDEV"), "{error}");
        assert!(!Path::new(&format!("{outer}/c")).exists());
        assert!(Command::new("umount").arg(&outer).status().unwrap().success());
        fs::remove_dir(&outer).unwrap();
    });
}

#[test]
fn a_half_made_cgroup_is_removed_from_its_record() {
    inside("a_half_made_cgroup_is_removed_from_its_record", "", || {
        let Layout::Hybrid { v1, v2 } = layout() else { return eprintln!("SKIP: not a hybrid host") };
        let plan = plan("half", &Layout::Hybrid { v1, v2 }, "{}").unwrap();
        let record = plan.record();
        // As after a kill -9 between two mkdirs.
        fs::create_dir(&record.v1[0].1).unwrap();
        fs::create_dir(&record.v1[2].1).unwrap();
        record.kill_all(Signal::KILL).unwrap();
        record.remove().unwrap();
        assert!(record.v1.iter().all(|(_, path)| !Path::new(path).exists()));
    });
}

/// Opens a node of /dev/kmsg's number, which root may open unless a filter says no.
const OPEN_KMSG: &str = "d=$(mktemp -d); mknod $d/k c 1 11; dd if=$d/k bs=1 count=0 && echo opened; \
                         rm -r $d; echo >/dev/null && echo null";

fn device_filter(layout: &Layout, what: &str) {
    let denied = plan(what, layout, r#"{"devices":[]}"#).unwrap();
    let (cgroup, removed) = made(&denied);
    let (_, out) = run_in(&cgroup, OPEN_KMSG);
    assert!(out.contains("not permitted") && !out.contains("opened") && out.contains("null"), "{out}");
    drop((cgroup, removed));
    let rules =
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"rw"}]}"#;
    let allowed = plan(what, layout, rules).unwrap();
    let (cgroup, _removed) = made(&allowed);
    let (_, out) = run_in(&cgroup, OPEN_KMSG);
    assert!(out.contains("opened") && out.contains("null"), "{out}");
}

#[test]
fn devices_are_filtered_by_a_program_loaded_directly() {
    inside("devices_are_filtered_by_a_program_loaded_directly", V2_VIEW, || device_filter(&layout(), "dev"));
}

#[test]
fn devices_are_filtered_by_a_pinned_program() {
    inside("devices_are_filtered_by_a_pinned_program", &format!("{V2_VIEW}{BPFFS}"), || {
        let layout = layout();
        for _ in 0..2 {
            device_filter(&layout, "pin");
            assert_eq!(fs::read_dir("/sys/fs/bpf/xebec").unwrap().count(), 2);
        }
        // A directory that others may write to is not trusted, and not needed.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions("/sys/fs/bpf/xebec", open).unwrap();
        let plan = plan("pin", &layout, r#"{"devices":[{"allow":true,"type":"b","major":7}]}"#).unwrap();
        drop(made(&plan));
        assert_eq!(fs::read_dir("/sys/fs/bpf/xebec").unwrap().count(), 2);
    });
}

#[test]
fn the_verifier_takes_large_rule_sets() {
    inside("the_verifier_takes_large_rule_sets", V2_VIEW, || {
        let mut rules = vec![r#"{"allow":false}"#.to_owned()];
        for i in 0..600 {
            let (allow, kind) = (i % 3 != 0, if i % 2 == 0 { "c" } else { "b" });
            let access = ["r", "rw", "rwm", "m"][i % 4];
            rules.push(format!(r#"{{"allow":{allow},"type":"{kind}","major":{i},"minor":{i},"access":"{access}"}}"#));
        }
        let plan = plan("large", &layout(), &format!(r#"{{"devices":[{}]}}"#, rules.join(","))).unwrap();
        let DeviceFilter::Program { program, .. } = &plan.devices else { panic!("no program") };
        assert!(program.len() > 3000);
        drop(made(&plan));
    });
}

#[test]
fn limits_hold_on_a_hybrid_host() {
    hybrid("limits_hold_on_a_hybrid_host", |layout| {
        let resources = r#"{"memory":{"limit":33554432,"reservation":16777216},"pids":{"limit":2},
            "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"}}"#;
        let plan = plan("limits", layout, resources).unwrap();
        let (cgroup, removed) = made(&plan);
        assert!(cgroup.has_v1());
        let read = |controller: &str, file: &str| {
            let (_, path) = removed.0.v1.iter().find(|(c, _)| c.split(',').any(|c| c == controller)).unwrap();
            fs::read_to_string(format!("{path}/{file}")).unwrap().trim().to_owned()
        };
        assert_eq!(read("memory", "memory.limit_in_bytes"), "33554432");
        assert_eq!(read("memory", "memory.soft_limit_in_bytes"), "16777216");
        assert_eq!(read("pids", "pids.max"), "2");
        assert_eq!(read("cpu", "cpu.shares"), "512");
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(read("cpuset", "cpuset.cpus"), "0");
        assert!(!read("cpuset", "cpuset.mems").is_empty());
        let (_, out) = run_in(&cgroup, "sleep 1 & sleep 1 & wait");
        assert!(out.contains("fork"), "pids.max 2 should refuse a third process: {out}");
        let (_, out) = run_in(&cgroup, "exec nproc");
        assert_eq!(out.trim(), "1");
        let (code, out) = run_in(&cgroup, "exec dd if=/dev/zero of=/dev/null bs=100M count=1");
        assert_eq!(code, None, "dd should be killed for its memory: {out}");
    });
}

#[test]
fn devices_are_filtered_on_a_hybrid_host() {
    hybrid("devices_are_filtered_on_a_hybrid_host", |layout| device_filter(layout, "v1dev"));
}

#[test]
fn pausing_and_killing_work_with_v1_alone() {
    hybrid("pausing_and_killing_work_with_v1_alone", |layout| {
        let Layout::Hybrid { v1, .. } = layout.clone() else { unreachable!("checked by hybrid()") };
        let alone = Layout::Hybrid { v1, v2: None };
        freeze_and_thaw(&alone, "v1only");
        let plan = plan("v1kill", &alone, "{}").unwrap();
        let (cgroup, removed) = made(&plan);
        assert!(cgroup.v2().is_none());
        let mut children: Vec<Child> = (0..5).map(|_| sleeper(&cgroup)).collect();
        assert_eq!(removed.0.procs().unwrap().len(), 5);
        removed.0.kill_all(Signal::KILL).unwrap();
        removed.0.remove().unwrap();
        assert!(children.iter_mut().all(killed));
        assert!(removed.0.v1.iter().all(|(_, path)| !Path::new(path).exists()));
    });
}

/// A cgroup that holds processes cannot hand controllers down; the error says so and
/// nothing is left.
fn busy_parent(layout: &Layout, root: &str) {
    let parent = format!("{root}/{}", name("parent"));
    fs::create_dir(&parent).unwrap();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(format!("{parent}/cgroup.procs"), child.id().to_string()).unwrap();
    let text = format!(
        r#"{{"ociVersion":"1.3.0","linux":{{"cgroupsPath":"/{}/a/b",
        "resources":{{"hugepageLimits":[{{"pageSize":"2MB","limit":0}}]}}}}}}"#,
        name("parent")
    );
    let plan = plan_cgroup("c", &config(&text), layout, &Options::default()).unwrap();
    let error = plan.claim().unwrap().create().unwrap_err().to_string();
    assert!(error.contains("EBUSY") && error.contains("holds processes, so it cannot hand controllers"), "{error}");
    assert!(!Path::new(&format!("{parent}/a")).exists(), "ancestors made by a failed create are left");
    assert!(plan.record().v1.iter().all(|(_, path)| !Path::new(path).parent().unwrap().parent().unwrap().exists()));
    child.kill().unwrap();
    child.wait().unwrap();
    let record = Record { v2: Some(parent), ..Record::default() };
    record.remove().unwrap();
}

#[test]
fn a_limit_of_hugetlb_goes_to_the_v2_part() {
    hybrid("a_limit_of_hugetlb_goes_to_the_v2_part", |layout| {
        let Layout::Hybrid { v2: Some(root), .. } = layout else { return eprintln!("SKIP: no v2 part") };
        let root = root.clone();
        let on = |file: &str| fs::read_to_string(format!("{root}/{file}")).unwrap().contains("hugetlb");
        if !on("cgroup.controllers") || !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            return eprintln!("SKIP: hugetlb with 2 MB pages is not in v2");
        }
        let before = on("cgroup.subtree_control");
        let plan = plan("huge", layout, r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#).unwrap();
        let (_cgroup, removed) = made(&plan);
        let path = v2_path(&removed.0);
        for file in ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"] {
            assert_eq!(fs::read_to_string(format!("{path}/{file}")).unwrap().trim(), "4194304");
        }
        drop(removed);
        busy_parent(layout, &root);
        if !before {
            // The host's own switch goes back to where it was.
            fs::write(format!("{root}/cgroup.subtree_control"), "-hugetlb").unwrap();
        }
    });
}

#[test]
fn a_further_process_enters_the_container_and_nothing_else() {
    inside("a_further_process_enters_the_container_and_nothing_else", V2_VIEW, || {
        let layout = layout();
        let plan = plan("join", &layout, "{}").unwrap();
        let (cgroup, removed) = made(&plan);
        let record = &removed.0;
        let path = v2_path(record);
        fs::create_dir_all(format!("{path}/sub/one")).unwrap();
        fs::create_dir(format!("{path}-alike")).unwrap();
        for outside in ["..", "sub/../..", "../alike", "/../x"] {
            let error = record.join(Some(outside)).unwrap_err().to_string();
            assert!(error.contains("holds `..`"), "{outside}: {error}");
        }
        let absent = record.join(Some("none")).unwrap_err().to_string();
        assert!(absent.starts_with("--cgroup: openat2(") && absent.contains("ENOENT"), "{absent}");
        let mut child = sleeper(&cgroup);
        let procs = |dir: &str| fs::read_to_string(format!("{dir}/cgroup.procs")).unwrap().trim().to_owned();
        record.join(Some("/sub/one")).unwrap().place(child.id(), false).unwrap();
        assert_eq!(procs(&format!("{path}/sub/one")), child.id().to_string());
        let mut second = Command::new("sleep").arg("1000").spawn().unwrap();
        record.join_init(child.id(), &layout).unwrap().place(second.id(), false).unwrap();
        assert!(procs(&format!("{path}/sub/one")).contains(&second.id().to_string()));
        // A cgroup whose name only begins like the container's is not the container's.
        fs::write(format!("{path}-alike/cgroup.procs"), child.id().to_string()).unwrap();
        let error = record.join_init(child.id(), &layout).unwrap_err().to_string();
        assert!(error.contains("not below the container's"), "{error}");
        fs::write(format!("{path}/cgroup.procs"), child.id().to_string()).unwrap();
        fs::remove_dir(format!("{path}-alike")).unwrap();
        record.kill_all(Signal::KILL).unwrap();
        assert!(killed(&mut child) && killed(&mut second));
    });
}

#[test]
fn a_signal_reaches_every_process_below() {
    inside("a_signal_reaches_every_process_below", V2_VIEW, || {
        let plan = plan("signal", &layout(), "{}").unwrap();
        let (cgroup, removed) = made(&plan);
        fs::create_dir(format!("{}/sub", v2_path(&removed.0))).unwrap();
        let (mut one, mut two) = (sleeper(&cgroup), sleeper(&cgroup));
        removed.0.join(Some("sub")).unwrap().place(two.id(), false).unwrap();
        removed.0.kill_all(Signal::TERM).unwrap();
        assert_eq!(one.wait().unwrap().signal(), Some(15));
        assert_eq!(two.wait().unwrap().signal(), Some(15));
        assert!(!removed.0.is_frozen().unwrap());
    });
}

/// `again`: made anew by that name after somebody has taken hold of who was in the first one.
fn a_handle_is_not_of_the_next(layout: &Layout, again: &str) {
    let plan = plan(again, layout, "{}").unwrap();
    for signal in [Signal::TERM, Signal::KILL] {
        let (cgroup, removed) = made(&plan);
        let mut first = sleeper(&cgroup);
        let everybody = removed.0.everybody(signal).unwrap().unwrap();
        let freezer = removed.0.freezer().unwrap();
        everybody.kill(signal).unwrap();
        assert_eq!(first.wait().unwrap().signal(), Some(signal.as_raw()));
        drop((cgroup, removed));

        let (cgroup, removed) = made(&plan);
        let mut second = sleeper(&cgroup);
        everybody.kill(signal).unwrap();
        assert!(freezer.freeze().is_err() && freezer.thaw().is_err());
        assert!(!freezer.is_frozen().unwrap() && !removed.0.is_frozen().unwrap());
        // Nor is it thawed.
        removed.0.freeze().unwrap();
        everybody.kill(signal).unwrap();
        freezer.thaw_if_there().unwrap();
        assert!(removed.0.is_frozen().unwrap());
        assert_eq!(second.try_wait().unwrap(), None);
        removed.0.kill_all(Signal::KILL).unwrap();
        assert!(killed(&mut second));
    }
}

#[test]
fn a_handle_of_a_cgroup_is_not_of_the_next_by_its_name() {
    inside("a_handle_of_a_cgroup_is_not_of_the_next_by_its_name", V2_VIEW, || {
        a_handle_is_not_of_the_next(&layout(), "again")
    });
}

#[test]
fn a_handle_is_not_of_the_next_on_v1_alone_and_on_both() {
    hybrid("a_handle_is_not_of_the_next_on_v1_alone_and_on_both", |layout| {
        let Layout::Hybrid { v1, .. } = layout else { unreachable!("hybrid() has looked") };
        a_handle_is_not_of_the_next(layout, "again-both");
        a_handle_is_not_of_the_next(&Layout::Hybrid { v1: v1.clone(), v2: None }, "again-v1");
    });
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    hybrid("an_update_changes_what_it_names_and_nothing_else", |layout| {
        let resources = r#"{"memory":{"limit":33554432},"pids":{"limit":20},"cpu":{"shares":512}}"#;
        let plan = plan("update", layout, resources).unwrap();
        let (cgroup, removed) = made(&plan);
        let read = |controller: &str, file: &str| {
            let (_, path) = removed.0.v1.iter().find(|(c, _)| c.split(',').any(|c| c == controller)).unwrap();
            fs::read_to_string(format!("{path}/{file}")).unwrap().trim().to_owned()
        };
        let devices = read("devices", "devices.list");
        let update = |text: &str| -> xebec::Result<()> {
            let resources: Resources<'_> = serde_json::from_str(text).unwrap();
            let plan = plan_update(&removed.0, &resources, layout)?;
            plan.open()?.apply()
        };
        update(r#"{"pids":{"limit":-1},"memory":{"limit":67108864}}"#).unwrap();
        assert_eq!(read("pids", "pids.max"), "max");
        assert_eq!(read("memory", "memory.limit_in_bytes"), "67108864");
        assert_eq!(read("cpu", "cpu.shares"), "512");
        assert_eq!(read("devices", "devices.list"), devices);
        drop(cgroup);
        let error = update(r#"{"pids":{"limit":-7}}"#).unwrap_err().to_string();
        assert_eq!(error, "linux.resources.pids.limit: -7 is neither a limit nor -1");
        let error = update(r#"{"cpu":{"quota":1,"period":1000}}"#).unwrap_err().to_string();
        assert!(error.contains("cfs_quota_us\", \"1\"): invalid argument (EINVAL); hint:"), "{error}");
        let gone = Record::default();
        let error = plan_update(&gone, &Resources::default(), layout).unwrap_err().to_string();
        assert_eq!(error, "cgroup: this container has no cgroup of its own to update");
    });
}

#[test]
fn without_rights_only_a_rootless_container_that_asks_for_nothing_runs() {
    inside("without_rights_only_a_rootless_container_that_asks_for_nothing_runs", V2_VIEW, || {
        let layout = layout();
        let rootless = Options { rootless: true, own_cgroup: Some("/x"), ..Options::default() };
        let planned = |linux: &str, options: &Options<'_>| {
            let text = format!(r#"{{"ociVersion":"1.3.0","linux":{linux}}}"#);
            plan_cgroup(&name("rootless"), &config(&text), &layout, options).unwrap()
        };
        let nothing = planned("{}", &rootless);
        let path = planned(r#"{"cgroupsPath":"/xebec-test-none"}"#, &rootless);
        let limit = planned(r#"{"resources":{"unified":{"cgroup.max.depth":"1"}}}"#, &rootless);
        let root = planned("{}", &Options::default());
        let (ours, theirs) = (nothing.claim().unwrap(), root.claim().unwrap());
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(65534)).unwrap();
        let without = ours.create().unwrap();
        assert!(without.is_none() && without.v2().is_none());
        without.apply().unwrap();
        without.place(1, false).unwrap();
        for plan in [&path, &limit] {
            let error = plan.claim().unwrap().create().unwrap_err().to_string();
            assert!(error.starts_with("cgroup: mkdir(") && error.contains("EACCES"), "{error}");
        }
        assert!(theirs.create().is_err());
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
    });
}

#[test]
fn a_refused_device_program_is_an_error_unless_rootless() {
    inside("a_refused_device_program_is_an_error_unless_rootless", V2_VIEW, || {
        for rootless in [false, true] {
            let text = r#"{"ociVersion":"1.3.0","linux":{}}"#;
            let options = Options { rootless, ..Options::default() };
            let plan = plan_cgroup(&name("refused"), &config(text), &layout(), &options).unwrap();
            let cgroup = plan.claim().unwrap().create().unwrap();
            let _removed = Removed(plan.record());
            nix::unistd::seteuid(nix::unistd::Uid::from_raw(65534)).unwrap();
            let applied = cgroup.apply();
            nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
            match applied {
                Ok(()) => assert!(rootless, "a container without its device filter"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!rootless && error.starts_with("linux.resources.devices: bpf(BPF_PROG_LOAD"), "{error}");
                    assert!(error.contains("EPERM") && error.contains("CAP_BPF"), "{error}");
                }
            }
        }
    });
}

#[test]
fn the_containers_root_gets_the_files_of_delegation_only() {
    inside("the_containers_root_gets_the_files_of_delegation_only", V2_VIEW, || {
        let text = r#"{"ociVersion":"1.3.0","mounts":[{"destination":"/sys/fs/cgroup","type":"cgroup"}],
            "linux":{"namespaces":[{"type":"user"},{"type":"cgroup"}],
            "uidMappings":[{"containerID":0,"hostID":70000,"size":10}]}}"#;
        let plan = plan_cgroup(&name("owner"), &config(text), &layout(), &Options::default()).unwrap();
        let (_cgroup, removed) = made(&plan);
        let path = v2_path(&removed.0);
        let owner = |file: &str| std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("{path}{file}")).unwrap());
        for file in ["", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"] {
            assert_eq!(owner(file), 70000, "{file}");
        }
        assert_eq!(owner("/cgroup.max.depth"), 0);
        assert_eq!(owner("/cgroup.freeze"), 0);
    });
}

fn busy_stats(layout: &Layout, what: &str) -> serde_json::Value {
    let plan = plan(what, layout, "{}").unwrap();
    let (cgroup, removed) = made(&plan);
    let mut child =
        shell("x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 0 a b c d e f; do x=$x$x; done; while :; do :; done");
    cgroup.place(child.id(), false).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    let start = Instant::now();
    let total = || removed.0.stats().unwrap().cpu.usage.total;
    while total() < 50_000_000 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let stats = removed.0.stats().unwrap();
    assert!(stats.cpu.usage.total >= 50_000_000, "{stats:?}");
    // Ticks are sampled on v1: user time may be off from the total by some of them.
    assert!(stats.cpu.usage.user > 0, "{stats:?}");
    removed.0.kill_all(Signal::KILL).unwrap();
    child.wait().unwrap();
    serde_json::to_value(&stats).unwrap()
}

#[test]
fn statistics_come_from_v2() {
    inside("statistics_come_from_v2", V2_VIEW, || {
        let stats = busy_stats(&layout(), "stats");
        if Path::new("/proc/pressure/cpu").exists() {
            assert!(stats["cpu"]["psi"]["some"]["total"].is_u64(), "{stats}");
        }
        let gone = Record { v2: Some("/sys/fs/cgroup/none".into()), ..Record::default() };
        assert!(gone.stats().unwrap_err().to_string().contains("ENOENT"));
    });
}

#[test]
fn statistics_come_from_v1() {
    hybrid("statistics_come_from_v1", |layout| {
        let stats = busy_stats(layout, "stats");
        assert_eq!(stats["pids"]["current"], 1, "{stats}");
        assert!(stats["memory"]["usage"]["usage"].as_u64() > Some(0), "{stats}");
        assert!(stats["memory"]["raw"]["rss"].is_u64(), "{stats}");
        assert_eq!(stats["cpu"]["usage"]["percpu"].as_array().map(Vec::is_empty), Some(false), "{stats}");
        assert_eq!(stats["cpuset"]["cpus"][0], 0, "{stats}");
    });
}

#[test]
fn a_rootless_container_uses_the_hierarchies_it_may() {
    hybrid("a_rootless_container_uses_the_hierarchies_it_may", |layout| {
        let Layout::Hybrid { v1, .. } = layout else { unreachable!("checked by hybrid()") };
        let pids = v1.iter().find(|h| h.controllers.iter().any(|c| c == "pids")).unwrap();
        let delegated = format!("{}/{}", pids.mount, name("delegated"));
        fs::create_dir(&delegated).unwrap();
        std::os::unix::fs::chown(&delegated, Some(65534), None).unwrap();
        let own = format!("/{}/self", name("delegated"));
        let options = Options { rootless: true, own_cgroup: Some(&own), ..Options::default() };
        let text = r#"{"ociVersion":"1.3.0","linux":{"resources":{"pids":{"limit":7}}}}"#;
        let limited = plan_cgroup("c", &config(text), layout, &options).unwrap();
        let text = r#"{"ociVersion":"1.3.0","linux":{"resources":{"cpu":{"shares":7}}}}"#;
        let beyond = plan_cgroup("d", &config(text), layout, &options).unwrap();
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(65534)).unwrap();
        let cgroup = limited.claim().unwrap().create().unwrap();
        cgroup.apply().unwrap();
        assert_eq!(fs::read_to_string(format!("{delegated}/c/pids.max")).unwrap().trim(), "7");
        let error = beyond.claim().unwrap().create().unwrap_err().to_string();
        assert!(error.contains("EACCES"), "{error}");
        limited.record().remove().unwrap();
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
        assert_eq!(fs::read_dir(&delegated).unwrap().flatten().filter(|e| e.path().is_dir()).count(), 0);
        fs::remove_dir(delegated).unwrap();
    });
}

#[test]
fn an_oom_kill_is_told_when_it_happens() {
    hybrid("an_oom_kill_is_told_when_it_happens", |layout| {
        use rustix::event::{PollFd, Timespec, poll};
        let plan = plan("oom", layout, r#"{"memory":{"limit":33554432}}"#).unwrap();
        let (cgroup, removed) = made(&plan);
        let watch = removed.0.watch_memory().unwrap();
        let told = |seconds: i64| {
            let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
            poll(&mut [PollFd::new(&watch, watch.flags())], Some(&timeout)).unwrap() == 1
        };
        assert!(!told(0));
        assert_eq!(watch.read().unwrap().unwrap()["oom_kill"], 0);
        assert_eq!(run_in(&cgroup, "exec dd if=/dev/zero of=/dev/null bs=100M count=1").0, None);
        assert!(told(10));
        assert_eq!(watch.read().unwrap().unwrap()["oom_kill"], 1);
        assert!(!told(0));
        drop(cgroup);
        drop(removed);
        assert!(told(10), "the end of the cgroup is an event too");
        assert_eq!(watch.read().unwrap(), None);
    });
}
