//! config-linux.md#control-groups on version 1 and hybrid hosts: needs `--cgroup-view host`, because
//! only the host's own mounts show controllers of version 1.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::case::{Group, Outcome, skip};
use crate::options::View;
use crate::trial::Trial;
use crate::{ensure, equal};

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
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let found = table.lines().find_map(|line| {
        let (front, back) = line.split_once(" - cgroup ")?;
        let options = back.split(' ').nth(1)?;
        options.split(',').any(|word| word == controller).then(|| front.split(' ').nth(4).map(PathBuf::from))?
    });
    found.map_or_else(|| skip(format!("requires controller {controller} on a version 1 hierarchy")), Ok)
}

/// The container's directory in this controller's hierarchy, by /proc/PID/cgroup.
fn directory(t: &mut Trial, controller: &str) -> Outcome<PathBuf> {
    let mount = hierarchy(t, controller)?;
    let text = fs::read_to_string(format!("/proc/{}/cgroup", t.pid()?))?;
    let path = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next()?.split(',').any(|word| word == controller).then(|| parts.next())?
    });
    Ok(mount.join(path.unwrap_or_default().trim_start_matches('/')))
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
