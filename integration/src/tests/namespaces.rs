//! config-linux.md#namespaces: new ones, joined ones, inherited ones, and wrong ones.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::call::eventually;
use crate::case::{Group, Outcome, fail, skip};
use crate::mode::Mode;
use crate::trial::Trial;
use crate::{ensure, equal};

/// (type in the configuration, name below /proc/PID/ns, flag of unshare(1)).
const KINDS: &[(&str, &str, &str)] = &[
    ("pid", "pid", "--pid"),
    ("network", "net", "--net"),
    ("ipc", "ipc", "--ipc"),
    ("uts", "uts", "--uts"),
    ("mount", "mnt", "--mount"),
    ("cgroup", "cgroup", "--cgroup"),
];

pub fn group() -> Group {
    let mut group = Group::new("namespaces", "config-linux.md#namespaces");
    new_and_inherited(&mut group);
    joined(&mut group);
    joined_together(&mut group);
    refused(&mut group);
    refused_user(&mut group);
    user(&mut group);
    user_ids(&mut group);
    time(&mut group);
    group
}

/// Identity of a namespace of this test's own process, as /proc shows it.
fn own(name: &str) -> Outcome<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{name}"))?.display().to_string())
}

fn in_container(t: &mut Trial, name: &str) -> Outcome<String> {
    Ok(t.run_sh(&format!("readlink /proc/self/ns/{name}"))?.trim().to_string())
}

/// A process in new namespaces, ended with the value.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    pub pid: u32,
}

impl Holder {
    /// Starts `sleep` in a new namespace; `flag` as in unshare(1).
    pub fn start(flag: &str, name: &str) -> Outcome<Holder> {
        let mut words = vec![flag, "--fork", "--kill-child", "/bin/sleep", "1000"];
        if flag != "--pid" {
            words = vec![flag, "/bin/sleep", "1000"];
        }
        let child = Command::new("/usr/bin/unshare").args(words).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut holder = Holder { pid: child.id(), child };
        let outer = own(name)?;
        let settled = eventually(Duration::from_secs(5), || {
            if flag == "--pid" {
                let children = format!("/proc/{0}/task/{0}/children", holder.child.id());
                let list = fs::read_to_string(children).unwrap_or_default();
                let Some(pid) = list.split_whitespace().next().and_then(|word| word.parse().ok()) else {
                    return Ok(false);
                };
                holder.pid = pid;
            }
            let link = fs::read_link(format!("/proc/{}/ns/{name}", holder.pid));
            let command = fs::read_to_string(format!("/proc/{}/comm", holder.pid)).unwrap_or_default();
            Ok(command.trim() == "sleep" && link.is_ok_and(|link| link.display().to_string() != outer))
        })?;
        if settled { Ok(holder) } else { fail(format!("no process in a new {name} namespace")) }
    }

