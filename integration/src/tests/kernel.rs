//! hostname, domainname, sysctl, personality, memory policy, network devices, resctrl.

use std::process::Command;

use serde_json::json;

use crate::case::{Group, Outcome, skip};
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("kernel", "config.md#hostname");
    names(&mut group);
    sysctls(&mut group);
    bad_sysctls(&mut group);
    personality(&mut group);
    memory_policy(&mut group);
    network_devices(&mut group);
    resctrl(&mut group);
    group
}

fn names(group: &mut Group) {
    group.add("hostname_is_set", |t| {
        t.set("/hostname", json!("mrsdalloway"));
        equal!(t.run_sh("hostname")?, "mrsdalloway\n", "hostname");
        Ok(())
    });
    group.add("the_host_keeps_its_name", |t| {
        let before = nix::unistd::gethostname()?;
        t.set("/hostname", json!("mrsdalloway"));
        t.sleeper()?;
        equal!(nix::unistd::gethostname()?, before, "hostname outside");
        Ok(())
    });
    group.add("a_hostname_without_a_uts_namespace_is_refused", |t| {
        t.drop_namespace("uts");
        t.run_refused()?;
        Ok(())
    });
    group.add("a_hostname_of_64_characters_works", |t| {
        let name = "h".repeat(64);
        t.set("/hostname", json!(name));
        equal!(t.run_sh("hostname")?.trim(), name, "hostname");
        Ok(())
    });
    group.add("a_hostname_of_65_characters_is_refused", |t| {
        t.set("/hostname", json!("h".repeat(65)));
        t.run_refused()?;
        Ok(())
    });
    group.citing("config.md#domainname");
    group.add("domainname_is_set", |t| {
        t.set("/domainname", json!("foobarbaz.test"));
        equal!(t.run_sh("cat /proc/sys/kernel/domainname")?, "foobarbaz.test\n", "domainname");
        Ok(())
    });
}

fn sysctls(group: &mut Group) {
    group.citing("config-linux.md#sysctl");
    for (key, path, value) in [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "1"),
        ("net.core.somaxconn", "net/core/somaxconn", "256"),
        ("net.ipv4.ping_group_range", "net/ipv4/ping_group_range", "0\t1000"),
        ("kernel.shmmax", "kernel/shmmax", "65536"),
        ("kernel.msgmax", "kernel/msgmax", "4096"),
        ("kernel.sem", "kernel/sem", "250\t32000\t32\t128"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max", "5"),
        ("kernel.domainname", "kernel/domainname", "by.sysctl"),
    ] {
        group.add(format!("{key}_is_set"), move |t| {
            t.set("/linux/sysctl", json!({key: value.replace('\t', " ")}));
            equal!(t.run_sh(&format!("cat /proc/sys/{path}"))?.trim(), value, "{key}");
            Ok(())
        });
    }
    group.add("a_sysctl_of_the_whole_machine_is_refused", |t| {
        t.set("/linux/sysctl", json!({"vm.swappiness": "60"}));
        t.run_refused()?;
        Ok(())
    });
    group.add("kernel_panic_is_refused", |t| {
        t.set("/linux/sysctl", json!({"kernel.panic": "0"}));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_net_sysctl_in_the_hosts_network_namespace_is_refused", |t| {
        t.drop_namespace("network");
        t.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_ipc_sysctl_in_the_hosts_ipc_namespace_is_refused", |t| {
        t.drop_namespace("ipc");
        t.set("/linux/sysctl", json!({"kernel.shmmax": "65536"}));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_unknown_sysctl_is_refused", |t| {
        t.set("/linux/sysctl", json!({"net.ipv4.no_such_key": "1"}));
        t.run_refused()?;
        Ok(())
    });
}

fn bad_sysctls(group: &mut Group) {
    group.add("a_bad_value_is_refused", |t| {
        t.set("/linux/sysctl", json!({"net.core.somaxconn": "a lot"}));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_sysctl_cannot_leave_proc_sys", |t| {
        t.set("/linux/sysctl", json!({"net.ipv4/../../../../out/made": "1"}));
        t.run_refused()?;
        ensure!(!t.rootfs().join("out/made").exists(), "a file was written outside /proc/sys");
        Ok(())
    });
}

