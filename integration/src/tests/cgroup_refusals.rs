//! Bad input for cgroups: a value that is none, a place that may not be had. Each is refused in one line
//! that names what is wrong, the payload does not run, and nothing of the container is left.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cgroups::directory;
use crate::case::{Group, Outcome, skip};
use crate::ensure;
use crate::mode::Mode;
use crate::trial::{Trial, has_controller, requires_controller};

const LINE: &str = "peers take it, or say it otherwise; engine contract: the line is all that the user gets to see";

pub fn group() -> Group {
    let mut group = Group::new("cgroup_refusals", "runtime.md#errors");
    values(&mut group);
    kernel_values(&mut group);
    updates(&mut group);
    keys(&mut group);
    paths(&mut group);
    places(&mut group);
    group
}

/// One line on stderr that holds `word`; the payload has not run, and the id is free.
fn refused(t: &mut Trial, word: &str) -> Outcome {
    let done = t.run_refused()?;
    one_line(&done.stderr, word)
}

fn one_line(stderr: &str, word: &str) -> Outcome {
    ensure!(stderr.trim().lines().count() == 1, "not one line: {stderr}");
    ensure!(stderr.contains(word), "{word} is not in: {stderr}");
    Ok(())
}

/// Numbers that no limit can be, whatever the kernel has.
fn values(group: &mut Group) {
    let device = |major: i64, rate: i64| json!([{"major": major, "minor": 0, "rate": rate}]);
    let no_number_of_its_type = [
        ("a_pids_limit_beyond_64_bits", "pids/limit", json!(1e20)),
        ("a_memory_limit_beyond_64_bits", "memory/limit", json!(1e20)),
        ("a_memory_limit_that_is_text", "memory/limit", json!("64M")),
        ("a_negative_number_of_cpu_shares", "cpu/shares", json!(-1)),
        ("a_cpu_period_beyond_64_bits", "cpu/period", json!(1e20)),
        ("a_negative_throttle", "blockIO/throttleReadBpsDevice", device(8, -5)),
        ("a_huge_page_limit_below_zero", "hugepageLimits", json!([{"pageSize": "2MB", "limit": -1}])),
    ];
    for (name, pointer, value) in no_number_of_its_type {
        group.add(format!("{name}_is_refused"), move |t| value_refused(t, pointer, &value));
    }
    let no_limit = [
        ("a_pids_limit_of_minus_two", "pids/limit", json!(-2)),
        ("a_memory_limit_of_minus_five", "memory/limit", json!(-5)),
        ("a_memory_reservation_of_minus_two", "memory/reservation", json!(-2)),
        ("a_cpu_quota_of_minus_two", "cpu/quota", json!(-2)),
        ("a_throttle_of_a_negative_device", "blockIO/throttleReadBpsDevice", device(-1, 5)),
        ("a_weight_above_a_thousand", "blockIO/weight", json!(1001)),
        ("a_huge_page_size_that_is_a_path", "hugepageLimits", json!([{"pageSize": "../x", "limit": 1}])),
    ];
    for (name, pointer, value) in no_limit {
        group.add_beyond_peers(LINE, format!("{name}_is_refused"), move |t| value_refused(t, pointer, &value));
    }
}

fn value_refused(t: &mut Trial, pointer: &str, value: &Value) -> Outcome {
    t.set(&format!("/linux/resources/{pointer}"), value.clone());
    refused(t, pointer.split('/').next().unwrap_or(pointer))
}

/// Numbers that could be a limit, and that the kernel does not take.
fn kernel_values(group: &mut Group) {
    for (name, controller, resources, file) in [
        ("more_pids_than_there_can_be", "pids", json!({"pids": {"limit": i64::MAX}}), "pids.max"),
        ("a_quota_below_a_millisecond", "cpu", json!({"cpu": {"quota": 1, "period": 100_000}}), "cpu.max"),
        ("a_period_above_a_second", "cpu", json!({"cpu": {"quota": 50_000, "period": 2_000_000}}), "cpu.max"),
        ("cpus_that_are_no_list", "cpuset", json!({"cpu": {"cpus": "0-"}}), "cpuset.cpus"),
        ("a_memory_node_that_is_not_there", "cpuset", json!({"cpu": {"mems": "999"}}), "cpuset.mems"),
        ("a_unified_value_that_is_no_number", "memory", json!({"unified": {"memory.high": "lots"}}), "memory.high"),
    ] {
        group.add(format!("{name}_is_refused"), move |t| {
            t.requires_controller(controller)?;
            for (key, value) in resources.as_object().into_iter().flatten() {
                t.set(&format!("/linux/resources/{key}"), value.clone());
            }
            let done = t.run_refused()?;
            ensure!(done.stderr.contains(file), "{file} is not in: {}", done.stderr);
            ensure!(!directory(t)?.exists(), "{} is still there", directory(t)?.display());
            Ok(())
        });
    }
}

/// The same by `update`: the container goes on as it was.
fn updates(group: &mut Group) {
    for (name, resources, word) in [
        ("a_negative_pids_limit", json!({"pids": {"limit": -2}}), "pids"),
        ("a_negative_memory_limit", json!({"memory": {"limit": -5}}), "memory"),
        ("a_memory_limit_beyond_64_bits", json!({"memory": {"limit": 1e20}}), "memory"),
        ("an_unknown_unified_key", json!({"unified": {"nosuchcontroller.max": "1"}}), "nosuchcontroller"),
    ] {
        group.add_beyond_peers(LINE, format!("an_update_to_{name}_is_refused"), move |t| {
            directory(t)?;
            t.sleeper()?;
            let id = t.id.clone();
            let text = resources.to_string();
            let done = t.call(&["update", "--resources", "-", &id]).stdin(text).go()?.refused()?;
            one_line(&done.stderr, word)?;
            ensure!(t.status()? == "running", "the container is {}", t.status()?);
            Ok(())
        });
    }
}

