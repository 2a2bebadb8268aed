//! exec: its options and the process file.

use std::fs;

use serde_json::{Value, json};

use super::exec::{exec, exec_sh};
use crate::call::Done;
use crate::case::{Group, Outcome};
use crate::trial::Trial;
use crate::trial::status_field;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("exec_options", "engine contract");
    options(&mut group);
    user_options(&mut group);
    other_options(&mut group);
    missing_programs(&mut group);
    process_file(&mut group);
    process_file_affinity(&mut group);
    configured_user(&mut group);
    labels(&mut group);
    paused(&mut group);
    below_the_cgroup(&mut group);
    process_file_priorities(&mut group);
    group
}

fn options(group: &mut Group) {
    for flag in ["--cwd=/usr/bin", "--cwd /usr/bin"] {
        let name = if flag.contains('=') { "equals" } else { "apart" };
        group.add(format!("cwd_{name}"), move |t| {
            t.sleeper()?;
            equal!(exec_sh(t, &flag.split(' ').collect::<Vec<_>>(), "pwd")?, "/usr/bin\n", "directory");
            Ok(())
        });
    }
    for flag in ["--env", "-e"] {
        group.add(format!("{}_adds_variables", flag.trim_start_matches('-')), move |t| {
            t.sleeper()?;
            equal!(exec_sh(t, &[flag, "A=1", flag, "B=two words"], "echo $A $B")?, "1 two words\n", "variables");
            Ok(())
        });
    }
    group.add("env_overrides_the_containers", |t| {
        t.push("/process/env", json!("A=old"));
        t.sleeper()?;
        equal!(exec_sh(t, &["--env", "A=new"], "echo $A")?, "new\n", "variable");
        Ok(())
    });
}

fn user_options(group: &mut Group) {
    for (flag, word, wanted) in
        [("--user", "1000:1001", "1000 1001"), ("-u", "1000", "1000 0"), ("--user", "0:5", "0 5")]
    {
        group.add(format!("{}_{}", flag.trim_start_matches('-'), word.replace(':', "_")), move |t| {
            t.sleeper()?;
            equal!(exec_sh(t, &[flag, word], "echo $(id -u) $(id -g)")?.trim(), wanted, "ids");
            Ok(())
        });
    }
    group.add("additional_gids_are_added", |t| {
        t.sleeper()?;
        let done = exec(t, &["--user", "1000:1000", "-g", "7", "-g", "8"], &["/bin/cat", "/proc/self/status"])?;
        if done.stderr.contains("option") {
            return crate::case::skip("requires `exec --additional-gids`, which this runtime lacks");
        }
        let out = done.ok()?.stdout;
        let groups = status_field(&out, "Groups")?.to_string();
        for group in ["7", "8"] {
            ensure!(groups.split_whitespace().any(|word| word == group), "groups are {groups}");
        }
        Ok(())
    });
    group.add("cap_adds_a_capability", |t| {
        t.sleeper()?;
        let out = exec_sh(t, &["--cap", "CAP_SYS_PTRACE"], "cat /proc/self/status")?;
        let mask = u64::from_str_radix(status_field(&out, "CapEff")?, 16)?;
        ensure!(mask >> 19 & 1 == 1, "CapEff is {mask:x}");
        Ok(())
    });
}

fn other_options(group: &mut Group) {
    group.add("no_new_privs_is_set", |t| {
        t.set("/process/noNewPrivileges", json!(false));
        t.sleeper()?;
        let out = exec_sh(t, &["--no-new-privs"], "cat /proc/self/status")?;
        equal!(status_field(&out, "NoNewPrivs")?, "1", "NoNewPrivs");
        Ok(())
    });
    group.add("preserve_fds_passes_descriptors", |t| {
        t.sleeper()?;
        fs::write(t.scratch.join("three"), "three\n")?;
        let id = t.id.clone();
        let script = format!("exec 3<{}/three", t.scratch.display());
        let done =
            t.call_after(&script, &["exec", "--preserve-fds", "1", &id, "/bin/sh", "-c", "cat <&3"]).go()?.ok()?;
        equal!(done.stdout, "three\n", "content");
        Ok(())
    });
    group.add("words_after_the_command_belong_to_it", |t| {
        t.sleeper()?;
        equal!(exec(t, &[], &["/bin/echo", "-d", "--user", "x"])?.ok()?.stdout, "-d --user x\n", "output");
        Ok(())
    });
}

fn missing_programs(group: &mut Group) {
    for (name, words, needles) in [
        (
            "a_missing_program",
            ["no-such-program"].as_slice(),
            ["executable file not found in", "no such file or directory"].as_slice(),
        ),
        ("a_missing_path", &["/no/such/program"], &["executable file not found in", "no such file or directory"]),
        ("a_file_that_is_not_executable", &["/etc/passwd"], &["permission denied", "operation not permitted"]),
    ] {
        group.add(format!("{name}_is_worded_for_engines"), move |t| {
            t.sleeper()?;
            let done = exec(t, &[], words)?.refused()?;
            let text = done.stderr.to_lowercase();
            ensure!(needles.iter().any(|needle| text.contains(needle)), "stderr: {}", done.stderr);
            Ok(())
        });
    }
    group.add("a_missing_directory_is_refused_or_made", |t| {
        t.sleeper()?;
        exec(t, &["--cwd", "relative/path"], &["/bin/true"])?.refused()?;
        Ok(())
    });
}

