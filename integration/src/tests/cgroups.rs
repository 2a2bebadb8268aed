//! config-linux.md#control-groups: placement, limits, clean-up.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::case::{Group, Outcome, skip};
use crate::options::View;
use crate::trial::{Trial, has_controller, requires_controller};
use crate::{ensure, equal, proc};

const HUNDRED_MIB: &str = "104857600";

pub fn group() -> Group {
    let mut group = Group::new("cgroups", "config-linux.md#cgroups-path");
    placement(&mut group);
    paths(&mut group);
    sub_cgroups(&mut group);
    limits(&mut group);
    other_limits(&mut group);
    absent_controllers(&mut group);
    nothing_to_limit(&mut group);
    mounts(&mut group);
    delegation(&mut group);
    group
}

/// The container's directory on the cgroup2 hierarchy.
pub fn directory(t: &Trial) -> Outcome<PathBuf> {
    if t.view != View::V2 {
        return skip("requires --cgroup-view v2");
    }
    Ok(PathBuf::from(format!("/sys/fs/cgroup{}/{}", t.cgroup_base(), t.id)))
}

/// A process's path on cgroup v2.
fn cgroup_of(pid: i32) -> Outcome<String> {
    Ok(proc::cgroup(pid, "")?.unwrap_or_default())
}

/// The same in the text of a container's own /proc/self/cgroup.
fn own_unified(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default()
}

fn placement(group: &mut Group) {
    group.add("the_process_is_in_the_configured_cgroup", |t| {
        directory(t)?;
        t.sleeper()?;
        let pid = t.pid()?;
        let path = format!("{}/{}", t.cgroup_base(), t.id);
        equal!(cgroup_of(pid)?, path, "cgroup of the process");
        Ok(())
    });
    group.add("a_created_container_is_in_its_cgroup_before_start", |t| {
        let directory = directory(t)?;
        t.create()?;
        equal!(fs::read_to_string(directory.join("cgroup.procs"))?.trim(), t.pid()?.to_string(), "cgroup.procs");
        Ok(())
    });
    group.add("children_are_in_the_cgroup_too", |t| {
        let directory = directory(t)?;
        t.sh("sleep 1000 & sleep 1000 & echo ready > /out/ready; wait");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ready"))?;
        equal!(fs::read_to_string(directory.join("cgroup.procs"))?.lines().count(), 3, "processes");
        Ok(())
    });
    group.add("delete_removes_the_cgroup", |t| {
        let directory = directory(t)?;
        t.create_started()?;
        t.wait_for_status("stopped")?;
        t.delete()?;
        ensure!(!directory.exists(), "{} is still there", directory.display());
        Ok(())
    });
}

fn paths(group: &mut Group) {
    group.add("a_nested_path_is_made", |t| {
        directory(t)?;
        let path = format!("{}/deep/er/{}", t.cgroup_base(), t.id);
        t.set("/linux/cgroupsPath", json!(path));
        t.sleeper()?;
        let pid = t.pid()?;
        equal!(cgroup_of(pid)?, path, "cgroup of the process");
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        // Parents are shared with other containers, so a runtime may leave them.
        for parent in ["deep/er", "deep"] {
            let parent = format!("/sys/fs/cgroup{}/{parent}", t.cgroup_base());
            if std::path::Path::new(&parent).exists() {
                fs::remove_dir(parent)?;
            }
        }
        Ok(())
    });
    group.add("a_missing_cgroups_path_is_fine", |t| {
        t.remove("/linux/cgroupsPath");
        t.sleeper()?;
        let pid = t.pid()?;
        ensure!(
            cgroup_of(pid)? != cgroup_of(std::process::id() as i32)? || t.view == View::Host,
            "no cgroup of its own"
        );
        Ok(())
    });
    group.add("two_containers_have_two_cgroups", |t| {
        let first = directory(t)?;
        t.sleeper()?;
        t.switch_id("trial-2");
        let second = directory(t)?;
        t.sleeper()?;
        for place in [first, second] {
            equal!(
                fs::read_to_string(place.join("cgroup.procs"))?.lines().count(),
                1,
                "processes in {}",
                place.display()
            );
        }
        Ok(())
    });
}