    pub fn path(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.pid)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn new_and_inherited(group: &mut Group) {
    for (kind, name, _) in KINDS {
        group.add(format!("a_new_{kind}_namespace_is_made"), move |t| {
            ensure!(in_container(t, name)? != own(name)?, "the container is in the runtime's {kind} namespace");
            Ok(())
        });
        if *kind == "mount" {
            continue;
        }
        group.add(format!("without_an_entry_the_{kind}_namespace_is_inherited"), move |t| {
            // A container with ids of its own is shown the caller's message queues by the caller's own mount.
            if *kind == "ipc" && t.mode != Mode::Root && !Path::new("/dev/mqueue").exists() {
                return skip("requires /dev/mqueue on the host");
            }
            t.drop_namespace(kind);
            if *kind == "uts" {
                t.remove("/hostname");
            }
            equal!(in_container(t, name)?, own(name)?, "{kind} namespace");
            Ok(())
        });
    }
    group.add("the_payload_is_pid_1_of_its_namespace", |t| {
        equal!(t.run_sh("echo $$")?, "1\n", "pid");
        Ok(())
    });
    group.add("a_new_network_namespace_has_only_loopback", |t| {
        equal!(t.run_sh("ls /sys/class/net")?, "lo\n", "interfaces");
        Ok(())
    });
    group.add("a_new_ipc_namespace_is_empty", |t| {
        equal!(t.run_sh("wc -l < /proc/sysvipc/shm")?.trim(), "1", "lines of /proc/sysvipc/shm");
        Ok(())
    });
    group.add("a_new_cgroup_namespace_shows_the_root", |t| {
        let out = t.run_sh("grep ^0:: /proc/self/cgroup")?;
        equal!(out.trim(), "0::/", "path in the cgroup namespace");
        Ok(())
    });
    group.add("the_order_of_entries_does_not_matter", |t| {
        if let Some(list) = t.config["linux"]["namespaces"].as_array_mut() {
            list.reverse();
        }
        equal!(t.run_sh("echo $$")?, "1\n", "pid");
        Ok(())
    });
}

fn joined(group: &mut Group) {
    for (kind, name, flag) in KINDS {
        group.add(format!("a_{kind}_namespace_is_joined_by_path"), move |t| {
            let holder = Holder::start(flag, name)?;
            let wanted = fs::read_link(holder.path(name))?.display().to_string();
            t.drop_namespace(kind);
            t.push("/linux/namespaces", json!({"type": kind, "path": holder.path(name)}));
            if *kind == "uts" {
                t.remove("/hostname");
            }
            equal!(in_container(t, name)?, wanted, "{kind} namespace");
            Ok(())
        });
    }
    group.add("a_joined_namespace_outlives_the_container", |t| {
        let holder = Holder::start("--net", "net")?;
        t.drop_namespace("network");
        t.push("/linux/namespaces", json!({"type": "network", "path": holder.path("net")}));
        t.run_sh("true")?;
        ensure!(fs::metadata(holder.path("net")).is_ok(), "the holder's namespace is gone");
        Ok(())
    });
    group.add("a_bound_namespace_file_is_joined", |t| {
        let holder = Holder::start("--net", "net")?;
        let file = t.scratch.join("netns");
        fs::write(&file, "")?;
        let none: Option<&str> = None;
        nix::mount::mount(Some(holder.path("net").as_str()), &file, none, nix::mount::MsFlags::MS_BIND, none)?;
        let wanted = fs::read_link(holder.path("net"))?.display().to_string();
        t.drop_namespace("network");
        t.push("/linux/namespaces", json!({"type": "network", "path": file}));
        let found = in_container(t, "net");
        nix::mount::umount(&file)?;
        equal!(found?, wanted, "network namespace");
        Ok(())
    });
}

fn joined_together(group: &mut Group) {
    group.add("several_namespaces_of_another_container_are_joined", |t| {
        t.sleeper()?;
        let pid = t.pid()?;
        let first: Vec<String> = ["net", "ipc", "uts"]
            .iter()
            .map(|name| fs::read_link(format!("/proc/{pid}/ns/{name}")).map(|link| link.display().to_string()))
            .collect::<Result<_, _>>()?;
        t.switch_id("trial-2");
        for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            t.drop_namespace(kind);
            t.push("/linux/namespaces", json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")}));
        }
        t.remove("/hostname");
        let found = t.run_sh("for n in net ipc uts; do readlink /proc/self/ns/$n; done")?;
        equal!(found.lines().collect::<Vec<_>>(), first, "namespaces");
        Ok(())
    });
}

fn refused(group: &mut Group) {
    for (kind, name, _) in KINDS {
        let other = if *name == "uts" { "ipc" } else { "uts" };
        group.add(format!("a_path_of_another_type_is_refused_for_{kind}"), move |t| {
            t.drop_namespace(kind);
            t.push("/linux/namespaces", json!({"type": kind, "path": format!("/proc/self/ns/{other}")}));
            t.run_refused()?;
            Ok(())
        });
    }
    for kind in ["network", "ipc", "pid"] {
        group.add(format!("a_path_that_does_not_exist_is_refused_for_{kind}"), move |t| {
            t.drop_namespace(kind);
            t.push("/linux/namespaces", json!({"type": kind, "path": "/no/such/namespace"}));
            t.run_refused()?;
            Ok(())
        });
    }
    group.add("a_path_that_is_no_namespace_is_refused", |t| {
        t.drop_namespace("network");
        t.push("/linux/namespaces", json!({"type": "network", "path": "/etc/passwd"}));
        t.run_refused()?;
        Ok(())
    });
    for kind in ["network", "mount", "pid"] {
        group.add(format!("a_duplicated_{kind}_entry_is_refused"), move |t| {
            t.push("/linux/namespaces", json!({"type": kind}));
            t.run_refused()?;
            Ok(())
        });
    }
    group.add("an_unknown_type_is_refused", |t| {
        t.push("/linux/namespaces", json!({"type": "weather"}));
        t.run_refused()?;
        Ok(())
    });
}

fn refused_user(group: &mut Group) {
    group.add("a_user_namespace_path_that_does_not_exist_is_refused", |t| {
        t.push("/linux/namespaces", json!({"type": "user", "path": "/no/such/namespace"}));
        t.run_refused()?;
        Ok(())
    });
}

/// The lines of a map as they are configured.
fn map_lines(text: &str) -> serde_json::Value {
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u32>().ok());
    let entries = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        json!({"containerID": number(words.next()), "hostID": number(words.next()), "size": number(words.next())})
    });
    entries.collect()
}

/// What belongs to a network namespace belongs to the root of the container's user namespace.
fn owned_network(t: &mut Trial, before: &str) -> Outcome {
    t.use_user_namespace()?;
    let files = "/proc/net/dev /proc/sys/net/ipv4/ip_forward /sys/class/net/lo/mtu /sys/class/net/lo/queues";
    t.sh(&format!("stat -c %u:%g {files}"));
    t.write_config()?;
    let id = t.id.clone();
    let out = t.call_after(before, &["run", &id]).go()?.ok()?.stdout;
    equal!(out, "0:0\n".repeat(4), "owners of {files}");
    Ok(())
}

