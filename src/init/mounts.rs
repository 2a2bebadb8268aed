//! The child's mounts: made detached, given their attributes, then attached to a handle below the root.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsopen, move_mount, open_tree, unmount,
};

use crate::plan::step::{FileSystem, Hierarchy, MountStep, MountWhat};
use crate::sys::mount::{self, MountAttr, mount_setattr, mount_setattr_at};
use crate::sys::{Call, During, Fail, Outcome, process, settings};

use super::copyup;
use super::inroot::{self, Make};
use super::{Null, Scene, Trouble};

/// Attaches a detached mount over the file or directory that `target` refers to.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Outcome {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags).during(Call::MoveMount)
}

/// A detached clone of what `fd` refers to.
pub fn clone_of(fd: BorrowedFd<'_>, recursive: bool) -> Outcome<OwnedFd> {
    clone_at(fd, c"", recursive)
}

fn clone_at(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Outcome<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir, path, flags).during(Call::OpenTree)
}

/// Sets the propagation of the mounts that this mount namespace was cloned with.
pub fn set_propagation(flags: u64) -> Outcome {
    let attr = MountAttr { propagation: flags & !libc::MS_REC, ..MountAttr::default() };
    mount_setattr_at(CWD, c"/", flags & libc::MS_REC != 0, &attr).during(Call::MountSetattr)
}

/// Puts a clone of the root file system over itself, so that it is a mount that can become the root.
pub fn mount_root(scene: &mut Scene, path: &CStr, isolate_parent: bool) -> Outcome {
    let dir =
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).during(Call::Openat)?;
    if isolate_parent {
        make_parent_private(dir.as_fd())?;
    }
    let tree = clone_of(dir.as_fd(), true)?;
    attach(tree.as_fd(), dir.as_fd())?;
    scene.root = Some(tree);
    Ok(())
}

/// Clones the root file system, and /dev/null for masks, while the host's mounts are in sight.
pub fn clone_root(scene: &mut Scene, path: &CStr, flags: u64, null: bool) -> Outcome {
    let dir =
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).during(Call::Openat)?;
    let tree = clone_of(dir.as_fd(), true)?;
    let attr = MountAttr { propagation: flags & !libc::MS_REC, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), true, &attr).during(Call::MountSetattr)?;
    scene.root = Some(tree);
    if null {
        scene.null = Null::Detached(host_null()?);
    }
    Ok(())
}

/// The host's /dev/null, never the container's, which the image may have replaced (CVE-2025-31133).
pub fn host_null() -> Outcome<OwnedFd> {
    clone_at(CWD, c"/dev/null", false)
}

/// Our own copy of the small mount namespace, with the root file system over its empty root, which is where
/// [`pivot`] looks for the old root. Nothing of ours may reach the one that all share.
pub fn enter_small_namespace(scene: &mut Scene) -> Outcome {
    let Some(namespace) = scene.mountns else { return Err(Errno::BADF).during(Call::Setns) };
    let mount_namespace = libc::CLONE_NEWNS as u64;
    settings::setns(process::borrow(namespace), mount_namespace).during(Call::Setns)?;
    settings::unshare(mount_namespace).during(Call::Unshare)?;
    set_propagation(libc::MS_PRIVATE | libc::MS_REC)?;
    move_mount(scene.root()?, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).during(Call::MoveMount)
}

/// Opens the root file system's directory, where no mount may be made.
pub fn open_root(scene: &mut Scene, path: &CStr) -> Outcome {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    scene.root = Some(openat(CWD, path, flags, Mode::empty()).during(Call::Openat)?);
    Ok(())
}

