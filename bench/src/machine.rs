//! The machine that the figures come from, in words.

use std::fs;

/// Item and text, in the order to be printed.
pub fn describe(pinned: &[usize], priority: bool, bpffs: bool) -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_string()
    };
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine =
        if field("flags").split(' ').any(|flag| flag == "hypervisor") { ", in a virtual machine" } else { "" };
    let meminfo = read("/proc/meminfo");
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let mounts = read("/proc/self/mountinfo").lines().count();
    let pinned: Vec<String> = pinned.iter().map(usize::to_string).collect();
    let with = |there: bool| if there { "yes" } else { "no" };
    let item = |name: &str, text: String| (name.to_string(), text);
    vec![
        item("processor", format!("{}, {cpus} CPUs{virtual_machine}", field("model name"))),
        item("memory", format!("{} MiB", kib.unwrap_or(0) >> 10)),
        item("kernel", read("/proc/sys/kernel/osrelease")),
        item(
            "load at the begin (1, 5, 15 min)",
            read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        ),
        item("mounts of the host", mounts.to_string()),
        item("held to CPUs", if pinned.is_empty() { "any".into() } else { pinned.join(", ") }),
        item("SCHED_FIFO", with(priority).into()),
        item("bpffs", with(bpffs).into()),
    ]
}
