//! What an ordinary user can have, and what is said when it cannot be had; ids and their limits.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use serde_json::json;

use crate::case::{Group, Outcome, skip};
use crate::mode::{self, Mode};
use crate::trial::Trial;
use crate::{ensure, equal};

const WORDS: &str = "peers say it in other words; engine contract: the line is all that the user gets to see";
const PEERS: &str = "runc 1.1.5 and crun 1.8.1 have holes here; engine contract: no more rights than the caller's";

pub fn group() -> Group {
    let mut group = Group::new("rootless", "config-linux.md#user-namespace-mappings");
    ids(&mut group);
    helpers(&mut group);
    no_subordinate_ids(&mut group);
    disabled(&mut group);
    cgroups(&mut group);
    places(&mut group);
    group
}

fn as_user(t: &Trial) -> Outcome {
    if t.mode == Mode::User { Ok(()) } else { skip("requires an ordinary user as the caller (--as-user)") }
}

fn ids(group: &mut Group) {
    group.add("many_mappings_are_written", |t| {
        t.use_user_namespace()?;
        // Every second id, so that no two lines are one; short enough for a page.
        let count = 300;
        let line = |n: u32| json!({"containerID": n, "hostID": t.host_id(2 * n), "size": 1});
        let lines: Vec<_> = (0..count).map(line).collect();
        t.set("/linux/uidMappings", json!(lines));
        t.set("/linux/gidMappings", json!(lines));
        equal!(t.run_sh("wc -l < /proc/self/uid_map")?.trim(), count.to_string(), "lines of uid_map");
        Ok(())
    });
    group.add("as_many_mappings_as_the_kernel_takes_are_written", |t| {
        most_mappings(t, MOST_MAPPINGS)?;
        equal!(t.run_sh("wc -l < /proc/self/uid_map; wc -l < /proc/self/gid_map")?, "340\n340\n", "lines of the maps");
        Ok(())
    });
    group.add_beyond_peers(WORDS, "one_mapping_more_than_the_kernel_takes_is_refused_with_the_limit", |t| {
        most_mappings(t, MOST_MAPPINGS + 1)?;
        let done = t.run_refused()?;
        for word in ["uidMappings", "340"] {
            ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
        }
        Ok(())
    });
    group.add("cve_2021_43784_seventy_kilobytes_of_mappings_are_refused", |t| {
        t.use_user_namespace()?;
        let lines: Vec<_> =
            (0..5000).map(|n| json!({"containerID": 2 * n, "hostID": t.host_id(2 * n), "size": 1})).collect();
        t.set("/linux/uidMappings", json!(lines));
        t.run_refused()?;
        Ok(())
    });
    group.add_beyond_peers(WORDS, "overlapping_ids_are_named", |t| {
        t.use_user_namespace()?;
        let host = t.host_id(1);
        t.push("/linux/uidMappings", json!({"containerID": 70_000, "hostID": host, "size": 2}));
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("uidMappings") && done.stderr.contains(&host.to_string()), "{}", done.stderr);
        Ok(())
    });
    group.add_beyond_peers(WORDS, "a_user_without_a_mapping_is_named", |t| {
        t.use_user_namespace()?;
        t.set("/process/user", json!({"uid": 4_000_000, "gid": 0}));
        let done = t.run_refused()?;
        for word in ["/process/user/uid", "4000000 is not mapped"] {
            ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
        }
        Ok(())
    });
    group.add_beyond_peers(WORDS, "groups_without_a_mapping_are_named", |t| {
        t.use_user_namespace()?;
        t.set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [5, 4_000_000]}));
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("4000000 is not mapped"), "{}", done.stderr);
        Ok(())
    });
}

/// UID_GID_MAP_MAX_EXTENTS of the kernel.
const MOST_MAPPINGS: u32 = 340;

/// A user namespace with this many lines in each map, which together are shorter than a page, as the kernel wants it.
fn most_mappings(t: &mut Trial, count: u32) -> Outcome {
    if t.mode == Mode::User {
        return skip(
            "requires a caller with CAP_SETUID: so many lines of a user's own long ids are longer than a page",
        );
    }
    t.use_user_namespace()?;
    let first = t.host_id(0);
    let line = |n: u32| json!({"containerID": n, "hostID": if n == 0 { first } else { 1000 + 2 * n }, "size": 1});
    let lines: Vec<_> = (0..count).map(line).collect();
    t.set("/linux/uidMappings", json!(lines));
    t.set("/linux/gidMappings", json!(lines));
    Ok(())
}

