//! A fault at every system call: each call that a verb makes, in the runtime and in its child, fails once
//! with each of several errors, or is the moment at which one of them or both are killed.
//!
//! And kernels that lack one feature altogether, which docs/kernel-features.md lists: see `features`.
//!
//! Whatever happens, a verb either does what it promises or fails with one line; a payload that runs
//! sees the protections of an undisturbed run; nothing hangs; and `delete --force` leaves nothing.

mod features;
mod tracer;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use serde_json::json;
use syscalls::Sysno;

use crate::call::eventually;
use crate::case::{Case, Group, Outcome, Stop, fail, skip};
use crate::leftovers::Baseline;
use crate::trial::{Trial, alive, has_controller};
use crate::{ensure, equal, proc, sys};

use super::kills::{base_name, delete_everything};
use super::report;
use super::settings::Settings;

use tracer::{Disturbance, Fault, Role, Traced, Trouble};

/// What calls are made to fail with; EINTR has to be tried again, the others are final.
const ERRORS: [Errno; 6] = [Errno::EPERM, Errno::ENOMEM, Errno::EINTR, Errno::ENOSYS, Errno::EMFILE, Errno::ENOSPC];

/// How many failures of one case are told before it gives up.
const TOLD: usize = 25;

/// `force` is `delete --force` of a container without a PID namespace.
const VERBS: [&str; 11] =
    ["run", "create", "start", "exec", "kill", "delete", "force", "pause", "resume", "update", "state"];

/// The limit that `update` sets: the file and its value. It needs no controller, and so is there everywhere.
const UPDATED: (&str, &str) = ("cgroup.max.depth", "7");

/// Says what protects this process. A device that may not be made is bound from the host. Facts that differ
/// from run to run (namespace inodes, pids) are left out.
const WITNESS: &str = r#"
exec 2>/dev/null
grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Umask|Sig...):' /proc/self/status
cut -d' ' -f4- /proc/self/mountinfo | grep -v -e ' /dev/[a-z]* .* devtmpfs ' -e '^/xbt-null /dev/null '
for fd in 0 1 2 3 4 5 6 7 8 9 10 11 12; do test -e /proc/$$/fd/$fd && echo fd $fd; done
cat /proc/self/cgroup /proc/self/oom_score_adj
ulimit -n
hostname
for ns in mnt pid net ipc uts cgroup user; do
    case " $HOST_NS " in *" $(readlink /proc/self/ns/$ns) "*) echo $ns shared;; *) echo $ns own;; esac
done
touch /written && echo the root is writable
echo x >/proc/sys/kernel/domainname && echo /proc/sys is writable
test -n "$(head -c 1 /proc/kcore)" && echo /proc/kcore is there
mknod /dev/node c 1 11; (: </dev/node) && echo devices are free
mkdir /tmp/forbidden && echo the filter is gone
test $(cat /proc/self/attr/current 2>/dev/null | wc -c) -gt 1 && cat /proc/self/attr/current
true
"#;

pub fn cases() -> Vec<Case> {
    let mut group = Group::new("faults", "engine contract");
    for verb in VERBS {
        for userns in [false, true] {
            // Only what builds or joins a container differs with a user namespace.
            if userns && !matches!(verb, "run" | "create" | "start" | "exec") {
                continue;
            }
            let suffix = if userns { "_with_user_namespace" } else { "" };
            group.add(format!("{verb}{suffix}_meets_an_error_at_every_call"), move |t| {
                Bench::new(t, verb, userns)?.errors(t)
            });
            group
                .add(format!("{verb}{suffix}_is_killed_at_every_call"), move |t| Bench::new(t, verb, userns)?.kills(t));
            group.add(format!("{verb}{suffix}_meets_kernels_without_one_feature"), move |t| {
                features::without_each(Bench::new(t, verb, userns)?, t)
            });
        }
    }
    group.cases
}

/// One verb under test.
struct Bench {
    verb: &'static str,
    baseline: Baseline,
    /// What an undisturbed payload says.
    facts: String,
    /// Calls of the runtime and of its child when nothing disturbs them.
    calls: [usize; 2],
    attempts: usize,
    /// The system call that the last attempt disturbed.
    hit: Option<Sysno>,
}

/// What the attempts came to.
#[derive(Default)]
struct Tally {
    did_it: usize,
    said_no: usize,
    killed: usize,
    failures: Vec<String>,
}

