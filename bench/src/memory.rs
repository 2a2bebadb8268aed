//! The smallest memory limit under which a container still starts: the limit holds for the runtime and the
//! container together. With the memory controller of cgroup v2 where the sandbox has it, else with v1's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bundle::Kit;
use crate::cases::Shape;
use crate::contender::{Contender, Verb, reap_strays};
use crate::results::{Failure, Results};

pub const CASE: &str = "smallest_memory";

/// Limits are tried in steps of this, up to the largest.
const STEP_KIB: u64 = 16;
const LARGEST_KIB: u64 = 128 << 10;

/// Runs that must all succeed under a limit.
const RUNS: usize = 3;

const PATIENCE: Duration = Duration::from_secs(10);

/// A hierarchy with a memory controller.
struct Place {
    /// Where the limited cgroups are made.
    top: PathBuf,
    limit_file: &'static str,
}

impl Place {
    fn find() -> Result<Place, String> {
        let v2 = Path::new("/sys/fs/cgroup");
        let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
        if controllers.split_whitespace().any(|name| name == "memory") {
            let file = v2.join("cgroup.subtree_control");
            fs::write(&file, "+memory").map_err(|error| failed(&file, &error))?;
            return Ok(Place { top: v2.to_path_buf(), limit_file: "memory.max" });
        }
        let top = PathBuf::from("/run/bench/memory");
        fs::create_dir_all(&top).map_err(|error| failed(&top, &error))?;
        mount(Some("cgroup"), &top, Some("cgroup"), MsFlags::empty(), Some("memory"))
            .map_err(|errno| format!("requires the memory controller of cgroup v2 or v1: mount: {errno}"))?;
        Ok(Place { top, limit_file: "memory.limit_in_bytes" })
    }
}

/// As for other cases: named, or nothing is.
pub fn is_selected(words: &[String]) -> bool {
    words.is_empty() || words.iter().any(|word| CASE.contains(word.as_str()))
}

/// Finds it for each contender; without a memory controller the report says so.
pub fn measure(contenders: &[Contender], kit: &Kit, results: &mut Results) {
    let place = match Place::find() {
        Ok(place) => place,
        Err(message) => return fail(results, "all", message),
    };
    for contender in contenders {
        match smallest(contender, kit, &place) {
            Ok(kib) => results.memory.push((contender.name.clone(), kib)),
            Err(message) => fail(results, &contender.name, message),
        }
    }
}

fn fail(results: &mut Results, contender: &str, message: String) {
    results.failures.push(Failure { case: CASE.into(), contender: contender.into(), message });
}

/// By halves, in KiB.
fn smallest(contender: &Contender, kit: &Kit, place: &Place) -> Result<u64, String> {
    let mut tries = 0;
    let mut works = |kib: u64| -> Result<bool, String> {
        for _ in 0..RUNS {
            tries += 1;
            if !runs_with(contender, kit, place, kib, tries)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let (mut fails, mut enough) = (0, LARGEST_KIB / STEP_KIB);
    if !works(LARGEST_KIB)? {
        return Err(format!("{LARGEST_KIB} KiB are not enough"));
    }
    while enough - fails > 1 {
        let middle = fails + (enough - fails) / 2;
        if works(middle * STEP_KIB)? { enough = middle } else { fails = middle }
    }
    Ok(enough * STEP_KIB)
}

/// One `run` in a fresh cgroup with this limit; what it leaves behind when it is killed is ended.
fn runs_with(contender: &Contender, kit: &Kit, place: &Place, kib: u64, number: usize) -> Result<bool, String> {
    let name = format!("xebec-bench-{}-{}-{number}", std::process::id(), contender.name);
    let limited = place.top.join(&name);
    let failed = |error: io::Error| format!("{}: {error}", limited.display());
    fs::create_dir(&limited).map_err(failed)?;
    // A fresh id: what a killed try has left is not in the way of the next.
    let mut bundle = kit.bundle(&format!("{}-memory-{number}", contender.name), Shape::default(), "/exit")?;
    if place.limit_file == "memory.max" {
        // Below the limit too; clone3 would take it out of our cgroup.
        bundle = kit.bundle_in(&format!("/{name}"), &bundle.id, Shape::default(), "/exit")?;
    }
    // What memory cannot hold is not to go to swap. Version 1's limit on both together needs the other one first.
    for (file, value) in [("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", kib << 10)] {
        let path = limited.join(file);
        if path.exists() {
            fs::write(limited.join(place.limit_file), (kib << 10).to_string()).map_err(failed)?;
            fs::write(path, value.to_string()).map_err(failed)?;
        }
    }
    let ran = fs::write(limited.join(place.limit_file), (kib << 10).to_string())
        .and_then(|()| run_in(&limited, &contender.command(Verb::Run, &bundle)));
    let ended = end_all(&limited).map_err(failed);
    reap_strays();
    ended?;
    ran.map_err(failed)
}

/// The command, from a shell that first joins the cgroup; false when it fails, is killed or hangs.
fn run_in(limited: &Path, plain: &Command) -> io::Result<bool> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(limited.join("cgroup.procs"));
    command.arg(plain.get_program()).args(plain.get_args()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        sleep(Duration::from_millis(2));
    }
    child.kill()?;
    child.wait().map(|_| false)
}

/// Kills what is left in the cgroup and below, and removes it.
fn end_all(limited: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let below: Vec<PathBuf> =
            fs::read_dir(limited)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        for directory in below.iter().map(PathBuf::as_path).chain([limited]) {
            for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines() {
                // It may be gone already.
                pid.parse().map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).ok()).ok();
            }
            reap_strays();
        }
        let removed = below.iter().try_for_each(fs::remove_dir).and_then(|()| fs::remove_dir(limited));
        if removed.is_ok() || begun.elapsed() > PATIENCE {
            return removed;
        }
        sleep(Duration::from_millis(5));
    }
}
