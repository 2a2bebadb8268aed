//! PLAN: a pure function of Config and host facts to an ordered list of steps.
//!
//! Everything is decided here and nothing is done: no system call. The parent's
//! part lies in the fields of [`Plan`], the child's in `Plan::steps`, in the
//! order of execution; `text` prints both.

mod devices;
pub mod exec;
#[cfg(test)]
mod golden;
mod hooks;
mod identity;
mod mounts;
mod namespaces;
pub mod notify;
mod resctrl;
mod seccomp;
pub mod step;
mod text;

use std::ffi::CString;
use std::sync::OnceLock;

use crate::cgroup::{CgroupPlan, Driver, Layout, Options, plan_cgroup, probe_own_cgroup, probe_user_manager};
use crate::config::words::KEEP_ORIGINAL_GROUPS;
use crate::config::{Config, Text};
use crate::error::{Error, Result};
use crate::host::Host;

pub use hooks::{HookOutput, HookPlan, HookStep, plan_hook, plan_output};
pub use namespaces::{IdMaps, Join, MapWriter, Namespaces, NetworkMaker, plan_namespaces};
pub use resctrl::Resctrl;
pub use seccomp::{Listener, plan_seccomp};
use step::{MountWhat, Step};

/// Joins namespaces, clones mounts.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// What the caller of `create` asks for besides the config.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The container's id, validated.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: String,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// The runtime has no rights outside its own user namespace.
    pub rootless: bool,
    /// The host directory of the socket where the container says READY=1.
    pub notify: Option<String>,
    /// `--cgroup-manager`.
    pub cgroup_driver: Driver,
    /// The caller adds the seccomp filter itself where the child works in its memory ([`Plan::add_filter`]): compiling
    /// one takes a while, in which the child can build.
    pub filter_later: bool,
}

/// All that `create` will do.
#[derive(Debug)]
pub struct Plan {
    /// Whose plan it is, for errors that are about no config item: `create` or `exec`.
    pub verb: &'static str,
    pub namespaces: Namespaces,
    pub cgroup: CgroupPlan,
    /// The child's acts, in order.
    pub steps: Vec<Step>,
    /// The container's first process may not work in the runtime's memory.
    pub own_memory: bool,
    /// Who writes init's uid_map, and who its gid_map.
    pub map_writers: (MapWriter, MapWriter),
    /// What the parent writes to init's oom_score_adj, where init itself cannot.
    pub oom_score_adj: Option<i32>,
    /// Host interfaces to move into the container's network namespace, with their names there.
    pub net_devices: Vec<(String, String)>,
    pub resctrl: Option<Resctrl>,
    pub hooks: HookPlan,
    pub exec: Exec,
    /// What [`Step::Seccomp`] loads.
    pub seccomp: OnceLock<xebec_seccomp::Filter>,
    /// Who answers its notifications.
    pub listener: Option<Listener>,
    /// The absolute path of the root file system.
    pub rootfs: String,
    pub terminal: bool,
    /// What could not be had and is not an error, each a line for the log.
    pub warnings: Vec<String>,
}

/// What the container executes.
#[derive(Debug)]
pub struct Exec {
    pub args: Vec<CString>,
    pub env: Vec<CString>,
    /// Where args\[0\] may be, in the order of $PATH.
    pub candidates: Vec<CString>,
}

/// A C string of a config value; an inner NUL is an error that names the item.
pub(crate) fn cstring(item: &str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(item, format!("{text:?} contains a NUL byte")))
}

