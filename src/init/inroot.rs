//! Paths below the container's root: every one of them is resolved here.
//!
//! The image is the attacker's, also while we walk it. Nothing is ever opened
//! by a path that the kernel has not confined to the root (openat2 with
//! RESOLVE_IN_ROOT), and what is made is made under the handle of its parent.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat, openat2, readlinkat_raw};
use rustix::io::Errno;

use crate::sys::{Call, During, Outcome};

const PATH_MAX: usize = libc::PATH_MAX as usize;
/// A name and its NUL (NAME_MAX).
const NAME_SIZE: usize = 256;
/// Directories whose path is no longer are opened without more stack than this. Each page of stack that the child is the first to
/// write is one more that a container needs at its start.
const SHORT: usize = 128;
/// How many links may lead from a path to what is made there (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// openat2 gives EAGAIN while somebody renames directories; an attacker can keep that up only so long.
const RACES_MAX: usize = 64;

/// Opens `path` below `root` (O_PATH and `flags`); the last component may be a link.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// The same, but no component may be a link.
pub fn open_nofollow(root: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
}

fn resolve(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    for _ in 0..RACES_MAX {
        match openat2(root, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// What is to be made where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Directory,
    File,
}

/// A path in a fixed buffer, NUL-terminated.
struct Path {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl Path {
    fn new(path: &[u8]) -> Result<Path, Errno> {
        let mut this = Path { bytes: [0; PATH_MAX], len: 0 };
        this.push(path)?;
        Ok(this)
    }

    fn push(&mut self, part: &[u8]) -> Result<(), Errno> {
        let end = self.len + part.len();
        if end >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.len..end].copy_from_slice(part);
        self.bytes[end] = 0;
        self.len = end;
        Ok(())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A C string of `bytes` in `buffer`.
fn terminated<'b>(bytes: &[u8], buffer: &'b mut [u8]) -> Result<&'b CStr, Errno> {
    if bytes.len() >= buffer.len() {
        return Err(Errno::NAMETOOLONG);
    }
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer[bytes.len()] = 0;
    CStr::from_bytes_until_nul(&buffer[..=bytes.len()]).map_err(|_| Errno::INVAL)
}

/// Opens `path` below `root` and makes what is missing: directories on the way
/// (mode 0755), and at the end a directory or an empty file.
///
/// A dangling link is followed as far as it leads inside the root, because
/// images ship links such as /etc/resolv.conf to places that mounts will fill.
pub fn open_or_make(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Outcome<OwnedFd> {
    match open(root, path, OFlags::empty()) {
        Err(Errno::NOENT) => {}
        other => return other.during(Call::Openat2),
    }
    match make_last(root, path, make)? {
        Some(made) => Ok(made),
        None => make_missing(root, path, make),
    }
}

/// The last component in a directory that is there, with a short path; `None` where it is not as simple as that.
fn make_last(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Outcome<Option<OwnedFd>> {
    let bytes = path.to_bytes_with_nul();
    let slash = path.to_bytes().iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
    let (dir, name) = bytes.split_at(slash);
    let Ok(name) = CStr::from_bytes_with_nul(name) else { return Ok(None) };
    let mut buffer = [0u8; SHORT];
    let Ok(dir) = terminated(if dir.is_empty() { b"/" } else { dir }, &mut buffer) else { return Ok(None) };
    if matches!(name.to_bytes(), b"" | b"." | b"..") {
        return Ok(None);
    }
    let parent = match open(root, dir, OFlags::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.during(Call::Openat2)?,
    };
    match make_in(parent.as_fd(), name, make) {
        Err(fail) if fail.errno == Errno::EXIST => return Ok(None),
        other => other?,
    }
    match open(root, path, OFlags::empty()) {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some).during(Call::Openat2),
    }
}

/// An empty directory or file that is not there yet.
fn make_in(parent: BorrowedFd<'_>, name: &CStr, make: Make) -> Outcome {
    match make {
        Make::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)).during(Call::Mkdirat),
        Make::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop).during(Call::Openat)
        }
    }
}

/// Several components, long paths and links.
#[cold]
#[inline(never)]
fn make_missing(root: BorrowedFd<'_>, path: &CStr, make: Make) -> Outcome<OwnedFd> {
    let mut buffer = [0u8; PATH_MAX];
    let mut wanted = Path::new(path.to_bytes()).during(Call::Openat2)?;
    for _ in 0..LINKS_MAX {
        let whole = terminated(wanted.as_bytes(), &mut buffer).during(Call::Openat2)?;
        match open(root, whole, OFlags::empty()) {
            Err(Errno::NOENT) => {}
            other => return other.during(Call::Openat2),
        }
        match make_first_missing(root, wanted.as_bytes(), make)? {
            Progress::Made => {}
            Progress::Link(target) => wanted = target,
        }
    }
    // Deep paths take one round for each missing component.
    make_rest(root, wanted.as_bytes(), make)
}

// Nothing may be boxed here: the child does not allocate.
#[expect(clippy::large_enum_variant, reason = "lives on the stack, one at a time")]
enum Progress {
    Made,
    /// A dangling link stood in the way: the path with the link's target in its place.
    Link(Path),
}

fn make_rest(root: BorrowedFd<'_>, path: &[u8], make: Make) -> Outcome<OwnedFd> {
    let mut buffer = [0u8; PATH_MAX];
    // A round for each component; with many more, somebody takes away what we make.
    let components = path.iter().filter(|&&b| b == b'/').count() + 1;
    for _ in 0..components + RACES_MAX {
        let whole = terminated(path, &mut buffer).during(Call::Openat2)?;
        match open(root, whole, OFlags::empty()) {
            Err(Errno::NOENT) => {}
            other => return other.during(Call::Openat2),
        }
        if let Progress::Link(_) = make_first_missing(root, path, make)? {
            return Err(Errno::LOOP).during(Call::Openat2);
        }
    }
    Err(Errno::AGAIN).during(Call::Openat2)
}

