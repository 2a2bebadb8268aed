//! create, start, state, kill, delete: what follows what, and what each does in the wrong state.

use std::fs;

use serde_json::json;

use crate::case::{Group, skip};
use crate::options::View;
use crate::trial::alive;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("lifecycle", "runtime.md#create");
    create(&mut group);
    create_side_by_side(&mut group);
    create_words(&mut group);
    start(&mut group);
    state(&mut group);
    state_keys(&mut group);
    delete(&mut group);
    delete_force(&mut group);
    group
}

fn create(group: &mut Group) {
    group.add("create_does_not_run_the_payload", |t| {
        t.sh("touch /out/ran");
        t.create()?;
        equal!(t.status()?, "created", "status after create");
        ensure!(!t.rootfs().join("out/ran").exists(), "the payload ran before start");
        Ok(())
    });
    group.add("changes_to_the_config_after_create_have_no_effect", |t| {
        t.sh("echo first > /out/ran");
        t.create()?;
        t.sh("echo second > /out/ran");
        t.write_config()?;
        t.start()?;
        equal!(t.wait_for_file(t.rootfs().join("out/ran"))?, "first\n", "what ran");
        t.wait_for_status("stopped")
    });
    group.add("the_bundle_defaults_to_the_current_directory", |t| {
        t.args(&["/bin/true"]);
        t.write_config()?;
        let id = t.id.clone();
        t.call(&["create", &id]).go()?.ok()?;
        equal!(t.state()?["bundle"], json!(t.bundle), "bundle in state");
        Ok(())
    });
    group.add("a_relative_bundle_is_accepted", |t| {
        t.args(&["/bin/true"]);
        t.write_config()?;
        let (id, above) = (t.id.clone(), t.bundle.join(".."));
        t.call(&["create", "--bundle", "bundle", &id]).cwd(above).go()?.ok()?;
        equal!(t.state()?["bundle"], json!(t.bundle), "bundle in state, absolute by runtime.md#state");
        Ok(())
    });
}

fn create_side_by_side(group: &mut Group) {
    for (name, running) in [("created", false), ("running", true)] {
        group.add(format!("an_id_in_use_is_refused_and_the_{name}_container_untouched"), move |t| {
            t.args(&["/bin/sleep", "1000"]);
            t.create()?;
            if running {
                t.start()?;
            }
            let pid = t.pid()?;
            t.create_with(&[])?.refused()?;
            equal!((t.status()?.as_str(), t.pid()?), (name, pid), "status and pid of the first container");
            Ok(())
        });
    }
    group.add("two_containers_live_side_by_side", |t| {
        t.sleeper()?;
        let first = t.pid()?;
        t.switch_id("trial-2");
        t.sleeper()?;
        ensure!(t.pid()? != first, "both containers have pid {first}");
        equal!(t.status()?, "running", "status of the second");
        Ok(())
    });
    group.add("a_failed_create_leaves_the_id_free", |t| {
        t.set("/root/path", json!("no-such-directory"));
        t.create_with(&[])?.refused()?;
        t.set("/root/path", json!("rootfs"));
        t.create()?;
        Ok(())
    });
    group.add("a_created_container_has_a_live_process_in_new_namespaces", |t| {
        t.create()?;
        let pid = t.pid()?;
        ensure!(
            fs::read_link(format!("/proc/{pid}/ns/mnt"))? != fs::read_link("/proc/self/ns/mnt")?,
            "process {pid} is in the runtime's mount namespace"
        );
        Ok(())
    });
}

fn create_words(group: &mut Group) {
    for kind in ["apart", "equals"] {
        group.add(format!("options_after_the_id_are_understood_{kind}"), move |t| {
            t.write_config()?;
            let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
            let inline = format!("--bundle={bundle}");
            let words: Vec<&str> =
                if kind == "apart" { vec!["create", &id, "--bundle", &bundle] } else { vec!["create", &id, &inline] };
            t.call(&words).cwd("/").go()?.ok()?;
            equal!(t.status()?, "created", "status");
            Ok(())
        });
    }
}

