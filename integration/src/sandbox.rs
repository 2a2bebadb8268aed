//! Isolation of one test, in three stages, the first of them a fresh copy of this binary, the others its forks (to
//! start is the most that a test costs on an emulated machine):
//! `outer` joins a cgroup of its own and unshares; `init` is PID 1 of the new PID namespace, mounts
//! the private view and reaps; `body` runs the test. When `outer` dies, PID 1 dies by its parent-death
//! signal and the kernel ends everything else. The host's mounts and cgroups are never written,
//! but for one cgroup below our own, which the runner removes.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode as Bits, SFlag, makedev, mknod};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdin, getppid};

use crate::mode::{self, Mode};
use crate::options::View;
use crate::{proc, sys, systemd, trial};

/// What a staged copy has to know; passed on as words.
#[derive(Clone, Debug)]
pub struct Order {
    pub test: String,
    pub runtime: PathBuf,
    pub mode: Mode,
    pub preload: Option<PathBuf>,
    pub view: View,
    /// Containers are made from an empty mount namespace (`xebec mountns pin`).
    pub mountns: bool,
    pub time_scale: u32,
    /// Name of the test's own cgroup, unique on the host.
    pub cgroup: String,
}

impl Order {
    /// The command that starts `stage` of this order.
    pub fn command(&self, stage: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let view = if self.view == View::V2 { "v2" } else { "host" };
        command.args(["--stage", stage, &self.test]).arg(&self.runtime).args([
            self.mode.word(),
            view,
            if self.mountns { "mountns" } else { "mounts" },
            &self.time_scale.to_string(),
            &self.cgroup,
        ]);
        command.args(&self.preload);
        command
    }

    fn parse(words: &[String]) -> Option<Order> {
        let [test, runtime, mode, view, mountns, scale, cgroup, rest @ ..] = words else {
            return None;
        };
        Some(Order {
            test: test.clone(),
            runtime: PathBuf::from(runtime),
            mode: Mode::parse(mode)?,
            preload: rest.first().map(PathBuf::from),
            view: if view == "v2" { View::V2 } else { View::Host },
            mountns: mountns == "mountns",
            time_scale: scale.parse().ok()?,
            cgroup: cgroup.clone(),
        })
    }
}

/// Entry of a staged copy: `STAGE TEST RUNTIME MODE VIEW MOUNTS SCALE CGROUP [PRELOAD]`.
pub fn enter(words: &[String]) -> ExitCode {
    let Some((stage, order)) = words.split_first().and_then(|(stage, rest)| Some((stage, Order::parse(rest)?))) else {
        eprintln!("--stage is for the suite's own use");
        return ExitCode::from(2);
    };
    let done = match stage.as_str() {
        "outer" => outer(&order),
        // What a service of systemd is told to start.
        _ => Ok(trial::perform(&order)),
    };
    ExitCode::from(status_of(stage, done))
}

/// A stage's exit status; what went wrong on stderr.
fn status_of(stage: &str, done: io::Result<u8>) -> u8 {
    done.unwrap_or_else(|error| {
        eprintln!("sandbox stage {stage}: {error}");
        3
    })
}

/// The test's own surroundings, and what its body had to say from inside a service.
fn outer(order: &Order) -> io::Result<u8> {
    let status = isolate(order.view, &order.cgroup, || status_of("init", init(order)))?;
    if systemd::is_wanted(order) {
        pass_streams_on()?;
    }
    Ok(status)
}

/// Joins a new cgroup of this name, unshares, and waits for `first`, which becomes PID 1 of the new namespace.
pub fn isolate(view: View, cgroup: &str, first: impl FnOnce() -> u8) -> io::Result<u8> {
    set_pdeathsig(Signal::SIGKILL)?;
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    let own = own_cgroup_directory(cgroup);
    if let (View::V2, Some(own)) = (view, &own) {
        fs::create_dir(own)?;
        fs::write(own.join("cgroup.procs"), "0")?;
        flags |= CloneFlags::CLONE_NEWCGROUP;
        unshare(flags)?;
        // A cgroup with processes of its own cannot hand controllers down (cgroup v2's "no internal
        // processes" rule), and it is the root of what the runtime sees: move into a leaf.
        let leaf = own.join("harness");
        fs::create_dir(&leaf)?;
        fs::write(leaf.join("cgroup.procs"), "0")?;
    } else {
        unshare(flags)?;
    }
    let first = sys::fork(first)?;
    match waitpid(first, None)? {
        WaitStatus::Exited(_, code) => Ok(code as u8),
        _ => Ok(4),
    }
}

