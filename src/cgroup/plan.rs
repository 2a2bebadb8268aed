//! PLAN of the cgroup: config and layout to directories, values and a device filter.
//!
//! Pure. `create` does what is written here, in this order; `xebec plan` prints it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::devices::{self, Rule};
use super::layout::{Hierarchy, Layout};
use super::path::CgroupPath;
use super::values::{Write, Writes};
use super::{v1, v2};
use crate::config::{Config, Resources};
use crate::error::{Error, Result};
use crate::sys::bpf::Insn;

/// What the caller knows and the config does not say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The runtime has no rights outside its own user namespace: a cgroup nobody
    /// asked for may be missing, and so may the device filter.
    pub rootless: bool,
    /// `--cgroup-manager disabled`: stay in the caller's cgroup.
    pub disabled: bool,
    /// The runtime's own cgroup ([`super::probe_own_cgroup`]), for `rootless`.
    pub own_cgroup: Option<&'a str>,
}

/// All that will be done about one container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPlan {
    /// Where, in every hierarchy.
    pub path: CgroupPath,
    /// The directories, v1 hierarchies first. Empty: no cgroup at all.
    pub hierarchies: Vec<HierarchyPlan>,
    /// The device filter on cgroup v2. On v1 it is among the writes.
    pub devices: DeviceFilter,
    /// The host user who gets the cgroup (config-linux.md, "Cgroup ownership").
    pub owner: Option<u32>,
    /// Run without a cgroup where none may be made: rootless, no path, no limit.
    pub may_run_without: bool,
    /// Values without effect; for the log.
    pub warnings: Vec<String>,
}

/// One directory and what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HierarchyPlan {
    /// The mount point.
    pub mount: String,
    /// The controllers of a v1 hierarchy; empty for cgroup v2.
    pub v1: Vec<String>,
    /// The values.
    pub writes: Writes,
}

/// The device filter of cgroup v2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceFilter {
    /// Nothing to filter, or v1 filters.
    None,
    /// A program to attach.
    Program {
        /// The instructions.
        program: Vec<Insn>,
        /// Its name in bpffs, from a hash of the instructions.
        pin: String,
        /// Rootless: go on where the kernel refuses the program, as runc does. Such a
        /// runtime can neither mknod nor open what its user could not.
        may_be_missing: bool,
    },
}

/// Plans the cgroup of container `id`.
///
/// Errors: a value that is not valid, or a limit whose controller `layout` shows to
/// be nowhere. On cgroup v2 controllers are known only to `create`.
pub fn plan_cgroup(id: &str, config: &Config<'_>, layout: &Layout, options: &Options<'_>) -> Result<CgroupPlan> {
    let base = options.own_cgroup.filter(|_| options.rootless);
    let configured = config.linux.cgroups_path.as_deref();
    let mut plan = CgroupPlan {
        path: CgroupPath::plan(configured, id, base)?,
        hierarchies: Vec::new(),
        devices: DeviceFilter::None,
        owner: plan_owner(config),
        may_run_without: false,
        warnings: Vec::new(),
    };
    let none = Resources::default();
    let resources = config.linux.resources.as_ref().unwrap_or(&none);
    let rules = devices::plan_rules(&resources.devices)?;
    if options.disabled {
        return Ok(plan);
    }
    match layout {
        Layout::V2 { mount } => plan_v2(&mut plan, mount, &[], resources)?,
        Layout::Hybrid { v1, v2 } => plan_hybrid(&mut plan, v1, v2.as_deref(), resources, options.rootless)?,
    }
    plan_devices(&mut plan, &rules, options.rootless)?;
    let limits = plan.hierarchies.iter().any(|h| !h.writes.needs().is_empty()) || !resources.unified.is_empty();
    plan.may_run_without = options.rootless && configured.is_none_or(str::is_empty) && !limits;
    Ok(plan)
}

/// The values that go to cgroup v2: those whose controller no v1 hierarchy has.
fn plan_v2(plan: &mut CgroupPlan, mount: &str, v1: &[Hierarchy], resources: &Resources<'_>) -> Result<()> {
    let mut writes = Writes::default();
    v2::plan_writes(resources, &|controller| !has_v1(v1, controller), &mut writes)?;
    // Wanted for stats, OOM events and later updates, whatever the config limits.
    for controller in ["memory", "pids"] {
        if !has_v1(v1, controller) {
            writes.want(controller);
        }
    }
    v2::plan_unified(resources, &mut writes)?;
    if v1.is_empty() && resources.network.as_ref().is_some_and(|n| n.class_id.is_some() || !n.priorities.is_empty()) {
        writes.warn("linux.resources.network has no effect on cgroup v2");
    }
    plan.warnings.append(&mut writes.warnings);
    plan.hierarchies.push(HierarchyPlan { mount: mount.to_owned(), v1: Vec::new(), writes });
    Ok(())
}

