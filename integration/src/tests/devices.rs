//! config-linux.md#devices, #default-devices and runtime-linux.md#dev-symbolic-links.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::case::{Group, Outcome, skip};
use crate::trial::Trial;
use crate::{ensure, equal};

/// (path, major, minor, octal mode), see config-linux.md#default-devices and devices.txt of the kernel.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

pub fn group() -> Group {
    let mut group = Group::new("devices", "config-linux.md#default-devices");
    default_devices(&mut group);
    links(&mut group);
    configured(&mut group);
    configured_places(&mut group);
    refused(&mut group);
    access(&mut group);
    access_exceptions(&mut group);
    group
}

fn default_devices(group: &mut Group) {
    for (path, major, minor) in DEFAULT {
        group.add(format!("{}_is_there", path[1..].replace('/', "_")), move |t| {
            let out = t.run_sh(&format!("test -c {path} && stat -c '%t:%T %a %u:%g' {path}"))?;
            equal!(out.trim(), format!("{major:x}:{minor:x} 666 0:0"), "{path}");
            Ok(())
        });
    }
    group.add("ptmx_leads_to_the_containers_devpts", |t| {
        let out = t.run_sh("readlink -f /dev/ptmx; stat -L -c %t:%T /dev/ptmx")?;
        ensure!(out.contains("/dev/pts/ptmx") || out.contains("/dev/ptmx"), "{out}");
        ensure!(out.ends_with("5:2\n"), "{out}");
        Ok(())
    });
    group.add("no_console_without_a_terminal", |t| {
        equal!(t.run_sh("if test -c /dev/console; then echo device; else echo none; fi")?, "none\n", "/dev/console");
        Ok(())
    });
    group.add("default_devices_are_usable_under_deny_all", |t| {
        let out = t.run_sh("echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; head -c 4 /dev/full | wc -c")?;
        equal!(out.split_whitespace().collect::<Vec<_>>(), ["4", "4", "4"], "bytes read");
        Ok(())
    });
    group.add("default_devices_are_there_without_a_dev_mount_too", |t| {
        if let Some(mounts) = t.config["mounts"].as_array_mut() {
            mounts.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
        }
        equal!(t.run_sh("stat -c %t:%T /dev/null /dev/zero")?, "1:3\n1:5\n", "devices");
        Ok(())
    });
}

fn links(group: &mut Group) {
    group.add("a_bound_dev_is_left_alone", |t| {
        fs::create_dir(t.scratch.join("dev"))?;
        if let Some(mounts) = t.config["mounts"].as_array_mut() {
            mounts.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
        }
        let source = t.scratch.join("dev");
        t.mount("/dev", "bind", source, &["bind"]);
        t.sh("true");
        t.run()?;
        Ok(())
    });
    group.citing("runtime-linux.md#dev-symbolic-links");
    for (link, target) in LINKS {
        group.add(format!("{}_is_a_link", link[1..].replace('/', "_")), move |t| {
            equal!(t.run_sh(&format!("readlink {link}"))?.trim(), *target, "{link}");
            Ok(())
        });
    }
    group.add("dev_stdout_is_writable", |t| {
        equal!(t.run_sh("echo through > /dev/stdout")?, "through\n", "stdout");
        Ok(())
    });
}

