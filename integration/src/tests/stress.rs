//! The same again, many times or at the same time: races between a runtime's processes.

use std::fs;

use serde_json::json;

use crate::call::Live;
use crate::case::{Group, Outcome};
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("stress", "engine contract");
    in_a_row(&mut group);
    at_once(&mut group);
    same_id(&mut group);
    group
}

fn in_a_row(group: &mut Group) {
    group.add("thirty_failed_creates_all_say_why", |t| {
        t.mount("/mnt", "bind", "/no/such/source", &["bind"]);
        for round in 0..30 {
            let done = t.create_with(&[])?.refused()?;
            ensure!(done.stderr.contains("/no/such/source"), "round {round}, stderr: {}", done.stderr);
        }
        Ok(())
    });
    group.add("thirty_missing_programs_all_say_so", |t| {
        t.args(&["/no/such/program"]);
        for round in 0..30 {
            let done = t.create_with(&[])?.refused()?;
            let text = done.stderr.to_lowercase();
            ensure!(
                text.contains("executable file not found in") || text.contains("no such file or directory"),
                "round {round}, stderr: {}",
                done.stderr
            );
        }
        Ok(())
    });
    group.add("thirty_runs_in_a_row", |t| {
        for round in 0..30 {
            equal!(t.run_sh(&format!("echo {round}"))?, format!("{round}\n"), "output of round {round}");
        }
        Ok(())
    });
    group.add("twenty_whole_lives_of_one_id", |t| {
        t.args(&["/bin/true"]);
        for _ in 0..20 {
            t.create_started()?;
            t.wait_for_status("stopped")?;
            t.delete()?;
        }
        Ok(())
    });
    group.add("twenty_deletes_by_force_right_after_start", |t| {
        for _ in 0..20 {
            t.sleeper()?;
            let id = t.id.clone();
            t.call(&["delete", "--force", &id]).go()?.ok()?;
            t.expect_unknown()?;
        }
        Ok(())
    });
}

/// A bundle of its own over the same root, so that several containers can start at once.
fn bundle_for(t: &mut Trial, id: &str) -> Outcome<String> {
    t.another_id(id);
    let bundle = t.scratch.join(id);
    fs::create_dir_all(&bundle)?;
    let mut config = t.config.clone();
    config["root"]["path"] = json!(t.rootfs());
    config["linux"]["cgroupsPath"] = json!(format!("{}/{id}", t.cgroup_base()));
    t.write_config_of(&bundle, &config)?;
    Ok(bundle.display().to_string())
}

fn at_once(group: &mut Group) {
    group.add("eight_runs_at_once", |t| {
        t.args(&["/bin/hostname"]);
        let mut lives = Vec::new();
        for index in 0..8 {
            let id = format!("parallel-{index}");
            t.set("/hostname", json!(id));
            let bundle = bundle_for(t, &id)?;
            lives.push((t.call(&["run", "--bundle", &bundle, &id]).spawn()?, id));
        }
        for (live, id) in lives {
            equal!(live.wait()?.ok()?.stdout.trim(), id, "hostname");
        }
        Ok(())
    });
    group.add("eight_creates_at_once_then_eight_deletes_at_once", |t| {
        t.args(&["/bin/sleep", "1000"]);
        let ids: Vec<String> = (0..8).map(|index| format!("parallel-{index}")).collect();
        let mut lives = Vec::new();
        for id in &ids {
            let bundle = bundle_for(t, id)?;
            lives.push(t.call(&["create", "--bundle", &bundle, id]).spawn()?);
        }
        wait_for_all(lives)?;
        let lives: Outcome<Vec<Live>> = ids.iter().map(|id| t.call(&["delete", "--force", id]).spawn()).collect();
        wait_for_all(lives?)?;
        equal!(t.call(&["list", "-q"]).go()?.ok()?.stdout.trim(), "", "what is left");
        Ok(())
    });
    group.add("list_works_while_containers_come_and_go", |t| {
        t.args(&["/bin/true"]);
        let mut lives = Vec::new();
        for index in 0..6 {
            let id = format!("parallel-{index}");
            let bundle = bundle_for(t, &id)?;
            lives.push(t.call(&["run", "--bundle", &bundle, &id]).spawn()?);
            t.call(&["list", "--format", "json"]).go()?.ok()?;
        }
        wait_for_all(lives)
    });
}

fn wait_for_all(lives: Vec<Live>) -> Outcome {
    for live in lives {
        live.wait()?.ok()?;
    }
    Ok(())
}

fn same_id(group: &mut Group) {
    group.citing("runtime.md#create");
    group.add("of_two_creates_of_one_id_one_wins", |t| {
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        for _ in 0..5 {
            let words = ["create", "--bundle", &bundle, &id];
            let (first, second) = (t.call(&words).spawn()?, t.call(&words).spawn()?);
            let (first, second) = (first.wait()?, second.wait()?);
            let winners = usize::from(first.succeeded()) + usize::from(second.succeeded());
            equal!(winners, 1, "creates that succeeded");
            equal!(t.status()?, "created", "status");
            t.call(&["delete", "--force", &id]).go()?.ok()?;
        }
        Ok(())
    });
    group.citing("engine contract");
    group.add("two_deletes_by_force_at_once_leave_nothing", |t| {
        for _ in 0..5 {
            t.sleeper()?;
            let id = t.id.clone();
            let words = ["delete", "--force", &id];
            let (first, second) = (t.call(&words).spawn()?, t.call(&words).spawn()?);
            let (first, second) = (first.wait()?, second.wait()?);
            ensure!(first.succeeded() || second.succeeded(), "both failed: {} {}", first.stderr, second.stderr);
            t.expect_unknown()?;
        }
        Ok(())
    });
}
