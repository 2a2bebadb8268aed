//! The single acts of the parent's story.

use std::ffi::CString;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect as connect_socket, recvmsg, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions, dumpable_behavior, pidfd_open, set_dumpable_behavior,
    waitid,
};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::init::{Scene, run as run_child, wire};
use crate::plan::step::Step;
use crate::plan::{Join, Plan};
use crate::sys::process::{self, Child};
use crate::sys::shared::clone3_sharing;
use crate::sys::vfork::clone3_vfork;
use crate::sys::{Call, During, Fail, Outcome, settings};

use super::{Options, maps, refusal, tell};

/// How long whoever listens on a socket may take to accept, and to read what we send.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
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
    let item = join_item(join);
    let path = join.path.to_string_lossy();
    let fd = openat(CWD, &*join.path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(&item, format!("openat({path:?})"), errno))?;
    match settings::ns_type(fd.as_fd()) {
        Ok(kind) if kind == join.flag => refuse_own_mounts(join, &fd).map(|()| fd),
        Ok(_) => Err(Error::invalid(item, format!("{path:?} is a namespace of another type"))),
        Err(_) => Err(Error::invalid(item, format!("{path:?} is not a namespace"))
            .hint("give a file such as /proc/PID/ns/net or /run/netns/NAME")),
    }
}

/// In a joined mount namespace the root is switched for everybody: never in the runtime's own.
fn refuse_own_mounts(join: &Join, fd: &OwnedFd) -> Result<()> {
    if join.kind != "mount" {
        return Ok(());
    }
    let failed = |errno| Error::sys(join_item(join), "stat(\"/proc/self/ns/mnt\")", errno);
    let own = rustix::fs::stat(c"/proc/self/ns/mnt").map_err(failed)?;
    let joined = rustix::fs::fstat(fd).map_err(failed)?;
    if (own.st_dev, own.st_ino) != (joined.st_dev, joined.st_ino) {
        return Ok(());
    }
    Err(Error::invalid(
        join_item(join),
        "this is the runtime's own mount namespace, whose root the container would take",
    )
    .hint("leave the path out for a new one"))
}

/// Connects to a socket that the caller listens on.
pub fn connect(option: &str, path: &Path) -> Result<OwnedFd> {
    let failed = |call: &str, errno| Error::sys(option, format!("{call}({:?})", path.display()), errno);
    let address = SocketAddrUnix::new(path).map_err(|errno| failed("connect", errno))?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("socket", errno))?;
    set_socket_timeout(&socket, Timeout::Send, Some(SEND_PATIENCE)).map_err(|errno| failed("setsockopt", errno))?;
    connect_socket(&socket, &address).map_err(|errno| match errno {
        Errno::AGAIN => failed("connect", errno).hint("nobody has accepted the connection within 10 s"),
        _ => failed("connect", errno),
    })?;
    Ok(socket)
}

