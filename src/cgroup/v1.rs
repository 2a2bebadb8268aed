//! Values of linux.resources as writes to cgroup v1 files.
//!
//! Pure; in the order in which the files must be written. What only cgroup v2 can
//! do is an error.

use super::v2::node;
use super::values::{Write, Writes, bytes_or_max, hugepage_file, list};
use crate::config::{BlockIo, Cpu, Memory, Network, Resources};
use crate::error::{Error, Result};

/// Everything but devices, for the one controller `controller`.
pub fn plan_writes(controller: &str, resources: &Resources<'_>, out: &mut Writes) -> Result<()> {
    match controller {
        "pids" => {
            if let Some(limit) = resources.pids.and_then(|pids| pids.limit) {
                let item = "linux.resources.pids.limit";
                out.push(Write::new(item, "pids", "pids.max", bytes_or_max(item, limit)?).harmless(limit == -1));
            }
            Ok(())
        }
        "memory" => resources.memory.as_ref().map_or(Ok(()), |memory| plan_memory(memory, out)),
        "cpu" => resources.cpu.as_ref().map_or(Ok(()), |cpu| plan_cpu(cpu, out)),
        "cpuset" => resources.cpu.as_ref().map_or(Ok(()), |cpu| {
            list(out, "linux.resources.cpu.cpus", "cpuset.cpus", cpu.cpus.as_deref())?;
            list(out, "linux.resources.cpu.mems", "cpuset.mems", cpu.mems.as_deref())
        }),
        "blkio" => resources.block_io.as_ref().map_or(Ok(()), |io| plan_blkio(io, out)),
        "hugetlb" => {
            for (i, huge) in resources.hugepage_limits.iter().enumerate() {
                let item = format!("linux.resources.hugepageLimits[{i}].limit");
                let size = hugepage_file(i, &huge.page_size)?;
                out.push(Write::new(&item, "hugetlb", format!("hugetlb.{size}.limit_in_bytes"), huge.limit));
                let rsvd = Write::new(&item, "hugetlb", format!("hugetlb.{size}.rsvd.limit_in_bytes"), huge.limit);
                out.push(rsvd.harmless(true));
            }
            Ok(())
        }
        "net_cls" | "net_prio" => {
            resources.network.as_ref().map_or(Ok(()), |network| plan_network(controller, network, out))
        }
        "rdma" => super::values::plan_rdma(resources, out),
        _ => Ok(()),
    }
}

/// Limits of memory; on a fresh cgroup the limit comes first, as memory and swap
/// together must not be below it.
fn plan_memory(memory: &Memory, out: &mut Writes) -> Result<()> {
    const LIMIT: &str = "linux.resources.memory.limit";
    const SOFT: &str = "linux.resources.memory.reservation";
    const SWAP: &str = "linux.resources.memory.swap";
    let number = |item: &str, value: i64| bytes_or_max(item, value).map(|_| value.to_string());
    // The same judgement as on cgroup v2, so that a config fails alike on both.
    let swap = super::values::swap_of(memory)?;
    if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
        let write = Write::new(LIMIT, "memory", "memory.limit_in_bytes", number(LIMIT, limit)?);
        out.push(write.harmless(limit == -1));
    }
    if let Some(swap) = swap {
        let total = memory.swap.filter(|total| *total != 0).unwrap_or(swap);
        let write = Write::new(SWAP, "memory", "memory.memsw.limit_in_bytes", total);
        out.push(write.harmless(total == -1));
    }
    if let Some(soft) = memory.reservation.filter(|soft| *soft != 0) {
        let write = Write::new(SOFT, "memory", "memory.soft_limit_in_bytes", number(SOFT, soft)?);
        out.push(write.harmless(soft == -1));
    }
    if memory.disable_oom_killer == Some(true) {
        out.push(Write::new("linux.resources.memory.disableOOMKiller", "memory", "memory.oom_control", 1));
    }
    match memory.swappiness {
        None => {}
        Some(swappiness @ 0..=100) => {
            out.push(Write::new("linux.resources.memory.swappiness", "memory", "memory.swappiness", swappiness));
        }
        // docker's "unset" is -1 read as unsigned.
        Some(u64::MAX) => {}
        Some(other) => {
            return Err(Error::invalid("linux.resources.memory.swappiness", format!("{other} is not in 0..=100")));
        }
    }
    if memory.kernel.is_some_and(|limit| limit > 0) || memory.kernel_tcp.is_some_and(|limit| limit > 0) {
        out.warn("linux.resources.memory.kernel and kernelTCP have no effect: the kernel has given them up");
    }
    Ok(())
}

