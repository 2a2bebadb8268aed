//! Global options and environment to the library's options.

use std::path::{Path, PathBuf};

use xebec::cgroup::Driver;
use xebec::spawn::{Options, own_exe};
use xebec::state::ContainerId;
use xebec::{Error, Result};

use super::args::{CgroupManager, Create, Exec, Global, Rootless};

/// The directory of the containers' state: --root, /run/xebec, or the user's own.
pub fn root(global: &Global) -> Result<PathBuf> {
    if let Some(root) = &global.root {
        return absolute(root);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/run/xebec"));
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => Ok(Path::new(&dir).join("xebec")),
        _ => Err(Error::invalid("--root", "an ordinary user without $XDG_RUNTIME_DIR has no place for state")
            .hint("set XDG_RUNTIME_DIR, or give --root")),
    }
}

/// A path of the caller's, as it was meant where the command began.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| super::io_error(&path.display().to_string(), "getcwd", &error))
}

/// An id from the command line.
pub fn id(text: &str) -> Result<ContainerId> {
    ContainerId::new(text)
}

/// What `create` and `run` share. The binary is protected before anything is opened.
pub fn options(global: &Global, args: &Create) -> Result<Options> {
    own_exe::protect()?;
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    let (listen_fds, listen_fdnames) = socket_activation();
    Ok(Options {
        root: root(global)?,
        console_socket: path(&args.console_socket)?,
        pid_file: path(&args.pid_file)?,
        pidfd_socket: path(&args.pidfd_socket)?,
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        preserve_fds: args.preserve_fds + listen_fds,
        listen_fds,
        listen_fdnames,
        rootless: is_rootless(global),
        notify_socket: notify_socket(),
        cgroup_driver: match global.manager() {
            CgroupManager::Cgroupfs => Driver::Cgroupfs,
            CgroupManager::Systemd => Driver::Systemd,
            CgroupManager::Disabled => Driver::Disabled,
        },
    })
}

/// What `exec` has of it. Socket activation is for the container's first process.
pub fn exec_options(global: &Global, args: &Exec) -> Result<Options> {
    own_exe::protect()?;
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    Ok(Options {
        root: root(global)?,
        console_socket: path(&args.console_socket)?,
        pid_file: path(&args.pid_file)?,
        pidfd_socket: path(&args.pidfd_socket)?,
        preserve_fds: args.preserve_fds,
        ..Options::default()
    })
}

/// sd_listen_fds(3): the variables count only for the process they are addressed to.
fn socket_activation() -> (u32, Option<String>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    match number("LISTEN_FDS") {
        Some(count) if ours => (count, std::env::var("LISTEN_FDNAMES").ok()),
        _ => (0, None),
    }
}

/// Where the service manager waits for READY=1 (sd_notify(3)).
pub fn notify_socket() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// --rootless, or for `auto` whether the user is another than root.
pub fn is_rootless(global: &Global) -> bool {
    match global.rootless {
        Rootless::Auto => !rustix::process::geteuid().is_root(),
        Rootless::Yes => true,
        Rootless::No => false,
    }
}