/// Every fd that the caller wants to pass on must be there, and be the caller's: a number that the caller left
/// free may by now be a directory of the host that we have opened, and a way out of the container.
pub fn check_preserved_fds(count: u32) -> Result<()> {
    match (3..3 + count).find(|fd| !process::is_inherited(*fd)) {
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

/// How the child is made.
#[derive(Debug, Clone, Copy)]
pub struct Birth<'b> {
    /// The new user namespace, where it is there already.
    pub user: Option<BorrowedFd<'b>>,
    /// The child works in our memory, and not in a copy of it.
    pub shares_memory: bool,
}

/// clone3 into the cgroup; namespaces that the parent joins are its own for just that moment.
pub fn clone_child(
    plan: &Plan,
    joins: &[OwnedFd],
    birth: Birth<'_>,
    cgroup: &Cgroup<'_>,
    scene: Scene,
) -> Result<Child> {
    if birth.shares_memory {
        // For good: whoever traced the child would have us (docs/decisions/shared-memory.md).
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| Error::sys("linux.namespaces", "prctl(PR_SET_DUMPABLE)", errno))?;
    }
    let joins = || plan.namespaces.joins.iter().zip(joins);
    let find = |kind: &str| joins().find(|(join, _)| join.kind == kind);
    let apart =
        if scene.network_comes { libc::CLONE_NEWNET } else { 0 } | birth.user.map_or(0, |_| libc::CLONE_NEWUSER);
    let flags = plan.namespaces.clone_flags() & !(apart as u64);
    let user = find("user");
    let clone = || match user {
        Some((join, fd)) => clone_inside(join, fd.as_fd(), find("pid").map(|(_, fd)| fd.as_fd()), flags, scene),
        None => clone_into(cgroup, birth, flags, scene)?.map_err(|fail| {
            let kinds = plan.namespaces.new_kinds();
            let call = match fail.call {
                Call::Clone3 => format!("clone3(new {}, into the cgroup)", kinds.join(" ")),
                Call::Mmap => "mmap(the child's stack)".to_owned(),
                call => format!("{}(new user)", call.name()),
            };
            refusal::explain(Error::sys("linux.namespaces", call, fail.errno), kinds)
        }),
    };
    let mut left = Vec::new();
    let entered = joins().filter(|(join, _)| join.by_parent && user.is_none()).try_for_each(|(join, fd)| {
        let written = format!("{:?}", join.path.to_string_lossy());
        left.push((join, enter(&join_item(join), &written, join.kind, fd.as_fd(), join.flag)?));
        Ok(())
    });
    let child = entered.and_then(|()| match left.iter().find(|(join, _)| join.kind == "pid") {
        Some((join, _)) => undumpable(&join_item(join), clone),
        None => clone(),
    });
    let back = left.iter().rev().try_for_each(|(join, own)| leave(&join_item(join), own.as_fd(), join.flag));
    let child = child?;
    back.map(|()| child)
}

/// clone3 into the cgroup, once more where that has to be threaded first.
fn clone_into(cgroup: &Cgroup<'_>, birth: Birth<'_>, flags: u64, scene: Scene) -> Result<Outcome<Child>> {
    let clone = |scene| clone_once(cgroup, birth, flags, scene);
    let made = match clone(Box::new(scene)) {
        Err(Refused { fail, scene: Some(scene) }) if fail.errno == Errno::OPNOTSUPP && cgroup.make_threaded()? => {
            clone(scene)
        }
        made => made,
    };
    Ok(made.map_err(|refused| refused.fail))
}

/// No child was made.
struct Refused {
    fail: Fail,
    /// For another try; not where a process in between has been killed with it.
    scene: Option<Box<Scene>>,
}

fn clone_once(
    cgroup: &Cgroup<'_>,
    birth: Birth<'_>,
    flags: u64,
    scene: Box<Scene>,
) -> std::result::Result<Child, Refused> {
    match birth.user {
        Some(user) => clone_by_another(cgroup, user, flags, birth.shares_memory, scene),
        None => clone_here(flags, cgroup.v2(), birth.shares_memory, scene),
    }
}

fn clone_here(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    shares_memory: bool,
    mut scene: Box<Scene>,
) -> std::result::Result<Child, Refused> {
    if shares_memory {
        let refused = |(fail, scene)| Refused { fail, scene: Some(scene) };
        return clone3_sharing(flags, cgroup, scene, |scene| run_child(scene)).map_err(refused);
    }
    let made = process::clone3(flags, cgroup, || run_child(&mut scene)).during(Call::Clone3);
    made.map_err(|fail| Refused { fail, scene: Some(scene) })
}

