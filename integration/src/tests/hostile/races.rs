//! Races: somebody with the same volume exchanges names while containers are made from it, again and again.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use crate::call::Done;
use crate::case::{Group, Outcome};
use crate::endtoend;
use crate::trial::Trial;
use crate::{ensure, mountinfo};

use super::{Decoy, clear, without_mounts_at};

/// How many containers a race takes in the suite; `make hostile` takes more.
const ROUNDS: u64 = 25;
/// And how long at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// A thread that exchanges two names as fast as it can (renameat2(2), RENAME_EXCHANGE).
#[derive(Debug)]
pub struct Racer {
    over: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Racer {
    pub fn exchange(one: PathBuf, other: PathBuf) -> Racer {
        Racer::doing(move || renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).is_ok())
    }

    /// A thread that does this as fast as it can.
    pub fn doing(mut act: impl FnMut() -> bool + Send + 'static) -> Racer {
        let (over, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, counted) = (Arc::clone(&over), Arc::clone(&swaps));
        let thread = thread::spawn(move || {
            let mut pause = 0u32;
            while !until.load(Ordering::Relaxed) {
                counted.fetch_add(u64::from(act()), Ordering::Relaxed);
                // Each moment between two steps of a runtime has to be hit at some time.
                pause = pause.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                for _ in 0..(pause >> 16 & 63) * (pause >> 31) {
                    std::hint::spin_loop();
                }
            }
        });
        Racer { over, swaps, thread: Some(thread) }
    }

    /// How often the names were exchanged.
    pub fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // A panic of the thread has been printed; there is nothing to add.
        self.thread.take().map(JoinHandle::join);
    }
}

pub fn add(group: &mut Group) {
    destinations(group);
    proc_and_sys(group);
    devices(group);
    consoles(group);
    copies(group);
    nodes(group);
}

/// Runs containers while the names are exchanged. Whether one runs or is refused is not the question; `judge`
/// looks at each.
fn race(t: &mut Trial, pairs: &[(PathBuf, PathBuf)], mut judge: impl FnMut(&mut Trial, &Done) -> Outcome) -> Outcome {
    t.write_config()?;
    let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
    let racers: Vec<Racer> = pairs.iter().map(|(one, other)| Racer::exchange(one.clone(), other.clone())).collect();
    let begun = Instant::now();
    let (rounds, patience) = endtoend::race_rounds().unwrap_or((ROUNDS, PATIENCE));
    let (mut ran, mut refused) = (0, 0);
    while ran + refused < rounds && begun.elapsed() < t.limit(patience) {
        let done = t.call(&["run", "--bundle", &bundle, &id]).go()?;
        match done.succeeded() {
            true => ran += 1,
            false => refused += 1,
        }
        judge(t, &done)?;
        if refused > 0 {
            // What an unlucky run may leave is another test's matter, but it must not end this one.
            t.call(&["delete", "--force", &id]).go()?;
        }
    }
    let swaps: Vec<u64> = racers.iter().map(Racer::swaps).collect();
    drop(racers);
    endtoend::tell(&format!("{ran} containers ran, {refused} were refused; names exchanged {swaps:?} times"));
    ensure!(swaps.iter().all(|count| *count > ran + refused), "the racers did nothing: {swaps:?}");
    Ok(())
}

