//! config.md#mounts: mounts that are refused, tmpcopyup, mapped owners, and what the host sees.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;

use super::mounts::source_with_file;
use crate::case::Group;
use crate::mode::Mode;
use crate::mountinfo;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("mount_refusals", "runtime.md#create");
    refusals(&mut group);
    tmpcopyup(&mut group);
    others(&mut group);
    group
}

fn refusals(group: &mut Group) {
    group.citing("runtime.md#create");
    group.add("a_missing_bind_source_is_refused", |t| {
        t.mount("/mnt", "bind", "/no/such/source", &["bind"]);
        t.run_refused()?;
        Ok(())
    });
    group.add("an_unknown_file_system_is_refused", |t| {
        t.mount("/mnt", "no-such-fs", "none", &[]);
        t.run_refused()?;
        Ok(())
    });
    group.add("a_directory_cannot_cover_a_file", |t| {
        let source = source_with_file(t)?;
        t.mount("/etc/passwd", "bind", source, &["bind"]);
        t.run_refused()?;
        Ok(())
    });
    group.add("a_file_cannot_cover_a_directory", |t| {
        let source = source_with_file(t)?;
        t.mount("/mnt", "bind", source.join("file"), &["bind"]);
        t.run_refused()?;
        Ok(())
    });
    group.add("a_missing_destination_is_refused", |t| {
        t.push("/mounts", json!({"type": "tmpfs", "source": "tmpfs"}));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_proc_mount_away_from_proc_with_a_symlink_is_not_followed_to_the_host", |t| {
        fs::remove_dir(t.rootfs().join("proc"))?;
        symlink("/tmp", t.rootfs().join("proc"))?;
        // CVE-2019-16884, CVE-2023-27561: a rootfs whose /proc is a symlink must not be mounted over.
        t.sh("echo payload-has-run");
        t.run()?.refused()?;
        Ok(())
    });
}

fn tmpcopyup(group: &mut Group) {
    group.citing("config.md#linux-mount-options");
    group.add("tmpcopyup_copies_the_directory", |t| {
        fs::write(t.rootfs().join("mnt/seed"), "seed\n")?;
        t.mount("/mnt", "tmpfs", "tmpfs", &["tmpcopyup"]);
        equal!(t.run_sh("cat /mnt/seed; echo new > /mnt/new")?, "seed\n", "the copied file");
        ensure!(!t.rootfs().join("mnt/new").exists(), "a write reached the image");
        Ok(())
    });
    group.add("tmpcopyup_keeps_modes_and_links", |t| {
        let place = t.rootfs().join("mnt");
        fs::create_dir(place.join("dir"))?;
        fs::write(place.join("dir/file"), "x")?;
        fs::set_permissions(place.join("dir/file"), fs::Permissions::from_mode(0o640))?;
        symlink("dir/file", place.join("link"))?;
        t.mount("/mnt", "tmpfs", "tmpfs", &["tmpcopyup"]);
        equal!(t.run_sh("stat -c %a /mnt/dir/file; readlink /mnt/link")?, "640\ndir/file\n", "mode and link");
        Ok(())
    });
    group.add("tmpcopyup_on_an_empty_directory", |t| {
        t.mount("/mnt", "tmpfs", "tmpfs", &["tmpcopyup", "mode=755"]);
        equal!(t.run_sh("ls /mnt | wc -l")?.trim(), "0", "entries");
        Ok(())
    });
}

fn others(group: &mut Group) {
    group.citing("config.md#mounts");
    group.add("the_mount_table_of_the_host_does_not_change", |t| {
        let before = fs::read_to_string("/proc/self/mountinfo")?;
        t.mount("/mnt", "tmpfs", "tmpfs", &[]);
        t.sleeper()?;
        equal!(fs::read_to_string("/proc/self/mountinfo")?, before, "mount table while the container runs");
        Ok(())
    });
    group.add("host_mounts_are_not_visible_inside", |t| {
        let table = mountinfo::of_container(t)?;
        let strange: Vec<&str> =
            table.iter().map(|mount| mount.point.as_str()).filter(|point| point.starts_with("/run")).collect();
        ensure!(strange.is_empty(), "host mounts are visible: {strange:?}");
        Ok(())
    });
    group.add("fifty_binds_work", |t| {
        let source = source_with_file(t)?;
        for index in 0..50 {
            t.mount(&format!("/mnt/{index}"), "bind", &source, &["bind", "ro"]);
        }
        equal!(t.run_sh("cat /mnt/*/file | wc -l")?.trim(), "50", "binds that show the file");
        Ok(())
    });
    group.citing("config.md#posix-platform-mounts");
    group.add("an_idmapped_bind_shows_mapped_owners", |t| {
        let source = source_with_file(t)?;
        // Files of the container's root are shown as those of its user 1000.
        let (stored, shown) = if t.mode == Mode::Root { (0, 1000) } else { (t.host_id(0), t.host_id(1000)) };
        let map = json!([{"containerID": stored, "hostID": shown, "size": 10}]);
        t.push(
            "/mounts",
            json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"],
                       "uidMappings": map, "gidMappings": map}),
        );
        equal!(t.run_sh("stat -c %u:%g /mnt/file")?, "1000:1000\n", "owner seen through the mount");
        Ok(())
    });
    group.citing("config.md#linux-mount-options");
    group.add_beyond_peers("runc 1.1.5 ignores idmap and crun 1.8.1 leaves its cgroup; config.md#linux-mount-options: `an error MUST be returned`", "idmap_without_any_mapping_is_refused", |t| {
        let source = source_with_file(t)?;
        t.mount("/mnt", "bind", source, &["bind", "idmap"]);
        t.run_refused()?;
        Ok(())
    });
}
