//! PLAN of `exec`: the steps of a further process in a container that runs.
//!
//! Pure, as the rest of the plan; shares with `create` everything that a process has of its own.

use std::sync::OnceLock;

use xebec_seccomp::Filter;

use crate::cgroup::{CgroupPath, CgroupPlan, DeviceFilter};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::Host;

use super::step::{CpuMask, Step};
use super::{HookPlan, Namespaces, Plan, cstring, devices, identity, seccomp};

/// How the process gets into the container: facts about the two, found by `exec`.
#[derive(Debug)]
pub struct Entry<'e> {
    /// The container's id.
    pub id: &'e str,
    /// `CLONE_NEW*` of the namespaces that the child enters.
    pub namespaces: u64,
    /// There is a user namespace: root in it has an id of its own.
    pub become_root: bool,
    /// The parent is in that user namespace before it clones: /proc/self is closed to what it clones there.
    pub joined_user_by_parent: bool,
    /// The container has no mount namespace: its init has but changed its root.
    pub chroot: bool,
    /// The parent moves the child into cgroup v1 hierarchies after clone3.
    pub placed_late: bool,
    /// The container was created with --no-new-keyring.
    pub no_new_keyring: bool,
}

/// All that `exec` will do.
#[derive(Debug)]
pub struct ExecPlan {
    pub plan: Plan,
    /// Where the runtime itself is to run before it clones (config.md, `execCPUAffinity.initial`).
    pub initial: Option<CpuMask>,
}

/// Plans `exec` of `config.process`, which the request has decided. The config's seccomp
/// profile comes compiled.
pub fn plan_exec(
    config: &Config<'_>,
    seccomp: Option<Filter>,
    namespaces: &Namespaces,
    entry: &Entry<'_>,
    host: &Host,
) -> Result<ExecPlan> {
    let process = config.process.as_ref().ok_or_else(|| Error::invalid("exec", "there is no process to execute"))?;
    let mut warnings = Vec::new();
    let (initial, affinity) = plan_affinity(process)?;
    let mut steps = Vec::with_capacity(32);
    let score = process.oom_score_adj;
    if let Some(score) = score.filter(|_| !entry.joined_user_by_parent) {
        steps.push(Step::OomScoreAdj(cstring("process.oomScoreAdj", &score.to_string())?));
    }
    steps.push(Step::Undumpable);
    steps.push(Step::JoinContainer { namespaces: entry.namespaces, become_root: entry.become_root });
    if entry.chroot {
        steps.push(Step::Chroot);
    }
    steps.push(Step::Session);
    if !entry.no_new_keyring {
        steps.push(Step::Keyring(cstring("id", &format!("_ses.{}", entry.id))?));
    }
    if process.terminal {
        if !entry.chroot {
            steps.push(Step::RootDirectory(c"/".to_owned()));
        }
        steps.push(devices::plan_console(process, false));
    }
    steps.extend(affinity.map(Step::Affinity));
    super::process(&mut steps, config, host, namespaces, &mut warnings)?;
    if entry.placed_late {
        steps.push(Step::AwaitPlacement);
    }
    steps.push(Step::Outlive);
    super::last_mile(&mut steps, config);
    let plan = Plan {
        verb: "exec",
        namespaces: Namespaces::default(),
        cgroup: no_cgroup(entry.id)?,
        steps,
        // `exec` itself knows when its child may.
        own_memory: true,
        map_writers: Default::default(),
        oom_score_adj: score.filter(|_| entry.joined_user_by_parent),
        net_devices: Vec::new(),
        hooks: HookPlan::default(),
        exec: super::plan_exec(config)?,
        listener: seccomp::plan_listener(config, seccomp.as_ref().is_some_and(|filter| filter.uses_notify))?,
        seccomp: seccomp.map_or_else(OnceLock::new, OnceLock::from),
        resctrl: None,
        rootfs: String::new(),
        terminal: process.terminal,
        warnings,
    };
    Ok(ExecPlan { plan, initial })
}

/// Nothing is made: the process joins what is there.
fn no_cgroup(id: &str) -> Result<CgroupPlan> {
    Ok(CgroupPlan {
        unit: None,
        path: CgroupPath::plan(None, id, None)?,
        hierarchies: Vec::new(),
        devices: DeviceFilter::None,
        owner: None,
        delegate: None,
        warnings: Vec::new(),
    })
}

/// `execCPUAffinity`: the runtime's CPUs before the clone, the process's after it.
///
/// Where only the first is given, the second is all that the container's cpuset has:
/// the kernel cuts the full mask down to it.
fn plan_affinity(process: &crate::config::Process<'_>) -> Result<(Option<CpuMask>, Option<CpuMask>)> {
    let Some(affinity) = &process.exec_cpu_affinity else { return Ok((None, None)) };
    let mask = |name: &str, list: Option<&str>| match list.filter(|list| !list.trim().is_empty()) {
        Some(list) => identity::plan_cpus(&format!("process.execCPUAffinity.{name}"), list).map(Some),
        None => Ok(None),
    };
    let initial = mask("initial", affinity.initial.as_deref())?;
    let last = mask("final", affinity.final_.as_deref())?;
    let last = match (&initial, last) {
        (Some(_), None) => Some(Box::new([u64::MAX; 128])),
        (_, last) => last,
    };
    Ok((initial, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::namespaces::plan_namespaces;

    fn steps(process: &str, entry: &Entry<'_>) -> Vec<String> {
        let text = format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"process":{process}}}"#);
        let config = crate::config::parse_config("c", &text).expect("a config");
        let host = Host::default();
        host.capabilities.set(u64::MAX).expect("unset");
        let planned = plan_exec(&config, None, &plan_namespaces(&config).expect("none"), entry, &host).expect("a plan");
        planned.plan.steps.iter().map(|step| step.act(&planned.plan)).collect()
    }

    const ENTRY: Entry<'static> = Entry {
        id: "c",
        namespaces: 0x2_0000,
        become_root: false,
        chroot: false,
        joined_user_by_parent: false,
        placed_late: false,
        no_new_keyring: false,
    };

    #[test]
    fn the_child_is_undumpable_before_it_joins_and_outlives_us_only_at_the_end() {
        let steps = steps(r#"{"cwd":"/","args":["a"],"env":["HOME=/"]}"#, &ENTRY);
        assert!(steps[0].contains("DUMPABLE") && steps[1].contains("setns"), "{steps:?}");
        let at = |word: &str| steps.iter().position(|step| step.contains(word)).unwrap_or(usize::MAX);
        assert!(at("become") < at("getcwd") && at("getcwd") < at("PDEATHSIG"), "{steps:?}");
        assert!(at("PDEATHSIG") < at("close all") && at("close all") < at("execve"), "{steps:?}");
    }

    #[test]
    fn an_initial_affinity_alone_ends_with_the_clone() {
        let process = |json: &str| -> (Option<CpuMask>, Option<CpuMask>) {
            let text = format!(r#"{{"cwd":"/","execCPUAffinity":{json}}}"#);
            plan_affinity(&serde_json::from_str(&text).expect("a process")).expect("masks")
        };
        let (initial, last) = process(r#"{"initial":"0-1,64"}"#);
        assert_eq!(initial.expect("given")[..2], [3, 1]);
        assert_eq!(last.expect("all of them")[..], [u64::MAX; 128]);
        let (initial, last) = process(r#"{"final":"2"}"#);
        assert_eq!((initial, last.expect("given")[0]), (None, 4));
        assert_eq!(process("{}"), (None, None));
    }
}