fn sub_cgroups(group: &mut Group) {
    group.add("sub_cgroups_made_inside_go_with_the_container", |t| {
        let directory = directory(t)?;
        t.sleeper()?;
        for sub in ["sub", "sub/sub"] {
            fs::create_dir(directory.join(sub))?;
            t.give_to_caller(&directory.join(sub))?;
        }
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        ensure!(!directory.exists(), "{} is still there", directory.display());
        Ok(())
    });
    group.add("processes_in_sub_cgroups_are_ended_by_delete_force", |t| {
        let directory = directory(t)?;
        t.drop_namespace("pid");
        t.sh("sleep 1000 & echo $! > /out/pid; wait");
        t.create_started()?;
        let pid = t.wait_for_file(t.rootfs().join("out/pid"))?;
        fs::create_dir(directory.join("sub"))?;
        fs::write(directory.join("sub/cgroup.procs"), pid.trim())?;
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        ensure!(!directory.exists(), "{} is still there", directory.display());
        Ok(())
    });
    group.citing("config-linux.md#control-groups");
    group.add("a_frozen_cgroup_does_not_hang_create", |t| {
        let directory = directory(t)?;
        fs::create_dir(&directory)?;
        fs::write(directory.join("cgroup.freeze"), "1")?;
        // An error, or a thaw, are both fine: only hanging is not.
        t.write_config()?;
        let done = t.create_with(&[]);
        if directory.exists() {
            fs::write(directory.join("cgroup.freeze"), "0")?;
        }
        done?;
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?;
        if directory.exists() {
            fs::remove_dir(directory)?;
        }
        Ok(())
    });
}

/// Creates with these resources and reads a control file.
fn control_file(t: &mut Trial, resources: Value, file: &str) -> Outcome<String> {
    let directory = directory(t)?;
    for (key, value) in resources.as_object().into_iter().flatten() {
        t.set(&format!("/linux/resources/{key}"), value.clone());
    }
    t.create()?;
    Ok(fs::read_to_string(directory.join(file))?.trim().to_string())
}

/// A limit that is written, read back from the container's control file.
fn limit(group: &mut Group, controller: &'static str, resources: Value, file: &'static str, wanted: &'static str) {
    let unified = if resources["unified"].is_null() { "" } else { "unified_" };
    group.add(format!("{unified}{}_{}", file.replace('.', "_"), wanted.replace([' ', '-'], "_")), move |t| {
        t.requires_controller(controller)?;
        if ["memory.swap.max", "hugetlb.2MB.max"].contains(&file) && !control_exists(file) {
            return skip(format!("requires the control file {file}"));
        }
        equal!(control_file(t, resources.clone(), file)?, wanted, "{file}");
        Ok(())
    });
}

fn limits(group: &mut Group) {
    group.citing("config-linux.md#pids");
    limit(group, "pids", json!({"pids": {"limit": 77}}), "pids.max", "77");
    limit(group, "pids", json!({"pids": {"limit": -1}}), "pids.max", "max");
    group.citing("config-linux.md#memory");
    limit(group, "memory", json!({"memory": {"limit": 104_857_600}}), "memory.max", HUNDRED_MIB);
    limit(group, "memory", json!({"memory": {"limit": -1}}), "memory.max", "max");
    let both = json!({"memory": {"limit": 104_857_600, "swap": 209_715_200}});
    limit(group, "memory", both, "memory.swap.max", HUNDRED_MIB);
    limit(group, "memory", json!({"memory": {"reservation": 104_857_600}}), "memory.low", HUNDRED_MIB);
}

