//! From clone3 to execve, in the order of `xebec plan` for the same bundle.

use core::convert::Infallible;
use core::ffi::CStr;

use crate::sys::{self, Fd, MOUNT_NODEV, MOUNT_NOEXEC, MOUNT_NOSUID, MOUNT_RDONLY, MOUNT_STRICTATIME};
use crate::{At, Failed, Order};

/// What the child has of its parent.
pub struct Scene<'a> {
    pub order: &'a Order,
    pub channel: Fd,
    /// The fifos of create.
    pub gate: Option<(Fd, Fd)>,
    pub netns: Option<Fd>,
    pub filter: &'static [u8],
}

impl Scene<'_> {
    fn in_user_namespace(&self) -> bool {
        self.order.get("userns").is_some()
    }
}

pub fn run(scene: &Scene<'_>) -> Result<Infallible, Failed> {
    close_the_parents(scene)?;
    enter_namespaces(scene)?;
    let root = mount_root(scene)?;
    mount_all(scene, root)?;
    make_devices(scene, root)?;
    protect_paths(root)?;
    change_root(root)?;
    // No handle of the host outlives the change.
    keep_only(scene, None).at(72)?;
    become_the_program()?;
    await_start(scene)?;
    execute(scene.filter, scene.order.must("program")?)
}

/// Only what we need stays open; death with the parent until create is done.
fn close_the_parents(scene: &Scene<'_>) -> Result<(), Failed> {
    const KILL: usize = 9;
    sys::prctl(1, KILL).at(70)?; // PR_SET_PDEATHSIG
    keep_only(scene, scene.netns).at(71)?;
    sys::sigprocmask(2, 0).at(73)?;
    sys::umask(0).at(74)?;
    Ok(())
}

/// Closes everything but stdio, the channel, the fifos and one more.
fn keep_only(scene: &Scene<'_>, more: Option<Fd>) -> sys::Result<usize> {
    const NONE: Fd = Fd(-1);
    let (start, report) = scene.gate.unwrap_or((NONE, NONE));
    let mut keep = [scene.channel.0, start.0, report.0, more.unwrap_or(NONE).0];
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.into_iter().filter(|fd| *fd >= 3).map(|fd| fd as u32) {
        if fd > from {
            sys::close_range(from, fd - 1, false)?;
        }
        from = fd + 1;
    }
    sys::close_range(from, u32::MAX, false)
}

fn enter_namespaces(scene: &Scene<'_>) -> Result<(), Failed> {
    if scene.in_user_namespace() {
        let mut byte = [0];
        sys::read(scene.channel, &mut byte).at(75)?;
        sys::become_root().at(76)?;
    }
    sys::prctl(4, 0).at(77)?; // PR_SET_DUMPABLE
    if let Some(netns) = scene.netns {
        sys::setns(netns, sys::NEWNET).at(78)?;
    }
    if scene.order.namespaces() & sys::NEWCGROUP != 0 {
        sys::unshare(sys::NEWCGROUP).at(79)?;
    }
    sys::setsid().at(80)?;
    sys::join_session_keyring(c"_ses.floor").at(81)?;
    if scene.netns.is_none() {
        sys::loopback_up().at(82)?;
    }
    sys::sethostname(c"floor").at(83)?;
    Ok(())
}

/// A clone of the root file system's mount over itself; nothing of it reaches the host.
fn mount_root(scene: &Scene<'_>) -> Result<Fd, Failed> {
    let path = scene.order.must("rootfs")?;
    sys::mount_setattr(sys::CWD, c"/", true, 0, sys::SLAVE).at(84)?;
    let root = sys::clone_tree(sys::CWD, path, true).at(85)?;
    let place = sys::openat(sys::CWD, path, sys::PATH | sys::DIRECTORY, 0).at(86)?;
    sys::move_mount(root, place).at(87)?;
    // pivot_root(2) refuses shared mounts.
    sys::mount_setattr(root, c"", true, 0, sys::PRIVATE).at(88)?;
    Ok(root)
}

/// A new file system at a directory below the root.
fn mount(root: Fd, kind: &CStr, at: &CStr, attributes: u64, options: &[(&CStr, &CStr)]) -> Result<Fd, Failed> {
    let context = sys::fsopen(kind).at(89)?;
    for (key, value) in options {
        sys::fsconfig_string(context, key, value).at(90)?;
    }
    sys::fsconfig_create(context).at(91)?;
    let tree = sys::fsmount(context, attributes).at(92)?;
    // NOFOLLOW: a link in the place of /proc or /sys is refused (CVE-2019-19921).
    let place = sys::open_in_root(root, at, sys::PATH | sys::DIRECTORY | sys::NOFOLLOW).at(93)?;
    sys::move_mount(tree, place).at(94)?;
    Ok(tree)
}