/// Plans `create` for a checked config.
pub fn plan(config: &Config<'_>, request: &Request, host: &Host) -> Result<Plan> {
    let mut warnings = Vec::new();
    let mut namespaces = namespaces::plan_namespaces(config)?;
    if namespaces.is_new("user") && host.capabilities(CAP_SYS_ADMIN)? != 0 {
        namespaces.join_before_new_user();
    }
    let layout = host.cgroups()?;
    namespaces.small_mounts =
        namespaces::can_leave_host(config, request, &namespaces, layout)? && host.has_mountns()?;
    let (rootless, driver) = (request.rootless, request.cgroup_driver);
    let (own_cgroup, manager_cgroup) = match driver {
        Driver::Systemd if rootless => (None, Some(probe_user_manager()?)),
        Driver::Cgroupfs if rootless => (probe_own_cgroup()?, None),
        _ => (None, None),
    };
    let options =
        Options { rootless, driver, own_cgroup: own_cgroup.as_deref(), manager_cgroup: manager_cgroup.as_deref() };
    let cgroup = plan_cgroup(&request.id, config, layout, &options)?;
    warnings.extend(cgroup.warnings.iter().cloned());
    let root = config.root.as_ref().ok_or_else(|| Error::invalid("root", "required: the root file system"))?;
    let rootfs = match root.path.starts_with('/') {
        true => root.path.to_string(),
        false => format!("{}/{}", request.bundle, root.path),
    };
    let hooks = hooks::plan_hooks(config)?;
    let mut exec = plan_exec(config)?;
    if request.notify.is_some() {
        notify::set_env(&mut exec.env);
    }
    let map_writers = namespaces.map_writers(host)?;
    let listener = seccomp::plan_listener(config, config.linux.seccomp.as_ref().is_some_and(|p| p.uses_notify()))?;
    let own_memory = listener.is_some() || namespaces::need_own_memory(config, &namespaces);
    let parts = Parts { config, request, host, namespaces: &namespaces, cgroup: &cgroup, hooks: &hooks };
    let steps = child_steps(&parts, &rootfs, &mut warnings)?;
    let score = config.process.as_ref().and_then(|p| p.oom_score_adj);
    let plan = Plan {
        verb: "create",
        oom_score_adj: score.filter(|_| namespaces.oom_score_by_parent(host)),
        namespaces,
        cgroup,
        steps,
        own_memory,
        map_writers,
        net_devices: net_devices(config),
        resctrl: resctrl::plan_resctrl(config, &request.id),
        hooks,
        exec,
        listener,
        seccomp: OnceLock::new(),
        rootfs,
        terminal: config.process.as_ref().is_some_and(|p| p.terminal),
        warnings,
    };
    if own_memory || !request.filter_later {
        plan.add_filter(config)?;
    }
    Ok(plan)
}

impl Plan {
    /// Compiles the profile, unless that is done.
    pub fn add_filter(&self, config: &Config<'_>) -> Result<()> {
        if self.seccomp.get().is_none()
            && let Some(filter) = plan_seccomp(config)?
        {
            // Nobody else does: a plan is one caller's.
            self.seccomp.set(filter).ok();
        }
        Ok(())
    }

    /// What could not be had and is not an error, what the filter leaves out included.
    #[must_use]
    pub fn all_warnings(&self) -> Vec<String> {
        let of_filter = self.seccomp.get().into_iter().flat_map(|filter| &filter.warnings);
        self.warnings.iter().cloned().chain(of_filter.map(|warning| format!("linux.seccomp{warning}"))).collect()
    }
}

/// What the child's steps are made from.
struct Parts<'p> {
    config: &'p Config<'p>,
    request: &'p Request,
    host: &'p Host,
    namespaces: &'p Namespaces,
    cgroup: &'p CgroupPlan,
    hooks: &'p HookPlan,
}

/// The child's story, in order.
fn child_steps(parts: &Parts<'_>, rootfs: &str, warnings: &mut Vec<String>) -> Result<Vec<Step>> {
    let Parts { config, request, host, namespaces, hooks, cgroup } = *parts;
    let mut steps = Vec::with_capacity(64);
    let has_v1 = cgroup.hierarchies.iter().any(|h| !h.v1.is_empty());
    let placed_late = namespaces.joins_user() || has_v1 || cgroup.unit.is_some();
    let score_by_parent = namespaces.oom_score_by_parent(host);
    namespaces::enter(&mut steps, config, request, namespaces, placed_late, score_by_parent)?;
    file_system(&mut steps, parts, rootfs)?;
    if !hooks.runtime.is_empty() {
        // Nobody but the hooks can see a process in namespaces that are all new.
        let dumpable = namespaces.is_new("user") && namespaces.is_new("pid");
        steps.push(Step::RuntimeHooks { dumpable });
    }
    steps.extend((0..hooks.create_container.len()).map(Step::CreateContainerHook));
    seal(&mut steps, config, request, namespaces)?;
    process(&mut steps, config, host, namespaces, warnings)?;
    steps.push(Step::Ready);
    steps.extend((0..hooks.start_container.len()).map(Step::StartContainerHook));
    last_mile(&mut steps, config);
    Ok(steps)
}

/// What comes last, because nothing of ours could be done after it.
fn last_mile(steps: &mut Vec<Step>, config: &Config<'_>) {
    steps.push(Step::CloseFiles);
    if config.linux.seccomp.is_some() {
        steps.push(Step::Seccomp);
    }
    steps.push(Step::Exec);
}

