//! SIGKILL at random moments, first of the runtime, then of the container's first process.
//! After the one `delete --force` has to clear everything; after the other the runtime itself has to,
//! and to say in one line what happened.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle;
use crate::call::Live;
use crate::case::{Case, Group, Outcome, Stop, fail, skip};
use crate::ensure;
use crate::leftovers::Baseline;
use crate::options::View;
use crate::trial::Trial;

use super::random::Random;
use super::settings::Settings;
use super::stress::expect_empty;
use super::timed::{ms, percentile, quiet};
use super::{payload, report};

const HOOKS: &[&str] = &["createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// How many undisturbed passes tell how long the disturbed ones would take.
const MEASURED: usize = 15;

pub fn cases() -> Vec<Case> {
    let mut group = Group::new("kills", "engine contract");
    let stories =
        [&["run"][..], &["create"], &["create", "start"], &["create", "delete"], &["create", "start", "delete"]];
    for verbs in stories {
        let name = verbs.join("_and_");
        for (suffix, kind) in
            [("", Kind::Plain), ("_with_hooks", Kind::WithHooks), ("_without_pid_namespace", Kind::WithoutPidNamespace)]
        {
            group.add(format!("{name}{suffix}_is_killed"), move |t| kill_runtime(t, verbs, kind));
        }
    }
    for verb in ["create", "run"] {
        group.add(format!("child_of_{verb}_is_killed"), move |t| kill_child(t, verb));
    }
    group.cases
}

/// What the containers of a case are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    WithHooks,
    /// No first process whose end would end the others.
    WithoutPidNamespace,
}

/// The configuration of one attempt: a payload that stays or one that ends at once.
fn configure(t: &mut Trial, id: &str, kind: Kind, stays: bool) {
    t.switch_id(id);
    match (stays, kind) {
        (true, Kind::WithoutPidNamespace) => t.sh("sleep 1000 & sleep 1000 & wait"),
        (true, _) => t.args(&["/bin/sleep", "1000"]),
        (false, _) => t.args(&["/exit"]),
    }
    t.drop_namespace("pid");
    if kind != Kind::WithoutPidNamespace {
        t.push("/linux/namespaces", json!({"type": "pid"}));
    }
    let hook = |kind: &str| {
        // startContainer is looked up in the container, the others by the runtime.
        let path = if kind == "startContainer" { "/bin/usleep" } else { bundle::BUSYBOX };
        json!([{"path": path, "args": ["usleep", "300"]}])
    };
    let hooks: serde_json::Map<String, Value> = match kind == Kind::WithHooks {
        true => HOOKS.iter().map(|kind| (kind.to_string(), hook(kind))).collect(),
        false => serde_json::Map::new(),
    };
    t.set("/hooks", Value::Object(hooks));
}

fn begin(t: &mut Trial, verb: &str) -> Outcome<Live> {
    let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
    match verb {
        "start" => t.call(&["start", &id]).spawn(),
        "delete" => t.call(&["delete", "--force", &id]).spawn(),
        _ => t.call(&[verb, "--bundle", &bundle, &id]).spawn(),
    }
}

