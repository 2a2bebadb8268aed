//! System calls without a libc, and the few symbols that the compiler expects of one.
//! All unsafe code of the floor; every wrapper is its man page's call, with -errno as the error.

use core::arch::{asm, global_asm};
use core::ffi::CStr;

// The kernel hands argc, argv and envp on the stack (System V ABI, "Process Initialization").
global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call {entry}",
    "ud2",
    entry = sym entry,
    options(att_syntax)
);

extern "C" fn entry(stack: *const usize) -> ! {
    // SAFETY: the stack begins with argc, and argv has that many pointers to strings that live for ever.
    let words = unsafe { core::slice::from_raw_parts(stack.add(1).cast::<*const i8>(), *stack) };
    exit(crate::main(Words(words)))
}

/// argv.
#[derive(Clone, Copy)]
pub struct Words(&'static [*const i8]);

impl Words {
    pub fn get(self, at: usize) -> Option<&'static CStr> {
        // SAFETY: argv's entries are NUL-terminated and live as long as the process.
        self.0.get(at).map(|word| unsafe { CStr::from_ptr(word.cast()) })
    }

    /// The strings as they came, NULL-terminated by the kernel.
    pub fn argv(self) -> usize {
        self.0.as_ptr().addr()
    }

    /// The environment follows argv's NULL.
    pub fn envp(self) -> usize {
        self.0.as_ptr().addr() + (self.0.len() + 1) * size_of::<usize>()
    }
}

