//! What engines read back as text: features, version, help, and the log file.

use std::fs;

use serde_json::{Value, json};

use crate::case::{Group, Outcome, skip};
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("texts", "features.md");
    features(&mut group);
    features_linux(&mut group);
    texts(&mut group);
    roots(&mut group);
    logs(&mut group);
    log_options(&mut group);
    group
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
        for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            ensure!(found["hooks"].as_array().is_some_and(|list| list.contains(&json!(hook))), "{hook} is missing");
        }
        Ok(())
    });
    group.add("features_names_mount_options_with_rro", |t| {
        let found = features_of(t)?;
        for option in ["ro", "rro", "bind", "rbind", "nosuid", "noexec"] {
            ensure!(
                found["mountOptions"].as_array().is_some_and(|list| list.contains(&json!(option))),
                "{option} is missing"
            );
        }
        Ok(())
    });
}

fn features_linux(group: &mut Group) {
    group.add("features_names_namespaces_and_capabilities", |t| {
        let found = features_of(t)?;
        for kind in ["pid", "network", "mount", "ipc", "uts", "user", "cgroup"] {
            ensure!(
                found["linux"]["namespaces"].as_array().is_some_and(|list| list.contains(&json!(kind))),
                "{kind} is missing"
            );
        }
        ensure!(
            found["linux"]["capabilities"].as_array().is_some_and(|list| list.contains(&json!("CAP_CHOWN"))),
            "no CAP_CHOWN"
        );
        Ok(())
    });
    group.add("features_describes_cgroup_and_seccomp", |t| {
        let found = features_of(t)?;
        for key in ["v1", "v2", "systemd"] {
            ensure!(found["linux"]["cgroup"][key].is_boolean(), "linux.cgroup.{key} is missing");
        }
        ensure!(found["linux"]["seccomp"]["enabled"].is_boolean(), "linux.seccomp.enabled is missing");
        for key in ["apparmor", "selinux"] {
            ensure!(found["linux"][key]["enabled"].is_boolean(), "linux.{key}.enabled is missing");
        }
        Ok(())
    });
}

fn texts(group: &mut Group) {
    group.citing("engine contract");
    for flag in ["--version", "-v"] {
        group.add(format!("{}_names_runtime_commit_and_spec", flag.trim_start_matches('-')), move |t| {
            let out = t.bare_call(&[flag]).go()?.ok()?.stdout;
            ensure!(out.lines().next().is_some_and(|line| line.contains(" version ")), "{out}");
            ensure!(out.lines().any(|line| line.starts_with("commit:")), "{out}");
            ensure!(out.lines().any(|line| line.starts_with("spec:")), "{out}");
            Ok(())
        });
    }
    group.add("help_exits_0", |t| {
        let done = t.bare_call(&["--help"]).go()?.ok()?;
        for verb in ["create", "start", "state", "kill", "delete"] {
            ensure!(done.stdout.contains(verb), "{verb} is missing from the help text");
        }
        Ok(())
    });
    for verb in ["create", "run", "exec", "kill", "delete", "list", "state", "update"] {
        group.add(format!("{verb}_help_exits_0"), move |t| {
            let done = t.bare_call(&[verb, "--help"]).go()?.ok()?;
            ensure!(!done.stdout.is_empty(), "no text");
            Ok(())
        });
    }
    for verb in ["checkpoint", "restore", "mounts"] {
        group.add(format!("a_runtime_without_{verb}_says_so_in_one_line"), move |t| {
            // podman takes a success of this for support.
            if t.bare_call(&[verb, "--help"]).go()?.succeeded() {
                return crate::case::skip(format!("requires a runtime that lacks `{verb}`"));
            }
            for words in [[verb, "--help"], [verb, "ID"]] {
                let done = t.bare_call(&words).go()?;
                ensure!(!done.succeeded(), "`{verb}` succeeds");
                let said = format!("{}{}", done.stdout, done.stderr);
                equal!(said.lines().count(), 1, "lines of {said:?}");
                ensure!(said.contains(verb), "the verb is not named: {said}");
            }
            Ok(())
        });
    }
    group.add("an_unknown_option_is_refused", |t| {
        t.write_config()?;
        let id = t.id.clone();
        t.call(&["create", "--no-such-option", &id]).go()?.refused()?;
        t.expect_unknown()
    });
    group.add("too_many_words_are_refused", |t| {
        t.create()?;
        let id = t.id.clone();
        t.call(&["state", &id, "surplus"]).go()?.refused()?;
        Ok(())
    });
}