/// Sleeps, then spins: a timer's slack is as long as a tenth of what is divided here.
fn wait_until(moment: Instant) {
    let slack = Duration::from_micros(150);
    sleep(moment.saturating_duration_since(Instant::now()).saturating_sub(slack));
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

/// Removes whatever an attempt left by `delete --force`, which has to succeed and leave nothing.
pub fn delete_everything(t: &mut Trial, baseline: &Baseline) -> Outcome<Duration> {
    let id = t.id.clone();
    // `list` works whatever a killed call has left.
    t.call(&["list"]).go()?.ok()?;
    let mut delete = t.call(&["delete", "--force", &id]);
    let took =
        quiet(&mut delete.command, delete.limit).map_err(|error| Stop::Fail(format!("delete --force: {error}")))?;
    // These it has waited for itself; only reaping is somebody else's work and may take a moment.
    expect_empty(&t.root)?;
    let cgroup = cgroup_of(t);
    ensure!(!cgroup.exists(), "delete --force is back and {} is there", cgroup.display());
    let left = baseline.compare(&t.root, &[id]);
    ensure!(left.is_empty(), "left after delete --force: {}", left.join("; "));
    Ok(took)
}

/// The median time of the verbs, one after the other, without a disturbance.
fn measure(t: &mut Trial, verbs: &[&str], kind: Kind, baseline: &Baseline) -> Outcome<Duration> {
    let mut times = Vec::new();
    for number in 0..MEASURED {
        configure(t, &format!("measured-{number}"), kind, false);
        t.write_config()?;
        let begun = Instant::now();
        for verb in verbs {
            begin(t, verb)?.wait()?.ok()?;
        }
        times.push(begun.elapsed());
        delete_everything(t, baseline)?;
    }
    times.sort();
    Ok(percentile(&times, 0.5))
}

/// One attempt: starts the verbs and kills the one that runs at `delay`; true when one was hit.
fn kill_at(t: &mut Trial, verbs: &[&str], delay: Duration) -> Outcome<bool> {
    let moment = Instant::now() + delay;
    let mut last = None;
    for verb in verbs {
        let mut live = begin(t, verb)?;
        while live.child.try_wait()?.is_none() && Instant::now() < moment {
            wait_until(moment.min(Instant::now() + Duration::from_micros(200)));
        }
        let ended = live.child.try_wait()?.is_some();
        last = Some(live);
        if !ended {
            break;
        }
    }
    let Some(mut live) = last else { return Ok(false) };
    let alive = live.child.try_wait()?.is_none();
    live.child.kill()?;
    live.wait()?;
    Ok(alive)
}

fn kill_runtime(t: &mut Trial, verbs: &[&str], kind: Kind) -> Outcome {
    let settings = Settings::inherited()?;
    payload::install(&t.rootfs())?;
    fs::create_dir_all(&t.root)?;
    let baseline = Baseline::take(t.view, base_name(t));
    let whole = measure(t, verbs, kind, &baseline)?;
    let mut random = Random::new(settings.seed, &format!("{verbs:?}{kind:?}"));
    let (mut hit, mut with_state, mut deletions) = (0, 0, Vec::new());
    for number in 0..settings.kills {
        let delay = random.below(whole);
        configure(t, &format!("killed-{number}"), kind, number % 2 == 0);
        t.write_config()?;
        let outcome = kill_at(t, verbs, delay).and_then(|alive| {
            hit += u64::from(alive);
            with_state += u64::from(t.root.join(&t.id).exists());
            delete_everything(t, &baseline)
        });
        match outcome {
            Ok(took) => deletions.push(took),
            Err(Stop::Fail(message)) => {
                return fail(format!(
                    "seed {}, kill {number} after {} of {}: {message}",
                    settings.seed,
                    ms(delay),
                    ms(whole)
                ));
            }
            Err(stop) => return Err(stop),
        }
    }
    deletions.sort();
    report!(
        "seed {}: {} kills within {}, {hit} hit the runtime, {with_state} left state; \
         delete --force median {}, longest {}",
        settings.seed,
        settings.kills,
        ms(whole),
        ms(percentile(&deletions, 0.5)),
        ms(percentile(&deletions, 1.0)),
    );
    Ok(())
}

/// The name of the test's cgroup on the host's hierarchies.
pub fn base_name(t: &Trial) -> &str {
    t.cgroup_base().trim_start_matches('/')
}

/// Where the container's cgroup is in a private view.
fn cgroup_of(t: &Trial) -> PathBuf {
    PathBuf::from(format!("/sys/fs/cgroup{}/{}", t.cgroup_base(), t.id))
}

fn procs_of(t: &Trial) -> PathBuf {
    cgroup_of(t).join("cgroup.procs")
}

/// The first process in the container's cgroup, as soon as there is one; none when the call ended first.
fn first_process(live: &mut Live, procs: &Path) -> Outcome<Option<Pid>> {
    while live.child.try_wait()?.is_none() {
        let text = fs::read_to_string(procs).unwrap_or_default();
        if let Some(pid) = text.lines().next().and_then(|line| line.parse().ok()) {
            return Ok(Some(Pid::from_raw(pid)));
        }
    }
    Ok(None)
}

/// How one attempt on the child's life ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The runtime said so in one line and failed.
    Reported,
    /// The container was up before the signal came.
    WasUp,
    /// The call was over before the child was seen.
    Missed,
}

