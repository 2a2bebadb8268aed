//! The config that `xebec spec` writes: a shell in all namespaces, with the
//! protections that engines use. What it means is what `runc spec`'s means, with
//! a cgroup namespace, no ambient or inheritable capabilities (CVE-2022-29162),
//! and the paths masked that engines have added since.
//!
//! Pure: the caller passes the ids in.

pub mod seccomp;

use std::collections::HashSet;

use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace,
    LinuxNamespaceType, LinuxResources, Mount, PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec,
};
use serde::Serialize;
use serde_json::Value;

use crate::config::OCI_VERSION;
use crate::error::Result;

/// One of the mounts: destination, type, source, options (separated by blanks).
type MountLine = (&'static str, &'static str, &'static str, &'static str);

const MOUNTS: &[MountLine] = &[
    ("/proc", "proc", "proc", ""),
    ("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
    ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
];

/// A sysfs belongs to a network namespace; without an own one only the host's can be bound.
const ROOTLESS_SYS: MountLine = ("/sys", "none", "/sys", "rbind nosuid noexec nodev ro");

/// What tells of the host's hardware or keys, or of other containers' timing.
const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The default config as JSON text, indented with tabs; `rootless` holds the
/// effective user and group id of the caller who will own the container.
#[must_use]
pub fn default_config(rootless: Option<(u32, u32)>) -> String {
    written(default_value(rootless))
}

/// The default config with a filter of system calls: [`seccomp::default_profile`] for its
/// capabilities, with system calls and groups allowed and denied beside.
///
/// # Errors
/// `allow` or `deny` names what nobody knows.
pub fn config_with_seccomp(rootless: Option<(u32, u32)>, allow: &[String], deny: &[String]) -> Result<String> {
    let mut value = default_value(rootless);
    let caps = value["process"]["capabilities"]["bounding"].as_array().into_iter().flatten();
    let caps: Vec<String> = caps.filter_map(Value::as_str).map(str::to_owned).collect();
    let wish = seccomp::Wish { native: xebec_seccomp::Arch::native(), caps: &caps, allow, deny };
    value["linux"]["seccomp"] = seccomp::default_profile(&wish)?;
    Ok(written(value))
}

fn default_value(rootless: Option<(u32, u32)>) -> Value {
    let mut value = serde_json::to_value(default_spec(rootless)).unwrap_or_default();
    sort_capabilities(&mut value);
    value
}

fn written(mut value: Value) -> String {
    let mut take = |name: &str| value.get_mut(name).map(Value::take).unwrap_or_default();
    let document = Document {
        oci_version: take("ociVersion"),
        process: take("process"),
        root: take("root"),
        hostname: take("hostname"),
        mounts: take("mounts"),
        linux: take("linux"),
    };
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    document
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))
        .expect("plain values always become JSON");
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// The properties in the order in which people read them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    oci_version: Value,
    process: Value,
    root: Value,
    hostname: Value,
    mounts: Value,
    linux: Value,
}

/// The ecosystem's type keeps capabilities in a hash set, in no order at all.
fn sort_capabilities(config: &mut Value) {
    let Some(Value::Object(sets)) = config.pointer_mut("/process/capabilities") else { return };
    for set in sets.values_mut() {
        if let Value::Array(names) = set {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
}

/// The default config in the ecosystem's type.
#[must_use]
pub fn default_spec(rootless: Option<(u32, u32)>) -> Spec {
    let mut root = Root::default();
    root.set_path("rootfs".into()).set_readonly(Some(true));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_process(Some(process()))
        .set_root(Some(root))
        .set_hostname(Some("xebec".to_owned()))
        .set_mounts(Some(mounts(rootless.is_some())))
        .set_linux(Some(linux(rootless)))
        .set_annotations(None);
    spec
}

fn process() -> Process {
    let all = HashSet::from([Capability::AuditWrite, Capability::Kill, Capability::NetBindService]);
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(all.clone()))
        .set_effective(Some(all.clone()))
        .set_permitted(Some(all))
        .set_inheritable(None)
        .set_ambient(None);
    let nofile = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).hard(1024u64).soft(1024u64);
    let mut process = Process::default();
    process
        .set_terminal(Some(true))
        .set_args(Some(vec!["sh".to_owned()]))
        .set_env(Some(vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "TERM=xterm".to_owned(),
        ]))
        .set_cwd("/".into())
        .set_capabilities(Some(capabilities))
        .set_rlimits(Some(vec![nofile.build().expect("the type of limit is given")]))
        .set_no_new_privileges(Some(true));
    process
}

