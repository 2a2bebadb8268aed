//! kill: forms of a signal, states, --all; and what run forwards.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::case::{Group, Outcome};
use crate::trial::{Trial, alive};
use crate::{ensure, equal};

/// Words for a signal, and its number on every Linux architecture but alpha, mips and sparc.
const FORMS: &[(&str, u32)] = &[
    ("TERM", 15),
    ("SIGTERM", 15),
    ("15", 15),
    ("HUP", 1),
    ("SIGHUP", 1),
    ("1", 1),
    ("INT", 2),
    ("SIGINT", 2),
    ("2", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("SIGUSR1", 10),
    ("10", 10),
    ("USR2", 12),
    ("SIGUSR2", 12),
    ("WINCH", 28),
    ("28", 28),
    ("ALRM", 14),
];

pub fn group() -> Group {
    let mut group = Group::new("signals", "runtime.md#kill");
    forms(&mut group);
    states(&mut group);
    creating(&mut group);
    paused(&mut group);
    all(&mut group);
    all_of_a_stopped_container(&mut group);
    forwarded(&mut group);
    group
}

/// A payload that notes the first signal it gets and exits.
fn start_trapper(t: &mut Trial) -> Outcome {
    let traps: Vec<String> =
        FORMS.iter().map(|(_, number)| format!("trap 'echo {number} > /out/signal; exit 0' {number}")).collect();
    t.sh(&format!("{}; echo ready > /out/ready; while :; do usleep 2000; done", traps.join(";")));
    t.create_started()?;
    t.wait_for_file(t.rootfs().join("out/ready"))?;
    Ok(())
}

fn forms(group: &mut Group) {
    for (word, number) in FORMS {
        let kind = if word.starts_with(|c: char| c.is_ascii_digit()) { "number" } else { "name" };
        group.add(format!("the_{kind}_{word}_is_delivered"), move |t| {
            start_trapper(t)?;
            t.kill(word)?.ok()?;
            equal!(t.wait_for_file(t.rootfs().join("out/signal"))?.trim(), number.to_string(), "signal that arrived");
            t.wait_for_status("stopped")
        });
    }
    group.add("the_default_signal_is_term", |t| {
        start_trapper(t)?;
        let id = t.id.clone();
        t.call(&["kill", &id]).go()?.ok()?;
        equal!(t.wait_for_file(t.rootfs().join("out/signal"))?.trim(), "15", "signal that arrived");
        Ok(())
    });
    for (name, word) in [
        ("an_unknown_name", "NOSUCH"),
        ("a_number_too_large", "4000"),
        ("a_negative_number", "-5"),
        ("a_fraction", "9.5"),
    ] {
        group.add(format!("{name}_is_refused"), move |t| {
            t.sleeper()?;
            t.kill(word)?.refused()?;
            equal!(t.status()?, "running", "status after the refused kill");
            Ok(())
        });
    }
}

fn states(group: &mut Group) {
    group.add("a_created_container_can_be_killed", |t| {
        t.create()?;
        t.kill("KILL")?.ok()?;
        t.wait_for_status("stopped")?;
        t.delete()?;
        Ok(())
    });
    for (word, number) in [("KILL", 9), ("9", 9), ("SIGKILL", 9)] {
        group.add(format!("a_running_container_is_ended_by_{word}"), move |t| {
            t.sleeper()?;
            let pid = t.pid()?;
            t.kill(word)?.ok()?;
            t.wait_for_status("stopped")?;
            ensure!(!alive(pid), "process {pid} outlived signal {number}");
            Ok(())
        });
    }
    group.add("a_stopped_container_cannot_be_killed", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        t.kill("TERM")?.refused()?;
        Ok(())
    });
    group.citing("engine contract");
    group.add("the_refusal_to_kill_a_stopped_container_is_worded_for_engines", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        let done = t.kill("KILL")?.refused()?;
        let known = ["os: process already finished", "container not running", "no such process", "does not exist"];
        ensure!(known.iter().any(|words| done.stderr.contains(words)), "stderr: {}", done.stderr);
        Ok(())
    });
}

/// `creating` is neither created nor running.
fn creating(group: &mut Group) {
    group.add("one_that_is_just_being_created_gets_no_signal", |t| {
        let begun = t.scratch.join("hook-has-begun");
        let script = format!("cat >/dev/null; echo yes >{}; sleep 1", begun.display());
        t.set("/hooks/createRuntime", json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]));
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let create = t.call(&["create", "--bundle", &bundle, &id]).spawn()?;
        t.wait_for_file(&begun)?;
        t.kill("KILL")?.refused()?;
        create.wait()?.ok()?;
        t.start()?;
        equal!(t.status()?, "running", "status after start");
        Ok(())
    });
}

fn paused(group: &mut Group) {
    group.add("a_paused_container_dies_of_kill_after_resume_at_the_latest", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        t.kill("KILL")?.ok()?;
        if t.status()? == "paused" {
            t.call(&["resume", &id]).go()?;
        }
        t.wait_for_status("stopped")
    });
}

