//! config-linux.md#network-devices: host interfaces moved in, and given back after an error.
//! Each test has a network namespace of its own, which is the host's here.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::case::{Group, Outcome, fail, skip};
use crate::ensure;

const WHY: &str = "config-linux.md#network-devices, new in 1.3.0";

pub fn group() -> Group {
    let mut group = Group::new("net_devices", "config-linux.md#network-devices");
    moved(&mut group);
    named(&mut group);
    refused(&mut group);
    given_back(&mut group);
    group
}

/// ip(8) of iproute2 on the host's side.
fn ip(words: &str) -> Outcome<String> {
    let Some(program) = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].into_iter().find(|path| Path::new(path).exists())
    else {
        return skip("requires ip of iproute2");
    };
    let done = Command::new(program).args(words.split_whitespace()).output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        Ok(text)
    } else {
        fail(format!("ip {words}: {}", String::from_utf8_lossy(&done.stderr)))
    }
}

/// A pair of virtual interfaces, `dev0` and its peer, with addresses of all kinds on `dev0`.
fn make_device() -> Outcome {
    ip("link add dev0 type veth peer name peer0")?;
    for address in [
        "10.1.2.3/24 brd 10.1.2.255",
        "10.1.2.4/24",
        "fd00::5/64 nodad",
        "10.9.9.9/24 valid_lft 1000 preferred_lft 1000",
        "169.254.7.7/16 scope link",
    ] {
        ip(&format!("addr add {address} dev dev0"))?;
    }
    ip("link set dev0 mtu 1400 up")?;
    ip("link set peer0 up")?;
    Ok(())
}

fn moved(group: &mut Group) {
    group.add_beyond_peers(WHY, "a_device_keeps_its_permanent_global_addresses_and_is_up", |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {}}));
        let inside = t.run_sh("ip addr show dev dev0")?;
        for kept in ["inet 10.1.2.3/24 brd 10.1.2.255", "inet 10.1.2.4/24", "inet6 fd00::5/64", "mtu 1400"] {
            ensure!(inside.contains(kept), "{kept} is missing:\n{inside}");
        }
        ensure!(inside.lines().next().is_some_and(|line| line.contains(",UP")), "the device is not up:\n{inside}");
        for dropped in ["10.9.9.9", "169.254.7.7"] {
            ensure!(!inside.contains(dropped), "{dropped} is not permanent and global:\n{inside}");
        }
        Ok(())
    });
    group.add_beyond_peers(WHY, "a_device_leaves_the_host", |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {}}));
        t.args(&["/bin/sleep", "1000"]);
        t.create()?;
        let outside = ip("-o link")?;
        ensure!(!outside.contains("dev0@"), "the device is still here:\n{outside}");
        t.delete().map(drop)
    });
    group.add_beyond_peers(WHY, "sysctls_may_name_a_moved_device", |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {"name": "net1"}}));
        t.set("/linux/sysctl", json!({"net.ipv4.conf.net1.forwarding": "1"}));
        let value = t.run_sh("cat /proc/sys/net/ipv4/conf/net1/forwarding")?;
        ensure!(value.trim() == "1", "forwarding of net1 is {value}");
        Ok(())
    });
}

fn named(group: &mut Group) {
    group.add_beyond_peers(WHY, "a_device_gets_the_name_asked_for", |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {"name": "net1"}}));
        let inside = t.run_sh("ip -o link")?;
        ensure!(inside.contains(" net1@") && !inside.contains(" dev0@"), "the names are:\n{inside}");
        Ok(())
    });
    group.add_beyond_peers(WHY, "a_template_gives_each_device_a_name", |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {"name": "net%d"}, "peer0": {"name": "net%d"}}));
        let inside = t.run_sh("ip -o link")?;
        ensure!(inside.contains(" net0@") && inside.contains(" net1@"), "the names are:\n{inside}");
        Ok(())
    });
}

fn refused(group: &mut Group) {
    group.add_beyond_peers(WHY, "a_name_that_is_taken_is_an_error", |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {"name": "lo"}}));
        t.run_refused().map(drop)
    });
    group.add_beyond_peers(WHY, "a_device_that_is_missing_is_an_error", |t| {
        t.set("/linux/netDevices", json!({"dev0": {}}));
        t.run_refused().map(drop)
    });
    group.add_beyond_peers(WHY, "devices_without_a_network_namespace_are_an_error", |t| {
        make_device()?;
        t.drop_namespace("network");
        t.set("/linux/netDevices", json!({"dev0": {"name": "net1"}}));
        t.run_refused()?;
        ip("link show dev0").map(drop)
    });
}

/// runtime.md#errors: the environment is left as if the operation had never been tried.
fn given_back(group: &mut Group) {
    group.citing("runtime.md#errors");
    let back = || {
        let outside = ip("addr show dev dev0")?;
        for kept in ["inet 10.1.2.3/24", "inet6 fd00::5/64", ",UP"] {
            ensure!(outside.contains(kept), "{kept} is gone:\n{outside}");
        }
        Ok(())
    };
    group.add_beyond_peers(WHY, "a_device_comes_back_when_another_cannot_move", move |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {"name": "net1"}, "lo": {"name": "lo1"}}));
        t.run_refused()?;
        back()
    });
    group.add_beyond_peers(WHY, "a_device_comes_back_when_the_kernel_refuses_its_name", move |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {"name": "net%s"}}));
        t.run_refused()?;
        back()
    });
    group.add_beyond_peers(WHY, "a_device_comes_back_when_a_hook_fails", move |t| {
        make_device()?;
        t.set("/linux/netDevices", json!({"dev0": {"name": "net1"}}));
        t.set("/hooks/createRuntime", json!([{"path": "/bin/false"}]));
        t.run_refused()?;
        back()
    });
}
