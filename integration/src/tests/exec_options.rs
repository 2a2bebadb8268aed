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
