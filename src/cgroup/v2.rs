//! Values of linux.resources as writes to cgroup v2 files.
//!
//! Pure; in the order in which the files must be written. What only cgroup v1 can
//! do becomes a warning, as runc decides.

use super::values::{Write, Writes, bytes_or_max, hugepage_file, list, non_negative, swap_of};
use crate::config::{BlockIo, Cpu, Memory, Resources};
use crate::error::{Error, Result};

/// The period that the kernel assumes where none is given, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Everything but devices and `unified`, limited to controllers that `here` has.
pub fn plan_writes(resources: &Resources<'_>, here: &dyn Fn(&str) -> bool, out: &mut Writes) -> Result<()> {
    if let (true, Some(limit)) = (here("pids"), resources.pids.and_then(|pids| pids.limit)) {
        let item = "linux.resources.pids.limit";
        out.push(Write::new(item, "pids", "pids.max", bytes_or_max(item, limit)?).harmless(limit == -1));
    }
    if let (true, Some(memory)) = (here("memory"), &resources.memory) {
        plan_memory(memory, out)?;
    }
    if let (true, Some(io)) = (here("io"), &resources.block_io) {
        plan_io(io, out)?;
    }
    if let Some(cpu) = &resources.cpu {
        if here("cpu") {
            plan_cpu(cpu, out)?;
        }
        if here("cpuset") {
            list(out, "linux.resources.cpu.cpus", "cpuset.cpus", cpu.cpus.as_deref())?;
            list(out, "linux.resources.cpu.mems", "cpuset.mems", cpu.mems.as_deref())?;
        }
    }
    if here("hugetlb") {
        for (i, huge) in resources.hugepage_limits.iter().enumerate() {
            let item = format!("linux.resources.hugepageLimits[{i}].limit");
            let size = hugepage_file(i, &huge.page_size)?;
            out.push(Write::new(&item, "hugetlb", format!("hugetlb.{size}.max"), huge.limit));
            // hugetlb.*.rsvd.* is there since kernel 5.7.
            let rsvd = Write::new(&item, "hugetlb", format!("hugetlb.{size}.rsvd.max"), huge.limit);
            out.push(rsvd.harmless(true));
        }
    }
    if here("rdma") {
        super::values::plan_rdma(resources, out)?;
    }
    Ok(())
}

/// `linux.resources.unified`, verbatim and last.
pub fn plan_unified(resources: &Resources<'_>, out: &mut Writes) -> Result<()> {
    for (key, value) in &resources.unified {
        let item = format!("linux.resources.unified.{key}");
        if key.contains(['/', '\0']) {
            return Err(Error::invalid(item, "the key must be a file name, without a slash"));
        }
        let Some((controller, _)) = key.split_once('.') else {
            return Err(Error::invalid(item, "the key must have the form CONTROLLER.PARAMETER"));
        };
        // Some files (cpu.stat, memory.pressure) are there without their controller,
        // so the controller is asked for, and only the file's absence is an error.
        out.want(controller);
        for line in value.lines() {
            out.push(Write::new(&item, controller, &**key, line).unified());
        }
    }
    Ok(())
}

/// Limits of memory. A limit of 0 means unset, as in runc and cgroup v1's callers.
fn plan_memory(memory: &Memory, out: &mut Writes) -> Result<()> {
    const LIMIT: &str = "linux.resources.memory.limit";
    const LOW: &str = "linux.resources.memory.reservation";
    const SWAP: &str = "linux.resources.memory.swap";
    let limit = memory.limit.filter(|limit| *limit != 0);
    let check = memory.check_before_update == Some(true);
    if let Some(swap) = swap_of(memory)? {
        // Without swap accounting the file is absent; no limit and no swap hold then anyway.
        let harmless = swap == -1 || swap == 0;
        let write = Write::new(SWAP, "memory", "memory.swap.max", bytes_or_max(SWAP, swap)?).harmless(harmless);
        let total = memory.swap.filter(|total| check && *total > 0);
        out.push(write.not_below_usage("memory.current", total));
    }
    if let Some(limit) = limit {
        let write = Write::new(LIMIT, "memory", "memory.max", bytes_or_max(LIMIT, limit)?).harmless(limit == -1);
        out.push(write.not_below_usage("memory.current", Some(limit).filter(|limit| check && *limit > 0)));
    }
    if let Some(low) = memory.reservation.filter(|low| *low != 0) {
        out.push(Write::new(LOW, "memory", "memory.low", bytes_or_max(LOW, low)?).harmless(low == -1));
    }
    for (name, set) in [
        ("kernel", memory.kernel.is_some_and(|limit| limit > 0)),
        ("kernelTCP", memory.kernel_tcp.is_some_and(|limit| limit > 0)),
        ("swappiness", memory.swappiness.is_some()),
        ("disableOOMKiller", memory.disable_oom_killer == Some(true)),
        ("useHierarchy", memory.use_hierarchy == Some(false)),
    ] {
        if set {
            out.warn(format!("linux.resources.memory.{name} has no effect on cgroup v2"));
        }
    }
    Ok(())
}

