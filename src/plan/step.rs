//! The child's steps: what `init` does between clone3 and execve, in order.
//!
//! A step holds everything it needs as C strings and numbers, so that the child
//! neither allocates nor decides. The list is also what `xebec plan` prints and
//! what an error record's step number refers to.

use std::ffi::CString;

use rustix::process::Gid;

use crate::config::IdMapping;
use crate::sys::mount::MountAttr;
use crate::sys::settings::{CapSets, SchedAttr};

/// CPUs 0 to 8191, the most that any kernel is built for, one bit each.
pub type CpuMask = Box<[u64; 128]>;

/// One act of the child.
#[derive(Debug)]
pub enum Step {
    /// Writes /proc/self/oom_score_adj.
    OomScoreAdj(CString),
    /// Waits until the parent has written the id maps, then becomes root in the user namespace.
    UserNamespaceRoot,
    /// prctl(PR_SET_DUMPABLE, 0), before any namespace is joined: no one there may ptrace or read us.
    Undumpable,
    /// setns into an existing namespace; `slot` counts the fds that the parent opened.
    Join {
        kind: &'static str,
        flag: u64,
        path: CString,
        slot: usize,
    },
    /// `exec`: setns into all the container's namespaces at once, by init's pidfd.
    JoinContainer {
        namespaces: u64,
        become_root: bool,
    },
    /// `exec`: waits until the parent has placed us in the container's cgroup v1 hierarchies.
    AwaitPlacement,
    /// `exec`: says so, and from here on the parent's death is not ours.
    Outlive,
    /// sched_setaffinity(2).
    Affinity(CpuMask),
    /// unshares the cgroup namespace; on cgroup v1 when the parent has placed us there.
    CgroupNamespace {
        wait: bool,
    },
    /// unshares the time namespace with these lines of /proc/self/timens_offsets, and enters it.
    TimeNamespace {
        offsets: CString,
    },
    /// setsid(2).
    Session,
    /// A new session keyring of this name.
    Keyring(CString),
    /// Brings `lo` up.
    Loopback,
    /// Enters the network namespace that was made meanwhile, with `lo` up.
    Network,
    /// Waits until the parent has moved the network devices in: sysctls may name them.
    NetDevices,
    Hostname(CString),
    Domainname(CString),
    /// Sets the propagation of the mounts we were cloned with, so that ours do not reach the host.
    HostPropagation {
        flags: u64,
        word: &'static str,
    },
    /// Clones the root file system's mounts and attaches the clone over itself.
    Rootfs {
        path: CString,
        isolate_parent: bool,
    },
    /// Clones the root file system's mounts, and with `null` the host's /dev/null for masks, before we leave the
    /// host's mount namespace.
    CloneRootfs {
        path: CString,
        flags: u64,
        word: &'static str,
        null: bool,
    },
    /// Goes into the small mount namespace, makes our own from it, and attaches the clone of the root file system.
    SmallNamespace,
    /// Opens the root file system where there is no mount namespace to change.
    RootDirectory(CString),
    Mount(Box<MountStep>),
    /// mkdir -p below the root for process.cwd.
    WorkingDirectory(CString),
    Device(DeviceStep),
    /// A link below /dev; what is there already stays, or goes first with `replace`.
    DevLink {
        path: CString,
        target: CString,
        replace: bool,
    },
    /// Makes a terminal of the container's devpts, binds it on /dev/console, takes it as stdio.
    Console {
        bind: bool,
        size: Option<(u16, u16)>,
    },
    Sysctl {
        name: String,
        path: CString,
        value: CString,
    },
    /// Tells the parent that the mounts are there and waits while it runs the hooks of its side.
    ///
    /// `dumpable`: meanwhile /proc/PID/ns is open to hooks that run without privileges.
    RuntimeHooks {
        dumpable: bool,
    },
    /// Runs `hooks.createContainer[n]`.
    CreateContainerHook(usize),
    /// Applies the `ro` of a tmpfs after its mount points are made.
    LateReadonly {
        mount: usize,
        path: CString,
        slot: usize,
    },
    RootReadonly,
    ReadonlyPath {
        index: usize,
        path: CString,
    },
    MaskedPath {
        index: usize,
        path: CString,
    },
    /// Makes the root file system the root of the mount namespace and drops the old one.
    PivotRoot,
    /// The same by moving the mount and chroot(2) (--no-pivot: roots that pivot_root refuses).
    MoveRoot,
    /// chroot(2) alone, in a container without a mount namespace of its own.
    Chroot,
    RootPropagation {
        flags: u64,
        word: &'static str,
    },
    Scheduler(SchedAttr),
    IoPriority(u32),
    MemoryPolicy {
        mode: i32,
        nodes: Box<[u64; 16]>,
    },
    Personality(u32),
    Rlimit {
        index: usize,
        name: &'static str,
        resource: u32,
        soft: u64,
        hard: u64,
    },
    /// Gives the standard streams that are terminals or pipes to the user.
    StdioOwner {
        uid: u32,
    },
    /// umask(2): the configured one, or the caller's, which our own 0 has stood in for.
    Umask(Option<u32>),
    NoNewPrivileges,
    /// chdir(2) with the rights of root; a failure is tried again as the user.
    Chdir(CString),
    User(Box<Credentials>),
    /// The second try, and the proof that the working directory lies below the root.
    CheckDirectory(CString),
    /// Sets $HOME from the container's passwd where the config has none.
    Home {
        uid: u32,
    },
    /// Finds args[0], as execvp(3) would.
    FindProgram,
    /// Reports ready. What follows happens at `start`.
    Ready,
    /// Runs `hooks.startContainer[n]`.
    StartContainerHook(usize),
    /// Writes the label of the next execve to /proc/self/attr.
    ExecLabel {
        apparmor: bool,
        label: CString,
    },
    /// Closes every handle that leads out of the container: from here on paths of the image
    /// are resolved in our name, and /proc/self/fd leads to whatever is open (CVE-2024-21626).
    DropHandles,
    /// Marks all fds close-on-exec, but for those that the program is to have.
    CloseFiles,
    /// Loads the seccomp filter.
    Seccomp,
    /// execve(2).
    Exec,
}

