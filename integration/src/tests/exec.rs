//! exec: a second process in a running container.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::call::{Done, eventually};
use crate::case::{Group, Outcome};
use crate::trial::{Trial, alive, status_field};
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("exec", "engine contract");
    basics(&mut group);
    surroundings(&mut group);
    inherited(&mut group);
    inherited_limits(&mut group);
    detached(&mut group);
    states(&mut group);
    moving_targets(&mut group);
    group
}

/// `exec` with these words after the options, in a container that is running.
pub fn exec(t: &mut Trial, options: &[&str], words: &[&str]) -> Outcome<Done> {
    let id = t.id.clone();
    let mut all = vec!["exec"];
    all.extend(options);
    all.push(&id);
    all.extend(words);
    t.call(&all).go()
}

/// `exec` of a shell script that has to exit 0; its stdout.
pub fn exec_sh(t: &mut Trial, options: &[&str], script: &str) -> Outcome<String> {
    Ok(exec(t, options, &["/bin/sh", "-c", script])?.ok()?.stdout)
}

fn basics(group: &mut Group) {
    for code in [0, 1, 42, 255] {
        group.add(format!("the_exit_status_is_the_processes_{code}"), move |t| {
            t.sleeper()?;
            equal!(exec(t, &[], &["/bin/sh", "-c", &format!("exit {code}")])?.code, Some(code), "exit status");
            Ok(())
        });
    }
    group.add("a_process_ended_by_a_signal_gives_128_and_its_number", |t| {
        t.sleeper()?;
        equal!(exec(t, &[], &["/bin/sh", "-c", "kill -9 $$"])?.code, Some(137), "exit status");
        Ok(())
    });
    group.add("stdout_and_stderr_stay_apart", |t| {
        t.sleeper()?;
        let done = exec(t, &[], &["/bin/sh", "-c", "echo out; echo err >&2"])?.ok()?;
        equal!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"), "streams");
        Ok(())
    });
    group.add("stdin_reaches_the_process", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        let done = t.call(&["exec", &id, "/bin/cat"]).stdin("through\n").go()?.ok()?;
        equal!(done.stdout, "through\n", "output");
        Ok(())
    });
}

fn surroundings(group: &mut Group) {
    group.add("the_namespaces_are_those_of_the_container", |t| {
        t.sleeper()?;
        let pid = t.pid()?;
        let names = ["mnt", "net", "uts", "ipc", "pid", "cgroup"];
        let wanted: Result<Vec<String>, std::io::Error> = names
            .iter()
            .map(|name| Ok(fs::read_link(format!("/proc/{pid}/ns/{name}"))?.display().to_string()))
            .collect();
        let found = exec_sh(t, &[], "for n in mnt net uts ipc pid cgroup; do readlink /proc/self/ns/$n; done")?;
        equal!(found.lines().map(String::from).collect::<Vec<_>>(), wanted?, "namespaces");
        Ok(())
    });
    group.add("the_process_sees_the_containers_first_process", |t| {
        t.sleeper()?;
        equal!(exec_sh(t, &[], "cat /proc/1/comm")?, "sleep\n", "process 1");
        Ok(())
    });
    group.add("the_cgroup_is_that_of_the_container", |t| {
        t.drop_namespace("cgroup");
        t.sleeper()?;
        let pid = t.pid()?;
        let first = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let own = exec_sh(t, &[], "cat /proc/self/cgroup")?;
        let unified = |text: &str| text.lines().find(|line| line.starts_with("0::")).map(String::from);
        equal!(unified(&own), unified(&first), "cgroup");
        Ok(())
    });
    group.add("a_user_namespace_is_joined", |t| {
        t.use_user_namespace()?;
        t.sleeper()?;
        let out = exec_sh(t, &[], "id -u; cat /proc/self/uid_map")?;
        let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        equal!(lines[0], ["0"], "uid");
        equal!(lines[1][..2], ["0", &t.host_id(0).to_string()], "uid_map");
        Ok(())
    });
}

fn inherited(group: &mut Group) {
    group.add("the_containers_configuration_is_the_default", |t| {
        t.set("/process/cwd", json!("/tmp"));
        t.push("/process/env", json!("FROM_CONFIG=yes"));
        t.sleeper()?;
        equal!(exec_sh(t, &[], "pwd; echo $FROM_CONFIG")?, "/tmp\nyes\n", "directory and variable");
        Ok(())
    });
    group.add("capabilities_and_limits_are_the_containers", |t| {
        t.sleeper()?;
        let pid = t.pid()?;
        let first = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let own = exec_sh(t, &[], "cat /proc/self/status")?;
        for field in ["CapBnd", "CapEff", "NoNewPrivs", "Seccomp"] {
            equal!(status_field(&own, field)?, status_field(&first, field)?, "{field}");
        }
        equal!(exec_sh(t, &[], "ulimit -n")?, "1024\n", "open files");
        Ok(())
    });
    group.add("ten_in_a_row_work", |t| {
        t.sleeper()?;
        for index in 0..10 {
            equal!(exec_sh(t, &[], &format!("echo {index}"))?, format!("{index}\n"), "output");
        }
        Ok(())
    });
    group.add("the_container_goes_on_afterwards", |t| {
        t.sleeper()?;
        exec_sh(t, &[], "true")?;
        equal!(t.status()?, "running", "status");
        Ok(())
    });
}

