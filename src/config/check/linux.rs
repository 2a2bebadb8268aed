//! CHECK of `linux` (config-linux.md) but for resources and sysctls.

use super::{Report, entry, has, ids, resources, sysctl};
use crate::config::finding::quoted;
use crate::config::words;
use crate::config::{Config, Device, IntelRdt, Linux, MemoryPolicy};

pub(super) fn check(report: &mut Report, config: &Config<'_>) {
    let linux = &config.linux;
    namespaces(report, linux);
    user_namespace(report, config);
    time_offsets(report, linux);
    for (i, device) in linux.devices.iter().enumerate() {
        self::device(report, &format!("/linux/devices/{i}"), device);
    }
    net_devices(report, linux);
    if let Some(path) = linux.cgroups_path.as_deref() {
        report.c_text("/linux/cgroupsPath", path);
        if path.split('/').any(|part| part == "..") {
            report.find("/linux/cgroupsPath", format_args!("{} found, a path without \"..\" expected", quoted(path)));
        }
    }
    if let Some(resources) = &linux.resources {
        resources::check("/linux/resources", report, resources);
    }
    if let Some(rdt) = &linux.intel_rdt {
        intel_rdt(report, rdt);
    }
    if let Some(policy) = &linux.memory_policy {
        memory_policy(report, policy);
    }
    sysctl::check(report, config);
    if let Some(propagation) = linux.rootfs_propagation.as_deref().filter(|p| !p.is_empty()) {
        report.word("/linux/rootfsPropagation", words::ROOTFS_PROPAGATIONS, propagation);
    }
    covered_paths(report, linux);
    for finding in linux.seccomp.iter().flat_map(|profile| profile.check()) {
        let what = format!("{} found, {} expected", finding.found, finding.expected);
        report.find(format_args!("/linux/seccomp{}", finding.pointer), what);
    }
    report.c_text("/linux/mountLabel", linux.mount_label.as_deref().unwrap_or_default());
    if let Some(personality) = &linux.personality {
        report.word("/linux/personality/domain", words::PERSONALITY_DOMAINS, &personality.domain);
        for (i, flag) in personality.flags.iter().enumerate() {
            report.word(format_args!("/linux/personality/flags/{i}"), words::PERSONALITY_FLAGS, flag);
        }
    }
}

fn namespaces(report: &mut Report, linux: &Linux<'_>) {
    for (i, namespace) in linux.namespaces.iter().enumerate() {
        report.word(format_args!("/linux/namespaces/{i}/type"), words::NAMESPACES, &namespace.kind);
        // An empty path is what Go writes for none.
        if let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty()) {
            report.absolute(format_args!("/linux/namespaces/{i}/path"), path);
        }
    }
    super::unlike(report, "/linux/namespaces", "/type", linux.namespaces.iter().map(|n| &*n.kind));
}

/// A new user namespace needs mappings, and mappings need a user namespace; one
/// that is joined has its own, and may repeat them here (containerd does).
fn user_namespace(report: &mut Report, config: &Config<'_>) {
    let linux = &config.linux;
    let new = linux.namespaces.iter().any(|n| &*n.kind == "user" && n.path.as_deref().unwrap_or_default().is_empty());
    let user = config.process.as_ref().map(|process| &process.user);
    let lists = [
        ("/linux/uidMappings", "/process/user/uid", &linux.uid_mappings, user.map(|user| user.uid)),
        ("/linux/gidMappings", "/process/user/gid", &linux.gid_mappings, user.map(|user| user.gid)),
    ];
    for (at, id_at, list, id) in lists {
        ids::mappings(format_args!("{at}"), report, list);
        if !list.is_empty() && !has(linux, "user") {
            report.find(at, "needs a \"user\" entry in /linux/namespaces");
        }
        if !new {
            continue;
        }
        if list.is_empty() {
            report.find(at, "required for a new user namespace, a list was expected");
        } else if let Some(id) = id.filter(|id| !ids::maps(list, *id)) {
            report.find(id_at, format_args!("{id} is not mapped by {at}"));
        }
    }
    let groups = user.filter(|_| new && !linux.gid_mappings.is_empty()).map(|user| &user.additional_gids);
    for (i, gid) in groups.into_iter().flatten().enumerate().filter(|(_, gid)| !ids::maps(&linux.gid_mappings, **gid)) {
        report.find(
            format_args!("/process/user/additionalGids/{i}"),
            format_args!("{gid} is not mapped by /linux/gidMappings"),
        );
    }
}

