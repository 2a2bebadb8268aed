//! What limits do on cgroup v2, beyond the number in the file: killed, refused, throttled, stopped.
//! Most need controllers that a hybrid host keeps on version 1: integration/vm has a VM with all.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::cgroups::directory;
use crate::call::{Done, eventually};
use crate::case::{Group, Outcome, Stop, skip};
use crate::mode::Mode;
use crate::trial::{Trial, requires_controller};
use crate::{ensure, equal, proc};

const MIB: u64 = 1 << 20;

pub fn group() -> Group {
    let mut group = Group::new("resources", "config-linux.md#memory");
    memory(&mut group);
    memory_update(&mut group);
    pids(&mut group);
    cpu(&mut group);
    cpuset(&mut group);
    io(&mut group);
    huge_pages(&mut group);
    devices(&mut group);
    freezing(&mut group);
    unified(&mut group);
    nothing_left(&mut group);
    group
}

fn resources(t: &mut Trial, value: Value) {
    for (key, value) in value.as_object().into_iter().flatten() {
        t.set(&format!("/linux/resources/{key}"), value.clone());
    }
}

/// A control file of the container's cgroup, without the line's end.
fn read(t: &Trial, file: &str) -> Outcome<String> {
    let path = directory(t)?.join(file);
    let text = fs::read_to_string(&path).map_err(|error| Stop::Fail(format!("{}: {error}", path.display())))?;
    Ok(text.trim_end().to_string())
}

/// The number behind `key` in a control file of such lines.
fn counter(t: &Trial, file: &str, key: &str) -> Outcome<u64> {
    let text = read(t, file)?;
    let number = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    number.ok_or_else(|| Stop::Fail(format!("no {key} in {file}: {text}")))
}

fn requires_file(t: &mut Trial, file: &str) -> Outcome {
    t.create()?;
    let there = directory(t)?.join(file).exists();
    t.delete()?;
    if there { Ok(()) } else { skip(format!("requires the control file {file}")) }
}

fn requires_swap() -> Outcome {
    match fs::read_to_string("/proc/swaps")?.lines().count() {
        0 | 1 => skip("requires swap"),
        _ => Ok(()),
    }
}

fn update_from(t: &mut Trial, value: &Value) -> Outcome<Done> {
    let id = t.id.clone();
    t.call(&["update", "--resources", "-", &id]).stdin(value.to_string()).go()
}

/// dd with a buffer of this many MiB, as the container's first process.
fn takes(t: &mut Trial, mebibytes: u64) {
    t.args(&["/bin/dd", "if=/dev/zero", "of=/dev/null", &format!("bs={mebibytes}M"), "count=1"]);
}

fn memory(group: &mut Group) {
    group.add("a_process_above_the_memory_limit_is_killed_and_run_says_137", |t| {
        requires_controller("memory")?;
        resources(t, json!({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}));
        takes(t, 100);
        equal!(t.run()?.code, Some(137), "exit status");
        Ok(())
    });
    group.add("the_kill_is_counted_in_memory_events", |t| {
        requires_controller("memory")?;
        resources(t, json!({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}));
        takes(t, 100);
        t.create_started()?;
        t.wait_for_status("stopped")?;
        ensure!(counter(t, "memory.events", "oom_kill")? > 0, "{}", read(t, "memory.events")?);
        Ok(())
    });
    group.add("memory_within_the_limit_is_granted", |t| {
        requires_controller("memory")?;
        resources(t, json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}));
        takes(t, 16);
        t.run()?.ok()?;
        Ok(())
    });
    group.add("swap_above_the_memory_limit_is_used", |t| {
        requires_controller("memory")?;
        requires_swap()?;
        resources(t, json!({"memory": {"limit": 32 * MIB, "swap": 96 * MIB}}));
        takes(t, 48);
        t.run()?.ok()?;
        Ok(())
    });
    group.add("swap_that_equals_the_memory_limit_is_none", |t| {
        requires_controller("memory")?;
        requires_file(t, "memory.swap.max")?;
        resources(t, json!({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}));
        t.create()?;
        equal!(read(t, "memory.swap.max")?, "0", "memory.swap.max");
        Ok(())
    });
    group.add("unlimited_swap_beside_a_memory_limit", |t| {
        requires_controller("memory")?;
        requires_file(t, "memory.swap.max")?;
        resources(t, json!({"memory": {"limit": 32 * MIB, "swap": -1}}));
        t.create()?;
        equal!((read(t, "memory.swap.max")?, read(t, "memory.max")?), ("max".into(), (32 * MIB).to_string()), "limits");
        Ok(())
    });
    group.add("swap_below_the_memory_limit_is_refused", |t| {
        requires_controller("memory")?;
        resources(t, json!({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}));
        t.run_refused()?;
        Ok(())
    });
}

