//! Device nodes, the links of /dev, the console; masked and read-only paths.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstatfs, makedev, mknodat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsopen, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::plan::step::DeviceStep;
use crate::sys::mount::{self, MountAttr, mount_setattr};
use crate::sys::{Call, During, Outcome, process};

use super::inroot::{self, Make};
use super::mounts::{attach, clone_of, host_null};
use super::{Null, Scene, wire};

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// Makes one device node, or accepts the one that is there when it is the same device.
pub fn make_node(scene: &mut Scene, step: &DeviceStep) -> Outcome {
    let root = scene.root()?;
    if step.bind {
        return bind_node(scene, step);
    }
    let mut buffer = inroot::name_buffer();
    let (parent, name) = scene.parent.open(root, &step.path, &mut buffer)?;
    let device = makedev(step.major, step.minor);
    let kind = FileType::from_raw_mode(step.mode);
    match mknodat(parent, name, kind, Mode::from_raw_mode(step.mode & 0o7777), device) {
        Ok(()) => {
            if step.uid != 0 || step.gid != 0 {
                // By handle: the name may be somebody else's file by now.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let node = openat(parent, name, flags, Mode::empty()).during(Call::Openat)?;
                verify_node(node.as_fd(), step)?;
                let (uid, gid) = (Uid::from_raw(step.uid), Gid::from_raw(step.gid));
                chownat(&node, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).during(Call::Fchownat)?;
            }
            Ok(())
        }
        Err(Errno::EXIST) => {
            let stat = inroot::stat_nofollow(parent, name)?;
            let same =
                FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == device);
            if same { Ok(()) } else { Err(Errno::EXIST).during(Call::VerifyDevice) }
        }
        // The root of a user namespace, or of a container that filters devices: what the host has can be bound.
        Err(Errno::PERM) => match bind_node(scene, step) {
            Err(fail) if fail.call == Call::OpenTree => Err(Errno::PERM).during(Call::Mknodat),
            other => other,
        },
        Err(errno) => Err(errno).during(Call::Mknodat),
    }
}

/// Binds the host's node of the same path, where mknod(2) is refused.
fn bind_node(scene: &mut Scene, step: &DeviceStep) -> Outcome {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &*step.path, flags).during(Call::OpenTree)?;
    verify_device(tree.as_fd(), FileType::from_raw_mode(step.mode), step.major, step.minor)?;
    let root = scene.root()?;
    let mut buffer = inroot::name_buffer();
    let (parent, name) = scene.parent.open(root, &step.path, &mut buffer)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = match openat(parent, name, flags, Mode::from_raw_mode(0o644)) {
        // The very file that was made: its name is not looked up again.
        Ok(made) => made,
        Err(Errno::EXIST) => inroot::open_or_make(root, &step.path, Make::File)?,
        Err(errno) => return Err(errno).during(Call::Openat),
    };
    attach(tree.as_fd(), target.as_fd())
}

/// Is it what [`make_node`] has made? A fifo has no numbers.
fn verify_node(node: BorrowedFd<'_>, step: &DeviceStep) -> Outcome {
    match FileType::from_raw_mode(step.mode) {
        FileType::Fifo if FileType::from_raw_mode(inroot::stat(node)?.st_mode) == FileType::Fifo => Ok(()),
        FileType::Fifo => Err(Errno::EXIST).during(Call::VerifyDevice),
        kind => verify_device(node, kind, step.major, step.minor),
    }
}

fn verify_device(fd: BorrowedFd<'_>, kind: FileType, major: u32, minor: u32) -> Outcome {
    let stat = inroot::stat(fd)?;
    let same = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_rdev == makedev(major, minor);
    if same { Ok(()) } else { Err(Errno::NODEV).during(Call::VerifyDevice) }
}

/// Makes a link; what is there already stays, or goes first with `replace`.
pub fn make_link(scene: &mut Scene, path: &CStr, target: &CStr, replace: bool) -> Outcome {
    let root = scene.root()?;
    let mut buffer = inroot::name_buffer();
    let (parent, name) = scene.parent.open(root, path, &mut buffer)?;
    match symlinkat(target, parent, name) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) if replace => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno).during(Call::Symlinkat),
    }
    unlinkat(parent, name, AtFlags::empty()).during(Call::Unlinkat)?;
    symlinkat(target, parent, name).during(Call::Symlinkat)
}