/// A hook that notes the container's mounts, before the old root is gone.
fn note_mounts(t: &mut Trial) -> Outcome<PathBuf> {
    let notes = t.scratch.join("mountinfo");
    fs::write(&notes, "")?;
    let script = format!("cat /proc/self/mountinfo > {}", notes.display());
    t.push("/hooks/createContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
    Ok(notes)
}

/// No mount lies at or below `place`.
fn expect_no_mount(notes: &Path, place: &Path, kind: &str) -> Outcome {
    let table = fs::read_to_string(notes)?;
    let there = mountinfo::parse(&table)
        .into_iter()
        .find(|mount| Path::new(&mount.point).starts_with(place) && (kind.is_empty() || mount.kind == kind));
    ensure!(there.is_none(), "mounted outside of where it belongs: {there:?}");
    Ok(())
}

/// CVE-2021-30465, CVE-2024-45310: the destination becomes a link between its check and its use.
fn destinations(group: &mut Group) {
    for (name, relative) in [("absolute", false), ("relative", true)] {
        for (what, extra) in [("mounted_on", ""), ("made_below", "/made/deep")] {
            let id = if extra.is_empty() { "cve_2021_30465" } else { "cve_2024_45310" };
            let name = format!("{id}_a_destination_exchanged_for_a_link_{name}_is_{what}_inside_only");
            group.add(name, move |t| {
                let decoy = Decoy::plant(t)?;
                let shared = t.scratch.join("shared");
                fs::create_dir_all(shared.join("a"))?;
                symlink(decoy.as_target(relative), shared.join("b"))?;
                fs::create_dir_all(t.rootfs().join("vol"))?;
                t.mount("/vol", "bind", &shared, &["rbind", "rw"]);
                t.mount(&format!("/vol/a{extra}"), "tmpfs", "tmpfs", &[]);
                t.mount("/vol/a/knob", "bind", "/dev/null", &["bind"]);
                let notes = note_mounts(t)?;
                t.sh("true");
                race(t, &[(shared.join("a"), shared.join("b"))], |_, _| {
                    expect_no_mount(&notes, &decoy.path, "")?;
                    decoy.untouched()
                })
            });
        }
    }
    group.add("a_destination_that_is_removed_as_soon_as_it_is_made_holds_nobody_up", |t| {
        let shared = t.scratch.join("shared");
        fs::create_dir(&shared)?;
        t.mount("/mnt", "bind", &shared, &["rbind", "rw"]);
        t.mount("/mnt/a/b/c/d", "tmpfs", "tmpfs", &[]);
        t.sh("true");
        t.write_config()?;
        let top = shared.join("a");
        let racer = Racer::doing(move || fs::remove_dir_all(&top).is_ok());
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        for _ in 0..20 {
            let done = t.call(&["run", "--bundle", &bundle, &id]).go()?;
            ensure!(done.took < t.limit(PATIENCE), "it took {:?}", done.took);
            t.call(&["delete", "--force", &id]).go()?;
        }
        ensure!(racer.swaps() > 0, "nothing was ever removed");
        Ok(())
    });
    group.add("cve_2024_45310_a_working_directory_exchanged_for_a_link_is_made_inside_only", |t| {
        let decoy = Decoy::plant(t)?;
        let rootfs = t.rootfs();
        fs::create_dir(rootfs.join("work"))?;
        symlink(&decoy.path, rootfs.join("swap"))?;
        t.set("/process/cwd", json!("/work/made/deep"));
        t.sh("true");
        race(t, &[(rootfs.join("work"), rootfs.join("swap"))], |_, _| decoy.untouched())
    });
}

/// CVE-2023-28642: /proc or /sys is a link at the moment of its mount, and a directory when it is looked at.
fn proc_and_sys(group: &mut Group) {
    for (top, kind) in [("proc", "proc"), ("sys", "sysfs")] {
        group.add(format!("cve_2023_28642_a_{top}_exchanged_for_a_link_is_mounted_nowhere_else"), move |t| {
            let rootfs = t.rootfs();
            fs::create_dir(rootfs.join("elsewhere"))?;
            symlink("/elsewhere", rootfs.join("swap"))?;
            without_mounts_at(t, "/sys/fs")?;
            t.remove("/linux/maskedPaths");
            t.remove("/linux/readonlyPaths");
            let notes = note_mounts(t)?;
            t.sh("true");
            let place = rootfs.join("elsewhere");
            race(t, &[(rootfs.join(top), rootfs.join("swap"))], |_, _| expect_no_mount(&notes, &place, kind))
        });
    }
}

fn devices(group: &mut Group) {
    let why = "engine contract: nothing of the host changes; Debian's runc 1.1.5 and crun 1.8.1 have the hole";
    group.add_beyond_peers(why, "cve_2026_41579_a_dev_exchanged_for_a_link_changes_nothing_of_the_host", |t| {
        without_mounts_at(t, "/dev")?;
        let decoy = Decoy::plant(t)?;
        let rootfs = t.rootfs();
        symlink(&decoy.path, rootfs.join("swap"))?;
        t.sh("true");
        // By handle, because the name is the decoy's half of the time.
        let dev = fs::File::open(rootfs.join("dev"))?;
        let inside = PathBuf::from(format!("/proc/self/fd/{}", dev.as_raw_fd()));
        race(t, &[(rootfs.join("dev"), rootfs.join("swap"))], |_, _| {
            // The directory is filled by the first; the next would find all of it there.
            for name in ["null", "ptmx", "fd"] {
                clear(&inside.join(name))?;
            }
            decoy.untouched()
        })
    });
    group.add("cve_2025_31133_a_dev_null_exchanged_for_a_link_masks_nothing_else", |t| {
        without_mounts_at(t, "/dev")?;
        let decoy = Decoy::plant(t)?;
        t.mount("/out/knob", "bind", decoy.path.join("knob"), &["bind"]);
        let dev = t.rootfs().join("dev");
        mknod(&dev.join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))?;
        fs::set_permissions(dev.join("null"), fs::Permissions::from_mode(0o666))?;
        symlink("/out/knob", dev.join("swap"))?;
        t.set("/linux/maskedPaths", json!(["/proc/keys"]));
        t.sh("echo written > /proc/keys; cat /proc/keys");
        race(t, &[(dev.join("null"), dev.join("swap"))], |_, done| {
            ensure!(!done.stdout.contains("the host's"), "the mask is the file that the link names");
            decoy.untouched()
        })
    });
}