/// A container that holds some 24 MiB until it ends.
fn holder(t: &mut Trial, limit: Value) -> Outcome {
    requires_controller("memory")?;
    resources(t, json!({"memory": limit}));
    t.mount("/hold", "tmpfs", "tmpfs", &["size=64m"]);
    t.sh("dd if=/dev/zero of=/hold/file bs=1M count=24 2>/out/held; sleep 1000");
    t.create_started()?;
    let out = t.rootfs().join("out/held");
    let held = eventually(t.limit(Duration::from_secs(5)), || {
        Ok(fs::read_to_string(&out).is_ok_and(|text| text.contains("records out")))
    })?;
    ensure!(held, "the payload never filled its memory");
    Ok(())
}

fn memory_update(group: &mut Group) {
    group.add("a_limit_below_the_use_is_refused_with_checkbeforeupdate", |t| {
        holder(t, json!({"limit": 128 * MIB, "swap": 128 * MIB}))?;
        let wanted = json!({"memory": {"limit": 8 * MIB, "swap": 8 * MIB, "checkBeforeUpdate": true}});
        let done = update_from(t, &wanted)?.refused()?;
        ensure!(!done.stderr.trim().is_empty(), "the refusal says nothing on stderr");
        equal!(read(t, "memory.max")?, (128 * MIB).to_string(), "memory.max");
        equal!(t.status()?, "running", "status");
        Ok(())
    });
    group.add("a_limit_above_the_use_is_taken_with_checkbeforeupdate", |t| {
        holder(t, json!({"limit": 128 * MIB, "swap": 128 * MIB}))?;
        let wanted = json!({"memory": {"limit": 96 * MIB, "swap": 96 * MIB, "checkBeforeUpdate": true}});
        update_from(t, &wanted)?.ok()?;
        equal!(read(t, "memory.max")?, (96 * MIB).to_string(), "memory.max");
        equal!(t.status()?, "running", "status");
        Ok(())
    });
    group.add("a_lowered_limit_holds_for_what_comes_after", |t| {
        requires_controller("memory")?;
        resources(t, json!({"memory": {"limit": 256 * MIB, "swap": 256 * MIB}}));
        let dd = "dd if=/dev/zero of=/dev/null bs=100M count=1; echo $? > /out/status";
        t.sh(&format!("until [ -e /out/go ]; do usleep 5000; done; {dd}; sleep 1000"));
        t.create_started()?;
        update_from(t, &json!({"memory": {"limit": 32 * MIB, "swap": 32 * MIB}}))?.ok()?;
        fs::write(t.rootfs().join("out/go"), "x")?;
        equal!(t.wait_for_file(t.rootfs().join("out/status"))?.trim(), "137", "status of dd");
        Ok(())
    });
    group.add("every_limit_is_taken_back_by_minus_one", |t| {
        requires_controller("memory")?;
        requires_controller("cpu")?;
        requires_controller("pids")?;
        resources(
            t,
            json!({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}, "pids": {"limit": 50},
                "cpu": {"quota": 50_000, "period": 100_000}}),
        );
        t.sleeper()?;
        let none = json!({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}});
        update_from(t, &none)?.ok()?;
        for file in ["memory.max", "pids.max"] {
            equal!(read(t, file)?, "max", "{file}");
        }
        equal!(read(t, "cpu.max")?, "max 100000", "cpu.max");
        Ok(())
    });
}