/// clone3 from inside the new user namespace: by a process that enters it in our place while we stand still, and is
/// in the cgroup already. Nobody else is in there, and nobody may trace us who could not before.
fn clone_by_another(
    cgroup: &Cgroup<'_>,
    user: BorrowedFd<'_>,
    flags: u64,
    shares_memory: bool,
    scene: Box<Scene>,
) -> std::result::Result<Child, Refused> {
    let (mut scene, mut made) = (Some(scene), None);
    // It shares our descriptors: the pidfd of its sibling is ours. So is what it allocates, while we stand still.
    let between = clone3_vfork(cgroup.v2(), true, || {
        let Some(scene) = scene.take() else { return 0 };
        made = Some(match settings::setns(user, libc::CLONE_NEWUSER as u64).during(Call::Setns) {
            Ok(()) => clone_here(flags | libc::CLONE_PARENT as u64, None, shares_memory, scene),
            Err(fail) => Err(Refused { fail, scene: Some(scene) }),
        });
        0
    });
    let errno = match between {
        Err(errno) => errno,
        Ok(between) => {
            // It has ended, or we would not go on; what is not fetched is the kernel's to tidy up after us.
            retry_on_intr(|| waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
            Errno::CHILD
        }
    };
    made.unwrap_or(Err(Refused { fail: Fail { call: Call::Clone3, errno }, scene }))
}

/// Calls `clone` for a child that is born among strangers, who must not ptrace it: it inherits this.
pub fn undumpable<T>(item: &str, clone: impl FnOnce() -> Result<T>) -> Result<T> {
    let failed = |errno| Error::sys(item, "prctl(PR_SET_DUMPABLE)", errno);
    let dumpable = dumpable_behavior().map_err(|errno| Error::sys(item, "prctl(PR_GET_DUMPABLE)", errno))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    let child = clone();
    set_dumpable_behavior(dumpable).map_err(failed)?;
    child
}

/// Calls `clone` with the PID namespace for children that `fd` has, and goes back to our own.
///
/// A user namespace among the `flags` has no way back: this process stays in both. And the root of a user
/// namespace may not go back to a PID namespace that an outer one owns, as rootless engines call us: what
/// it would start from then on would be in the container's, so it starts nothing more but hooks.
pub fn in_namespaces<T>(
    item: &str,
    written: &str,
    fd: BorrowedFd<'_>,
    flags: u64,
    clone: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let own = enter(item, written, "pid", fd, flags)?;
    let child = clone();
    if flags & libc::CLONE_NEWUSER as u64 != 0 {
        return child;
    }
    let back = leave(item, own.as_fd(), libc::CLONE_NEWPID as u64);
    let child = child?;
    match back {
        Err(error) if error.errno() == Some(Errno::PERM) => Ok(child),
        back => back.map(|()| child),
    }
}

/// Goes into a namespace, and gives the way back.
fn enter(item: &str, written: &str, kind: &str, fd: BorrowedFd<'_>, flags: u64) -> Result<OwnedFd> {
    let own = own_namespace(item, kind)?;
    settings::setns(fd, flags).map_err(|errno| Error::sys(item, format!("setns({written})"), errno))?;
    Ok(own)
}

/// The namespace of this kind that this process is in. The one of its PIDs stays its own whatever it
/// joins, so that a pidfd, which takes no path through /proc, leads back to it.
fn own_namespace(item: &str, kind: &str) -> Result<OwnedFd> {
    let name = match kind {
        "pid" => return process::pidfd_open_self().map_err(|errno| Error::sys(item, "pidfd_open(own)", errno)),
        "network" => "net",
        other => other,
    };
    let path = format!("/proc/self/ns/{name}");
    openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::sys(item, format!("openat({path:?})"), errno))
}

fn leave(item: &str, own: BorrowedFd<'_>, flag: u64) -> Result<()> {
    settings::setns(own, flag).map_err(|errno| Error::sys(item, "setns(own)", errno))
}

fn join_item(join: &Join) -> String {
    format!("linux.namespaces[{}] {}", join.index, join.kind)
}

