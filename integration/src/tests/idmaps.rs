//! Idmapped mounts: who owns what inside, and what is written where, on several file systems.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::case::{Group, Outcome, skip};
use crate::mode::Mode;
use crate::trial::Trial;
use crate::{ensure, equal};

const BEYOND: &str = "runc 1.1.5 has no idmapped mounts, and crun 1.8.1 maps only what its own `idmap=` option says; config.md#posix-platform-mounts: uidMappings, gidMappings";
const KINDS: &[&str] = &["tmpfs", "ext4"];
/// Where the maps of mounts without a user namespace begin.
const SHOWN: u32 = 5000;

pub fn group() -> Group {
    let mut group = Group::new("idmaps", "config.md#posix-platform-mounts");
    for kind in KINDS {
        owners(&mut group, kind);
        with_user_namespace(&mut group, kind);
        overlays(&mut group, kind);
    }
    trees(&mut group);
    refused(&mut group);
    group
}

/// A file system of this kind with files of root and of user 1000, set-user-ID among them. Gone when dropped.
struct Stored {
    place: PathBuf,
}

impl Stored {
    fn make(t: &Trial, kind: &str) -> Outcome<Stored> {
        // The kernel wants rights where the file system was mounted; `differences` cannot say it of a set-up.
        if t.mode == Mode::User {
            return skip("requires a caller with CAP_SYS_ADMIN: mapping ids takes it");
        }
        let place = Path::new("/run/xbt-stored").to_path_buf();
        fs::create_dir(&place)?;
        mount_kind(kind, &place)?;
        let stored = Stored { place };
        for (name, id, mode) in [("root", 0, 0o644), ("user", 1000, 0o600), ("setuid", 0, 0o4755)] {
            let file = stored.place.join(name);
            fs::write(&file, name)?;
            chown(&file, Some(id), Some(id))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        }
        fs::set_permissions(&stored.place, fs::Permissions::from_mode(0o777))?;
        Ok(stored)
    }

    fn owner(&self, name: &str) -> Outcome<u32> {
        Ok(fs::metadata(self.place.join(name))?.uid())
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // What is left ends with the sandbox's mount namespace.
        umount2(&self.place, MntFlags::MNT_DETACH).ok();
    }
}

fn mount_kind(kind: &str, place: &Path) -> Outcome {
    let none: Option<&str> = None;
    match kind {
        "ext4" => {
            let image = "/run/xbt-image";
            fs::File::create(image)?.set_len(8 << 20)?;
            let made = Command::new("mkfs.ext4").args(["-q", "-F", image]).status();
            ensure!(made.is_ok_and(|status| status.success()), "mkfs.ext4 failed: install e2fsprogs");
            let mounted = Command::new("mount").args(["-o", "loop", image]).arg(place).output()?;
            if !mounted.status.success() {
                return skip(format!("requires loop devices: {}", String::from_utf8_lossy(&mounted.stderr).trim()));
            }
        }
        "overlay" => {
            for layer in ["lower", "upper", "work"] {
                fs::create_dir(format!("/run/xbt-{layer}"))?;
            }
            let options = "lowerdir=/run/xbt-lower,upperdir=/run/xbt-upper,workdir=/run/xbt-work";
            mount(Some("overlay"), place, Some("overlay"), MsFlags::empty(), Some(options))?;
        }
        kind => mount(Some(kind), place, Some(kind), MsFlags::empty(), none)?,
    }
    Ok(())
}

/// Ids 0 to 1999 of the file system, shown from `first` on.
fn map(first: u32) -> Value {
    json!([{"containerID": 0, "hostID": first, "size": 2000}])
}

fn mapped_mount(destination: &str, source: &Path, options: &[&str], map: &Value) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options,
           "uidMappings": map, "gidMappings": map})
}

/// The caller's ids are the container's, unless the suite gives it a user namespace: then its own root is shown.
fn shown(t: &Trial) -> (u32, u32) {
    if t.mode == Mode::Root { (SHOWN, SHOWN) } else { (t.host_id(0), 0) }
}

fn owners(group: &mut Group, kind: &'static str) {
    group.add_beyond_peers(BEYOND, format!("owners_are_mapped_on_{kind}"), move |t| {
        let stored = Stored::make(t, kind)?;
        let (first, inside) = shown(t);
        t.push("/mounts", mapped_mount("/mnt", &stored.place, &["bind", "idmap"], &map(first)));
        let out = t.run_sh("cd /mnt; stat -c %u:%g:%a root user setuid")?;
        let user = inside + 1000;
        equal!(out, format!("{inside}:{inside}:644\n{user}:{user}:600\n{inside}:{inside}:4755\n"), "owners and modes");
        Ok(())
    });
}