/// The median time that the child is seen before `create` is back.
fn measure_child(t: &mut Trial, kind: Kind, baseline: &Baseline) -> Outcome<Duration> {
    let mut times = Vec::new();
    for number in 0..MEASURED {
        configure(t, &format!("seen-{kind:?}-{number}"), kind, true);
        t.write_config()?;
        let mut live = begin(t, "create")?;
        first_process(&mut live, &procs_of(t))?;
        let seen = Instant::now();
        while live.child.try_wait()?.is_none() {}
        times.push(seen.elapsed());
        live.wait()?.ok()?;
        delete_everything(t, baseline)?;
    }
    times.sort();
    Ok(percentile(&times, 0.5))
}

fn kill_child(t: &mut Trial, verb: &str) -> Outcome {
    if t.view == View::Host {
        return skip("finds the child by its cgroup v2");
    }
    let settings = Settings::inherited()?;
    payload::install(&t.rootfs())?;
    fs::create_dir_all(&t.root)?;
    let baseline = Baseline::take(t.view, base_name(t));
    let wholes = [measure_child(t, Kind::Plain, &baseline)?, measure_child(t, Kind::WithHooks, &baseline)?];
    let mut random = Random::new(settings.seed, verb);
    let mut counts = [0; 3];
    for number in 0..settings.kills {
        let (kind, whole) = if number % 2 == 0 { (Kind::Plain, wholes[0]) } else { (Kind::WithHooks, wholes[1]) };
        let delay = random.below(whole);
        configure(t, &format!("child-{number}"), kind, true);
        t.write_config()?;
        match kill_child_at(t, verb, delay, &baseline) {
            Ok(ending) => counts[ending as usize] += 1,
            Err(Stop::Fail(message)) => {
                return fail(format!(
                    "seed {}, kill {number} {} after the child was seen: {message}",
                    settings.seed,
                    ms(delay)
                ));
            }
            Err(stop) => return Err(stop),
        }
    }
    let [reported, was_up, missed] = counts;
    report!(
        "seed {}: {} kills within {} or, with hooks, {}: {reported} reported in one line, {was_up} came when the \
         container was up, {missed} came too late",
        settings.seed,
        settings.kills,
        ms(wholes[0]),
        ms(wholes[1]),
    );
    ensure!(reported > 0, "no kill came before the container was up");
    Ok(())
}

fn kill_child_at(t: &mut Trial, verb: &str, delay: Duration, baseline: &Baseline) -> Outcome<Ending> {
    let mut live = begin(t, verb)?;
    let child = first_process(&mut live, &procs_of(t))?;
    if let Some(child) = child {
        wait_until(Instant::now() + delay);
        match kill(child, Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => return fail(format!("kill the child: {errno}")),
        }
    }
    let done = live.wait()?;
    let lines = done.stderr.lines().count();
    let ending = match (verb, done.code, lines) {
        ("create", Some(0), 0) | ("run", Some(137), 0) if child.is_some() => Ending::WasUp,
        ("create", Some(0), 0) => Ending::Missed,
        (_, Some(code), 1) if code != 0 && child.is_some() => Ending::Reported,
        _ => {
            return fail(format!("{verb} ended with {}: {}", done.ending(), done.stderr));
        }
    };
    // What create made has to be deleted; after a failure, and after run, nothing may be there.
    if verb == "create" && ending != Ending::Reported {
        delete_everything(t, baseline)?;
    }
    let left = baseline.compare(&t.root, std::slice::from_ref(&t.id));
    ensure!(left.is_empty(), "left after `{}` ({}): {}", done.words, done.ending(), left.join("; "));
    expect_empty(&t.root)?;
    Ok(ending)
}
