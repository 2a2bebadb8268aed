//! cgroups that a container has made in its own, to hide in or to stay.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::fchown;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use serde_json::json;

use crate::call::eventually;
use crate::case::{Group, Outcome};
use crate::options::View;
use crate::trial::{Trial, alive};
use crate::{ensure, equal};

const LIMIT: Duration = Duration::from_secs(5);
const TOO_DEEP: &str = "engine contract: ps lists the processes of the container; runc 1.1.5 and crun 1.8.1 hold a \
    descriptor for each level and run out of them";

pub fn add(group: &mut Group) {
    for (name, script) in [
        ("that_is_no_text", "n=$(printf '\\377'); mkdir $n; echo 0 > $n/cgroup.procs; echo $$ > cgroup.procs"),
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
    for (name, depth) in [("that_is_no_text", 1), ("too_deep_for_a_path", 300)] {
        let name = format!("a_process_in_a_cgroup_{name}_is_listed_and_killed");
        let body = move |t: &mut Trial| -> Outcome {
            if t.view == View::Host {
                return crate::case::skip("requires the private view of cgroup v2");
            }
            t.drop_namespace("pid");
            t.sleeper()?;
            let id = t.id.clone();
            let second = t.call(&["exec", &id, "/bin/sleep", "1000"]).spawn()?;
            eventually(t.limit(LIMIT), || Ok(processes(t, &id)?.len() > 1))?;
            let all = processes(t, &id)?;
            ensure!(all.len() > 1, "the second process is not there: {all:?}");
            let place = Path::new("/sys/fs/cgroup").join(&t.cgroup_base()[1..]).join(&id);
            hide(t, &place, depth, &all)?;
            equal!(processes(t, &id)?.len(), all.len(), "listed processes, once they are hidden");
            t.call(&["kill", "--all", &id, "KILL"]).go()?.ok()?;
            let gone = eventually(t.limit(LIMIT), || Ok(!all.iter().any(alive)))?;
            ensure!(gone, "some of {all:?} live after kill --all");
            second.wait()?;
            t.call(&["delete", "--force", &id]).go()?.ok()?;
            ensure!(!place.exists(), "{} is still there", place.display());
            Ok(())
        };
        match depth {
            1 => group.add(name, body),
            _ => group.add_beyond_peers(TOO_DEEP, name, body),
        }
    }
}

/// What a container with its cgroup writable does: moves these into the last of nested cgroups with odd names.
fn hide(t: &Trial, place: &Path, depth: usize, pids: &[i32]) -> Outcome {
    let mut at = File::open(place)?;
    let name = OsStr::from_bytes(b"\xff-no-text-at-all-\xfe");
    for _ in 0..depth {
        mkdirat(&at, name, Mode::from_bits_truncate(0o755))?;
        at = File::from(openat(&at, name, OFlag::O_DIRECTORY, Mode::empty())?);
        let owner = Some(t.host_id(0)).filter(|_| t.mode != crate::mode::Mode::Root);
        fchown(&at, owner, owner)?;
    }
    for pid in pids {
        let mut file = File::from(openat(&at, "cgroup.procs", OFlag::O_WRONLY, Mode::empty())?);
        file.write_all(pid.to_string().as_bytes())?;
    }
    Ok(())
}

fn processes(t: &mut Trial, id: &str) -> Outcome<Vec<i32>> {
    // Not one descriptor for each level.
    let done = t.call_after("ulimit -n 100", &["ps", "--format", "json", id]).go()?.ok()?;
    Ok(serde_json::from_str(&done.stdout)?)
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
