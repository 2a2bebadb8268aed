//! The calls that engines make, word for word and in their order, and what they read back:
//! containerd's and docker's shim, podman with conmon, buildah.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::call::{Call, Done, eventually};
use crate::case::{Group, Outcome};
use crate::console::{DescriptorSocket, read_until};
use crate::trial::{Trial, alive};
use crate::{ensure, equal, sys};

pub fn group() -> Group {
    let mut group = Group::new("callers", "engine contract");
    shim_lifecycle(&mut group);
    shim_exec(&mut group);
    shim_errors(&mut group);
    go_runc(&mut group);
    conmon(&mut group);
    conmon_terminals(&mut group);
    podman(&mut group);
    buildah(&mut group);
    descriptors(&mut group);
    docker(&mut group);
    words(&mut group);
    ignored_children(&mut group);
    group
}

/// A daemon that ignores SIGCHLD leaves that to the programs it starts (sigaction(2)): none of it may hang.
fn ignored_children(group: &mut Group) {
    group.add("a_caller_that_ignores_its_children_gets_the_exit_status_of_run", |t| {
        t.sh("exit 3");
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), path(&t.bundle));
        let mut call = t.call(&["run", "--bundle", &bundle, &id]);
        sys::ignore_children(&mut call.command);
        equal!(call.go()?.code, Some(3), "exit status of run");
        Ok(())
    });
    group.add("a_caller_that_ignores_its_children_gets_the_exit_status_of_exec", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        let mut call = t.call(&["exec", &id, "/bin/sh", "-c", "exit 7"]);
        sys::ignore_children(&mut call.command);
        equal!(call.go()?.code, Some(7), "exit status of exec");
        Ok(())
    });
}

/// go-runc: `--root R --log BUNDLE/log.json --log-format json VERB …`, in the bundle.
fn shim(t: &mut Trial, words: &[&str]) -> Call {
    let (root, log) = (t.root.display().to_string(), t.bundle.join("log.json").display().to_string());
    let mut all = vec!["--root", root.as_str(), "--log", log.as_str(), "--log-format", "json"];
    all.extend(words);
    t.bare_call(&all)
}

