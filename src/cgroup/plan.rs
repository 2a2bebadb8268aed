//! PLAN of the cgroup: config and layout to directories, values and a device filter.
//!
//! Pure. `create` does what is written here, in this order; `xebec plan` prints it.

use std::fmt;

use super::delegate::plan_delegate;
use super::devices::{self, Rule};
use super::layout::{Hierarchy, Layout};
use super::path::CgroupPath;
use super::record::Record;
use super::systemd::UnitPlan;
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
    /// Who makes the cgroup.
    pub driver: Driver,
    /// The runtime's own cgroup ([`super::probe_own_cgroup`]), for `rootless`.
    pub own_cgroup: Option<&'a str>,
    /// The cgroup of the user's service manager ([`super::probe_user_manager`]), for `rootless`
    /// with [`Driver::Systemd`].
    pub manager_cgroup: Option<&'a str>,
}

/// Who makes and removes the cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// The runtime itself.
    #[default]
    Cgroupfs,
    /// systemd, as a transient unit.
    Systemd,
    /// Nobody: the container stays in the caller's cgroup.
    Disabled,
}

/// All that will be done about one container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPlan {
    /// Where, in every hierarchy.
    pub path: CgroupPath,
    /// What systemd is asked for; `None` where the runtime makes the cgroup itself.
    pub unit: Option<UnitPlan>,
    /// The directories, v1 hierarchies first. Empty: no cgroup at all.
    pub hierarchies: Vec<HierarchyPlan>,
    /// The device filter on cgroup v2. On v1 it is among the writes.
    pub devices: DeviceFilter,
    /// The host user who gets the cgroup (config-linux.md, "Cgroup ownership").
    pub owner: Option<u32>,
    /// The cgroup below this one that the container's process is moved to.
    pub delegate: Option<CgroupPath>,
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
    /// Go on without this one where it may not be made: rootless, and neither a path
    /// nor a limit here was asked for.
    pub may_be_missing: bool,
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
    let unit = match options.driver {
        Driver::Systemd => Some(UnitPlan::new(id, configured, &config.annotations, options.rootless)?),
        Driver::Cgroupfs | Driver::Disabled => None,
    };
    let mut plan = CgroupPlan {
        path: match &unit {
            Some(unit) => CgroupPath::of_unit(options.manager_cgroup.filter(|_| unit.user), unit)?,
            None => CgroupPath::plan(configured, id, base)?,
        },
        unit,
        hierarchies: Vec::new(),
        devices: DeviceFilter::None,
        owner: plan_owner(config),
        delegate: None,
        warnings: Vec::new(),
    };
    let none = Resources::default();
    let resources = config.linux.resources.as_deref().unwrap_or(&none);
    let rules = devices::plan_rules(&resources.devices)?;
    if options.driver == Driver::Disabled {
        return Ok(plan);
    }
    match layout {
        Layout::V2 { mount } => plan_v2(&mut plan, mount, &[], resources)?,
        Layout::Hybrid { .. } if plan.unit.is_some() => {
            return Err(Error::invalid(
                "--systemd-cgroup",
                "this host has cgroup v1, or none; the driver needs v2 alone",
            )
            .hint("use --cgroup-manager cgroupfs, or boot with systemd.unified_cgroup_hierarchy=1"));
        }
        Layout::Hybrid { v1, v2 } => plan_hybrid(&mut plan, v1, v2.as_deref(), resources, options.rootless)?,
    }
    if let (Some(unit), [hierarchy, ..]) = (&mut plan.unit, &plan.hierarchies[..]) {
        unit.limit(&hierarchy.writes);
    }
    plan_devices(&mut plan, &rules, options.rootless)?;
    plan_delegate(config, &mut plan)?;
    for hierarchy in &mut plan.hierarchies {
        let unified = hierarchy.writes.list.iter().any(|write| write.unified);
        let asked = !configured.is_none_or(str::is_empty) || unified || !hierarchy.writes.needs().is_empty();
        hierarchy.may_be_missing = options.rootless && !asked && plan.unit.is_none();
    }
    Ok(plan)
}

