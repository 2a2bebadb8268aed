//! config.md#linux-mount-options: every option string, on tmpfs and on bind mounts.

use nix::mount::{MsFlags, mount};
use std::fs;

use crate::case::{Group, Outcome};
use crate::mountinfo::{self, Mount};
use crate::trial::Trial;
use crate::{ensure, equal};

/// Flags of the mount point, as mountinfo spells them.
const POINT_FLAGS: &[&str] = &["ro", "rw", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime"];
/// Flags of the file system.
const SUPER_FLAGS: &[&str] = &["sync", "dirsync", "lazytime"];
/// (first, second, what must be gone): the second one takes the first back.
const PAIRS: &[(&str, &str, &str)] = &[
    ("noexec", "exec", "noexec"),
    ("nosuid", "suid", "nosuid"),
    ("nodev", "dev", "nodev"),
    ("ro", "rw", "ro"),
    ("noatime", "atime", "noatime"),
    ("nodiratime", "diratime", "nodiratime"),
];
/// Words that ask for what is the case anyway, or for what mountinfo does not show.
const ACCEPTED: &[&str] = &[
    "defaults",
    "async",
    "atime",
    "diratime",
    "dev",
    "exec",
    "suid",
    "loud",
    "silent",
    "norelatime",
    "nostrictatime",
    "iversion",
    "noiversion",
    "nolazytime",
];

pub fn group() -> Group {
    let mut group = Group::new("mount_options", "config.md#linux-mount-options");
    tmpfs_options(&mut group);
    tmpfs_data(&mut group);
    bind_options(&mut group);
    recursive_options(&mut group);
    recursive_exceptions(&mut group);
    recursive_writes(&mut group);
    propagation_options(&mut group);
    propagation_of_late_mounts(&mut group);
    group
}

fn tmpfs_with(t: &mut Trial, options: &[&str]) -> Outcome<Mount> {
    t.mount("/mnt", "tmpfs", "tmpfs", options);
    let table = mountinfo::of_container(t)?;
    mountinfo::at(&table, "/mnt").cloned()
}

fn tmpfs_options(group: &mut Group) {
    for flag in POINT_FLAGS {
        group.add(format!("tmpfs_{flag}"), move |t| {
            let found = tmpfs_with(t, &[flag])?;
            ensure!(found.has(flag), "options of the mount are {:?}", found.options);
            Ok(())
        });
    }
    for flag in SUPER_FLAGS {
        group.add(format!("tmpfs_{flag}"), move |t| {
            let found = tmpfs_with(t, &[flag])?;
            ensure!(found.super_has(flag), "options of the file system are {:?}", found.super_options);
            Ok(())
        });
    }
    for (first, second, gone) in PAIRS {
        group.add(format!("tmpfs_{second}_takes_{first}_back"), move |t| {
            let found = tmpfs_with(t, &[first, second])?;
            ensure!(!found.has(gone), "{gone} is still set: {:?}", found.options);
            Ok(())
        });
    }
    for word in ACCEPTED {
        group.add(format!("tmpfs_{word}_is_accepted"), move |t| {
            equal!(tmpfs_with(t, &[word])?.kind, "tmpfs", "type of the mount");
            Ok(())
        });
    }
    group.add("tmpfs_strictatime_leaves_no_relatime", |t| {
        let found = tmpfs_with(t, &["strictatime"])?;
        ensure!(!found.has("relatime") && !found.has("noatime"), "options are {:?}", found.options);
        Ok(())
    });
    group.add("tmpfs_nosymfollow", |t| {
        let found = tmpfs_with(t, &["nosymfollow"])?;
        ensure!(found.has("nosymfollow"), "options are {:?}", found.options);
        Ok(())
    });
    group.add("tmpfs_symfollow_is_accepted", |t| {
        ensure!(!tmpfs_with(t, &["symfollow"])?.has("nosymfollow"), "nosymfollow is set");
        Ok(())
    });
}

fn tmpfs_data(group: &mut Group) {
    for (option, shown) in [("size=2048k", "size=2048k"), ("mode=0710", "mode=710"), ("nr_inodes=100", "nr_inodes=100")]
    {
        group.add(
            format!("tmpfs_data_{}_reaches_the_file_system", option.split('=').next().unwrap_or(option)),
            move |t| {
                let found = tmpfs_with(t, &["nosuid", option])?;
                ensure!(found.super_has(shown), "options of the file system are {:?}", found.super_options);
                Ok(())
            },
        );
    }
    group.add("unknown_options_are_passed_to_the_file_system_which_refuses", |t| {
        t.mount("/mnt", "tmpfs", "tmpfs", &["no-such-option=1"]);
        t.run_refused()?;
        Ok(())
    });
    group.add("tmpfs_size_is_enforced", |t| {
        t.mount("/mnt", "tmpfs", "tmpfs", &["size=64k"]);
        let out = t.run_sh("dd if=/dev/zero of=/mnt/f bs=1024 count=200 2>/dev/null; stat -c %s /mnt/f")?;
        equal!(out.trim(), "65536", "bytes that fit");
        Ok(())
    });
}

fn bind_with(t: &mut Trial, options: &[&str]) -> Outcome<Mount> {
    let source = t.scratch.join("source");
    fs::create_dir_all(&source)?;
    t.mount("/mnt", "bind", &source, options);
    let table = mountinfo::of_container(t)?;
    mountinfo::at(&table, "/mnt").cloned()
}

fn bind_options(group: &mut Group) {
    for kind in ["bind", "rbind"] {
        for flag in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"] {
            group.add(format!("{kind}_{flag}"), move |t| {
                let found = bind_with(t, &[kind, flag])?;
                ensure!(found.has(flag), "options of the mount are {:?}", found.options);
                Ok(())
            });
        }
        group.add(format!("{kind}_several_flags_together"), move |t| {
            let found = bind_with(t, &[kind, "ro", "nosuid", "nodev", "noexec"])?;
            for flag in ["ro", "nosuid", "nodev", "noexec"] {
                ensure!(found.has(flag), "{flag} is missing from {:?}", found.options);
            }
            Ok(())
        });
    }
    group.add("bind_ro_does_not_make_the_source_read_only", |t| {
        bind_with(t, &["bind", "ro"])?;
        fs::write(t.scratch.join("source/still-writable"), "x")?;
        Ok(())
    });
    group.add("bind_nosymfollow", |t| {
        let found = bind_with(t, &["bind", "nosymfollow"])?;
        ensure!(found.has("nosymfollow"), "options are {:?}", found.options);
        Ok(())
    });
}

