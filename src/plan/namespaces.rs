//! `linux.namespaces` to the clone flags, the joins and the steps that enter, isolate and leave.

use std::ffi::CString;

use crate::cgroup::Layout;
use crate::config::words::{NAMESPACES, ROOTFS_PROPAGATIONS};
use crate::config::{Config, IdMapping};
use crate::error::{Error, Result};
use crate::host::Host;

use super::step::Step;
use super::{Request, cstring, mounts};

/// The order in which namespaces are joined: a user namespace first, its rights are needed for the others.
const ORDER: &[&str] = &["user", "pid", "mount", "network", "ipc", "uts", "cgroup", "time"];

/// What the child is charged for until it executes is a small part of this, in bytes.
const SMALL_MEMORY: i64 = 16 << 20;

/// The container's namespaces: new ones, joined ones; all others are the runtime's.
#[derive(Debug, Default)]
pub struct Namespaces {
    new: Vec<&'static str>,
    pub joins: Vec<Join>,
    /// Maps of a new user namespace.
    pub maps: Option<IdMaps>,
    /// Who makes a new network namespace.
    pub network: NetworkMaker,
    /// A new mount namespace is made from the small one, by the child.
    pub small_mounts: bool,
}

/// Who makes a new network namespace; the kernel takes long for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkMaker {
    /// clone3, with the others.
    #[default]
    Clone,
    /// The parent, beside the child: a second thread of it, or a process in the new user namespace. Where there is
    /// none to be had clone3 does, or from inside a new user namespace the child.
    Parent,
}

/// An existing namespace to join.
#[derive(Debug)]
pub struct Join {
    pub kind: &'static str,
    /// `CLONE_NEW*`.
    pub flag: u64,
    pub path: CString,
    /// The place in `linux.namespaces`.
    pub index: usize,
    /// The parent joins it before clone3, instead of the child after it.
    pub by_parent: bool,
}

/// Who writes a uid_map or gid_map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MapWriter {
    /// We do: with CAP_SETUID or CAP_SETGID, or one line for the caller's own uid.
    #[default]
    Direct,
    /// We do, for the caller's own gid alone: the kernel wants setgroups(2) given up for good first.
    WithoutSetgroups,
    /// newuidmap(1) or newgidmap(1) does.
    Helper,
}

/// uid_map and gid_map of a new user namespace.
#[derive(Debug)]
pub struct IdMaps {
    pub uid: Vec<IdMapping>,
    pub gid: Vec<IdMapping>,
}

impl Namespaces {
    /// Is a namespace of this kind made for the container?
    #[must_use]
    pub fn is_new(&self, kind: &str) -> bool {
        self.new.contains(&kind)
    }