/// The caller's own ids and no others.
fn own_ids_only(t: &mut Trial) -> Outcome {
    t.use_user_namespace()?;
    let own = json!([{"containerID": 0, "hostID": mode::USER, "size": 1}]);
    t.set("/linux/uidMappings", own.clone());
    t.set("/linux/gidMappings", own);
    // Group 5, that of terminals, is not among them.
    for mount in t.config["mounts"].as_array_mut().into_iter().flatten().filter(|mount| mount["type"] == "devpts") {
        mount["options"] = json!(["newinstance", "ptmxmode=0666"]);
    }
    Ok(())
}

fn helpers(group: &mut Group) {
    group.add("ones_own_id_takes_no_helper", |t| {
        as_user(t)?;
        own_ids_only(t)?;
        t.sh("id -u; cat /proc/self/setgroups");
        t.write_config()?;
        let id = t.id.clone();
        let done = t.call(&["run", &id]).env("PATH", "/no/such/directory").go()?.ok()?;
        equal!(done.stdout, "0\ndeny\n", "uid and setgroups");
        Ok(())
    });
    group.add_beyond_peers(WORDS, "a_missing_newuidmap_is_named_with_its_package", |t| {
        as_user(t)?;
        t.write_config()?;
        let id = t.id.clone();
        let done = t.call(&["run", &id]).env("PATH", "/no/such/directory").go()?.refused()?;
        for word in ["newuidmap", "package uidmap"] {
            ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
        }
        t.expect_unknown()
    });
    group.add_beyond_peers(WORDS, "ids_that_are_not_the_callers_are_refused_with_the_file", |t| {
        as_user(t)?;
        t.use_user_namespace()?;
        t.set("/linux/uidMappings/1/hostID", json!(700_000));
        let done = t.run_refused()?;
        for word in ["/etc/subuid", "700000"] {
            ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
        }
        Ok(())
    });
    group.add_beyond_peers(WORDS, "without_a_user_namespace_the_error_says_what_to_add", |t| {
        as_user(t)?;
        let text = t.config.to_string();
        fs::write(t.bundle.join("config.json"), text)?;
        let id = t.id.clone();
        let done = t.call(&["run", &id]).go()?.refused()?;
        ensure!(done.stderr.contains("spec --rootless"), "{}", done.stderr);
        t.expect_unknown()
    });
}

fn no_subordinate_ids(group: &mut Group) {
    group.add_beyond_peers(WORDS, "a_caller_without_subordinate_ids_is_told_the_line_that_is_missing", |t| {
        as_user(t)?;
        // The sandbox's own file lies on top of the host's.
        fs::write("/etc/subuid", "somebody-else:300000:65536\n")?;
        let done = t.run_refused()?;
        for word in ["/etc/subuid", &format!(":{}:{}", mode::SUBORDINATE, mode::SUBORDINATE_COUNT)] {
            ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
        }
        // The suite's own last container wants its ids.
        let [_, _, (_, line), _] = mode::etc_lines();
        Ok(fs::write("/etc/subuid", line)?)
    });
}

fn disabled(group: &mut Group) {
    group.add_beyond_peers(WORDS, "disabled_user_namespaces_are_told_with_the_sysctl", |t| {
        t.use_user_namespace()?;
        let own = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        t.set("/linux/uidMappings", own.clone());
        t.set("/linux/gidMappings", own);
        t.remove("/linux/cgroupsPath");
        t.remove("/linux/resources");
        t.write_config()?;
        let id = t.id.clone();
        let root = if t.mode == Mode::User { format!("{}-inner", t.root.display()) } else { "/run/xbt-inner".into() };
        // The sysctl belongs to a user namespace: the host's stays as it is.
        let script = "exec unshare --user --map-root-user --mount \
            sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"' sh \"$@\"";
        let done = t.call_after(script, &["--root", &root, "run", &id]).go()?.refused()?;
        ensure!(done.stderr.contains("user.max_user_namespaces"), "{}", done.stderr);
        Ok(())
    });
}