/// A rootless container maps one group, so devpts cannot give terminals to group 5.
fn mounts(rootless: bool) -> Vec<Mount> {
    let lines = MOUNTS.iter().map(|line| if rootless && line.0 == "/sys" { &ROOTLESS_SYS } else { line });
    lines
        .map(|(destination, kind, source, options)| {
            let options: Vec<_> = options
                .split_whitespace()
                .filter(|option| !(rootless && option.starts_with("gid=")))
                .map(str::to_owned)
                .collect();
            let mut mount = Mount::default();
            mount
                .set_destination((*destination).into())
                .set_typ(Some((*kind).to_owned()))
                .set_source(Some((*source).into()))
                .set_options((!options.is_empty()).then_some(options));
            mount
        })
        .collect()
}

fn linux(rootless: Option<(u32, u32)>) -> Linux {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let kinds: &[_] = if rootless.is_some() {
        &[Pid, Ipc, Uts, Mount, Cgroup, User]
    } else {
        &[Pid, Network, Ipc, Uts, Mount, Cgroup]
    };
    let namespaces = kinds.iter().map(|kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(*kind).set_path(None);
        namespace
    });
    let paths = |list: &[&str]| Some(list.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces.collect()))
        .set_masked_paths(paths(MASKED_PATHS))
        .set_readonly_paths(paths(READONLY_PATHS))
        .set_resources(rootless.is_none().then(deny_all_devices));
    if let Some((uid, gid)) = rootless {
        linux.set_uid_mappings(Some(vec![only(uid)])).set_gid_mappings(Some(vec![only(gid)]));
    }
    linux
}

/// Root inside is `id` outside, and nobody else is.
fn only(id: u32) -> LinuxIdMapping {
    let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(id).size(1u32);
    mapping.build().expect("every property has a default")
}

/// The default devices are allowed by the runtime itself.
fn deny_all_devices() -> LinuxResources {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(false).set_typ(None).set_access(Some("rwm".to_owned()));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![rule]));
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, check, parse_config};

    fn judged(text: &str) -> Config<'_> {
        let config = parse_config("c", text).expect("config");
        assert_eq!(check(&config), (vec![], vec![]));
        config
    }

    #[test]
    fn the_default_config_passes_its_own_check_without_a_warning() {
        let text = default_config(None);
        let config = judged(&text);
        let process = config.process.expect("process");
        let caps = process.capabilities.expect("capabilities");
        let names: Vec<_> = caps.bounding.iter().map(|name| name.to_string()).collect();
        assert_eq!(names, ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        assert_eq!((&caps.effective, &caps.permitted), (&caps.bounding, &caps.bounding));
        assert!(caps.ambient.is_empty() && caps.inheritable.is_empty());
        assert!(process.terminal && process.no_new_privileges);
        assert_eq!((process.rlimits[0].soft, process.rlimits[0].hard), (1024, 1024));
        let kinds: Vec<_> = config.linux.namespaces.iter().map(|n| n.kind.to_string()).collect();
        assert_eq!(kinds, ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        assert_eq!(config.mounts.len(), 7);
        assert!(!config.linux.resources.expect("resources").devices[0].allow);
    }

    #[test]
    fn the_rootless_config_maps_the_caller_and_needs_no_privilege() {
        let text = default_config(Some((1000, 1001)));
        let config = judged(&text);
        let linux = &config.linux;
        assert_eq!((linux.uid_mappings[0].host_id, linux.gid_mappings[0].host_id), (1000, 1001));
        assert_eq!((linux.uid_mappings[0].container_id, linux.uid_mappings[0].size), (0, 1));
        let kinds: Vec<_> = linux.namespaces.iter().map(|n| n.kind.to_string()).collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        assert!(linux.resources.is_none());
        let options = |destination: &str| {
            let mount = config.mounts.iter().find(|m| &*m.destination == destination).expect("mount");
            mount.options.iter().map(|o| o.to_string()).collect::<Vec<_>>()
        };
        assert!(!options("/dev/pts").iter().any(|o| o.starts_with("gid=")));
        assert_eq!(options("/sys"), ["rbind", "nosuid", "noexec", "nodev", "ro"]);
    }

    #[test]
    fn the_text_is_stable_indented_and_reads_from_the_top() {
        let text = default_config(None);
        assert!(text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t"), "{text}");
        assert!(text.ends_with("\n}\n"));
        assert!(!text.contains("null"), "{text}");
        assert_eq!(text, default_config(None));
    }
}