fn other_limits(group: &mut Group) {
    group.citing("config-linux.md#cpu");
    let half = json!({"cpu": {"quota": 50_000, "period": 100_000}});
    limit(group, "cpu", half, "cpu.max", "50000 100000");
    let unlimited = json!({"cpu": {"quota": -1, "period": 100_000}});
    limit(group, "cpu", unlimited, "cpu.max", "max 100000");
    limit(group, "cpuset", json!({"cpu": {"cpus": "0"}}), "cpuset.cpus", "0");
    limit(group, "cpuset", json!({"cpu": {"mems": "0"}}), "cpuset.mems", "0");
    group.citing("config-linux.md#unified");
    limit(group, "pids", json!({"unified": {"pids.max": "55"}}), "pids.max", "55");
    limit(group, "memory", json!({"unified": {"memory.high": HUNDRED_MIB}}), "memory.high", HUNDRED_MIB);
    group.citing("config-linux.md#huge-page-limits");
    let pages = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    limit(group, "hugetlb", pages, "hugetlb.2MB.max", "4194304");
    group.citing("config-linux.md#pids");
    group.add("a_pids_limit_is_enforced", |t| {
        requires_controller("pids")?;
        t.set("/linux/resources/pids", json!({"limit": 5}));
        t.sh("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done 2>&1; wait");
        ensure!(t.run()?.stdout.contains("can't fork"), "eight children under a limit of five");
        Ok(())
    });
}

/// Whether a fresh cgroup has this file: some kernels lack swap accounting or huge pages.
fn control_exists(file: &str) -> bool {
    let probe = PathBuf::from("/sys/fs/cgroup/probe");
    // Where the probe cannot be made the limit cannot be set either, and the test says so.
    for controller in ["+memory", "+hugetlb"] {
        drop(fs::write("/sys/fs/cgroup/cgroup.subtree_control", controller));
    }
    let there = fs::create_dir(&probe).is_ok() && probe.join(file).exists();
    drop(fs::remove_dir(probe));
    there
}

fn absent_controllers(group: &mut Group) {
    group.citing("config-linux.md#unified");
    group.add("a_unified_key_of_an_unknown_controller_is_refused", |t| {
        t.set("/linux/resources/unified", json!({"nosuchcontroller.max": "1"}));
        t.run_refused()?;
        Ok(())
    });
    group.citing("runtime.md#create");
    for (controller, resources) in [
        ("pids", json!({"limit": 50})),
        ("memory", json!({"limit": 104_857_600})),
        ("cpu", json!({"quota": 50_000, "period": 100_000})),
    ] {
        let resources = resources.clone();
        group.add(format!("a_{controller}_limit_without_the_controller_is_refused"), move |t| {
            directory(t)?;
            if has_controller(controller) {
                return skip(format!("requires a cgroup2 hierarchy without controller {controller}"));
            }
            t.set(&format!("/linux/resources/{controller}"), resources.clone());
            t.run_refused()?;
            Ok(())
        });
    }
}