/// Root, mounts, devices and what is written while all of it is still writable.
fn file_system(steps: &mut Vec<Step>, parts: &Parts<'_>, rootfs: &str) -> Result<()> {
    let Parts { config, request, host, namespaces, cgroup, .. } = *parts;
    namespaces::isolate_mounts(steps, config, namespaces, rootfs)?;
    let basename = |mount: &str| mount.rsplit('/').next().unwrap_or(mount).to_owned();
    let v1 = cgroup.hierarchies.iter().filter(|hierarchy| !hierarchy.v1.is_empty());
    let context = mounts::MountContext {
        bundle: &request.bundle,
        namespaces,
        rootless: request.rootless,
        parent_binds: namespaces.small_mounts
            || namespaces.has("user") && namespaces.is_new("mount") && host.capabilities(CAP_SYS_ADMIN)? != 0,
        cgroup_v2: match host.cgroups()? {
            Layout::V2 { mount } => Some(mount),
            Layout::Hybrid { .. } => None,
        },
        cgroup_v1: v1.map(|h| (basename(&h.mount), cgroup.path.at(&h.mount))).collect(),
        cgroup_optional: cgroup.hierarchies.iter().any(|h| h.may_be_missing),
        label: mount_label(config, host)?,
    };
    let mut trees = 0;
    let mut network = namespaces.network != NetworkMaker::Clone;
    for (index, mount) in config.mounts.iter().enumerate() {
        let mut step = mounts::plan_mount(index, mount, &context)?;
        if network && mounts::may_show_network(&step.what) {
            steps.push(Step::Network);
            network = false;
        }
        if let MountWhat::Tree(tree) = &mut step.what {
            tree.slot = trees;
            trees += 1;
        }
        steps.push(Step::Mount(Box::new(step)));
    }
    if let Some(source) = &request.notify {
        steps.push(Step::Mount(Box::new(notify::plan_mount(source)?)));
    }
    if network {
        steps.push(Step::Network);
    }
    if let Some(process) = &config.process {
        steps.push(Step::WorkingDirectory(cstring("process.cwd", &process.cwd)?));
    }
    devices::plan_devices(steps, config, !(request.rootless || namespaces.has("user")))?;
    for (name, value) in &config.linux.sysctl {
        let item = format!("linux.sysctl {name}");
        let path = if name.contains('/') { name.to_string() } else { name.replace('.', "/") };
        steps.push(Step::Sysctl {
            name: name.to_string(),
            path: cstring(&item, &format!("sys/{path}"))?,
            value: cstring(&item, value)?,
        });
    }
    Ok(())
}

/// What makes the root final: late attributes, masks, the switch of roots.
fn seal(steps: &mut Vec<Step>, config: &Config<'_>, request: &Request, namespaces: &Namespaces) -> Result<()> {
    let late = |step: &Step| match step {
        Step::Mount(mount) if mount.late_readonly => mount.index.map(|index| (index, mount.destination.clone())),
        _ => None,
    };
    let late: Vec<_> = steps.iter().filter_map(late).collect();
    for (slot, (mount, path)) in late.into_iter().enumerate() {
        steps.push(Step::LateReadonly { mount, path, slot });
    }
    for (index, path) in config.linux.readonly_paths.iter().enumerate() {
        let path = mounts::in_root(&format!("linux.readonlyPaths[{index}]"), path)?;
        steps.push(Step::ReadonlyPath { index, path });
    }
    for (index, path) in config.linux.masked_paths.iter().enumerate() {
        let path = mounts::in_root(&format!("linux.maskedPaths[{index}]"), path)?;
        steps.push(Step::MaskedPath { index, path });
    }
    if config.root.as_ref().is_some_and(|root| root.readonly) {
        steps.push(Step::RootReadonly);
    }
    namespaces::change_root(steps, config, request, namespaces)
}

