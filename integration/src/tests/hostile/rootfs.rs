//! What an image can plant where the runtime makes, mounts or looks for files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::case::{Group, Outcome};
use crate::tests::nesting;
use crate::trial::Trial;
use crate::{ensure, equal, mountinfo};

use super::{Decoy, clear, without_mounts_at};

const HOLE: &str = "engine contract: nothing of the host changes; Debian's runc 1.1.5 and crun 1.8.1 have the hole";

pub fn add(group: &mut Group) {
    dev_links(group);
    planted_under_every_name(group);
    console(group);
    null_and_stdio(group);
    devices(group);
    odd_destinations(group);
    late_read_only(group);
    files_of_the_image(group);
    without_openat2(group);
}

/// How a container is brought to life.
#[derive(Clone, Copy, Debug)]
enum Way {
    Run,
    CreateAndStart,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Way::Run => "run",
            Way::CreateAndStart => "create_and_start",
        }
    }

    /// To its end; refused or not is the same here.
    fn go(self, t: &mut Trial) -> Outcome {
        match self {
            Way::Run => t.run_with(&[]).map(drop),
            Way::CreateAndStart => {
                if t.create_with(&[])?.succeeded() {
                    let id = t.id.clone();
                    t.call(&["start", &id]).go()?;
                    t.wait_for_end()?;
                }
                Ok(())
            }
        }
    }
}

/// CVE-2026-41579, CVE-2026-47766: /dev is a link, and the runtime fills it or takes things away from it.
fn dev_links(group: &mut Group) {
    for (name, relative) in [("absolute", false), ("relative", true)] {
        for way in [Way::Run, Way::CreateAndStart] {
            let id = if relative { "cve_2026_47766" } else { "cve_2026_41579" };
            let name = format!("{id}_a_dev_that_is_an_{name}_link_changes_nothing_of_the_host_on_{}", way.word())
                .replace("an_relative", "a_relative");
            group.add_beyond_peers(HOLE, name, move |t| {
                without_mounts_at(t, "/dev")?;
                let decoy = Decoy::plant(t)?;
                clear(&t.rootfs().join("dev"))?;
                symlink(decoy.as_target(relative), t.rootfs().join("dev"))?;
                t.sh("true");
                way.go(t)?;
                decoy.untouched()
            });
        }
    }
}

/// Everything that a runtime makes in a root file system without a mount at /dev.
const WRITTEN: &[&str] = &[
    "dev/null",
    "dev/zero",
    "dev/full",
    "dev/random",
    "dev/urandom",
    "dev/tty",
    "dev/console",
    "dev/ptmx",
    "dev/fd",
    "dev/stdin",
    "dev/stdout",
    "dev/stderr",
    "dev/core",
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "dev/made",
    "opt/made",
    "work/there",
    "mnt/file",
    "mnt/directory",
    "etc/resolv.conf",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/localtime",
    ".dockerenv",
    "run/.containerenv",
];

/// CVE-2025-24965: a file that the runtime writes is a link to one of the host's.
fn planted_under_every_name(group: &mut Group) {
    for (kind, relative) in [("dangling", false), ("dangling_relative", true), ("existing", false)] {
        let name = format!("cve_2025_24965_{kind}_links_under_every_name_that_is_written_lead_nowhere");
        group.add(name, move |t| {
            without_mounts_at(t, "/dev")?;
            let decoy = Decoy::plant(t)?;
            // The one that was refused first must not hide the others: one container a name.
            for (number, name) in WRITTEN.iter().enumerate() {
                let own = match kind {
                    "existing" => "knob".to_string(),
                    _ => format!("planted-{number}"),
                };
                let link = t.rootfs().join(name);
                if let Some(parent) = link.parent() {
                    fs::create_dir_all(parent)?;
                }
                clear(&link)?;
                symlink(decoy.as_target(relative).join(own), &link)?;
                if number == 0 {
                    furnish(t)?;
                }
                t.sh("true");
                t.run_with(&[])?;
                clear(&link)?;
                decoy.untouched().map_err(|stop| match stop {
                    crate::case::Stop::Fail(text) => crate::case::Stop::Fail(format!("{name}: {text}")),
                    other => other,
                })?;
            }
            Ok(())
        });
    }
}