fn nothing_to_limit(group: &mut Group) {
    let why = "both peers ask for the controller to write `max`; config-linux.md#pids and #memory: -1 is no limit, so nothing is to be applied";
    for (name, resources) in [
        ("no_pids_limit", json!({"pids": {"limit": -1}})),
        ("no_memory_limit", json!({"memory": {"limit": -1, "swap": -1}})),
        // Before version 1.3.0, and bundles here are older, 0 was the default: no limit.
        ("a_pids_limit_of_zero", json!({"pids": {"limit": 0}})),
        ("no_cpu_quota", json!({"cpu": {"quota": -1}})),
        ("empty_sections", json!({"memory": {}, "cpu": {}, "blockIO": {}})),
    ] {
        let body = move |t: &mut Trial| -> Outcome {
            for (key, value) in resources.as_object().into_iter().flatten() {
                t.set(&format!("/linux/resources/{key}"), value.clone());
            }
            equal!(t.run_sh("echo here")?, "here\n", "output");
            Ok(())
        };
        let case = format!("{name}_needs_no_controller");
        if ["no_pids_limit", "no_memory_limit"].contains(&name) {
            group.add_beyond_peers(why, case, body);
        } else {
            group.add(case, body);
        }
    }
    group.add("no_resources_at_all_is_fine", |t| {
        t.remove("/linux/resources");
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
}

fn mounts(group: &mut Group) {
    group.citing("config-linux.md#namespaces");
    group.add("a_writable_cgroup_mount_lets_the_container_make_sub_cgroups", |t| {
        directory(t)?;
        writable_cgroups(t);
        equal!(
            t.run_sh("mkdir /sys/fs/cgroup/sub && ls -d /sys/fs/cgroup/sub/cgroup.procs")?,
            "/sys/fs/cgroup/sub/cgroup.procs\n",
            "file"
        );
        Ok(())
    });
    group.add("the_cgroup_mount_shows_the_containers_own_cgroup", |t| {
        directory(t)?;
        equal!(
            t.run_sh("grep -c ^1$ /sys/fs/cgroup/cgroup.procs")?,
            "1\n",
            "lines of cgroup.procs that name process 1"
        );
        Ok(())
    });
}

fn own_cgroup_of(t: &mut Trial) -> Outcome<String> {
    cgroup_of(t.pid()?)
}

fn writable_cgroups(t: &mut Trial) {
    for mount in t.config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys/fs/cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
}

/// crun's annotation; runc knows none like it.
fn delegation(group: &mut Group) {
    group.citing("engine contract");
    group.add("the_process_is_in_the_delegated_cgroup_below_the_containers", |t| {
        directory(t)?;
        t.set("/annotations", json!({"run.oci.delegate-cgroup": "inner"}));
        t.sleeper()?;
        equal!(own_cgroup_of(t)?, format!("{}/{}/inner", t.cgroup_base(), t.id), "cgroup of the process");
        Ok(())
    });
    group.add("the_container_may_divide_its_delegated_cgroup", |t| {
        let directory = directory(t)?;
        t.set("/annotations", json!({"run.oci.delegate-cgroup": "inner"}));
        writable_cgroups(t);
        t.sh("cat /proc/self/cgroup > /out/own
            cd /sys/fs/cgroup/inner && mkdir engine leaf && echo $$ > leaf/cgroup.procs || exit
            for c in $(cat cgroup.controllers); do echo +$c > cgroup.subtree_control || exit; done
            cat engine/cgroup.controllers > /out/controllers; echo done > /out/done; sleep 1000");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/done"))?;
        let own = fs::read_to_string(t.rootfs().join("out/own"))?;
        equal!(own_unified(&own), "/inner", "its own view of its cgroup");
        equal!(
            fs::read_to_string(t.rootfs().join("out/controllers"))?,
            fs::read_to_string(directory.join("cgroup.controllers"))?,
            "controllers of a cgroup made inside"
        );
        // The limits' cgroup holds no process and has handed its controllers down.
        let id = t.id.clone();
        equal!(t.call(&["exec", &id, "/bin/echo", "here"]).go()?.ok()?.stdout, "here\n", "output of exec");
        t.call(&["pause", &id]).go()?.ok()?;
        equal!(t.status()?, "paused", "status");
        t.call(&["resume", &id]).go()?.ok()?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        ensure!(!directory.exists(), "{} is still there", directory.display());
        Ok(())
    });
    group.add("limits_stay_on_the_containers_cgroup", |t| {
        requires_controller("pids")?;
        let directory = directory(t)?;
        t.set("/annotations", json!({"run.oci.delegate-cgroup": "inner"}));
        t.set("/linux/resources/pids", json!({"limit": 20}));
        t.sleeper()?;
        let limit = |place: PathBuf| fs::read_to_string(place.join("pids.max"));
        equal!(limit(directory.clone())?.trim(), "20", "pids.max of the container's cgroup");
        equal!(limit(directory.join("inner"))?.trim(), "max", "pids.max of the delegated cgroup");
        Ok(())
    });
    group.add("the_delegated_cgroup_is_owned_by_the_containers_root", |t| {
        let directory = directory(t)?;
        t.set("/annotations", json!({"run.oci.delegate-cgroup": "inner"}));
        t.use_user_namespace()?;
        writable_cgroups(t);
        t.sh("mkdir /sys/fs/cgroup/inner/engine && echo made > /out/made; sleep 1000");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/made"))?;
        ensure!(directory.join("inner/engine").exists(), "{} has no engine", directory.display());
        Ok(())
    });
    let why = "both peers take it; engine contract: an annotation may not lead out of the container's cgroup";
    group.add_beyond_peers(why, "a_delegated_cgroup_outside_the_containers_is_refused", |t| {
        directory(t)?;
        t.set("/annotations", json!({"run.oci.delegate-cgroup": "../inner"}));
        t.run_refused()?;
        Ok(())
    });
}