/// A bind source with a tmpfs mounted inside it, and the container's view of both.
fn nested_with(t: &mut Trial, options: &[&str]) -> Outcome<(Mount, Mount)> {
    let source = t.scratch.join("source");
    fs::create_dir_all(source.join("sub"))?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), none)?;
    fs::create_dir_all(source.join("sub"))?;
    mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), none)?;
    t.mount("/mnt", "bind", &source, options);
    let table = mountinfo::of_container(t);
    nix::mount::umount(&source.join("sub"))?;
    nix::mount::umount(&source)?;
    let table = table?;
    Ok((mountinfo::at(&table, "/mnt")?.clone(), mountinfo::at(&table, "/mnt/sub")?.clone()))
}

fn recursive_options(group: &mut Group) {
    for (option, shown) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rrelatime", "relatime"),
        ("rnosymfollow", "nosymfollow"),
    ] {
        group.add(format!("{option}_reaches_submounts"), move |t| {
            let (top, below) = nested_with(t, &["rbind", option])?;
            ensure!(top.has(shown), "the mount itself has {:?}", top.options);
            ensure!(below.has(shown), "the submount has {:?}", below.options);
            Ok(())
        });
    }
    group.add("rstrictatime_reaches_submounts", |t| {
        let (top, below) = nested_with(t, &["rbind", "rstrictatime"])?;
        ensure!(!top.has("relatime") && !below.has("relatime"), "{:?} and {:?}", top.options, below.options);
        Ok(())
    });
    for (option, gone) in [
        ("rrw", "ro"),
        ("rexec", "noexec"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rdiratime", "nodiratime"),
        ("rsymfollow", "nosymfollow"),
    ] {
        group.add(format!("{option}_is_accepted"), move |t| {
            let (top, below) = nested_with(t, &["rbind", option])?;
            ensure!(!top.has(gone) && !below.has(gone), "{gone} is set: {:?} {:?}", top.options, below.options);
            Ok(())
        });
    }
    group.add("rnorelatime_is_accepted", |t| {
        nested_with(t, &["rbind", "rnorelatime"])?;
        Ok(())
    });
}