/// Asks for everything in [`WRITTEN`] that is not made by itself.
fn furnish(t: &mut Trial) -> Outcome {
    let source = t.scratch.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "")?;
    t.mount("/mnt/file", "bind", source.join("file"), &["bind"]);
    t.mount("/mnt/directory", "bind", &source, &["bind"]);
    t.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
    t.mount("/dev/shm", "tmpfs", "shm", &[]);
    t.set("/process/cwd", json!("/work/there"));
    for path in ["/dev/made", "/opt/made"] {
        t.push("/linux/devices", json!({"path": path, "type": "p", "uid": 0, "gid": 0, "fileMode": 438}));
    }
    Ok(())
}

/// CVE-2026-88264: /dev/console is a dangling link, and the runtime makes its mount point through it.
fn console(group: &mut Group) {
    for terminal in [true, false] {
        for readonly in [true, false] {
            let words = [if terminal { "with" } else { "without" }, if readonly { "read_only" } else { "writable" }];
            let name = format!("cve_2026_88264_a_dev_console_link_makes_no_file_{}_a_terminal_{}", words[0], words[1]);
            let body = move |t: &mut Trial| {
                without_mounts_at(t, "/dev")?;
                let decoy = Decoy::plant(t)?;
                symlink(decoy.path.join("made"), t.rootfs().join("dev/console"))?;
                t.mount("/dev/pts", "devpts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620"]);
                t.set("/root/readonly", json!(readonly));
                t.set("/process/terminal", json!(terminal));
                t.sh("echo written > /dev/console");
                t.run_with(&[])?;
                decoy.untouched()
            };
            group.add(name, body);
        }
    }
}

fn null_and_stdio(group: &mut Group) {
    group.add("cve_2025_31133_a_dev_null_that_is_a_link_masks_nothing_else", |t| {
        without_mounts_at(t, "/dev")?;
        let decoy = Decoy::plant(t)?;
        t.mount("/out/knob", "bind", decoy.path.join("knob"), &["bind"]);
        clear(&t.rootfs().join("dev/null"))?;
        symlink("/out/knob", t.rootfs().join("dev/null"))?;
        t.set("/linux/maskedPaths", json!(["/proc/keys"]));
        t.sh("echo written > /proc/keys; cat /proc/keys");
        let done = t.run_with(&[])?;
        ensure!(!done.stdout.contains("the host's"), "the mask is the file that the link names");
        decoy.untouched()
    });
    for (name, closed) in [("pipes", false), ("nothing", true)] {
        let name = format!("cve_2026_88265_a_dev_null_link_with_{name}_as_stdio_keeps_owner_and_content");
        group.add_beyond_peers(HOLE, name, move |t| {
            without_mounts_at(t, "/dev")?;
            let decoy = Decoy::plant(t)?;
            t.mount("/out/knob", "bind", decoy.path.join("knob"), &["bind"]);
            clear(&t.rootfs().join("dev/null"))?;
            symlink("/out/knob", t.rootfs().join("dev/null"))?;
            t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
            t.sh("echo from the payload");
            t.write_config()?;
            let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
            let script = if closed { "exec <&- >&- 2>&-" } else { ":" };
            t.call_after(script, &["run", "--bundle", &bundle, &id]).stdin("").go()?;
            decoy.untouched()
        });
    }
}

/// GHSA-g54h-m393-cpwq: the list of allowed devices begins with none.
fn devices(group: &mut Group) {
    for (name, list) in [("an_empty_list", Some(json!([]))), ("no_list", None)] {
        let name = format!("ghsa_g54h_m393_cpwq_{name}_of_device_rules_allows_no_device_of_the_machine");
        group.add(name, move |t| {
            match list.clone() {
                Some(list) => t.set("/linux/resources/devices", list),
                None => t.remove("/linux/resources/devices"),
            }
            t.capabilities(&["CAP_MKNOD"]);
            // The kernel's log is opened for writing by whoever may; its memory takes a capability besides.
            let script = "for n in 1 2 11; do mknod /tmp/d$n c 1 $n; test -r /tmp/d$n && head -c 1 /tmp/d$n; done 2>&1; \
                test -c /tmp/d11 && (: > /tmp/d11) 2>/dev/null && echo opened; echo ran";
            let out = t.run_sh(script)?;
            equal!(out.lines().last(), Some("ran"), "last line");
            ensure!(!out.contains("opened"), "the machine's log can be written: {out}");
            Ok(())
        });
    }
}