fn pids(group: &mut Group) {
    group.citing("config-linux.md#pids");
    group.add("tasks_beyond_the_limit_are_refused_and_counted", |t| {
        requires_controller("pids")?;
        resources(t, json!({"pids": {"limit": 4}}));
        t.sh("for i in 1 2 3 4 5 6; do sleep 1000 & done 2>/out/errors; echo done > /out/done; wait");
        t.create_started()?;
        let refused = eventually(t.limit(Duration::from_secs(5)), || Ok(counter(t, "pids.events", "max")? > 0))?;
        ensure!(refused, "pids.events: {}", read(t, "pids.events")?);
        ensure!(read(t, "pids.current")?.parse::<u32>()? <= 4, "pids.current: {}", read(t, "pids.current")?);
        Ok(())
    });
    let why = "runc 1.1.5 takes it for no limit, crun 1.8.1 takes no configuration of this version; config-linux.md#pids: 0 is a valid limit value";
    group.add_beyond_peers(why, "a_limit_of_zero_forbids_every_child", |t| {
        requires_controller("pids")?;
        // In older configurations 0 was the default.
        t.set("/ociVersion", json!("1.3.0"));
        resources(t, json!({"pids": {"limit": 0}}));
        t.sh("echo first; (echo second); true");
        let done = t.run()?;
        ensure!(done.stdout.contains("first") && !done.stdout.contains("second"), "output: {}", done.stdout);
        Ok(())
    });
}

const BUSY: &str = "while :; do :; done";

fn cpu(group: &mut Group) {
    group.citing("config-linux.md#cpu");
    group.add("a_quota_throttles", |t| {
        requires_controller("cpu")?;
        resources(t, json!({"cpu": {"quota": 10_000, "period": 100_000}}));
        t.sh(BUSY);
        t.create_started()?;
        let throttled =
            eventually(t.limit(Duration::from_secs(5)), || Ok(counter(t, "cpu.stat", "nr_throttled")? > 2))?;
        ensure!(throttled, "cpu.stat: {}", read(t, "cpu.stat")?);
        Ok(())
    });
    group.add("shares_become_a_weight_that_grows_with_them", |t| {
        requires_controller("cpu")?;
        resources(t, json!({"cpu": {"shares": 512}}));
        t.sleeper()?;
        let small: u64 = read(t, "cpu.weight")?.parse()?;
        update_from(t, &json!({"cpu": {"shares": 8192}}))?.ok()?;
        let large: u64 = read(t, "cpu.weight")?.parse()?;
        ensure!(small < 100 && large > 100 && large <= 10_000, "weights {small} and {large}");
        Ok(())
    });
    group.add("idle_is_set_and_taken_back", |t| {
        requires_controller("cpu")?;
        requires_file_of_cpu(t, "cpu.idle")?;
        resources(t, json!({"cpu": {"idle": 1}}));
        t.sleeper()?;
        equal!(read(t, "cpu.idle")?, "1", "cpu.idle");
        update_from(t, &json!({"cpu": {"idle": 0}}))?.ok()?;
        equal!(read(t, "cpu.idle")?, "0", "cpu.idle after the update");
        Ok(())
    });
    let why = "neither runc 1.1.5 nor crun 1.8.1 knows it; config-linux.md#cpu: burst";
    group.add_beyond_peers(why, "a_burst_is_set_beside_its_quota", |t| {
        requires_controller("cpu")?;
        requires_file_of_cpu(t, "cpu.max.burst")?;
        resources(t, json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 20_000}}));
        t.sleeper()?;
        equal!(
            (read(t, "cpu.max")?, read(t, "cpu.max.burst")?),
            ("50000 100000".into(), "20000".into()),
            "cpu.max and cpu.max.burst"
        );
        // Below the old quota and above the new one, so the order of the writes matters.
        update_from(t, &json!({"cpu": {"quota": 15_000, "period": 100_000, "burst": 10_000}}))?.ok()?;
        equal!(read(t, "cpu.max.burst")?, "10000", "cpu.max.burst after the update");
        Ok(())
    });
}

