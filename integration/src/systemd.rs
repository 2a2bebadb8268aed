//! systemd as PID 1 of a sandbox, for the tests whose names begin with `systemd.`.
//!
//! The `init` stage becomes the service manager instead of reaping itself; the `body` stage is a
//! service of it. Nothing of the host's configuration is started: the units are written to the
//! sandbox's own /run, without dependencies. It boots in a fraction of a second.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::mode::{Mode, RUNTIME_DIR, USER};
use crate::options::View;
use crate::sandbox::Order;

const MANAGER: &str = "/lib/systemd/systemd";
/// Of Debian's package dbus-daemon.
pub const BUS: &str = "/usr/bin/dbus-daemon";
const CAP_SYS_MODULE: u32 = 16;
const UNITS: &str = "/run/systemd/system";
/// What a service manager or a bus would start of the host's: a user's call to the system bus is enough for polkit,
/// and that pulls in all of sysinit.target, systemd-tmpfiles with its clearing of /tmp included.
const HOSTS: [&str; 12] = [
    "/etc/systemd/system",
    "/etc/systemd/user",
    "/usr/lib/systemd/system",
    "/usr/lib/systemd/user",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system-generators",
    "/usr/lib/systemd/user-generators",
    "/usr/lib/systemd/user-environment-generators",
    "/usr/share/dbus-1/system-services",
    "/usr/share/dbus-1/services",
    "/usr/local/share/dbus-1/system-services",
    "/usr/lib/tmpfiles.d",
];
/// Where the body's two streams go; the `outer` stage passes them on.
pub const STREAMS: [&str; 2] = ["/run/trial.stdout", "/run/trial.stderr"];

/// Whether PID 1 of this test's sandbox is to be systemd. Where the host has none, the test skips.
pub fn is_wanted(order: &Order) -> bool {
    order.test.starts_with("systemd.") && order.view == View::V2 && Path::new(MANAGER).exists()
}

/// Whether it is (sd_booted(3)).
pub fn is_booted() -> bool {
    Path::new(UNITS).is_dir()
}

/// The cgroup that slices of the caller's service manager count from, below the hierarchy's root.
pub fn manager_cgroup(mode: Mode) -> String {
    match mode {
        Mode::User => format!("/user.slice/user-{USER}.slice/user@{USER}.service"),
        _ => String::new(),
    }
}

/// Gives this process, PID 1 with its private mounts, to systemd.
pub fn boot(order: &Order) -> io::Result<Infallible> {
    // It would raise limits of the whole machine, and add links to /dev; [`settle`] takes this back.
    for path in ["/proc/sys", "/dev"] {
        let none: Option<&str> = None;
        mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        mount(none, path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
    }
    for path in HOSTS.into_iter().filter(|path| Path::new(path).exists()) {
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=4k"))?;
    }
    // It would load modules into the host's kernel (autofs4 among them).
    crate::sys::drop_from_bounding_set(CAP_SYS_MODULE)?;
    // Its own cgroup, less `init.scope`, becomes the root of its units.
    fs::write("/sys/fs/cgroup/cgroup.procs", "0")?;
    write_units(order)?;
    let error = Command::new(MANAGER)
        .args(["--unit=trial.target", "--log-target=null", "--show-status=no"])
        .args(["--default-standard-output=null", "--default-standard-error=null"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("container", "xebec-integration")
        .exec();
    Err(error)
}

/// For the body: the sandbox as the other tests have it. Under a /proc with a mount in it the kernel
/// gives a user namespace none of its own.
pub fn settle() -> io::Result<()> {
    Ok(umount2("/proc/sys", MntFlags::MNT_DETACH)?)
}

fn write_units(order: &Order) -> io::Result<()> {
    let body = order.command("body");
    let program = std::env::current_exe()?;
    let mut line = quote(&program.to_string_lossy());
    for word in body.get_args() {
        line.push(' ');
        line.push_str(&quote(&word.to_string_lossy()));
    }
    let [stdout, stderr] = STREAMS;
    let mut needs = Vec::new();
    if Path::new(BUS).exists() {
        needs.push("dbus.service".to_owned());
        write_bus(Path::new(UNITS), "system", "/run/dbus/system_bus_socket")?;
    }
    if order.mode == Mode::User {
        needs.push(write_user_manager(&needs.join(" "))?);
    }
    let needs = needs.join(" ");
    write_unit(Path::new(UNITS), "trial.target", "Requires=trial.service\n")?;
    write_unit(
        Path::new(UNITS),
        "trial.service",
        &format!(
            "Wants={needs}\nAfter={needs}\nSuccessAction=exit-force\nFailureAction=exit-force\n\
             [Service]\nType=exec\nTasksMax=infinity\nExecStart={line}\n\
             StandardOutput=file:{stdout}\nStandardError=file:{stderr}\n"
        ),
    )
}

/// A bus daemon, of the system or of a session, that listens on `socket`.
fn write_bus(place: &Path, kind: &str, socket: &str) -> io::Result<()> {
    write_unit(place, "dbus.socket", &format!("[Socket]\nListenStream={socket}\n"))?;
    let line = format!("{BUS} --{kind} --address=systemd: --nofork --nopidfile --systemd-activation");
    write_unit(
        place,
        "dbus.service",
        &format!("Requires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\nExecStart={line}\n"),
    )
}

/// The user's own service manager, as Debian's user@.service has it without PAM; its name.
fn write_user_manager(after: &str) -> io::Result<String> {
    let own = Path::new(RUNTIME_DIR).join("systemd");
    let units = own.join("user");
    write_unit(&units, "trial-user.target", "Wants=dbus.service\nAfter=dbus.service\n")?;
    // What SIGTERM starts (systemd.special(7)); without it the sandbox would wait for the user manager's end.
    write_unit(&units, "exit.target", "Requires=leave.service\nAfter=leave.service\n")?;
    write_unit(&units, "leave.service", "SuccessAction=exit-force\n[Service]\nType=oneshot\nExecStart=/bin/true\n")?;
    if Path::new(BUS).exists() {
        write_bus(&units, "session", &format!("{RUNTIME_DIR}/bus"))?;
    }
    for directory in [&own, &units] {
        std::os::unix::fs::chown(directory, Some(USER), Some(USER))?;
    }
    let name = format!("user@{USER}.service");
    write_unit(
        Path::new(UNITS),
        &name,
        &format!(
            "Wants={after}\nAfter={after}\n[Service]\nUser={USER}\nType=notify\nSlice=user-{USER}.slice\nDelegate=yes\n\
             TasksMax=infinity\nEnvironment=HOME=/home XDG_RUNTIME_DIR={RUNTIME_DIR}\n\
             ExecStart={MANAGER} --user --unit=trial-user.target --log-target=null\n"
        ),
    )?;
    Ok(name)
}

fn write_unit(place: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    fs::write(place.join(name), format!("[Unit]\nDefaultDependencies=no\n{text}"))
}

/// A word of ExecStart= (systemd.service(5), "Command lines").
fn quote(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}
