//! update: new limits for a container that exists; events: what it uses and when memory ran out.
//! Limits show where their controllers are: with `--cgroup-view host` on a version 1 or hybrid machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Call, Done, Live, eventually};
use crate::case::{Group, Outcome, skip};
use crate::trial::Trial;
use crate::{ensure, equal, proc};

const MIB: u64 = 1 << 20;

pub fn group() -> Group {
    let mut group = Group::new("update", "engine contract");
    flags(&mut group);
    cpu_time(&mut group);
    swap(&mut group);
    files(&mut group);
    unchanged(&mut group);
    refusals(&mut group);
    group
}

/// The container's cgroup that has this controller, and whether it is one of version 1.
fn directory(t: &mut Trial, controller: &str) -> Outcome<(PathBuf, bool)> {
    let pid = t.pid()?;
    if let Some(directory) = proc::cgroup_directory(pid, controller)? {
        return Ok((directory, true));
    }
    if let (Some(mount), Some(directory)) = (proc::hierarchy("")?, proc::cgroup_directory(pid, "")?) {
        let list = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        if list.split_whitespace().any(|word| word == controller) {
            return Ok((directory, false));
        }
    }
    skip(format!("requires controller {controller}"))
}

/// The text of a control file, which has one name on each version.
fn control(t: &mut Trial, controller: &str, v1: &str, v2: &str) -> Outcome<String> {
    let (directory, old) = directory(t, controller)?;
    let path = directory.join(if old { v1 } else { v2 });
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_string()),
        Err(_) if !directory.join("cgroup.procs").exists() => crate::case::fail(format!("no {}", directory.display())),
        Err(_) => skip(format!("requires the control file {}", path.display())),
    }
}

fn pids(t: &mut Trial) -> Outcome<String> {
    control(t, "pids", "pids.max", "pids.max")
}

fn memory(t: &mut Trial) -> Outcome<String> {
    control(t, "memory", "memory.limit_in_bytes", "memory.max")
}

fn call(t: &mut Trial, words: &[&str]) -> Call {
    let id = t.id.clone();
    let mut all = vec!["update"];
    all.extend(words);
    all.push(&id);
    t.call(&all)
}

fn update(t: &mut Trial, words: &[&str]) -> Outcome<Done> {
    call(t, words).go()
}

fn update_from(t: &mut Trial, text: &str) -> Outcome<Done> {
    call(t, &["--resources", "-"]).stdin(text).go()
}

/// A sleeper with this limit of tasks and of memory, where the controllers are there.
fn limited(t: &mut Trial, pids: i64, memory: u64) -> Outcome {
    t.create()?;
    directory(t, "pids")?;
    directory(t, "memory")?;
    t.delete()?;
    t.set("/linux/resources/pids", json!({"limit": pids}));
    t.set("/linux/resources/memory", json!({"limit": memory}));
    t.sleeper()
}

fn flags(group: &mut Group) {
    group.add("a_pids_limit_is_changed_and_read_back", |t| {
        limited(t, 77, 64 * MIB)?;
        update(t, &["--pids-limit", "33"])?.ok()?;
        equal!(pids(t)?, "33", "pids.max");
        equal!(memory(t)?, (64 * MIB).to_string(), "the memory limit, which was not named");
        Ok(())
    });
    group.add("a_memory_limit_is_changed_and_read_back", |t| {
        limited(t, 77, 64 * MIB)?;
        update(t, &["--memory", &(96 * MIB).to_string()])?.ok()?;
        equal!(memory(t)?, (96 * MIB).to_string(), "memory limit");
        equal!(pids(t)?, "77", "pids.max, which was not named");
        Ok(())
    });
    group.add("several_flags_count_together", |t| {
        limited(t, 77, 64 * MIB)?;
        update(t, &["--pids-limit", "12", "--memory", &(80 * MIB).to_string()])?.ok()?;
        equal!((pids(t)?, memory(t)?), ("12".into(), (80 * MIB).to_string()), "limits");
        Ok(())
    });
    group.add("a_created_container_is_updated_before_start", |t| {
        t.create()?;
        directory(t, "pids")?;
        update(t, &["--pids-limit", "21"])?.ok()?;
        equal!((pids(t)?.as_str(), t.status()?.as_str()), ("21", "created"), "pids.max and status");
        Ok(())
    });
    group.add("a_paused_container_is_updated_and_stays_paused", |t| {
        limited(t, 77, 64 * MIB)?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        update(t, &["--pids-limit", "21"])?.ok()?;
        equal!((pids(t)?.as_str(), t.status()?.as_str()), ("21", "paused"), "pids.max and status");
        Ok(())
    });
}