/// CPU time. Burst comes after quota, which has to be the larger one.
fn plan_cpu(cpu: &Cpu<'_>, out: &mut Writes) -> Result<()> {
    let idle = cpu.idle.unwrap_or(0);
    if let Some(idle) = cpu.idle {
        out.push(Write::new("linux.resources.cpu.idle", "cpu", "cpu.idle", idle).harmless(idle == 0));
    }
    if let Some(weight) = cpu.shares.and_then(weight_of_shares) {
        if idle == 1 {
            out.warn("linux.resources.cpu.shares has no effect beside idle");
        } else {
            out.push(Write::new("linux.resources.cpu.shares", "cpu", "cpu.weight", weight));
        }
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    if let Some(quota) = quota.filter(|quota| *quota < -1) {
        return Err(Error::invalid("linux.resources.cpu.quota", format!("{quota} is neither a time nor -1")));
    }
    let period = cpu.period.filter(|period| *period != 0);
    if period.is_some() {
        // Without a quota it limits nothing yet; a later update that names only the quota counts on it.
        out.want("cpu");
    }
    if quota.is_some() || period.is_some() {
        let max = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        let value = format!("{max} {}", period.unwrap_or(DEFAULT_PERIOD));
        let item = if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
        out.push(Write::new(item, "cpu", "cpu.max", value).harmless(max == "max"));
    }
    if let Some(burst) = cpu.burst {
        out.push(Write::new("linux.resources.cpu.burst", "cpu", "cpu.max.burst", burst).harmless(burst == 0));
    }
    if cpu.realtime_runtime.is_some_and(|time| time > 0) || cpu.realtime_period.is_some_and(|time| time > 0) {
        out.warn("linux.resources.cpu.realtimeRuntime and realtimePeriod have no effect on cgroup v2");
    }
    Ok(())
}

/// `cpu.weight` for cgroup v1 shares; 0 shares mean unset.
///
/// The curve of runc 1.3 and crun 1.23 (kubernetes issue 131216): a quadratic in
/// log2(shares) that maps 2 to 1, 1024 (v1's default) to 100 (v2's) and 262144 to
/// 10000: weight = ceil(10 ^ ((l*l + 125*l) / 612 - 7/34)) with l = log2(shares).
fn weight_of_shares(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        3..262_144 => {
            let l = (shares as f64).log2();
            Some(10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64)
        }
        _ => Some(10_000),
    }
}

/// Block I/O. Weights go to the BFQ scheduler's file where it is there, otherwise to
/// io.cost's.
fn plan_io(io: &BlockIo, out: &mut Writes) -> Result<()> {
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        let item = "linux.resources.blockIO.weight";
        let write = Write::new(item, "io", "io.bfq.weight", weight);
        out.push(write.or("io.weight", io_weight(item, weight)?));
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        let item = format!("linux.resources.blockIO.weightDevice[{i}]");
        let node = node(&item, device.major, device.minor)?;
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            let write = Write::new(&item, "io", "io.bfq.weight", format!("{node} {weight}"));
            out.push(write.or("io.weight", format!("{node} {}", io_weight(&item, weight)?)));
        }
    }
    if io.leaf_weight.is_some_and(|w| w != 0)
        || io.weight_device.iter().any(|device| device.leaf_weight.is_some_and(|w| w != 0))
    {
        out.warn("linux.resources.blockIO leafWeight has no effect on cgroup v2");
    }
    for (name, key, devices) in [
        ("throttleReadBpsDevice", "rbps", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "wbps", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "riops", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "wiops", &io.throttle_write_iops_device),
    ] {
        for (i, device) in devices.iter().enumerate() {
            let item = format!("linux.resources.blockIO.{name}[{i}]");
            let node = node(&item, device.major, device.minor)?;
            // 0 lifts a limit in cgroup v1; v2 refuses it and says max.
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            let write = Write::new(&item, "io", "io.max", format!("{node} {key}={rate}"));
            out.push(write.harmless(device.rate == 0));
        }
    }
    Ok(())
}

/// v1's 10..=1000 stretched to v2's 1..=10000.
fn io_weight(item: &str, weight: u16) -> Result<u64> {
    match weight {
        10..=1000 => Ok(1 + (u64::from(weight) - 10) * 9999 / 990),
        _ => Err(Error::invalid(item, format!("{weight} is not in 10..=1000"))),
    }
}