    /// Does the container have a namespace of this kind that is not the runtime's?
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.is_new(kind) || self.joins.iter().any(|join| join.kind == kind)
    }

    /// The flags for clone3. The cgroup namespace is made afterwards, in the cgroup
    /// (clone3 would take the parent's cgroup as its root), the time namespace too
    /// (its offsets can only be set while nobody is in it). The network namespace of a new user namespace is made
    /// after the maps: files in it belong to what its root is mapped to by then.
    #[must_use]
    pub fn clone_flags(&self) -> u64 {
        let later = |kind: &str| match kind {
            "cgroup" | "time" => true,
            "network" => self.network == NetworkMaker::Parent && self.is_new("user"),
            "mount" => self.small_mounts,
            _ => false,
        };
        let at_clone = NAMESPACES.iter().filter(|(kind, _)| !later(kind) && self.is_new(kind));
        at_clone.fold(0, |flags, (_, flag)| flags | *flag as u64)
    }

    /// Is a user namespace joined? Then the others must be made from inside it, to belong to it.
    #[must_use]
    pub fn joins_user(&self) -> bool {
        self.joins.iter().any(|join| join.kind == "user")
    }

    /// For a new user namespace: from inside it, what belongs to the runtime's cannot be joined: the parent does it first.
    pub fn join_before_new_user(&mut self) {
        let before = |join: &&mut Join| matches!(join.kind, "network" | "ipc" | "uts" | "cgroup");
        self.joins.iter_mut().filter(before).for_each(|join| join.by_parent = true);
    }

    /// Does a namespace of this kind belong to the container's user namespace, so that its file system can be mounted?
    #[must_use]
    pub fn owns(&self, kind: &str) -> bool {
        self.is_new(kind) || !self.has("user") || self.has(kind) && self.joins_user()
    }

    /// Who may write the maps of a new user namespace (user_namespaces(7)): uid_map, gid_map.
    pub fn map_writers(&self, host: &Host) -> Result<(MapWriter, MapWriter)> {
        const CAP_SETGID: u64 = 1 << 6;
        const CAP_SETUID: u64 = 1 << 7;
        let Some(maps) = &self.maps else { return Ok(Default::default()) };
        let may = host.capabilities(CAP_SETGID | CAP_SETUID)?;
        let (uid, gid) = host.ids();
        let is_own = |list: &[IdMapping], own| matches!(list, [map] if map.size == 1 && map.host_id == own);
        let for_uids =
            if may & CAP_SETUID != 0 || is_own(&maps.uid, uid) { MapWriter::Direct } else { MapWriter::Helper };
        let for_gids = match (may & CAP_SETGID != 0, is_own(&maps.gid, gid)) {
            (true, _) => MapWriter::Direct,
            (false, true) => MapWriter::WithoutSetgroups,
            (false, false) => MapWriter::Helper,
        };
        Ok((for_uids, for_gids))
    }

    /// Does the parent write init's oom_score_adj?
    ///
    /// Whoever is in a user namespace of the container's has no right to lower it. Of a joined one its files
    /// in /proc are out of reach, too; an ordinary caller has no such right to give, nor may it write to an undumpable child.
    pub fn oom_score_by_parent(&self, host: &Host) -> bool {
        self.joins_user() || self.is_new("user") && host.ids().0 == 0
    }

    /// The names of the new namespaces.
    #[must_use]
    pub fn new_kinds(&self) -> &[&'static str] {
        &self.new
    }
}

/// Reads `linux.namespaces`.
pub fn plan_namespaces(config: &Config<'_>) -> Result<Namespaces> {
    let mut namespaces = Namespaces::default();
    for (index, namespace) in config.linux.namespaces.iter().enumerate() {
        // Formatted for an error only: a create reads these twice.
        let item = || format!("linux.namespaces[{index}]");
        let Some(&(kind, flag)) = NAMESPACES.iter().find(|(kind, _)| *kind == &*namespace.kind) else {
            return Err(Error::invalid(item(), format!("{} is not a namespace type", namespace.kind)));
        };
        if namespaces.has(kind) {
            return Err(Error::invalid(item(), format!("{kind} is there twice")));
        }
        match namespace.path.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => {
                let path = cstring(&item(), path)?;
                namespaces.joins.push(Join { kind, flag: flag as u64, path, index, by_parent: kind == "pid" });
            }
            None => namespaces.new.push(kind),
        }
    }
    namespaces.joins.sort_by_key(|join| ORDER.iter().position(|kind| *kind == join.kind));
    if namespaces.is_new("user") {
        let maps = IdMaps { uid: config.linux.uid_mappings.clone(), gid: config.linux.gid_mappings.clone() };
        namespaces.maps = Some(maps);
    }
    namespaces.network = network_maker(config, &namespaces);
    Ok(namespaces)
}

/// The parent puts network devices into it early; what is made from inside a joined user namespace, clone3 makes with
/// all others.
fn network_maker(config: &Config<'_>, namespaces: &Namespaces) -> NetworkMaker {
    match namespaces.is_new("network") && config.linux.net_devices.is_empty() && !namespaces.joins_user() {
        true => NetworkMaker::Parent,
        false => NetworkMaker::Clone,
    }
}

