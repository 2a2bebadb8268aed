//! `mounts` to mount steps: options sorted into attributes, propagation and the file system's own.

use std::ffi::{CStr, CString};

use crate::config::mount_options::{Effect, mount_option};
use crate::config::{Mount, Text};
use crate::error::{Error, Result};
use crate::sys::mount::MountAttr;

use super::cstring;
use super::namespaces::Namespaces;
use super::step::{FileSystem, Hierarchy, MountStep, MountWhat, Tree, TreeMap};

/// fsconfig(2) refuses string values of 256 bytes and more.
const FSCONFIG_STRING_MAX: usize = 255;

/// File systems whose superblock is shared or the kernel's own: `ro` is a property of the mount alone there.
const SHARED_SUPERBLOCKS: &[&str] =
    &["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "securityfs", "debugfs", "tracefs", "bpf", "configfs"];

/// What the plan must know besides the entry itself.
#[derive(Debug)]
pub struct MountContext<'a> {
    /// The absolute bundle directory: relative bind sources start there.
    pub bundle: &'a str,
    pub namespaces: &'a Namespaces,
    /// The runtime has no rights outside its own user namespace.
    pub rootless: bool,
    /// The parent clones what is bound, with its rights.
    pub parent_binds: bool,
    /// Where the host has cgroup v2; `None` on hosts where v1 owns the controllers.
    pub cgroup_v2: Option<&'a str>,
    /// The container's cgroup v1 directories on the host.
    pub cgroup_v1: Vec<(String, String)>,
    /// The container may have to run without a cgroup.
    pub cgroup_optional: bool,
    /// `linux.mountLabel`, where SELinux is active.
    pub label: Option<&'a str>,
}

/// The options of one entry, sorted.
#[derive(Debug, Default)]
struct Sorted {
    attr: MountAttr,
    recursive_attr: MountAttr,
    propagation: Vec<(u64, bool)>,
    bind: Option<bool>,
    remount: bool,
    /// Mapped ids: recursively or not.
    idmap: Option<bool>,
    copy_up: bool,
    /// mount(2)'s superblock flags, and their names for fsconfig(2).
    flags: u64,
    flag_names: Vec<&'static str>,
    data: Vec<String>,
}

/// The step for `mounts[index]`.
pub fn plan_mount(index: usize, mount: &Mount<'_>, context: &MountContext<'_>) -> Result<MountStep> {
    let item = format!("mounts[{index}] {}", mount.destination);
    let mut sorted = sort_options(&mount.options);
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        sorted.idmap = Some(sorted.idmap.unwrap_or(false));
    }
    let kind = mount.kind.as_deref().unwrap_or("");
    if kind == "bind" && sorted.bind.is_none() {
        sorted.bind = Some(false);
    }
    let is_tmpfs = kind == "tmpfs" && sorted.bind.is_none();
    let late_readonly = is_tmpfs && sorted.attr.set & libc::MOUNT_ATTR_RDONLY != 0;
    let what = if sorted.remount {
        MountWhat::Remount
    } else if let (Some(recursive), Some(map_recursive)) = (sorted.bind, sorted.idmap) {
        let map = Some(idmap(&item, mount, map_recursive, context)?);
        MountWhat::Tree(Tree { source: bind_source(&item, mount, context)?, recursive, map, slot: 0 })
    } else if sorted.idmap.is_some() {
        return Err(Error::invalid(&item, "only a bind mount can have mapped ids").hint("add the option bind or rbind"));
    } else if let Some(recursive) = sorted.bind {
        let source = bind_source(&item, mount, context)?;
        if recursive && source.as_c_str() == c"/sys" {
            protect_cgroups(&mut sorted, context);
        }
        bind(source, recursive, context)
    } else if kind == "cgroup" || kind == "cgroup2" {
        cgroup(&item, context, &mut sorted)?
    } else if let Some(source) = host_instance(kind, &sorted, context) {
        if kind == "sysfs" {
            protect_cgroups(&mut sorted, context);
        }
        bind(source, true, context)
    } else {
        // The kernel's own file systems have their own labels.
        let label = context.label.filter(|_| !matches!(kind, "proc" | "sysfs" | "mqueue"));
        sorted.data.extend(label.map(|label| format!("context={label}")));
        MountWhat::New(file_system(&item, kind, mount, &sorted)?)
    };
    if late_readonly {
        sorted.attr.set &= !libc::MOUNT_ATTR_RDONLY;
    }
    let Sorted { attr, recursive_attr, propagation, .. } = sorted;
    let destination = in_root(&item, &mount.destination)?;
    let exact_destination = matches!(kind, "proc" | "sysfs") && sorted.bind.is_none() && !sorted.remount;
    let index = Some(index);
    Ok(MountStep { index, destination, what, attr, recursive_attr, propagation, exact_destination, late_readonly })
}

