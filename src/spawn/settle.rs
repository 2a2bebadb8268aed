//! The single acts of the parent's story.

use std::ffi::CString;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect as connect_socket, recvmsg, socket_with,
};

use crate::cgroup::Cgroup;
use crate::config::IdMapping;
use crate::error::{Error, Result};
use crate::init::{Scene, run as run_child, wire};
use crate::plan::{Join, Plan};
use crate::sys::process::{self, Child};
use crate::sys::settings;

use super::Options;

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// A handle of the runtime's /proc, which must be one.
pub fn open_proc() -> Result<OwnedFd> {
    let failed = |call: &str, errno| Error::sys("/proc", format!("{call}(\"/proc\")"), errno);
    let proc = openat(CWD, c"/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("openat", errno))?;
    match fstatfs(&proc).map_err(|errno| failed("fstatfs", errno))?.f_type as u64 {
        PROC_SUPER_MAGIC => Ok(proc),
        _ => Err(Error::invalid("/proc", "what is mounted there is not procfs").hint("mount -t proc proc /proc")),
    }
}

/// Opens a namespace to join and makes sure that it is of the right type (config-linux.md, "Namespaces").
pub fn open_namespace(join: &Join) -> Result<OwnedFd> {
    let item = format!("linux.namespaces[{}] {}", join.index, join.kind);
    let path = join.path.to_string_lossy();
    let fd = openat(CWD, &*join.path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(&item, format!("openat({path:?})"), errno))?;
    match settings::ns_type(fd.as_fd()) {
        Ok(kind) if kind == join.flag => Ok(fd),
        Ok(_) => Err(Error::invalid(item, format!("{path:?} is a namespace of another type"))),
        Err(_) => Err(Error::invalid(item, format!("{path:?} is not a namespace"))
            .hint("give a file such as /proc/PID/ns/net or /run/netns/NAME")),
    }
}

/// Connects to a socket that the caller listens on.
pub fn connect(option: &str, path: &Path) -> Result<OwnedFd> {
    let failed = |call: &str, errno| Error::sys(option, format!("{call}({:?})", path.display()), errno);
    let address = SocketAddrUnix::new(path).map_err(|errno| failed("connect", errno))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("socket", errno))?;
    connect_socket(&socket, &address).map_err(|errno| failed("connect", errno))?;
    Ok(socket)
}

/// Every fd that the caller wants to pass on must be there.
pub fn check_preserved_fds(count: u32) -> Result<()> {
    match (3..3 + count).find(|fd| !process::is_open(*fd)) {
        None => Ok(()),
        Some(fd) => Err(Error::invalid(
            "--preserve-fds",
            format!("{count} fds from 3 on are to be passed, but {fd} is not open"),
        )),
    }
}

/// Socket activation as sd_listen_fds(3) reads it: the program is pid 1 of its world.
pub fn add_socket_activation(env: &mut Vec<CString>, options: &Options) -> Result<()> {
    if options.listen_fds == 0 {
        return Ok(());
    }
    let mut lines = vec![format!("LISTEN_FDS={}", options.listen_fds), "LISTEN_PID=1".to_owned()];
    lines.extend(options.listen_fdnames.iter().map(|names| format!("LISTEN_FDNAMES={names}")));
    for line in lines {
        env.push(CString::new(line).map_err(|_| Error::invalid("LISTEN_FDNAMES", "contains a NUL byte"))?);
    }
    Ok(())
}