/// Makes the mount that holds `dir` private: what we attach there must not travel to the host.
///
/// mount_setattr takes only the root of a mount, which `..` reaches at last.
fn make_parent_private(dir: BorrowedFd<'_>) -> Outcome {
    let attr = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    let mut at = dir.try_clone_to_owned().map_err(|_| Errno::MFILE).during(Call::Openat)?;
    for _ in 0..libc::PATH_MAX {
        match mount_setattr(at.as_fd(), false, &attr) {
            Err(Errno::INVAL) => {}
            other => return other.during(Call::MountSetattr),
        }
        at = openat(&at, c"..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .during(Call::Openat)?;
    }
    Err(Errno::LOOP).during(Call::MountSetattr)
}

/// Does one entry of `mounts`.
pub fn perform(scene: &mut Scene, step: &MountStep, trouble: &mut Trouble) -> Outcome {
    let root = scene.root()?;
    let (tree, target) = match &step.what {
        MountWhat::Bind { source, recursive } => place(root, step, clone_at(CWD, source, *recursive)?)?,
        MountWhat::Tree(planned) => {
            let Some(&tree) = scene.trees.get(planned.slot) else { return Err(Errno::BADF).during(Call::OpenTree) };
            let tree = process::borrow(tree).try_clone_to_owned().map_err(|_| Errno::MFILE).during(Call::OpenTree)?;
            place(root, step, tree)?
        }
        MountWhat::New(fs) => match &fs.legacy {
            Some((flags, data)) => return mount_by_path(root, step, fs, *flags, data),
            None => new(root, step, fs, trouble)?,
        },
        MountWhat::Remount => {
            let target = inroot::open(root, &step.destination, OFlags::empty()).during(Call::Openat2)?;
            return set_attributes(target.as_fd(), step);
        }
        MountWhat::CgroupV1 { hierarchies, optional } => {
            return cgroup_v1(root, step, hierarchies, *optional, trouble);
        }
    };
    set_attributes(tree.as_fd(), step)?;
    attach(tree.as_fd(), target.as_fd())?;
    if step.late_readonly {
        scene.late.push(tree);
    }
    Ok(())
}

fn set_attributes(tree: BorrowedFd<'_>, step: &MountStep) -> Outcome {
    // A new file system has its attributes from fsmount; `clear` undoes what a clone brought along.
    if !matches!(step.what, MountWhat::New(_)) && !step.attr.is_empty() {
        mount_setattr(tree, false, &step.attr).during(Call::MountSetattr)?;
    }
    if !step.recursive_attr.is_empty() {
        mount_setattr(tree, true, &step.recursive_attr).during(Call::MountSetattr)?;
    }
    for &(propagation, recursive) in &step.propagation {
        let attr = MountAttr { propagation, ..MountAttr::default() };
        mount_setattr(tree, recursive, &attr).during(Call::MountSetattr)?;
    }
    Ok(())
}

/// The tree with its place: a file goes on a file, a directory on a directory.
fn place(root: BorrowedFd<'_>, step: &MountStep, tree: OwnedFd) -> Outcome<(OwnedFd, OwnedFd)> {
    let make = if inroot::is_dir(&inroot::stat(tree.as_fd())?) { Make::Directory } else { Make::File };
    Ok((tree, open_destination(root, step, make)?))
}

/// The handle to attach to. For /proc and /sys it is one that was reached without a link, which would put them somewhere
/// else (CVE-2019-19921, CVE-2023-27561): the handle itself, because the image may change from one look to the next.
fn open_destination(root: BorrowedFd<'_>, step: &MountStep, make: Make) -> Outcome<OwnedFd> {
    let target = inroot::open_or_make(root, &step.destination, make)?;
    if !step.exact_destination {
        return Ok(target);
    }
    inroot::open_nofollow(root, &step.destination, OFlags::DIRECTORY)
        .map_err(|errno| Fail { call: Call::VerifyDir, errno })
}

fn new(root: BorrowedFd<'_>, step: &MountStep, fs: &FileSystem, trouble: &mut Trouble) -> Outcome<(OwnedFd, OwnedFd)> {
    let target = open_destination(root, step, Make::Directory)?;
    let context = fsopen(&*fs.kind, FsOpenFlags::FSOPEN_CLOEXEC).during(Call::Fsopen)?;
    configure(context.as_fd(), fs, trouble).inspect_err(|_| trouble.read_kernel_message(context.as_fd()))?;
    let tree = mount::fsmount(context.as_fd(), step.attr.set)
        .during(Call::Fsmount)
        .inspect_err(|_| trouble.read_kernel_message(context.as_fd()))?;
    if fs.copy_up {
        copyup::copy(target.as_fd(), tree.as_fd())?;
    }
    Ok((tree, target))
}

fn configure(context: BorrowedFd<'_>, fs: &FileSystem, trouble: &mut Trouble) -> Outcome {
    trouble.index = u16::MAX;
    if let Some(source) = &fs.source {
        fsconfig_set_string(context, c"source", &**source).during(Call::Fsconfig)?;
    }
    for (index, (key, value)) in fs.options.iter().enumerate() {
        trouble.index = index as u16;
        match value {
            Some(value) => fsconfig_set_string(context, &**key, &**value),
            None => fsconfig_set_flag(context, &**key),
        }
        .during(Call::Fsconfig)?;
    }
    trouble.index = u16::MAX;
    fsconfig_create(context).during(Call::Fsconfig)
}

/// mount(2), for values that fsconfig(2) refuses. It knows no handles; so it mounts onto a directory that nobody else can
/// name, in a tmpfs of ours that covers the target meanwhile, and what is there is attached like any other tree.
fn mount_by_path(root: BorrowedFd<'_>, step: &MountStep, fs: &FileSystem, flags: u64, data: &CStr) -> Outcome {
    const PAIRS: &[(u64, u64)] = &[
        (libc::MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
        (libc::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
        (libc::MOUNT_ATTR_NODEV, libc::MS_NODEV),
        (libc::MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        (libc::MOUNT_ATTR_NOATIME, libc::MS_NOATIME),
        (libc::MOUNT_ATTR_STRICTATIME, libc::MS_STRICTATIME),
        (libc::MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, 256),
    ];
    let attributes = PAIRS.iter().filter(|(attr, _)| step.attr.set & attr != 0).fold(0, |all, (_, flag)| all | flag);
    let target = inroot::open_or_make(root, &step.destination, Make::Directory)?;
    let stage = small_tmpfs(0)?;
    attach(stage.as_fd(), target.as_fd())?;
    mkdirat(&stage, c"mount", Mode::from_raw_mode(0o700)).during(Call::Mkdirat)?;
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(&stage, c"mount", path, Mode::empty()).during(Call::Openat)?;
    rustix::process::fchdir(&place).during(Call::Fchdir)?;
    let source = fs.source.as_deref().unwrap_or(c"none");
    mount::mount(source, c".", &fs.kind, flags | attributes, data).during(Call::Mount)?;
    let mounted = openat(&stage, c"mount", path, Mode::empty()).during(Call::Openat)?;
    let tree = clone_of(mounted.as_fd(), false)?;
    rustix::process::fchdir(&stage).during(Call::Fchdir)?;
    unmount(c".", UnmountFlags::DETACH).during(Call::Umount)?;
    rustix::process::fchdir(root).during(Call::Fchdir)?;
    set_attributes(tree.as_fd(), step)?;
    attach(tree.as_fd(), target.as_fd())
}

/// A tmpfs for a few directories of ours.
fn small_tmpfs(attributes: u64) -> Outcome<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during(Call::Fsopen)?;
    fsconfig_set_string(&context, c"source", c"tmpfs").during(Call::Fsconfig)?;
    fsconfig_set_string(&context, c"mode", c"755").during(Call::Fsconfig)?;
    fsconfig_create(&context).during(Call::Fsconfig)?;
    mount::fsmount(context.as_fd(), attributes).during(Call::Fsmount)
}

/// A tmpfs that holds a directory for each cgroup v1 hierarchy, bound from the container's cgroup.
fn cgroup_v1(
    root: BorrowedFd<'_>,
    step: &MountStep,
    hierarchies: &[Hierarchy],
    optional: bool,
    trouble: &mut Trouble,
) -> Outcome {
    let target = inroot::open_or_make(root, &step.destination, Make::Directory)?;
    let readonly = MountAttr { set: step.attr.set & libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    let tree = small_tmpfs(step.attr.set & !libc::MOUNT_ATTR_RDONLY)?;
    attach(tree.as_fd(), target.as_fd())?;
    for (index, hierarchy) in hierarchies.iter().enumerate() {
        trouble.index = index as u16;
        let bound = match clone_at(CWD, &hierarchy.source, false) {
            Err(fail) if optional && fail.errno == Errno::NOENT => continue,
            other => other?,
        };
        mount_setattr(bound.as_fd(), false, &MountAttr { set: step.attr.set, ..MountAttr::default() })
            .during(Call::MountSetattr)?;
        mkdirat(&tree, &*hierarchy.name, Mode::from_raw_mode(0o755)).during(Call::Mkdirat)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(&tree, &*hierarchy.name, flags, Mode::empty()).during(Call::Openat)?;
        attach(bound.as_fd(), place.as_fd())?;
        for link in &hierarchy.links {
            symlinkat(&*hierarchy.name, &tree, &**link).during(Call::Symlinkat)?;
        }
    }
    if readonly.is_empty() { Ok(()) } else { mount_setattr(tree.as_fd(), false, &readonly).during(Call::MountSetattr) }
}

/// pivot_root(2) into the root file system; the old root and all its mounts go away.
pub fn pivot(scene: &mut Scene) -> Outcome {
    let old =
        openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).during(Call::Openat)?;
    rustix::process::fchdir(scene.root()?).during(Call::Fchdir)?;
    mount::pivot_root_here().during(Call::PivotRoot)?;
    // The old root may still be shared with the host: its unmounting must not travel there.
    let attr = MountAttr { propagation: libc::MS_SLAVE, ..MountAttr::default() };
    mount_setattr(old.as_fd(), true, &attr).during(Call::MountSetattr)?;
    rustix::process::fchdir(&old).during(Call::Fchdir)?;
    unmount(c".", UnmountFlags::DETACH).during(Call::Umount)?;
    rustix::process::chdir(c"/").during(Call::ChdirCwd)
}

/// Moves the root file system over the root and changes into it, where pivot_root(2) cannot work (initramfs).
pub fn move_root(scene: &mut Scene) -> Outcome {
    let root = scene.root()?;
    rustix::process::fchdir(root).during(Call::Fchdir)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(root, c"", CWD, c"/", flags).during(Call::MoveMount)?;
    rustix::process::chroot(c".").during(Call::Chroot)?;
    rustix::process::chdir(c"/").during(Call::ChdirCwd)
}

/// chroot(2) alone: a container that shares the runtime's mount namespace.
pub fn change_root(scene: &mut Scene) -> Outcome {
    rustix::process::fchdir(scene.root()?).during(Call::Fchdir)?;
    rustix::process::chroot(c".").during(Call::Chroot)?;
    rustix::process::chdir(c"/").during(Call::ChdirCwd)
}
