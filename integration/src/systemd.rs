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

use nix::mount::{MsFlags, mount};

use crate::options::View;
use crate::sandbox::Order;

const MANAGER: &str = "/lib/systemd/systemd";
const BUS: &str = "/usr/bin/dbus-daemon";
const UNITS: &str = "/run/systemd/system";
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

/// Gives this process, PID 1 with its private mounts, to systemd.
pub fn boot(order: &Order) -> io::Result<Infallible> {
    // It would raise limits of the whole machine, and add links to /dev.
    for path in ["/proc/sys", "/dev"] {
        let none: Option<&str> = None;
        mount(Some(path), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        mount(none, path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
    }
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

fn write_units(order: &Order) -> io::Result<()> {
    fs::create_dir_all(UNITS)?;
    let body = order.command("body");
    let program = std::env::current_exe()?;
    let mut line = quote(&program.to_string_lossy());
    for word in body.get_args() {
        line.push(' ');
        line.push_str(&quote(&word.to_string_lossy()));
    }
    let [stdout, stderr] = STREAMS;
    let bus = if Path::new(BUS).exists() { "Wants=dbus.service\nAfter=dbus.service\n" } else { "" };
    let units = [
        ("trial.target", "[Unit]\nDefaultDependencies=no\nRequires=trial.service\n".to_owned()),
        (
            "trial.service",
            format!(
                "[Unit]\nDefaultDependencies=no\n{bus}SuccessAction=exit-force\nFailureAction=exit-force\n\
                 [Service]\nType=exec\nTasksMax=infinity\nExecStart={line}\n\
                 StandardOutput=file:{stdout}\nStandardError=file:{stderr}\n"
            ),
        ),
        (
            "dbus.socket",
            "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n".to_owned(),
        ),
        (
            "dbus.service",
            format!(
                "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
                 ExecStart={BUS} --system --address=systemd: --nofork --nopidfile --systemd-activation\n"
            ),
        ),
    ];
    units.iter().try_for_each(|(name, text)| fs::write(Path::new(UNITS).join(name), text))
}

/// A word of ExecStart= (systemd.service(5), "Command lines").
fn quote(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}