fn process(t: &Trial, script: &str) -> Value {
    let mut process = t.config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", script]);
    process
}

fn exec_process(t: &mut Trial, process: &Value) -> Outcome<Done> {
    let file = t.scratch.join("process.json");
    fs::write(&file, serde_json::to_vec(process)?)?;
    let (id, path) = (t.id.clone(), file.display().to_string());
    t.call(&["exec", "--process", &path, &id]).go()
}

fn process_file(group: &mut Group) {
    group.add("process_file_decides_everything", |t| {
        t.sleeper()?;
        let mut wanted = process(t, "pwd; id -u; id -g; echo $ONLY; umask; ulimit -n");
        wanted["cwd"] = json!("/usr/bin");
        wanted["user"] = json!({"uid": 1000, "gid": 1001, "umask": 0o027});
        wanted["env"] = json!(["PATH=/bin", "ONLY=here"]);
        wanted["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 300, "hard": 400}]);
        equal!(
            exec_process(t, &wanted)?.ok()?.stdout,
            "/usr/bin\n1000\n1001\nhere\n0027\n300\n",
            "what the process sees"
        );
        Ok(())
    });
    group.add("process_file_capabilities", |t| {
        t.sleeper()?;
        let mut wanted = process(t, "cat /proc/self/status");
        for set in ["bounding", "effective", "permitted", "inheritable"] {
            wanted["capabilities"][set] = json!(["CAP_CHOWN"]);
        }
        wanted["capabilities"]["ambient"] = json!([]);
        let out = exec_process(t, &wanted)?.ok()?.stdout;
        equal!(u64::from_str_radix(status_field(&out, "CapEff")?, 16).ok(), Some(1), "CapEff");
        Ok(())
    });
    group.add("process_file_exit_status", |t| {
        t.sleeper()?;
        let wanted = process(t, "exit 7");
        equal!(exec_process(t, &wanted)?.code, Some(7), "exit status");
        Ok(())
    });
    for flag in ["--process", "-p"] {
        group.add(format!("a_broken_process_file_is_refused_{}", flag.trim_start_matches('-')), move |t| {
            t.sleeper()?;
            let file = t.scratch.join("process.json");
            fs::write(&file, "{\"args\": [")?;
            let (id, path) = (t.id.clone(), file.display().to_string());
            t.call(&["exec", flag, &path, &id]).go()?.refused()?;
            Ok(())
        });
    }
}

fn process_file_affinity(group: &mut Group) {
    group.add("a_missing_process_file_is_refused", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["exec", "--process", "/no/such/process.json", &id]).go()?.refused()?;
        Ok(())
    });
    group.citing("config.md#linux-process");
    group.add_beyond_peers(
        "process.execCPUAffinity came with runtime-spec 1.2.1, after both peers; config.md#linux-process",
        "exec_cpu_affinity_final_is_set",
        |t| {
            t.sleeper()?;
            let mut wanted = process(t, "cat /proc/self/status");
            wanted["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
            let out = exec_process(t, &wanted)?.ok()?.stdout;
            equal!(status_field(&out, "Cpus_allowed_list")?, "0", "CPUs of the process");
            Ok(())
        },
    );
}

/// What no option of exec says is as config.json has it.
fn configured_user(group: &mut Group) {
    group.citing("engine contract");
    // crun takes root without --user.
    group.add("user_and_groups_of_the_config_are_the_default", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8]}));
        t.sleeper()?;
        equal!(exec_sh(t, &[], "id -u; id -g")?, "1000\n1001\n", "user and group");
        let own = exec_sh(t, &[], "cat /proc/self/status")?;
        let mut groups: Vec<&str> = status_field(&own, "Groups")?.split_whitespace().collect();
        // The peers add the group of the user; setgroups(2) sorts.
        groups.retain(|group| *group != "1001");
        equal!(groups, ["7", "8"], "groups");
        Ok(())
    });
    let why =
        "runc 1.1.5 and crun 1.8.1 take umask from a process file at most; config.md#posix-platform-user: user.umask";
    group.add_beyond_peers(why, "umask_of_the_config_is_the_default", |t| {
        t.set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o027}));
        t.sleeper()?;
        equal!(exec_sh(t, &[], "umask")?, "0027\n", "umask");
        Ok(())
    });
}

