//! Root file systems that a runtime would not want to meet.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::bundle;
use crate::case::Outcome;
use crate::trial::Trial;

use super::super::random::Random;
use super::below;

/// What stands for the host's files: everything that a planted link aims at.
pub const HOST: &str = "/run/xbt/host";

/// Every path of a root file system that a runtime makes, opens, mounts on or executes.
pub const PLACES: &[&str] = &[
    "/dev",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/pts/ptmx",
    "/dev/pts/0",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/core",
    "/proc",
    "/proc/self",
    "/proc/self/fd",
    "/proc/self/exe",
    "/proc/self/attr/exec",
    "/proc/sys",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/keys",
    "/sys",
    "/sys/fs",
    "/sys/fs/cgroup",
    "/sys/firmware",
    "/etc",
    "/etc/passwd",
    "/etc/group",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/bin",
    "/bin/sh",
    "/bin/program",
    "/tmp",
    "/root",
    "/home",
    "/run",
    "/run/secrets",
    "/work",
    "/work/there",
    "/vol",
    "/vol/a",
    "/vol/a/b",
    "/opt/made",
    "/data",
    "/data/inner",
    "/masked",
    "/masked/file",
    "/readonly",
    "/.pivot_root",
    "/oldroot",
    "/.xebec",
];

/// Names that are hard to print, to split or to parse.
pub const NAMES: &[&str] = &[
    "new\nline",
    "a]:",
    "a]:/etc",
    "with space",
    "tab\tand\rreturn",
    "\u{1b}[31mred",
    "\\040",
    "%s%n",
    "-rf",
    "...",
    "ünï",
    "deleted (deleted)",
    "\"quoted\"",
    "a,b:c=d",
];

/// Applets that payloads use.
const APPLETS: &[&str] = &["sh", "cat", "echo", "sleep", "test", "true", "id"];

pub struct Image {
    /// What was planted, for the message of a failure.
    planted: Vec<String>,
}

/// Lays out [`HOST`], once.
pub fn furnish_host(t: &Trial) -> Outcome {
    let host = Path::new(HOST);
    for directory in ["decoy/directory", "source/directory"] {
        fs::create_dir_all(host.join(directory))?;
    }
    for file in ["decoy/knob", "decoy/ptmx", "decoy/null", "decoy/console", "source/file"] {
        fs::write(host.join(file), "the host's")?;
    }
    symlink("knob", host.join("decoy/link"))?;
    mkfifo(&host.join("decoy/fifo"), Mode::from_bits_truncate(0o666))?;
    mknod(&host.join("decoy/device"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))?;
    fs::copy(bundle::BUSYBOX, host.join("busybox"))?;
    t.hand_over()
}

impl Image {
    /// Makes the root file system of the bundle anew.
    pub fn make(random: &mut Random, t: &Trial) -> Outcome<Image> {
        let rootfs = t.rootfs();
        clear(&rootfs)?;
        for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "work", "vol/a", "data", "masked", "opt"] {
            fs::create_dir_all(rootfs.join(directory))?;
        }
        fs::hard_link(Path::new(HOST).join("busybox"), rootfs.join("bin/busybox"))?;
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet))?;
        }
        fs::write(rootfs.join("bin/program"), "#!/bin/sh\nexec /bin/sh \"$@\"\n")?;
        fs::set_permissions(rootfs.join("bin/program"), fs::Permissions::from_mode(0o755))?;
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(rootfs.join("masked/file"), "secret")?;
        fs::write(rootfs.join("data/file"), "copied")?;
        let mut image = Image { planted: Vec::new() };
        for _ in 0..1 + random.number(4) {
            // Few containers come to life without a shell; most images keep theirs.
            let place = match random.pick(PLACES) {
                place if place.starts_with("/bin") && random.chance(80) => "/vol/a",
                place => place,
            };
            image.plant(random, &rootfs, place)?;
        }
        t.mode.hand_over(&rootfs)?;
        Ok(image)
    }

    pub fn story(&self) -> String {
        self.planted.join("; ")
    }

    /// Puts something odd at `place`. What lies below a link or a file cannot be planted, and is left out.
    fn plant(&mut self, random: &mut Random, rootfs: &Path, place: &str) -> Outcome {
        let path = below(rootfs, place);
        if !leads_nowhere_else(rootfs, &path) {
            return Ok(());
        }
        if let Some(parent) = path.parent()
            && fs::create_dir_all(parent).is_err()
        {
            return Ok(());
        }
        clear(&path)?;
        let what = match random.number(16) {
            0..8 => plant_link(random, rootfs, &path, place)?,
            8 => mkfifo(&path, Mode::from_bits_truncate(0o666)).map(|()| "fifo".to_string())?,
            // A path longer than a socket's address may be is as good as none.
            9 => UnixListener::bind(&path).map(|_| "socket".to_string()).unwrap_or_default(),
            10 => plant_device(random, &path)?,
            11 => plant_file(random, &path)?,
            12 => plant_directory(random, &path)?,
            13 => plant_many(random, &path)?,
            14 => plant_deep(&path)?,
            _ => plant_odd_names(random, &path)?,
        };
        self.planted.push(format!("{place:?}: {what}"));
        Ok(())
    }
}

