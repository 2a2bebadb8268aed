//! The version 1 half of the cgroup module against cgroups-rs, as root on a host where version 1 owns the
//! controllers: the same resources applied by both to two sibling cgroups leave the same files, and the
//! statistics of one cgroup are the same whoever reads them. docs/decisions/cgroups-v1.md has the why.

mod inside;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cgroups_rs::cpuacct::CpuAcctController;
use cgroups_rs::freezer::{FreezerController, FreezerState};
use cgroups_rs::hierarchies::V1;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{
    BlkIoDeviceThrottleResource, BlkIoResources, CgroupPid, CpuResources, HugePageResource, HugePageResources,
    MaxValue, MemoryResources, NetworkPriority, NetworkResources, PidResources, Resources,
};
use inside::{Removed, hybrid, made, name, plan};
use xebec::cgroup::stats::Stats;
use xebec::cgroup::{Layout, Record};

/// What xebec writes whatever the resources are, the list of devices; and what the kernel counts of its own
/// accord: a period of cpu.stat passes when a quota is set, now and then.
const OWN: [&str; 2] = ["devices.list", "cpu.stat"];

/// Ended and removed whatever happens to the test.
struct Theirs(cgroups_rs::Cgroup);

impl Theirs {
    fn new(what: &str) -> Theirs {
        Theirs(cgroups_rs::Cgroup::new(Box::new(V1::new()), name(what)).unwrap())
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let deleted = self.0.delete();
        if !std::thread::panicking() {
            deleted.unwrap();
        }
    }
}

/// Every file of a cgroup that can be read, of every version 1 hierarchy that has a controller.
fn files(record: &Record, name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (controllers, path) in record.v1.iter().filter(|(controllers, _)| !controllers.starts_with("name=")) {
        let directory = Path::new(path).with_file_name(name);
        for entry in fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
            let entry = entry.unwrap();
            let file = entry.file_name().into_string().unwrap();
            if let Ok(text) = fs::read_to_string(entry.path())
                && !OWN.contains(&&*file)
            {
                found.insert(format!("{controllers}/{file}"), text);
            }
        }
    }
    found
}

