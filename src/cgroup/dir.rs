//! A cgroup directory held by its fd: the only way this module touches cgroupfs.
//!
//! Paths below a hierarchy's root are resolved by openat2 and never leave it: no
//! `..`, no symlink, no other mount. Files are never created or truncated.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, CWD, Dir as Listing, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// How many bytes of a path are opened at once, below PATH_MAX.
const PIECE: usize = 4000;

/// A directory of a cgroup hierarchy.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Its path, for messages only.
    pub path: String,
}

impl Dir {
    /// Opens a path that is the host's own word: a mount point or a recorded cgroup.
    pub fn open(path: &str) -> Result<Dir, Errno> {
        let fd = rustix::fs::openat(CWD, path, OPEN_DIR, Mode::empty())?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// Opens `below`, a relative path, without leaving this directory.
    pub fn open_below(&self, below: impl AsRef<OsStr>) -> Result<Dir, Errno> {
        let below = below.as_ref();
        // EAGAIN: a rename raced with the walk (openat2(2)); a few tries settle it.
        for _ in 0..16 {
            match rustix::fs::openat2(&self.fd, below, OPEN_DIR, Mode::empty(), BENEATH) {
                Err(Errno::AGAIN) => {}
                other => return Ok(Dir { fd: other?, path: self.join(below) }),
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens `below` like [`Dir::open_below`], also where it is longer than a path may be: a container can
    /// nest cgroups so deep.
    pub fn open_deep(&self, below: &OsStr) -> Result<Dir, Errno> {
        let mut rest = below.as_bytes();
        let mut at: Option<Dir> = None;
        while rest.len() > PIECE {
            let end = rest[..PIECE].iter().rposition(|&b| b == b'/').ok_or(Errno::NAMETOOLONG)?;
            at = Some(at.as_ref().unwrap_or(self).open_below(OsStr::from_bytes(&rest[..end]))?);
            rest = &rest[end + 1..];
        }
        at.as_ref().unwrap_or(self).open_below(OsStr::from_bytes(rest))
    }

    /// The cgroup above. Cgroups cannot be moved elsewhere, so that is where we came from.
    pub fn above(&self) -> Result<Dir, Errno> {
        let fd = rustix::fs::openat(&self.fd, "..", OPEN_DIR, Mode::empty())?;
        Ok(Dir { fd, path: self.path.rsplit_once('/').map_or_else(String::new, |(above, _)| above.to_owned()) })
    }

    /// mkdirat(2) of one name. `Ok(false)` if it is there already.
    pub fn mkdir(&self, name: &str) -> Result<bool> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Error::sys("cgroup", format!("mkdir({:?})", self.join(name)), errno)),
        }
    }

    /// rmdir of one name.
    pub fn rmdir(&self, name: &OsStr) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
    }

    /// Writes `value` to the interface file `file` in one write(2).
    pub fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        let fd = self.open_file(file, OFlags::WRONLY)?;
        let done = rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes()))?;
        if done == value.len() { Ok(()) } else { Err(Errno::IO) }
    }

    /// The whole of an interface file that the kernel shows in one piece: anything but
    /// the lists of processes. One read(2) is all there is, unless it fills the buffer.
    pub fn read(&self, file: &str) -> Result<String, Errno> {
        read_once(&self.open_file(file, OFlags::RDONLY)?)
    }

    /// The whole of an interface file of any length.
    pub fn read_list(&self, file: &str) -> Result<String, Errno> {
        read_all(&self.open_file(file, OFlags::RDONLY)?)
    }

    /// Opens an interface file.
    pub fn open_file(&self, file: &str, access: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.fd, file, access | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    /// The names of the cgroups right below this one; a container may have chosen them, and not as text.
    pub fn children(&self) -> Result<Vec<OsString>, Errno> {
        let mut names = Vec::new();
        for entry in Listing::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }

    /// Gives this directory (empty name) or one of its files to `uid`.
    pub fn chown(&self, file: &str, uid: u32) -> Result<(), Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&self.fd, file, Some(rustix::fs::Uid::from_raw(uid)), None, flags)
    }

    /// The path of `name` in here, for messages.
    pub fn join(&self, name: impl AsRef<OsStr>) -> String {
        format!("{}/{}", self.path.trim_end_matches('/'), name.as_ref().display())
    }

    /// The fd itself.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads a kernel file that comes in one piece.
pub fn read_once(fd: &OwnedFd) -> Result<String, Errno> {
    let mut chunk = [0u8; 4096];
    let got = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut chunk))?;
    let mut bytes = chunk[..got].to_vec();
    if got == chunk.len() {
        read_on(fd, &mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a kernel file to its end.
pub fn read_all(fd: &OwnedFd) -> Result<String, Errno> {
    let mut bytes = Vec::new();
    read_on(fd, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_on(fd: &OwnedFd, bytes: &mut Vec<u8>) -> Result<(), Errno> {
    let mut chunk = [0u8; 4096];
    loop {
        let got = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut chunk))?;
        if got == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&chunk[..got]);
    }
}