/// The process's own properties, in the order that lets the earlier ones keep their rights.
fn process(
    steps: &mut Vec<Step>,
    config: &Config<'_>,
    host: &Host,
    namespaces: &Namespaces,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let Some(process) = &config.process else { return Ok(()) };
    labels(steps, process, host)?;
    steps.push(Step::DropHandles);
    if let Some(policy) = &config.linux.memory_policy {
        steps.push(identity::plan_memory_policy(policy)?);
    }
    if let Some(scheduler) = &process.scheduler {
        steps.push(identity::plan_scheduler(scheduler)?);
    }
    if let Some(priority) = &process.io_priority {
        steps.push(identity::plan_io_priority(priority)?);
    }
    if let Some(personality) = &config.linux.personality {
        steps.push(identity::plan_personality(personality)?);
    }
    for (index, rlimit) in process.rlimits.iter().enumerate() {
        steps.push(identity::plan_rlimit(index, rlimit)?);
    }
    steps.push(Step::StdioOwner { uid: process.user.uid });
    steps.push(Step::Umask(process.user.umask));
    let grantable = match namespaces.has("user") {
        true => u64::MAX,
        false => host.capabilities(identity::named_capabilities(process))?,
    };
    let mut credentials = identity::plan_credentials(process, grantable, warnings);
    let keep_groups = config.annotations.get(&KEEP_ORIGINAL_GROUPS.into()).is_some_and(|value| &**value == "1");
    if keep_groups {
        credentials.groups = None;
    } else if namespaces.map_writers(host)?.1 == MapWriter::WithoutSetgroups {
        if !process.user.additional_gids.is_empty() {
            return Err(Error::invalid(
                "process.user.additionalGids",
                "an ordinary user who maps only the own group may not set groups",
            )
            .hint("leave additionalGids out, or map subordinate gids (subgid(5))"));
        }
        credentials.groups = None;
    }
    if config.linux.seccomp.is_some() && !process.no_new_privileges {
        seccomp::keep_right_to_load(&mut credentials);
    }
    steps.push(Step::Chdir(cstring("process.cwd", &process.cwd)?));
    steps.push(Step::User(Box::new(credentials)));
    steps.push(Step::CheckDirectory(cstring("process.cwd", &process.cwd)?));
    if process.no_new_privileges {
        steps.push(Step::NoNewPrivileges);
    }
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        steps.push(Step::Home { uid: process.user.uid });
    }
    steps.push(Step::FindProgram);
    Ok(())
}

fn mount_label<'c>(config: &'c Config<'_>, host: &Host) -> Result<Option<&'c str>> {
    match config.linux.mount_label.as_deref().filter(|label| !label.is_empty()) {
        Some(label) if !host.selinux() => {
            Err(Error::invalid("linux.mountLabel", format!("{label:?} is asked for, but SELinux is not active"))
                .hint("boot with SELinux enabled, or leave the label out"))
        }
        label => Ok(label),
    }
}

fn labels(steps: &mut Vec<Step>, process: &crate::config::Process<'_>, host: &Host) -> Result<()> {
    if let Some(profile) = process.apparmor_profile.as_deref().filter(|p| !p.is_empty()) {
        if !host.apparmor() {
            return Err(Error::invalid(
                "process.apparmorProfile",
                format!("{profile:?} is asked for, but AppArmor is not active"),
            )
            .hint("boot with AppArmor enabled, or leave the profile out"));
        }
        let label = cstring("process.apparmorProfile", &format!("exec {profile}"))?;
        steps.push(Step::ExecLabel { apparmor: true, label });
    }
    if let Some(label) = process.selinux_label.as_deref().filter(|l| !l.is_empty()) {
        if !host.selinux() {
            return Err(Error::invalid(
                "process.selinuxLabel",
                format!("{label:?} is asked for, but SELinux is not active"),
            )
            .hint("boot with SELinux enabled, or leave the label out"));
        }
        steps.push(Step::ExecLabel { apparmor: false, label: cstring("process.selinuxLabel", label)? });
    }
    Ok(())
}

/// The places where execvp(3) would look for args[0].
fn plan_exec(config: &Config<'_>) -> Result<Exec> {
    let Some(process) = &config.process else {
        return Ok(Exec { args: Vec::new(), env: Vec::new(), candidates: Vec::new() });
    };
    let strings = |item: &str, list: &[Text<'_>]| -> Result<Vec<CString>> {
        list.iter().enumerate().map(|(i, s)| cstring(&format!("{item}[{i}]"), s)).collect()
    };
    let args = strings("process.args", &process.args)?;
    let program = process.args.first().map_or("", |arg| &**arg);
    let candidates = if program.contains('/') {
        vec![cstring("process.args[0]", program)?]
    } else {
        let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        let path = path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let join = |dir: &str| if dir.is_empty() { format!("./{program}") } else { format!("{dir}/{program}") };
        path.split(':').map(|dir| cstring("process.args[0]", &join(dir))).collect::<Result<_>>()?
    };
    Ok(Exec { args, env: strings("process.env", &process.env)?, candidates })
}

fn net_devices(config: &Config<'_>) -> Vec<(String, String)> {
    let named = |(host, device): (&Text<'_>, &crate::config::NetDevice<'_>)| {
        let inside = device.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        (host.to_string(), inside.to_owned())
    };
    config.linux.net_devices.iter().map(named).collect()
}