fn all(group: &mut Group) {
    group.citing("engine contract");
    for words in [["kill", "--all", "ID", "9"], ["kill", "-a", "ID", "KILL"], ["kill", "ID", "KILL", "--all"]] {
        let name = words.join("_").replace("--", "").replace('-', "").to_lowercase();
        group.add(format!("{name}_ends_every_process"), move |t| {
            t.drop_namespace("pid");
            t.sh("for i in 1 2 3; do sleep 1000 & echo $! >> /out/pids; done; echo ready > /out/ready; wait");
            t.create_started()?;
            t.wait_for_file(t.rootfs().join("out/ready"))?;
            let id = t.id.clone();
            let words: Vec<&str> = words.iter().map(|word| if *word == "ID" { id.as_str() } else { word }).collect();
            t.call(&words).go()?.ok()?;
            t.wait_for_status("stopped")?;
            let pids = fs::read_to_string(t.rootfs().join("out/pids"))?;
            let gone = crate::call::eventually(t.limit(std::time::Duration::from_secs(2)), || {
                Ok(pids.split_whitespace().all(|pid| !alive(pid)))
            })?;
            ensure!(gone, "children outlived kill --all");
            Ok(())
        });
    }
    group.add("kill_without_all_reaches_only_the_first_process", |t| {
        t.sh("sh -c 'trap \"echo child > /out/child\" 10; echo ready > /out/ready; while :; do usleep 2000; done' & trap 'echo parent > /out/parent' 10; while :; do usleep 2000; done");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ready"))?;
        t.kill("USR1")?.ok()?;
        t.wait_for_file(t.rootfs().join("out/parent"))?;
        ensure!(!t.rootfs().join("out/child").exists(), "the child got the signal too");
        Ok(())
    });
    group.add("kill_all_reaches_more_processes_than_the_caller_may_open_files", |t| {
        t.sh("for i in $(seq 200); do sleep 1000 & done; echo ready > /out/ready; wait");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ready"))?;
        let id = t.id.clone();
        t.call_after("ulimit -n 150", &["kill", "--all", &id, "TERM"]).go()?.ok()?;
        // TERM does not end the first process of a PID namespace, which has no handler for it: it waits for the others.
        t.wait_for_status("stopped")
    });
    group.add("kill_all_delivers_other_signals_too", |t| {
        t.sh("sh -c 'trap \"echo child > /out/child\" 10; echo ready > /out/ready; while :; do usleep 2000; done' & trap 'echo parent > /out/parent' 10; while :; do usleep 2000; done");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ready"))?;
        let id = t.id.clone();
        t.call(&["kill", "--all", &id, "USR1"]).go()?.ok()?;
        t.wait_for_file(t.rootfs().join("out/parent"))?;
        t.wait_for_file(t.rootfs().join("out/child"))?;
        Ok(())
    });
}

fn all_of_a_stopped_container(group: &mut Group) {
    group.add("kill_all_of_a_stopped_container_ends_what_is_left", |t| {
        t.drop_namespace("pid");
        t.sh("sleep 1000 & echo $! > /out/pid; exit 0");
        t.create_started()?;
        t.wait_for_status("stopped")?;
        let (id, pid) = (t.id.clone(), fs::read_to_string(t.rootfs().join("out/pid"))?);
        t.call(&["kill", "--all", &id, "KILL"]).go()?.ok()?;
        let gone = crate::call::eventually(t.limit(std::time::Duration::from_secs(2)), || Ok(!alive(pid.trim())))?;
        ensure!(gone, "process {} is still there", pid.trim());
        Ok(())
    });
}

fn forwarded(group: &mut Group) {
    group.citing("engine contract");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT] {
        group.add(format!("run_forwards_{}", signal.as_str().to_lowercase()), move |t| {
            let number = signal as i32;
            t.sh(&format!(
                "trap 'echo got > /out/signal; exit 3' {number}; echo ready > /out/ready; while :; do usleep 2000; done"
            ));
            let live = t.spawn_run(&[])?;
            t.wait_for_file(t.rootfs().join("out/ready"))?;
            kill(Pid::from_raw(live.pid()), signal)?;
            equal!(live.wait()?.code, Some(3), "exit status of run");
            equal!(fs::read_to_string(t.rootfs().join("out/signal"))?, "got\n", "what the payload noted");
            Ok(())
        });
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT] {
        group.add(format!("exec_forwards_{}", signal.as_str().to_lowercase()), move |t| {
            let number = signal as i32;
            t.sleeper()?;
            let id = t.id.clone();
            let script = format!(
                "trap 'echo got > /out/signal; exit 3' {number}; echo ready > /out/ready; while :; do usleep 2000; done"
            );
            let live = t.call(&["exec", &id, "/bin/sh", "-c", &script]).spawn()?;
            t.wait_for_file(t.rootfs().join("out/ready"))?;
            kill(Pid::from_raw(live.pid()), signal)?;
            equal!(live.wait()?.code, Some(3), "exit status of exec");
            equal!(fs::read_to_string(t.rootfs().join("out/signal"))?, "got\n", "what the process noted");
            Ok(())
        });
    }
    group.add("killing_from_outside_ends_run", |t| {
        t.args(&["/bin/sleep", "1000"]);
        let live = t.spawn_run(&[])?;
        let limit = t.limit(std::time::Duration::from_secs(5));
        let id = t.id.clone();
        crate::call::eventually(limit, || Ok(t.call(&["state", &id]).go()?.stdout.contains("running")))?;
        t.kill("KILL")?.ok()?;
        equal!(live.wait()?.code, Some(137), "exit status of run");
        Ok(())
    });
}
