//! Bind mounts with mapped ids, made by the parent: the kernel wants rights over the
//! file system's user namespace, which a container with its own does not have.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::step::{Idmapped, MountWhat, Step};
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::process;

use super::maps::write_map;

/// The trees of all idmapped mounts, in the order of their slots.
pub fn make_trees(plan: &Plan) -> Result<Vec<OwnedFd>> {
    let mapped = plan.steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => match &mount.what {
            MountWhat::Idmapped(idmapped) => Some((step.item(plan), idmapped)),
            _ => None,
        },
        _ => None,
    });
    mapped.map(|(item, idmapped)| make_tree(&item, idmapped)).collect()
}

fn make_tree(item: &str, mount: &Idmapped) -> Result<OwnedFd> {
    let source = mount.source.to_string_lossy();
    let failed = |call: &str, errno| Error::sys(item, format!("{call}({source:?})"), errno);
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if mount.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, &*mount.source, flags).map_err(|errno| failed("open_tree", errno))?;
    let namespace = mapping_namespace(item, mount)?;
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: u64::from(process::number(namespace.as_fd())),
        ..MountAttr::default()
    };
    mount_setattr(tree.as_fd(), mount.map_recursive, &attr).map_err(|errno| {
        let error = failed("mount_setattr(MOUNT_ATTR_IDMAP)", errno);
        match errno {
            Errno::INVAL => error.hint("the file system of the source does not support idmapped mounts"),
            _ => error,
        }
    })?;
    Ok(tree)
}

/// A user namespace that is nothing but its maps: made by a process that waits and goes.
fn mapping_namespace(item: &str, mount: &Idmapped) -> Result<OwnedFd> {
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
    let namespace =
        write_map(pid, "uid_map", item, &mount.uid).and_then(|()| write_map(pid, "gid_map", item, &mount.gid));
    let namespace = namespace.and_then(|()| {
        openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(&format!("openat({path:?})"), errno))
    });
    drop(release);
    retry_on_intr(|| waitid(WaitId::PidFd(holder.pidfd.as_fd()), WaitIdOptions::EXITED))
        .map_err(|errno| failed("waitid", errno))?;
    namespace
}