fn time_offsets(report: &mut Report, linux: &Linux<'_>) {
    if !linux.time_offsets.is_empty() && !has(linux, "time") {
        report.find("/linux/timeOffsets", "needs a \"time\" entry in /linux/namespaces");
    }
    for (clock, offset) in &linux.time_offsets {
        let at = entry("/linux/timeOffsets", clock);
        report.word(&at, words::CLOCKS, clock);
        if offset.nanosecs > 999_999_999 {
            let what = format_args!("{} found, at most 999999999 expected", offset.nanosecs);
            report.find(format_args!("{at}/nanosecs"), what);
        }
    }
}

/// config-linux.md, "Devices"; the kernel's numbers are 12 and 20 bits wide.
fn device(report: &mut Report, at: &str, device: &Device<'_>) {
    report.absolute(format_args!("{at}/path"), &device.path);
    if !matches!(&*device.kind, "c" | "b" | "u" | "p") {
        let what = format_args!("{} found, one of c, b, u, p expected", quoted(&device.kind));
        report.find(format_args!("{at}/type"), what);
    }
    for (name, number, max) in [("major", device.major, (1 << 12) - 1), ("minor", device.minor, (1 << 20) - 1)] {
        match number {
            _ if &*device.kind == "p" => {}
            None => report.find(format_args!("{at}/{name}"), "required unless the type is p, a number was expected"),
            Some(n) if !(0..=max).contains(&n) => {
                report.find(format_args!("{at}/{name}"), format_args!("{n} found, 0 to {max} expected"));
            }
            Some(_) => {}
        }
    }
    // Some engines hand on st_mode with its file type; only bits beyond are wrong.
    if let Some(mode) = device.file_mode.filter(|mode| mode & !(libc::S_IFMT | 0o7777) != 0) {
        let what = format_args!("{mode} found, permission bits (at most 4095, octal 7777) expected");
        report.find(format_args!("{at}/fileMode"), what);
    }
}

fn net_devices(report: &mut Report, linux: &Linux<'_>) {
    if !linux.net_devices.is_empty() && !has(linux, "network") {
        report.find("/linux/netDevices", "needs a \"network\" entry in /linux/namespaces");
    }
    let mut targets = Vec::new();
    for (host, device) in &linux.net_devices {
        let at = entry("/linux/netDevices", host);
        interface(report, &at, host);
        let name = device.name.as_deref().filter(|name| !name.is_empty());
        if let Some(name) = name {
            interface(report, &format!("{at}/name"), name);
        }
        let target = name.unwrap_or(host);
        // A template such as eth%d gives each device a name of its own.
        if !target.contains("%d") && targets.contains(&target) {
            report.find(format_args!("{at}/name"), format_args!("{} is given twice", quoted(target)));
        }
        targets.push(target);
    }
}

/// dev_valid_name() of the kernel: 1 to 15 bytes, no `/`, `:` or blank, not `.` or `..`.
fn interface(report: &mut Report, at: &str, name: &str) {
    let bad = |b: u8| matches!(b, b'/' | b':' | 0) || b.is_ascii_whitespace() || b == 0x0b;
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.bytes().any(bad) {
        report.find(at, format_args!("{} is not the name of a network interface", quoted(name)));
    }
}