impl Bench {
    fn new(t: &mut Trial, verb: &'static str, userns: bool) -> Outcome<Bench> {
        if !cfg!(target_arch = "x86_64") {
            return skip("sets registers of x86_64");
        }
        if userns {
            t.use_user_namespace()?;
        }
        configure(t)?;
        if verb == "force" {
            t.drop_namespace("pid");
        }
        fs::create_dir_all(&t.root)?;
        let baseline = Baseline::take(t.view, base_name(t));
        let mut bench = Bench { verb, baseline, facts: String::new(), calls: [0; 2], attempts: 0, hit: None };
        let traced = bench.attempt(t, None)?;
        ensure!(traced.hit.is_none(), "nothing was disturbed yet");
        bench.calls = traced.calls;
        if bench.has_payload() {
            for due in ["Seccomp:\t2", "NoNewPrivs:\t1", "mnt own", "fd 2"] {
                ensure!(bench.facts.contains(due), "the undisturbed payload does not say {due}: {}", bench.facts);
            }
            for undue in ["writable", "kcore is there", "devices are free", "filter is gone", "fd 3\n"] {
                ensure!(!bench.facts.contains(undue), "the undisturbed payload says {undue}: {}", bench.facts);
            }
        }
        Ok(bench)
    }

    fn has_payload(&self) -> bool {
        matches!(self.verb, "run" | "create" | "start" | "exec")
    }

    fn errors(self, t: &mut Trial) -> Outcome {
        self.everywhere(t, &ERRORS.map(Disturbance::Fail))
    }

    fn kills(self, t: &mut Trial) -> Outcome {
        let whom = [(true, false), (false, true), (true, true)];
        self.everywhere(t, &whom.map(|(runtime, child)| Disturbance::Kill { runtime, child }))
    }

    /// Every call of both processes, until one is not reached any more.
    fn everywhere(mut self, t: &mut Trial, disturbances: &[Disturbance]) -> Outcome {
        let settings = Settings::inherited()?;
        let count = disturbances.len().min(settings.each as usize);
        let mut tally = Tally::default();
        let chosen = settings.call.map(|call| call as usize);
        for role in [Role::Runtime, Role::Child] {
            let numbers = chosen.unwrap_or(0)..=chosen.unwrap_or(usize::MAX);
            // With fewer than there are, neighbours meet different ones.
            let mut faults = numbers.flat_map(|number| {
                let first = number + settings.seed as usize % disturbances.len();
                (first..first + count).map(move |index| (number, disturbances[index % disturbances.len()]))
            });
            while let Some((number, what)) = faults.next()
                && self.disturb(t, Fault { role, number, what }, &mut tally)?
            {}
        }
        self.conclude(&settings, tally)
    }

    fn conclude(&self, settings: &Settings, tally: Tally) -> Outcome {
        let Tally { did_it, said_no, killed, failures } = tally;
        report!(
            "{} calls of the runtime, {} of its child; seed {}: {} faults survived of {}: {did_it} times it did what it \
             promises, {said_no} times it said no in one line, {killed} times it was killed itself",
            self.calls[0],
            self.calls[1],
            settings.seed,
            did_it + said_no + killed,
            did_it + said_no + killed + failures.len(),
        );
        ensure!(failures.is_empty(), "{} faults:\n{}", failures.len(), failures.join("\n"));
        ensure!(did_it + said_no + killed > 0, "no call was reached");
        Ok(())
    }

    /// One attempt, counted; false when the call was not reached any more.
    fn disturb(&mut self, t: &mut Trial, fault: Fault, tally: &mut Tally) -> Outcome<bool> {
        let outcome = self.attempt(t, Some(Trouble::Once(fault)));
        match outcome {
            Ok(Traced { hit: None, .. }) => return Ok(false),
            Ok(traced) if traced.done.succeeded() => tally.did_it += 1,
            Ok(Traced { done, .. }) if done.code.is_some() => tally.said_no += 1,
            Ok(_) => tally.killed += 1,
            Err(Stop::Fail(message)) => {
                tally.failures.push(format!("{}: {message}", self.describe(fault)));
                // What this attempt left must not count against the next.
                let id = t.id.clone();
                t.call(&["delete", "--force", &id]).go()?;
            }
            Err(stop) => return Err(stop),
        }
        Ok(tally.failures.len() < TOLD)
    }

    fn describe(&self, fault: Fault) -> String {
        let call = self.hit.map_or("?", |call| call.name());
        format!("{}: call {} of {:?}, {call}, {:?}", self.verb, fault.number, fault.role, fault.what)
    }