fn cgroups(group: &mut Group) {
    group.citing("config-linux.md#control-groups");
    for (limit, words) in [(None, "runs"), (Some(100), "is_refused_with_a_limit")] {
        group.add_beyond_peers(PEERS, format!("without_a_writable_cgroup_a_container_{words}"), move |t| {
            as_user(t)?;
            let base = format!("/sys/fs/cgroup{}", t.cgroup_base());
            for name in ["", "/cgroup.procs", "/cgroup.subtree_control", "/caller", "/caller/cgroup.procs"] {
                chown(format!("{base}{name}"), Some(0), Some(0))?;
            }
            t.remove("/linux/cgroupsPath");
            t.remove("/linux/resources");
            if let Some(limit) = limit {
                t.set("/linux/resources", json!({"unified": {"cgroup.max.depth": limit.to_string()}}));
                t.run_refused()?;
                // The suite's own last container wants its cgroup.
                return t.delegate_again();
            }
            equal!(t.run_sh("echo here")?, "here\n", "output");
            t.sleeper()?;
            equal!(t.status()?, "running", "status");
            t.kill("KILL")?.ok()?;
            t.wait_for_status("stopped")?;
            t.delete()?;
            Ok(())
        });
    }
    for (what, mount) in [
        ("the_cgroup_mount", None),
        (
            "a_bound_sys",
            Some(json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]})),
        ),
    ] {
        group.add_beyond_peers(PEERS, format!("cve_2023_25809_cgroups_are_read_only_through_{what}"), move |t| {
            as_user(t)?;
            t.drop_namespace("cgroup");
            t.drop_namespace("network");
            if let Some(mount) = mount.clone() {
                let kept = t.config["mounts"].as_array().cloned().unwrap_or_default().into_iter();
                let mut kept: Vec<_> =
                    kept.filter(|m| !m["destination"].as_str().unwrap_or_default().starts_with("/sys")).collect();
                kept.push(mount);
                t.set("/mounts", json!(kept));
            }
            let base = t.cgroup_base().to_string();
            let out =
                t.run_sh(&format!("mkdir /sys/fs/cgroup{base}/planted 2>&1; echo; ls -d /sys/fs/cgroup{base}"))?;
            ensure!(out.contains("Read-only file system"), "a cgroup could be made from inside: {out}");
            Ok(())
        });
    }
    group.add("a_delegated_cgroup_is_used_with_its_freezer", |t| {
        as_user(t)?;
        t.sleeper()?;
        let pid = t.pid()?;
        let id = t.id.clone();
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        ensure!(cgroup.contains(&id), "not in a cgroup of its own: {cgroup}");
        t.call(&["pause", &id]).go()?.ok()?;
        equal!(t.status()?, "paused", "status");
        t.call(&["resume", &id]).go()?.ok()?;
        equal!(t.status()?, "running", "status");
        Ok(())
    });
}

fn places(group: &mut Group) {
    group.citing("engine contract");
    group.add("state_lies_below_the_runtime_directory", |t| {
        as_user(t)?;
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let id = t.id.clone();
        t.bare_call(&["create", &id]).go()?.ok()?;
        let found = fs::read_dir(mode::RUNTIME_DIR)?.flatten().any(|entry| entry.path().join(&id).exists());
        ensure!(found, "{} has no directory of the container", mode::RUNTIME_DIR);
        t.bare_call(&["list", "-q"]).go()?.ok()?;
        t.bare_call(&["delete", "--force", &id]).go()?.ok()?;
        Ok(())
    });
    group.add("the_config_of_spec_rootless_runs", |t| {
        as_user(t)?;
        let bundle = t.scratch.join("own");
        fs::create_dir(&bundle)?;
        crate::bundle::make_rootfs(&bundle.join("rootfs"))?;
        t.call(&["spec", "--rootless", "--bundle", &bundle.display().to_string()]).go()?.ok()?;
        let file = bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/id", "-u"]);
        fs::write(&file, config.to_string())?;
        let id = t.another_id("own");
        let done = t.call(&["run", "--bundle", &bundle.display().to_string(), &id]).go()?.ok()?;
        equal!(done.stdout, "0\n", "uid inside");
        Ok(())
    });
    group.add("a_bind_source_that_only_the_caller_can_reach_is_bound", |t| {
        use std::os::unix::fs::PermissionsExt;
        if t.mode != Mode::UserNamespace {
            return skip("requires containers with ids other than the caller's (--userns)");
        }
        let closed = Path::new("/run/xbt-closed");
        fs::create_dir(closed)?;
        fs::write(closed.join("file"), "found\n")?;
        fs::set_permissions(closed, fs::Permissions::from_mode(0o700))?;
        t.mount("/mnt/file", "bind", closed.join("file"), &["bind"]);
        equal!(t.run_sh("cat /mnt/file")?, "found\n", "content");
        Ok(())
    });
}