/// clone3 into the cgroup; a PID namespace to join is this process's for just that moment.
pub fn clone_child(plan: &Plan, joins: &[OwnedFd], cgroup: Option<BorrowedFd<'_>>, scene: Scene<'_>) -> Result<Child> {
    let pid_join = plan.namespaces.joins.iter().zip(joins).find(|(join, _)| join.kind == "pid");
    let flags = plan.namespaces.clone_flags();
    let clone = || {
        process::clone3(flags, cgroup, || run_child(scene)).map_err(|errno| {
            let kinds = plan.namespaces.new_kinds().join(" ");
            Error::sys("linux.namespaces", format!("clone3(new {kinds}, into the cgroup)"), errno)
        })
    };
    let Some((join, fd)) = pid_join else { return clone() };
    let item = format!("linux.namespaces[{}] pid", join.index);
    let own = openat(CWD, c"/proc/self/ns/pid_for_children", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(&item, "openat(\"/proc/self/ns/pid_for_children\")", errno))?;
    settings::setns(fd.as_fd(), join.flag)
        .map_err(|errno| Error::sys(&item, format!("setns({:?})", join.path.to_string_lossy()), errno))?;
    let child = clone();
    let back = settings::setns(own.as_fd(), join.flag).map_err(|errno| Error::sys(&item, "setns(own)", errno));
    let child = child?;
    back.map(|()| child)
}

/// What the parent does while the child builds its root: id maps, cgroup v1, limits, device filter.
pub fn settle(plan: &Plan, cgroup: &Cgroup<'_>, child: &Child, channel: BorrowedFd<'_>) -> Result<()> {
    let pid = child.pid.as_raw_nonzero().get();
    let gone = |errno| Error::sys("create", "send to the child", errno);
    if let Some(maps) = &plan.namespaces.maps {
        write_map(pid, "uid_map", &maps.uid)?;
        write_map(pid, "gid_map", &maps.gid)?;
        wire::send_byte(channel, wire::MAPPED).map_err(gone)?;
    }
    cgroup.place(pid.unsigned_abs(), cgroup.v2().is_some())?;
    if cgroup.has_v1() && plan.namespaces.is_new("cgroup") {
        wire::send_byte(channel, wire::PLACED).map_err(gone)?;
    }
    cgroup.apply()
}

/// user_namespaces(7): one write holds all lines.
fn write_map(pid: i32, file: &str, maps: &[IdMapping]) -> Result<()> {
    let lines: String = maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    let item = if file == "uid_map" { "linux.uidMappings" } else { "linux.gidMappings" };
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, &lines).map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        let lines = lines.trim_end().replace('\n', ", ");
        Error::sys(item, format!("write({path:?}, {lines:?})"), errno)
    })
}

/// Reads one message and the fd that may come with it.
pub fn receive_with_fd(channel: BorrowedFd<'_>) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0u8; wire::RECORD_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        retry_on_intr(|| recvmsg(channel, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC));
    let received = match received {
        Ok(message) => message.bytes,
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(Error::sys("create", "recvmsg from the child", errno)),
    };
    bytes.truncate(received);
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((bytes, rights))
}

/// Tells the caller which process it is: pid file and pidfd socket.
pub fn announce(options: &Options, child: &Child, pidfd_socket: Option<&OwnedFd>) -> Result<()> {
    if let Some(socket) = pidfd_socket {
        wire::send_fd(socket.as_fd(), b"pidfd", child.pidfd.as_fd())
            .map_err(|errno| Error::sys("--pidfd-socket", "sendmsg", errno))?;
    }
    match &options.pid_file {
        Some(path) => write_pid_file(path, child.pid.as_raw_nonzero().get()),
        None => Ok(()),
    }
}

/// Digits only, complete from the moment that the file appears.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let failed = |call: &str, path: &Path, e: &std::io::Error| {
        let errno = Errno::from_io_error(e).unwrap_or(Errno::IO);
        Error::sys("--pid-file", format!("{call}({:?})", path.display()), errno)
    };
    let name =
        path.file_name().ok_or_else(|| Error::invalid("--pid-file", format!("{:?} names no file", path.display())))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{pid}"));
    let temporary = path.with_file_name(temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .map_err(|e| failed("open", &temporary, &e))?;
    let written = file
        .write_all(pid.to_string().as_bytes())
        .map_err(|e| failed("write", &temporary, &e))
        .and_then(|()| std::fs::rename(&temporary, path).map_err(|e| failed("rename", path, &e)));
    if written.is_err() {
        // The first error counts; a leftover that cannot go is named by it too.
        let _ = std::fs::remove_file(&temporary).is_ok();
    }
    written
}
