//! config.md#root, config-linux.md#masked-paths, #readonly-paths, #rootfs-mount-propagation.

use std::fs;
use std::os::unix::fs::symlink;

use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

use crate::case::{Group, Outcome};
use crate::mountinfo::{self, Mount};
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("rootfs", "config.md#root");
    root(&mut group);
    other_roots(&mut group);
    root_switch(&mut group);
    propagation(&mut group);
    masked_paths(&mut group);
    many_masked_paths(&mut group);
    readonly_paths(&mut group);
    group
}

fn root(group: &mut Group) {
    group.add("readonly_root_refuses_writes", |t| {
        t.set("/root/readonly", json!(true));
        let out = t.run_sh("touch /file 2>&1; ls /file 2>&1; true")?;
        ensure!(out.contains("Read-only file system"), "{out}");
        Ok(())
    });
    group.add("readonly_root_leaves_other_mounts_writable", |t| {
        t.set("/root/readonly", json!(true));
        t.mount("/mnt", "tmpfs", "tmpfs", &[]);
        equal!(t.run_sh("echo x > /mnt/f && cat /mnt/f; echo y > /dev/shm/f && cat /dev/shm/f")?, "x\ny\n", "writes");
        Ok(())
    });
    group.add("readonly_root_still_makes_mount_points", |t| {
        t.set("/root/readonly", json!(true));
        t.mount("/made/for/it", "tmpfs", "tmpfs", &[]);
        let table = mountinfo::of_container(t)?;
        mountinfo::at(&table, "/made/for/it")?;
        Ok(())
    });
    group.add("readonly_defaults_to_false", |t| {
        t.remove("/root/readonly");
        t.run_sh("echo x > /file")?;
        ensure!(t.rootfs().join("file").exists(), "the write did not reach the root");
        Ok(())
    });
    group.add("an_absolute_path_works", |t| {
        let path = t.rootfs();
        t.set("/root/path", json!(path));
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    group.add("a_path_with_dots_works", |t| {
        t.set("/root/path", json!("./other/../rootfs"));
        fs::create_dir(t.bundle.join("other"))?;
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    group.add("a_name_other_than_rootfs_works", |t| {
        fs::rename(t.rootfs(), t.bundle.join("tree"))?;
        t.set("/root/path", json!("tree"));
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
}

fn other_roots(group: &mut Group) {
    group.add("dot_dot_of_the_root_is_the_root", |t| {
        equal!(t.run_sh("cd /; cd ..; pwd; ls -d bin")?, "/\nbin\n", "the parent of /");
        Ok(())
    });
    group.add("an_overlay_root_works", |t| {
        for layer in ["upper", "work", "merged"] {
            fs::create_dir(t.scratch.join(layer))?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            t.rootfs().display(),
            t.scratch.join("upper").display(),
            t.scratch.join("work").display()
        );
        let merged = t.scratch.join("merged");
        t.hand_over()?;
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        t.set("/root/path", json!(merged));
        let out = t.run_sh("echo new > /made; cat /made");
        umount(&merged)?;
        equal!(out?, "new\n", "output");
        ensure!(t.scratch.join("upper/made").exists(), "the upper layer has no such file");
        Ok(())
    });
    group.add("a_root_that_is_a_symlink_is_followed", |t| {
        symlink("rootfs", t.bundle.join("link"))?;
        t.set("/root/path", json!("link"));
        // Peers differ on whether a symlinked root is allowed: both outcomes must be clean.
        t.sh("echo here");
        let done = t.run()?;
        ensure!(!done.succeeded() || done.stdout == "here\n", "{}", done.stdout);
        Ok(())
    });
}

fn root_switch(group: &mut Group) {
    group.add("no_pivot_works_too", |t| {
        t.sh("cd /; cd ..; ls -d bin");
        equal!(t.run_with(&["--no-pivot"])?.ok()?.stdout, "bin\n", "the parent of /");
        Ok(())
    });
    group.add("old_root_is_gone", |t| {
        let table = mountinfo::of_container(t)?;
        equal!(table[0].point, "/", "first mount");
        equal!(table.iter().filter(|mount| mount.point == "/").count(), 1, "mounts at /");
        Ok(())
    });
}

fn root_mount(t: &mut Trial, propagation: &str) -> Outcome<Mount> {
    t.set("/linux/rootfsPropagation", json!(propagation));
    let table = mountinfo::of_container(t)?;
    mountinfo::at(&table, "/").cloned()
}

fn propagation(group: &mut Group) {
    group.citing("config-linux.md#rootfs-mount-propagation");
    group.add("propagation_shared", |t| {
        let found = root_mount(t, "shared")?;
        ensure!(found.propagates("shared"), "{:?}", found.propagation);
        Ok(())
    });
    group.add("propagation_private", |t| {
        let found = root_mount(t, "private")?;
        ensure!(found.propagation.is_empty(), "{:?}", found.propagation);
        Ok(())
    });
    group.add("propagation_slave_is_not_shared_with_the_host", |t| {
        let found = root_mount(t, "slave")?;
        ensure!(!found.propagates("shared"), "{:?}", found.propagation);
        Ok(())
    });
    group.add("propagation_unbindable", |t| {
        let found = root_mount(t, "unbindable")?;
        ensure!(found.propagates("unbindable"), "{:?}", found.propagation);
        Ok(())
    });
    group.add("propagation_rprivate_and_rslave_are_understood", |t| {
        root_mount(t, "rprivate")?;
        root_mount(t, "rslave")?;
        Ok(())
    });
    group.add("propagation_unknown_is_refused", |t| {
        t.set("/linux/rootfsPropagation", json!("sideways"));
        t.run_refused()?;
        Ok(())
    });
    group.add("mounts_inside_do_not_reach_a_shared_host_root", |t| {
        let source = t.rootfs();
        let none: Option<&str> = None;
        mount(Some(&source), &source, none, MsFlags::MS_BIND, none)?;
        mount(none, &source, none, MsFlags::MS_SHARED, none)?;
        t.mount("/mnt", "tmpfs", "tell-tale", &[]);
        let out = t.run_sh("true");
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        umount(&source)?;
        out?;
        ensure!(!table.contains("tell-tale"), "a mount of the container shows on the host: {table}");
        Ok(())
    });
}

fn masked_paths(group: &mut Group) {
    group.citing("config-linux.md#masked-paths");
    group.add("a_masked_file_reads_as_empty", |t| {
        fs::write(t.rootfs().join("etc/secret"), "secret\n")?;
        t.push("/linux/maskedPaths", json!("/etc/secret"));
        equal!(t.run_sh("cat /etc/secret | wc -c")?.trim(), "0", "bytes");
        Ok(())
    });
    group.add("a_masked_directory_is_empty", |t| {
        t.push("/linux/maskedPaths", json!("/etc"));
        equal!(t.run_sh("ls /etc | wc -l")?.trim(), "0", "entries");
        Ok(())
    });
    group.add("a_masked_directory_is_read_only", |t| {
        t.push("/linux/maskedPaths", json!("/etc"));
        let out = t.run_sh("touch /etc/x 2>&1; true")?;
        ensure!(out.contains("Read-only"), "{out}");
        Ok(())
    });
    group.add("a_missing_masked_path_is_ignored", |t| {
        t.push("/linux/maskedPaths", json!("/no/such/path"));
        t.run_sh("true")?;
        Ok(())
    });
    group.add("proc_kcore_and_friends_are_masked_by_the_default_list", |t| {
        equal!(t.run_sh("cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c")?.trim(), "0", "bytes");
        Ok(())
    });
    group.add("a_masked_symlink_masks_inside_the_root_only", |t| {
        fs::write(t.rootfs().join("etc/secret"), "secret\n")?;
        symlink("/etc/secret", t.rootfs().join("alias"))?;
        t.push("/linux/maskedPaths", json!("/alias"));
        // Masking the target or refusing are both safe; showing the content through the alias is not.
        t.sh("cat /alias | wc -c");
        let done = t.run()?;
        ensure!(!done.succeeded() || done.stdout.trim() == "0", "bytes read through the alias: {}", done.stdout);
        Ok(())
    });
}

fn many_masked_paths(group: &mut Group) {
    group.add("sixty_masked_paths_work", |t| {
        for index in 0..60 {
            fs::create_dir(t.rootfs().join(format!("mnt/{index}")))?;
            fs::write(t.rootfs().join(format!("mnt/{index}/f")), "x")?;
            t.push("/linux/maskedPaths", json!(format!("/mnt/{index}")));
        }
        equal!(t.run_sh("ls /mnt/*/f 2>/dev/null | wc -l")?.trim(), "0", "visible files");
        Ok(())
    });
    group.add("a_writer_of_a_masked_file_changes_nothing", |t| {
        fs::write(t.rootfs().join("etc/secret"), "secret\n")?;
        t.push("/linux/maskedPaths", json!("/etc/secret"));
        t.run_sh("echo overwritten > /etc/secret; true")?;
        equal!(fs::read_to_string(t.rootfs().join("etc/secret"))?, "secret\n", "content on the host");
        Ok(())
    });
}

fn readonly_paths(group: &mut Group) {
    group.citing("config-linux.md#readonly-paths");
    group.add("a_readonly_directory_refuses_writes", |t| {
        t.push("/linux/readonlyPaths", json!("/etc"));
        let out = t.run_sh("touch /etc/x 2>&1; cat /etc/group | head -n 1")?;
        ensure!(out.contains("Read-only") && out.contains("root:x:0:"), "{out}");
        Ok(())
    });
    group.add("a_readonly_file_refuses_writes", |t| {
        t.push("/linux/readonlyPaths", json!("/etc/group"));
        let out = t.run_sh("(echo x >> /etc/group) 2>&1; echo y > /etc/other && echo other-written")?;
        ensure!(out.contains("Read-only") && out.contains("other-written"), "{out}");
        Ok(())
    });
    group.add("a_missing_readonly_path_is_ignored", |t| {
        t.push("/linux/readonlyPaths", json!("/no/such/path"));
        t.run_sh("true")?;
        Ok(())
    });
    group.add("proc_sys_is_read_only_by_the_default_list", |t| {
        let out = t.run_sh("(echo x > /proc/sys/kernel/hostname) 2>&1; true")?;
        ensure!(out.contains("Read-only"), "{out}");
        Ok(())
    });
    group.add("readonly_paths_keep_nosuid_and_noexec_of_the_mount", |t| {
        t.mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev"]);
        t.push("/linux/readonlyPaths", json!("/mnt"));
        let table = mountinfo::of_container(t)?;
        let found = mountinfo::at(&table, "/mnt")?;
        for option in ["ro", "nosuid", "noexec", "nodev"] {
            ensure!(found.has(option), "{option} is missing from {:?}", found.options);
        }
        Ok(())
    });
    group.add("a_readonly_path_does_not_change_the_host", |t| {
        t.push("/linux/readonlyPaths", json!("/etc"));
        t.run_sh("true")?;
        fs::write(t.rootfs().join("etc/x"), "x")?;
        Ok(())
    });
}
