//! The system-call layer: all unsafe code, one small wrapper per call.
//!
//! Wrappers are named after their man page, take and give typed fds that are
//! CLOEXEC from birth, and neither allocate nor know OCI: both the parent and
//! the child between clone3 and execve use them. Where rustix has a safe
//! wrapper of the same kind, callers use rustix directly.
#![allow(unsafe_code)]

pub mod bpf;
pub mod helper;
pub mod mount;
pub mod netlink;
pub mod network;
pub mod process;
mod raw;
pub mod settings;
pub mod shared;
pub mod stamps;
pub mod vfork;

use rustix::io::Errno;

/// A system call that failed in the child, as it travels to the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fail {
    pub call: Call,
    pub errno: Errno,
}

/// The child's result type: small, copyable, without allocation.
pub type Outcome<T = ()> = Result<T, Fail>;

/// Names the call that a raw result came from.
pub trait During<T> {
    /// Adds `call` to an errno.
    fn during(self, call: Call) -> Outcome<T>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, call: Call) -> Outcome<T> {
        self.map_err(|errno| Fail { call, errno })
    }
}

macro_rules! calls {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// The calls (and checks) that a child's error record can name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Call { $($variant),* }

        impl Call {
            const ALL: &'static [Call] = &[$(Call::$variant),*];

            /// The name as in the man page.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Call::$variant => $name),* }
            }

            /// The call with this number in an error record.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Call> {
                Call::ALL.get(usize::from(number)).copied()
            }
        }
    };
}

calls! {
    Accept = "accept4", CapsetLimit = "capset", ChdirCwd = "chdir", Chroot = "chroot", CloseRange = "close_range",
    Clone3 = "clone3", Execve = "execve", Faccessat = "faccessat", Fchdir = "fchdir",
    Fchmodat = "fchmodat", Fchown = "fchown", Fchownat = "fchownat", Fsconfig = "fsconfig", Fsmount = "fsmount",
    Fsopen = "fsopen", Fstat = "fstat", Fstatfs = "fstatfs", Getcwd = "getcwd", Getdents = "getdents64",
    HookStatus = "hook", HookTimeout = "hook timeout", Ioctl = "ioctl", IoprioSet = "ioprio_set",
    Keyctl = "keyctl", Lookup = "lookup in $PATH", MemfdCreate = "memfd_create", Mkdirat = "mkdirat",
    Mknodat = "mknodat", Mmap = "mmap", Mount = "mount", MountSetattr = "mount_setattr", MoveMount = "move_mount",
    Openat = "openat", Openat2 = "openat2", OpenTree = "open_tree", Personality = "personality",
    PidfdOpen = "pidfd_open", PivotRoot = "pivot_root", Poll = "poll", Prctl = "prctl",
    Prlimit = "prlimit", Read = "read", Readlinkat = "readlinkat", Recv = "recv",
    SchedSetaffinity = "sched_setaffinity", SchedSetattr = "sched_setattr", Seccomp = "seccomp", SendFd = "sendmsg", Setdomainname = "setdomainname", Setgroups = "setgroups",
    Sethostname = "sethostname", SetMempolicy = "set_mempolicy", Setns = "setns", Setpriority = "setpriority",
    Setresgid = "setresgid", Setresuid = "setresuid", Setsid = "setsid", Sigaction = "rt_sigaction", Sigprocmask = "rt_sigprocmask",
    Symlinkat = "symlinkat", TiocGPtPeer = "ioctl(TIOCGPTPEER)", TiocSCtty = "ioctl(TIOCSCTTY)",
    TiocSWinsz = "ioctl(TIOCSWINSZ)", Umount = "umount2", Unlinkat = "unlinkat", Unshare = "unshare",
    VerifyDevice = "fstat", VerifyDir = "fstat", VerifyProc = "fstatfs", Wait = "waitid", Write = "write", Dup = "dup3",
    SiocGskns = "ioctl(SIOCGSKNS)", SiocSifflags = "ioctl(SIOCSIFFLAGS)", Socket = "socket", ParentGone = "recv",
}