/// Makes the first component of `path` that is not there.
fn make_first_missing(root: BorrowedFd<'_>, path: &[u8], make: Make) -> Outcome<Progress> {
    let mut buffer = [0u8; PATH_MAX];
    let mut parent = root.try_clone_to_owned().map_err(|_| Errno::MFILE).during(Call::Openat)?;
    let mut start = 0;
    while start < path.len() {
        let end = path[start..].iter().position(|&b| b == b'/').map_or(path.len(), |at| start + at);
        if end == start {
            start = end + 1;
            continue;
        }
        let prefix = terminated(&path[..end], &mut buffer).during(Call::Openat2)?;
        match open(root, prefix, OFlags::empty()) {
            Ok(fd) => parent = fd,
            Err(Errno::NOENT) => {
                let last = path[end..].iter().all(|&b| b == b'/');
                return make_one(parent.as_fd(), path, start, end, if last { make } else { Make::Directory });
            }
            Err(errno) => return Err(errno).during(Call::Openat2),
        }
        start = end + 1;
    }
    Ok(Progress::Made)
}

fn make_one(parent: BorrowedFd<'_>, path: &[u8], start: usize, end: usize, make: Make) -> Outcome<Progress> {
    let mut buffer = name_buffer();
    let name = terminated(&path[start..end], &mut buffer).during(Call::Mkdirat)?;
    match make_in(parent, name, make) {
        Ok(()) => Ok(Progress::Made),
        Err(fail) if fail.errno == Errno::EXIST => {
            // Either somebody else made it meanwhile, or it is a dangling link.
            let mut target = [std::mem::MaybeUninit::uninit(); PATH_MAX];
            let (target, _) = match readlinkat_raw(parent, name, &mut target) {
                Ok(target) => target,
                Err(Errno::INVAL) => return Ok(Progress::Made),
                Err(errno) => return Err(errno).during(Call::Readlinkat),
            };
            let keep: &[u8] = if target.first() == Some(&b'/') { b"" } else { &path[..start] };
            let mut wanted = Path::new(keep).during(Call::Readlinkat)?;
            wanted.push(target).during(Call::Readlinkat)?;
            wanted.push(&path[end..]).during(Call::Readlinkat)?;
            Ok(Progress::Link(wanted))
        }
        Err(fail) => Err(fail),
    }
}

/// The directory that the last node or link was made in: a dozen of them go to /dev.
#[derive(Debug)]
pub struct Parent {
    path: [u8; 64],
    len: usize,
    fd: Option<OwnedFd>,
}

impl Parent {
    /// None yet.
    #[must_use]
    pub const fn none() -> Parent {
        Parent { path: [0; 64], len: 0, fd: None }
    }

    /// Forgets the handle without closing it, see [`super::Scene::disown`].
    pub fn disown(&mut self) {
        std::mem::forget(self.fd.take());
    }

    /// Lets go of the handle.
    pub fn close(&mut self) {
        self.fd = None;
    }

    /// Splits `path` into its parent directory, opened (and made where missing), and the last name.
    ///
    /// For what is made by name: nodes, links. Fails with EINVAL for `/`, `.` and `..`.
    pub fn open<'b>(
        &mut self,
        root: BorrowedFd<'_>,
        path: &CStr,
        buffer: &'b mut [u8; NAME_SIZE],
    ) -> Outcome<(BorrowedFd<'_>, &'b CStr)> {
        let bytes = path.to_bytes();
        let trimmed = bytes.len() - bytes.iter().rev().take_while(|&&b| b == b'/').count();
        let bytes = &bytes[..trimmed];
        let slash = bytes.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        let (dir, name) = bytes.split_at(slash);
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::INVAL).during(Call::Openat2);
        }
        let name = terminated(name, buffer).during(Call::Openat2)?;
        let known = self.fd.is_some() && &self.path[..self.len] == dir;
        if !known {
            let at = if dir.is_empty() { b"/" } else { dir };
            let mut short = [0u8; SHORT];
            self.fd = Some(match terminated(at, &mut short) {
                Ok(at) => open_or_make(root, at, Make::Directory)?,
                Err(_) => open_long(root, at)?,
            });
            // A longer path is not remembered: no other compares equal to an empty one.
            self.len = if dir.len() <= self.path.len() { dir.len() } else { 0 };
            self.path[..self.len].copy_from_slice(&dir[..self.len]);
        }
        match &self.fd {
            Some(fd) => Ok((fd.as_fd(), name)),
            None => Err(Errno::BADF).during(Call::Openat2),
        }
    }
}

#[cold]
#[inline(never)]
fn open_long(root: BorrowedFd<'_>, dir: &[u8]) -> Outcome<OwnedFd> {
    let mut buffer = [0u8; PATH_MAX];
    let at = terminated(dir, &mut buffer).during(Call::Openat2)?;
    open_or_make(root, at, Make::Directory)
}

/// fstat(2) of a handle.
pub fn stat(fd: BorrowedFd<'_>) -> Outcome<Stat> {
    rustix::fs::fstat(fd).during(Call::Fstat)
}

/// fstatat(2) of a name, not following a link.
pub fn stat_nofollow(parent: BorrowedFd<'_>, name: &CStr) -> Outcome<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).during(Call::Fstat)
}

/// Is it a directory?
#[must_use]
pub fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A buffer for [`Parent::open`].
#[must_use]
pub fn name_buffer() -> [u8; NAME_SIZE] {
    [0; NAME_SIZE]
}
