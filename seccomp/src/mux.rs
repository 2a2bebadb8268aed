//! The calls that socketcall(2) and ipc(2) multiplex, with their selectors:
//! SYS_SOCKET = 1 and so on of uapi/linux/net.h, SEMOP = 1, MSGSND = 11,
//! SHMAT = 21 and so on of uapi/linux/ipc.h. Shared with build.rs, which turns
//! it into a column beside the numbers. Nothing else may be here.

// Read by build.rs only.
#[allow(dead_code)]
pub(crate) const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

// Read by build.rs only.
#[allow(dead_code)]
pub(crate) const IPC: [(&str, u8); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// Marks an ipc selector in a byte; without it the byte is a socketcall one.
pub(crate) const IPC_BIT: u8 = 0x80;