/// What go-runc shows as the whole error: the last record of level error, and how many there are.
fn last_error(t: &Trial) -> Outcome<(String, usize)> {
    // Nothing to tell, no file.
    let text = match fs::read_to_string(t.bundle.join("log.json")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let errors: Vec<&Value> = records.iter().filter(|record| record["level"] == "error").collect();
    let last = errors.last().map(|record| record["msg"].as_str().unwrap_or_default().to_owned());
    Ok((last.unwrap_or_default(), errors.len()))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// The pid file as containerd and conmon read it: digits to the end.
fn pid_in(file: &Path) -> Outcome<i32> {
    let text = fs::read_to_string(file)?;
    ensure!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "the pid file holds {text:?}");
    Ok(text.parse()?)
}

/// create and start as the shim does, of a container that sleeps.
fn shim_sleeper(t: &mut Trial) -> Outcome<i32> {
    t.args(&["/bin/sleep", "1000"]);
    t.write_config()?;
    let (id, bundle, file) = (t.id.clone(), path(&t.bundle), t.bundle.join("init.pid"));
    shim(t, &["create", "--bundle", &bundle, "--pid-file", &path(&file), &id]).go()?.ok()?;
    let pid = pid_in(&file)?;
    shim(t, &["start", &id]).go()?.ok()?;
    Ok(pid)
}

fn shim_lifecycle(group: &mut Group) {
    group.add("containerd_creates_starts_kills_and_deletes", |t| {
        let pid = shim_sleeper(t)?;
        ensure!(alive(pid), "the pid file names no live process");
        let id = t.id.clone();
        equal!(t.pid()?, pid, "pid in the state");
        shim(t, &["pause", &id]).go()?.ok()?;
        shim(t, &["resume", &id]).go()?.ok()?;
        let listed = shim(t, &["ps", "--format", "json", &id]).go()?.ok()?.stdout;
        equal!(serde_json::from_str::<Vec<i32>>(&listed)?, [pid], "ps");
        shim(t, &["kill", &id, "15"]).go()?.ok()?;
        shim(t, &["kill", "--all", &id, "9"]).go()?.ok()?;
        t.wait_for_status("stopped")?;
        shim(t, &["delete", &id]).go()?.ok()?;
        // The second shim process, which cleans up whatever the first has left.
        equal!(shim(t, &["delete", "--force", &id]).go()?.code, Some(0), "exit status of delete --force");
        equal!(last_error(t)?.1, 0, "errors in the log");
        Ok(())
    });
    group.add("containerd_deletes_by_force_what_a_dead_shim_has_left", |t| {
        let pid = shim_sleeper(t)?;
        let id = t.id.clone();
        shim(t, &["delete", "--force", &id]).go()?.ok()?;
        ensure!(!alive(pid), "process {pid} is alive after delete --force");
        t.expect_unknown()
    });
    group.add("containerd_deletes_a_container_that_was_never_started", |t| {
        t.write_config()?;
        let (id, bundle, file) = (t.id.clone(), path(&t.bundle), path(&t.bundle.join("init.pid")));
        shim(t, &["create", "--bundle", &bundle, "--pid-file", &file, &id]).go()?.ok()?;
        shim(t, &["delete", "--force", &id]).go()?.ok()?;
        t.expect_unknown()
    });
    group.add("containerd_gives_a_console_socket", |t| {
        t.set("/process/terminal", json!(true));
        t.sh("stty size; echo R''EADY; sleep 999");
        t.write_config()?;
        let socket = DescriptorSocket::listen(&t.scratch.join("pty.sock"))?;
        let (id, bundle, file) = (t.id.clone(), path(&t.bundle), path(&t.bundle.join("init.pid")));
        let words = ["create", "--bundle", &bundle, "--pid-file", &file, "--console-socket", &path(&socket.path), &id];
        let live = shim(t, &words).spawn()?;
        let master = socket.receive(t.limit(std::time::Duration::from_secs(5)));
        live.wait()?.ok()?;
        shim(t, &["start", &id]).go()?.ok()?;
        read_until(&mut master?, "READY", t.limit(std::time::Duration::from_secs(5)))?;
        Ok(())
    });
    group.add("features_without_global_flags_are_json", |t| {
        let done = t.bare_call(&["features"]).go()?;
        if done.stderr.contains("features") && !done.succeeded() {
            return crate::case::skip("requires `features`, which this runtime lacks");
        }
        let features: Value = serde_json::from_str(&done.ok()?.stdout)?;
        ensure!(features["ociVersionMax"].is_string(), "{features}");
        Ok(())
    });
}

/// The process that the shim writes to /tmp/runc-processN.
fn process_file(t: &Trial, words: &[&str]) -> Outcome<String> {
    let mut process = t.config["process"].clone();
    process["args"] = json!(words);
    let file = t.scratch.join("runc-process1");
    fs::write(&file, serde_json::to_vec(&process)?)?;
    Ok(path(&file))
}

fn shim_exec(group: &mut Group) {
    group.add("containerd_execs_detached_with_a_process_file", |t| {
        shim_sleeper(t)?;
        let (id, file, pid_file) = (t.id.clone(), process_file(t, &["/bin/sleep", "999"])?, t.bundle.join("e1.pid"));
        let done =
            shim(t, &["exec", "--process", &file, "--detach", "--pid-file", &path(&pid_file), &id]).go()?.ok()?;
        equal!(done.stdout + &done.stderr, "", "what exec prints");
        let pid = pid_in(&pid_file)?;
        // The peers write the pid file before the program runs.
        let mut line = String::new();
        let runs = eventually(t.limit(std::time::Duration::from_secs(5)), || {
            line = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
            Ok(line == "/bin/sleep\0999\0")
        })?;
        ensure!(runs, "the process in the pid file is {line:?}");
        Ok(())
    });
    group.add("containerd_execs_on_a_terminal", |t| {
        shim_sleeper(t)?;
        let mut process = t.config["process"].clone();
        process["terminal"] = json!(true);
        process["args"] = json!(["/bin/sh", "-c", "test -t 0 && echo R''EADY; sleep 999"]);
        let file = t.scratch.join("runc-process2");
        fs::write(&file, serde_json::to_vec(&process)?)?;
        let socket = DescriptorSocket::listen(&t.scratch.join("pty.sock"))?;
        let (id, pid_file) = (t.id.clone(), path(&t.bundle.join("e2.pid")));
        let (file, console) = (path(&file), path(&socket.path));
        let words =
            ["exec", "--process", &file, "--console-socket", &console, "--detach", "--pid-file", &pid_file, &id];
        let live = shim(t, &words).spawn()?;
        let master = socket.receive(t.limit(std::time::Duration::from_secs(5)));
        live.wait()?.ok()?;
        read_until(&mut master?, "READY", t.limit(std::time::Duration::from_secs(5)))?;
        Ok(())
    });
    group.add("containerd_reads_why_an_exec_failed_from_the_log", |t| {
        shim_sleeper(t)?;
        let (id, file) = (t.id.clone(), process_file(t, &["no-such-program"])?);
        let pid_file = t.bundle.join("e3.pid");
        shim(t, &["exec", "--process", &file, "--detach", "--pid-file", &path(&pid_file), &id]).go()?.refused()?;
        let (message, count) = last_error(t)?;
        let message = message.to_lowercase();
        ensure!(
            message.contains("executable file not found in") || message.contains("no such file or directory"),
            "the last error is {message:?}"
        );
        equal!(count, 1, "errors in the log");
        let live = fs::read_to_string(&pid_file).is_ok_and(|text| alive(text.trim()));
        ensure!(!live, "the pid file of a failed exec names a live process");
        Ok(())
    });
}

fn refused_with(t: &mut Trial, words: &[&str], needles: &[&str]) -> Outcome<Done> {
    let done = shim(t, words).go()?.refused()?;
    let (message, _) = last_error(t)?;
    // containerd folds the case of what the kernel says.
    for text in [message.to_lowercase(), done.stderr.to_lowercase()] {
        ensure!(needles.iter().any(|needle| text.contains(needle)), "{words:?}: none of {needles:?} in {text:?}");
    }
    Ok(done)
}

fn shim_errors(group: &mut Group) {
    group.add("containerd_knows_a_stopped_container_by_the_words_of_kill", |t| {
        t.args(&["/bin/true"]);
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), path(&t.bundle));
        shim(t, &["create", "--bundle", &bundle, &id]).go()?.ok()?;
        shim(t, &["start", &id]).go()?.ok()?;
        t.wait_for_status("stopped")?;
        let gone = ["os: process already finished", "container not running", "no such process", "does not exist"];
        refused_with(t, &["kill", &id, "15"], &gone)?;
        Ok(())
    });
    for words in [["kill", "no-such-id", "9"].as_slice(), &["delete", "no-such-id"], &["state", "no-such-id"]] {
        group.add(format!("containerd_knows_an_unknown_id_by_the_words_of_{}", words[0]), move |t| {
            refused_with(t, words, &["does not exist"])?;
            Ok(())
        });
    }
    group.add("an_exec_in_an_unknown_id_exits_255_or_1", |t| {
        let file = process_file(t, &["/bin/true"])?;
        let done = refused_with(t, &["exec", "--process", &file, "--detach", "no-such-id"], &["does not exist"])?;
        ensure!(matches!(done.code, Some(255 | 1)), "exit status {:?}", done.code);
        Ok(())
    });
    group.add("a_second_create_leaves_the_first_container_alone", |t| {
        let pid = shim_sleeper(t)?;
        let (id, bundle, file) = (t.id.clone(), path(&t.bundle), path(&t.scratch.join("pid2")));
        shim(t, &["create", "--bundle", &bundle, "--pid-file", &file, &id]).go()?.refused()?;
        equal!((t.status()?.as_str(), t.pid()?), ("running", pid), "status and pid of the first");
        Ok(())
    });
    group.add("the_log_carries_times_of_rfc_3339", |t| {
        shim(t, &["state", "no-such-id"]).go()?.refused()?;
        let text = fs::read_to_string(t.bundle.join("log.json"))?;
        let record: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
        let time = record["time"].as_str().unwrap_or_default();
        ensure!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.as_bytes()[4] == b'-', "time is {time:?}");
        Ok(())
    });
}