fn with_user_namespace(group: &mut Group, kind: &'static str) {
    group.add_beyond_peers(BEYOND, format!("the_containers_own_map_gives_stored_ids_on_{kind}"), move |t| {
        let stored = Stored::make(t, kind)?;
        t.use_user_namespace()?;
        t.push("/mounts", mapped_mount("/mnt", &stored.place, &["bind", "idmap"], &t.mode.maps()));
        let out = t.run_sh("cd /mnt; stat -c %u:%a root user setuid; echo x > made; chown 1000:1000 user; id -u")?;
        equal!(out, "0:644\n1000:600\n0:4755\n0\n", "owners and modes");
        equal!((stored.owner("made")?, stored.owner("user")?), (0, 1000), "owners in the file system");
        Ok(())
    });
    group.add_beyond_peers(BEYOND, format!("another_user_writes_with_the_stored_id_on_{kind}"), move |t| {
        let stored = Stored::make(t, kind)?;
        t.use_user_namespace()?;
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        t.push("/mounts", mapped_mount("/mnt", &stored.place, &["bind", "idmap"], &t.mode.maps()));
        t.run_sh("echo x > /mnt/made; cp /bin/busybox /mnt/program; chmod 4755 /mnt/program; cat /mnt/user")?;
        equal!(stored.owner("made")?, 1000, "owner of a new file");
        let mode = fs::metadata(stored.place.join("program"))?.mode() & 0o7777;
        equal!((stored.owner("program")?, mode), (1000, 0o4755), "owner and mode of a set-user-ID file");
        Ok(())
    });
    group.add_beyond_peers(BEYOND, format!("idmap_alone_takes_the_containers_map_on_{kind}"), move |t| {
        let stored = Stored::make(t, kind)?;
        t.use_user_namespace()?;
        t.mount("/mnt", "bind", &stored.place, &["bind", "idmap"]);
        equal!(t.run_sh("stat -c %u /mnt/user; echo x > /mnt/made")?, "1000\n", "owner inside");
        equal!(stored.owner("made")?, 0, "owner in the file system");
        Ok(())
    });
}

fn trees(group: &mut Group) {
    for (option, sub) in [("ridmap", "mapped"), ("idmap", "left")] {
        group.add_beyond_peers(BEYOND, format!("{option}_of_a_tree_has_what_is_below_{sub}"), move |t| {
            let stored = Stored::make(t, "tmpfs")?;
            let below = stored.place.join("below");
            fs::create_dir(&below)?;
            mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
            fs::write(below.join("deep"), "x")?;
            let (first, inside) = shown(t);
            t.push("/mounts", mapped_mount("/mnt", &stored.place, &["rbind", option], &map(first)));
            let out = t.run_sh("stat -c %u /mnt/root /mnt/below/deep")?;
            let unmapped = if t.mode == Mode::Root { 0 } else { 65_534 };
            let deep = if option == "ridmap" { inside } else { unmapped };
            equal!(out, format!("{inside}\n{deep}\n"), "owners in the tree");
            Ok(())
        });
    }
    group.add_beyond_peers(BEYOND, "two_mounts_of_one_source_have_maps_of_their_own", |t| {
        let stored = Stored::make(t, "tmpfs")?;
        let (first, inside) = shown(t);
        for (place, offset) in [("/mnt/a", 0), ("/mnt/b", 100)] {
            t.push("/mounts", mapped_mount(place, &stored.place, &["bind", "idmap"], &map(first + offset)));
        }
        let out = t.run_sh("stat -c %u /mnt/a/root /mnt/b/root /mnt/b/user")?;
        equal!(out, format!("{inside}\n{}\n{}\n", inside + 100, inside + 1100), "owners");
        Ok(())
    });
    group.add_beyond_peers(BEYOND, "a_single_file_is_mapped", |t| {
        let stored = Stored::make(t, "tmpfs")?;
        let (first, inside) = shown(t);
        t.push("/mounts", mapped_mount("/mnt/file", &stored.place.join("user"), &["bind", "idmap"], &map(first)));
        equal!(t.run_sh("stat -c %u /mnt/file")?, format!("{}\n", inside + 1000), "owner of the file");
        Ok(())
    });
    group.add_beyond_peers(BEYOND, "a_read_only_mapped_mount_is_read_only", |t| {
        let stored = Stored::make(t, "tmpfs")?;
        let (first, _) = shown(t);
        t.push("/mounts", mapped_mount("/mnt", &stored.place, &["bind", "idmap", "ro"], &map(first)));
        ensure!(t.run_sh("touch /mnt/x 2>&1 || true")?.contains("Read-only"), "the mount can be written");
        Ok(())
    });
    group.add("a_mapped_mount_of_a_shared_one_does_not_reach_back", |t| {
        let stored = Stored::make(t, "tmpfs")?;
        let none: Option<&str> = None;
        mount(none, &stored.place, none, MsFlags::MS_SHARED, none)?;
        let (first, _) = shown(t);
        t.push("/mounts", mapped_mount("/mnt", &stored.place, &["bind", "idmap"], &map(first)));
        let table = t.run_sh("grep ' /mnt ' /proc/self/mountinfo")?;
        ensure!(!table.contains("shared:"), "what is mounted there reaches the host: {table}");
        Ok(())
    });
}