/// Plans an update of the values of the container whose cgroup is `record`.
///
/// What `resources` leaves out stays as it is; devices and ownership stay too. Memory
/// and swap depend on each other: the caller fills in the one it knows. Errors are
/// those of [`plan_cgroup`], and a record that does not fit `layout`.
pub fn plan_update(record: &Record, resources: &Resources<'_>, layout: &Layout) -> Result<CgroupPlan> {
    let mount = match layout {
        Layout::V2 { mount } => Some((mount, record.v2.as_ref())),
        Layout::Hybrid { v1, v2 } => match (v2, v1.first()) {
            (Some(mount), _) => Some((mount, record.v2.as_ref())),
            (None, Some(first)) => Some((&first.mount, record.v1.first().map(|(_, path)| path))),
            (None, None) => None,
        },
    };
    let below = mount.and_then(|(mount, path)| path?.strip_prefix(mount.as_str()));
    let Some(below) = below.filter(|below| below.starts_with('/')) else {
        return Err(Error::invalid("cgroup", "this container has no cgroup of its own to update"));
    };
    let mut plan = CgroupPlan {
        path: CgroupPath::plan(Some(below), "", None)?,
        unit: None,
        hierarchies: Vec::new(),
        devices: DeviceFilter::None,
        owner: None,
        delegate: None,
        warnings: Vec::new(),
    };
    match layout {
        Layout::V2 { mount } => plan_v2(&mut plan, mount, &[], resources)?,
        Layout::Hybrid { v1, v2 } => plan_hybrid(&mut plan, v1, v2.as_deref(), resources, false)?,
    }
    if let (Some(unit), [hierarchy, ..]) = (&record.unit, &plan.hierarchies[..]) {
        plan.unit = Some(UnitPlan::update(unit, &hierarchy.writes));
    }
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
    plan.hierarchies.push(HierarchyPlan { mount: mount.to_owned(), v1: Vec::new(), writes, may_be_missing: false });
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
        plan.hierarchies.push(HierarchyPlan { mount, v1: controllers, writes, may_be_missing: false });
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
        let exceptions = devices::exceptions(rules)?;
        if rootless {
            // The kernel takes device rules from no user namespace but the first, as runc
            // knows; what such a runtime cannot mknod its container cannot either.
            return Ok(());
        }
        for (file, line) in devices::v1_lines(&exceptions) {
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

/// A name for a program in bpffs: 128 bits (FNV-1a) over its instructions. The name
/// guards against accidents only; the directory is writable for its owner alone.
fn pin_name(program: &[Insn]) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
    let bytes = program.iter().flat_map(|insn| {
        let (off, imm) = (insn.off.to_le_bytes(), insn.imm.to_le_bytes());
        [insn.code, insn.regs, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    });
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("devices-{hash:032x}")
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
        if let Some(unit) = &self.unit {
            writeln!(f, "{unit}")?;
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
        if let Some(path) = &self.delegate {
            writeln!(f, "  process in {} below it", &path.to_string()[1..])?;
        }
        self.warnings.iter().try_for_each(|text| writeln!(f, "  warning: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1_host(v2: Option<&str>) -> Layout {
        let hierarchy = |name: &str| Hierarchy {
            controllers: name.split(',').map(str::to_owned).collect(),
            mount: format!("/sys/fs/cgroup/{name}"),
        };
        let v1 = ["cpu,cpuacct", "memory", "devices", "freezer"].map(hierarchy).to_vec();
        Layout::Hybrid { v1, v2: v2.map(str::to_owned) }
    }

    fn v2_host() -> Layout {
        Layout::V2 { mount: "/sys/fs/cgroup".into() }
    }

    fn planned(linux: &str, layout: &Layout, options: &Options<'_>) -> String {
        let text = format!(r#"{{"ociVersion":"1.3.0","linux":{linux}}}"#);
        let config: Config<'_> = serde_json::from_str(&text).unwrap();
        match plan_cgroup("c1", &config, layout, options) {
            Ok(plan) => plan.to_string(),
            Err(e) => format!("error: {e}\n"),
        }
    }

    const LIMITS: &str = r#"{"cgroupsPath":"/pods/c1","resources":{
        "memory":{"limit":67108864,"swap":67108864,"swappiness":3,"checkBeforeUpdate":true},
        "cpu":{"shares":1024,"quota":-1},"pids":{"limit":0},
        "blockIO":{"weight":500},"unified":{"cpuset.cpus.partition":"root","memory.high":"1"}}}"#;

    #[test]
    fn a_plan_on_cgroup_v2_reads_like_this() {
        let got = planned(LIMITS, &v2_host(), &Options::default());
        let (head, tail) = got.split_once("  device program").unwrap();
        assert_eq!(
            head,
            "\
cgroup /sys/fs/cgroup/pods/c1 (v2)
  controllers: needs [cpu io memory pids], wants [memory pids cpuset]
  write pids.max \"0\" (linux.resources.pids.limit)
  write memory.swap.max \"0\" unless memory.current >= 67108864 (linux.resources.memory.swap)
  write memory.max \"67108864\" unless memory.current >= 67108864 (linux.resources.memory.limit)
  write io.bfq.weight \"500\" or io.weight \"4950\" (linux.resources.blockIO.weight)
  write cpu.weight \"100\" (linux.resources.cpu.shares)
  write cpu.max \"max 100000\" (linux.resources.cpu.quota)
  write cpuset.cpus.partition \"root\" (linux.resources.unified.cpuset.cpus.partition)
  write memory.high \"1\" (linux.resources.unified.memory.high)
"
        );
        let (program, warning) = tail.split_once('\n').unwrap();
        assert!(program.starts_with(" of ") && program.contains(" instructions, devices-"), "{program}");
        assert_eq!(warning, "  warning: linux.resources.memory.swappiness has no effect on cgroup v2\n");
    }

    #[test]
    fn a_plan_on_a_v1_host_splits_the_values_over_the_hierarchies() {
        let linux = r#"{"resources":{"memory":{"limit":4096},"cpu":{"shares":2},"pids":{"limit":-1},
            "hugepageLimits":[{"pageSize":"2MB","limit":9}],"devices":[{"allow":true}]}}"#;
        assert_eq!(
            planned(linux, &v1_host(Some("/sys/fs/cgroup/unified")), &Options::default()),
            "\
cgroup /sys/fs/cgroup/cpu,cpuacct/c1 (cpu,cpuacct)
  write cpu.shares \"2\" (linux.resources.cpu.shares)
cgroup /sys/fs/cgroup/memory/c1 (memory)
  write memory.limit_in_bytes \"4096\" (linux.resources.memory.limit)
cgroup /sys/fs/cgroup/devices/c1 (devices)
  write devices.allow \"a\" (linux.resources.devices)
cgroup /sys/fs/cgroup/freezer/c1 (freezer)
cgroup /sys/fs/cgroup/unified/c1 (v2)
  controllers: needs [hugetlb], wants [pids]
  write pids.max \"max\" (linux.resources.pids.limit)
  write hugetlb.2MB.max \"9\" (linux.resources.hugepageLimits[0].limit)
  write hugetlb.2MB.rsvd.max \"9\" (linux.resources.hugepageLimits[0].limit)
"
        );
    }

    #[test]
    fn a_limit_without_a_controller_on_a_v1_host_is_an_error_and_no_limit_is_not() {
        for (resources, want) in [
            (r#"{"pids":{"limit":9}}"#, "error: linux.resources.pids.limit: this host has no pids controller\n"),
            (
                r#"{"network":{"classID":7}}"#,
                "error: linux.resources.network.classID: this host has no net_cls controller\n",
            ),
            (
                r#"{"unified":{"memory.high":"1"}}"#,
                "error: linux.resources.unified.memory.high: this host mounts no cgroup v2\n",
            ),
        ] {
            let linux = format!(r#"{{"resources":{resources}}}"#);
            assert_eq!(planned(&linux, &v1_host(None), &Options::default()), want);
        }
        let none =
            r#"{"resources":{"pids":{"limit":-1},"cpu":{"cpus":""},"network":{"classID":0},"blockIO":{"weight":0}}}"#;
        assert!(planned(none, &v1_host(None), &Options::default()).starts_with("cgroup /sys"));
        let nothing = Layout::Hybrid { v1: vec![], v2: None };
        assert!(planned("{}", &nothing, &Options::default()).starts_with("error: cgroup: this host mounts no cgroups"));
        assert_eq!(planned("{}", &nothing, &Options { rootless: true, ..Options::default() }), "cgroup: none\n");
    }

    #[test]
    fn a_disabled_manager_plans_nothing_but_still_judges_the_config() {
        let disabled = Options { driver: Driver::Disabled, ..Options::default() };
        assert_eq!(planned(LIMITS, &v2_host(), &disabled), "cgroup: none\n");
        assert!(planned(r#"{"cgroupsPath":".."}"#, &v2_host(), &disabled).starts_with("error"));
    }

    #[test]
    fn only_a_rootless_container_that_asks_for_nothing_may_run_without_a_cgroup() {
        let may = |linux: &str, rootless: bool| {
            let text = format!(r#"{{"ociVersion":"1.3.0","linux":{linux}}}"#);
            let config: Config<'_> = serde_json::from_str(&text).unwrap();
            let options = Options { rootless, own_cgroup: Some("/user.slice/s"), ..Options::default() };
            let plan = plan_cgroup("c1", &config, &v2_host(), &options).unwrap();
            assert_eq!(plan.path.to_string().starts_with("/user.slice/c1"), rootless && !linux.contains('/'));
            plan.hierarchies[0].may_be_missing
        };
        assert!(may("{}", true));
        assert!(may(r#"{"resources":{"pids":{"limit":-1}}}"#, true));
        assert!(!may("{}", false));
        assert!(!may(r#"{"cgroupsPath":"/x"}"#, true));
        assert!(!may(r#"{"resources":{"pids":{"limit":5}}}"#, true));
        assert!(!may(r#"{"resources":{"unified":{"cgroup.max.depth":"5"}}}"#, true));
    }

    #[test]
    fn the_cgroup_goes_to_the_containers_root_only_with_a_writable_mount() {
        let owner = |options: &str, namespaces: &str| {
            let text = format!(
                r#"{{"ociVersion":"1.3.0","mounts":[{{"destination":"/sys/fs/cgroup","type":"cgroup","options":[{options}]}}],
                "process":{{"cwd":"/","user":{{"uid":5}}}},
                "linux":{{"namespaces":[{namespaces}],"uidMappings":[{{"containerID":0,"hostID":1000,"size":10}}]}}}}"#
            );
            plan_owner(&serde_json::from_str(&text).unwrap())
        };
        let both = r#"{"type":"user"},{"type":"cgroup"}"#;
        assert_eq!(owner(r#""rw""#, both), Some(1005));
        assert_eq!(owner(r#""ro""#, both), None);
        assert_eq!(owner("", r#"{"type":"user"}"#), None);
        assert_eq!(owner("", r#"{"type":"user"},{"type":"cgroup","path":"/proc/1/ns/cgroup"}"#), None);
    }
}
