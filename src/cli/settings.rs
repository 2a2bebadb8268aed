//! Global options and environment to the library's options.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use xebec::cgroup::Driver;
use xebec::spawn::{Options, own_exe};
use xebec::state::ContainerId;
use xebec::sys::stamps;
use xebec::timings::Timings;
use xebec::{Error, Result};

use super::args::{CgroupManager, Create, Exec, Global, Rootless};
use super::log::Log;

/// The directory of the containers' state: --root, /run/xebec, or the user's own.
pub fn root(global: &Global) -> Result<PathBuf> {
    if let Some(root) = &global.root {
        return absolute(root);
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let root = rustix::process::geteuid().is_root();
    match own {
        // In a user namespace of an engine's neither /run nor its containers are ours, unless $USER says
        // that this is somebody's whole system (runc decides the same).
        Some(own) if !root || in_user_namespace() && std::env::var_os("USER").is_none_or(|user| user != "root") => {
            Ok(Path::new(&own).join("xebec"))
        }
        _ if root => Ok(PathBuf::from("/run/xebec")),
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
    let timings = protect(args.timings.as_deref())?;
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
        cgroup_driver: driver(global),
        timings,
        share_memory: true,
    })
}

/// What `exec` has of it. Socket activation is for the container's first process.
pub fn exec_options(global: &Global, args: &Exec) -> Result<Options> {
    let timings = protect(args.timings.as_deref())?;
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    Ok(Options {
        root: root(global)?,
        console_socket: path(&args.console_socket)?,
        pid_file: path(&args.pid_file)?,
        pidfd_socket: path(&args.pidfd_socket)?,
        preserve_fds: args.preserve_fds,
        timings,
        ..Options::default()
    })
}

/// Who makes the cgroup.
pub fn driver(global: &Global) -> Driver {
    match global.manager() {
        CgroupManager::Cgroupfs => Driver::Cgroupfs,
        CgroupManager::Systemd => Driver::Systemd,
        CgroupManager::Disabled => Driver::Disabled,
    }
}

/// Protects the binary, then begins the recording that --timings or $XEBEC_TIMINGS asks for.
fn protect(file: Option<&Path>) -> Result<Option<Arc<Timings>>> {
    let asked = file
        .map(Path::to_owned)
        .or_else(|| std::env::var_os("XEBEC_TIMINGS").filter(|path| !path.is_empty()).map(PathBuf::from));
    let Some(path) = asked else {
        return if crate::is_on_read_only_mount() { Ok(None) } else { own_exe::protect().map(|()| None) };
    };
    let earlier = std::env::var(own_exe::BEGUN).ok().and_then(|text| text.parse().ok());
    own_exe::protect_telling(Some(stamps::now()))?;
    Timings::begin(&path, earlier).map(|timings| Some(Arc::new(timings)))
}

/// Writes the recording, if there is one. The container is as it is: a failure is no more than a warning.
pub fn finish_timings(options: &Options, log: &Log) {
    let written = options.timings.as_ref().map_or(Ok(()), |timings| timings.finish());
    if let Err(error) = written {
        log.warn(&[error.to_string()]);
    }
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

/// --rootless, or for `auto` whether the caller is another than root, or the root of a user namespace only.
pub fn is_rootless(global: &Global) -> bool {
    match global.rootless {
        Rootless::Auto => !rustix::process::geteuid().is_root() || in_user_namespace(),
        Rootless::Yes => true,
        Rootless::No => false,
    }
}

/// Is this another user namespace than the first, whose number never changes (PROC_USER_INIT_INO)?
fn in_user_namespace() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFD;
    rustix::fs::stat(c"/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != INITIAL)
}