/// clone3 from inside a user namespace, so that the new namespaces belong to it.
///
/// setns(2) into a user namespace has no way back, so a process in between does
/// it; its child is ours (CLONE_PARENT) and reports nothing else. It is not
/// cloned into the cgroup: whoever is only root in there may not write to it. A PID namespace
/// may belong to the runtime's user namespace or to the joined one: what may not be joined before may be after.
fn clone_inside(
    join: &Join,
    namespace: BorrowedFd<'_>,
    pids: Option<BorrowedFd<'_>>,
    flags: u64,
    mut scene: Scene,
) -> Result<Child> {
    let failed =
        |call: &str, errno| Error::sys(join_item(join), format!("{call}({:?})", join.path.to_string_lossy()), errno);
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| failed("pipe2", errno))?;
    let between = process::clone3(0, None, || {
        let join_pids = || pids.map_or(Ok(()), |pids| settings::setns(pids, libc::CLONE_NEWPID as u64));
        let made = set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map(|()| join_pids())
            .and_then(|first| settings::setns(namespace, join.flag).map(|()| first))
            .and_then(|first| become_root().map(|()| first))
            .and_then(|first| if first == Err(Errno::PERM) { join_pids() } else { first })
            .and_then(|()| process::clone3(flags | libc::CLONE_PARENT as u64, None, || run_child(&mut scene)));
        let (pid, errno) = match made {
            Ok(child) => (child.pid.as_raw_nonzero().get(), 0),
            Err(errno) => (0, errno.raw_os_error()),
        };
        let mut message = [0u8; 8];
        message[..4].copy_from_slice(&pid.to_le_bytes());
        message[4..].copy_from_slice(&errno.to_le_bytes());
        i32::from(rustix::io::write(&write, &message) != Ok(8))
    })
    .map_err(|errno| failed("clone3", errno))?;
    let mut message = [0u8; 8];
    drop(write);
    let read = retry_on_intr(|| rustix::io::read(&read, &mut message));
    let ended = retry_on_intr(|| waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED));
    ended.map_err(|errno| failed("waitid", errno))?;
    let number = |at: usize| i32::from_le_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    match (read, Pid::from_raw(number(0)), number(4)) {
        // Our own child, not yet waited for: the pid cannot be anybody else's.
        (Ok(8), Some(pid), _) => {
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed("pidfd_open", errno))?;
            Ok(Child { pid, pidfd })
        }
        (Ok(8), None, errno @ 1..4096) => Err(failed("setns and clone3", Errno::from_raw_os_error(errno))),
        (Err(errno), ..) => Err(failed("read", errno)),
        _ => Err(failed("clone3", Errno::CHILD)),
    }
}

/// Root of the user namespace, which the kernel does not make us by joining it.
fn become_root() -> std::result::Result<(), Errno> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// The ids of a new user namespace: the child can do nothing before it has them.
pub fn map_ids(plan: &Plan, child: &Child, channel: BorrowedFd<'_>) -> Result<()> {
    let Some(maps) = &plan.namespaces.maps else { return Ok(()) };
    maps::write_maps(child.pid.as_raw_nonzero().get(), maps, plan.map_writers)?;
    tell(channel, wire::MAPPED, child, plan)
}

/// What the parent does while the child builds its root: id maps, unit or cgroup v1, limits, device filter.
pub fn settle(plan: &Plan, cgroup: &mut Cgroup<'_>, child: &Child, channel: BorrowedFd<'_>) -> Result<()> {
    let pid = child.pid.as_raw_nonzero().get();
    if let Some(score) = plan.oom_score_adj {
        write_oom_score(pid.unsigned_abs(), score)?;
    }
    let inside = plan.cgroup.unit.is_some() || (cgroup.v2().is_some() && !plan.namespaces.joins_user());
    cgroup.start_unit(pid.unsigned_abs())?;
    // Limits first: cgroup v1's device list is for a moment empty while it is written.
    cgroup.apply()?;
    cgroup.place(pid.unsigned_abs(), inside)?;
    // The plan decides: a rootless container may have been made without the cgroups it planned.
    if plan.steps.iter().any(|step| matches!(step, Step::CgroupNamespace { wait: true })) {
        tell(channel, wire::PLACED, child, plan)?;
    }
    Ok(())
}

/// proc_pid_oom_score_adj(5); children inherit it.
pub fn write_oom_score(pid: u32, score: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(&path, score.to_string()).map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        Error::sys("process.oomScoreAdj", format!("write({path:?}, \"{score}\")"), errno)
    })
}

/// Reads one message and the fd that may come with it.
pub fn receive_with_fd(channel: BorrowedFd<'_>) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0u8; wire::RECORD_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut receive = || {
        retry_on_intr(|| recvmsg(channel, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC))
    };
    let received = match receive() {
        // A child that dies with a byte of ours unread resets the connection; that is told
        // first and once, and its last message comes after it.
        Err(Errno::CONNRESET) => receive(),
        other => other,
    };
    let received = received.map_err(|errno| Error::sys("create", "recvmsg from the child", errno))?.bytes;
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
        std::fs::remove_file(&temporary).ok();
    }
    written
}
