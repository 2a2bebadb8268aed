//! What a runtime tells about itself: `--timings`, `doctor`, and the trace that hooks belong to.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::call::Done;
use crate::case::{Group, Outcome, skip};
use crate::{ensure, equal};

use super::hooks::{hook, place};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub fn group() -> Group {
    let mut group = Group::new("insight", "engine contract");
    timings(&mut group);
    doctor(&mut group);
    group.add("traceparent_reaches_hooks", |t| {
        let out = place(t, "createRuntime");
        t.set("/hooks/createRuntime", json!([hook(&format!("echo trace=$TRACEPARENT > {out}/trace"))]));
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        t.call(&["create", "--bundle", &bundle, &id]).env("TRACEPARENT", TRACE).go()?.ok()?;
        let told = fs::read_to_string(t.rootfs().join("out/trace"))?;
        if told.trim() == "trace=" {
            return skip("requires $TRACEPARENT to be handed on, which this runtime lacks");
        }
        equal!(told.trim(), format!("trace={TRACE}"), "what the hook saw");
        Ok(())
    });
    group
}

/// Skips for runtimes that do not know the option or the verb.
fn required(done: Done, word: &str) -> Outcome<Done> {
    let unknown = ["not defined", "unrecognized option", "unknown command", "No help topic", "unexpected argument"];
    if unknown.iter().any(|text| done.stderr.contains(text) || done.stdout.contains(text)) {
        return skip(format!("requires `{word}`, which this runtime lacks"));
    }
    done.ok()
}

/// The complete events of a recording: thread, name, begin and length.
fn events(file: &Path) -> Outcome<Vec<(u64, String, f64, f64)>> {
    let document: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let all = document["traceEvents"].as_array().into_iter().flatten().filter(|event| event["ph"] == "X");
    let number = |value: &Value| value.as_f64().unwrap_or(-1.0);
    Ok(all
        .map(|event| {
            let name = event["name"].as_str().unwrap_or_default().to_string();
            (event["tid"].as_u64().unwrap_or(0), name, number(&event["ts"]), number(&event["dur"]))
        })
        .collect())
}

fn timings(group: &mut Group) {
    group.add("timings_of_run_hold_every_step_on_one_clock", |t| {
        let file = t.scratch.join("run.json");
        let done = t.run_with(&["--timings", &file.display().to_string()])?;
        required(done, "run --timings")?;
        let events = events(&file)?;
        let mounts = t.config["mounts"].as_array().map_or(0, Vec::len);
        let recorded = events.iter().filter(|(_, name, ..)| name.starts_with("mounts[")).count();
        equal!(recorded, mounts, "recorded mounts");
        let of = |thread| events.iter().filter(move |(tid, ..)| *tid == thread);
        let first = of(1).map(|(_, _, begin, _)| *begin).fold(f64::INFINITY, f64::min);
        let last = of(1).map(|(_, _, begin, length)| begin + length).fold(0.0, f64::max);
        for (_, name, begin, length) in of(2) {
            ensure!(*length >= 0.0 && *begin >= first && begin + length <= last, "{name} at {begin} for {length} us");
        }
        Ok(())
    });
    group.add("timings_as_a_picture", |t| {
        let file = t.scratch.join("create.svg");
        let done = t.create_with(&["--timings", &file.display().to_string()])?;
        required(done, "create --timings")?;
        let picture = fs::read_to_string(file)?;
        ensure!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "no picture");
        ensure!(picture.contains("clone3") && picture.contains("/proc"), "steps are missing");
        Ok(())
    });
    group.add("timings_of_exec", |t| {
        t.sleeper()?;
        let file = t.scratch.join("exec.json").display().to_string();
        let id = t.id.clone();
        let done = t.call(&["exec", "--timings", &file, &id, "/bin/true"]).go()?;
        required(done, "exec --timings")?;
        ensure!(events(Path::new(&file))?.iter().any(|(tid, ..)| *tid == 2), "no step of the child");
        Ok(())
    });
    group.add("timings_by_the_environment_and_of_a_failure", |t| {
        let file = t.scratch.join("failed.json");
        t.args(&["/no/such/program"]);
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        t.call(&["run", "--bundle", &bundle, &id]).env("XEBEC_TIMINGS", &file).go()?.refused()?;
        if !file.exists() {
            return skip("requires $XEBEC_TIMINGS, which this runtime lacks");
        }
        ensure!(!events(&file)?.is_empty(), "nothing was recorded");
        Ok(())
    });
    group.add("timings_that_cannot_be_written_make_no_container", |t| {
        let done = t.run_with(&["--timings", "/no/such/directory/t.json"])?;
        if !done.stderr.contains("--timings: open") {
            return skip("requires `run --timings`, which this runtime lacks");
        }
        done.refused()?;
        t.expect_unknown()
    });
}

fn doctor(group: &mut Group) {
    group.add("doctor_names_cost_and_cure_of_every_lack", |t| {
        let done = t.bare_call(&["doctor", "--format", "json"]).go()?;
        let text = required(done, "doctor")?.stdout;
        let report: Value = serde_json::from_str(&text)?;
        equal!(report["fit"], json!(true), "fit, where containers are made by the hundred");
        let checks = report["checks"].as_array().cloned().unwrap_or_default();
        ensure!(checks.len() >= 10, "{} checks", checks.len());
        for check in checks {
            let lacks = check["state"] != "ok";
            equal!(check["cost"] != "", lacks, "a cost, in {check}");
        }
        Ok(())
    });
    group.add("doctor_sees_a_bpffs_that_is_not_there", |t| {
        let done = t.bare_call(&["doctor"]).go()?;
        let text = required(done, "doctor")?.stdout;
        let mounted = fs::read_to_string("/proc/self/mountinfo")?.contains(" /sys/fs/bpf ");
        ensure!(text.contains("mount -t bpf bpf /sys/fs/bpf") != mounted, "bpffs mounted: {mounted}, said: {text}");
        Ok(())
    });
}