/// Options that are in go-runc's source and that no engine was seen to give.
fn go_runc(group: &mut Group) {
    group.add("go_runc_s_other_options_of_create_are_taken", |t| {
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let (id, bundle, file) = (t.id.clone(), path(&t.bundle), t.bundle.join("init.pid"));
        let rootless = format!("--rootless={}", t.mode == crate::mode::Mode::User);
        let words = ["--debug", &rootless, "create", "--bundle", &bundle, "--pid-file", &path(&file)];
        let words = [&words[..], &["--no-new-keyring", "--preserve-fds", "0", &id]].concat();
        shim(t, &words).go()?.ok()?;
        ensure!(alive(pid_in(&file)?), "the pid file names no live process");
        equal!(last_error(t)?.1, 0, "errors in the log");
        shim(t, &["delete", "--force", &id]).go()?.ok()?;
        t.expect_unknown()
    });
    group.add("go_runc_lists_and_asks_for_stats", |t| {
        shim_sleeper(t)?;
        let id = t.id.clone();
        let listed = shim(t, &["list", "--format=json"]).go()?.ok()?.stdout;
        ensure!(serde_json::from_str::<Vec<Value>>(&listed)?.iter().any(|entry| entry["id"] == id), "{listed}");
        let done = shim(t, &["events", "--stats", &id]).go()?;
        if !done.succeeded() && t.runtime.ends_with("crun") {
            return crate::case::skip("requires `events`, which this runtime lacks");
        }
        let stats: Value = serde_json::from_str(&done.ok()?.stdout)?;
        equal!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(id)), "type and id");
        Ok(())
    });
    group.add("go_runc_follows_events_until_the_container_ends", |t| {
        shim_sleeper(t)?;
        let id = t.id.clone();
        let live = shim(t, &["events", "--interval=1s", &id]).spawn()?;
        let limit = t.limit(std::time::Duration::from_secs(5));
        let stdout = live.stdout.clone();
        let said = eventually(limit, || Ok(fs::read_to_string(&stdout)?.contains("\"stats\"")))?;
        shim(t, &["kill", &id, "9"]).go()?.ok()?;
        let done = live.wait()?;
        if !said && t.runtime.ends_with("crun") {
            return crate::case::skip("requires `events`, which this runtime lacks");
        }
        ensure!(said, "no sample within {limit:?}: {}", done.stderr);
        serde_json::from_str::<Value>(done.stdout.lines().next().unwrap_or_default())?;
        Ok(())
    });
}