fn keys(group: &mut Group) {
    group.citing("config-linux.md#unified");
    for (name, key, word) in [
        ("of_an_unknown_controller", "nosuchcontroller.max", "nosuchcontroller.max"),
        ("of_an_unknown_file", "cgroup.nosuchfile", "cgroup.nosuchfile"),
        ("without_a_dot", "nosuchfile", "nosuchfile"),
        ("with_a_slash", "../cgroup.procs", "cgroup.procs"),
    ] {
        let body = move |t: &mut Trial| -> Outcome {
            directory(t)?;
            t.set("/linux/resources/unified", json!({key: "1"}));
            refused(t, word)?;
            ensure!(!directory(t)?.exists(), "{} is still there", directory(t)?.display());
            Ok(())
        };
        group.add_beyond_peers(LINE, format!("a_unified_key_{name}_is_refused"), body);
    }
    group.citing("runtime.md#errors");
    group.add_beyond_peers(LINE, "a_limit_whose_controller_is_not_there_is_refused", |t| {
        directory(t)?;
        let limits: [(&str, &str, Value); 4] = [
            ("memory", "memory", json!({"limit": 64 << 20})),
            ("cpu", "cpu", json!({"quota": 50_000, "period": 100_000})),
            ("pids", "pids", json!({"limit": 50})),
            ("io", "blockIO", json!({"weight": 100})),
        ];
        let Some((name, key, value)) = limits.into_iter().find(|(name, ..)| !has_controller(name)) else {
            return skip("requires a cgroup2 hierarchy that lacks a controller");
        };
        t.set(&format!("/linux/resources/{key}"), value);
        refused(t, name)?;
        ensure!(!directory(t)?.exists(), "{} is still there", directory(t)?.display());
        Ok(())
    });
}

fn paths(group: &mut Group) {
    group.citing("config-linux.md#cgroups-path");
    let long = "x".repeat(300);
    for (name, path, word) in [
        ("with_dots", "/xbt/../outside".to_owned(), ".."),
        ("of_dots_alone", "../..".to_owned(), ".."),
        ("to_the_root", "/".to_owned(), "cgroup"),
        ("with_a_line_break", "/xbt/a\nb".to_owned(), "cgroup"),
        ("with_a_name_of_300_bytes", format!("/xbt/{long}"), "cgroup"),
    ] {
        group.add_beyond_peers(LINE, format!("a_path_{name}_is_refused"), move |t| {
            directory(t)?;
            t.set("/linux/cgroupsPath", json!(path));
            refused(t, word)?;
            ensure!(!Path::new("/sys/fs/cgroup/outside").exists(), "a cgroup was made outside");
            Ok(())
        });
    }
}

/// A cgroup that is there before the container.
fn occupied(t: &Trial, name: &str) -> Outcome<PathBuf> {
    directory(t)?;
    let place = PathBuf::from(format!("/sys/fs/cgroup{}/{name}", t.cgroup_base()));
    fs::create_dir(&place)?;
    Ok(place)
}

fn places(group: &mut Group) {
    let why = "runc 1.1.5 and crun 1.8.1 join it; config-linux.md#cgroups-path: runtimes MAY consider certain values invalid, and here one container's limits and kills would be another's";
    group.add_beyond_peers(why, "a_cgroup_with_processes_of_another_is_refused_and_they_live", |t| {
        let place = occupied(t, "busy")?;
        t.give_to_caller(&place)?;
        let mut other = std::process::Command::new("/bin/sleep").arg("1000").spawn()?;
        fs::write(place.join("cgroup.procs"), other.id().to_string())?;
        let path = format!("{}/busy", t.cgroup_base());
        t.set("/linux/cgroupsPath", json!(path));
        let outcome = refused(t, "busy");
        let lives = other.try_wait()?.is_none();
        other.kill()?;
        other.wait()?;
        fs::remove_dir(place)?;
        ensure!(lives, "the process that was there is gone");
        outcome
    });
    let why = "runc 1.1.5 says it in two lines, crun 1.8.1 leaves the cgroup; runtime.md#errors: as if the operation were never attempted";
    group.add_beyond_peers(why, "a_limit_below_a_cgroup_with_processes_is_refused", |t| {
        requires_controller("memory")?;
        let place = occupied(t, "busy")?;
        t.give_to_caller(&place)?;
        let mut other = std::process::Command::new("/bin/sleep").arg("1000").spawn()?;
        fs::write(place.join("cgroup.procs"), other.id().to_string())?;
        // The kernel's "no internal processes" rule, which threaded controllers such as pids are exempt from.
        let path = format!("{}/busy/below", t.cgroup_base());
        t.set("/linux/cgroupsPath", json!(path));
        t.set("/linux/resources/memory", json!({"limit": 64 << 20}));
        let outcome = refused(t, "busy");
        other.kill()?;
        other.wait()?;
        let left = place.join("below").exists();
        fs::remove_dir(place)?;
        ensure!(!left, "{path} is still there");
        outcome
    });
    group.add("a_cgroup_of_somebody_else_is_refused", |t| {
        if t.mode != Mode::User {
            return skip("requires an ordinary user as the caller (--as-user)");
        }
        let place = occupied(t, "roots")?;
        let path = format!("{}/roots/below", t.cgroup_base());
        t.set("/linux/cgroupsPath", json!(path));
        let outcome = refused(t, "roots");
        fs::remove_dir(place)?;
        outcome
    });
}
