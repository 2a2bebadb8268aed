//! CHECK of `linux.resources` (config-linux.md, "Control groups"), of
//! config.json or of an update's file.
//!
//! Only what is wrong on every cgroup version; the rest is the plan's.

use super::{Report, entry};
use crate::config::finding::quoted;
use crate::config::{BlockIo, Cpu, DeviceCgroup, Memory, Resources};

pub(super) fn check(at: &str, report: &mut Report, resources: &Resources<'_>) {
    for (i, rule) in resources.devices.iter().enumerate() {
        device(&format!("{at}/devices/{i}"), report, rule);
    }
    if let Some(memory) = &resources.memory {
        self::memory(&format!("{at}/memory"), report, memory);
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(&format!("{at}/cpu"), report, cpu);
    }
    if let Some(limit) = resources.pids.and_then(|pids| pids.limit).filter(|limit| *limit < -1) {
        report.find(format_args!("{at}/pids/limit"), format_args!("{limit} found, -1 (no limit) or more expected"));
    }
    if let Some(block_io) = &resources.block_io {
        self::block_io(&format!("{at}/blockIO"), report, block_io);
    }
    for (i, limit) in resources.hugepage_limits.iter().enumerate().filter(|(_, limit)| !page_size(&limit.page_size)) {
        let what =
            format_args!("{} found, a size such as \"64KB\", \"2MB\" or \"1GB\" expected", quoted(&limit.page_size));
        report.find(format_args!("{at}/hugepageLimits/{i}/pageSize"), what);
    }
    for (i, interface) in resources.network.iter().flat_map(|network| &network.priorities).enumerate() {
        report.c_text(format_args!("{at}/network/priorities/{i}/name"), &interface.name);
    }
    for (device, limits) in &resources.rdma {
        let at = entry(&format!("{at}/rdma"), device);
        report.c_text(&at, device);
        if limits.hca_handles.is_none() && limits.hca_objects.is_none() {
            report.find(at, "hcaHandles or hcaObjects is required");
        }
    }
    for (file, value) in &resources.unified {
        let at = entry(&format!("{at}/unified"), file);
        report.c_text(&at, value);
        if file.contains(['/', '\0']) || !file.trim_matches('.').contains('.') {
            report.find(at, "is not the name of a cgroup file (CONTROLLER.PARAMETER)");
        }
    }
}

/// The allowed device list; unset values mean "all", an empty access too.
fn device(at: &str, report: &mut Report, rule: &DeviceCgroup<'_>) {
    let kind = rule.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "" | "a" | "b" | "c") {
        report.find(format_args!("{at}/type"), format_args!("{} found, one of a, b, c expected", quoted(kind)));
    }
    let access = rule.access.as_deref().unwrap_or_default();
    if !access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
        report.find(format_args!("{at}/access"), format_args!("{} found, some of r, w, m expected", quoted(access)));
    }
    for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
        // -1 is how engines write "all".
        if let Some(n) = number.filter(|n| *n < -1 || *n > i64::from(u32::MAX)) {
            report.find(format_args!("{at}/{name}"), format_args!("{n} found, a device number or -1 (all) expected"));
        }
    }
}

/// 0 stands for "not set" with the engines, -1 for "no limit".
fn memory(at: &str, report: &mut Report, memory: &Memory) {
    let limits = [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
        ("kernel", memory.kernel),
        ("kernelTCP", memory.kernel_tcp),
    ];
    for (name, value) in limits {
        if let Some(value) = value.filter(|value| *value < -1) {
            let what = format_args!("{value} found, bytes or -1 (no limit) expected");
            report.find(format_args!("{at}/{name}"), what);
        }
    }
    if let (Some(limit @ 1..), Some(swap @ 1..)) = (memory.limit, memory.swap)
        && swap < limit
    {
        let what = format_args!("{swap} found, at least the limit {limit} expected: swap is memory and swap together");
        report.find(format_args!("{at}/swap"), what);
    }
    if let Some(swappiness) = memory.swappiness.filter(|swappiness| *swappiness > 100) {
        report.find(format_args!("{at}/swappiness"), format_args!("{swappiness} found, 0 to 100 expected"));
    }
}

fn cpu(at: &str, report: &mut Report, cpu: &Cpu<'_>) {
    if let (Some(quota @ 1..), Some(burst)) = (cpu.quota, cpu.burst)
        && burst > quota.unsigned_abs()
    {
        report.find(format_args!("{at}/burst"), format_args!("{burst} found, at most the quota {quota} expected"));
    }
    if let Some(idle) = cpu.idle.filter(|idle| !matches!(idle, 0 | 1)) {
        report.find(format_args!("{at}/idle"), format_args!("{idle} found, 0 or 1 expected"));
    }
    // The kernel's own list syntax: ranges with strides ("0-31:1/2"), N, all.
    let known = |b: u8| b.is_ascii_digit() || b"-,:/ Nal\n".contains(&b);
    for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        let Some(list) = list.as_deref().filter(|list| !list.bytes().all(known)) else { continue };
        report.find(
            format_args!("{at}/{name}"),
            format_args!("{} found, a list such as \"0-3,7\" expected", quoted(list)),
        );
    }
}

/// Weights are cgroup v1's, 10 to 1000; 0 stands for "not set".
fn block_io(at: &str, report: &mut Report, block_io: &BlockIo) {
    let mut weights =
        vec![(format!("{at}/weight"), block_io.weight), (format!("{at}/leafWeight"), block_io.leaf_weight)];
    for (i, device) in block_io.weight_device.iter().enumerate() {
        let at = format!("{at}/weightDevice/{i}");
        if device.weight.is_none() && device.leaf_weight.is_none() {
            report.find(&at, "weight or leafWeight is required");
        }
        weights.push((format!("{at}/weight"), device.weight));
        weights.push((format!("{at}/leafWeight"), device.leaf_weight));
    }
    for (at, weight) in weights {
        if let Some(weight) = weight.filter(|weight| *weight != 0 && !(10..=1000).contains(weight)) {
            report.find(at, format_args!("{weight} found, 10 to 1000 expected"));
        }
    }
    let throttles = [
        ("throttleReadBpsDevice", &block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &block_io.throttle_write_iops_device),
    ];
    let devices = throttles.iter().flat_map(|(name, list)| {
        list.iter().enumerate().map(move |(i, device)| (format!("{name}/{i}"), device.major, device.minor))
    });
    let weighted = block_io.weight_device.iter().enumerate();
    let weighted = weighted.map(|(i, device)| (format!("weightDevice/{i}"), device.major, device.minor));
    for (place, major, minor) in devices.chain(weighted) {
        for (name, number) in [("major", major), ("minor", minor)] {
            if !(0..=i64::from(u32::MAX)).contains(&number) {
                let what = format_args!("{number} found, a device number expected");
                report.find(format_args!("{at}/{place}/{name}"), what);
            }
        }
    }
}

/// `^[1-9][0-9]*[KMG]B$`
fn page_size(text: &str) -> bool {
    let number = text.strip_suffix('B').and_then(|rest| rest.strip_suffix(['K', 'M', 'G']));
    number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()) && !n.is_empty() && !n.starts_with('0'))
}
