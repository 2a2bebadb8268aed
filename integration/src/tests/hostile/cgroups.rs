//! cgroups that a container has made in its own, to hide in or to stay.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::case::{Group, Outcome};
use crate::options::View;
use crate::trial::{Trial, alive};
use crate::{ensure, equal};

pub fn add(group: &mut Group) {
    for (name, script) in [
        ("that_is_no_text", "n=$(printf '\\377'); mkdir $n; echo 0 > $n/cgroup.procs; echo $$ > cgroup.procs"),
        ("fifteen_hundred_deep", "p=$(printf d/%.0s $(seq 50)); n=0; while test $n -lt 30; do mkdir -p $p && cd $p || exit; n=$((n+1)); done; cd /top"),
        ("among_a_thousand", "n=0; while test $n -lt 1000; do mkdir w$n; n=$((n+1)); done"),
    ] {
        for namespace in [true, false] {
            let end = if namespace { "" } else { "_without_a_pid_namespace" };
            group.add(format!("a_cgroup_{name}_goes_with_the_container{end}"), move |t| {
                if t.view == View::Host {
                    return crate::case::skip("requires the private view of cgroup v2");
                }
                make_hostile_cgroups(t, script, namespace)?;
                let begun = Instant::now();
                let id = t.id.clone();
                t.call(&["delete", "--force", &id]).go()?.ok()?;
                eprintln!("# deleted in {:?}", begun.elapsed());
                let place = Path::new("/sys/fs/cgroup").join(&t.cgroup_base()[1..]).join(&id);
                ensure!(!place.exists(), "{} is still there", place.display());
                Ok(())
            });
        }
    }
    group.add("a_process_in_a_cgroup_that_is_no_text_is_listed_and_killed", |t| {
        if t.view == View::Host {
            return crate::case::skip("requires the private view of cgroup v2");
        }
        make_hostile_cgroups(t, "mkdir $(printf '\\377')", false)?;
        let place = Path::new("/sys/fs/cgroup").join(&t.cgroup_base()[1..]).join(&t.id);
        let odd = fs::read_dir(&place)?.flatten().find(|entry| entry.path().is_dir());
        let odd = odd.ok_or_else(|| std::io::Error::other("the container made no cgroup"))?.path();
        let id = t.id.clone();
        let hidden = crate::call::Call::spawn(t.call(&["exec", &id, "/bin/sleep", "1000"]))?;
        crate::call::eventually(std::time::Duration::from_secs(5), || Ok(processes(t, &id)?.len() > 1))?;
        let all = processes(t, &id)?;
        ensure!(all.len() > 1, "the second process is not there: {all:?}");
        for pid in &all {
            fs::write(odd.join("cgroup.procs"), pid.to_string())?;
        }
        equal!(processes(t, &id)?.len(), all.len(), "listed processes, once they are hidden");
        t.call(&["kill", "--all", &id, "KILL"]).go()?.ok()?;
        let gone = crate::call::eventually(std::time::Duration::from_secs(5), || {
            Ok(!all.iter().any(|pid| alive(pid)))
        })?;
        ensure!(gone, "some of {all:?} live after kill --all");
        hidden.wait()?;
        Ok(())
    });
}

fn processes(t: &mut Trial, id: &str) -> Outcome<Vec<i32>> {
    Ok(serde_json::from_str(&t.call(&["ps", "--format", "json", id]).go()?.ok()?.stdout)?)
}

/// A container with its cgroup writable at /top, in which `script` has run.
fn make_hostile_cgroups(t: &mut Trial, script: &str, namespace: bool) -> Outcome {
    t.mount("/top", "cgroup2", "cgroup2", &["rw"]);
    if !namespace {
        t.drop_namespace("pid");
    }
    t.set("/process/env", json!(["PATH=/bin"]));
    t.sh(&format!("cd /top; {script}; echo made > /out/made; sleep 1000"));
    t.create_started()?;
    t.wait_for_file(t.rootfs().join("out/made"))?;
    Ok(())
}
