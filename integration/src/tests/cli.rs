//! The command line as engines use it: list, ps, spec, features, version, log files, pid files.

use std::fs;

use serde_json::{Value, json};

use crate::case::Group;
use crate::trial::alive;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("cli", "engine contract");
    list(&mut group);
    list_contents(&mut group);
    ps(&mut group);
    spec(&mut group);
    spec_rootless(&mut group);
    pid_files(&mut group);
    group
}

fn list(group: &mut Group) {
    group.add("list_has_a_header_and_a_line_for_each_container", |t| {
        t.sleeper()?;
        let out = t.call(&["list"]).go()?.ok()?.stdout;
        let lines: Vec<&str> = out.lines().collect();
        for column in ["PID", "STATUS", "BUNDLE"] {
            ensure!(lines[0].contains(column), "header is {:?}", lines[0]);
        }
        ensure!(lines[1].contains(&t.id) && lines[1].contains("running"), "{out}");
        Ok(())
    });
    for words in [["list", "--format", "json"].as_slice(), &["list", "--format=json"], &["list", "-f", "json"]] {
        let name = words[1..].join("_apart_").replace('=', "_equals_").replace('-', "");
        group.add(format!("list_{name}_is_an_array"), move |t| {
            t.sleeper()?;
            let out = t.call(words).go()?.ok()?.stdout;
            let list: Value = serde_json::from_str(&out)?;
            equal!(list[0]["id"], json!(t.id), "id");
            equal!(list[0]["status"], json!("running"), "status");
            equal!(list[0]["bundle"], json!(t.bundle), "bundle");
            equal!(list[0]["pid"], json!(t.pid()?), "pid");
            Ok(())
        });
    }
    for flag in ["--quiet", "-q"] {
        group.add(format!("list_{}_prints_ids_only", flag.trim_start_matches('-')), move |t| {
            t.sleeper()?;
            t.switch_id("trial-2");
            t.create()?;
            let out = t.call(&["list", flag]).go()?.ok()?.stdout;
            let mut ids: Vec<&str> = out.lines().collect();
            ids.sort_unstable();
            equal!(ids, ["trial-1", "trial-2"], "ids");
            Ok(())
        });
    }
}

fn list_contents(group: &mut Group) {
    group.add("list_shows_each_status", |t| {
        t.sleeper()?;
        t.switch_id("trial-2");
        t.create()?;
        t.switch_id("trial-3");
        t.args(&["/bin/true"]);
        t.create_started()?;
        t.wait_for_status("stopped")?;
        let out = t.call(&["list", "--format", "json"]).go()?.ok()?.stdout;
        let list: Value = serde_json::from_str(&out)?;
        let mut found: Vec<String> = list
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| format!("{} {}", entry["id"], entry["status"]).replace('"', ""))
            .collect();
        found.sort();
        equal!(found, ["trial-1 running", "trial-2 created", "trial-3 stopped"], "list");
        Ok(())
    });
    group.add("list_of_nothing_succeeds", |t| {
        let done = t.call(&["list", "-q"]).go()?.ok()?;
        equal!(done.stdout.trim(), "", "output");
        Ok(())
    });
    group.add("list_of_nothing_in_json_is_empty", |t| {
        let out = t.call(&["list", "--format", "json"]).go()?.ok()?.stdout;
        let list: Value = serde_json::from_str(&out)?;
        ensure!(list.as_array().is_none_or(Vec::is_empty), "{out}");
        Ok(())
    });
}

fn ps(group: &mut Group) {
    group.add("ps_json_is_an_array_of_host_pids", |t| {
        t.sh("sleep 1000 & sleep 1000 & echo ready > /out/ready; wait");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ready"))?;
        let id = t.id.clone();
        let out = t.call(&["ps", "--format", "json", &id]).go()?.ok()?.stdout;
        let pids: Vec<i32> = serde_json::from_str(&out)?;
        equal!(pids.len(), 3, "count of pids");
        ensure!(pids.contains(&t.pid()?), "the first process is missing from {pids:?}");
        Ok(())
    });
    group.add("ps_table_shows_the_processes", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        let out = t.call(&["ps", &id]).go()?.ok()?.stdout;
        let pid = t.pid()?.to_string();
        ensure!(out.contains("PID") && out.split_whitespace().any(|word| word == pid), "{out}");
        Ok(())
    });
    group.add("ps_includes_execed_processes", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["exec", "-d", &id, "/bin/sleep", "999"]).go()?.ok()?;
        let out = t.call(&["ps", "--format=json", &id]).go()?.ok()?.stdout;
        equal!(serde_json::from_str::<Vec<i32>>(&out)?.len(), 2, "count of pids");
        Ok(())
    });
}

