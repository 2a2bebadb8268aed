//! tmpcopyup: what lies under a tmpfs, copied into it before it is attached.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Uid, chownat, fchmod, mkdirat, mknodat, openat, readlinkat_raw,
    sendfile, symlinkat,
};
use rustix::io::Errno;

use crate::sys::{Call, During, Outcome};

use super::inroot;

/// Directories deeper than this are an attack on our stack, not an image.
const DEPTH_MAX: usize = 64;

/// Copies the directory behind `from` into the one behind `to`: contents, owners, modes; no times.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Outcome {
    let from =
        openat(from, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).during(Call::Openat)?;
    let stat = inroot::stat(from.as_fd())?;
    let to =
        openat(to, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).during(Call::Openat)?;
    copy_directory(from.as_fd(), to.as_fd(), 0)?;
    finish(to.as_fd(), c"", &stat)?;
    fchmod(&to, mode(&stat)).during(Call::Fchmodat)
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

/// Gives a copy its owner; `name` empty means the handle itself.
fn finish(parent: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Outcome {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    chownat(parent, name, Some(uid), Some(gid), flags).during(Call::Fchownat)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Outcome {
    if depth > DEPTH_MAX {
        return Err(Errno::LOOP).during(Call::Getdents);
    }
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.during(Call::Getdents)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Outcome {
    // Says only what to open: owner and mode are those of what was opened, as the image may change meanwhile.
    let stat = inroot::stat_nofollow(from, name)?;
    let nofollow = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700)).during(Call::Mkdirat)?;
            let from = openat(from, name, OFlags::DIRECTORY | nofollow, Mode::empty()).during(Call::Openat)?;
            let stat = inroot::stat(from.as_fd())?;
            let made = openat(to, name, OFlags::DIRECTORY | nofollow, Mode::empty()).during(Call::Openat)?;
            copy_directory(from.as_fd(), made.as_fd(), depth + 1)?;
            finish(to, name, &stat)?;
            fchmod(&made, mode(&stat)).during(Call::Fchmodat)
        }
        FileType::RegularFile => {
            let source = openat(from, name, OFlags::RDONLY | nofollow, Mode::empty()).during(Call::Openat)?;
            let stat = inroot::stat(source.as_fd())?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(Errno::AGAIN).during(Call::Openat);
            }
            let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | nofollow;
            let made = openat(to, name, create, Mode::from_raw_mode(0o600)).during(Call::Openat)?;
            while sendfile(&made, &source, None, 1 << 20).during(Call::Write)? > 0 {}
            finish(to, name, &stat)?;
            fchmod(&made, mode(&stat)).during(Call::Fchmodat)
        }
        FileType::Symlink => {
            let mut target = [MaybeUninit::uninit(); libc::PATH_MAX as usize];
            let (target, rest) = readlinkat_raw(from, name, &mut target).during(Call::Readlinkat)?;
            let len = target.len();
            let Some(end) = rest.first_mut() else { return Err(Errno::NAMETOOLONG).during(Call::Readlinkat) };
            end.write(0);
            let mut text = [0u8; libc::PATH_MAX as usize];
            text[..len].copy_from_slice(target);
            let target = CStr::from_bytes_until_nul(&text).map_err(|_| Errno::INVAL).during(Call::Readlinkat)?;
            symlinkat(target, to, name).during(Call::Symlinkat)?;
            finish(to, name, &stat)
        }
        kind => {
            mknodat(to, name, kind, mode(&stat), stat.st_rdev).during(Call::Mknodat)?;
            finish(to, name, &stat)
        }
    }
}