fn cpu_time(group: &mut Group) {
    group.add("cpu_shares_are_changed", |t| {
        t.sleeper()?;
        let (_, old) = directory(t, "cpu")?;
        update(t, &["--cpu-share", "512"])?.ok()?;
        let found = control(t, "cpu", "cpu.shares", "cpu.weight")?;
        ensure!(if old { found == "512" } else { found != "100" }, "cpu.shares or cpu.weight is {found}");
        Ok(())
    });
    // One file holds both on version 2.
    for (words, wanted) in [(["--cpu-quota", "30000"], (30_000, 50_000)), (["--cpu-period", "40000"], (20_000, 40_000))]
    {
        group.add(format!("{}_alone_leaves_the_other_as_it_is", words[0].trim_start_matches('-')), move |t| {
            t.create()?;
            directory(t, "cpu")?;
            t.delete()?;
            t.set("/linux/resources/cpu", json!({"quota": 20_000, "period": 50_000}));
            t.sleeper()?;
            update(t, &words)?.ok()?;
            let found = if directory(t, "cpu")?.1 {
                let (quota, period) = ("cpu.cfs_quota_us", "cpu.cfs_period_us");
                format!("{} {}", control(t, "cpu", quota, "")?, control(t, "cpu", period, "")?)
            } else {
                control(t, "cpu", "", "cpu.max")?
            };
            equal!(found, format!("{} {}", wanted.0, wanted.1), "quota and period");
            Ok(())
        });
    }
}

fn swap(group: &mut Group) {
    const FILES: (&str, &str) = ("memory.memsw.limit_in_bytes", "memory.swap.max");
    let why = "on cgroup v2 both peers ask for the memory limit again; engine contract: an update names what changes";
    group.add_beyond_peers(why, "memory_and_swap_together_without_the_memory_limit", |t| {
        limited(t, 77, 64 * MIB)?;
        control(t, "memory", FILES.0, FILES.1)?;
        update(t, &["--memory-swap", &(96 * MIB).to_string()])?.ok()?;
        let swap = if directory(t, "memory")?.1 { 96 * MIB } else { 32 * MIB };
        equal!(control(t, "memory", FILES.0, FILES.1)?, swap.to_string(), "swap limit");
        equal!(memory(t)?, (64 * MIB).to_string(), "memory limit");
        Ok(())
    });
    group.add("a_limit_of_kernel_memory_is_taken_without_effect", |t| {
        t.sleeper()?;
        update(t, &["--kernel-memory", "1048576"])?.ok()?;
        Ok(())
    });
}