/// The steps from clone3 to the last namespace, with what belongs to each of them.
///
/// `placed_late`: the parent moves the child into cgroup v1 hierarchies after clone3. `score_by_parent`:
/// [`Namespaces::oom_score_by_parent`].
pub fn enter(
    steps: &mut Vec<Step>,
    config: &Config<'_>,
    request: &Request,
    namespaces: &Namespaces,
    placed_late: bool,
    score_by_parent: bool,
) -> Result<()> {
    // Writes to /proc/self come before Undumpable, which gives its files to the host's root.
    let score = config.process.as_ref().and_then(|p| p.oom_score_adj);
    if let Some(score) = score.filter(|_| !score_by_parent) {
        steps.push(Step::OomScoreAdj(cstring("process.oomScoreAdj", &score.to_string())?));
    }
    if namespaces.is_new("user") {
        // Nobody else is in a new user namespace; becoming its root makes us undumpable too.
        steps.extend(time_namespace(config, namespaces)?);
        steps.push(Step::UserNamespaceRoot);
    }
    steps.push(Step::Undumpable);
    for (slot, join) in namespaces.joins.iter().enumerate() {
        // Before clone3: setns(2) moves only later children into a PID namespace, and what is cloned
        // belongs to the user namespace of the cloner.
        if !join.by_parent && join.kind != "user" {
            steps.push(Step::Join { kind: join.kind, flag: join.flag, path: join.path.clone(), slot });
        }
    }
    if namespaces.is_new("cgroup") {
        steps.push(Step::CgroupNamespace { wait: placed_late });
    }
    if !namespaces.is_new("user") {
        steps.extend(time_namespace(config, namespaces)?);
    }
    steps.push(Step::Session);
    if !request.no_new_keyring {
        steps.push(Step::Keyring(cstring("id", &format!("_ses.{}", request.id))?));
    }
    if namespaces.is_new("network") && namespaces.network == NetworkMaker::Clone {
        steps.push(Step::Loopback);
    }
    if !config.linux.net_devices.is_empty() {
        steps.push(Step::NetDevices);
    }
    if let Some(name) = config.hostname.as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Hostname(cstring("hostname", name)?));
    }
    if let Some(name) = config.domainname.as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Domainname(cstring("domainname", name)?));
    }
    Ok(())
}

fn time_namespace(config: &Config<'_>, namespaces: &Namespaces) -> Result<Option<Step>> {
    if !namespaces.is_new("time") {
        return Ok(None);
    }
    let line = |(clock, o): (&crate::config::Text<'_>, &crate::config::TimeOffset)| {
        format!("{clock} {} {}\n", o.secs, o.nanosecs)
    };
    let offsets: String = config.linux.time_offsets.iter().map(line).collect();
    Ok(Some(Step::TimeNamespace { offsets: cstring("linux.timeOffsets", &offsets)? }))
}

/// The flags of mount(2) for `linux.rootfsPropagation`.
fn propagation(config: &Config<'_>) -> Result<Option<(u64, &'static str)>> {
    let Some(word) = config.linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty()) else {
        return Ok(None);
    };
    match ROOTFS_PROPAGATIONS.iter().find(|(known, _)| *known == word) {
        Some(&(word, flags)) => Ok(Some((flags, word))),
        None => Err(Error::invalid(
            "linux.rootfsPropagation",
            format!("{word} is not shared, slave, private or unbindable"),
        )),
    }
}

/// The steps that part our mounts from the host's and put the root file system on its place.
pub fn isolate_mounts(steps: &mut Vec<Step>, config: &Config<'_>, namespaces: &Namespaces, rootfs: &str) -> Result<()> {
    let path = cstring("root.path", rootfs)?;
    if !namespaces.has("mount") {
        if let Some(mount) = config.mounts.first() {
            return Err(Error::invalid(
                format!("mounts[0] {}", mount.destination),
                "without a mount namespace of its own the container's mounts would land on the host",
            )
            .hint("add {\"type\": \"mount\"} to linux.namespaces, or leave mounts empty"));
        }
        refuse_host_mounts(config, namespaces)?;
        steps.push(Step::RootDirectory(path));
        return Ok(());
    }
    // A bind mount can only stay shared with the host when our copies of the host's mounts do.
    let (isolate_parent, flags, word) = match propagation(config)? {
        Some((flags, word)) if flags & libc::MS_SHARED != 0 => (true, flags, word),
        Some((flags, _)) if flags & libc::MS_PRIVATE != 0 => (false, libc::MS_PRIVATE | libc::MS_REC, "rprivate"),
        _ => (false, libc::MS_SLAVE | libc::MS_REC, "rslave"),
    };
    if namespaces.small_mounts {
        let null = !config.linux.masked_paths.is_empty();
        steps.extend([Step::CloneRootfs { path, flags, word, null }, Step::SmallNamespace]);
    } else {
        steps.extend([Step::HostPropagation { flags, word }, Step::Rootfs { path, isolate_parent }]);
    }
    Ok(())
}