fn device(path: &str, kind: &str, major: u32, minor: u32) -> Value {
    json!({"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o640, "uid": 0, "gid": 0})
}

fn add_device(t: &mut Trial, device: Value) {
    t.push("/linux/devices", device);
}

fn configured(group: &mut Group) {
    group.citing("config-linux.md#devices");
    group.add("a_character_device_is_made", |t| {
        add_device(t, device("/dev/fuse", "c", 10, 229));
        equal!(t.run_sh("test -c /dev/fuse && stat -c '%t:%T %a' /dev/fuse")?, "a:e5 640\n", "device");
        Ok(())
    });
    group.add("a_block_device_is_made", |t| {
        add_device(t, device("/dev/my-block", "b", 7, 77));
        equal!(t.run_sh("test -b /dev/my-block && stat -c '%t:%T %a' /dev/my-block")?, "7:4d 640\n", "device");
        Ok(())
    });
    group.add("an_unbuffered_character_device_is_made", |t| {
        add_device(t, device("/dev/my-u", "u", 10, 229));
        equal!(t.run_sh("test -c /dev/my-u && stat -c '%t:%T' /dev/my-u")?, "a:e5\n", "device");
        Ok(())
    });
    group.add("a_fifo_is_made_without_numbers", |t| {
        add_device(t, json!({"path": "/dev/my-fifo", "type": "p", "fileMode": 0o600}));
        equal!(t.run_sh("test -p /dev/my-fifo && stat -c %a /dev/my-fifo")?, "600\n", "fifo");
        Ok(())
    });
    group.add("owner_and_mode_are_applied_whatever_the_umask", |t| {
        add_device(t, json!({"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 1000, "gid": 1001}));
        t.sh("stat -c '%a %u:%g' /dev/mine");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let done = t.call_after("umask 077", &["run", "--bundle", &bundle, &id]).go()?.ok()?;
        equal!(done.stdout, "666 1000:1001\n", "mode and owner");
        Ok(())
    });
}

fn configured_places(group: &mut Group) {
    group.add("a_device_outside_dev_is_made_with_its_directories", |t| {
        add_device(t, device("/opt/deep/device", "c", 10, 229));
        equal!(t.run_sh("stat -c %t:%T /opt/deep/device")?, "a:e5\n", "device");
        Ok(())
    });
    group.add("a_configured_default_device_is_not_a_conflict", |t| {
        add_device(
            t,
            json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}),
        );
        equal!(t.run_sh("echo x > /dev/null; stat -c %t:%T /dev/null")?, "1:3\n", "device");
        Ok(())
    });
    group.add("major_and_minor_above_255_work", |t| {
        add_device(t, device("/dev/far", "c", 300, 70_000));
        equal!(t.run_sh("stat -c %t:%T /dev/far")?, "12c:11170\n", "device");
        Ok(())
    });
    group.add("a_device_that_exists_in_the_image_with_the_same_numbers_is_fine", |t| {
        if let Some(mounts) = t.config["mounts"].as_array_mut() {
            mounts.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
        }
        let path = t.rootfs().join("dev/null");
        nix::sys::stat::mknod(
            &path,
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::from_bits_truncate(0o666),
            nix::sys::stat::makedev(1, 3),
        )?;
        equal!(t.run_sh("stat -c %t:%T /dev/null")?, "1:3\n", "device");
        Ok(())
    });
}

fn refused(group: &mut Group) {
    group.add("an_unknown_device_type_is_refused", |t| {
        add_device(t, device("/dev/odd", "x", 10, 229));
        t.run_refused()?;
        Ok(())
    });
    group.add_beyond_peers(
        "both peers keep whatever file is there; config-linux.md#devices: `If a file already exists at path that does not match the requested device, the runtime MUST generate an error`",
        "a_file_in_the_way_that_is_no_such_device_is_refused",
        |t| {
            fs::create_dir(t.rootfs().join("opt"))?;
            fs::write(t.rootfs().join("opt/device"), "a plain file")?;
            add_device(t, device("/opt/device", "c", 10, 229));
            t.run_refused()?;
            Ok(())
        },
    );
    group.add("a_symlink_in_the_way_is_not_followed_out_of_the_root", |t| {
        let outside = t.scratch.join("outside");
        fs::create_dir(&outside)?;
        symlink(&outside, t.rootfs().join("opt"))?;
        add_device(t, device("/opt/device", "c", 10, 229));
        // Refusing and resolving inside the root are both safe.
        t.sh("true");
        t.run()?;
        equal!(fs::read_dir(&outside)?.count(), 0, "entries made outside the root");
        Ok(())
    });
}

/// The minor of a misc device (major 10) that this kernel has, that opens without side effects,
/// and that no runtime allows by default.
fn spare_device() -> Outcome<u32> {
    let table = fs::read_to_string("/proc/misc")?;
    let names = ["fuse", "loop-control", "hw_random", "cpu_dma_latency"];
    let found = names.iter().find_map(|name| {
        table.lines().find_map(|line| {
            let (minor, device) = line.trim().split_once(' ')?;
            (device == *name).then(|| minor.parse().ok())?
        })
    });
    found.map_or_else(|| skip("requires a misc device such as fuse in the kernel"), Ok)
}

fn access(group: &mut Group) {
    group.citing("config-linux.md#allowed-device-list");
    const MAKE_AND_READ: &str = "mknod /tmp/d c 1 5 && head -c 1 /tmp/d | wc -c";
    group.add("a_denied_device_cannot_be_opened", |t| {
        t.capabilities(&["CAP_MKNOD"]);
        // 10:229 is fuse: in no default list.
        t.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "m"}),
        );
        let out = t.run_sh("mknod /tmp/d c 10 229 && (cat < /tmp/d) 2>&1; true")?;
        ensure!(out.contains("not permitted"), "{out}");
        Ok(())
    });
    group.add("a_device_that_may_not_be_made_is_not_made", |t| {
        t.capabilities(&["CAP_MKNOD"]);
        t.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
        let out = t.run_sh("mknod /tmp/d b 8 0 2>&1; ls /tmp")?;
        // Peers allow mknod by default and deny the opening; either way it must not be readable.
        t.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
        let read = t.run_sh("rm -f /tmp/d; mknod /tmp/d b 8 0 2>&1; (head -c 1 /tmp/d) 2>&1 | tail -n 1")?;
        ensure!(
            read.contains("not permitted") || read.contains("can't open") || read.contains("No such"),
            "{out}{read}"
        );
        Ok(())
    });
    group.add("a_default_device_made_by_hand_is_usable", |t| {
        t.capabilities(&["CAP_MKNOD"]);
        equal!(t.run_sh(MAKE_AND_READ)?.trim(), "1", "bytes");
        Ok(())
    });
    group.add("allow_all_allows", |t| {
        t.capabilities(&["CAP_MKNOD"]);
        t.set("/linux/resources/devices", json!([{"allow": true, "access": "rwm"}]));
        let minor = spare_device()?;
        equal!(t.run_sh(&format!("mknod /tmp/d c 10 {minor} && (: < /tmp/d) && echo opened"))?, "opened\n", "opening");
        Ok(())
    });
}

fn access_exceptions(group: &mut Group) {
    group.add("a_later_allow_wins_over_deny_all", |t| {
        t.capabilities(&["CAP_MKNOD"]);
        let minor = spare_device()?;
        t.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 10, "minor": minor, "access": "rwm"}),
        );
        equal!(t.run_sh(&format!("mknod /tmp/d c 10 {minor} && (: < /tmp/d) && echo opened"))?, "opened\n", "opening");
        Ok(())
    });
    group.add("read_access_does_not_include_write", |t| {
        t.capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        let minor = spare_device()?;
        t.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 10, "minor": minor, "access": "rm"}),
        );
        let out =
            t.run_sh(&format!("mknod /tmp/d c 10 {minor}; (: < /tmp/d) && echo opened; (: >> /tmp/d) 2>&1; true"))?;
        ensure!(out.contains("opened") && out.contains("not permitted"), "{out}");
        Ok(())
    });
    group.add("no_device_rules_at_all_still_works", |t| {
        t.remove("/linux/resources/devices");
        t.run_sh("echo x > /dev/null")?;
        Ok(())
    });
}