fn odd_destinations(group: &mut Group) {
    // CVE-2026-115520, CVE-2026-119101: CRIU knows mounts by keys that were made from such names.
    group.add("cve_2026_115520_a_destination_with_criu_syntax_in_its_name_is_only_a_name", |t| {
        let decoy = Decoy::plant(t)?;
        let odd = "a]:/etc";
        fs::create_dir_all(t.rootfs().join("a]:"))?;
        symlink(odd, t.rootfs().join("link"))?;
        t.mount("/link", "bind", &decoy.path, &["bind", "ro"]);
        let out = t.run_sh("cat /proc/self/mountinfo; touch '/link/new' 2>&1; ls '/a]:/etc'")?;
        mountinfo::at(&mountinfo::parse(&out), "/a]:/etc")?;
        ensure!(out.contains("Read-only file system") && out.contains("knob"), "not the read-only mount: {out}");
        decoy.untouched()
    });
    for (id, verb) in [("cve_2026_115520", "checkpoint"), ("cve_2026_119101", "restore")] {
        group.add(format!("{id}_{verb}_is_refused_and_changes_nothing"), move |t| {
            if t.call(&["features"]).go()?.stdout.contains("checkpoint")
                || !t.call(&[verb, "--help"]).go()?.refused().is_ok_and(|done| done.stderr.contains("unrecognized"))
            {
                return crate::case::skip(format!("requires a runtime without `{verb}`"));
            }
            t.sleeper()?;
            let (id, images) = (t.id.clone(), t.scratch.join("images"));
            let done = t.call(&[verb, "--image-path", &images.display().to_string(), &id]).go()?.refused()?;
            equal!(done.stderr.lines().count(), 1, "lines on stderr");
            ensure!(done.stderr.contains(verb), "the refusal does not say of what: {}", done.stderr);
            ensure!(!images.exists(), "{} was made", images.display());
            equal!(t.status()?, "running", "status of the container");
            Ok(())
        });
    }
    group.add("cve_2025_54867_a_chain_of_links_as_destination_stays_inside", |t| {
        let decoy = Decoy::plant(t)?;
        let rootfs = t.rootfs();
        symlink(decoy.as_target(true), rootfs.join("c"))?;
        symlink("../../../../c", rootfs.join("b"))?;
        symlink("/b", rootfs.join("a"))?;
        t.mount("/a/made", "tmpfs", "inside", &[]);
        t.mount("/a/directory", "tmpfs", "inside", &[]);
        t.sh("cat /proc/self/mountinfo");
        let done = t.run_with(&[])?;
        if done.succeeded() {
            let inside = decoy.path.join("made").display().to_string();
            equal!(mountinfo::at(&mountinfo::parse(&done.stdout), &inside)?.source, "inside", "mount in the root");
        }
        decoy.untouched()
    });
    group.add("cve_2019_18837_links_in_a_circle_as_destination_are_refused", |t| {
        symlink("/circle-b", t.rootfs().join("circle-a"))?;
        symlink("/circle-a", t.rootfs().join("circle-b"))?;
        t.mount("/circle-a", "tmpfs", "tmpfs", &[]);
        t.run_refused()?;
        Ok(())
    });
    group.add("a_destination_that_leads_to_the_root_itself_shows_nothing_of_the_host", |t| {
        let decoy = Decoy::plant(t)?;
        symlink("/", t.rootfs().join("link"))?;
        t.mount("/link", "tmpfs", "tmpfs", &[]);
        let path = decoy.path.display().to_string();
        t.sh(&format!("ls {path} /..{path} 2>/dev/null && echo escaped; true"));
        let done = t.run_with(&[])?;
        ensure!(!done.stdout.contains("escaped"), "the payload sees the host's files: {}", done.stdout);
        decoy.untouched()
    });
}

/// CVE-2026-115521: what becomes read-only late is found again through the image's /proc/self/fd.
fn late_read_only(group: &mut Group) {
    group.add("cve_2026_115521_a_proc_self_fd_of_the_image_keeps_nothing_writable", |t| {
        without_mounts_at(t, "/proc")?;
        let fds = t.rootfs().join("proc/self/fd");
        fs::create_dir_all(&fds)?;
        fs::create_dir_all(t.rootfs().join("proc/thread-self"))?;
        symlink("../self/fd", t.rootfs().join("proc/thread-self/fd"))?;
        for number in 0..64 {
            symlink("/mnt", fds.join(number.to_string()))?;
        }
        t.set("/root/readonly", json!(true));
        t.mount("/mnt", "tmpfs", "tmpfs", &["mode=1777"]);
        t.mount("/tmp", "tmpfs", "tmpfs", &["ro"]);
        // Nothing of the host is at these paths, and the image has no procfs to mask.
        t.remove("/linux/maskedPaths");
        t.remove("/linux/readonlyPaths");
        t.sh("for d in / /tmp /etc; do touch $d/written 2>&1; done; touch /mnt/written && echo ran");
        let done = t.run_with(&[])?;
        if done.succeeded() {
            equal!(done.stdout.matches("Read-only file system").count(), 3, "refused writes in: {}", done.stdout);
            ensure!(done.stdout.contains("ran"), "the payload did not run: {}", done.stdout);
        }
        ensure!(!t.rootfs().join("written").exists(), "the root was writable");
        Ok(())
    });
}