/// One entry of `mounts`.
#[derive(Debug)]
pub struct MountStep {
    /// The place in `mounts`; `None` for the runtime's own.
    pub index: Option<usize>,
    /// Path below the root.
    pub destination: CString,
    pub what: MountWhat,
    /// For this mount.
    pub attr: MountAttr,
    /// For this mount and all below it.
    pub recursive_attr: MountAttr,
    /// Propagation changes, each for the mount alone or its tree.
    pub propagation: Vec<(u64, bool)>,
    /// proc and sysfs: the destination must be a real directory (CVE-2019-19921).
    pub exact_destination: bool,
    /// Keep the fd: `ro` comes later.
    pub late_readonly: bool,
}

/// Where the mounted tree comes from.
#[derive(Debug)]
pub enum MountWhat {
    /// A clone of what is at `source`.
    Bind { source: CString, recursive: bool },
    /// The same, cloned by the parent, whose rights it takes.
    Tree(Tree),
    /// A new file system.
    New(FileSystem),
    /// A change of what is mounted at the destination.
    Remount,
    /// cgroup v1: a tmpfs with a directory for each hierarchy, bound from the host.
    /// One that is not there is left out where `optional`: a rootless container may run without cgroups.
    CgroupV1 { hierarchies: Vec<Hierarchy>, optional: bool },
}

/// A bind mount that the parent clones: the container's root may not be able to reach the source, to leave out
/// what is mounted below it, to change its flags, or to map its ids.
#[derive(Debug)]
pub struct Tree {
    pub source: CString,
    /// Bind the whole tree.
    pub recursive: bool,
    pub map: Option<TreeMap>,
    /// Counts the trees that the parent makes.
    pub slot: usize,
}

/// Mapped ids of a bind mount (mount_setattr(2), MOUNT_ATTR_IDMAP).
#[derive(Debug)]
pub struct TreeMap {
    /// Map the whole tree.
    pub recursive: bool,
    pub uid: Vec<IdMapping>,
    pub gid: Vec<IdMapping>,
}

/// A file system to be made by fsopen(2).
#[derive(Debug)]
pub struct FileSystem {
    pub kind: CString,
    pub source: Option<CString>,
    /// Options for fsconfig(2): a flag, or a key with its value.
    pub options: Vec<(CString, Option<CString>)>,
    /// Copy what the destination holds into it.
    pub copy_up: bool,
    /// mount(2)'s flags and data, where a value is too long for fsconfig(2) (256 bytes).
    pub legacy: Option<(u64, CString)>,
}

/// One cgroup v1 hierarchy in the container's /sys/fs/cgroup.
#[derive(Debug)]
pub struct Hierarchy {
    pub name: CString,
    pub source: CString,
    /// Links to it, such as `cpu` to `cpu,cpuacct`.
    pub links: Vec<CString>,
}

/// A device node to be there.
#[derive(Debug)]
pub struct DeviceStep {
    /// The place in linux.devices; `None` for a default device.
    pub index: Option<usize>,
    pub path: CString,
    /// File type and permissions.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bind the host's node: mknod is refused in a user namespace.
    pub bind: bool,
}

/// Everything of capabilities(7) and credentials(7) that is set in one go.
#[derive(Debug)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// `None`: leave the list alone (a user namespace that denies setgroups, nothing asked for).
    pub groups: Option<Vec<Gid>>,
    pub bounding: u64,
    pub sets: CapSets,
    pub ambient: u64,
}