/// The files of cpu are there only where the controller is on.
fn requires_file_of_cpu(t: &mut Trial, file: &str) -> Outcome {
    t.set("/linux/resources/cpu", json!({"shares": 1024}));
    requires_file(t, file)?;
    t.remove("/linux/resources/cpu");
    Ok(())
}

fn cpuset(group: &mut Group) {
    group.add("cpus_are_the_affinity_of_the_payload", |t| {
        t.requires_controller("cpuset")?;
        for cpu in ["0", "1"] {
            if !fs::read_to_string("/sys/fs/cgroup/cpuset.cpus.effective")?.contains(['1', '-']) {
                return skip("requires two CPUs");
            }
            resources(t, json!({"cpu": {"cpus": cpu}}));
            let list = t.run_sh("grep Cpus_allowed_list /proc/self/status")?;
            equal!(list.split_whitespace().last(), Some(cpu), "Cpus_allowed_list");
        }
        Ok(())
    });
    group.add("an_update_moves_a_running_payload_to_another_cpu", |t| {
        t.requires_controller("cpuset")?;
        if !Path::new("/sys/devices/system/cpu/cpu1").exists() {
            return skip("requires two CPUs");
        }
        resources(t, json!({"cpu": {"cpus": "0"}}));
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["update", "--cpuset-cpus", "1", &id]).go()?.ok()?;
        let status = fs::read_to_string(format!("/proc/{}/status", t.pid()?))?;
        equal!(crate::trial::status_field(&status, "Cpus_allowed_list")?, "1", "Cpus_allowed_list");
        Ok(())
    });
    group.add("a_cpu_that_is_not_there_is_refused", |t| {
        t.requires_controller("cpuset")?;
        resources(t, json!({"cpu": {"cpus": "9999"}}));
        t.run_refused()?;
        Ok(())
    });
    group.citing("config-linux.md#unified");
    group.add("a_cpuset_partition_is_asked_for_after_its_cpus", |t| {
        t.requires_controller("cpuset")?;
        resources(t, json!({"cpu": {"cpus": "0"}, "unified": {"cpuset.cpus.partition": "root"}}));
        t.create()?;
        // Whether it becomes valid is up to the cgroups above.
        ensure!(read(t, "cpuset.cpus.partition")?.starts_with("root"), "{}", read(t, "cpuset.cpus.partition")?);
        Ok(())
    });
}

