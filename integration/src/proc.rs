//! Where mounts and processes are: questions to /proc, which the package procfs reads.

use std::io;
use std::path::PathBuf;

use procfs::process::{MountInfo, Process};

/// What is mounted in our mount namespace, in mount order.
pub fn mounts() -> io::Result<Vec<MountInfo>> {
    Process::myself().and_then(|own| own.mountinfo()).map(|all| all.0).map_err(io::Error::other)
}

/// Where the hierarchy of this controller of cgroup v1 is mounted; of cgroup v2, for a controller without a name.
pub fn hierarchy(controller: &str) -> io::Result<Option<PathBuf>> {
    let fits = |mount: &MountInfo| match controller {
        "" => mount.fs_type == "cgroup2",
        name => mount.fs_type == "cgroup" && mount.super_options.contains_key(name),
    };
    Ok(mounts()?.into_iter().find(fits).map(|mount| mount.mount_point))
}

/// The path of a process's cgroup in that hierarchy.
pub fn cgroup(pid: i32, controller: &str) -> io::Result<Option<String>> {
    let fits = |controllers: &[String]| match controller {
        "" => controllers.is_empty(),
        name => controllers.iter().any(|one| one == name),
    };
    let all = Process::new(pid).and_then(|process| process.cgroups()).map_err(io::Error::other)?;
    Ok(all.into_iter().find(|place| fits(&place.controllers)).map(|place| place.pathname))
}

/// The directory of that cgroup.
pub fn cgroup_directory(pid: i32, controller: &str) -> io::Result<Option<PathBuf>> {
    let (mount, path) = (hierarchy(controller)?, cgroup(pid, controller)?);
    Ok(mount.zip(path).map(|(mount, path)| mount.join(path.trim_start_matches('/'))))
}
