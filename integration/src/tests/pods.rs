//! Containers that share namespaces, as the containers of a pod do; keys and rights that go with a process.

use std::fs;

use serde_json::json;

use crate::case::{Group, Outcome, skip};
use crate::mode::Mode;
use crate::trial::{Trial, alive};
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("pods", "config-linux.md#namespaces");
    sharing(&mut group);
    every_order(&mut group);
    neighbours(&mut group);
    user(&mut group);
    process(&mut group);
    group
}

/// Starts a first container with a user namespace, and makes the configuration a second one's that joins
/// these (type, name below /proc/PID/ns) and the user namespace.
fn first_container(t: &mut Trial, shared: &[(&str, &str)]) -> Outcome<i32> {
    if !t.config["linux"]["namespaces"].to_string().contains("user") {
        t.use_user_namespace()?;
    }
    t.sleeper()?;
    let pid = t.pid()?;
    t.switch_id("trial-2");
    for (kind, name) in [("user", "user")].iter().chain(shared) {
        t.drop_namespace(kind);
        t.push("/linux/namespaces", json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")}));
    }
    t.remove("/linux/uidMappings");
    t.remove("/linux/gidMappings");
    t.remove("/hostname");
    Ok(pid)
}

fn links(pid: i32, names: &[&str]) -> Outcome<Vec<String>> {
    let link = |name: &&str| Ok(fs::read_link(format!("/proc/{pid}/ns/{name}"))?.display().to_string());
    names.iter().map(link).collect()
}

const POD: &[(&str, &str)] = &[("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];

fn sharing(group: &mut Group) {
    for reversed in [false, true] {
        let order = if reversed { "any_order" } else { "order" };
        group.add(format!("a_second_container_shares_net_ipc_uts_and_pid_in_{order}"), move |t| {
            let pid = first_container(t, POD)?;
            if let Some(list) = t.config["linux"]["namespaces"].as_array_mut().filter(|_| reversed) {
                list.reverse();
            }
            let names = ["user", "net", "ipc", "uts", "pid"];
            let out = t.run_sh("for n in user net ipc uts pid; do readlink /proc/self/ns/$n; done; ls -d /proc/1")?;
            let mut wanted = links(pid, &names)?;
            wanted.push("/proc/1".into());
            equal!(out.lines().collect::<Vec<_>>(), wanted, "namespaces");
            Ok(())
        });
    }
}

/// Every kind that a container can join together with its root file system.
const ALL: &[(&str, &str)] =
    &[("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("cgroup", "cgroup")];

fn every_order(group: &mut Group) {
    let body = |with_time: bool| {
        move |t: &mut Trial| -> Outcome {
            let mut kinds = ALL.to_vec();
            if with_time {
                kinds.push(("time", "time"));
                t.push("/linux/namespaces", json!({"type": "time"}));
                t.set("/linux/timeOffsets/monotonic", json!({"secs": 1000}));
            }
            let pid = first_container(t, &kinds)?;
            t.remove("/linux/timeOffsets");
            let names: Vec<&str> = [("user", "user")].iter().chain(&kinds).map(|(_, name)| *name).collect();
            let wanted = links(pid, &names)?;
            let script = format!("for n in {}; do readlink /proc/self/ns/$n; done", names.join(" "));
            let entries = t.config["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
            for first in 0..2 * entries.len() {
                let mut order = entries.clone();
                order.rotate_left(first % entries.len());
                if first >= entries.len() {
                    order.reverse();
                }
                t.set("/linux/namespaces", json!(order));
                equal!(
                    t.run_sh(&script)?.lines().collect::<Vec<_>>(),
                    wanted,
                    "namespaces, joined by {}",
                    json!(order)
                );
            }
            Ok(())
        }
    };
    group.add("all_namespaces_of_another_container_are_joined_in_any_order", body(false));
    let why =
        "neither runc 1.1.5 nor crun 1.8.1 accepts a time namespace here; config-linux.md#namespaces lists `time`";
    group.add_beyond_peers(why, "all_namespaces_and_time_of_another_container_are_joined_in_any_order", body(true));
}

fn neighbours(group: &mut Group) {
    group.citing("runtime.md#delete");
    for (what, forced) in [("kill", false), ("delete_force", true)] {
        group.add(format!("{what}_in_a_shared_pid_namespace_spares_the_neighbour"), move |t| {
            let first = first_container(t, &[("pid", "pid")])?;
            t.sh("sleep 1000 & sleep 1000");
            t.create_started()?;
            let second = t.pid()?;
            let id = t.id.clone();
            if forced {
                t.call(&["delete", "--force", &id]).go()?.ok()?;
            } else {
                t.kill("KILL")?.ok()?;
                t.wait_for_status("stopped")?;
                t.delete()?;
            }
            ensure!(!alive(second), "the second container's process lives");
            ensure!(alive(first), "the first container has died with it");
            t.id = "trial-1".into();
            equal!(t.status()?, "running", "status of the neighbour");
            Ok(())
        });
    }
    group.add("the_end_of_the_first_ends_the_second", |t| {
        first_container(t, &[("pid", "pid")])?;
        t.sleeper()?;
        t.id = "trial-1".into();
        t.kill("KILL")?.ok()?;
        t.wait_for_status("stopped")?;
        t.id = "trial-2".into();
        t.wait_for_status("stopped")
    });
}

fn user(group: &mut Group) {
    group.citing("config-linux.md#user-namespace-mappings");
    group.add("a_joined_user_namespace_has_its_own_maps", |t| {
        let pid = first_container(t, &[])?;
        let wanted = fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        let out = t.run_sh("cat /proc/self/uid_map; echo >/out/made")?;
        let inside: Vec<String> = words(&out);
        equal!(inside.len(), words(&wanted).len(), "numbers in uid_map");
        use std::os::unix::fs::MetadataExt;
        equal!(fs::metadata(t.rootfs().join("out/made"))?.uid(), t.host_id(0), "owner of a new file");
        Ok(())
    });
    group.add("an_id_without_a_mapping_in_a_joined_user_namespace_is_refused", |t| {
        first_container(t, &[])?;
        t.set("/process/user", json!({"uid": 4_000_000, "gid": 0}));
        t.run_refused()?;
        Ok(())
    });
}

fn process(group: &mut Group) {
    group.citing("config.md#linux-process");
    group.add("an_ambient_capability_reaches_a_user_that_is_not_root", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        t.capabilities(&["CAP_NET_BIND_SERVICE"]);
        let out = t.run_sh("grep -E 'Cap(Amb|Eff)' /proc/self/status")?;
        let sets: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        equal!(sets, ["0000000000000400"; 2], "effective and ambient sets");
        Ok(())
    });
    group.citing("engine contract");
    for kept in [true, false] {
        let name = if kept { "kept_with_crun_s_annotation" } else { "left_behind_without_it" };
        group.add(format!("groups_of_the_caller_are_{name}"), move |t| {
            if t.mode == Mode::User {
                return skip("requires a caller that may give itself groups (CAP_SETGID)");
            }
            if kept {
                t.set("/annotations", json!({"run.oci.keep_original_groups": "1"}));
            }
            let of_caller = |inside: u32| if t.mode == Mode::Root { inside } else { t.host_id(inside) };
            let script = format!("set -- /usr/bin/setpriv --groups {},{} \"$@\"", of_caller(47), of_caller(48));
            t.sh("grep ^Groups: /proc/self/status");
            t.write_config()?;
            let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
            let out = t.call_after(&script, &["run", "--bundle", &bundle, &id]).go()?.ok()?.stdout;
            let groups: Vec<&str> =
                out.split_whitespace().skip(1).filter(|group| matches!(*group, "47" | "48")).collect();
            equal!(groups, if kept { vec!["47", "48"] } else { vec![] }, "the caller's among {out}");
            Ok(())
        });
    }
    group.add("each_container_has_a_session_keyring_of_its_own", |t| {
        if fs::metadata("/proc/keys").is_err() {
            return skip("requires a kernel with CONFIG_KEYS");
        }
        t.set("/linux/maskedPaths", json!([]));
        let keyring = "awk '$9 ~ /^_ses/ {print $1, $9}' /proc/keys";
        let first = t.run_sh(keyring)?;
        t.switch_id("trial-2");
        let second = t.run_sh(keyring)?;
        ensure!(!first.trim().is_empty() && first != second, "session keyrings: {first:?} and {second:?}");
        Ok(())
    });
}