/// A virtual disk that can be written and that nothing is mounted from: its numbers.
fn disk() -> Outcome<(u32, u32)> {
    let mut names: Vec<String> =
        fs::read_dir("/sys/block")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.retain(|name| name.starts_with("vd"));
    let mounts = proc::mounts()?;
    for name in names {
        let numbers = fs::read_to_string(format!("/sys/block/{name}/dev"))?;
        let partitions = fs::read_dir(format!("/sys/block/{name}"))?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(&name));
        let used = mounts.iter().any(|mount| mount.majmin == numbers.trim());
        let writable = fs::read_to_string(format!("/sys/block/{name}/ro"))?.trim() == "0";
        if let (true, false, false, Some((major, minor))) = (writable, partitions, used, numbers.trim().split_once(':'))
        {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    skip("requires a virtual disk that nobody uses")
}

fn io(group: &mut Group) {
    group.citing("config-linux.md#block-io");
    group.add("four_throttles_of_one_device_are_read_back", |t| {
        requires_controller("io")?;
        let (major, minor) = disk()?;
        let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
        resources(
            t,
            json!({"blockIO": {"throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20),
                "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400)}}),
        );
        t.create()?;
        let wanted = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=300 wiops=400");
        equal!(read(t, "io.max")?, wanted, "io.max");
        Ok(())
    });
    group.add("a_throttled_device_reads_slowly", |t| {
        requires_controller("io")?;
        let (major, minor) = disk()?;
        resources(
            t,
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1 << 20}]}}),
        );
        t.push("/linux/devices", json!({"path": "/dev/disk", "type": "b", "major": major, "minor": minor}));
        t.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "r"}),
        );
        let script =
            "a=$(date +%s); dd if=/dev/disk of=/dev/null bs=1M count=4 iflag=direct; b=$(date +%s); echo $((b-a))";
        let seconds: u64 = t.run_sh(script)?.trim().parse()?;
        ensure!(seconds >= 2, "4 MiB at 1 MiB a second took {seconds} s");
        Ok(())
    });
    group.add("a_weight_is_read_back", |t| {
        requires_controller("io")?;
        t.set("/linux/resources/blockIO", json!({"weight": 500}));
        let directory = directory(t)?;
        t.create()?;
        let found = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
        let (bfq, cost) = (found("io.bfq.weight"), found("io.weight"));
        ensure!(bfq.contains("500") || cost.contains("4950"), "io.bfq.weight {bfq:?}, io.weight {cost:?}");
        Ok(())
    });
    group.add("a_throttle_of_a_device_that_is_not_there_is_refused", |t| {
        requires_controller("io")?;
        resources(t, json!({"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1 << 20}]}}));
        t.run_refused()?;
        Ok(())
    });
}

fn huge_pages(group: &mut Group) {
    group.citing("config-linux.md#huge-page-limits");
    for (name, limit, granted) in [("beyond", 2, false), ("within", 4, true)] {
        group.add(
            format!("huge_pages_{name}_the_limit_are_{}", if granted { "granted" } else { "refused" }),
            move |t| {
                requires_controller("hugetlb")?;
                let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
                if free.unwrap_or_default().trim().parse::<u64>().unwrap_or(0) < 2 {
                    return skip("requires two free huge pages of 2 MB");
                }
                if t.mode != Mode::Root {
                    return skip("requires a mount of hugetlbfs, which is not for user namespaces");
                }
                resources(t, json!({"hugepageLimits": [{"pageSize": "2MB", "limit": limit * MIB}]}));
                t.mount("/huge", "hugetlbfs", "hugetlbfs", &["pagesize=2M"]);
                t.sh("/bin/busybox fallocate -l 4194304 /huge/file && echo granted || echo refused");
                let out = t.run()?.ok()?.stdout;
                equal!(
                    out.trim(),
                    if granted { "granted" } else { "refused" },
                    "two pages under a limit of {limit} MiB"
                );
                Ok(())
            },
        );
    }
    let why = "both peers limit page faults only; config-linux.md#huge-page-limits: reservations, where the kernel can";
    group.add_beyond_peers(why, "reservations_are_limited_too", |t| {
        requires_controller("hugetlb")?;
        resources(t, json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}));
        if !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            return skip("requires huge pages of 2 MB");
        }
        t.create()?;
        equal!(read(t, "hugetlb.2MB.rsvd.max")?, (4 * MIB).to_string(), "hugetlb.2MB.rsvd.max");
        Ok(())
    });
    group.citing("config-linux.md#rdma");
    group.add("an_rdma_limit_of_a_device_that_is_not_there_is_refused", |t| {
        requires_controller("rdma")?;
        resources(t, json!({"rdma": {"no-such-device": {"hcaHandles": 3}}}));
        t.run_refused()?;
        Ok(())
    });
    group.citing("config-linux.md#unified");
    group.add("a_misc_limit_of_what_the_host_lacks_is_refused", |t| {
        requires_controller("misc")?;
        resources(t, json!({"unified": {"misc.max": "nosuchresource 3"}}));
        t.run_refused()?;
        Ok(())
    });
}

fn devices(group: &mut Group) {
    group.citing("config-linux.md#allowed-device-list");
    for (name, access, wanted) in
        [("denied", "", "denied\ndenied\n"), ("read_only", "r", "open\ndenied\n"), ("allowed", "rw", "open\nopen\n")]
    {
        // A disk's node opens for root without any capability, so only the filter stands before it.
        group.add(format!("a_disk_that_is_{name}"), move |t| {
            directory(t)?;
            let (major, minor) = disk()?;
            t.push("/linux/devices", json!({"path": "/dev/disk", "type": "b", "major": major, "minor": minor}));
            if !access.is_empty() {
                t.push(
                    "/linux/resources/devices",
                    json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": access}),
                );
            }
            let open = |how: &str| format!("(: {how} /dev/disk) 2>/dev/null && echo open || echo denied; ");
            equal!(t.run_sh(&(open("<") + &open(">>")))?, wanted, "reading and writing");
            Ok(())
        });
    }
}

