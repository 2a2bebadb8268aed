//! config.md#mounts: kinds of mounts, their sources and destinations.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::case::{Group, Outcome};
use crate::mode::Mode;
use crate::mountinfo;
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("mounts", "config.md#mounts");
    default_mounts(&mut group);
    few_mounts(&mut group);
    sources(&mut group);
    other_sources(&mut group);
    no_source(&mut group);
    destinations(&mut group);
    odd_destinations(&mut group);
    symlinked_destinations(&mut group);
    dangling_destinations(&mut group);
    group
}

fn default_mounts(group: &mut Group) {
    group.citing("config-linux.md#default-filesystems");
    for (point, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
    ] {
        group.add(format!("{}_is_{kind}", point[1..].replace('/', "_")), move |t| {
            let table = mountinfo::of_container(t)?;
            equal!(mountinfo::at(&table, point)?.kind, kind, "type of {point}");
            Ok(())
        });
    }
    group.add("devpts_is_a_new_instance", |t| {
        equal!(t.run_sh("ls /dev/pts")?, "ptmx\n", "entries of /dev/pts");
        Ok(())
    });
    group.add("devpts_options_are_honoured", |t| {
        let table = mountinfo::of_container(t)?;
        let found = mountinfo::at(&table, "/dev/pts")?;
        // The table is read outside, where a group of the container's has another number.
        let gid = if t.mode == Mode::Root { 5 } else { t.host_id(5) };
        for option in [&*format!("gid={gid}"), "mode=620", "ptmxmode=666"] {
            ensure!(found.super_has(option), "{option} is missing from {:?}", found.super_options);
        }
        Ok(())
    });
    group.add("sysfs_is_read_only_as_configured", |t| {
        let table = mountinfo::of_container(t)?;
        ensure!(mountinfo::at(&table, "/sys")?.has("ro"), "/sys is writable");
        Ok(())
    });
    group.add("proc_shows_only_the_containers_processes", |t| {
        equal!(t.run_sh("ls -d /proc/[0-9]* | wc -l")?.trim().parse::<u32>()? < 5, true, "few processes");
        Ok(())
    });
}