/// CPU time; the period before the quota that refers to it.
fn plan_cpu(cpu: &Cpu<'_>, out: &mut Writes) -> Result<()> {
    if let Some(idle) = cpu.idle {
        out.push(Write::new("linux.resources.cpu.idle", "cpu", "cpu.idle", idle).harmless(idle == 0));
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        out.push(Write::new("linux.resources.cpu.shares", "cpu", "cpu.shares", shares));
    }
    if let Some(period) = cpu.period.filter(|period| *period != 0) {
        let harmless = cpu.quota.is_none_or(|quota| quota <= 0);
        out.push(Write::new("linux.resources.cpu.period", "cpu", "cpu.cfs_period_us", period).harmless(harmless));
    }
    if let Some(quota) = cpu.quota.filter(|quota| *quota != 0) {
        let item = "linux.resources.cpu.quota";
        if quota < -1 {
            return Err(Error::invalid(item, format!("{quota} is neither a time nor -1")));
        }
        out.push(Write::new(item, "cpu", "cpu.cfs_quota_us", quota).harmless(quota == -1));
    }
    if let Some(burst) = cpu.burst {
        out.push(Write::new("linux.resources.cpu.burst", "cpu", "cpu.cfs_burst_us", burst).harmless(burst == 0));
    }
    if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
        out.push(Write::new("linux.resources.cpu.realtimePeriod", "cpu", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        out.push(Write::new("linux.resources.cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", runtime));
    }
    Ok(())
}

/// Block I/O; the BFQ scheduler's files stand in for CFQ's, gone since kernel 5.0.
fn plan_blkio(io: &BlockIo, out: &mut Writes) -> Result<()> {
    const ITEM: &str = "linux.resources.blockIO";
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        let write = Write::new(format!("{ITEM}.weight"), "blkio", "blkio.weight", weight);
        out.push(write.or("blkio.bfq.weight", weight));
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        out.push(Write::new(format!("{ITEM}.leafWeight"), "blkio", "blkio.leaf_weight", weight));
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        let item = format!("{ITEM}.weightDevice[{i}]");
        let node = node(&item, device.major, device.minor)?;
        if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
            let value = format!("{node} {weight}");
            let write = Write::new(&item, "blkio", "blkio.weight_device", &value);
            out.push(write.or("blkio.bfq.weight_device", value));
        }
        if let Some(weight) = device.leaf_weight.filter(|weight| *weight != 0) {
            out.push(Write::new(&item, "blkio", "blkio.leaf_weight_device", format!("{node} {weight}")));
        }
    }
    for (name, file, devices) in [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", &io.throttle_write_iops_device),
    ] {
        for (i, device) in devices.iter().enumerate() {
            let item = format!("{ITEM}.{name}[{i}]");
            let value = format!("{} {}", node(&item, device.major, device.minor)?, device.rate);
            out.push(Write::new(&item, "blkio", file, value).harmless(device.rate == 0));
        }
    }
    Ok(())
}

fn plan_network(controller: &str, network: &Network<'_>, out: &mut Writes) -> Result<()> {
    if controller == "net_cls" {
        if let Some(class) = network.class_id.filter(|class| *class != 0) {
            out.push(Write::new("linux.resources.network.classID", "net_cls", "net_cls.classid", class));
        }
        return Ok(());
    }
    for (i, interface) in network.priorities.iter().enumerate() {
        let item = format!("linux.resources.network.priorities[{i}]");
        if interface.name.is_empty() || interface.name.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("{item}.name"), "is not a name of an interface"));
        }
        let value = format!("{} {}", interface.name, interface.priority);
        out.push(Write::new(item, "net_prio", "net_prio.ifpriomap", value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(controller: &str, resources: &str) -> String {
        let parsed: Resources<'_> = serde_json::from_str(resources).unwrap();
        let mut out = Writes::default();
        if let Err(e) = plan_writes(controller, &parsed, &mut out) {
            return format!("error: {e}");
        }
        let lines: Vec<String> = out.list.iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        lines.join("; ")
    }

    #[test]
    fn every_value_goes_to_its_file_in_order() {
        for (controller, resources, want) in [
            ("pids", r#"{"pids":{"limit":0}}"#, "pids.max=0"),
            ("pids", r#"{"pids":{"limit":-1}}"#, "pids.max=max"),
            ("memory", r#"{"memory":{"limit":-1}}"#, "memory.limit_in_bytes=-1; memory.memsw.limit_in_bytes=-1"),
            (
                "memory",
                r#"{"memory":{"limit":100,"swap":300,"reservation":50,"swappiness":7,"disableOOMKiller":true}}"#,
                "memory.limit_in_bytes=100; memory.memsw.limit_in_bytes=300; memory.soft_limit_in_bytes=50; \
                 memory.oom_control=1; memory.swappiness=7",
            ),
            (
                "memory",
                r#"{"memory":{"swappiness":101}}"#,
                "error: linux.resources.memory.swappiness: 101 is not in 0..=100",
            ),
            (
                "cpu",
                r#"{"cpu":{"shares":512,"period":9000,"quota":-1,"burst":0,"realtimeRuntime":5,"cpus":"1"}}"#,
                "cpu.shares=512; cpu.cfs_period_us=9000; cpu.cfs_quota_us=-1; cpu.cfs_burst_us=0; cpu.rt_runtime_us=5",
            ),
            ("cpuset", r#"{"cpu":{"cpus":"1","mems":"0","shares":3}}"#, "cpuset.cpus=1; cpuset.mems=0"),
            (
                "blkio",
                r#"{"blockIO":{"weight":300,"leafWeight":20,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
                "blkio.weight=300; blkio.leaf_weight=20; blkio.throttle.read_bps_device=8:0 0",
            ),
            ("net_cls", r#"{"network":{"classID":9,"priorities":[{"name":"lo","priority":1}]}}"#, "net_cls.classid=9"),
            ("net_prio", r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#, "net_prio.ifpriomap=lo 1"),
            (
                "hugetlb",
                r#"{"hugepageLimits":[{"pageSize":"1GB","limit":1}]}"#,
                "hugetlb.1GB.limit_in_bytes=1; hugetlb.1GB.rsvd.limit_in_bytes=1",
            ),
        ] {
            assert_eq!(writes(controller, resources), want, "{controller} {resources}");
        }
    }
}