    /// A container up to where the verb begins, the verb with the trouble, and the end of everything.
    fn attempt(&mut self, t: &mut Trial, trouble: Option<Trouble>) -> Outcome<Traced> {
        self.attempts += 1;
        t.switch_id(&format!("attempt-{}", self.attempts));
        let file = |t: &Trial, kind: &str| t.scratch.join(format!("facts.{kind}"));
        drop(fs::remove_file(file(t, "stdout")));
        let long = !matches!(self.verb, "run" | "create" | "start");
        t.sh(if long { "sleep 1000" } else { WITNESS });
        t.write_config()?;
        let joined = self.prepare(t)?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let resources = file(t, "resources").display().to_string();
        let words: Vec<&str> = match self.verb {
            "run" | "create" => vec![self.verb, "--bundle", &bundle, &id],
            "exec" => vec!["exec", &id, "/bin/sh", "-c", WITNESS],
            "kill" => vec!["kill", &id, "KILL"],
            "force" => vec!["delete", "--force", &id],
            "update" => vec!["update", "--resources", &resources, &id],
            _ => vec![self.verb, &id],
        };
        let mut call = t.call_after(tracer::WAIT_FOR_TRACER, &words);
        if let Some(Trouble::NoCall(number, errno)) = trouble {
            sys::deny_call(&mut call.command, number.id() as u32, errno);
        }
        let live = call.spawn()?;
        let stdout = live.stdout.clone();
        let mut traced = tracer::trace(&live, joined, trouble, &mut self.hit)?;
        if trouble.is_none() {
            traced.done = traced.done.ok()?;
        }
        let judged = self.judge(t, &mut traced, &stdout, trouble);
        let deleted = delete_everything(t, &self.baseline);
        judged?;
        deleted?;
        Ok(traced)
    }