/// conmon: `--log-format=json --log FILE`, then the verb.
fn conmon_call(t: &mut Trial, words: &[&str]) -> Call {
    let log = format!("--log={}", path(&t.bundle.join("oci-log")));
    let mut all = vec!["--log-format=json", log.as_str()];
    all.extend(words);
    t.call(&all)
}

fn conmon(group: &mut Group) {
    group.add("conmon_creates_and_podman_starts_and_kills", |t| {
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let (id, bundle, file) = (t.id.clone(), path(&t.bundle), t.scratch.join("pidfile"));
        conmon_call(t, &["create", "--bundle", &bundle, "--pid-file", &path(&file), &id]).go()?.ok()?;
        let pid = pid_in(&file)?;
        t.start()?;
        let state = t.state()?;
        equal!((&state["status"], &state["pid"]), (&json!("running"), &json!(pid)), "state");
        t.kill("9")?.ok()?;
        t.wait_for_status("stopped")?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        let done = t.call(&["state", &id]).go()?.refused()?;
        ensure!(done.stderr.contains("does not exist"), "podman takes it for gone by these words: {}", done.stderr);
        Ok(())
    });
    group.add("conmon_execs_with_a_process_file", |t| {
        t.sleeper()?;
        let (id, file, pid_file) = (t.id.clone(), process_file(t, &["/bin/sleep", "999"])?, t.scratch.join("exec_pid"));
        conmon_call(t, &["exec", "--pid-file", &path(&pid_file), "--process", &file, "--detach", &id]).go()?.ok()?;
        ensure!(alive(pid_in(&pid_file)?), "the pid file names no live process");
        Ok(())
    });
    for (program, words) in [
        ("/etc/passwd", ["permission denied", "operation not permitted"]),
        ("no-such-program", ["executable file not found in", "no such file or directory"]),
    ] {
        group.add(format!("podman_knows_126_from_127_by_the_words_for_{}", program.replace('/', "_")), move |t| {
            t.args(&[program]);
            t.write_config()?;
            let (id, bundle) = (t.id.clone(), path(&t.bundle));
            let mut done = conmon_call(t, &["create", "--bundle", &bundle, &id]).go()?;
            if done.succeeded() {
                done = t.call(&["start", &id]).go()?;
            }
            // Without --log, as podman calls what it does not know: stderr has to do.
            let text = done.refused()?.stderr.to_lowercase();
            ensure!(words.iter().any(|word| text.contains(word)), "stderr: {text}");
            Ok(())
        });
    }
}