fn spec(group: &mut Group) {
    group.add("spec_writes_a_config_that_runs", |t| {
        let directory = t.bundle.clone();
        t.call(&["spec"]).cwd(&directory).go()?.ok()?;
        let text = fs::read_to_string(t.bundle.join("config.json"))?;
        t.config = serde_json::from_str(&text)?;
        equal!(t.config["root"]["path"], json!("rootfs"), "root");
        t.set("/process/terminal", json!(false));
        let path = format!("{}/{}", t.cgroup_base(), t.id);
        t.set("/linux/cgroupsPath", json!(path));
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    for flag in ["--bundle", "-b"] {
        group.add(format!("spec_{}_writes_there", flag.trim_start_matches('-')), move |t| {
            let place = t.scratch.join("new");
            fs::create_dir(&place)?;
            t.call(&["spec", flag, &place.display().to_string()]).go()?.ok()?;
            ensure!(place.join("config.json").exists(), "no config.json in {}", place.display());
            Ok(())
        });
    }
    group.add("spec_does_not_overwrite", |t| {
        fs::write(t.bundle.join("config.json"), "mine")?;
        t.call(&["spec"]).go()?.refused()?;
        equal!(fs::read_to_string(t.bundle.join("config.json"))?, "mine", "the file");
        Ok(())
    });
}

fn spec_rootless(group: &mut Group) {
    group.add("spec_rootless_asks_for_a_user_namespace", |t| {
        let place = t.scratch.join("new");
        fs::create_dir(&place)?;
        t.call(&["spec", "--rootless", "--bundle", &place.display().to_string()]).go()?.ok()?;
        let config: Value = serde_json::from_str(&fs::read_to_string(place.join("config.json"))?)?;
        let kinds: Vec<&str> = config["linux"]["namespaces"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry["type"].as_str())
            .collect();
        ensure!(kinds.contains(&"user"), "namespaces are {kinds:?}");
        ensure!(config["linux"]["uidMappings"].is_array(), "no uidMappings");
        Ok(())
    });
}

fn pid_files(group: &mut Group) {
    group.add("the_pid_file_holds_digits_only", |t| {
        let file = t.scratch.join("pid");
        t.create_with(&["--pid-file", &file.display().to_string()])?.ok()?;
        equal!(fs::read_to_string(file)?, t.pid()?.to_string(), "pid file");
        Ok(())
    });
    group.add("a_relative_pid_file_is_relative_to_the_callers_directory", |t| {
        t.write_config()?;
        let (bundle, id, scratch) = (t.bundle.display().to_string(), t.id.clone(), t.scratch.clone());
        t.call(&["create", "--bundle", &bundle, "--pid-file", "pid", &id]).cwd(&scratch).go()?.ok()?;
        equal!(fs::read_to_string(scratch.join("pid"))?, t.pid()?.to_string(), "pid file");
        Ok(())
    });
    group.add("the_pid_in_the_file_is_in_new_namespaces", |t| {
        let file = t.scratch.join("pid");
        t.create_with(&["--pid-file", &file.display().to_string()])?.ok()?;
        let pid = fs::read_to_string(file)?;
        ensure!(
            fs::read_link(format!("/proc/{pid}/ns/mnt"))? != fs::read_link("/proc/self/ns/mnt")?,
            "same mount namespace"
        );
        Ok(())
    });
    group.add("a_failed_create_writes_no_pid_of_a_live_process", |t| {
        let file = t.scratch.join("pid");
        t.mount("/mnt", "bind", "/no/such/source", &["bind"]);
        t.create_with(&["--pid-file", &file.display().to_string()])?.refused()?;
        if let Ok(pid) = fs::read_to_string(&file) {
            ensure!(!alive(&pid), "process {pid} lives");
        }
        Ok(())
    });
}
