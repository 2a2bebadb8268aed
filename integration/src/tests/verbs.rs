//! Verbs beyond the specification, and all verbs on an id that nobody has.

use std::fs;

use crate::case::{Group, skip};
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("verbs", "engine contract");
    unknown_ids(&mut group);
    run(&mut group);
    run_twice(&mut group);
    pause(&mut group);
    matching(&mut group);
    group
}

fn unknown_ids(group: &mut Group) {
    group.citing("engine contract");
    for verb in ["state", "start", "pause", "delete", "resume", "ps"] {
        group.add(format!("{verb}_of_an_unknown_id_exits_1"), move |t| {
            let done = t.call(&[verb, "no-such-id"]).go()?;
            equal!(done.code, Some(1), "exit status");
            ensure!(done.stderr.contains("does not exist"), "stderr: {}", done.stderr);
            ensure!(done.stdout.is_empty(), "stdout: {}", done.stdout);
            Ok(())
        });
    }
    group.add("kill_of_an_unknown_id_exits_1", |t| {
        let done = t.call(&["kill", "no-such-id", "KILL"]).go()?;
        equal!(done.code, Some(1), "exit status");
        ensure!(done.stderr.contains("does not exist"), "stderr: {}", done.stderr);
        Ok(())
    });
    group.add("exec_of_an_unknown_id_is_an_error", |t| {
        let done = t.call(&["exec", "no-such-id", "true"]).go()?.refused()?;
        ensure!(done.stderr.contains("does not exist"), "stderr: {}", done.stderr);
        Ok(())
    });
    group.add("delete_force_of_an_unknown_id_exits_0", |t| {
        equal!(t.call(&["delete", "--force", "no-such-id"]).go()?.code, Some(0), "exit status");
        Ok(())
    });
    for verb in ["state", "start", "kill", "delete", "create", "run"] {
        group.add(format!("{verb}_without_an_id_is_an_error"), move |t| {
            t.write_config()?;
            t.call(&[verb]).go()?.refused()?;
            Ok(())
        });
    }
}

fn run(group: &mut Group) {
    group.citing("engine contract");
    group.add("run_leaves_no_container", |t| {
        t.run()?.ok()?;
        t.expect_unknown()
    });
    group.add("run_keep_leaves_a_stopped_container", |t| {
        let done = t.run_with(&["--keep"])?;
        if done.stderr.contains("unrecognized option") {
            return crate::case::skip("requires `run --keep`, which this runtime lacks");
        }
        done.ok()?;
        equal!(t.status()?, "stopped", "status");
        t.delete()?;
        Ok(())
    });
    for flag in ["--detach", "-d"] {
        group.add(format!("run_{}_returns_while_the_payload_runs", flag.trim_start_matches('-')), move |t| {
            t.args(&["/bin/sleep", "1000"]);
            t.run_with(&[flag])?.ok()?;
            equal!(t.status()?, "running", "status");
            Ok(())
        });
    }
    group.add("run_detached_writes_a_pid_file", |t| {
        t.args(&["/bin/sleep", "1000"]);
        let file = t.scratch.join("pid");
        t.run_with(&["-d", "--pid-file", &file.display().to_string()])?.ok()?;
        equal!(fs::read_to_string(file)?, t.pid()?.to_string(), "pid file");
        Ok(())
    });
    group.add("run_detached_leaves_the_exited_container_to_delete", |t| {
        t.run_with(&["-d"])?.ok()?;
        t.wait_for_status("stopped")?;
        t.delete()?;
        Ok(())
    });
}

fn run_twice(group: &mut Group) {
    group.add("run_of_an_id_in_use_is_refused", |t| {
        t.sleeper()?;
        let pid = t.pid()?;
        t.sh("echo payload-has-run");
        let done = t.run()?.refused()?;
        ensure!(!done.stdout.contains("payload-has-run"), "the second payload ran");
        equal!((t.status()?.as_str(), t.pid()?), ("running", pid), "status and pid of the first container");
        Ok(())
    });
}

fn pause(group: &mut Group) {
    group.citing("engine contract");
    group.add("pause_stops_and_resume_continues_the_payload", |t| {
        t.sh("while :; do echo x >> /out/ticks; usleep 5000; done");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ticks"))?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        equal!(t.status()?, "paused", "status after pause");
        let ticks = || fs::metadata(t.rootfs().join("out/ticks")).map(|meta| meta.len());
        let before = ticks()?;
        std::thread::sleep(std::time::Duration::from_millis(60));
        equal!(ticks()?, before, "ticks while paused");
        t.call(&["resume", &id]).go()?.ok()?;
        equal!(t.status()?, "running", "status after resume");
        let path = t.rootfs().join("out/ticks");
        let grown = crate::call::eventually(t.limit(std::time::Duration::from_secs(2)), || {
            Ok(fs::metadata(&path)?.len() > before)
        })?;
        ensure!(grown, "the payload did not go on after resume");
        Ok(())
    });
    group.add("a_paused_container_is_ended_by_delete_force", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        t.expect_unknown()
    });
    group.add("a_paused_container_cannot_be_deleted", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        t.call(&["delete", &id]).go()?.refused()?;
        equal!(t.status()?, "paused", "status");
        Ok(())
    });
    group.add("a_running_container_cannot_be_resumed", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.ok()?;
        t.call(&["resume", &id]).go()?.ok()?;
        t.call(&["resume", &id]).go()?.refused()?;
        equal!(t.status()?, "running", "status");
        Ok(())
    });
    group.add("a_stopped_container_cannot_be_paused", |t| {
        t.create_started()?;
        t.wait_for_status("stopped")?;
        let id = t.id.clone();
        t.call(&["pause", &id]).go()?.refused()?;
        Ok(())
    });
}

/// `kill` and `delete` of all ids that match; crun has it.
fn matching(group: &mut Group) {
    group.citing("engine contract");
    for flag in ["--regex", "-r"] {
        group.add(
            format!("kill_and_delete_{}_reach_what_matches_and_nothing_else", flag.trim_start_matches('-')),
            move |t| {
                if t.call(&["delete", flag, "no-such-[0-9]+"]).go()?.stderr.contains("flag provided but not defined") {
                    return skip("requires `kill --regex`, which this runtime lacks");
                }
                let ids = ["trial-a1", "trial-a2", "trial-a3", "trial-b1"];
                for id in ids {
                    t.switch_id(id);
                    t.sleeper()?;
                }
                // One that is stopped already takes nobody else's turn.
                t.id = "trial-a1".into();
                t.kill("KILL")?.ok()?;
                t.wait_for_status("stopped")?;
                t.call(&["kill", flag, "trial-a[0-9]", "KILL"]).go()?;
                for id in &ids[1..3] {
                    t.id = id.to_string();
                    t.wait_for_status("stopped")?;
                }
                t.call(&["delete", flag, "trial-a[0-9]"]).go()?.ok()?;
                for id in &ids[..3] {
                    t.id = id.to_string();
                    t.expect_unknown()?;
                }
                t.id = "trial-b1".into();
                equal!(t.status()?, "running", "status of the one that does not match");
                Ok(())
            },
        );
    }
}