/// config-linux.md, "IntelRdt".
fn intel_rdt(report: &mut Report, rdt: &IntelRdt<'_>) {
    let at = "/linux/intelRdt";
    if let Some(id) = rdt.clos_id.as_deref() {
        report.c_text(format_args!("{at}/closID"), id);
        if matches!(id, "." | "..") || (id.contains('/') && id != "/") {
            report.find(format_args!("{at}/closID"), format_args!("{} is neither a name nor \"/\"", quoted(id)));
        }
    }
    if let Some(schema) = rdt.mem_bw_schema.as_deref() {
        report.c_text(format_args!("{at}/memBwSchema"), schema);
        if !schema.starts_with("MB:") || schema.contains('\n') {
            let what = format_args!("{} found, one line that starts with MB: expected", quoted(schema));
            report.find(format_args!("{at}/memBwSchema"), what);
        }
    }
    if let Some(schema) = rdt.l3_cache_schema.as_deref() {
        report.c_text(format_args!("{at}/l3CacheSchema"), schema);
        if !schema.starts_with("L3:") || schema.contains('\n') {
            let what = format_args!("{} should be one line that starts with L3:", quoted(schema));
            report.warn(format_args!("{at}/l3CacheSchema"), what);
        }
    }
    for (i, line) in rdt.schemata.iter().enumerate() {
        report.c_text(format_args!("{at}/schemata/{i}"), line);
        if line.contains('\n') {
            report.find(format_args!("{at}/schemata/{i}"), format_args!("{} found, one line expected", quoted(line)));
        }
    }
}

/// The rules of set_mempolicy(2) (mm/mempolicy.c).
fn memory_policy(report: &mut Report, policy: &MemoryPolicy<'_>) {
    let at = "/linux/memoryPolicy";
    report.word(format_args!("{at}/mode"), words::MEMORY_POLICY_MODES, &policy.mode);
    for (i, flag) in policy.flags.iter().enumerate() {
        report.word(format_args!("{at}/flags/{i}"), words::MEMORY_POLICY_FLAGS, flag);
    }
    let has = |flag: &str| policy.flags.iter().any(|f| &**f == flag);
    let (fixed, relative) = (has("MPOL_F_STATIC_NODES"), has("MPOL_F_RELATIVE_NODES"));
    if fixed && relative {
        report.find(format_args!("{at}/flags"), "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
    }
    if has("MPOL_F_NUMA_BALANCING") && !matches!(&*policy.mode, "MPOL_BIND" | "MPOL_PREFERRED_MANY") {
        let what = "MPOL_F_NUMA_BALANCING goes with MPOL_BIND or MPOL_PREFERRED_MANY only";
        report.find(format_args!("{at}/flags"), what);
    }
    let text = policy.nodes.as_deref().unwrap_or_default();
    let Some(nodes) = words::ranges(text) else {
        let what = format_args!("{} found, a list of nodes such as \"0-3,7\" expected", quoted(text));
        report.find(format_args!("{at}/nodes"), what);
        return;
    };
    let mode = &*policy.mode;
    match mode {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !nodes.is_empty() => {
            report.find(format_args!("{at}/nodes"), format_args!("{text:?} found, none expected with {mode}"));
        }
        "MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_WEIGHTED_INTERLEAVE" | "MPOL_PREFERRED_MANY" if nodes.is_empty() => {
            report.find(format_args!("{at}/nodes"), format_args!("required with {mode}, a list was expected"));
        }
        "MPOL_LOCAL" | "MPOL_PREFERRED" if nodes.is_empty() && (fixed || relative) => {
            report
                .find(format_args!("{at}/flags"), format_args!("{mode} without nodes takes neither of the node flags"));
        }
        _ => {}
    }
}

/// Masked and read-only paths: absolute, and in a mount namespace other than
/// the caller's, or they would be covered on the host.
fn covered_paths(report: &mut Report, linux: &Linux<'_>) {
    for (at, paths) in [("/linux/maskedPaths", &linux.masked_paths), ("/linux/readonlyPaths", &linux.readonly_paths)] {
        if !paths.is_empty() && !has(linux, "mount") {
            report.find(at, "needs a \"mount\" entry in /linux/namespaces: it would cover the host's paths");
        }
        for (i, path) in paths.iter().enumerate() {
            report.absolute(format_args!("{at}/{i}"), path);
        }
    }
}