fn files(group: &mut Group) {
    group.add("resources_come_from_stdin", |t| {
        limited(t, 77, 64 * MIB)?;
        let text = json!({"pids": {"limit": 44}, "memory": {"limit": 80 * MIB}}).to_string();
        update_from(t, &text)?.ok()?;
        equal!((pids(t)?, memory(t)?), ("44".into(), (80 * MIB).to_string()), "limits");
        Ok(())
    });
    group.add("resources_come_from_a_file_and_other_flags_are_ignored", |t| {
        limited(t, 77, 64 * MIB)?;
        let file = t.scratch.join("resources.json");
        fs::write(&file, r#"{"pids":{"limit":45}}"#)?;
        update(t, &["-r", &file.display().to_string(), "--memory", &(80 * MIB).to_string()])?.ok()?;
        equal!((pids(t)?, memory(t)?), ("45".into(), (64 * MIB).to_string()), "limits");
        Ok(())
    });
    group.add("an_empty_object_changes_nothing", |t| {
        limited(t, 77, 64 * MIB)?;
        update_from(t, "{}")?.ok()?;
        equal!((pids(t)?, memory(t)?), ("77".into(), (64 * MIB).to_string()), "limits");
        Ok(())
    });
    group.add("a_limit_of_minus_one_is_none", |t| {
        limited(t, 77, 64 * MIB)?;
        update_from(t, r#"{"pids":{"limit":-1}}"#)?.ok()?;
        equal!(pids(t)?, "max", "pids.max");
        Ok(())
    });
    // runc 1.1.5 drops it without a word.
    group.citing("config-linux.md#huge-page-limits");
    group.add("a_huge_page_limit_is_changed", |t| {
        t.sleeper()?;
        let (directory, old) = directory(t, "hugetlb")?;
        if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            return skip("requires huge pages of 2 MB");
        }
        // On version 2 the controller may be on only from now on.
        update_from(t, r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#)?.ok()?;
        let file = directory.join(if old { "hugetlb.2MB.limit_in_bytes" } else { "hugetlb.2MB.max" });
        equal!(fs::read_to_string(file)?.trim(), "4194304", "huge page limit");
        Ok(())
    });
    group.citing("engine contract");
}

fn unchanged(group: &mut Group) {
    group.add("the_device_list_stays", |t| {
        t.sleeper()?;
        let (directory, old) = directory(t, "devices")?;
        if !old {
            return skip("requires controller devices on a version 1 hierarchy");
        }
        let list = fs::read_to_string(directory.join("devices.list"))?;
        update_from(t, r#"{"devices":[{"allow":true,"access":"rwm"}]}"#)?.ok()?;
        equal!(fs::read_to_string(directory.join("devices.list"))?, list, "devices.list");
        Ok(())
    });
    for (name, text) in
        [("that_is_no_json", "{\"pids\":"), ("of_another_type", r#"{"pids":{"limit":"many"}}"#), ("that_is_empty", "")]
    {
        group.add(format!("a_file_{name}_is_refused_and_changes_nothing"), move |t| {
            t.sleeper()?;
            let done = update_from(t, text)?.refused()?;
            ensure!(!done.stderr.trim().is_empty(), "the refusal says nothing on stderr");
            equal!(t.status()?, "running", "status");
            Ok(())
        });
    }
}

fn refusals(group: &mut Group) {
    group.add("an_unknown_id_is_an_error", |t| {
        let done = t.call(&["update", "--pids-limit", "5", "no-such-id"]).go()?.refused()?;
        ensure!(done.stderr.contains("does not exist"), "stderr: {}", done.stderr);
        Ok(())
    });
    group.add("a_stopped_container_is_an_error", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        let done = update(t, &["--pids-limit", "5"])?.refused()?;
        ensure!(done.stderr.contains("not running"), "stderr: {}", done.stderr);
        Ok(())
    });
    group.add("a_file_that_is_not_there_is_an_error", |t| {
        t.sleeper()?;
        let done = update(t, &["--resources", "/no/such/file"])?.refused()?;
        ensure!(done.stderr.to_lowercase().contains("no such file"), "stderr: {}", done.stderr);
        Ok(())
    });
    for flag in ["--l3-cache-schema", "--mem-bw-schema"] {
        group.add(format!("{}_without_resctrl_is_an_error", flag.trim_start_matches('-')), move |t| {
            t.sleeper()?;
            let done = update(t, &[flag, "L3:0=1"])?.refused()?;
            ensure!(!done.stderr.trim().is_empty(), "the refusal says nothing on stderr");
            Ok(())
        });
    }
    group.add("a_value_that_the_kernel_refuses_is_an_error", |t| {
        t.sleeper()?;
        directory(t, "cpu")?;
        update(t, &["--cpu-quota", "1"])?.refused()?;
        Ok(())
    });
}

pub fn events() -> Group {
    let mut group = Group::new("events", "engine contract");
    samples(&mut group);
    stream(&mut group);
    group
}

/// A case for runtimes that have the verb.
fn add(group: &mut Group, name: impl AsRef<str>, body: impl Fn(&mut Trial) -> Outcome + Send + Sync + 'static) {
    group.add(name, move |t| requires_events(t).and_then(|()| body(t)));
}

fn requires_events(t: &mut Trial) -> Outcome {
    if t.call(&["events", "--help"]).go()?.stderr.contains("unknown command") {
        return skip("requires the verb `events`, which this runtime lacks");
    }
    Ok(())
}

/// The lines of `events`, each a JSON object of this container.
fn parsed(t: &Trial, text: &str) -> Outcome<Vec<Value>> {
    // The last line may be half written while the verb goes on.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    for line in &lines {
        equal!(line["id"], json!(t.id), "id");
    }
    Ok(lines)
}

fn samples(group: &mut Group) {
    add(group, "stats_prints_one_sample_and_returns", |t| {
        t.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done > /out/done; sleep 1000");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/done"))?;
        let id = t.id.clone();
        let done = t.call(&["events", "--stats", &id]).go()?.ok()?;
        let lines = parsed(t, &done.stdout)?;
        equal!(lines.len(), 1, "lines");
        equal!(lines[0]["type"], "stats", "type");
        let data = &lines[0]["data"];
        ensure!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "cpu.usage.total: {data}");
        ensure!(data["cpu"]["usage"]["user"].is_u64() && data["cpu"]["usage"]["kernel"].is_u64(), "cpu.usage: {data}");
        for part in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
            ensure!(data[part].is_object(), "{part}: {data}");
        }
        Ok(())
    });
    add(group, "stats_show_the_limits_and_the_use", |t| {
        limited(t, 77, 64 * MIB)?;
        let id = t.id.clone();
        let done = t.call(&["events", "--stats", &id]).go()?.ok()?;
        let lines = parsed(t, &done.stdout)?;
        let data = &lines[0]["data"];
        equal!((&data["pids"]["limit"], &data["pids"]["current"]), (&json!(77), &json!(1)), "pids");
        equal!(data["memory"]["usage"]["limit"], 64 * MIB, "memory.usage.limit");
        ensure!(data["memory"]["usage"]["usage"].as_u64() > Some(0), "memory.usage.usage: {data}");
        Ok(())
    });
    // Of version 1.2 of runc.
    let why = "neither runc 1.1.5 nor crun 1.8.1 has it; engine contract: pressure has the names of runc's events";
    group.add_beyond_peers(why, "stats_show_the_pressure_that_the_kernel_shows", |t| {
        requires_events(t)?;
        // More to do than there are CPUs, so that somebody waits.
        t.sh("for i in 1 2 3 4; do while :; do :; done & done; wait");
        t.create_started()?;
        let own = proc::cgroup_directory(t.pid()?, "")?.unwrap_or_default();
        let total = |part: &str, line: &str| -> Option<u64> {
            let text = fs::read_to_string(own.join(format!("{part}.pressure"))).ok()?;
            let found = text.lines().find(|text| text.starts_with(line))?;
            found.split("total=").nth(1)?.parse().ok()
        };
        if total("cpu", "some").is_none() {
            return skip("requires pressure stall information in the kernel (psi=1)");
        }
        let waits = eventually(t.limit(Duration::from_secs(8)), || Ok(total("cpu", "some") > Some(0)))?;
        ensure!(waits, "four busy loops never waited for a CPU");
        let id = t.id.clone();
        for (part, file) in [("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")] {
            for line in ["some", "full"] {
                let before = total(file, line);
                let done = t.call(&["events", "--stats", &id]).go()?.ok()?;
                let after = total(file, line);
                let psi = parsed(t, &done.stdout)?[0]["data"][part]["psi"][line].clone();
                let found = psi["total"].as_u64();
                ensure!(before <= found && found <= after, "{part} {line}: {before:?} <= {psi} <= {after:?}");
                for average in ["avg10", "avg60", "avg300"] {
                    ensure!(psi[average].is_f64() || psi[average].is_u64(), "{part} {line}: {psi}");
                }
            }
        }
        Ok(())
    });
    for words in [&["--stats"][..], &[]] {
        let name = if words.is_empty() { "the_stream" } else { "stats" };
        add(group, format!("{name}_of_a_stopped_container_is_an_error"), move |t| {
            t.create_started()?;
            t.wait_for_status("stopped")?;
            let id = t.id.clone();
            let done = t.call(&[&["events"], words, &[&id]].concat()).go()?.refused()?;
            ensure!(done.stderr.contains(&format!("container with id {id} is not running")), "stderr: {}", done.stderr);
            Ok(())
        });
    }
    add(group, "an_unknown_id_is_an_error", |t| {
        let done = t.call(&["events", "--stats", "no-such-id"]).go()?.refused()?;
        ensure!(done.stderr.contains("does not exist"), "stderr: {}", done.stderr);
        Ok(())
    });
    add(group, "an_interval_of_nothing_is_refused", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["events", "--interval", "0s", &id]).go()?.refused()?;
        Ok(())
    });
}

