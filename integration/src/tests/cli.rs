//! The command line as engines use it: list, ps, spec, features, version, log files, pid files.

use std::fs;

use serde_json::{Value, json};

use crate::case::{Group, Outcome, skip};
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("cli", "engine contract");
    list(&mut group);
    ps(&mut group);
    spec(&mut group);
    features(&mut group);
    texts(&mut group);
    pid_files(&mut group);
    logs(&mut group);
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
        ensure!(
            lines[1].contains(&t.id) && lines[1].contains("running"),
            "{out}"
        );
        Ok(())
    });
    for words in [
        ["list", "--format", "json"].as_slice(),
        &["list", "--format=json"],
        &["list", "-f", "json"],
    ] {
        let name = words[1..]
            .join("_")
            .replace(['-', '='], "_")
            .trim_matches('_')
            .replace("__", "_");
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
        group.add(
            format!("list_{}_prints_ids_only", flag.trim_start_matches('-')),
            move |t| {
                t.sleeper()?;
                t.switch_id("trial-2");
                t.create()?;
                let out = t.call(&["list", flag]).go()?.ok()?.stdout;
                let mut ids: Vec<&str> = out.lines().collect();
                ids.sort_unstable();
                equal!(ids, ["trial-1", "trial-2"], "ids");
                Ok(())
            },
        );
    }
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
        equal!(
            found,
            ["trial-1 running", "trial-2 created", "trial-3 stopped"],
            "list"
        );
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
        ensure!(
            pids.contains(&t.pid()?),
            "the first process is missing from {pids:?}"
        );
        Ok(())
    });
    group.add("ps_table_shows_the_processes", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        let out = t.call(&["ps", &id]).go()?.ok()?.stdout;
        let pid = t.pid()?.to_string();
        ensure!(
            out.contains("PID") && out.split_whitespace().any(|word| word == pid),
            "{out}"
        );
        Ok(())
    });
    group.add("ps_includes_execed_processes", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["exec", "-d", &id, "/bin/sleep", "999"])
            .go()?
            .ok()?;
        let out = t.call(&["ps", "--format=json", &id]).go()?.ok()?.stdout;
        equal!(
            serde_json::from_str::<Vec<i32>>(&out)?.len(),
            2,
            "count of pids"
        );
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
        group.add(
            format!("spec_{}_writes_there", flag.trim_start_matches('-')),
            move |t| {
                let place = t.scratch.join("new");
                fs::create_dir(&place)?;
                t.call(&["spec", flag, &place.display().to_string()])
                    .go()?
                    .ok()?;
                ensure!(
                    place.join("config.json").exists(),
                    "no config.json in {}",
                    place.display()
                );
                Ok(())
            },
        );
    }
    group.add("spec_does_not_overwrite", |t| {
        fs::write(t.bundle.join("config.json"), "mine")?;
        t.call(&["spec"]).go()?.refused()?;
        equal!(
            fs::read_to_string(t.bundle.join("config.json"))?,
            "mine",
            "the file"
        );
        Ok(())
    });
    group.add("spec_rootless_asks_for_a_user_namespace", |t| {
        let place = t.scratch.join("new");
        fs::create_dir(&place)?;
        t.call(&[
            "spec",
            "--rootless",
            "--bundle",
            &place.display().to_string(),
        ])
        .go()?
        .ok()?;
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

fn features_of(t: &mut Trial) -> Outcome<Value> {
    let done = t.bare_call(&["features"]).go()?;
    if done.stderr.contains("unknown command") {
        return skip("requires the `features` verb, which this runtime lacks");
    }
    Ok(serde_json::from_str(&done.ok()?.stdout)?)
}

fn features(group: &mut Group) {
    group.citing("features.md");
    group.add("features_names_versions", |t| {
        let found = features_of(t)?;
        for key in ["ociVersionMin", "ociVersionMax"] {
            ensure!(found[key].is_string(), "{key} is missing");
        }
        Ok(())
    });
    group.add("features_names_all_hooks", |t| {
        let found = features_of(t)?;
        for hook in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ] {
            ensure!(
                found["hooks"]
                    .as_array()
                    .is_some_and(|list| list.contains(&json!(hook))),
                "{hook} is missing"
            );
        }
        Ok(())
    });
    group.add("features_names_mount_options_with_rro", |t| {
        let found = features_of(t)?;
        for option in ["ro", "rro", "bind", "rbind", "nosuid", "noexec"] {
            ensure!(
                found["mountOptions"]
                    .as_array()
                    .is_some_and(|list| list.contains(&json!(option))),
                "{option} is missing"
            );
        }
        Ok(())
    });
    group.add("features_names_namespaces_and_capabilities", |t| {
        let found = features_of(t)?;
        for kind in ["pid", "network", "mount", "ipc", "uts", "user", "cgroup"] {
            ensure!(
                found["linux"]["namespaces"]
                    .as_array()
                    .is_some_and(|list| list.contains(&json!(kind))),
                "{kind} is missing"
            );
        }
        ensure!(
            found["linux"]["capabilities"]
                .as_array()
                .is_some_and(|list| list.contains(&json!("CAP_CHOWN"))),
            "no CAP_CHOWN"
        );
        Ok(())
    });
    group.add("features_describes_cgroup_and_seccomp", |t| {
        let found = features_of(t)?;
        for key in ["v1", "v2", "systemd"] {
            ensure!(
                found["linux"]["cgroup"][key].is_boolean(),
                "linux.cgroup.{key} is missing"
            );
        }
        ensure!(
            found["linux"]["seccomp"]["enabled"].is_boolean(),
            "linux.seccomp.enabled is missing"
        );
        for key in ["apparmor", "selinux"] {
            ensure!(
                found["linux"][key]["enabled"].is_boolean(),
                "linux.{key}.enabled is missing"
            );
        }
        Ok(())
    });
}

fn texts(group: &mut Group) {
    group.citing("engine contract");
    for flag in ["--version", "-v"] {
        group.add(
            format!(
                "{}_names_runtime_commit_and_spec",
                flag.trim_start_matches('-')
            ),
            move |t| {
                let out = t.bare_call(&[flag]).go()?.ok()?.stdout;
                ensure!(
                    out.lines()
                        .next()
                        .is_some_and(|line| line.contains(" version ")),
                    "{out}"
                );
                ensure!(out.lines().any(|line| line.starts_with("commit:")), "{out}");
                ensure!(out.lines().any(|line| line.starts_with("spec:")), "{out}");
                Ok(())
            },
        );
    }
    group.add("help_exits_0", |t| {
        let done = t.bare_call(&["--help"]).go()?.ok()?;
        for verb in ["create", "start", "state", "kill", "delete"] {
            ensure!(
                done.stdout.contains(verb),
                "{verb} is missing from the help text"
            );
        }
        Ok(())
    });
    for verb in [
        "create", "run", "exec", "kill", "delete", "list", "state", "update",
    ] {
        group.add(format!("{verb}_help_exits_0"), move |t| {
            let done = t.bare_call(&[verb, "--help"]).go()?.ok()?;
            ensure!(!done.stdout.is_empty(), "no text");
            Ok(())
        });
    }
    group.add("an_unknown_option_is_refused", |t| {
        t.write_config()?;
        let id = t.id.clone();
        t.call(&["create", "--no-such-option", &id])
            .go()?
            .refused()?;
        t.expect_unknown()
    });
    group.add("too_many_words_are_refused", |t| {
        t.create()?;
        let id = t.id.clone();
        t.call(&["state", &id, "surplus"]).go()?.refused()?;
        Ok(())
    });
    group.add("roots_are_told_apart", |t| {
        t.create()?;
        let (id, other) = (
            t.id.clone(),
            t.scratch.join("other-root").display().to_string(),
        );
        t.bare_call(&["--root", &other, "state", &id])
            .go()?
            .refused()?;
        Ok(())
    });
    group.add("root_with_an_equals_sign_works", |t| {
        t.create()?;
        let (id, root) = (t.id.clone(), format!("--root={}", t.root.display()));
        t.bare_call(&[&root, "state", &id]).go()?.ok()?;
        Ok(())
    });
}

fn pid_files(group: &mut Group) {
    group.add("the_pid_file_holds_digits_only", |t| {
        let file = t.scratch.join("pid");
        t.create_with(&["--pid-file", &file.display().to_string()])?
            .ok()?;
        equal!(fs::read_to_string(file)?, t.pid()?.to_string(), "pid file");
        Ok(())
    });
    group.add(
        "a_relative_pid_file_is_relative_to_the_callers_directory",
        |t| {
            t.write_config()?;
            let (bundle, id, scratch) = (
                t.bundle.display().to_string(),
                t.id.clone(),
                t.scratch.clone(),
            );
            t.call(&["create", "--bundle", &bundle, "--pid-file", "pid", &id])
                .cwd(&scratch)
                .go()?
                .ok()?;
            equal!(
                fs::read_to_string(scratch.join("pid"))?,
                t.pid()?.to_string(),
                "pid file"
            );
            Ok(())
        },
    );
    group.add("the_pid_in_the_file_is_in_new_namespaces", |t| {
        let file = t.scratch.join("pid");
        t.create_with(&["--pid-file", &file.display().to_string()])?
            .ok()?;
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
        t.create_with(&["--pid-file", &file.display().to_string()])?
            .refused()?;
        if let Ok(pid) = fs::read_to_string(&file) {
            ensure!(
                !std::path::Path::new(&format!("/proc/{pid}")).exists(),
                "process {pid} lives"
            );
        }
        Ok(())
    });
}

fn log_records(t: &Trial) -> Outcome<Vec<Value>> {
    let text = fs::read_to_string(t.scratch.join("log.json"))?;
    Ok(text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

fn failing_create_with_log(t: &mut Trial) -> Outcome<crate::call::Done> {
    t.mount("/mnt", "bind", "/no/such/source", &["bind"]);
    t.write_config()?;
    let (id, bundle, log) = (
        t.id.clone(),
        t.bundle.display().to_string(),
        t.scratch.join("log.json").display().to_string(),
    );
    t.call(&[
        "--log",
        &log,
        "--log-format",
        "json",
        "create",
        "--bundle",
        &bundle,
        &id,
    ])
    .go()?
    .refused()
}

fn logs(group: &mut Group) {
    group.add("the_last_json_record_is_the_error", |t| {
        failing_create_with_log(t)?;
        let records = log_records(t)?;
        let last = records.last().cloned().unwrap_or_default();
        equal!(last["level"], json!("error"), "level of the last record");
        let text = last["msg"].as_str().unwrap_or_default();
        ensure!(
            text.contains("/no/such/source") || text.contains("o such file"),
            "msg is {text:?}"
        );
        ensure!(
            last["time"].as_str().is_some_and(|time| time.contains('T')),
            "time is {}",
            last["time"]
        );
        Ok(())
    });
    group.add("a_failed_command_logs_exactly_one_error", |t| {
        failing_create_with_log(t)?;
        let errors = log_records(t)?
            .iter()
            .filter(|record| record["level"] == "error")
            .count();
        equal!(errors, 1, "records of level error");
        Ok(())
    });
    group.add("the_error_is_on_stderr_even_with_a_log", |t| {
        let done = failing_create_with_log(t)?;
        ensure!(
            done.stderr.contains("o such file") || done.stderr.contains("/no/such/source"),
            "stderr: {:?}",
            done.stderr
        );
        Ok(())
    });
    group.add("a_text_log_holds_the_error", |t| {
        let log = t.scratch.join("log.txt").display().to_string();
        t.call(&["--log", &log, "state", "no-such-id"])
            .go()?
            .refused()?;
        ensure!(
            !fs::read_to_string(log)?.trim().is_empty(),
            "the log is empty"
        );
        Ok(())
    });
    group.add("a_log_is_appended_to", |t| {
        let log = t.scratch.join("log.json");
        fs::write(&log, "{\"level\":\"info\",\"msg\":\"before\"}\n")?;
        let path = log.display().to_string();
        t.call(&[
            "--log",
            &path,
            "--log-format",
            "json",
            "state",
            "no-such-id",
        ])
        .go()?
        .refused()?;
        let text = fs::read_to_string(log)?;
        ensure!(
            text.contains("before") && text.lines().count() > 1,
            "{text}"
        );
        Ok(())
    });
    group.add("an_unknown_log_format_is_refused", |t| {
        t.call(&["--log-format", "smoke-signals", "list"])
            .go()?
            .refused()?;
        Ok(())
    });
    group.add("debug_does_not_spoil_the_payloads_output", |t| {
        t.sh("echo out");
        t.write_config()?;
        let (id, bundle, log) = (
            t.id.clone(),
            t.bundle.display().to_string(),
            t.scratch.join("log").display().to_string(),
        );
        let done = t
            .call(&["--debug", "--log", &log, "run", "--bundle", &bundle, &id])
            .go()?
            .ok()?;
        equal!(done.stdout, "out\n", "stdout");
        Ok(())
    });
    group.add("a_successful_command_prints_nothing", |t| {
        t.args(&["/bin/sleep", "1000"]);
        let created = t.create()?;
        let started = t.start()?;
        equal!(
            created.stdout + &started.stdout,
            "",
            "stdout of create and start"
        );
        Ok(())
    });
}
