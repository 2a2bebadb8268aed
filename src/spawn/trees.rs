//! Bind mounts that the parent clones, with its rights: the source may be out of reach for the container's root,
//! and for mapped ids the kernel wants rights over the file system's user namespace.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::step::{MountWhat, Step, Tree, TreeMap};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::process;

use super::maps::write_map;

/// The trees in the order of their slots.
pub fn make_trees(plan: &Plan) -> Result<Vec<OwnedFd>> {
    let planned = plan.steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => match &mount.what {
            MountWhat::Tree(tree) => Some((step.item(plan), tree)),
            _ => None,
        },
        _ => None,
    });
    let propagation = propagation(plan);
    planned.map(|(item, tree)| make_tree(&item, tree, propagation)).collect()
}

/// What the child does to the mounts it is cloned with, these must have too: a clone of a shared mount is its peer,
/// and what the container mounts there would reach the host.
fn propagation(plan: &Plan) -> u64 {
    let host = plan.steps.iter().find_map(|step| match step {
        Step::HostPropagation { flags, .. } | Step::CloneRootfs { flags, .. } => Some(flags & !libc::MS_REC),
        _ => None,
    });
    match host {
        // The kernel keeps no mount shared with a user namespace of fewer rights (mount_namespaces(7)).
        Some(libc::MS_SHARED) if plan.namespaces.has("user") => libc::MS_SLAVE,
        Some(flags) => flags,
        None => libc::MS_SLAVE,
    }
}

fn make_tree(item: &str, tree: &Tree, propagation: u64) -> Result<OwnedFd> {
    let source = tree.source.to_string_lossy();
    let failed = |call: &str, errno| Error::sys(item, format!("{call}({source:?})"), errno);
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if tree.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let cloned = open_tree(CWD, &*tree.source, flags).map_err(|errno| match errno {
        Errno::PERM => {
            failed("open_tree", errno).hint("mapping the ids of a mount takes CAP_SYS_ADMIN: run xebec as root")
        }
        _ => failed("open_tree", errno),
    })?;
    let attr = MountAttr { propagation, ..MountAttr::default() };
    mount_setattr(cloned.as_fd(), tree.recursive, &attr).map_err(|errno| failed("mount_setattr", errno))?;
    if let Some(map) = &tree.map {
        map_ids(item, &source, cloned.as_fd(), map)?;
    }
    Ok(cloned)
}

fn map_ids(item: &str, source: &str, tree: BorrowedFd<'_>, map: &TreeMap) -> Result<()> {
    let namespace = mapping_namespace(item, map)?;
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: u64::from(process::number(namespace.as_fd())),
        ..MountAttr::default()
    };
    mount_setattr(tree, map.recursive, &attr).map_err(|errno| {
        let error = Error::sys(item, format!("mount_setattr({source:?}, MOUNT_ATTR_IDMAP)"), errno);
        match errno {
            Errno::INVAL => error.hint(unsupported(tree, map.recursive)),
            Errno::PERM => error.hint("mapping ids takes CAP_SYS_ADMIN in the user namespace that mounted the file system, and ids not mapped yet"),
            _ => error,
        }
    })
}

/// The file system is named: which ones map ids depends on the kernel.
fn unsupported(tree: BorrowedFd<'_>, recursive: bool) -> String {
    let below = if recursive { ", or one mounted below it," } else { "" };
    match file_system(tree) {
        Some(name) if name == "overlay" => {
            format!(
                "overlay{below} does not support idmapped mounts on this kernel: map its layers, and mount the overlay over them (Linux 5.19)"
            )
        }
        Some(name) => format!("{name}{below} does not support idmapped mounts on this kernel"),
        None => format!("the file system of the source{below} does not support idmapped mounts on this kernel"),
    }
}

/// The type by its name in mountinfo(5); a detached mount is not there, but its source is.
fn file_system(tree: BorrowedFd<'_>) -> Option<String> {
    let device = rustix::fs::fstat(tree).ok()?.st_dev;
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().find(|line| line.split(' ').nth(2) == Some(&number))?;
    Some(line.split_once(" - ")?.1.split(' ').next()?.to_owned())
}

/// A user namespace that is nothing but its maps: made by a process that waits and goes.
fn mapping_namespace(item: &str, map: &TreeMap) -> Result<OwnedFd> {
    let failed = |call: &str, errno| Error::sys(item, call, errno);
    let (wait, release) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("pipe2", errno))?;
    let release_number = process::number(release.as_fd());
    let holder = process::clone3(libc::CLONE_NEWUSER as u64, None, || {
        // Our own copy of the writing end would keep us waiting for ever.
        let closed = process::close_one(release_number);
        let ended = retry_on_intr(|| rustix::io::read(&wait, &mut [0u8; 1]));
        i32::from(closed.is_err() || ended.is_err())
    })
    .map_err(|errno| failed("clone3(new user)", errno))?;
    let pid = holder.pid.as_raw_nonzero().get();
    let path = format!("/proc/{pid}/ns/user");
    let namespace = write_map(pid, "uid_map", item, &map.uid).and_then(|()| write_map(pid, "gid_map", item, &map.gid));
    let namespace = namespace.and_then(|()| {
        openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(&format!("openat({path:?})"), errno))
    });
    drop(release);
    retry_on_intr(|| waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED))
        .map_err(|errno| failed("waitid", errno))?;
    namespace
}