/// Waits for `count` lines of this type.
fn lines(t: &Trial, live: &Live, kind: &str, count: usize) -> Outcome {
    let mut found = Vec::new();
    let enough = eventually(t.limit(Duration::from_secs(8)), || {
        found = parsed(t, &fs::read_to_string(&live.stdout)?)?;
        Ok(found.iter().filter(|line| line["type"] == kind).count() >= count)
    })?;
    ensure!(enough, "not {count} lines of type {kind}: {found:?}");
    Ok(())
}

fn requires_oom_events(t: &mut Trial) -> Outcome {
    t.create()?;
    directory(t, "memory")?;
    t.delete()?;
    Ok(())
}

fn stream(group: &mut Group) {
    add(group, "samples_come_at_the_interval_until_the_container_is_deleted", |t| {
        requires_oom_events(t)?;
        t.sleeper()?;
        let id = t.id.clone();
        let live = t.call(&["events", "--interval", "100ms", &id]).spawn()?;
        lines(t, &live, "stats", 3)?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        equal!(live.wait()?.code, Some(0), "exit status");
        Ok(())
    });
    group.add_beyond_peers(
        "runc goes on until the cgroup is removed, and needs OOM events; engine contract: the container has ended",
        "the_stream_ends_with_the_container",
        |t| {
            requires_events(t)?;
            t.sleeper()?;
            let id = t.id.clone();
            let live = t.call(&["events", "--interval", "100ms", &id]).spawn()?;
            lines(t, &live, "stats", 1)?;
            t.kill("KILL")?.ok()?;
            equal!(live.wait()?.code, Some(0), "exit status");
            Ok(())
        },
    );
    for (name, prefix) in [("of_a_child", ""), ("of_the_container_itself", "exec ")] {
        add(group, format!("memory_{name}_that_ran_out_is_told"), move |t| out_of_memory(t, prefix));
    }
    add(group, "an_oom_is_told_when_it_happens_and_not_at_the_next_interval", |t| {
        limited_to_32_mib(t)?;
        // No sample says when the watch is set up, so memory runs out until it is told.
        t.sh("while :; do dd if=/dev/zero of=/dev/null bs=100M count=1; usleep 200000; done");
        t.create_started()?;
        let id = t.id.clone();
        let live = t.call(&["events", "--interval", "1h", &id]).spawn()?;
        lines(t, &live, "oom", 1)?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        equal!(live.wait()?.code, Some(0), "exit status");
        Ok(())
    });
}