fn labels(group: &mut Group) {
    for (flag, module) in [("--apparmor", "apparmor"), ("--process-label", "selinux")] {
        group.add(
            format!("{}_without_the_module_is_refused", flag.trim_start_matches('-').replace('-', "_")),
            move |t| {
                let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
                if active.split(',').any(|name| name == module) {
                    return crate::case::skip(format!("requires a kernel without {module}"));
                }
                t.sleeper()?;
                let done = exec(t, &[flag, "xebec-no-such-label"], &["/bin/sh", "-c", "echo > /out/ran"])?.refused()?;
                ensure!(
                    done.stderr.to_lowercase().contains(module),
                    "the refusal does not name {module}: {}",
                    done.stderr
                );
                ensure!(!t.rootfs().join("out/ran").exists(), "the process ran without its label");
                Ok(())
            },
        );
    }
}

fn paused(group: &mut Group) {
    group.add("ignore_paused_joins_and_runs_after_the_resume", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        let words = ["exec", "--ignore-paused", &id, "/bin/sh", "-c", "echo x > /out/ran; exit 4"];
        let mut live = t.call(&words).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        let ran = t.rootfs().join("out/ran").exists();
        let early = live.child.try_wait()?.is_some();
        t.call(&["resume", &id]).go()?.ok()?;
        let done = live.wait()?;
        if early && ["flag", "option", "unknown", "unrecognized"].iter().any(|word| done.stderr.contains(word)) {
            return crate::case::skip("requires `exec --ignore-paused`, which this runtime lacks");
        }
        ensure!(!ran, "the process ran in a paused container");
        equal!(done.code, Some(4), "exit status: {}", done.stderr);
        ensure!(t.rootfs().join("out/ran").exists(), "the process did not run after the resume");
        Ok(())
    });
}

/// A container that may make cgroups, with one below its own.
fn divided(t: &mut Trial) -> Outcome {
    t.remove("/linux/resources");
    for mount in
        t.config["mounts"].as_array_mut().into_iter().flatten().filter(|m| m["destination"] == "/sys/fs/cgroup")
    {
        mount["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
    }
    t.sh("mkdir -p /sys/fs/cgroup/sub/deep && echo there > /out/made; exec sleep 1000");
    t.create_started()?;
    t.wait_for_file(t.rootfs().join("out/made"))?;
    Ok(())
}

fn below_the_cgroup(group: &mut Group) {
    for word in ["sub", "/sub", "sub/deep"] {
        let name = word.replace('/', "_");
        group.add(format!("cgroup_{name}_is_taken_below_the_containers"), move |t| {
            if t.view == crate::options::View::Host {
                return crate::case::skip("requires the private view of cgroup v2");
            }
            divided(t)?;
            let own = exec_sh(t, &["--cgroup", word], "cat /proc/self/cgroup")?;
            let wanted = format!("0::/{}", word.trim_start_matches('/'));
            ensure!(own.lines().any(|line| line == wanted), "cgroup of the process: {own}");
            Ok(())
        });
    }
    group.add("a_cgroup_that_is_not_there_is_refused", |t| {
        t.sleeper()?;
        let done = exec(t, &["--cgroup", "nowhere"], &["/bin/sh", "-c", "echo > /out/ran"])?.refused()?;
        ensure!(done.stderr.contains("nowhere"), "the refusal does not name the cgroup: {}", done.stderr);
        ensure!(!t.rootfs().join("out/ran").exists(), "the process ran elsewhere");
        Ok(())
    });
}

fn process_file_priorities(group: &mut Group) {
    const NEWER: &str = "process.scheduler and ioPriority came after both peers; config.md#linux-process";
    group.citing("config.md#linux-process");
    group.add_beyond_peers(NEWER, "scheduler_and_io_priority_of_a_process_file_are_set", |t| {
        t.sleeper()?;
        let mut wanted = process(t, "cut -d' ' -f19,41 /proc/self/stat; ionice -p $$");
        wanted["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 19});
        wanted["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
        let out = exec_process(t, &wanted)?.ok()?.stdout;
        // Fields 19 and 41 of proc_pid_stat(5): nice and policy, SCHED_BATCH is 3.
        equal!(out.lines().next(), Some("19 3"), "nice and policy");
        ensure!(out.contains("idle"), "I/O priority: {out}");
        Ok(())
    });
    const AFFINITY: &str =
        "process.execCPUAffinity came with runtime-spec 1.2.1, after both peers; config.md#linux-process";
    group.add_beyond_peers(AFFINITY, "exec_cpu_affinity_initial_does_not_stay", |t| {
        t.sleeper()?;
        let whole = exec_sh(t, &[], "cat /proc/self/status")?;
        let mut wanted = process(t, "cat /proc/self/status");
        wanted["execCPUAffinity"] = json!({"initial": "0"});
        let out = exec_process(t, &wanted)?.ok()?.stdout;
        equal!(status_field(&out, "Cpus_allowed_list")?, status_field(&whole, "Cpus_allowed_list")?, "CPUs");
        Ok(())
    });
    group.add_beyond_peers(AFFINITY, "exec_cpu_affinity_of_the_config_holds_for_exec", |t| {
        t.set("/process/execCPUAffinity", json!({"final": "0"}));
        t.sleeper()?;
        let out = exec_sh(t, &[], "cat /proc/self/status")?;
        equal!(status_field(&out, "Cpus_allowed_list")?, "0", "CPUs");
        Ok(())
    });
}