/// CVE-2025-52565: the terminal's name, or that of its mount point, becomes a link.
fn consoles(group: &mut Group) {
    group.add("cve_2025_52565_a_console_exchanged_for_a_link_is_the_terminal_or_refused", |t| {
        without_mounts_at(t, "/dev")?;
        let decoy = Decoy::plant(t)?;
        t.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
        t.mount("/out/knob", "bind", decoy.path.join("knob"), &["bind"]);
        let dev = t.rootfs().join("dev");
        fs::create_dir_all(dev.join("pts"))?;
        fs::create_dir(dev.join("forged"))?;
        for name in ["0", "1", "2", "ptmx"] {
            symlink("../../out/knob", dev.join("forged").join(name))?;
        }
        fs::write(dev.join("console"), "")?;
        // Relative: that leads there from outside as well.
        symlink("../out/knob", dev.join("swap"))?;
        t.set("/process/terminal", json!(true));
        t.sh("cat /proc/self/mountinfo");
        let pairs = [(dev.join("pts"), dev.join("forged")), (dev.join("console"), dev.join("swap"))];
        race(t, &pairs, |_, done| {
            for mount in mountinfo::parse(&done.stdout) {
                let on_console = matches!(mount.point.as_str(), "/dev/console" | "/dev/swap");
                let over_link = mount.point == "/out/knob" && mount.kind == "devpts";
                ensure!(!over_link, "the terminal lies on the file that the link names");
                ensure!(!on_console || mount.kind == "devpts", "the console is no terminal: {mount:?}");
            }
            decoy.untouched()
        })
    });
}

/// tmpcopyup: what is copied is exchanged between the look at it and its copy.
fn copies(group: &mut Group) {
    group.add("a_file_exchanged_while_tmpcopyup_copies_it_gets_no_other_files_mode", |t| {
        let data = t.rootfs().join("data");
        fs::create_dir(&data)?;
        // Many, so that each container has many moments.
        for number in 0..40 {
            fs::write(data.join(format!("f{number}")), "plain")?;
        }
        let (trusted, strange) = (data.join("f20"), data.join("f21"));
        fs::write(&trusted, "trusted")?;
        fs::write(&strange, "strange")?;
        t.hand_over()?;
        chown(&strange, Some(t.host_id(1000)), Some(t.host_id(1000)))?;
        fs::set_permissions(&trusted, fs::Permissions::from_mode(0o4755))?;
        t.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        t.sh("for f in /data/f20 /data/f21; do echo $(stat -c %a $f) $(cat $f); done");
        race(t, &[(trusted, strange)], |_, done| {
            ensure!(!done.stdout.contains("4755 strange"), "a stranger's file has set-user-ID: {}", done.stdout);
            Ok(())
        })
    });
    group.add("a_device_exchanged_while_tmpcopyup_copies_is_not_read", |t| {
        let data = t.rootfs().join("data");
        fs::create_dir(&data)?;
        for number in 0..40 {
            fs::write(data.join(format!("f{number}")), "plain")?;
        }
        let device = t.rootfs().join("zero");
        mknod(&device, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5))?;
        t.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup", "size=4m"]);
        t.sh("find /data -type f -size +100k");
        race(t, &[(data.join("f20"), device)], |_, done| {
            ensure!(!done.stdout.contains("/data/"), "a device was copied as a file: {}", done.stdout);
            ensure!(!done.stderr.contains("pace left"), "a device was read until the mount was full: {}", done.stderr);
            Ok(())
        })
    });
}

/// A node that was made is somebody else's file when its owner is set.
fn nodes(group: &mut Group) {
    group.add("a_fifo_exchanged_for_a_file_after_it_was_made_leaves_the_files_owner", |t| {
        let shared = t.rootfs().join("shared");
        fs::create_dir(&shared)?;
        let (made, victim) = (shared.join("made"), shared.join("victim"));
        fs::write(&victim, "another's")?;
        t.push(
            "/linux/devices",
            json!({"path": "/shared/made", "type": "p", "uid": 1000, "gid": 1000, "fileMode": 438}),
        );
        t.sh("true");
        t.hand_over()?;
        let owner = fs::metadata(&victim)?.uid();
        race(t, &[(made.clone(), victim.clone())], |_, _| {
            for path in [&made, &victim] {
                match fs::symlink_metadata(path) {
                    Ok(meta) if meta.is_file() => {
                        ensure!(meta.uid() == owner, "{} belongs to {} now", path.display(), meta.uid());
                    }
                    _ => {}
                }
            }
            // As at the beginning: the victim alone.
            for path in [&made, &victim] {
                match fs::remove_file(path) {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            fs::write(&victim, "another's")?;
            Ok(chown(&victim, Some(owner), Some(owner))?)
        })
    });
    group.add("a_configured_device_exchanged_for_a_link_is_made_inside_only", |t| {
        let decoy = Decoy::plant(t)?;
        let rootfs = t.rootfs();
        fs::create_dir(rootfs.join("nodes"))?;
        symlink(&decoy.path, rootfs.join("swap"))?;
        t.push(
            "/linux/devices",
            json!({"path": "/nodes/made", "type": "p", "uid": 1000, "gid": 1000, "fileMode": 438}),
        );
        t.sh("true");
        let nodes = fs::File::open(rootfs.join("nodes"))?;
        let made = PathBuf::from(format!("/proc/self/fd/{}/made", nodes.as_raw_fd()));
        race(t, &[(rootfs.join("nodes"), rootfs.join("swap"))], |_, _| {
            clear(&made)?;
            decoy.untouched()
        })
    });
}