fn start(group: &mut Group) {
    group.citing("runtime.md#start");
    group.add("start_runs_the_payload", |t| {
        t.sh("echo yes > /out/ran");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ran"))?;
        t.wait_for_status("stopped")
    });
    group.add("a_running_container_cannot_be_started", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["start", &id]).go()?.refused()?;
        equal!(t.status()?, "running", "status after the refused start");
        Ok(())
    });
    group.add("a_stopped_container_cannot_be_started", |t| {
        t.sh("echo once >> /out/ran");
        t.create_started()?;
        t.wait_for_status("stopped")?;
        let id = t.id.clone();
        t.call(&["start", &id]).go()?.refused()?;
        equal!(fs::read_to_string(t.rootfs().join("out/ran"))?, "once\n", "runs of the payload");
        Ok(())
    });
    group.add("start_returns_while_the_payload_runs", |t| {
        t.sleeper()?;
        equal!(t.status()?, "running", "status");
        Ok(())
    });
    group.add("the_payload_keeps_the_pid_of_create", |t| {
        t.args(&["/bin/sleep", "1000"]);
        t.create()?;
        let pid = t.pid()?;
        t.start()?;
        equal!(t.pid()?, pid, "pid after start");
        Ok(())
    });
    group.add("start_without_process_is_refused", |t| {
        t.remove("/process");
        // Refusing at create is earlier and just as good.
        if t.create_with(&[])?.succeeded() {
            let id = t.id.clone();
            t.call(&["start", &id]).go()?.refused()?;
        }
        Ok(())
    });
}

fn state(group: &mut Group) {
    group.citing("runtime.md#state");
    group.add("a_started_container_is_running", |t| {
        t.sleeper()?;
        equal!(t.status()?, "running", "status after start");
        Ok(())
    });
    group.add("an_exited_container_is_stopped", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")
    });
    group.add("a_killed_container_is_stopped", |t| {
        t.sleeper()?;
        t.kill("KILL")?.ok()?;
        t.wait_for_status("stopped")
    });
    group.add("state_has_the_required_properties", |t| {
        t.set("/annotations", json!({"com.example.key": "value", "empty": ""}));
        t.create()?;
        let state = t.state()?;
        equal!(state["id"], json!(t.id), "id");
        equal!(state["bundle"], json!(t.bundle), "bundle");
        equal!(state["status"], json!("created"), "status");
        equal!(state["annotations"]["com.example.key"], json!("value"), "annotation");
        let version = state["ociVersion"].as_str().unwrap_or_default();
        ensure!(
            version.split('.').count() >= 3 && version.starts_with(|c: char| c.is_ascii_digit()),
            "ociVersion is {version:?}"
        );
        let pid = state["pid"].as_i64().unwrap_or_default();
        ensure!(alive(pid), "pid {pid} is no process");
        Ok(())
    });
}

fn state_keys(group: &mut Group) {
    group.citing("engine contract");
    group.add("state_has_the_keys_that_engines_read", |t| {
        t.create()?;
        let state = t.state()?;
        for key in ["ociVersion", "id", "pid", "status", "bundle", "created", "owner", "rootfs"] {
            ensure!(!state[key].is_null(), "key {key} is missing from {state}");
        }
        equal!(state["rootfs"], json!(t.rootfs()), "rootfs");
        ensure!(state["created"].as_str().unwrap_or_default().contains('T'), "created is {}", state["created"]);
        Ok(())
    });
    group.add("state_of_a_stopped_container_names_no_live_process", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        let pid = t.state()?["pid"].as_i64().unwrap_or(0);
        ensure!(pid == 0 || !alive(pid), "pid {pid} is alive");
        Ok(())
    });
    group.add("state_prints_one_json_object_and_nothing_else", |t| {
        t.create()?;
        let id = t.id.clone();
        let done = t.call(&["state", &id]).go()?.ok()?;
        ensure!(done.stdout.trim().starts_with('{') && done.stdout.trim().ends_with('}'), "{}", done.stdout);
        ensure!(done.stderr.is_empty(), "stderr: {}", done.stderr);
        Ok(())
    });
}

