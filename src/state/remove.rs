//! The last thing that goes of a container: its directory, with whatever lies in it.
//!
//! A container that may mount can make `notify` writable for itself and leave anything there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::error::Result;
use crate::sys::process::chmod;

use super::Container;

/// What was tried on which name, and the errno.
type Tried<T> = std::result::Result<T, (&'static str, CString, Errno)>;

impl Container {
    /// Removes the directory; it is the last thing that goes.
    pub fn remove(&self) -> Result<()> {
        // An `exec` that has come too late may put its file there meanwhile: it does so once.
        for _ in 0..100 {
            empty(self.dir()).map_err(|(call, name, errno)| self.failed(call, &name.to_string_lossy(), errno))?;
            match unlinkat(CWD, self.root.join(self.id.as_str()), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::NOTEMPTY) => {}
                Err(errno) => return Err(self.failed("rmdir", "", errno)),
            }
        }
        Err(self.failed("rmdir", "", Errno::NOTEMPTY))
    }
}

/// Empties a directory. What lies in directories below comes up into it first, so that three fds do however deep they go.
fn empty(top: BorrowedFd<'_>) -> Tried<()> {
    let mut number = 0u64;
    loop {
        let before = number;
        for name in names_in(top)? {
            if is_removed(top, &name)? {
                continue;
            }
            let below = open_to_empty(top, &name)?;
            for inner in names_in(below.as_fd())? {
                if !is_removed(below.as_fd(), &inner)? {
                    open_to_empty(below.as_fd(), &inner)?;
                    lift(below.as_fd(), &inner, top, &mut number)?;
                }
            }
            is_removed(top, &name)?;
        }
        if number == before {
            return Ok(());
        }
    }
}

fn names_in(dir: BorrowedFd<'_>) -> Tried<Vec<CString>> {
    let failed = |errno| ("getdents64", c".".to_owned(), errno);
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Removes a name; false when it is a directory that is not empty.
fn is_removed(dir: BorrowedFd<'_>, name: &CStr) -> Tried<bool> {
    let removed = match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(dir, name, AtFlags::REMOVEDIR),
        other => other,
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(("unlinkat", name.to_owned(), errno)),
    }
}

/// Opens a directory whose mode may forbid it to its owner.
fn open_to_empty(dir: BorrowedFd<'_>, name: &CStr) -> Tried<OwnedFd> {
    let failed = |call| move |errno| (call, name.to_owned(), errno);
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = openat(dir, name, flags | OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map_err(failed("openat"))?;
    chmod(handle.as_fd(), Mode::from_raw_mode(0o700)).map_err(failed("chmod"))?;
    openat(&handle, c".", flags | OFlags::RDONLY, Mode::empty()).map_err(failed("openat"))
}

/// Moves a name up, to one that is free.
fn lift(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, number: &mut u64) -> Tried<()> {
    loop {
        *number += 1;
        match renameat_with(from, name, to, format!("lifted-{number}"), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|errno| ("renameat2", name.to_owned(), errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn whatever_a_container_has_left_goes_and_nothing_else() {
        let top = std::env::temp_dir().join(format!("xebec-remove-{}", std::process::id()));
        let (inside, outside) = (top.join("inside"), top.join("outside"));
        std::fs::create_dir_all(outside.join("kept")).expect("made");
        std::fs::create_dir_all(inside.join("lifted-1/a/b")).expect("made");
        std::fs::write(inside.join("lifted-1/a/file"), "x").expect("written");
        std::fs::write(inside.join("lifted-2"), "x").expect("written");
        symlink(&outside, inside.join("lifted-1/a/link")).expect("linked");
        symlink(&outside, inside.join("link")).expect("linked");
        // Deeper than a path may be long, and than files may be open.
        let mut at = openat(CWD, &inside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"d", Mode::from_raw_mode(0o700)).expect("made");
            at = openat(&at, c"d", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opened");
        }
        std::fs::set_permissions(inside.join("lifted-1/a"), std::fs::Permissions::from_mode(0o0)).expect("closed");
        let handle = openat(CWD, &inside, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("opened");
        empty(handle.as_fd()).expect("emptied");
        std::fs::remove_dir(&inside).expect("empty");
        assert!(outside.join("kept").is_dir(), "behind the links nothing is touched");
        std::fs::remove_dir_all(&top).expect("removed");
    }
}
