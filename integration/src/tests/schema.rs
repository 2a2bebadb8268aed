//! The specification's own schema test files (data/schema, with their licence): good ones load,
//! bad ones are refused. Bad properties are put into an otherwise valid configuration, so that
//! nothing else can be the reason.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::case::{Group, Outcome, skip};
use crate::equal;
use crate::trial::Trial;

const MINIMAL: &str = include_str!("../../data/schema/good/minimal.json");
const MINIMAL_FOR_START: &str = include_str!("../../data/schema/good/minimal-for-start.json");
const EXAMPLE: &str = include_str!("../../data/schema/good/spec-example.json");
const GOOD_NET_DEVICE: &str = include_str!("../../data/schema/good/linux-netdevice.json");
const GOOD_RDMA: &str = include_str!("../../data/schema/good/linux-rdma.json");
const BAD_HUGE_PAGE: &str = include_str!("../../data/schema/bad/linux-hugepage.json");
const BAD_NET_DEVICE: &str = include_str!("../../data/schema/bad/linux-netdevice.json");
const BAD_RDMA: &str = include_str!("../../data/schema/bad/linux-rdma.json");
const BAD_JSON: &str = include_str!("../../data/schema/bad/invalid-json.json");

pub fn group() -> Group {
    let mut group = Group::new("schema", "config.md");
    good(&mut group);
    good_devices(&mut group);
    bad(&mut group);
    group
}

/// The namespaces that any container of this suite needs, and a cgroup of its own.
fn confine(t: &mut Trial) {
    let path = format!("{}/{}", t.cgroup_base(), t.id);
    t.set("/linux/cgroupsPath", json!(path));
    t.set("/linux/namespaces", json!([{"type": "pid"}, {"type": "mount"}]));
    t.set("/mounts", json!([{"destination": "/proc", "type": "proc", "source": "proc"}]));
}

fn good(group: &mut Group) {
    group.add("minimal_for_start_runs", |t| {
        t.config = serde_json::from_str(MINIMAL_FOR_START)?;
        confine(t);
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    group.add("minimal_with_a_process_runs", |t| {
        t.config = serde_json::from_str(MINIMAL)?;
        confine(t);
        t.set("/process", json!({"cwd": "/", "user": {"uid": 0, "gid": 0}}));
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    group.add("spec_example_runs_without_what_this_host_lacks", |t| {
        let example: Value = serde_json::from_str(EXAMPLE)?;
        t.config = example;
        t.set("/ociVersion", json!("1.0.2"));
        t.set("/process/terminal", json!(false));
        // Labels, hooks and controllers of a machine that is not this one; namespaces beyond the peers.
        for pointer in [
            "/process/apparmorProfile",
            "/process/selinuxLabel",
            "/linux/mountLabel",
            "/linux/uidMappings",
            "/linux/gidMappings",
            "/linux/timeOffsets",
            "/hooks",
            "/linux/resources/network",
            "/linux/resources/pids",
            "/linux/resources/hugepageLimits",
            "/linux/resources/memory",
            "/linux/resources/cpu",
            "/linux/resources/blockIO",
        ] {
            t.remove(pointer);
        }
        t.drop_namespace("user");
        t.drop_namespace("time");
        let path = format!("{}/{}", t.cgroup_base(), t.id);
        t.set("/linux/cgroupsPath", json!(path));
        equal!(
            t.run_sh("id -u; hostname; stat -c %t:%T /dev/fuse")?,
            "1\nslartibartfast\na:e5\n",
            "what the payload sees"
        );
        Ok(())
    });
}

fn good_devices(group: &mut Group) {
    group.add_beyond_peers(
        "linux.netDevices is new in runtime-spec 1.3.0; config-linux.md#network-devices",
        "the_good_net_devices_are_moved",
        |t| {
            let file: Value = serde_json::from_str(GOOD_NET_DEVICE)?;
            for name in ["eth0", "ens4", "ens5"] {
                let status = Command::new("ip")
                    .args(["link", "add", name, "type", "veth", "peer", "name", &format!("peer-{name}")])
                    .status();
                if !status.is_ok_and(|status| status.success()) {
                    return skip("requires iproute2 and veth devices");
                }
            }
            t.set("/linux/netDevices", file["linux"]["netDevices"].clone());
            let out = t.run_sh("ls /sys/class/net")?;
            let mut names: Vec<&str> = out.split_whitespace().collect();
            names.sort_unstable();
            equal!(names, ["container_eth0", "ens4", "ens5", "lo"], "interfaces");
            Ok(())
        },
    );
    group.add("the_good_rdma_limits_are_parsed", |t| {
        let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        if !controllers.contains("rdma") || !std::path::Path::new("/sys/class/infiniband/mlx5_1").exists() {
            return skip("requires controller rdma and the devices mlx5_1, mlx4_0 and rxe3");
        }
        let file: Value = serde_json::from_str(GOOD_RDMA)?;
        t.set("/linux/resources/rdma", file["linux"]["resources"]["rdma"].clone());
        t.run_sh("true")?;
        Ok(())
    });
}

fn refuse(t: &mut Trial, text: &str, pointer: &str) -> Outcome {
    let file: Value = serde_json::from_str(text)?;
    t.set(pointer, file.pointer(pointer).cloned().unwrap_or_default());
    t.run_refused()?;
    Ok(())
}

fn bad(group: &mut Group) {
    group.add("the_bad_huge_page_size_is_refused", |t| refuse(t, BAD_HUGE_PAGE, "/linux/resources/hugepageLimits"));
    group.add("the_bad_rdma_handles_are_refused", |t| refuse(t, BAD_RDMA, "/linux/resources/rdma"));
    group.add_beyond_peers(
        "linux.netDevices is new in runtime-spec 1.3.0; config-linux.md#network-devices: name is a string",
        "the_bad_net_device_name_is_refused",
        |t| refuse(t, BAD_NET_DEVICE, "/linux/netDevices"),
    );
    group.add("the_invalid_json_is_refused", |t| {
        fs::write(t.bundle.join("config.json"), BAD_JSON)?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        t.call(&["create", "--bundle", &bundle, &id]).go()?.refused()?;
        t.expect_unknown()
    });
}