fn conmon_terminals(group: &mut Group) {
    let limit = |t: &Trial| t.limit(std::time::Duration::from_secs(5));
    group.add("conmon_creates_on_a_terminal_with_descriptors", move |t| {
        t.set("/process/terminal", json!(true));
        t.sh("cat <&3; sleep 999");
        t.write_config()?;
        fs::write(t.scratch.join("passed"), "PASSED\n")?;
        let socket = DescriptorSocket::listen(&t.scratch.join("attach"))?;
        let (id, bundle, file) = (t.id.clone(), path(&t.bundle), path(&t.scratch.join("pidfile")));
        let log = format!("--log={}", path(&t.bundle.join("oci-log")));
        let console = path(&socket.path);
        let script = format!("exec 3<{}", path(&t.scratch.join("passed")));
        let words = ["--log-format=json", &log, "create", "--bundle", &bundle, "--pid-file", &file];
        let words = [&words[..], &["--console-socket", &console, "--preserve-fds", "1", &id]].concat();
        let live = t.call_after(&script, &words).spawn()?;
        let master = socket.receive(limit(t));
        live.wait()?.ok()?;
        pid_in(Path::new(&file))?;
        t.start()?;
        read_until(&mut master?, "PASSED", limit(t)).map(drop)
    });
    group.add("conmon_execs_on_a_terminal", move |t| {
        t.sleeper()?;
        t.set("/process/terminal", json!(true));
        let file = process_file(t, &["/bin/sh", "-c", "test -t 0 && echo R''EADY; sleep 999"])?;
        let socket = DescriptorSocket::listen(&t.scratch.join("attach"))?;
        let (id, pid_file, console) = (t.id.clone(), path(&t.scratch.join("exec_pid")), path(&socket.path));
        let words = ["exec", "--pid-file", &pid_file, "--process", &file, "--detach", "--tty"];
        let live = conmon_call(t, &[&words[..], &["--console-socket", &console, &id]].concat()).spawn()?;
        let master = socket.receive(limit(t));
        live.wait()?.ok()?;
        read_until(&mut master?, "READY", limit(t)).map(drop)
    });
}

fn podman(group: &mut Group) {
    group.add("podman_pauses_updates_and_kills_all", |t| {
        t.sleeper()?;
        let (id, file) = (t.id.clone(), t.scratch.join("resources"));
        fs::write(&file, "{}")?;
        t.give_to_caller(&file)?;
        t.call(&["pause", &id]).go()?.ok()?;
        equal!(t.status()?, "paused", "status");
        t.call(&["resume", &id]).go()?.ok()?;
        t.call(&["update", &format!("--resources={}", path(&file)), &id]).go()?.ok()?;
        t.call(&["kill", "--all", &id, "9"]).go()?.ok()?;
        t.wait_for_status("stopped")?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        t.expect_unknown()
    });
    group.add("podman_reads_the_version", |t| {
        let out = t.bare_call(&["--version"]).go()?.ok()?.stdout;
        ensure!(out.starts_with(|first: char| first.is_ascii_lowercase()) && out.contains(" version "), "{out}");
        Ok(())
    });
}