// The compiler emits calls of these; `rep` serves their few bytes.
global_asm!(
    ".globl memcpy", "memcpy:", "mov %rdi, %rax", "mov %rdx, %rcx", "rep movsb", "ret",
    ".globl memset", "memset:", "mov %rdi, %r8", "mov %esi, %eax", "mov %rdx, %rcx", "rep stosb", "mov %r8, %rax", "ret",
    ".globl memcmp", ".globl bcmp", "memcmp:", "bcmp:", "xor %eax, %eax", "test %rdx, %rdx", "je 2f",
    "1:", "movzbl (%rdi), %eax", "movzbl (%rsi), %ecx", "sub %ecx, %eax", "jne 2f",
    "inc %rdi", "inc %rsi", "dec %rdx", "jne 1b", "2:", "ret",
    ".globl strlen", "strlen:", "xor %eax, %eax", "3:", "cmpb $0, (%rdi,%rax)", "je 4f", "inc %rax", "jmp 3b", "4:", "ret",
    options(att_syntax)
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

/// -errno.
pub type Result<T> = core::result::Result<T, i32>;

fn call(number: usize, a: [usize; 6]) -> Result<usize> {
    let answer: isize;
    // SAFETY: the callers below pass pointers to live memory of the size that the call's man page asks for.
    unsafe {
        asm!("syscall", inlateout("rax") number => answer, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if (-4095..0).contains(&answer) { Err(answer as i32) } else { Ok(answer as usize) }
}

macro_rules! sys {
    ($number:expr $(, $arg:expr)*) => {{
        let given = [$($arg as usize),*];
        let mut all = [0usize; 6];
        let mut at = 0;
        while at < given.len() { all[at] = given[at]; at += 1; }
        call($number, all)
    }};
}

fn text(text: &CStr) -> usize {
    text.as_ptr().addr()
}

/// A file descriptor: closed by the end of the process, or by close_range.
#[derive(Clone, Copy)]
pub struct Fd(pub i32);

pub const CWD: Fd = Fd(-100);

fn fd(answer: usize) -> Fd {
    Fd(answer as i32)
}

pub fn exit(status: i32) -> ! {
    loop {
        let _never = sys!(231, status);
    }
}

pub const RDONLY: i32 = 0;
pub const WRONLY: i32 = 1;
pub const RDWR: i32 = 2;
pub const CREAT: i32 = 0o100;
pub const EXCL: i32 = 0o200;
pub const NONBLOCK: i32 = 0o4000;
pub const DIRECTORY: i32 = 0o200_000;
pub const NOFOLLOW: i32 = 0o400_000;
const CLOEXEC: i32 = 0o2_000_000;
pub const PATH: i32 = 0o10_000_000;

pub fn openat(dir: Fd, path: &CStr, flags: i32, mode: u32) -> Result<Fd> {
    sys!(257, dir.0, text(path), flags | CLOEXEC, mode).map(fd)
}

/// openat2(2): nothing of the root file system leads out of it (RESOLVE_IN_ROOT), no magic links.
pub fn open_in_root(root: Fd, path: &CStr, flags: i32) -> Result<Fd> {
    let how = [(flags | CLOEXEC) as u64, 0, 0x10 | 0x02];
    sys!(437, root.0, text(path), how.as_ptr().addr(), 24).map(fd)
}

pub fn close(fd: Fd) -> Result<usize> {
    sys!(3, fd.0)
}

/// CLOSE_RANGE_CLOEXEC with `mark`, else closes.
pub fn close_range(from: u32, to: u32, mark: bool) -> Result<usize> {
    sys!(436, from, to, if mark { 4 } else { 0 })
}

pub fn read(fd: Fd, into: &mut [u8]) -> Result<usize> {
    sys!(0, fd.0, into.as_mut_ptr().addr(), into.len())
}

pub fn write(fd: Fd, bytes: &[u8]) -> Result<usize> {
    sys!(1, fd.0, bytes.as_ptr().addr(), bytes.len())
}

pub fn mkdirat(dir: Fd, path: &CStr, mode: u32) -> Result<usize> {
    sys!(258, dir.0, text(path), mode)
}

pub fn unlinkat(dir: Fd, path: &CStr) -> Result<usize> {
    sys!(263, dir.0, text(path), 0)
}

pub fn rmdir(path: &CStr) -> Result<usize> {
    sys!(84, text(path))
}

pub fn renameat(dir: Fd, from: &CStr, to: &CStr) -> Result<usize> {
    sys!(264, dir.0, text(from), dir.0, text(to))
}

pub fn mknodat(dir: Fd, path: &CStr, mode: u32, device: u32) -> Result<usize> {
    sys!(259, dir.0, text(path), mode, device)
}

pub fn symlinkat(target: &CStr, dir: Fd, path: &CStr) -> Result<usize> {
    sys!(266, text(target), dir.0, text(path))
}

pub fn fchdir(fd: Fd) -> Result<usize> {
    sys!(81, fd.0)
}

pub fn chdir(path: &CStr) -> Result<usize> {
    sys!(80, text(path))
}

/// getcwd(2) gives `(unreachable)…` where the directory lies outside the root.
pub fn getcwd(into: &mut [u8]) -> Result<usize> {
    sys!(79, into.as_mut_ptr().addr(), into.len())
}

pub fn flock_exclusive(fd: Fd) -> Result<usize> {
    sys!(73, fd.0, 2)
}

/// st_mode, st_rdev and st_ino of stat(2).
pub fn fstat(fd: Fd) -> Result<(u32, u64, u64)> {
    let mut stat = [0u64; 18];
    sys!(5, fd.0, stat.as_mut_ptr().addr())?;
    Ok((stat[3] as u32, stat[5], stat[1]))
}

/// f_flags of statfs(2).
pub fn statfs_flags(path: &CStr) -> Result<u64> {
    let mut statfs = [0u64; 15];
    sys!(137, text(path), statfs.as_mut_ptr().addr())?;
    Ok(statfs[10])
}

pub const NEWNS: u64 = 0x2_0000;
pub const NEWCGROUP: u64 = 0x200_0000;
pub const NEWUTS: u64 = 0x400_0000;
pub const NEWIPC: u64 = 0x800_0000;
pub const NEWUSER: u64 = 0x1000_0000;
pub const NEWPID: u64 = 0x2000_0000;
pub const NEWNET: u64 = 0x4000_0000;

/// clone3(2) into a cgroup, with a pidfd: `None` in the child, pid and pidfd in the parent.
pub fn clone3(flags: u64, cgroup: Fd) -> Result<Option<(i32, Fd)>> {
    let mut pidfd: i32 = -1;
    // CLONE_PIDFD and CLONE_INTO_CGROUP; SIGCHLD.
    let args: [u64; 11] = [
        flags | 0x1000 | 0x2_0000_0000, (&raw mut pidfd).addr() as u64, 0, 0, 17, 0, 0, 0, 0, 0, cgroup.0 as u64,
    ];
    let pid = sys!(435, args.as_ptr().addr(), size_of_val(&args))?;
    // SAFETY: the kernel has written it behind the compiler's back.
    let pidfd = unsafe { core::ptr::read_volatile(&raw const pidfd) };
    Ok((pid != 0).then_some((pid as i32, Fd(pidfd))))
}

pub fn unshare(flags: u64) -> Result<usize> {
    sys!(272, flags)
}

pub fn setns(fd: Fd, flags: u64) -> Result<usize> {
    sys!(308, fd.0, flags)
}

pub fn pidfd_open(pid: i32) -> Result<Fd> {
    sys!(434, pid, 0).map(fd)
}

pub fn pidfd_send_signal(pidfd: Fd, signal: i32) -> Result<usize> {
    sys!(424, pidfd.0, signal, 0, 0)
}

/// waitid(P_PIDFD, WEXITED): si_code and si_status.
pub fn wait(pidfd: Fd) -> Result<(i32, i32)> {
    let mut info = [0i32; 32];
    sys!(247, 3, pidfd.0, info.as_mut_ptr().addr(), 4, 0)?;
    Ok((info[2], info[6]))
}

/// poll(2) for POLLIN: bit n is set where fd n has something.
pub fn poll<const N: usize>(fds: [Fd; N], timeout: i32) -> Result<u32> {
    let mut entries = fds.map(|fd| [fd.0, 1]);
    sys!(7, entries.as_mut_ptr().addr(), N, timeout)?;
    Ok(entries.iter().enumerate().fold(0, |found, (n, entry)| found | (u32::from(entry[1] >> 16 != 0) << n)))
}

/// Blocks (0) every signal, or sets the mask (2) to none.
pub fn sigprocmask(how: i32, mask: u64) -> Result<usize> {
    sys!(14, how, (&raw const mask).addr(), 0, 8)
}

pub fn signalfd(mask: u64) -> Result<Fd> {
    sys!(289, -1i32, (&raw const mask).addr(), 8, CLOEXEC).map(fd)
}

/// AF_UNIX, SOCK_SEQPACKET, close-on-exec.
pub fn socketpair() -> Result<(Fd, Fd)> {
    let mut pair = [0i32; 2];
    sys!(53, 1, 5 | CLOEXEC, 0, pair.as_mut_ptr().addr())?;
    Ok((Fd(pair[0]), Fd(pair[1])))
}

/// SIOCSIFFLAGS: IFF_UP on `lo` (netdevice(7)).
pub fn loopback_up() -> Result<usize> {
    let socket = sys!(41, 2, 2 | CLOEXEC, 0).map(fd)?;
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1;
    sys!(16, socket.0, 0x8914, request.as_ptr().addr())?;
    close(socket)
}

pub fn setsid() -> Result<usize> {
    sys!(112)
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING).
pub fn join_session_keyring(name: &CStr) -> Result<usize> {
    sys!(250, 1, text(name))
}

pub fn sethostname(name: &CStr) -> Result<usize> {
    sys!(170, text(name), name.count_bytes())
}

pub fn umask(mask: u32) -> Result<usize> {
    sys!(95, mask)
}

pub fn prctl(what: i32, value: usize) -> Result<usize> {
    sys!(157, what, value, 0, 0, 0)
}

pub fn prlimit(resource: u32, soft: u64, hard: u64) -> Result<usize> {
    let limit = [soft, hard];
    sys!(302, 0, resource, limit.as_ptr().addr(), 0)
}

/// uid, gid 0 and no further groups.
pub fn become_root() -> Result<usize> {
    sys!(116, 0, 0)?;
    sys!(119, 0, 0, 0)?;
    sys!(117, 0, 0, 0)
}

/// capset(2), version 3; the inheritable set stays empty.
pub fn capset(permitted: u64) -> Result<usize> {
    let header = [0x2008_0522u32, 0];
    let (low, high) = (permitted as u32, (permitted >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    sys!(126, header.as_ptr().addr(), data.as_ptr().addr())
}

/// Room for a seccomp program of 4096 instructions. Call it once: there is one room.
pub fn filter_room() -> &'static mut [u8] {
    static mut ROOM: [u8; 4096 * 8] = [0; 4096 * 8];
    // SAFETY: the process has one thread and asks once, so nobody else has a reference.
    unsafe { &mut *(&raw mut ROOM) }
}

/// seccomp(SECCOMP_SET_MODE_FILTER).
pub fn seccomp(program: &[u8]) -> Result<usize> {
    let fprog = [program.len() / 8, program.as_ptr().addr()];
    sys!(317, 1, 0, fprog.as_ptr().addr())
}

pub fn execve(program: &CStr, argv: &[usize], envp: &[usize]) -> Result<usize> {
    sys!(59, text(program), argv.as_ptr().addr(), envp.as_ptr().addr())
}

/// execveat(AT_EMPTY_PATH) with vectors as the kernel gave them.
pub fn fexecve(file: Fd, argv: usize, envp: usize) -> Result<usize> {
    sys!(322, file.0, text(c""), argv, envp, 0x1000)
}

pub const MOUNT_RDONLY: u64 = 1;
pub const MOUNT_NOSUID: u64 = 2;
pub const MOUNT_NODEV: u64 = 4;
pub const MOUNT_NOEXEC: u64 = 8;
pub const MOUNT_STRICTATIME: u64 = 0x20;
pub const SLAVE: u64 = 1 << 19;
pub const PRIVATE: u64 = 1 << 18;
const EMPTY_PATH: u32 = 0x1000;
const RECURSIVE: u32 = 0x8000;

pub fn fsopen(kind: &CStr) -> Result<Fd> {
    sys!(430, text(kind), 1).map(fd)
}

pub fn fsconfig_string(context: Fd, key: &CStr, value: &CStr) -> Result<usize> {
    sys!(431, context.0, 1, text(key), text(value), 0)
}

pub fn fsconfig_create(context: Fd) -> Result<usize> {
    sys!(431, context.0, 6, 0, 0, 0)
}

pub fn fsmount(context: Fd, attributes: u64) -> Result<Fd> {
    sys!(432, context.0, 1, attributes).map(fd)
}

/// open_tree(OPEN_TREE_CLONE); an empty path is the fd itself.
pub fn clone_tree(dir: Fd, path: &CStr, recursive: bool) -> Result<Fd> {
    let deep = if recursive { RECURSIVE } else { 0 };
    sys!(428, dir.0, text(path), CLOEXEC as u32 | 1 | EMPTY_PATH | deep).map(fd)
}

/// move_mount(2) onto what `to` refers to.
pub fn move_mount(tree: Fd, to: Fd) -> Result<usize> {
    // MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
    sys!(429, tree.0, text(c""), to.0, text(c""), 0x4 | 0x40)
}

pub fn mount_setattr(dir: Fd, path: &CStr, recursive: bool, set: u64, propagation: u64) -> Result<usize> {
    let attr = [set, 0, propagation, 0];
    let deep = if recursive { RECURSIVE } else { 0 };
    sys!(442, dir.0, text(path), EMPTY_PATH | deep, attr.as_ptr().addr(), size_of_val(&attr))
}

pub fn pivot_root_here() -> Result<usize> {
    sys!(155, text(c"."), text(c"."))
}

/// umount2(MNT_DETACH).
pub fn detach(path: &CStr) -> Result<usize> {
    sys!(166, text(path), 2)
}

/// bpf(2) with room for what newer kernels write past an old caller's attributes (6.17).
fn bpf(command: i32, words: &[u32]) -> Result<usize> {
    let mut attr = [0u32; 64];
    attr[..words.len()].copy_from_slice(words);
    sys!(321, command, attr.as_mut_ptr().addr(), size_of_val(&attr))
}

fn halves(address: usize) -> [u32; 2] {
    [address as u32, (address as u64 >> 32) as u32]
}

/// BPF_PROG_LOAD of a BPF_PROG_TYPE_CGROUP_DEVICE.
pub fn bpf_load(program: &[u64]) -> Result<Fd> {
    let (code, license) = (halves(program.as_ptr().addr()), halves(text(c"Apache-2.0")));
    bpf(5, &[15, program.len() as u32, code[0], code[1], license[0], license[1]]).map(fd)
}

pub fn bpf_pin(program: Fd, path: &CStr) -> Result<usize> {
    let path = halves(text(path));
    bpf(6, &[path[0], path[1], program.0 as u32])
}

pub fn bpf_get(path: &CStr) -> Result<Fd> {
    let path = halves(text(path));
    bpf(7, &[path[0], path[1], 0]).map(fd)
}

/// BPF_PROG_ATTACH as BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI.
pub fn bpf_attach(cgroup: Fd, program: Fd) -> Result<usize> {
    bpf(8, &[cgroup.0 as u32, program.0 as u32, 6, 2])
}