fn user(group: &mut Group) {
    group.citing("config-linux.md#user-namespace-mappings");
    group.add("a_user_namespace_has_the_configured_maps", |t| {
        t.use_user_namespace()?;
        let out = t.run_sh("cat /proc/self/uid_map; echo; cat /proc/self/gid_map; echo; id -u")?;
        let (uid, rest) = out.split_once("\n\n").unwrap_or_default();
        let (gid, id) = rest.split_once("\n\n").unwrap_or_default();
        equal!(map_lines(uid), t.mode.maps(), "uid_map");
        equal!(map_lines(gid), t.mode.maps(), "gid_map");
        equal!(id, "0\n", "uid inside");
        Ok(())
    });
    group.add("several_map_entries_are_written", |t| {
        t.use_user_namespace()?;
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}, {"containerID": 10, "hostID": 120_000, "size": 20}]);
        t.set("/linux/uidMappings", map.clone());
        t.set("/linux/gidMappings", map);
        equal!(t.run_sh("wc -l < /proc/self/uid_map")?.trim(), "2", "lines of uid_map");
        Ok(())
    });
    group.add("files_made_inside_belong_to_the_mapped_id", |t| {
        use std::os::unix::fs::MetadataExt;
        t.use_user_namespace()?;
        t.run_sh("touch /out/made")?;
        equal!(fs::metadata(t.rootfs().join("out/made"))?.uid(), t.host_id(0), "owner on the host");
        Ok(())
    });
    group.add("another_user_inside_is_mapped_too", |t| {
        use std::os::unix::fs::MetadataExt;
        t.use_user_namespace()?;
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        t.run_sh("touch /out/made")?;
        equal!(fs::metadata(t.rootfs().join("out/made"))?.uid(), t.host_id(1000), "owner on the host");
        Ok(())
    });
    group.add("its_root_owns_the_network_namespaces_files", |t| owned_network(t, "exec \"$@\""));
    // Without a second processor the network namespace is made in another way.
    group.add("with_one_cpu_its_root_owns_them_too", |t| owned_network(t, "exec taskset -c 0 \"$@\""));
    group.add("the_container_process_has_host_ids_outside", |t| {
        t.use_user_namespace()?;
        t.sleeper()?;
        let pid = t.pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        ensure!(crate::trial::status_field(&status, "Uid")?.starts_with(&t.host_id(0).to_string()), "{status}");
        Ok(())
    });
}

fn user_ids(group: &mut Group) {
    group.add("default_devices_work_in_a_user_namespace", |t| {
        t.use_user_namespace()?;
        equal!(t.run_sh("echo x > /dev/null && head -c 1 /dev/zero | wc -c")?.trim(), "1", "bytes of /dev/zero");
        Ok(())
    });
    group.add("a_user_id_without_a_mapping_is_refused", |t| {
        t.use_user_namespace()?;
        t.set("/process/user", json!({"uid": 70_000, "gid": 70_000}));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_user_namespace_is_joined_by_path", |t| {
        t.use_user_namespace()?;
        t.sleeper()?;
        let pid = t.pid()?;
        let wanted = fs::read_link(format!("/proc/{pid}/ns/user"))?.display().to_string();
        t.switch_id("trial-2");
        t.drop_namespace("user");
        t.remove("/linux/uidMappings");
        t.remove("/linux/gidMappings");
        t.push("/linux/namespaces", json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
        equal!(in_container(t, "user")?, wanted, "user namespace");
        Ok(())
    });
}

fn time(group: &mut Group) {
    group.citing("config-linux.md#offset-for-time-namespace");
    let why =
        "neither runc 1.1.5 nor crun 1.8.1 accepts a time namespace here; config-linux.md#namespaces lists `time`";
    group.add_beyond_peers(why, "a_new_time_namespace_is_made", |t| {
        t.push("/linux/namespaces", json!({"type": "time"}));
        ensure!(in_container(t, "time")? != own("time")?, "the container is in the runtime's time namespace");
        Ok(())
    });
    for (clock, seconds) in [("boottime", 100_000), ("monotonic", 200_000)] {
        group.add_beyond_peers(why, format!("the_{clock}_offset_is_set"), move |t| {
            t.push("/linux/namespaces", json!({"type": "time"}));
            t.set(&format!("/linux/timeOffsets/{clock}"), json!({"secs": seconds, "nanosecs": 5}));
            let out = t.run_sh("cat /proc/self/timens_offsets")?;
            let found = out.lines().find(|line| line.starts_with(clock)).unwrap_or_default();
            let words: Vec<&str> = found.split_whitespace().collect();
            equal!(words, [clock, &seconds.to_string(), "5"], "line of timens_offsets");
            Ok(())
        });
    }
    group.add_beyond_peers(why, "offsets_without_a_time_namespace_are_refused", |t| {
        t.set("/linux/timeOffsets/boottime", json!({"secs": 100}));
        t.run_refused()?;
        Ok(())
    });
}