/// Hazard: files of the image steer the runtime, or hold it up.
fn files_of_the_image(group: &mut Group) {
    let why =
        "engine contract: an image does not hold its own create up; Debian's runc 1.1.5 and crun 1.8.1 wait for ever";
    group.add_beyond_peers(why, "no_file_of_the_image_is_waited_for_or_believed", |t| {
        let etc = t.rootfs().join("etc");
        let files = [
            "passwd",
            "group",
            "shadow",
            "subuid",
            "subgid",
            "nsswitch.conf",
            "ld.so.preload",
            "ld.so.cache",
            "resolv.conf",
            "hosts",
            "hostname",
            "localtime",
            "crun.conf",
            "xebec.json",
            "xebec.conf",
            "environment",
        ];
        for file in files {
            let path = etc.join(file);
            clear(&path)?;
            mkfifo(&path, Mode::from_bits_truncate(0o666))?;
        }
        // HOME stays unset on purpose: it is looked for in passwd.
        t.set("/process/env", json!(["PATH=/bin"]));
        t.sh("echo home $HOME");
        let done = t.run_with(&[])?.ok()?;
        equal!(done.stdout, "home /\n", "what the payload says");
        Ok(())
    });
    let why =
        "engine contract: an image does not hold its own create up; Debian's runc 1.1.5 and crun 1.8.1 read all of it";
    group.add_beyond_peers(why, "a_passwd_of_many_megabytes_is_not_read_to_its_end", |t| {
        let line = "x:x:7:7::/nowhere:/bin/false\n";
        let end = "root:x:0:0::/root:/bin/sh\n";
        fs::write(t.rootfs().join("etc/passwd"), line.repeat(8_000_000 / line.len()) + end)?;
        t.set("/process/env", json!(["PATH=/bin"]));
        t.sh("echo home $HOME");
        let done = t.run_with(&[])?.ok()?;
        equal!(done.stdout, "home /\n", "what the payload says");
        Ok(())
    });
    group.add("unreadable_directories_on_the_way_are_no_way_out", |t| {
        let decoy = Decoy::plant(t)?;
        let closed = t.rootfs().join("closed");
        fs::create_dir_all(closed.join("inner"))?;
        symlink(&decoy.path, closed.join("inner/out"))?;
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000))?;
        t.mount("/closed/inner/out/made", "tmpfs", "tmpfs", &[]);
        t.sh("true");
        t.run_with(&[])?;
        decoy.untouched()?;
        Ok(fs::set_permissions(&closed, fs::Permissions::from_mode(0o755))?)
    });
    group.add("a_path_of_four_thousand_bytes_and_five_hundred_links_ends", |t| {
        let mut at = t.rootfs().join("deep");
        for _ in 0..60 {
            at = at.join("d".repeat(60));
        }
        fs::create_dir_all(&at)?;
        for number in 0..500 {
            symlink(format!("link-{}", number + 1), t.rootfs().join(format!("link-{number}")))?;
        }
        let inside = Path::new("/").join(at.strip_prefix(t.rootfs()).unwrap_or(&at));
        t.mount(&inside.display().to_string(), "tmpfs", "tmpfs", &[]);
        t.run_sh("echo ran")?;
        t.mount("/link-0", "tmpfs", "tmpfs", &[]);
        t.run_refused()?;
        Ok(())
    });
}

/// Hazard: where an outer seccomp filter hides openat2(2), paths are walked in a way that races can win.
fn without_openat2(group: &mut Group) {
    let why = "engine contract: no container with less protection than another, and one line of error; crun 1.8.1 walks \
        by hand, runc 1.1.5 prints several lines";
    for (name, errno) in [("missing", Errno::ENOSYS), ("forbidden", Errno::EPERM)] {
        group.add_beyond_peers(why, format!("without_openat2_{name}_a_container_is_refused_in_one_line"), move |t| {
            let done = nesting::without_call(t, "openat2", errno as i32)?.refused()?;
            ensure!(!done.stdout.contains("deep"), "the container ran");
            equal!(done.stderr.lines().count(), 1, "lines on stderr");
            ensure!(done.stderr.contains("openat2"), "the error does not name the call: {}", done.stderr);
            Ok(())
        });
    }
}