/// A directory inside a tmpfs of ours, for a mount.
fn mount_at_new(root: Fd, dir: Fd, name: &CStr, kind: &CStr, at: &CStr, options: &[(&CStr, &CStr)]) -> Result<(), Failed> {
    sys::mkdirat(dir, name, 0o755).at(95)?;
    let nodev = if kind == c"devpts" { 0 } else { MOUNT_NODEV };
    mount(root, kind, at, MOUNT_NOSUID | MOUNT_NOEXEC | nodev, options)?;
    Ok(())
}

fn mount_all(scene: &Scene<'_>, root: Fd) -> Result<(), Failed> {
    const STRICT: u64 = MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC;
    mount(root, c"proc", c"proc", 0, &[])?;
    let dev = mount(root, c"tmpfs", c"dev", MOUNT_NOSUID | MOUNT_STRICTATIME, &[(c"mode", c"755"), (c"size", c"65536k")])?;
    mount_at_new(root, dev, c"pts", c"devpts", c"dev/pts", &[(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")])?;
    mount_at_new(root, dev, c"shm", c"tmpfs", c"dev/shm", &[(c"mode", c"1777"), (c"size", c"65536k")])?;
    mount_at_new(root, dev, c"mqueue", c"mqueue", c"dev/mqueue", &[])?;
    mount(root, c"sysfs", c"sys", STRICT | MOUNT_RDONLY, &[])?;
    if scene.order.namespaces() & sys::NEWCGROUP != 0 {
        mount(root, c"cgroup2", c"sys/fs/cgroup", STRICT | MOUNT_RDONLY, &[])?;
        return Ok(());
    }
    // A fresh cgroup2 mount in the initial namespace can wait for RCU: the host's is bound.
    let tree = sys::clone_tree(sys::CWD, c"/sys/fs/cgroup", true).at(96)?;
    sys::mount_setattr(tree, c"", true, STRICT | MOUNT_RDONLY, sys::SLAVE).at(97)?;
    let place = sys::open_in_root(root, c"sys/fs/cgroup", sys::PATH | sys::DIRECTORY).at(100)?;
    sys::move_mount(tree, place).at(102)?;
    Ok(())
}

const NODES: [(&CStr, &CStr, u32); 6] = [
    (c"null", c"/dev/null", 0x103),
    (c"zero", c"/dev/zero", 0x105),
    (c"full", c"/dev/full", 0x107),
    (c"random", c"/dev/random", 0x108),
    (c"urandom", c"/dev/urandom", 0x109),
    (c"tty", c"/dev/tty", 0x500),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

fn make_devices(scene: &Scene<'_>, root: Fd) -> Result<(), Failed> {
    const CHARACTER: u32 = 0o020_000;
    let dev = sys::open_in_root(root, c"dev", sys::RDONLY | sys::DIRECTORY | sys::NOFOLLOW).at(103)?;
    for (name, host, device) in NODES {
        if !scene.in_user_namespace() {
            sys::mknodat(dev, name, CHARACTER | 0o666, device).at(104)?;
            continue;
        }
        // mknod is refused there: the host's node is bound.
        let file = sys::openat(dev, name, sys::WRONLY | sys::CREAT | sys::EXCL, 0o666).at(105)?;
        let tree = sys::clone_tree(sys::CWD, host, false).at(106)?;
        sys::move_mount(tree, file).at(107)?;
    }
    for (target, name) in LINKS {
        sys::symlinkat(target, dev, name).at(108)?;
    }
    Ok(())
}

const READ_ONLY: [&CStr; 5] = [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys", c"proc/sysrq-trigger"];

const MASKED: [&CStr; 12] = [
    c"proc/acpi",
    c"proc/asound",
    c"proc/interrupts",
    c"proc/kcore",
    c"proc/keys",
    c"proc/latency_stats",
    c"proc/timer_list",
    c"proc/timer_stats",
    c"proc/sched_debug",
    c"proc/scsi",
    c"sys/firmware",
    c"sys/devices/virtual/powercap",
];

/// What is not there needs no mask; any other failure counts.
fn open_if_there(root: Fd, path: &CStr) -> Result<Option<Fd>, Failed> {
    const ENOENT: i32 = -2;
    match sys::open_in_root(root, path, sys::PATH) {
        Err(ENOENT) => Ok(None),
        other => other.map(Some).at(109),
    }
}

fn protect_paths(root: Fd) -> Result<(), Failed> {
    const TYPE: u32 = 0o170_000;
    const DIRECTORY: u32 = 0o040_000;
    for path in READ_ONLY {
        let Some(place) = open_if_there(root, path)? else { continue };
        let tree = sys::clone_tree(place, c"", true).at(110)?;
        sys::mount_setattr(tree, c"", true, MOUNT_RDONLY, 0).at(111)?;
        sys::move_mount(tree, place).at(112)?;
    }
    let null = sys::open_in_root(root, c"dev/null", sys::PATH | sys::NOFOLLOW).at(113)?;
    if sys::fstat(null).at(114)?.1 != 0x103 {
        return Err(Failed(115));
    }
    let mut empty = None;
    for path in MASKED {
        let Some(place) = open_if_there(root, path)? else { continue };
        let mask = if sys::fstat(place).at(116)?.0 & TYPE != DIRECTORY {
            sys::clone_tree(null, c"", false).at(117)?
        } else if let Some(first) = empty {
            sys::clone_tree(first, c"", false).at(118)?
        } else {
            let context = sys::fsopen(c"tmpfs").at(119)?;
            sys::fsconfig_create(context).at(120)?;
            let tree = sys::fsmount(context, MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC).at(121)?;
            *empty.insert(tree)
        };
        sys::move_mount(mask, place).at(122)?;
    }
    sys::mount_setattr(root, c"", false, MOUNT_RDONLY, 0).at(123)?;
    Ok(())
}

fn change_root(root: Fd) -> Result<(), Failed> {
    let old = sys::openat(sys::CWD, c"/", sys::PATH | sys::DIRECTORY, 0).at(124)?;
    sys::fchdir(root).at(125)?;
    sys::pivot_root_here().at(126)?;
    // The old root is below us now; its unmounting must not travel to the host.
    sys::mount_setattr(old, c"", true, 0, sys::SLAVE).at(127)?;
    sys::fchdir(old).at(128)?;
    sys::detach(c".").at(129)?;
    sys::chdir(c"/").at(130)?;
    Ok(())
}

/// Limits, capabilities and no_new_privs of the bundle; the working directory is below the root.
pub fn become_the_program() -> Result<(), Failed> {
    const NOFILE: u32 = 7;
    // CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE
    const CAPABILITIES: u64 = 0x2000_0420;
    sys::prlimit(NOFILE, 1024, 1024).at(131)?;
    sys::umask(0o022).at(132)?;
    sys::prctl(8, 1).at(133)?; // PR_SET_KEEPCAPS
    for capability in 0..64 {
        // PR_CAPBSET_DROP; the first number that the kernel does not know ends the list.
        if CAPABILITIES >> capability & 1 == 0 && sys::prctl(24, capability).is_err() {
            break;
        }
    }
    sys::become_root().at(134)?;
    sys::capset(CAPABILITIES).at(135)?;
    sys::prctl(47, 4).at(136)?; // PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
    let mut path = [0; 256];
    sys::getcwd(&mut path).at(137)?;
    if path[0] != b'/' {
        return Err(Failed(138));
    }
    sys::prctl(38, 1).at(139)?; // PR_SET_NO_NEW_PRIVS
    Ok(())
}

/// Says that all is in place, lives on without the parent, and waits for G from run or S from start.
fn await_start(scene: &Scene<'_>) -> Result<(), Failed> {
    let mut byte = [0];
    if let Some((start, _)) = scene.gate {
        sys::prctl(1, 0).at(140)?;
        sys::write(scene.channel, b"R").at(141)?;
        sys::read(start, &mut byte).at(143)?;
    } else {
        sys::write(scene.channel, b"R").at(144)?;
        sys::read(scene.channel, &mut byte).at(145)?;
        sys::prctl(1, 0).at(146)?;
    }
    if byte[0] == 0 { Err(Failed(147)) } else { Ok(()) }
}

/// The last mile, of a container and of exec.
pub fn execute(filter: &[u8], program: &CStr) -> Result<Infallible, Failed> {
    sys::close_range(3, u32::MAX, true).at(148)?;
    if !filter.is_empty() {
        sys::seccomp(filter).at(149)?;
    }
    let argv = [program.as_ptr().addr(), 0];
    let envp = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ptr().addr(), 0];
    sys::execve(program, &argv, &envp).at(150)?;
    Err(Failed(151))
}