/// A terminal of the container's own devpts as stdio and /dev/console; its master side goes to whoever asked.
pub fn open_console(scene: &mut Scene, bind: bool, size: Option<(u16, u16)>) -> Outcome {
    let root = scene.root()?;
    // In a devpts the kernel alone makes names: its `ptmx` is the multiplexer.
    let devpts = inroot::open_nofollow(root, c"/dev/pts", OFlags::DIRECTORY).during(Call::Openat2)?;
    if fstatfs(&devpts).during(Call::Fstatfs)?.f_type as u64 != DEVPTS_SUPER_MAGIC {
        return Err(Errno::NODEV).during(Call::Fstatfs);
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = openat(&devpts, c"ptmx", flags, Mode::empty()).during(Call::Openat)?;
    unlockpt(&master).during(Call::Ioctl)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    // TIOCGPTPEER opens the other side without a path that somebody could have replaced (CVE-2025-52565).
    let terminal = ioctl_tiocgptpeer(&master, flags).during(Call::TiocGPtPeer)?;
    if let Some((rows, columns)) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).during(Call::TiocSWinsz)?;
    }
    if bind {
        bind_console(root, terminal.as_fd())?;
    }
    send_master(scene, master.as_fd())?;
    rustix::process::ioctl_tiocsctty(&terminal).during(Call::TiocSCtty)?;
    for number in 0..3 {
        process::make_stdio(terminal.as_fd(), number).during(Call::Dup)?;
    }
    Ok(())
}

fn bind_console(root: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> Outcome {
    let mut buffer = inroot::name_buffer();
    let mut dev = inroot::Parent::none();
    let (parent, name) = dev.open(root, c"/dev/console", &mut buffer)?;
    // Never through a link: it could point out of /dev to a file of the host's (CVE-2026-88264).
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::from_raw_mode(0o620)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).during(Call::Openat),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(parent, name, flags, Mode::empty()).during(Call::Openat)?;
    if FileType::from_raw_mode(inroot::stat(place.as_fd())?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP).during(Call::Openat);
    }
    let tree = clone_of(terminal, false)?;
    attach(tree.as_fd(), place.as_fd())
}

/// Hands the master side to the console socket, or to the parent of a foreground `run`.
fn send_master(scene: &Scene, master: BorrowedFd<'_>) -> Outcome {
    match scene.console_socket {
        Some(socket) => wire::send_fd(process::borrow(socket), b"/dev/ptmx", master),
        None => wire::send_fd(scene.channel, &wire::Record::note(wire::Kind::Console).to_bytes(), master),
    }
    .during(Call::SendFd)
}

/// Binds `path` over itself, read-only; what is not there needs no protection.
pub fn make_readonly(root: BorrowedFd<'_>, path: &CStr) -> Outcome {
    let Some(target) = open_existing(root, path)? else { return Ok(()) };
    let tree = clone_of(target.as_fd(), true)?;
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(tree.as_fd(), false, &attr).during(Call::MountSetattr)?;
    attach(tree.as_fd(), target.as_fd())
}

/// Covers a file with the host's /dev/null, a directory with an empty read-only one.
pub fn mask(scene: &mut Scene, path: &CStr) -> Outcome {
    let root = scene.root()?;
    let Some(target) = open_existing(root, path)? else { return Ok(()) };
    if !inroot::is_dir(&inroot::stat(target.as_fd())?) {
        return mask_file(scene, target.as_fd());
    }
    match &scene.empty_dir {
        Some(empty) => attach(clone_of(empty.as_fd(), false)?.as_fd(), target.as_fd()),
        None => {
            let empty = empty_directory()?;
            attach(empty.as_fd(), target.as_fd())?;
            scene.empty_dir = Some(empty);
            Ok(())
        }
    }
}

/// A mount that is attached can be cloned on every kernel, a detached one from 6.15 on.
fn mask_file(scene: &mut Scene, target: BorrowedFd<'_>) -> Outcome {
    let null = match std::mem::replace(&mut scene.null, Null::OnHost) {
        Null::OnHost => host_null()?,
        Null::Detached(null) => {
            verify_null(null.as_fd())?;
            attach(null.as_fd(), target)?;
            scene.null = Null::Attached(null);
            return Ok(());
        }
        Null::Attached(first) => {
            let null = clone_of(first.as_fd(), false);
            scene.null = Null::Attached(first);
            null?
        }
    };
    verify_null(null.as_fd())?;
    attach(null.as_fd(), target)
}

fn verify_null(null: BorrowedFd<'_>) -> Outcome {
    verify_device(null, FileType::CharacterDevice, 1, 3)
}

/// A mask must not be skipped for any other reason than that nothing is there.
fn open_existing(root: BorrowedFd<'_>, path: &CStr) -> Outcome<Option<OwnedFd>> {
    match inroot::open(root, path, OFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).during(Call::Openat2),
    }
}

fn empty_directory() -> Outcome<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).during(Call::Fsopen)?;
    for (key, value) in [(c"source", c"tmpfs"), (c"size", c"0"), (c"nr_inodes", c"1"), (c"mode", c"0555")] {
        fsconfig_set_string(&context, key, value).during(Call::Fsconfig)?;
    }
    fsconfig_create(&context).during(Call::Fsconfig)?;
    let attr = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    mount::fsmount(context.as_fd(), attr).during(Call::Fsmount)
}