fn personality(group: &mut Group) {
    group.citing("config-linux.md#personality");
    for (domain, shown) in [("LINUX", "00000000"), ("LINUX32", "00000008")] {
        let body = move |t: &mut Trial| -> Outcome {
            t.capabilities(&["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]);
            t.set("/linux/personality", json!({"domain": domain}));
            equal!(t.run_sh("cat /proc/self/personality")?.trim(), shown, "personality");
            Ok(())
        };
        group.add(format!("domain_{}", domain.to_lowercase()), body);
    }
    group.add("linux32_changes_uname", |t| {
        if cfg!(not(target_arch = "x86_64")) {
            return skip("requires x86_64: the name of the 32-bit machine differs by architecture");
        }
        t.set("/linux/personality", json!({"domain": "LINUX32"}));
        equal!(t.run_sh("uname -m")?, "i686\n", "machine");
        Ok(())
    });
    group.add("an_unknown_domain_is_refused", |t| {
        t.set("/linux/personality", json!({"domain": "PLAN9"}));
        t.run_refused()?;
        Ok(())
    });
}

fn memory_policy(group: &mut Group) {
    group.citing("config-linux.md#memory-policy");
    let why = "linux.memoryPolicy is new in runtime-spec 1.3.0; config-linux.md#memory-policy";
    for (mode, nodes, shown) in [
        ("MPOL_BIND", Some("0"), "bind"),
        ("MPOL_INTERLEAVE", Some("0"), "interleave"),
        ("MPOL_PREFERRED", Some("0"), "prefer"),
        ("MPOL_LOCAL", None, "local"),
        ("MPOL_DEFAULT", None, "default"),
    ] {
        let body = move |t: &mut Trial| -> Outcome {
            if !std::path::Path::new("/proc/self/numa_maps").exists() {
                return skip("requires a kernel with NUMA");
            }
            t.set("/linux/memoryPolicy", json!({"mode": mode}));
            if let Some(nodes) = nodes {
                t.set("/linux/memoryPolicy/nodes", json!(nodes));
            }
            let out = t.run_sh("cat /proc/self/numa_maps")?;
            let first = out.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_string();
            ensure!(first.starts_with(shown), "policy is {first}");
            Ok(())
        };
        let name = format!("memory_policy_{}", mode[5..].to_lowercase());
        if mode == "MPOL_DEFAULT" { group.add(name, body) } else { group.add_beyond_peers(why, name, body) }
    }
    group.add_beyond_peers(why, "memory_policy_bind_without_nodes_is_refused", |t| {
        t.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}));
        t.run_refused()?;
        Ok(())
    });
    group.add_beyond_peers(why, "an_unknown_memory_policy_is_refused", |t| {
        t.set("/linux/memoryPolicy", json!({"mode": "MPOL_NO_SUCH"}));
        t.run_refused()?;
        Ok(())
    });
}

/// Makes a veth pair in the test's own network namespace.
fn veth() -> Outcome {
    let status = Command::new("ip").args(["link", "add", "xbt0", "type", "veth", "peer", "name", "xbt1"]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => skip("requires iproute2 and veth devices"),
    }
}

fn network_devices(group: &mut Group) {
    group.citing("config-linux.md#network-devices");
    let why = "linux.netDevices is new in runtime-spec 1.3.0; config-linux.md#network-devices";
    group.add_beyond_peers(why, "a_network_device_is_moved_in", |t| {
        veth()?;
        t.set("/linux/netDevices", json!({"xbt0": {}}));
        let out = t.run_sh("ls /sys/class/net")?;
        ensure!(out.split_whitespace().any(|name| name == "xbt0"), "{out}");
        Ok(())
    });
    group.add_beyond_peers(why, "a_moved_network_device_is_up", |t| {
        veth()?;
        t.set("/linux/netDevices", json!({"xbt0": {}}));
        let out = t.run_sh("ip link show xbt0")?;
        ensure!(out.contains("UP"), "{out}");
        Ok(())
    });
    group.add_beyond_peers(why, "a_moved_network_device_is_renamed", |t| {
        veth()?;
        t.set("/linux/netDevices", json!({"xbt0": {"name": "inside0"}}));
        let out = t.run_sh("ls /sys/class/net")?;
        ensure!(out.split_whitespace().any(|name| name == "inside0"), "{out}");
        Ok(())
    });
    group.add_beyond_peers(why, "a_moved_network_device_keeps_its_address", |t| {
        veth()?;
        Command::new("ip").args(["addr", "add", "10.77.0.5/24", "dev", "xbt0"]).status()?;
        t.set("/linux/netDevices", json!({"xbt0": {"name": "inside0"}}));
        let out = t.run_sh("ip addr show inside0")?;
        ensure!(out.contains("10.77.0.5/24"), "{out}");
        Ok(())
    });
    group.add_beyond_peers(why, "a_missing_network_device_is_refused", |t| {
        t.set("/linux/netDevices", json!({"no-such0": {}}));
        t.run_refused()?;
        Ok(())
    });
    group.add_beyond_peers(why, "a_network_device_name_that_is_taken_is_refused", |t| {
        veth()?;
        t.set("/linux/netDevices", json!({"xbt0": {"name": "lo"}}));
        t.run_refused()?;
        Ok(())
    });
}

fn resctrl(group: &mut Group) {
    group.citing("config-linux.md#intelrdt");
    group.add("intel_rdt_without_resctrl_is_refused", |t| {
        if std::fs::read_to_string("/proc/self/mounts")?.contains(" resctrl ") {
            return skip("requires a machine without a resctrl mount");
        }
        t.set("/linux/intelRdt", json!({"closID": "some", "l3CacheSchema": "L3:0=f"}));
        t.run_refused()?;
        Ok(())
    });
}
