//! Mount calls that rustix lacks.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::raw::syscall;

/// `struct mount_attr` of mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    /// One of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    pub userns_fd: u64,
}

impl MountAttr {
    /// True when applying it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

/// mount_setattr(2) on the mount that `fd` refers to, or with `recursive` on its whole tree.
pub fn mount_setattr(fd: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    mount_setattr_at(fd, c"", recursive, attr)
}

/// mount_setattr(2) on the mount at `path` below `dir`.
pub fn mount_setattr_at(dir: BorrowedFd<'_>, path: &CStr, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `dir` is open, `path` is NUL-terminated, and `attr` is a live mount_attr of the size passed.
    unsafe {
        syscall!(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    }?;
    Ok(())
}

/// fsmount(2) with raw `MOUNT_ATTR_*` flags (rustix knows only some of them).
pub fn fsmount(fs: BorrowedFd<'_>, attr_flags: u64) -> Result<OwnedFd, Errno> {
    // SAFETY: `fs` is an open fd; the kernel checks that it is a file system context.
    let fd = unsafe {
        syscall!(libc::SYS_fsmount, fs.as_raw_fd(), 1 /* FSMOUNT_CLOEXEC */, attr_flags)
    }?;
    // SAFETY: the kernel has just given us this fd, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// mount(2) with raw `MS_*` flags, for what the new interface cannot say.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Result<(), Errno> {
    // SAFETY: all four strings are NUL-terminated and live through the call.
    unsafe { syscall!(libc::SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr()) }?;
    Ok(())
}

/// pivot_root(".", "."): the working directory becomes the root, the old root lies on top of it.
pub fn pivot_root_here() -> Result<(), Errno> {
    // SAFETY: both strings are NUL-terminated constants.
    unsafe { syscall!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }?;
    Ok(())
}
