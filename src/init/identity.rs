//! Who the process is: credentials, limits, home, and the program that it becomes.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, access, accessat, fchown, openat, openat2,
};
use rustix::io::Errno;
use rustix::thread::{set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::plan::step::Credentials;
use crate::sys::{Call, During, Outcome, settings};

use super::{Scene, Trouble, inroot};

/// Becomes root of the user namespace that we are in.
pub fn become_root() -> Outcome {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).during(Call::Setresgid)?;
    set_thread_res_uid(uid, uid, uid).during(Call::Setresuid)
}

/// Becomes the configured user with exactly the configured capabilities.
///
/// The bounding set shrinks first, while CAP_SETPCAP is there; the permitted
/// set survives the change of user by PR_SET_KEEPCAPS and is set last.
pub fn become_user(credentials: &Credentials) -> Outcome {
    for number in 0..64u32 {
        if credentials.bounding & 1 << number == 0 && !settings::drop_bounding(number).during(Call::Prctl)? {
            break;
        }
    }
    set_keep_capabilities(true).during(Call::Prctl)?;
    if let Some(groups) = &credentials.groups {
        set_thread_groups(groups).during(Call::Setgroups)?;
    }
    let (uid, gid) = (Uid::from_raw(credentials.uid), Gid::from_raw(credentials.gid));
    set_thread_res_gid(gid, gid, gid).during(Call::Setresgid)?;
    set_thread_res_uid(uid, uid, uid).during(Call::Setresuid)?;
    settings::capset(credentials.sets).during(Call::CapsetLimit)?;
    for number in (0..64u32).filter(|number| credentials.ambient & 1 << number != 0) {
        settings::raise_ambient(number).during(Call::Prctl)?;
    }
    set_keep_capabilities(false).during(Call::Prctl)
}

/// Changes to process.cwd; without the right to, it is tried again as the user.
pub fn change_directory(scene: &mut Scene, path: &CStr) -> Outcome {
    match rustix::process::chdir(path) {
        Err(Errno::ACCESS | Errno::PERM) => {
            scene.cwd_as_user = true;
            Ok(())
        }
        other => other.during(Call::ChdirCwd),
    }
}

/// The second try, and the proof that the directory lies below the root (CVE-2024-21626).
pub fn check_directory(path: &CStr) -> Outcome {
    rustix::process::chdir(path).during(Call::ChdirCwd)?;
    verify_directory()
}

/// ENOENT, as getcwd(2) says it, when the working directory is outside the root.
pub fn verify_directory() -> Outcome {
    match crate::sys::process::cwd_is_reachable().during(Call::Getcwd)? {
        true => Ok(()),
        false => Err(Errno::NOENT).during(Call::Getcwd),
    }
}

/// Gives the standard streams to the user, so that it can open /dev/stdout again.
///
/// Only terminals, pipes and sockets: a file on the host, or a device such as
/// /dev/null, keeps its owner (CVE-2026-88265).
pub fn own_stdio(uid: u32) -> Outcome {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        let ours = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo | FileType::Socket => true,
            FileType::CharacterDevice => rustix::termios::isatty(stream),
            _ => false,
        };
        if !ours || stat.st_uid == uid {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A user namespace that does not map the owner, or a read-only file system: it stays as it is.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno).during(Call::Fchown),
        }
    }
    Ok(())
}

/// Writes to a file of the runtime's own procfs: never through a link or onto another mount (CVE-2025-52881).
pub fn write_proc(proc: BorrowedFd<'_>, path: &CStr, value: &[u8], own: bool) -> Outcome {
    let mut how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    if !own {
        // `self` is a link of procfs itself; below sys there is none.
        how |= ResolveFlags::NO_SYMLINKS;
    }
    let file = openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), how).during(Call::Openat2)?;
    let written = rustix::io::write(&file, value).during(Call::Write)?;
    if written == value.len() { Ok(()) } else { Err(Errno::IO).during(Call::Write) }
}