fn recursive_exceptions(group: &mut Group) {
    for option in ["ratime", "rnostrictatime"] {
        let why = "both peers clear a part of the atime mask, which mount_setattr(2) refuses; config.md#linux-mount-options: SHOULD";
        group.add_beyond_peers(why, format!("{option}_is_accepted"), move |t| {
            let (top, below) = nested_with(t, &["rbind", option])?;
            ensure!(!top.has("noatime") && !below.has("noatime"), "{:?} {:?}", top.options, below.options);
            Ok(())
        });
    }
    group.add("ro_without_r_leaves_submounts_writable", |t| {
        let (top, below) = nested_with(t, &["rbind", "ro"])?;
        ensure!(top.has("ro") && below.has("rw"), "{:?} and {:?}", top.options, below.options);
        Ok(())
    });
    group.add("bind_leaves_submounts_out", |t| {
        let source = t.scratch.join("source");
        fs::create_dir_all(source.join("sub"))?;
        let none: Option<&str> = None;
        mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), none)?;
        t.mount("/mnt", "bind", &source, &["bind"]);
        let table = mountinfo::of_container(t);
        nix::mount::umount(&source.join("sub"))?;
        ensure!(mountinfo::at(&table?, "/mnt/sub").is_err(), "the submount came along");
        Ok(())
    });
}

fn recursive_writes(group: &mut Group) {
    group.add("rro_blocks_writes_below_a_submount", |t| {
        let source = t.scratch.join("source");
        fs::create_dir_all(source.join("sub"))?;
        let none: Option<&str> = None;
        mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), none)?;
        t.mount("/mnt", "bind", &source, &["rbind", "rro"]);
        let out = t.run_sh("touch /mnt/sub/x 2>&1; ls /mnt/sub | wc -l");
        nix::mount::umount(&source.join("sub"))?;
        let out = out?;
        ensure!(out.contains("Read-only") && out.trim().ends_with('0'), "{out}");
        Ok(())
    });
}

/// A bind source on a shared mount of the runtime's namespace, and the container's view of it.
fn shared_source_with(t: &mut Trial, options: &[&str]) -> Outcome<Mount> {
    let source = t.scratch.join("source");
    fs::create_dir_all(&source)?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), none)?;
    mount(none, &source, none, MsFlags::MS_SHARED, none)?;
    t.mount("/mnt", "bind", &source, options);
    let table = mountinfo::of_container(t);
    nix::mount::umount(&source)?;
    mountinfo::at(&table?, "/mnt").cloned()
}

fn propagation_options(group: &mut Group) {
    for kind in ["bind", "rbind"] {
        let r = if kind == "rbind" { "r" } else { "" };
        group.add(format!("{kind}_{r}shared"), move |t| {
            t.set("/linux/rootfsPropagation", serde_json::json!("shared"));
            let found = shared_source_with(t, &[kind, &format!("{r}shared")])?;
            ensure!(found.propagates("shared"), "propagation is {:?}", found.propagation);
            Ok(())
        });
        group.add(format!("{kind}_{r}slave"), move |t| {
            let found = shared_source_with(t, &[kind, &format!("{r}slave")])?;
            ensure!(
                found.propagates("master") && !found.propagates("shared"),
                "propagation is {:?}",
                found.propagation
            );
            Ok(())
        });
        group.add(format!("{kind}_{r}private"), move |t| {
            let found = shared_source_with(t, &[kind, &format!("{r}private")])?;
            ensure!(found.propagation.is_empty(), "propagation is {:?}", found.propagation);
            Ok(())
        });
        group.add(format!("{kind}_{r}unbindable"), move |t| {
            let found = shared_source_with(t, &[kind, &format!("{r}unbindable")])?;
            ensure!(found.propagates("unbindable"), "propagation is {:?}", found.propagation);
            Ok(())
        });
    }
}

fn propagation_of_late_mounts(group: &mut Group) {
    group.add("a_slave_mount_receives_later_mounts_of_the_host", |t| {
        let source = t.scratch.join("source");
        fs::create_dir_all(&source)?;
        let none: Option<&str> = None;
        mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), none)?;
        mount(none, &source, none, MsFlags::MS_SHARED, none)?;
        fs::create_dir(source.join("late"))?;
        t.mount("/mnt", "bind", &source, &["rbind", "rslave"]);
        t.sh("while ! [ -e /out/go ]; do usleep 5000; done; cat /proc/self/mountinfo > /out/table");
        let table = late_mount_seen(t, &source.join("late"));
        nix::mount::umount(&source)?;
        mountinfo::at(&mountinfo::parse(&table?), "/mnt/late")?;
        Ok(())
    });
}

fn late_mount_seen(t: &mut Trial, late: &std::path::Path) -> Outcome<String> {
    t.create_started()?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), late, Some("tmpfs"), MsFlags::empty(), none)?;
    fs::write(t.rootfs().join("out/go"), "x")?;
    let waited = t.wait_for_status("stopped");
    nix::mount::umount(late)?;
    waited?;
    Ok(fs::read_to_string(t.rootfs().join("out/table"))?)
}