fn delete(group: &mut Group) {
    group.citing("runtime.md#delete");
    group.add("a_stopped_container_is_deleted", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        t.delete()?;
        t.expect_unknown()
    });
    group.add("a_running_container_cannot_be_deleted", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["delete", &id]).go()?.refused()?;
        equal!(t.status()?, "running", "status after the refused delete");
        Ok(())
    });
    group.add("a_deleted_id_can_be_used_again", |t| {
        for _ in 0..2 {
            t.create_started()?;
            t.wait_for_status("stopped")?;
            t.delete()?;
        }
        Ok(())
    });
    group.add("delete_keeps_the_bundle", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        t.delete()?;
        ensure!(t.bundle.join("config.json").exists() && t.rootfs().join("bin/sh").exists(), "the bundle was touched");
        Ok(())
    });
    group.citing("engine contract");
    group.add("a_created_container_is_deleted_with_its_process", |t| {
        t.create()?;
        let pid = t.pid()?;
        t.delete()?;
        t.expect_unknown()?;
        ensure!(!alive(pid), "process {pid} is still there");
        Ok(())
    });
    group.add("delete_force_ends_a_running_container", |t| {
        t.sleeper()?;
        let (id, pid) = (t.id.clone(), t.pid()?);
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        t.expect_unknown()?;
        ensure!(!alive(pid), "process {pid} is still there");
        Ok(())
    });
}

fn delete_force(group: &mut Group) {
    for words in [["delete", "-f", "ID"], ["delete", "ID", "--force"]] {
        let name = if words[1] == "-f" { "short" } else { "after_the_id" };
        group.add(format!("delete_force_{name}"), move |t| {
            t.sleeper()?;
            let id = t.id.clone();
            let words: Vec<&str> = words.iter().map(|word| if *word == "ID" { id.as_str() } else { word }).collect();
            t.call(&words).go()?.ok()?;
            t.expect_unknown()
        });
    }
    let why = "engine contract: delete --force removes what there is; with runc 1.1.5 and crun 1.8.1 the create waits for ever";
    group.add_beyond_peers(why, "delete_force_gets_through_to_a_create_that_is_frozen", |t| {
        if t.view == View::Host {
            return skip("requires the private view of cgroup v2");
        }
        let place = format!("/sys/fs/cgroup{}/{}/cgroup.freeze", t.cgroup_base(), t.id);
        let frozen = t.scratch.join("frozen");
        let script = format!("echo 1 > {place} && echo 1 > {}", frozen.display());
        t.set("/hooks/createRuntime", json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]));
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let live = t.call(&["create", "--bundle", &bundle, &id]).spawn()?;
        t.wait_for_file(&frozen)?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        live.wait()?;
        // Where the create was faster than the delete, it is another's to remove what it has left.
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        t.expect_unknown()
    });
    group.add("delete_force_ends_all_processes_without_a_pid_namespace", |t| {
        t.drop_namespace("pid");
        t.sh("sleep 1000 & sleep 1000 & wait");
        t.create_started()?;
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        t.expect_unknown()
    });
    group.add("a_second_delete_is_an_error", |t| {
        t.create()?;
        t.delete()?;
        let id = t.id.clone();
        let done = t.call(&["delete", &id]).go()?.refused()?;
        ensure!(done.stderr.contains("does not exist"), "stderr: {}", done.stderr);
        Ok(())
    });
    group.add("delete_survives_a_missing_bundle", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        fs::rename(&t.bundle, t.scratch.join("moved"))?;
        let id = t.id.clone();
        t.call(&["delete", &id]).cwd("/").go()?.ok()?;
        fs::rename(t.scratch.join("moved"), &t.bundle)?;
        Ok(())
    });
}