/// Can the container's mounts be made from the small mount namespace, where nothing of the host can be looked up by its
/// path? What is bound is cloned before; a hook that runs before the switch of roots may look for anything.
pub fn can_leave_host(
    config: &Config<'_>,
    request: &Request,
    namespaces: &Namespaces,
    layout: &Layout,
) -> Result<bool> {
    let hooks = &config.hooks;
    let early_hooks = [&hooks.prestart, &hooks.create_runtime, &hooks.create_container];
    let v2 = matches!(layout, Layout::V2 { .. });
    Ok(namespaces.is_new("mount")
        && !namespaces.has("user")
        && !request.rootless
        && !request.no_pivot
        // Its directory is made later, and bound by its path.
        && request.notify.is_none()
        && early_hooks.iter().all(|hooks| hooks.is_empty())
        // Clones of shared mounts would have to stay peers of the host's.
        && propagation(config)?.is_none_or(|(flags, _)| flags & libc::MS_SHARED == 0)
        && config.mounts.iter().all(|mount| mounts::names_nothing_of_host(mount, v2)))
}

/// Whatever would change a mount of the host, in a container that has no mounts of its own.
fn refuse_host_mounts(config: &Config<'_>, namespaces: &Namespaces) -> Result<()> {
    let wishes = [
        ("root.readonly", config.root.as_ref().is_some_and(|root| root.readonly)),
        ("linux.rootfsPropagation", config.linux.rootfs_propagation.as_deref().is_some_and(|word| !word.is_empty())),
        ("process.terminal", config.process.as_ref().is_some_and(|process| process.terminal)),
        ("linux.devices", namespaces.has("user")),
    ];
    match wishes.iter().find(|(_, wished)| *wished) {
        Some((item, _)) => Err(Error::invalid(item, "takes a mount namespace of the container's own")
            .hint("add {\"type\": \"mount\"} to linux.namespaces")),
        None => Ok(()),
    }
}

/// The steps that make the root file system the process's root.
pub fn change_root(
    steps: &mut Vec<Step>,
    config: &Config<'_>,
    request: &Request,
    namespaces: &Namespaces,
) -> Result<()> {
    steps.push(match (namespaces.has("mount"), request.no_pivot) {
        (false, _) => Step::Chroot,
        (true, false) => Step::PivotRoot,
        (true, true) => Step::MoveRoot,
    });
    if let Some((flags, word)) = propagation(config)? {
        steps.push(Step::RootPropagation { flags, word });
    }
    Ok(())
}