fn buildah(group: &mut Group) {
    group.add("buildah_runs_a_step", |t| {
        t.sh("echo made > /out/made");
        t.write_config()?;
        let (id, bundle, file) = (t.id.clone(), path(&t.bundle), t.bundle.join("pid"));
        // These are open in a buildah that runs a step, and it closes none of them.
        t.call_after(&leak(), &["create", "--bundle", &bundle, "--pid-file", &path(&file), &id]).go()?.ok()?;
        let pid = pid_in(&file)?;
        equal!(t.state()?["status"], json!("created"), "status");
        t.call(&["start", &id]).go()?.ok()?;
        let state = t.state()?;
        ensure!(state["pid"] == json!(pid) || state["status"] == "stopped", "{state}");
        t.wait_for_status("stopped")?;
        t.call(&["delete", &id]).go()?.ok()?;
        equal!(fs::read_to_string(t.rootfs().join("out/made"))?, "made\n", "what the step made");
        Ok(())
    });
}

/// Every number that a caller was seen to leak; a shell takes one digit only.
fn leak() -> String {
    let numbers = [3, 4, 8, 9, 10, 11, 12, 13, 14, 15];
    let redirections: Vec<String> = numbers.iter().map(|number| format!("{number}</etc/passwd")).collect();
    format!("exec bash -c 'exec {}; exec \"$@\"' bash \"$@\"", redirections.join(" "))
}

fn descriptors(group: &mut Group) {
    group.add("leaked_descriptors_do_not_reach_a_created_container", |t| {
        t.sh("ls /proc/self/fd > /out/fds");
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), path(&t.bundle));
        t.call_after(&leak(), &["create", "--bundle", &bundle, "--pid-file", "pid", &id]).go()?.ok()?;
        let held = open_files(t.pid()?, "/etc/passwd")?;
        equal!(held, 0, "descriptors of the caller's file in init");
        t.start()?;
        equal!(t.wait_for_file(t.rootfs().join("out/fds"))?, "0\n1\n2\n3\n", "descriptors; 3 is the directory itself");
        Ok(())
    });
    group.add("leaked_descriptors_do_not_reach_an_exec", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        let done = t.call_after(&leak(), &["exec", &id, "/bin/ls", "/proc/self/fd"]).go()?.ok()?;
        equal!(done.lines(), ["0", "1", "2", "3"], "descriptors; 3 is the directory itself");
        Ok(())
    });
    group.add("preserve_fds_lets_exactly_these_through", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        let done =
            t.call_after(&leak(), &["exec", "--preserve-fds", "2", &id, "/bin/ls", "/proc/self/fd"]).go()?.ok()?;
        equal!(done.lines(), ["0", "1", "2", "3", "4", "5"], "descriptors; 5 is the directory itself");
        Ok(())
    });
    group.add("preserve_fds_of_more_than_are_open_is_refused", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["exec", "--preserve-fds", "7", &id, "/bin/true"]).go()?.refused()?;
        Ok(())
    });
    // Numbers that the caller left free are soon those of the runtime: directories of the host, sockets, pidfds.
    let why = "peers pass what has the number by then; engine contract: a payload gets what its caller names (CVE-2024-21626)";
    for verb in ["run", "exec"] {
        group.add_beyond_peers(why, format!("preserve_fds_of_{verb}_never_passes_the_runtimes_own"), move |t| {
            if verb == "exec" {
                t.sleeper()?;
            } else {
                t.sh("ls -l /proc/self/fd");
                t.write_config()?;
            }
            let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
            for count in 1..=12 {
                let option = format!("--preserve-fds={count}");
                let words = match verb {
                    "run" => vec!["run", "--bundle", &bundle, &option, &id],
                    _ => vec!["exec", &option, &id, "/bin/ls", "-l", "/proc/self/fd"],
                };
                let done = t.call(&words).go()?.refused()?;
                ensure!(done.stderr.contains("preserve"), "stderr: {}", done.stderr);
            }
            Ok(())
        });
    }
}