fn overlays(group: &mut Group, kind: &'static str) {
    // Linux 5.19. The layer's mount is the container's own, so its path leads through the root file system.
    group.add_beyond_peers(BEYOND, format!("an_overlay_takes_a_mapped_layer_on_{kind}"), move |t| {
        let stored = Stored::make(t, kind)?;
        let (first, inside) = shown(t);
        t.push("/mounts", mapped_mount("/lower", &stored.place, &["bind", "idmap"], &map(first)));
        let [upper, work] = ["upper", "work"].map(|name| t.scratch.join(name));
        for directory in [&upper, &work, &t.rootfs().join("lower")] {
            fs::create_dir(directory)?;
        }
        let layers = [("lowerdir", t.rootfs().join("lower")), ("upperdir", upper.clone()), ("workdir", work)];
        let layers = layers.map(|(name, path)| format!("{name}={}", path.display()));
        t.mount("/mnt", "overlay", "overlay", &layers.each_ref().map(String::as_str));
        t.capabilities(&["CAP_DAC_OVERRIDE"]);
        let out = t.run_sh("cd /mnt; stat -c %u:%g:%a root user setuid; echo x >> user; stat -c %u user")?;
        let user = inside + 1000;
        let owners = format!("{inside}:{inside}:644\n{user}:{user}:600\n{inside}:{inside}:4755\n{user}\n");
        equal!(out, owners, "owners and modes, and the owner of what was copied up");
        equal!(fs::metadata(upper.join("user"))?.uid(), first + 1000, "owner in the upper layer");
        equal!((stored.owner("user")?, fs::read_to_string(stored.place.join("user"))?), (1000, "user".into()), "lower");
        Ok(())
    });
}

fn refused(group: &mut Group) {
    // FS_ALLOW_IDMAP is not among overlayfs's flags (fs/overlayfs/super.c), up to Linux 6.18 at least.
    group.add_beyond_peers(BEYOND, "an_overlay_is_mapped_or_told_to_map_its_layers", |t| {
        let stored = Stored::make(t, "overlay")?;
        let (first, inside) = shown(t);
        t.push("/mounts", mapped_mount("/mnt", &stored.place, &["bind", "idmap"], &map(first)));
        t.sh("stat -c %u /mnt/root");
        let done = t.run()?;
        match done.succeeded() {
            true => equal!(done.stdout, format!("{inside}\n"), "owner inside"),
            false => ensure!(done.stderr.contains("map its layers"), "the cure is not named: {}", done.stderr),
        }
        Ok(())
    });
    group.add_beyond_peers(BEYOND, "a_file_system_without_support_is_named", |t| {
        if t.mode == Mode::User {
            return skip("requires a caller with CAP_SYS_ADMIN: mapping ids takes it");
        }
        let (first, _) = shown(t);
        t.push("/mounts", mapped_mount("/mnt", Path::new("/proc/sys"), &["bind", "idmap"], &map(first)));
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("proc does not support"), "the file system is not named: {}", done.stderr);
        Ok(())
    });
    group.add_beyond_peers(BEYOND, "only_a_bind_mount_can_be_mapped", |t| {
        t.push(
            "/mounts",
            json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["idmap"],
            "uidMappings": map(SHOWN), "gidMappings": map(SHOWN)}),
        );
        t.run_refused()?;
        Ok(())
    });
}