fn freezing(group: &mut Group) {
    group.citing("engine contract");
    group.add("frozen_tasks_use_no_cpu_time", |t| {
        directory(t)?;
        t.sh(&format!("({BUSY}) & {BUSY}"));
        t.create_started()?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        equal!(counter(t, "cgroup.events", "frozen")?, 1, "frozen in cgroup.events when pause has returned");
        let before = counter(t, "cpu.stat", "usage_usec")?;
        sleep(Duration::from_millis(300));
        equal!(counter(t, "cpu.stat", "usage_usec")?, before, "usage_usec after 300 ms");
        t.call(&["resume", &id]).go()?.ok()?;
        let runs = eventually(t.limit(Duration::from_secs(3)), || Ok(counter(t, "cpu.stat", "usage_usec")? > before))?;
        ensure!(runs, "usage_usec stands still after resume");
        Ok(())
    });
}

fn unified(group: &mut Group) {
    group.citing("config-linux.md#unified");
    group.add("unified_comes_last", |t| {
        requires_controller("pids")?;
        requires_controller("memory")?;
        resources(
            t,
            json!({"pids": {"limit": 33}, "memory": {"limit": 64 * MIB},
                "unified": {"pids.max": "44", "memory.max": (96 * MIB).to_string()}}),
        );
        t.create()?;
        equal!((read(t, "pids.max")?, read(t, "memory.max")?), ("44".into(), (96 * MIB).to_string()), "limits");
        Ok(())
    });
    group.add("a_value_that_the_kernel_refuses_is_an_error", |t| {
        requires_controller("pids")?;
        resources(t, json!({"unified": {"pids.max": "many"}}));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_unknown_file_of_a_known_controller_is_an_error", |t| {
        requires_controller("memory")?;
        resources(t, json!({"unified": {"memory.nosuchfile": "1"}}));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_threaded_place_takes_a_container_without_domain_limits", |t| {
        let place = threaded_parent(t)?;
        let out = t.run_sh("echo here");
        remove_threaded(&place)?;
        equal!(out?, "here\n", "output");
        Ok(())
    });
    group.add("a_threaded_place_refuses_a_memory_limit", |t| {
        requires_controller("memory")?;
        let place = threaded_parent(t)?;
        resources(t, json!({"memory": {"limit": 64 * MIB}}));
        let done = t.run_refused();
        remove_threaded(&place)?;
        done.map(drop)
    });
}

/// Puts the container below a threaded cgroup, where new cgroups take no process until they are threaded too.
/// The one above it is the root of the threads, and has no children with processes but threaded ones.
fn threaded_parent(t: &mut Trial) -> Outcome<PathBuf> {
    directory(t)?;
    let above = format!("{}/above", t.cgroup_base());
    let place = PathBuf::from(format!("/sys/fs/cgroup{above}/threads"));
    fs::create_dir_all(&place)?;
    fs::write(place.join("cgroup.type"), "threaded")?;
    for directory in place.ancestors().take(2) {
        for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            t.give_to_caller(&directory.join(name))?;
        }
    }
    let path = format!("{above}/threads/{}", t.id);
    t.set("/linux/cgroupsPath", json!(path));
    Ok(place)
}

fn remove_threaded(place: &Path) -> Outcome {
    place.ancestors().take(2).try_for_each(fs::remove_dir)?;
    Ok(())
}

fn nothing_left(group: &mut Group) {
    group.citing("runtime.md#create");
    group.add("a_limit_refused_by_the_kernel_leaves_no_cgroup", |t| {
        requires_controller("cpu")?;
        resources(t, json!({"cpu": {"quota": 1, "period": 100_000}}));
        t.run_refused()?;
        ensure!(!directory(t)?.exists(), "{} is still there", directory(t)?.display());
        Ok(())
    });
}