fn few_mounts(group: &mut Group) {
    group.add("a_cgroup_mount_shows_a_hierarchy", |t| {
        let out = t.run_sh("ls /sys/fs/cgroup")?;
        ensure!(!out.trim().is_empty(), "/sys/fs/cgroup is empty");
        let table = mountinfo::of_container(t)?;
        ensure!(mountinfo::at(&table, "/sys/fs/cgroup")?.has("ro"), "/sys/fs/cgroup is writable");
        Ok(())
    });
    group.citing("config.md#mounts");
    group.add("no_mounts_at_all_is_fine", |t| {
        t.set("/mounts", json!([]));
        t.remove("/linux/maskedPaths");
        t.remove("/linux/readonlyPaths");
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    group.add_beyond_peers(
        "crun 1.8.1 wants the block and runc 1.1.5 a /proc; config.md#mounts: OPTIONAL",
        "an_absent_mounts_list_is_fine",
        |t| {
            t.remove("/mounts");
            t.remove("/linux/maskedPaths");
            t.remove("/linux/readonlyPaths");
            equal!(t.run_sh("echo here")?, "here\n", "output");
            Ok(())
        },
    );
}

pub fn source_with_file(t: &Trial) -> Outcome<std::path::PathBuf> {
    let source = t.scratch.join("source");
    fs::create_dir_all(&source)?;
    fs::write(source.join("file"), "content\n")?;
    Ok(source)
}

fn sources(group: &mut Group) {
    group.add("bind_shows_the_sources_files", |t| {
        let source = source_with_file(t)?;
        t.mount("/mnt", "bind", source, &["bind"]);
        equal!(t.run_sh("cat /mnt/file")?, "content\n", "the file");
        Ok(())
    });
    group.add("bind_of_a_single_file", |t| {
        let source = source_with_file(t)?;
        t.mount("/etc/hosts", "bind", source.join("file"), &["bind", "ro"]);
        equal!(t.run_sh("cat /etc/hosts")?, "content\n", "the file");
        Ok(())
    });
    group.add("bind_of_a_file_over_an_existing_file", |t| {
        let source = source_with_file(t)?;
        t.mount("/etc/passwd", "bind", source.join("file"), &["bind"]);
        equal!(t.run_sh("cat /etc/passwd")?, "content\n", "the file");
        ensure!(fs::read_to_string(t.rootfs().join("etc/passwd"))?.starts_with("root:"), "the image's file changed");
        Ok(())
    });
    group.add("writes_through_a_bind_reach_the_source", |t| {
        let source = source_with_file(t)?;
        t.mount("/mnt", "bind", &source, &["bind", "rw"]);
        t.run_sh("echo new > /mnt/made")?;
        equal!(fs::read_to_string(source.join("made"))?, "new\n", "the written file");
        Ok(())
    });
    group.add("a_relative_source_is_relative_to_the_bundle", |t| {
        fs::create_dir(t.bundle.join("data"))?;
        fs::write(t.bundle.join("data/file"), "content\n")?;
        t.mount("/mnt", "bind", "data", &["bind"]);
        equal!(t.run_sh("cat /mnt/file")?, "content\n", "the file");
        Ok(())
    });
    group.add("the_type_of_a_bind_mount_is_a_dummy", |t| {
        let source = source_with_file(t)?;
        t.mount("/mnt", "none", source, &["rbind"]);
        equal!(t.run_sh("cat /mnt/file")?, "content\n", "the file");
        Ok(())
    });
    group.add("a_bind_mount_needs_no_type", |t| {
        let source = source_with_file(t)?;
        t.push("/mounts", json!({"destination": "/mnt", "source": source, "options": ["rbind"]}));
        equal!(t.run_sh("cat /mnt/file")?, "content\n", "the file");
        Ok(())
    });
}

fn other_sources(group: &mut Group) {
    group.add("a_device_can_be_bound", |t| {
        t.mount("/dev/my-null", "bind", "/dev/null", &["bind"]);
        equal!(t.run_sh("echo x > /dev/my-null; stat -c %t:%T /dev/my-null")?, "1:3\n", "the device");
        Ok(())
    });
    group.add("a_source_that_is_a_symlink_is_followed", |t| {
        let source = source_with_file(t)?;
        symlink(source, t.scratch.join("link"))?;
        t.mount("/mnt", "bind", t.scratch.join("link"), &["bind"]);
        equal!(t.run_sh("cat /mnt/file")?, "content\n", "the file");
        Ok(())
    });
    group.add("overlay_merges_its_layers", |t| {
        for layer in ["lower", "upper", "work"] {
            fs::create_dir(t.scratch.join(layer))?;
        }
        fs::write(t.scratch.join("lower/a"), "lower\n")?;
        fs::write(t.scratch.join("upper/b"), "upper\n")?;
        let at = |layer: &str| t.scratch.join(layer).display().to_string();
        let options = [
            format!("lowerdir={}", at("lower")),
            format!("upperdir={}", at("upper")),
            format!("workdir={}", at("work")),
        ];
        let words: Vec<&str> = options.iter().map(String::as_str).collect();
        t.mount("/mnt", "overlay", "overlay", &words);
        equal!(t.run_sh("cat /mnt/a /mnt/b; echo new > /mnt/c")?, "lower\nupper\n", "files");
        equal!(fs::read_to_string(t.scratch.join("upper/c"))?, "new\n", "the upper layer");
        Ok(())
    });
    group.add("the_source_of_a_tmpfs_is_only_its_name", |t| {
        t.mount("/mnt", "tmpfs", "my-name", &[]);
        let table = mountinfo::of_container(t)?;
        equal!(mountinfo::at(&table, "/mnt")?.source, "my-name", "source in mountinfo");
        Ok(())
    });
}

fn no_source(group: &mut Group) {
    group.add("a_tmpfs_needs_no_source_and_no_options", |t| {
        t.push("/mounts", json!({"destination": "/mnt", "type": "tmpfs"}));
        let table = mountinfo::of_container(t)?;
        equal!(mountinfo::at(&table, "/mnt")?.kind, "tmpfs", "type");
        Ok(())
    });
}

fn destinations(group: &mut Group) {
    group.add("a_missing_directory_is_made", |t| {
        let source = source_with_file(t)?;
        t.mount("/new/deep/path", "bind", source, &["bind"]);
        equal!(t.run_sh("cat /new/deep/path/file")?, "content\n", "the file");
        Ok(())
    });
    group.add("a_missing_file_is_made", |t| {
        let source = source_with_file(t)?;
        t.mount("/new/deep/file", "bind", source.join("file"), &["bind"]);
        equal!(t.run_sh("cat /new/deep/file")?, "content\n", "the file");
        Ok(())
    });
    group.add("a_relative_destination_is_relative_to_the_root", |t| {
        let source = source_with_file(t)?;
        t.mount("mnt", "bind", source, &["bind"]);
        t.set("/process/cwd", json!("/tmp"));
        equal!(t.run_sh("cat /mnt/file")?, "content\n", "the file");
        Ok(())
    });
    group.add("mounts_are_made_in_the_listed_order", |t| {
        t.mount("/mnt", "tmpfs", "first", &[]);
        t.mount("/mnt/sub", "tmpfs", "second", &[]);
        t.mount("/mnt/sub/sub", "tmpfs", "third", &[]);
        let table = mountinfo::of_container(t)?;
        equal!(mountinfo::at(&table, "/mnt/sub")?.source, "second", "source of /mnt/sub");
        equal!(mountinfo::at(&table, "/mnt/sub/sub")?.source, "third", "source of /mnt/sub/sub");
        Ok(())
    });
    group.add("a_later_mount_covers_an_earlier_one", |t| {
        t.mount("/mnt", "tmpfs", "first", &[]);
        t.mount("/mnt", "tmpfs", "second", &[]);
        let table = mountinfo::of_container(t)?;
        equal!(mountinfo::at(&table, "/mnt")?.source, "second", "topmost mount");
        Ok(())
    });
}

fn odd_destinations(group: &mut Group) {
    group.add("a_trailing_slash_is_harmless", |t| {
        t.mount("/mnt/", "tmpfs", "tmpfs", &[]);
        let table = mountinfo::of_container(t)?;
        mountinfo::at(&table, "/mnt")?;
        Ok(())
    });
    group.add("dots_in_a_destination_are_resolved", |t| {
        t.mount("/tmp/./../mnt", "tmpfs", "tmpfs", &[]);
        let table = mountinfo::of_container(t)?;
        mountinfo::at(&table, "/mnt")?;
        Ok(())
    });
    group.add("dots_do_not_lead_out_of_the_root", |t| {
        t.mount("/../../../mnt", "tmpfs", "tmpfs", &[]);
        let table = mountinfo::of_container(t)?;
        mountinfo::at(&table, "/mnt")?;
        Ok(())
    });
    group.add("destinations_with_spaces_work", |t| {
        t.mount("/mnt/with space", "tmpfs", "tmpfs", &[]);
        equal!(t.run_sh("touch '/mnt/with space/f' && ls '/mnt/with space'")?, "f\n", "files");
        Ok(())
    });
}

fn symlinked_destinations(group: &mut Group) {
    for (name, target) in [
        ("an_absolute_symlink", "/target"),
        ("a_relative_symlink", "target"),
        ("a_symlink_with_dots", "../../../../target"),
    ] {
        group.add(format!("{name}_stays_inside_the_root"), move |t| {
            fs::create_dir(t.rootfs().join("target"))?;
            symlink(target, t.rootfs().join("link"))?;
            t.mount("/link", "tmpfs", "inside", &[]);
            let table = mountinfo::of_container(t)?;
            equal!(mountinfo::at(&table, "/target")?.source, "inside", "mount at the link's target");
            Ok(())
        });
    }
    group.add("a_symlink_to_a_host_directory_does_not_reach_the_host", |t| {
        let outside = t.scratch.join("outside");
        fs::create_dir(&outside)?;
        symlink(&outside, t.rootfs().join("link"))?;
        let source = source_with_file(t)?;
        t.mount("/link/made", "bind", source, &["bind"]);
        // Refusing the link and following it inside the root are both safe.
        t.sh("true");
        t.run()?;
        equal!(fs::read_dir(&outside)?.count(), 0, "entries made outside the root");
        Ok(())
    });
    group.add("a_symlink_in_the_middle_is_resolved_inside", |t| {
        fs::create_dir(t.rootfs().join("real"))?;
        symlink("/real", t.rootfs().join("alias"))?;
        t.mount("/alias/sub", "tmpfs", "inside", &[]);
        let table = mountinfo::of_container(t)?;
        mountinfo::at(&table, "/real/sub")?;
        Ok(())
    });
}

fn dangling_destinations(group: &mut Group) {
    group.add("a_dangling_symlink_stays_inside_the_root", |t| {
        symlink("/not-there-yet", t.rootfs().join("link"))?;
        t.mount("/link", "tmpfs", "inside", &[]);
        let done = {
            t.sh("cat /proc/self/mountinfo");
            t.run()?
        };
        ensure!(!std::path::Path::new("/not-there-yet").exists(), "a directory was made on the host");
        if done.succeeded() {
            mountinfo::at(&mountinfo::parse(&done.stdout), "/not-there-yet")?;
        }
        Ok(())
    });
}