/// `major:minor`.
pub fn node(item: &str, major: i64, minor: i64) -> Result<String> {
    Ok(format!("{}:{}", non_negative(item, major)?, non_negative(item, minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writes for `resources` (JSON), one a line, as `file=value`.
    fn writes(resources: &str) -> String {
        let parsed: Resources<'_> = serde_json::from_str(resources).unwrap();
        let mut out = Writes::default();
        if let Err(e) = plan_writes(&parsed, &|_| true, &mut out).and_then(|()| plan_unified(&parsed, &mut out)) {
            return format!("error: {e}");
        }
        let mut lines: Vec<String> = out.list.iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        lines.extend(out.warnings.iter().map(|w| format!("warning: {w}")));
        lines.join("; ")
    }

    #[test]
    fn shares_become_weights_by_the_current_curve() {
        // The fixed points of the curve; the rest computed from the formula apart from this code.
        for (shares, weight) in [
            (0, None),
            (1, Some(1)),
            (2, Some(1)),
            (1024, Some(100)),
            (262_144, Some(10_000)),
            (u64::MAX, Some(10_000)),
            (102, Some(17)),
            (512, Some(59)),
            (2048, Some(174)),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn every_value_goes_to_its_file_in_order() {
        for (resources, want) in [
            (r#"{"pids":{"limit":0}}"#, "pids.max=0"),
            (r#"{"pids":{"limit":-1}}"#, "pids.max=max"),
            (r#"{"pids":{}}"#, ""),
            (r#"{"pids":{"limit":-2}}"#, "error: linux.resources.pids.limit: -2 is neither a limit nor -1"),
            (r#"{"memory":{"limit":4096}}"#, "memory.max=4096"),
            (r#"{"memory":{"limit":0,"reservation":0,"swap":0}}"#, ""),
            (r#"{"memory":{"limit":-1}}"#, "memory.swap.max=max; memory.max=max"),
            (r#"{"memory":{"limit":100,"swap":300}}"#, "memory.swap.max=200; memory.max=100"),
            (r#"{"memory":{"limit":100,"swap":100}}"#, "memory.swap.max=0; memory.max=100"),
            (r#"{"memory":{"limit":100,"swap":-1}}"#, "memory.swap.max=max; memory.max=100"),
            (
                r#"{"memory":{"limit":100,"swap":50}}"#,
                "error: linux.resources.memory.swap: 50 is memory and swap together and must not be below the limit of 100",
            ),
            (
                r#"{"memory":{"swap":50}}"#,
                "error: linux.resources.memory.swap: 50 is memory and swap together and needs a memory limit beside it",
            ),
            (r#"{"memory":{"limit":-5}}"#, "error: linux.resources.memory.limit: -5 is neither a limit nor -1"),
            (
                r#"{"memory":{"reservation":7,"swappiness":0,"kernel":-1}}"#,
                "memory.low=7; warning: linux.resources.memory.swappiness has no effect on cgroup v2",
            ),
            (r#"{"cpu":{"quota":5000}}"#, "cpu.max=5000 100000"),
            (r#"{"cpu":{"period":50000}}"#, "cpu.max=max 50000"),
            (r#"{"cpu":{"quota":-1,"period":50000}}"#, "cpu.max=max 50000"),
            (
                r#"{"cpu":{"shares":1024,"quota":5000,"period":9000,"burst":1000,"cpus":"0-1","mems":"0"}}"#,
                "cpu.weight=100; cpu.max=5000 9000; cpu.max.burst=1000; cpuset.cpus=0-1; cpuset.mems=0",
            ),
            (
                r#"{"cpu":{"shares":2,"idle":1}}"#,
                "cpu.idle=1; warning: linux.resources.cpu.shares has no effect beside idle",
            ),
            (r#"{"cpu":{"shares":0,"quota":0,"cpus":""}}"#, ""),
            (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#, "hugetlb.2MB.max=9; hugetlb.2MB.rsvd.max=9"),
            (
                r#"{"hugepageLimits":[{"pageSize":"../x","limit":9}]}"#,
                "error: linux.resources.hugepageLimits[0].pageSize: \"../x\" is not a size such as 64KB, 2MB or 1GB",
            ),
            (r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":4}}}"#, "rdma.max=mlx5_1 hca_handle=3 hca_object=4"),
            (
                r#"{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1000}],
                    "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":0}]}}"#,
                "io.bfq.weight=10; io.bfq.weight=8:0 1000; io.max=8:0 rbps=600; io.max=8:1 wiops=max",
            ),
            (r#"{"unified":{"memory.high":"1\n2","cgroup.x":"y"}}"#, "cgroup.x=y; memory.high=1; memory.high=2"),
            (
                r#"{"unified":{"a/b":"1"}}"#,
                "error: linux.resources.unified.a/b: the key must be a file name, without a slash",
            ),
            (
                r#"{"unified":{"memory":"1"}}"#,
                "error: linux.resources.unified.memory: the key must have the form CONTROLLER.PARAMETER",
            ),
        ] {
            assert_eq!(writes(resources), want, "{resources}");
        }
    }
}