fn inherited_limits(group: &mut Group) {
    group.add("descriptors_of_the_caller_are_not_inherited", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        let done =
            t.call_after("exec 3</etc/passwd 8</etc/passwd", &["exec", &id, "/bin/ls", "/proc/self/fd"]).go()?.ok()?;
        equal!(done.lines(), ["0", "1", "2", "3"], "open descriptors; 3 is the directory being listed");
        Ok(())
    });
    group.add("oom_score_adj_is_the_configured_one", |t| {
        t.set("/process/oomScoreAdj", json!(500));
        t.sleeper()?;
        equal!(exec_sh(t, &[], "cat /proc/self/oom_score_adj")?, "500\n", "oom_score_adj");
        Ok(())
    });
    group.add("a_seccomp_filter_applies_too", |t| {
        t.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}));
        t.sleeper()?;
        let out = exec_sh(t, &[], "mkdir /tmp/x 2>&1; true")?;
        ensure!(out.contains("not permitted"), "{out}");
        Ok(())
    });
}

fn detached(group: &mut Group) {
    group.citing("engine contract");
    for flag in ["--detach", "-d"] {
        group.add(format!("{}_returns_while_the_process_runs", flag.trim_start_matches('-')), move |t| {
            t.sleeper()?;
            exec(t, &[flag], &["/bin/sh", "-c", "echo $$ > /out/pid; sleep 1000"])?.ok()?;
            t.wait_for_file(t.rootfs().join("out/pid"))?;
            Ok(())
        });
    }
    group.add("the_pid_file_names_the_process", |t| {
        t.sleeper()?;
        let file = t.scratch.join("pid");
        exec(t, &["--detach", "--pid-file", &file.display().to_string()], &["/bin/sleep", "999"])?.ok()?;
        let pid = fs::read_to_string(&file)?;
        ensure!(pid.chars().all(|c| c.is_ascii_digit()), "the pid file holds {pid:?}");
        // execve(2) closes the runtime's descriptors, by which it says that it succeeds, before it has the new arguments.
        let mut line = String::new();
        let told = eventually(t.limit(Duration::from_secs(5)), || {
            line = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
            Ok(line.contains("999"))
        })?;
        ensure!(told, "process {pid} is {line:?}");
        Ok(())
    });
    group.add("a_detached_process_ends_with_the_container", |t| {
        t.sleeper()?;
        let file = t.scratch.join("pid");
        exec(t, &["-d", "--pid-file", &file.display().to_string()], &["/bin/sleep", "999"])?.ok()?;
        let pid = fs::read_to_string(&file)?;
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        ensure!(!alive(&pid), "process {pid} is still there");
        Ok(())
    });
}

fn states(group: &mut Group) {
    group.add("a_stopped_container_is_refused", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        exec(t, &[], &["/bin/true"])?.refused()?;
        Ok(())
    });
    group.add("a_paused_container_is_refused", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        let done = exec(t, &["--detach"], &["/bin/sh", "-c", "echo x > /out/ran"])?;
        ensure!(!t.rootfs().join("out/ran").exists(), "the process ran in a paused container");
        t.call(&["resume", &id]).go()?.ok()?;
        done.refused()?;
        Ok(())
    });
    group.add("exec_without_a_command_is_refused", |t| {
        t.sleeper()?;
        exec(t, &[], &[])?.refused()?;
        Ok(())
    });
}

fn moving_targets(group: &mut Group) {
    group.add("a_container_that_ends_meanwhile_is_an_error_and_no_hang", |t| {
        for life in ["0.02", "0.05", "0.1", "0.15", "0.2"] {
            t.args(&["/bin/sleep", life]);
            t.create_started()?;
            // Bounded by the call's own limit, and by the container's life.
            let refused = loop {
                let done = exec(t, &[], &["/bin/true"])?;
                match done.code {
                    Some(0 | 137) => {}
                    _ => break done.refused()?,
                }
            };
            ensure!(!refused.stderr.trim().is_empty(), "the refusal says nothing");
            t.delete()?;
        }
        Ok(())
    });
    group.add("a_container_that_has_moved_into_a_cgroup_below_its_own_is_entered", |t| {
        t.remove("/linux/resources");
        let mounts = t.config["mounts"].as_array().cloned().unwrap_or_default();
        let others = mounts.into_iter().filter(|mount| mount["destination"] != "/sys/fs/cgroup").collect::<Vec<_>>();
        t.set("/mounts", json!(others));
        t.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
        t.sh("cd /sys/fs/cgroup && mkdir sub && echo 1 > sub/cgroup.procs && read -r first rest < cgroup.controllers
if test -n \"$first\" && echo \"+$first\" > cgroup.subtree_control; then echo delegated > /out/moved; else echo alone > /out/moved; fi
exec sleep 1000");
        t.create_started()?;
        let how = t.wait_for_file(t.rootfs().join("out/moved"))?;
        if how != "delegated\n" {
            return crate::case::skip("requires a cgroup v2 controller that can be handed on");
        }
        // The container's own cgroup takes no process any more (cgroups(7), \"no internal processes\").
        let own = exec_sh(t, &[], "cat /proc/self/cgroup")?;
        ensure!(own.lines().any(|line| line == "0::/sub"), "cgroup of the process: {own}");
        Ok(())
    });
}