fn plan_hybrid(
    plan: &mut CgroupPlan,
    v1: &[Hierarchy],
    v2: Option<&str>,
    resources: &Resources<'_>,
    rootless: bool,
) -> Result<()> {
    for hierarchy in v1 {
        let mut writes = Writes::default();
        for controller in &hierarchy.controllers {
            v1::plan_writes(controller, resources, &mut writes)?;
        }
        plan.warnings.append(&mut writes.warnings);
        let (mount, controllers) = (hierarchy.mount.clone(), hierarchy.controllers.clone());
        plan.hierarchies.push(HierarchyPlan { mount, v1: controllers, writes });
    }
    for controller in ["net_cls", "net_prio"] {
        let mut writes = Writes::default();
        v1::plan_writes(controller, resources, &mut writes)?;
        if !has_v1(v1, controller) {
            refuse_missing(&writes)?;
        }
    }
    match v2 {
        Some(mount) => plan_v2(plan, mount, v1, resources)?,
        None => {
            let mut writes = Writes::default();
            v2::plan_writes(resources, &|controller| !has_v1(v1, controller), &mut writes)?;
            refuse_missing(&writes)?;
            if let Some(key) = resources.unified.keys().next() {
                let item = format!("linux.resources.unified.{key}");
                return Err(Error::invalid(item, "this host mounts no cgroup v2"));
            }
            if v1.is_empty() && !rootless {
                return Err(Error::invalid("cgroup", "this host mounts no cgroups")
                    .hint("mount cgroup2 on /sys/fs/cgroup, or run with --cgroup-manager disabled"));
            }
        }
    }
    Ok(())
}

/// A limit whose controller is nowhere is an error; no limit is not.
fn refuse_missing(writes: &Writes) -> Result<()> {
    match writes.list.iter().find(|write| !write.harmless) {
        Some(write) => Err(Error::invalid(&write.item, format!("this host has no {} controller", write.controller))),
        None => Ok(()),
    }
}

/// Is `controller`, in cgroup v2's words, in a v1 hierarchy?
fn has_v1(v1: &[Hierarchy], controller: &str) -> bool {
    let name = if controller == "io" { "blkio" } else { controller };
    v1.iter().any(|hierarchy| hierarchy.controllers.iter().any(|c| c == name))
}

fn plan_devices(plan: &mut CgroupPlan, rules: &[Rule], rootless: bool) -> Result<()> {
    if let Some(v1) = plan.hierarchies.iter_mut().find(|h| h.v1.iter().any(|c| c == "devices")) {
        for (file, line) in devices::v1_lines(&devices::exceptions(rules)?) {
            v1.writes.push(Write::new("linux.resources.devices", "devices", file, line));
        }
    } else if devices::allow_all(rules) {
        plan.devices = DeviceFilter::None;
    } else if plan.hierarchies.iter().any(|h| h.v1.is_empty()) {
        let program = devices::compile(rules);
        let pin = pin_name(&program);
        plan.devices = DeviceFilter::Program { program, pin, may_be_missing: rootless };
    } else if !rootless {
        return Err(Error::invalid("linux.resources.devices", "this host can filter devices neither by v1 nor by v2"));
    }
    Ok(())
}

/// A name for a program in bpffs: 128 bits over its instructions. The name guards
/// against accidents only; the directory is writable for its owner alone.
fn pin_name(program: &[Insn]) -> String {
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        program.len().hash(&mut hasher);
        for insn in program {
            (insn.code, insn.regs, insn.off, insn.imm).hash(&mut hasher);
        }
        hasher.finish()
    };
    format!("devices-{:016x}{:016x}", half(1), half(2))
}

/// The host user who gets the cgroup: the container's root, when the container has a
/// user and a cgroup namespace of its own and a writable cgroup mount.
fn plan_owner(config: &Config<'_>) -> Option<u32> {
    let own = |kind: &str| config.linux.namespaces.iter().any(|ns| &*ns.kind == kind && ns.path.is_none());
    let writable = config.mounts.iter().any(|mount| {
        mount.kind.as_deref() == Some("cgroup")
            && &*mount.destination == "/sys/fs/cgroup"
            && !mount.options.iter().any(|option| &**option == "ro")
    });
    if !own("user") || !own("cgroup") || !writable {
        return None;
    }
    let uid = config.process.as_ref().map_or(0, |process| process.user.uid);
    let map =
        config.linux.uid_mappings.iter().find(|map| uid.checked_sub(map.container_id).is_some_and(|n| n < map.size))?;
    map.host_id.checked_add(uid - map.container_id)
}

impl fmt::Display for CgroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hierarchies.is_empty() {
            return writeln!(f, "cgroup: none");
        }
        for hierarchy in &self.hierarchies {
            let kind = if hierarchy.v1.is_empty() { "v2".to_owned() } else { hierarchy.v1.join(",") };
            writeln!(f, "cgroup {} ({kind})", self.path.at(&hierarchy.mount))?;
            if hierarchy.v1.is_empty() {
                let (needs, wants) = (hierarchy.writes.needs().join(" "), hierarchy.writes.wants.join(" "));
                writeln!(f, "  controllers: needs [{needs}], wants [{wants}]")?;
            }
            for write in &hierarchy.writes.list {
                writeln!(f, "  {write}")?;
            }
        }
        if let DeviceFilter::Program { program, pin, .. } = &self.devices {
            writeln!(f, "  device program of {} instructions, {pin}", program.len())?;
        }
        if let Some(owner) = self.owner {
            writeln!(f, "  owner: host user {owner}")?;
        }
        self.warnings.iter().try_for_each(|text| writeln!(f, "  warning: {text}"))
    }
}