/// A path below the root: absolute, also where an old config leaves the slash away (config.md, "Mounts").
pub fn in_root(item: &str, path: &str) -> Result<CString> {
    if path.starts_with('/') { cstring(item, path) } else { cstring(item, &format!("/{path}")) }
}

/// Is this mount a clone, made before the host is left, or a file system that looks up nothing by a path? Others, as an
/// overlay with its layers or a disk, are mounted in sight of the host. cgroup v1 is bound hierarchy by hierarchy.
pub fn names_nothing_of_host(mount: &Mount<'_>, cgroup_v2: bool) -> bool {
    const KINDS: &[&str] = &["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];
    let kind = mount.kind.as_deref().unwrap_or("");
    let options = || mount.options.iter().filter_map(|option| mount_option(option));
    kind == "bind"
        || options().any(|effect| matches!(effect, Effect::Bind | Effect::Rbind | Effect::Remount))
        || KINDS.contains(&kind) && (cgroup_v2 || !kind.starts_with("cgroup"))
}

/// Does this mount depend on the network namespace it is made in? sysfs and network file systems do; these do not.
pub fn may_show_network(what: &MountWhat) -> bool {
    const OTHERS: &[&CStr] = &[c"proc", c"tmpfs", c"devpts", c"mqueue", c"cgroup2", c"overlay"];
    matches!(what, MountWhat::New(new) if !OTHERS.contains(&new.kind.as_c_str()))
}

fn sort_options(options: &[Text<'_>]) -> Sorted {
    let mut sorted = Sorted::default();
    for option in options {
        match mount_option(option) {
            Some(Effect::Attr { set, clear }) => change(&mut sorted.attr, set, clear),
            Some(Effect::RecAttr { set, clear }) => change(&mut sorted.recursive_attr, set, clear),
            Some(Effect::Propagation(flags)) => {
                sorted.propagation.push((flags & !libc::MS_REC, flags & libc::MS_REC != 0));
            }
            Some(Effect::Superblock { flag, on, fsconfig }) => {
                sorted.flags = if on { sorted.flags | flag } else { sorted.flags & !flag };
                sorted.flag_names.extend(fsconfig);
            }
            Some(Effect::Bind) => sorted.bind = Some(sorted.bind.unwrap_or(false)),
            Some(Effect::Rbind) => sorted.bind = Some(true),
            Some(Effect::Remount) => sorted.remount = true,
            Some(Effect::TmpCopyUp) => sorted.copy_up = true,
            Some(Effect::Idmap) => sorted.idmap = Some(sorted.idmap.unwrap_or(false)),
            Some(Effect::Ridmap) => sorted.idmap = Some(true),
            Some(Effect::Ignored) => {}
            None => sorted.data.push(option.to_string()),
        }
    }
    sorted
}

fn change(attr: &mut MountAttr, set: u64, clear: u64) {
    attr.set = attr.set & !clear | set;
    attr.clear = attr.clear & !set | clear;
}

fn bind_source(item: &str, mount: &Mount<'_>, context: &MountContext<'_>) -> Result<CString> {
    let source = mount.source.as_deref().unwrap_or("");
    if source.is_empty() {
        return Err(Error::invalid(item, "a bind mount needs a source"));
    }
    let source = if source.starts_with('/') { source.to_owned() } else { format!("{}/{source}", context.bundle) };
    cstring(item, &source)
}

/// A bind mount, cloned by whoever has the rights. The slot is given when all mounts are known.
fn bind(source: CString, recursive: bool, context: &MountContext<'_>) -> MountWhat {
    match context.parent_binds {
        true => MountWhat::Tree(Tree { source, recursive, map: None, slot: 0 }),
        false => MountWhat::Bind { source, recursive },
    }
}

/// proc, sysfs and mqueue show a namespace, and the kernel mounts them only for who owns it. Where the container has a
/// user namespace and the runtime's PID, network or IPC namespace, the runtime's own mount shows the same.
fn host_instance(kind: &str, sorted: &Sorted, context: &MountContext<'_>) -> Option<CString> {
    let (namespace, path) = match kind {
        "proc" => ("pid", c"/proc"),
        "sysfs" => ("network", c"/sys"),
        "mqueue" => ("ipc", c"/dev/mqueue"),
        _ => return None,
    };
    let namespaces = context.namespaces;
    // A joined PID or IPC namespace is not the one that our mount shows.
    let shown = !namespaces.owns(namespace) && (kind == "sysfs" || !namespaces.has(namespace));
    (shown && sorted.data.is_empty()).then(|| path.to_owned())
}

/// CVE-2023-25809: without a cgroup namespace the tree has the cgroups that were delegated to the caller, whom
/// the container's root is. What is read-only must be so all the way down.
fn protect_cgroups(sorted: &mut Sorted, context: &MountContext<'_>) {
    let exposed = context.rootless && !context.namespaces.has("cgroup");
    if exposed && sorted.attr.set & libc::MOUNT_ATTR_RDONLY != 0 {
        sorted.recursive_attr.set |= libc::MOUNT_ATTR_RDONLY;
    }
}

/// The mount's own maps, or the container's (config.md, "Linux mount options", idmap).
fn idmap(item: &str, mount: &Mount<'_>, recursive: bool, context: &MountContext<'_>) -> Result<TreeMap> {
    let own = !mount.uid_mappings.is_empty() && !mount.gid_mappings.is_empty();
    let (uid, gid) = match (own, &context.namespaces.maps) {
        (true, _) => (mount.uid_mappings.clone(), mount.gid_mappings.clone()),
        (false, Some(maps)) => (maps.uid.clone(), maps.gid.clone()),
        (false, None) => {
            return Err(Error::invalid(item, "mapped ids need uidMappings and gidMappings, or a new user namespace"));
        }
    };
    Ok(TreeMap { recursive, uid, gid })
}

/// The container's view of its cgroup: a fresh cgroup2 mount where a cgroup namespace
/// confines it, otherwise a bind of the host's (a fresh one in the initial cgroup
/// namespace can wait for an RCU grace period of 5 to 18 ms).
fn cgroup(item: &str, context: &MountContext<'_>, sorted: &mut Sorted) -> Result<MountWhat> {
    match context.cgroup_v2 {
        Some(_) if context.namespaces.has("cgroup") => Ok(MountWhat::New(FileSystem {
            kind: c"cgroup2".to_owned(),
            source: Some(c"cgroup".to_owned()),
            options: Vec::new(),
            copy_up: false,
            legacy: None,
        })),
        Some(mount) => {
            if context.rootless && context.namespaces.has("user") {
                // CVE-2023-25809: see `protect_cgroups`; here whatever the options say.
                sorted.recursive_attr.set |= libc::MOUNT_ATTR_RDONLY;
            }
            Ok(bind(cstring(item, mount)?, true, context))
        }
        None => {
            sorted.flags = 0;
            let mut hierarchies = Vec::new();
            for (name, path) in &context.cgroup_v1 {
                let links = if name.contains(',') { name.split(',').collect() } else { Vec::new() };
                let links = links.into_iter().map(|link| cstring(item, link)).collect::<Result<_>>()?;
                hierarchies.push(Hierarchy { name: cstring(item, name)?, source: cstring(item, path)?, links });
            }
            Ok(MountWhat::CgroupV1 { hierarchies, optional: context.cgroup_optional })
        }
    }
}

fn file_system(item: &str, kind: &str, mount: &Mount<'_>, sorted: &Sorted) -> Result<FileSystem> {
    if kind.is_empty() {
        return Err(Error::invalid(item, "a mount needs a type, or the option bind or rbind"));
    }
    let mut options = Vec::new();
    for name in &sorted.flag_names {
        options.push((cstring(item, name)?, None));
    }
    let readonly = sorted.attr.set & libc::MOUNT_ATTR_RDONLY != 0;
    if readonly && kind != "tmpfs" && !SHARED_SUPERBLOCKS.contains(&kind) {
        options.push((c"ro".to_owned(), None));
    }
    for option in sorted.data.iter().filter(|option| !option.is_empty()) {
        options.push(match option.split_once('=') {
            Some((key, value)) => (cstring(item, key)?, Some(cstring(item, value)?)),
            None => (cstring(item, option)?, None),
        });
    }
    let too_long = |(_, value): &(CString, Option<CString>)| {
        value.as_ref().is_some_and(|value| value.as_bytes().len() > FSCONFIG_STRING_MAX)
    };
    let legacy = match options.iter().any(too_long) {
        true => {
            let readonly = if readonly { libc::MS_RDONLY } else { 0 };
            Some((sorted.flags | readonly, cstring(item, &sorted.data.join(","))?))
        }
        false => None,
    };
    Ok(FileSystem {
        kind: cstring(item, kind)?,
        source: mount.source.as_deref().filter(|s| !s.is_empty()).map(|s| cstring(item, s)).transpose()?,
        options,
        copy_up: sorted.copy_up && kind == "tmpfs",
        legacy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(json: &str) -> Namespaces {
        let text = format!(r#"{{"ociVersion":"1.3.0","linux":{{"namespaces":{json}}}}}"#);
        let config: crate::config::Config<'_> = serde_json::from_str(&text).expect("a config");
        super::super::plan_namespaces(&config).expect("namespaces")
    }

    fn context(namespaces: &Namespaces) -> MountContext<'_> {
        MountContext {
            bundle: "/b",
            namespaces,
            rootless: false,
            parent_binds: false,
            cgroup_v2: Some("/sys/fs/cgroup"),
            cgroup_v1: Vec::new(),
            label: None,
            cgroup_optional: false,
        }
    }

    fn step(json: &str) -> MountStep {
        let mount: Mount<'_> = serde_json::from_str(json).expect("a mount");
        plan_mount(0, &mount, &context(&namespaces(r#"[{"type":"cgroup"}]"#))).expect("a step")
    }

    #[test]
    fn the_last_of_two_contradicting_options_wins() {
        let s = step(r#"{"destination":"/a","type":"proc","options":["ro","nosuid","rw","suid","nosuid"]}"#);
        assert_eq!(s.attr.set, libc::MOUNT_ATTR_NOSUID);
        assert_eq!(s.attr.clear, libc::MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn a_bind_source_is_relative_to_the_bundle() {
        let s = step(r#"{"destination":"a","source":"data","options":["rbind","ro"]}"#);
        let MountWhat::Bind { source, recursive } = s.what else { panic!("not a bind: {s:?}") };
        assert_eq!((source.as_c_str(), recursive), (c"/b/data", true));
        assert_eq!(s.destination.as_c_str(), c"/a");
    }

    #[test]
    fn a_read_only_tmpfs_becomes_read_only_late() {
        let s = step(r#"{"destination":"/a","type":"tmpfs","options":["ro","mode=755"]}"#);
        assert!(s.late_readonly);
        assert_eq!(s.attr.set, 0);
    }

    #[test]
    fn a_value_that_fsconfig_refuses_goes_through_mount() {
        let long = "x".repeat(300);
        let s =
            step(&format!(r#"{{"destination":"/a","type":"overlay","options":["lowerdir={long}","ro","userxattr"]}}"#));
        let MountWhat::New(fs) = s.what else { panic!("not a file system: {s:?}") };
        let (flags, data) = fs.legacy.expect("the legacy way");
        assert_eq!(flags, libc::MS_RDONLY);
        assert_eq!(data.to_str(), Ok(format!("lowerdir={long},userxattr").as_str()));
    }

    #[test]
    fn without_a_cgroup_namespace_the_hosts_cgroups_are_bound() {
        let mount: Mount<'_> =
            serde_json::from_str(r#"{"destination":"/sys/fs/cgroup","type":"cgroup"}"#).expect("json");
        let s = plan_mount(0, &mount, &context(&namespaces("[]"))).expect("a step");
        assert!(matches!(s.what, MountWhat::Bind { recursive: true, .. }), "{s:?}");
    }

    #[test]
    fn what_shows_a_namespace_of_the_runtimes_is_bound_from_it_in_a_user_namespace() {
        let planned = |kind: &str, list: &str| {
            let json = format!(r#"{{"destination":"/x","type":"{kind}","source":"x"}}"#);
            let mount: Mount<'_> = serde_json::from_str(&json).expect("a mount");
            let namespaces = namespaces(list);
            plan_mount(0, &mount, &context(&namespaces)).expect("a step").what
        };
        for (kind, namespace) in [("proc", "pid"), ("sysfs", "network"), ("mqueue", "ipc")] {
            assert!(matches!(planned(kind, "[]"), MountWhat::New(_)), "{kind}");
            assert!(matches!(planned(kind, r#"[{"type":"user"}]"#), MountWhat::Bind { recursive: true, .. }), "{kind}");
            let both = format!(r#"[{{"type":"user"}},{{"type":"{namespace}"}}]"#);
            assert!(matches!(planned(kind, &both), MountWhat::New(_)), "{kind}");
        }
    }

    #[test]
    fn cve_2023_25809_a_rootless_container_without_a_cgroup_namespace_cannot_write_to_cgroups() {
        let namespaces = namespaces(r#"[{"type":"user"}]"#);
        for (mount, readonly) in [
            (r#"{"destination":"/sys/fs/cgroup","type":"cgroup"}"#, true),
            (r#"{"destination":"/sys","type":"none","source":"/sys","options":["rbind","ro"]}"#, true),
            (r#"{"destination":"/sys","type":"sysfs","source":"sysfs","options":["ro"]}"#, true),
            (r#"{"destination":"/srv","type":"none","source":"/srv","options":["rbind","ro"]}"#, false),
        ] {
            let parsed: Mount<'_> = serde_json::from_str(mount).expect("a mount");
            let context = MountContext { rootless: true, ..context(&namespaces) };
            let step = plan_mount(0, &parsed, &context).expect("a step");
            assert_eq!(step.recursive_attr.set & libc::MOUNT_ATTR_RDONLY != 0, readonly, "{mount}");
        }
    }
}