/// Must the child have a copy of the runtime's memory, though it could borrow it (docs/decisions/shared-memory.md)?
///
/// In a user or PID namespace that is not all its own there are others, who may want to trace it; a time namespace takes a
/// memory of its own (setns(2)); and where the kernel ends it for want of memory, it ends whoever shares it.
pub fn need_own_memory(config: &Config<'_>, namespaces: &Namespaces) -> bool {
    let resources = config.linux.resources.as_ref();
    let limit = resources.and_then(|resources| resources.memory).and_then(|memory| memory.limit);
    let unified = resources.into_iter().flat_map(|resources| &resources.unified);
    let hooks = &config.hooks;
    // Such a child has to be dumpable for a while.
    let seen = !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty();
    namespaces.joins_user()
        || namespaces.is_new("user") && seen
        || namespaces.has("time")
        || namespaces.joins.iter().any(|join| join.kind == "pid")
        || limit.is_some_and(|bytes| (0..SMALL_MEMORY).contains(&bytes))
        || unified.into_iter().any(|(file, _)| file.starts_with("memory."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_alone_or_may_be_killed_for_memory_has_one_of_its_own() {
        let needs = |linux: &str| {
            let json = format!(r#"{{"ociVersion":"1.3.0","linux":{linux}}}"#);
            let config: Config<'_> = serde_json::from_str(&json).expect("a config");
            need_own_memory(&config, &plan_namespaces(&config).expect("namespaces"))
        };
        for (linux, expected) in [
            ("{}", false),
            (r#"{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"network"},{"type":"cgroup"}]}"#, false),
            (r#"{"namespaces":[{"type":"network","path":"/run/netns/n"},{"type":"mount"}]}"#, false),
            (r#"{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}"#, true),
            (r#"{"namespaces":[{"type":"time"}]}"#, true),
            (r#"{"namespaces":[{"type":"time","path":"/proc/1/ns/time"}]}"#, true),
            (
                r#"{"namespaces":[{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":0,"size":1}],
                "gidMappings":[{"containerID":0,"hostID":0,"size":1}]}"#,
                false,
            ),
            (r#"{"namespaces":[{"type":"user","path":"/proc/1/ns/user"}]}"#, true),
            (r#"{"resources":{"memory":{"limit":16777215}}}"#, true),
            (r#"{"resources":{"memory":{"limit":16777216}}}"#, false),
            (r#"{"resources":{"memory":{"limit":-1}}}"#, false),
            (r#"{"resources":{"unified":{"memory.max":"1G"}}}"#, true),
            (r#"{"resources":{"unified":{"pids.max":"9"}}}"#, false),
        ] {
            assert_eq!(needs(linux), expected, "{linux}");
        }
    }

    fn can_leave(json: &str, request: &Request) -> bool {
        let config: Config<'_> = serde_json::from_str(json).expect("a config");
        let namespaces = plan_namespaces(&config).expect("namespaces");
        let v2 = Layout::V2 { mount: "/sys/fs/cgroup".into() };
        can_leave_host(&config, request, &namespaces, &v2).expect("an answer")
    }

    #[test]
    fn what_needs_the_hosts_mounts_keeps_them() {
        let with = |linux: &str, rest: &str| {
            format!(r#"{{"ociVersion":"1.3.0","linux":{{"namespaces":[{{"type":"mount"}}{linux}]}}{rest}}}"#)
        };
        let plain = Request::default();
        assert!(can_leave(&with("", ""), &plain));
        assert!(!can_leave(r#"{"ociVersion":"1.3.0"}"#, &plain), "no mount namespace");
        assert!(!can_leave(&with(r#",{"type":"user"}"#, ""), &plain), "a user namespace");
        for early in ["prestart", "createRuntime", "createContainer"] {
            let hook = format!(r#","hooks":{{"{early}":[{{"path":"/x"}}]}}"#);
            assert!(!can_leave(&with("", &hook), &plain), "{early}");
        }
        for late in ["startContainer", "poststart", "poststop"] {
            let hook = format!(r#","hooks":{{"{late}":[{{"path":"/x"}}]}}"#);
            assert!(can_leave(&with("", &hook), &plain), "{late}");
        }
        for (mount, can) in [
            (r#""type":"bind","source":"/x""#, true),
            (r#""type":"none","source":"/x","options":["rbind"]"#, true),
            (r#""type":"tmpfs""#, true),
            (r#""options":["remount","ro"]"#, true),
            (r#""type":"overlay","options":["lowerdir=/x"]"#, false),
            (r#""type":"ext4","source":"/dev/sda""#, false),
        ] {
            let mounts = format!(r#","mounts":[{{"destination":"/m",{mount}}}]"#);
            assert_eq!(can_leave(&with("", &mounts), &plain), can, "{mount}");
        }
        let shared =
            r#"{"ociVersion":"1.3.0","linux":{"namespaces":[{"type":"mount"}],"rootfsPropagation":"rshared"}}"#;
        assert!(!can_leave(shared, &plain));
        assert!(!can_leave(&with("", ""), &Request { no_pivot: true, ..Request::default() }));
        assert!(!can_leave(&with("", ""), &Request { rootless: true, ..Request::default() }));
        assert!(!can_leave(&with("", ""), &Request { notify: Some("/n".into()), ..Request::default() }));
    }
}
