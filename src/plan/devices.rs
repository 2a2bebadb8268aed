//! Default and configured devices, the links of /dev, the console.

use crate::config::{Config, Device, Process};
use crate::error::{Error, Result};

use super::cstring;
use super::mounts::in_root;
use super::step::{DeviceStep, Step};

/// config-linux.md, "Default Devices" (ptmx is a link, console a bind mount).
const DEFAULT_DEVICES: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// runtime-linux.md, "Dev symbolic links".
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// The steps that fill /dev.
///
/// A /dev bound from elsewhere is somebody else's: nothing is made in it, as in runc.
pub fn plan_devices(steps: &mut Vec<Step>, config: &Config<'_>, may_mknod: bool) -> Result<()> {
    let is_dev = |path: &str| path.trim_end_matches('/') == "/dev";
    let bound = config
        .mounts
        .iter()
        .any(|mount| is_dev(&mount.destination) && mount.options.iter().any(|o| matches!(&**o, "bind" | "rbind")));
    let terminal = config.process.as_ref().filter(|process| process.terminal);
    // mknod(2) of a device is for the root of the first user namespace: others bind the host's.
    let bind = !may_mknod;
    if !bound {
        for &(path, major, minor) in DEFAULT_DEVICES {
            if !config.linux.devices.iter().any(|device| &*device.path == path) {
                let mode = libc::S_IFCHR | 0o666;
                let path = in_root("linux.devices", path)?;
                steps.push(Step::Device(DeviceStep { index: None, path, mode, major, minor, uid: 0, gid: 0, bind }));
            }
        }
        for (index, device) in config.linux.devices.iter().enumerate() {
            steps.push(Step::Device(plan_device(index, device, bind)?));
        }
        for &(path, target) in LINKS {
            let (path, target) = (cstring("", path)?, cstring("", target)?);
            steps.push(Step::DevLink { path, target, replace: false });
        }
        let (path, target) = (c"/dev/ptmx".to_owned(), c"pts/ptmx".to_owned());
        steps.push(Step::DevLink { path, target, replace: true });
    }
    if let Some(process) = terminal {
        steps.push(plan_console(process, true));
    }
    Ok(())
}

/// The process's terminal; `bind`: as the container's console too.
pub fn plan_console(process: &Process<'_>, bind: bool) -> Step {
    let small = |size: u64| u16::try_from(size).unwrap_or(u16::MAX);
    let size = process.console_size.map(|size| (small(size.height), small(size.width)));
    Step::Console { bind, size }
}

fn plan_device(index: usize, device: &Device<'_>, bind: bool) -> Result<DeviceStep> {
    let item = format!("linux.devices[{index}] {}", device.path);
    let kind = match &*device.kind {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => return Err(Error::invalid(item, format!("the type {other:?} is not c, b, u or p"))),
    };
    let number = |name: &str, value: Option<i64>| match value {
        _ if kind == libc::S_IFIFO => Ok(0),
        Some(value) => {
            u32::try_from(value).map_err(|_| Error::invalid(&item, format!("{name} {value} is out of range")))
        }
        None => Err(Error::invalid(&item, format!("{name} is required"))),
    };
    Ok(DeviceStep {
        index: Some(index),
        path: in_root(&item, &device.path)?,
        mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
        major: number("major", device.major)?,
        minor: number("minor", device.minor)?,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        bind: bind && kind != libc::S_IFIFO,
    })
}