fn has(layout: &Layout, controller: &str) -> bool {
    let Layout::Hybrid { v1, .. } = layout else { return false };
    v1.iter().any(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
}

/// xebec's resources as JSON, and the same in the other's words, for what version 1 has here.
fn both(layout: &Layout) -> (serde_json::Value, Resources) {
    let mut ours = serde_json::json!({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swappiness": 40},
        "pids": {"limit": 33},
        "cpu": {"shares": 512, "quota": 30_000, "period": 60_000, "cpus": "0", "mems": "0"},
    });
    let mut theirs = Resources {
        memory: MemoryResources {
            memory_hard_limit: Some(64 << 20),
            memory_soft_limit: Some(32 << 20),
            swappiness: Some(40),
            ..MemoryResources::default()
        },
        pid: PidResources { maximum_number_of_processes: Some(MaxValue::Value(33)) },
        cpu: CpuResources {
            shares: Some(512),
            quota: Some(30_000),
            period: Some(60_000),
            cpus: Some("0".into()),
            mems: Some("0".into()),
            ..CpuResources::default()
        },
        ..Resources::default()
    };
    if let Some((major, minor)) = disk() {
        ours["blockIO"] = serde_json::json!({
            "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1 << 20}],
            "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 77}],
        });
        let throttle = |rate| vec![BlkIoDeviceThrottleResource { major, minor, rate }];
        theirs.blkio = BlkIoResources {
            throttle_read_bps_device: throttle(1 << 20),
            throttle_write_iops_device: throttle(77),
            ..BlkIoResources::default()
        };
    }
    if has(layout, "hugetlb") {
        ours["hugepageLimits"] = serde_json::json!([{"pageSize": "2MB", "limit": 4 << 20}]);
        theirs.hugepages = HugePageResources { limits: vec![HugePageResource { size: "2MB".into(), limit: 4 << 20 }] };
    }
    if has(layout, "net_cls") && has(layout, "net_prio") {
        ours["network"] = serde_json::json!({"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 5}]});
        theirs.network = NetworkResources {
            class_id: Some(1_048_577),
            priorities: vec![NetworkPriority { name: "lo".into(), priority: 5 }],
        };
    }
    (ours, theirs)
}

/// A disk's number.
fn disk() -> Option<(u64, u64)> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = disks.filter_map(|disk| {
        let virtual_or_scsi = disk.file_name().to_str().is_some_and(|name| name.starts_with(['v', 's', 'n']));
        virtual_or_scsi.then(|| fs::read_to_string(disk.path().join("dev")).ok())?
    });
    let first = numbers.min()?;
    let (major, minor) = first.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[test]
fn the_same_resources_leave_the_same_files() {
    hybrid("the_same_resources_leave_the_same_files", |layout| {
        let (resources, translated) = both(layout);
        let theirs = Theirs::new("theirs");
        theirs.0.apply(&translated).unwrap();
        let plan = plan("ours", layout, &resources.to_string()).unwrap();
        let (_cgroup, removed) = made(&plan);
        let (found, wanted) = (files(&removed.0, &name("ours")), files(&removed.0, &name("theirs")));
        assert!(found.len() > 40, "only {:?}", found.keys());
        for (file, text) in &wanted {
            assert_eq!(found.get(file), Some(text), "{file}");
        }
        assert_eq!(found.len(), wanted.len());
        // That it was applied at all.
        assert_eq!(wanted["memory/memory.limit_in_bytes"], "67108864\n");
        assert_eq!(wanted["cpu/cpu.cfs_quota_us"], "30000\n");
    });
}

/// The cgroup of a process that has worked and stands still.
fn busy_and_frozen(layout: &Layout, check: impl FnOnce(&Removed, &cgroups_rs::Cgroup)) {
    let plan = plan("seen", layout, r#"{"memory":{"limit":67108864},"pids":{"limit":9}}"#).unwrap();
    let (cgroup, removed) = made(&plan);
    let work = "read go; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo done; sleep 1000";
    let mut child = Command::new("sh").args(["-c", work]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    cgroup.place(child.id(), false).unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    removed.0.freeze().unwrap();
    check(&removed, &cgroups_rs::Cgroup::load(Box::new(V1::new()), name("seen")));
    removed.0.thaw().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A task is told to be frozen a moment before it has left the processor, and what a processor has taken from
/// the memory's limit in advance goes back when another cgroup needs it: twice the same, 0.1 s apart.
fn settled(record: &Record) -> Stats {
    let mut last = record.stats().unwrap();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        let now = record.stats().unwrap();
        let key = |stats: &Stats| (stats.cpu.usage.total, stats.memory.usage.usage, stats.memory.raw["rss"]);
        if key(&now) == key(&last) {
            return now;
        }
        last = now;
    }
    panic!("the statistics of a frozen cgroup change for ten seconds");
}

#[test]
fn the_statistics_are_the_same() {
    hybrid("the_statistics_are_the_same", |layout| {
        busy_and_frozen(layout, |ours, theirs| {
            let stats = settled(&ours.0);
            let cpu = theirs.controller_of::<CpuAcctController>().unwrap().cpuacct();
            assert_eq!((stats.cpu.usage.total, stats.cpu.usage.user), (cpu.usage, cpu.usage_user));
            assert_eq!(stats.cpu.usage.kernel, cpu.usage_sys);
            assert!(stats.cpu.usage.total > 0);
            let memory = theirs.controller_of::<MemController>().unwrap().memory_stat();
            assert_eq!(stats.memory.usage.limit, memory.limit_in_bytes as u64);
            assert_eq!(stats.memory.usage.usage, memory.usage_in_bytes);
            assert_eq!(stats.memory.usage.max, memory.max_usage_in_bytes);
            assert_eq!(stats.memory.usage.failcnt, memory.fail_cnt);
            assert_eq!(stats.memory.raw["rss"], memory.stat.rss);
            assert_eq!(stats.memory.raw["pgfault"], memory.stat.pgfault);
            assert!(stats.memory.usage.usage > 0);
            let pids = theirs.controller_of::<PidController>().unwrap();
            assert_eq!(stats.pids.current, pids.get_pid_current().unwrap());
            assert_eq!((stats.pids.limit, pids.get_pid_max().unwrap()), (9, MaxValue::Value(9)));
        });
    });
}

#[test]
fn who_freezes_is_seen_by_the_other() {
    hybrid("who_freezes_is_seen_by_the_other", |layout| {
        let Layout::Hybrid { v1, .. } = layout else { unreachable!("hybrid() has looked") };
        if !has(layout, "freezer") {
            return eprintln!("SKIP who_freezes_is_seen_by_the_other: no freezer on version 1");
        }
        // Where there is a version 2, it freezes.
        busy_and_frozen(&Layout::Hybrid { v1: v1.clone(), v2: None }, |ours, theirs| {
            let freezer = theirs.controller_of::<FreezerController>().unwrap();
            assert!(matches!(freezer.state().unwrap(), FreezerState::Frozen));
            freezer.thaw().unwrap();
            assert!(!ours.0.is_frozen().unwrap());
            freezer.freeze().unwrap();
            // It does not wait for the tasks; ours does, and is content with one that stands still already.
            ours.0.freeze().unwrap();
            assert!(matches!(freezer.state().unwrap(), FreezerState::Frozen));
            let theirs: Vec<u64> = theirs.procs().iter().map(|CgroupPid { pid }| *pid).collect();
            assert_eq!(theirs, ours.0.procs().unwrap().into_iter().map(u64::from).collect::<Vec<_>>());
        });
    });
}
