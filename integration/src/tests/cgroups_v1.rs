//! config-linux.md#control-groups on version 1 and hybrid hosts: needs `--cgroup-view host`, because
//! only the host's own mounts show controllers of version 1.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::eventually;
use crate::case::{Group, Outcome, skip};
use crate::options::View;
use crate::trial::Trial;
use crate::{ensure, equal, proc};

const CONTROLLERS: &[&str] = &["pids", "memory", "cpu", "cpuset", "devices", "freezer"];

pub fn group() -> Group {
    let mut group = Group::new("cgroups_v1", "config-linux.md#cgroups-path");
    placement(&mut group);
    limits(&mut group);
    enforcement(&mut group);
    group
}

/// Where this controller's version 1 hierarchy is mounted.
fn hierarchy(t: &Trial, controller: &str) -> Outcome<PathBuf> {
    if t.view != View::Host {
        return skip("requires --cgroup-view host");
    }
    let found = proc::hierarchy(controller)?;
    found.map_or_else(|| skip(format!("requires controller {controller} on a version 1 hierarchy")), Ok)
}

/// The container's directory in this controller's hierarchy.
fn directory(t: &mut Trial, controller: &str) -> Outcome<PathBuf> {
    hierarchy(t, controller)?;
    Ok(proc::cgroup_directory(t.pid()?, controller)?.unwrap_or_default())
}

fn placement(group: &mut Group) {
    for controller in CONTROLLERS {
        group.add(format!("the_process_is_in_its_{controller}_cgroup"), move |t| {
            hierarchy(t, controller)?;
            t.create()?;
            let directory = directory(t, controller)?;
            ensure!(directory.ends_with(&t.id), "the {controller} cgroup is {}", directory.display());
            equal!(fs::read_to_string(directory.join("cgroup.procs"))?.trim(), t.pid()?.to_string(), "cgroup.procs");
            Ok(())
        });
        group.add(format!("delete_removes_the_{controller}_cgroup"), move |t| {
            hierarchy(t, controller)?;
            t.create()?;
            let directory = directory(t, controller)?;
            t.delete()?;
            ensure!(!directory.exists(), "{} is still there", directory.display());
            Ok(())
        });
    }
}

fn limit(group: &mut Group, controller: &'static str, resources: Value, file: &'static str, wanted: &'static str) {
    group.add(format!("{}_{}", file.replace('.', "_"), wanted.replace([' ', '-'], "_")), move |t| {
        let mount = hierarchy(t, controller)?;
        for (key, value) in resources.as_object().into_iter().flatten() {
            t.set(&format!("/linux/resources/{key}"), value.clone());
        }
        if mount.join("cgroup.procs").exists() && file.starts_with("memory.memsw") && !mount.join(file).exists() {
            return skip(format!("requires the control file {file}"));
        }
        t.create()?;
        let found = fs::read_to_string(directory(t, controller)?.join(file))?;
        equal!(found.trim(), wanted, "{file}");
        Ok(())
    });
}

fn limits(group: &mut Group) {
    const HUNDRED_MIB: &str = "104857600";
    group.citing("config-linux.md#pids");
    limit(group, "pids", json!({"pids": {"limit": 77}}), "pids.max", "77");
    limit(group, "pids", json!({"pids": {"limit": -1}}), "pids.max", "max");
    group.citing("config-linux.md#memory");
    let plain = json!({"memory": {"limit": 104_857_600}});
    limit(group, "memory", plain, "memory.limit_in_bytes", HUNDRED_MIB);
    let both = json!({"memory": {"limit": 52_428_800, "swap": 104_857_600}});
    limit(group, "memory", both, "memory.memsw.limit_in_bytes", HUNDRED_MIB);
    let soft = json!({"memory": {"reservation": 104_857_600}});
    limit(group, "memory", soft, "memory.soft_limit_in_bytes", HUNDRED_MIB);
    group.citing("config-linux.md#cpu");
    limit(group, "cpu", json!({"cpu": {"shares": 512}}), "cpu.shares", "512");
    let half = json!({"cpu": {"quota": 50_000, "period": 100_000}});
    limit(group, "cpu", half, "cpu.cfs_quota_us", "50000");
    limit(group, "cpuset", json!({"cpu": {"cpus": "0"}}), "cpuset.cpus", "0");
    limit(group, "cpuset", json!({"cpu": {"mems": "0"}}), "cpuset.mems", "0");
}

fn enforcement(group: &mut Group) {
    group.citing("config-linux.md#pids");
    group.add("a_pids_limit_is_enforced", |t| {
        hierarchy(t, "pids")?;
        t.set("/linux/resources/pids", json!({"limit": 5}));
        t.sh("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done 2>&1; wait");
        ensure!(t.run()?.stdout.contains("can't fork"), "eight children under a limit of five");
        Ok(())
    });
    group.citing("config-linux.md#memory");
    group.add("a_process_above_the_memory_limit_is_killed_and_run_says_137", |t| {
        let mount = hierarchy(t, "memory")?;
        t.set("/linux/resources/memory", json!({"limit": 32 << 20}));
        if mount.join("memory.memsw.limit_in_bytes").exists() {
            // Otherwise what memory cannot hold is swapped out.
            t.set("/linux/resources/memory/swap", json!(32 << 20));
        }
        t.args(&["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]);
        equal!(t.run()?.code, Some(137), "exit status");
        Ok(())
    });
    group.citing("config-linux.md#cpu");
    group.add("a_quota_throttles", |t| {
        hierarchy(t, "cpu")?;
        t.set("/linux/resources/cpu", json!({"quota": 10_000, "period": 100_000}));
        t.sh("while :; do :; done");
        t.create_started()?;
        let file = directory(t, "cpu")?.join("cpu.stat");
        let throttled = eventually(t.limit(Duration::from_secs(5)), || {
            let text = fs::read_to_string(&file)?;
            let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok());
            Ok(count.unwrap_or(0) > 2)
        })?;
        ensure!(throttled, "{}", fs::read_to_string(&file)?);
        Ok(())
    });
    group.citing("config-linux.md#allowed-device-list");
    group.add("the_device_list_is_enforced", |t| {
        hierarchy(t, "devices")?;
        t.capabilities(&["CAP_MKNOD"]);
        t.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
        // 10:229, fuse, is in no runtime's default list.
        let out = t.run_sh(
            "echo x > /dev/null && echo null-works; mknod /tmp/d c 10 229 && (: < /tmp/d) 2>&1 && echo opened; true",
        )?;
        ensure!(out.contains("null-works"), "{out}");
        ensure!(!out.contains("opened"), "{out}");
        Ok(())
    });
}