    /// What has to be there before the verb; the child's pid where the verb lets it go on.
    fn prepare(&mut self, t: &mut Trial) -> Outcome<Option<i32>> {
        match self.verb {
            "run" | "create" => return Ok(None),
            "start" => {
                let words = ["create", "--bundle", &t.bundle.display().to_string(), &t.id.clone()].map(String::from);
                let live = t.call(&crate::trial::as_words(&words)).spawn()?;
                fs::write(t.scratch.join("created"), live.stdout.display().to_string())?;
                live.wait()?.ok()?;
                return Ok(Some(t.pid()?));
            }
            _ => t.create_started()?,
        }
        match self.verb {
            "delete" => {
                t.kill("KILL")?.ok()?;
                t.wait_for_status("stopped")?;
            }
            "resume" => {
                let id = t.id.clone();
                t.call(&["pause", &id]).go()?.ok()?;
            }
            "update" => {
                let mut limits = json!({"unified": {UPDATED.0: UPDATED.1}});
                // One more that is switched on in the cgroups above, where it can be.
                if has_controller("hugetlb") {
                    limits["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 4 << 20}]);
                }
                fs::write(t.scratch.join("facts.resources"), limits.to_string())?;
            }
            _ => {}
        }
        Ok(None)
    }

    fn judge(
        &mut self,
        t: &mut Trial,
        traced: &mut Traced,
        stdout: &std::path::Path,
        trouble: Option<Trouble>,
    ) -> Outcome {
        let killed = match trouble {
            Some(Trouble::Once(Fault { what: Disturbance::Kill { runtime, child }, .. })) => (runtime, child),
            _ => (false, false),
        };
        let done = traced.done.clone();
        let lines = done.stderr.lines().count();
        match (done.code, done.signal) {
            (Some(0), _) => {
                ensure!(!done.stderr.contains("xebec:"), "succeeded and complains: {}", done.stderr);
                self.judge_success(t, traced, stdout, trouble)
            }
            (Some(137), _) if lines == 0 && killed.1 => {
                // As a container that was killed the moment it began.
                self.judge_payload(t, traced, stdout, false)
            }
            (Some(_), _) => {
                let silenced = matches!(traced.hit, Some(Sysno::write | Sysno::writev));
                ensure!(lines == 1 || silenced && lines == 0, "{} and {lines} lines: {}", done.ending(), done.stderr);
                self.judge_payload(t, traced, stdout, false)
            }
            (None, Some(9)) if killed.0 => self.judge_payload(t, traced, stdout, false),
            // libc cannot go on without its thread pointer, and has no way to say so.
            (None, Some(11)) if traced.hit == Some(Sysno::arch_prctl) => Ok(()),
            _ => fail(format!("{}: {}", done.ending(), done.stderr)),
        }
    }

    /// The verb says that it has done its work: it has.
    fn judge_success(
        &mut self,
        t: &mut Trial,
        traced: &mut Traced,
        stdout: &std::path::Path,
        trouble: Option<Trouble>,
    ) -> Outcome {
        let limit = Duration::from_secs(3);
        match self.verb {
            "kill" => {
                let ended = eventually(limit, || Ok(t.status()? == "stopped"))?;
                ensure!(ended, "killed, says the runtime; it lives");
            }
            "delete" | "force" => {
                let left = self.baseline.compare(&t.root, std::slice::from_ref(&t.id));
                ensure!(left.is_empty(), "deleted, says the runtime: {}", left.join("; "));
            }
            "update" => {
                let directory = proc::cgroup_directory(t.pid()?, "")?.unwrap_or_default();
                equal!(fs::read_to_string(directory.join(UPDATED.0))?.trim(), UPDATED.1, "the limit after update");
            }
            "pause" => equal!(t.status()?, "paused", "status after pause"),
            "resume" => equal!(t.status()?, "running", "status after resume"),
            "state" => {
                let state: serde_json::Value = serde_json::from_str(&traced.done.stdout)?;
                equal!(state["status"], json!("running"), "what state says");
                ensure!(alive(&state["pid"]), "state names {}, which is not there", state["pid"]);
            }
            "create" => {
                let id = t.id.clone();
                let started = t.call(&["start", &id]).go()?;
                let lacking = matches!(trouble, Some(Trouble::NoCall(..) | Trouble::NoFile(_)));
                if (lacking || meant_for_child(trouble)) && !started.succeeded() {
                    // The child died behind create's back: a stopped container, and start says so. Or it
                    // has come to its last steps now, and cannot do them.
                    equal!(started.stderr.lines().count(), 1, "lines of start");
                    if lacking {
                        traced.done = started;
                    }
                    return Ok(());
                }
                started.ok()?;
                t.wait_for_end()?;
                return self.judge_facts(&fs::read_to_string(stdout)?, true);
            }
            _ => {}
        }
        // start has opened the gate; what dies behind it is a container that ended.
        let whole = !(self.verb == "start" && meant_for_child(trouble));
        self.judge_payload(t, traced, stdout, whole)
    }

    /// Whatever the verb says: a payload that ran was protected.
    fn judge_payload(&mut self, t: &mut Trial, traced: &Traced, stdout: &std::path::Path, whole: bool) -> Outcome {
        if !self.has_payload() || !traced.executed {
            ensure!(!(whole && self.has_payload()), "success, and no payload was executed");
            return Ok(());
        }
        match self.verb {
            "start" => {
                t.wait_for_end()?;
                let file = fs::read_to_string(t.scratch.join("created"))?;
                self.judge_facts(&fs::read_to_string(file)?, whole)
            }
            // Killed with its parent, perhaps in the middle of a line.
            _ => self.judge_facts(&fs::read_to_string(stdout)?, whole),
        }
    }

    fn judge_facts(&mut self, said: &str, whole: bool) -> Outcome {
        let said = blank(said, "attempt-");
        if self.facts.is_empty() {
            self.facts = said;
            return Ok(());
        }
        if said == self.facts || !whole && self.facts.starts_with(&said) {
            return Ok(());
        }
        fail(format!("the payload is not what it is without a fault: {}", difference(&self.facts, &said)))
    }
}

/// Was it the child that was hit?
fn meant_for_child(trouble: Option<Trouble>) -> bool {
    match trouble {
        Some(Trouble::Once(Fault { what: Disturbance::Kill { child, .. }, .. })) => child,
        Some(Trouble::Once(Fault { role, .. })) => role == Role::Child,
        _ => false,
    }
}

/// Without the number that follows `word`: ids differ from attempt to attempt.
fn blank(text: &str, word: &str) -> String {
    let mut parts = text.split(word);
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        whole += word;
        whole += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    whole
}

fn difference(expected: &str, found: &str) -> String {
    let counted = |text: &str| {
        let mut lines = BTreeMap::new();
        text.lines().for_each(|line| *lines.entry(line.to_string()).or_insert(0) += 1);
        lines
    };
    let (before, after) = (counted(expected), counted(found));
    let gone = before.iter().filter(|(line, _)| !after.contains_key(*line)).map(|(line, _)| format!("-{line}"));
    let new = after.iter().filter(|(line, _)| !before.contains_key(*line)).map(|(line, _)| format!("+{line}"));
    gone.chain(new).collect::<Vec<_>>().join(" | ")
}

/// A container with every kind of protection, each of which the witness can see.
fn configure(t: &mut Trial) -> Outcome {
    let own: Result<Vec<String>, std::io::Error> = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"]
        .iter()
        .map(|kind| Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?.display().to_string()))
        .collect();
    t.push("/process/env", json!("PATH=/bin"));
    t.push("/process/env", json!(format!("HOST_NS={}", own?.join(" "))));
    t.set("/root/readonly", json!(true));
    t.set("/process/noNewPrivileges", json!(true));
    t.set("/process/oomScoreAdj", json!(100));
    t.set("/process/user/umask", json!(0o27));
    t.set("/process/user/additionalGids", json!([5, 7]));
    t.capabilities(&["CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN"]);
    t.mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"]);
    let source = t.scratch.join("source");
    fs::create_dir_all(&source)?;
    t.mount("/mnt", "bind", &source, &["rbind", "rro", "nosuid"]);
    t.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}),
    );
    Ok(())
}