/// No component on the way is a link: what is planted must land in the image, or the harness would be the hole.
fn leads_nowhere_else(rootfs: &Path, path: &Path) -> bool {
    let between = path.ancestors().skip(1).take_while(|at| *at != rootfs);
    between.into_iter().all(|at| fs::symlink_metadata(at).map_or(true, |meta| meta.is_dir()))
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn plant_link(random: &mut Random, rootfs: &Path, path: &Path, place: &str) -> io::Result<String> {
    let dots = "../".repeat(12);
    let decoy = random.pick(&[
        "decoy",
        "decoy/knob",
        "decoy/ptmx",
        "decoy/null",
        "decoy/made",
        "decoy/made/deep",
        "decoy/fifo",
        "decoy/device",
        "decoy/link",
        "decoy/directory",
        "source",
        "busybox",
    ]);
    let target = match random.number(16) {
        0..3 => format!("{HOST}/{decoy}"),
        3..5 => format!("{dots}{}/{decoy}", &HOST[1..]),
        5 => random.pick(PLACES).to_string(),
        6 => random.pick(PLACES)[1..].to_string(),
        7 => place.rsplit('/').next().unwrap_or(place).to_string(),
        8 => random.pick(&["/", ".", "..", "/..", "../..", "//", "/."]).to_string(),
        9 => {
            let link =
                random.pick(&["/proc/self/exe", "/proc/self/root", "/proc/self/cwd", "/proc/1/root", "/proc/1/cwd"]);
            link.to_string()
        }
        10 => format!("/proc/self/fd/{}", random.number(20)),
        11 => format!("{}{HOST}/{decoy}", "/.".repeat(1000)),
        12 => random.pick(NAMES).to_string(),
        13 => format!("/vol/{}/made", random.pick(NAMES)),
        14 => "x".repeat(4000),
        // A chain that leads out at its end.
        _ => {
            for (name, next) in
                [("chain-1", "/chain-2"), ("chain-2", "./chain-3"), ("chain-3", &format!("{dots}run/xbt/host/{decoy}"))]
            {
                let link = rootfs.join(name);
                clear(&link)?;
                symlink(next, link)?;
            }
            "/chain-1".to_string()
        }
    };
    symlink(&target, path)?;
    Ok(format!("link to {}", target.chars().take(200).collect::<String>().escape_debug()))
}

fn plant_device(random: &mut Random, path: &Path) -> io::Result<String> {
    let (kind, major, minor) = match random.number(5) {
        0 => (SFlag::S_IFCHR, 1, 3),
        1 => (SFlag::S_IFCHR, 1, 5),
        2 => (SFlag::S_IFCHR, 1, 7),
        3 => (SFlag::S_IFCHR, 5, 2),
        _ => (SFlag::S_IFBLK, 7, 250),
    };
    mknod(path, kind, Mode::from_bits_truncate(0o666), makedev(major, minor))?;
    Ok(format!("device {major}:{minor}"))
}

fn plant_file(random: &mut Random, path: &Path) -> io::Result<String> {
    let (content, mode): (&[u8], u32) = match random.number(6) {
        0 => (b"", 0o644),
        1 => (b"", 0),
        2 => (b"\0\xff\xfe\n::::::\n", 0o644),
        3 => (b"#!/proc/self/exe\n", 0o755),
        4 => (b"#!/bin/program sh\n", 0o4755),
        _ => (b"root:x:0:0:root:/proc/self/fd/7:/bin/sh\n", 0o600),
    };
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(format!("file {:?} {mode:o}", String::from_utf8_lossy(content)))
}

fn plant_directory(random: &mut Random, path: &Path) -> io::Result<String> {
    let mode = [0o755, 0, 0o111, 0o1777][random.number(4)];
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(format!("directory {mode:o}"))
}

fn plant_many(random: &mut Random, path: &Path) -> io::Result<String> {
    let count = if random.chance(5) { 5000 } else { 200 };
    fs::create_dir(path)?;
    for number in 0..count {
        fs::write(path.join(format!("entry-{number}")), "")?;
    }
    Ok(format!("directory of {count} files"))
}

fn plant_deep(path: &Path) -> io::Result<String> {
    let mut at = path.to_path_buf();
    for _ in 0..14 {
        at.push("d".repeat(200));
    }
    fs::create_dir_all(&at)?;
    Ok("directory of 14 long names, one in the other".into())
}

fn plant_odd_names(random: &mut Random, path: &Path) -> io::Result<String> {
    fs::create_dir(path)?;
    for name in NAMES {
        let entry: PathBuf = path.join(name.replace('/', ":"));
        match random.number(3) {
            0 => fs::create_dir(&entry)?,
            1 => fs::write(&entry, "")?,
            _ => symlink(format!("{HOST}/decoy/made"), &entry)?,
        }
    }
    Ok("directory of odd names".into())
}