/// How many descriptors of a process are this file of the host.
fn open_files(pid: i32, file: &str) -> Outcome<usize> {
    let wanted = fs::metadata(file).map(|meta| (meta.dev(), meta.ino()))?;
    let links = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let same = |entry: &fs::DirEntry| fs::metadata(entry.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == wanted);
    Ok(links.filter(same).count())
}

fn docker(group: &mut Group) {
    group.add("dockers_prestart_hook_finds_the_network_namespace", |t| {
        // libnetwork-setkey reads the state from stdin and takes /proc/PID/ns/net, even with --network=none.
        let (out, script) = (t.scratch.join("netns"), t.scratch.join("setkey"));
        let text = format!(
            "#!/bin/sh\npid=$(tr -d '\\n' | sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')\nreadlink /proc/$pid/ns/net > {}\n",
            out.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let hook = json!({"path": path(&script), "args": ["libnetwork-setkey", "-exec-root=/x", "id", "ctl"]});
        t.set("/hooks/prestart", json!([hook]));
        t.sleeper()?;
        let found = fs::read_to_string(&out)?;
        let own = fs::read_link(format!("/proc/{}/ns/net", t.pid()?))?;
        equal!(found.trim(), own.display().to_string(), "network namespace that the hook saw");
        Ok(())
    });
    group.add("docker_updates_with_resources_on_stdin", |t| {
        shim_sleeper(t)?;
        let id = t.id.clone();
        for words in [["update", "--resources=-", &id].as_slice(), &["update", "--resources", "-", &id]] {
            let done = shim(t, words).stdin("{}").go()?;
            done.ok()?;
        }
        Ok(())
    });
}

fn words(group: &mut Group) {
    for (name, words) in [("apart", ["--format", "json"].as_slice()), ("equals", &["--format=json"])] {
        group.add(format!("ps_and_list_take_the_format_{name}"), move |t| {
            t.sleeper()?;
            let id = t.id.clone();
            let listed = t.call(&[&["list"][..], words].concat()).go()?.ok()?.stdout;
            ensure!(serde_json::from_str::<Vec<Value>>(&listed)?.iter().any(|entry| entry["id"] == id), "{listed}");
            let pids = t.call(&[&["ps"][..], words, &[id.as_str()]].concat()).go()?.ok()?.stdout;
            equal!(serde_json::from_str::<Vec<i32>>(&pids)?, [t.pid()?], "pids");
            Ok(())
        });
    }
    let why = "runc takes options after the id for create only, crun for delete; engine contract: options in any place";
    group.add_beyond_peers(why, "options_may_follow_the_id", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["kill", &id, "--all", "9"]).go()?.ok()?;
        let ended = eventually(t.limit(std::time::Duration::from_secs(5)), || Ok(t.status()? == "stopped"))?;
        ensure!(ended, "kill ID --all 9 did not end the container");
        t.call(&["delete", &id, "--force"]).go()?.ok()?;
        t.expect_unknown()
    });
    for (name, text) in [
        ("empty", ""),
        ("cut", "{\"args\":[\"/bin/true\"],"),
        ("an_array", "[]"),
        ("without_args", "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0}}"),
        ("with_a_word_for_a_uid", "{\"args\":[\"/bin/true\"],\"cwd\":\"/\",\"user\":{\"uid\":\"root\",\"gid\":0}}"),
        ("with_a_relative_cwd", "{\"args\":[\"/bin/true\"],\"cwd\":\"tmp\",\"user\":{\"uid\":0,\"gid\":0}}"),
    ] {
        group.add(format!("a_process_file_that_is_{name}_is_refused_with_one_error"), move |t| {
            shim_sleeper(t)?;
            let (id, file) = (t.id.clone(), t.scratch.join("process.json"));
            fs::write(&file, text)?;
            let done = shim(t, &["exec", "--process", &path(&file), "--detach", &id]).go()?.refused()?;
            ensure!(!done.stderr.trim().is_empty(), "nothing on stderr");
            equal!(last_error(t)?.1, 1, "errors in the log");
            equal!(t.status()?, "running", "status of the container");
            Ok(())
        });
    }
}