fn roots(group: &mut Group) {
    group.add("roots_are_told_apart", |t| {
        t.create()?;
        let (id, other) = (t.id.clone(), t.scratch.join("other-root").display().to_string());
        t.bare_call(&["--root", &other, "state", &id]).go()?.refused()?;
        Ok(())
    });
    group.add("root_with_an_equals_sign_works", |t| {
        t.create()?;
        let (id, root) = (t.id.clone(), format!("--root={}", t.root.display()));
        t.bare_call(&[&root, "state", &id]).go()?.ok()?;
        Ok(())
    });
}

fn log_records(t: &Trial) -> Outcome<Vec<Value>> {
    let text = fs::read_to_string(t.scratch.join("log.json"))?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn failing_create_with_log(t: &mut Trial) -> Outcome<crate::call::Done> {
    t.mount("/mnt", "bind", "/no/such/source", &["bind"]);
    t.write_config()?;
    let (id, bundle, log) =
        (t.id.clone(), t.bundle.display().to_string(), t.scratch.join("log.json").display().to_string());
    t.call(&["--log", &log, "--log-format", "json", "create", "--bundle", &bundle, &id]).go()?.refused()
}

fn logs(group: &mut Group) {
    group.add("the_last_json_record_is_the_error", |t| {
        failing_create_with_log(t)?;
        let records = log_records(t)?;
        let last = records.last().cloned().unwrap_or_default();
        equal!(last["level"], json!("error"), "level of the last record");
        let text = last["msg"].as_str().unwrap_or_default();
        ensure!(text.contains("/no/such/source") || text.contains("o such file"), "msg is {text:?}");
        ensure!(last["time"].as_str().is_some_and(|time| time.contains('T')), "time is {}", last["time"]);
        Ok(())
    });
    group.add("a_failed_command_logs_exactly_one_error", |t| {
        failing_create_with_log(t)?;
        let errors = log_records(t)?.iter().filter(|record| record["level"] == "error").count();
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
        t.call(&["--log", &log, "state", "no-such-id"]).go()?.refused()?;
        ensure!(!fs::read_to_string(log)?.trim().is_empty(), "the log is empty");
        Ok(())
    });
}

fn log_options(group: &mut Group) {
    group.add("a_log_is_appended_to", |t| {
        let log = t.scratch.join("log.json");
        fs::write(&log, "{\"level\":\"info\",\"msg\":\"before\"}\n")?;
        let path = log.display().to_string();
        t.call(&["--log", &path, "--log-format", "json", "state", "no-such-id"]).go()?.refused()?;
        let text = fs::read_to_string(log)?;
        ensure!(text.contains("before") && text.lines().count() > 1, "{text}");
        Ok(())
    });
    group.add("an_unknown_log_format_is_refused", |t| {
        t.call(&["--log-format", "smoke-signals", "list"]).go()?.refused()?;
        Ok(())
    });
    group.add("debug_does_not_spoil_the_payloads_output", |t| {
        t.sh("echo out");
        t.write_config()?;
        let (id, bundle, log) =
            (t.id.clone(), t.bundle.display().to_string(), t.scratch.join("log").display().to_string());
        let done = t.call(&["--debug", "--log", &log, "run", "--bundle", &bundle, &id]).go()?.ok()?;
        equal!(done.stdout, "out\n", "stdout");
        Ok(())
    });
    group.add("a_successful_command_prints_nothing", |t| {
        t.args(&["/bin/sleep", "1000"]);
        let created = t.create()?;
        let started = t.start()?;
        equal!(created.stdout + &started.stdout, "", "stdout of create and start");
        Ok(())
    });
}