/// Of memory and swap together, where a machine has swap: what memory cannot hold would go there.
fn limited_to_32_mib(t: &mut Trial) -> Outcome {
    requires_oom_events(t)?;
    t.set("/linux/resources/memory", json!({"limit": 32 * MIB}));
    if fs::read_to_string("/proc/swaps")?.lines().count() > 1 {
        t.set("/linux/resources/memory/swap", json!(32 * MIB));
    }
    Ok(())
}

/// `dd` takes more than the limit, started with `prefix`.
fn out_of_memory(t: &mut Trial, prefix: &str) -> Outcome {
    limited_to_32_mib(t)?;
    let wait = "until [ -e /out/go ]; do usleep 5000; done";
    t.sh(&format!("{wait}; {prefix}dd if=/dev/zero of=/dev/null bs=100M count=1; sleep 1000"));
    t.create_started()?;
    let id = t.id.clone();
    let live = t.call(&["events", "--interval", "100ms", &id]).spawn()?;
    // A sample shows that the watch is set up.
    lines(t, &live, "stats", 1)?;
    fs::write(t.rootfs().join("out/go"), "x")?;
    lines(t, &live, "oom", 1)?;
    t.call(&["delete", "--force", &id]).go()?.ok()?;
    equal!(live.wait()?.code, Some(0), "exit status");
    Ok(())
}