/// Finds the home directory of `uid` in the container's passwd, for $HOME; `/` where there is none.
pub fn set_home(scene: &mut Scene, uid: u32) {
    let mut home = [0u8; 256];
    home[..6].copy_from_slice(b"HOME=/");
    let mut len = 6;
    if let Some(found) = home_of(uid, &mut home[5..]) {
        len = 5 + found;
    }
    scene.envp.set_spare(&home[..len]);
}

/// As much of passwd as is read: some 80,000 users.
const PASSWD_MAX: usize = 4 << 20;

/// Reads passwd in pieces; a file that is no regular file, has endless lines, or too many, gives nothing.
fn home_of(uid: u32, out: &mut [u8]) -> Option<usize> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(CWD, c"/etc/passwd", flags, Mode::empty()).ok()?;
    if FileType::from_raw_mode(inroot::stat(file.as_fd()).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut buffer = [0u8; 4096];
    let (mut filled, mut total) = (0, 0);
    while total < PASSWD_MAX {
        let read = rustix::io::read(&file, &mut buffer[filled..]).ok()?;
        total += read;
        let end = filled + read;
        let mut start = 0;
        while let Some(at) = buffer[start..end].iter().position(|&b| b == b'\n') {
            if let Some(len) = home_in_line(&buffer[start..start + at], uid, out) {
                return Some(len);
            }
            start += at + 1;
        }
        if read == 0 {
            return home_in_line(&buffer[start..end], uid, out);
        }
        if start == 0 && end == buffer.len() {
            return None;
        }
        buffer.copy_within(start..end, 0);
        filled = end - start;
    }
    None
}

/// passwd(5): name, password, uid, gid, gecos, home, shell.
fn home_in_line(line: &[u8], uid: u32, out: &mut [u8]) -> Option<usize> {
    let mut fields = line.split(|&b| b == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    if id.parse() != Ok(uid) {
        return None;
    }
    let home = fields.nth(2)?;
    // A NUL would end the variable early; what does not fit is no home.
    if home.is_empty() || home.contains(&0) || home.len() > out.len() {
        return None;
    }
    out[..home.len()].copy_from_slice(home);
    Some(home.len())
}

/// Looks for args[0] as execvp(3) does, with the user's rights.
pub fn find_program(scene: &mut Scene, trouble: &mut Trouble) -> Outcome {
    let candidates = &scene.plan.exec.candidates;
    let mut denied = None;
    for (index, path) in candidates.iter().enumerate() {
        match is_program(path) {
            Ok(()) => {
                scene.program = index;
                return Ok(());
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => denied = denied.or(Some((index, errno))),
        }
    }
    match denied {
        Some((index, errno)) => {
            trouble.index = index as u16;
            Err(errno).during(Call::Faccessat)
        }
        None if candidates.len() == 1 => Err(Errno::NOENT).during(Call::Faccessat),
        None => Err(Errno::NOENT).during(Call::Lookup),
    }
}

fn is_program(path: &CStr) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // An outer seccomp filter that does not know faccessat2 (Linux 5.8): the older call asks for the
        // real ids, which are the effective ones here.
        Err(Errno::PERM) => access(path, Access::EXEC_OK),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_comes_from_the_line_with_the_uid() {
        let mut out = [0u8; 32];
        let line = b"www:x:33:33:web:/var/www:/bin/sh";
        assert_eq!(home_in_line(line, 33, &mut out), Some(8));
        assert_eq!(&out[..8], b"/var/www");
        assert_eq!(home_in_line(line, 3, &mut out), None);
        for hostile in [&b""[..], b":::::::", b"a:x:33", b"a:x:33:1:g::", b"a:x:33:1:g:/\0x:/bin/sh"] {
            assert_eq!(home_in_line(hostile, 33, &mut out), None, "{hostile:?}");
        }
        let long = [&b"a:x:33:1:g:/"[..], &[b'x'; 64], b":/bin/sh"].concat();
        assert_eq!(home_in_line(&long, 33, &mut out), None);
    }
}