/// What the body wrote as a service, which has no pipes of ours.
fn pass_streams_on() -> io::Result<()> {
    let [stdout, stderr] = systemd::STREAMS.map(fs::read);
    io::stdout().write_all(&stdout?)?;
    io::stderr().write_all(&stderr?)
}

/// PID 1 of the sandbox: mounts, starts the body, reaps whatever is orphaned meanwhile.
fn init(order: &Order) -> io::Result<u8> {
    begin_init(order.view)?;
    if order.mode == Mode::User {
        make_user(&order.runtime)?;
    }
    if order.mountns {
        pin_mount_namespace(&order.runtime)?;
    }
    if systemd::is_wanted(order) {
        match systemd::boot(order)? {}
    }
    serve(|| trial::perform(order))
}

fn pin_mount_namespace(runtime: &Path) -> io::Result<()> {
    let done = Command::new(runtime).args(["mountns", "pin"]).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("mountns pin: {}", String::from_utf8_lossy(&done.stderr).trim()))),
    }
}

/// What PID 1 of a sandbox does first: dies with its parent, and mounts the private view.
pub fn begin_init(view: View) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != Pid::from_raw(0) {
        return Err(io::Error::other("not PID 1 of a new PID namespace"));
    }
    mount_private_view(view)
}

/// What it does then: starts the body and reaps until that has ended.
pub fn serve(body: impl FnOnce() -> u8) -> io::Result<u8> {
    let body = sys::fork(body)?;
    loop {
        match waitpid(None, None)? {
            WaitStatus::Exited(pid, code) if pid == body => return Ok(code as u8),
            WaitStatus::Signaled(pid, _, _) if pid == body => return Ok(5),
            _ => {}
        }
    }
}

/// crun 1.8.1 gives its standard streams to the container's user, the host's /dev/null included: it gets one of the
/// sandbox's own, on stdin, too.
fn own_null_device() -> io::Result<()> {
    const NULL: &str = "/run/xbt-null";
    mknod(NULL, SFlag::S_IFCHR, Bits::empty(), makedev(1, 3))?;
    fs::set_permissions(NULL, fs::Permissions::from_mode(0o666))?;
    mount(Some(NULL), "/dev/null", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(dup2_stdin(fs::File::open("/dev/null")?)?)
}

fn mount_private_view(view: View) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    own_null_device()?;
    if view == View::V2 {
        // Nested mounts have to go first: a hybrid host has one a controller below a tmpfs.
        for point in mount_points_below(Path::new("/sys/fs/cgroup"))?.iter().rev() {
            umount2(point, MntFlags::MNT_DETACH)?;
        }
        mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none)?;
    }
    Ok(())
}

/// Where the tested runtime is for [`Mode::User`]: a build directory may be closed to others.
pub const USERS_RUNTIME: &str = "/run/xbt-runtime";

/// Makes up a user that the host does not know, with subordinate ids and a runtime directory.
fn make_user(runtime: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    let etc = Path::new("/run/xbt-etc");
    fs::create_dir(etc)?;
    for (file, lines) in mode::etc_lines() {
        let (own, place) = (etc.join(file), Path::new("/etc").join(file));
        let text = fs::read_to_string(&place)
            .map_err(|error| io::Error::other(format!("{}: {error}: install uidmap", place.display())))?;
        fs::write(&own, text + &lines)?;
        mount(Some(&own), &place, none, MsFlags::MS_BIND, none)?;
    }
    fs::create_dir_all(mode::RUNTIME_DIR)?;
    std::os::unix::fs::chown(mode::RUNTIME_DIR, Some(mode::USER), Some(mode::USER))?;
    fs::write(USERS_RUNTIME, "")?;
    mount(Some(runtime), USERS_RUNTIME, none, MsFlags::MS_BIND, none)
        .map_err(|errno| io::Error::other(format!("bind {}: {errno}", runtime.display())))
}

/// Mount points at or below `top`, in mount order.
pub fn mount_points_below(top: &Path) -> io::Result<Vec<PathBuf>> {
    let points = proc::mounts()?.into_iter().map(|mount| mount.mount_point);
    Ok(points.filter(|point| point.starts_with(top)).collect())
}

/// The directory `name` below the cgroup2 cgroup that this process is in.
pub fn own_cgroup_directory(name: &str) -> Option<PathBuf> {
    Some(proc::cgroup_directory(std::process::id() as i32, "").ok()??.join(name))
}
