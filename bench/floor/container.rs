//! The container on record: its directory with `state` and `init`, its cgroup, and the verbs that need no more.

use core::ffi::CStr;

use crate::sys::{self, Fd};
use crate::{At, Failed, Order};

/// A path, or any short text, on the stack.
pub struct Path {
    bytes: [u8; 512],
    len: usize,
}

impl Path {
    pub fn of(parts: &[&[u8]]) -> Path {
        let mut path = Path { bytes: [0; 512], len: 0 };
        for byte in parts.iter().copied().flatten() {
            // What is too long is cut, and not found.
            if path.len < path.bytes.len() - 1 {
                path.bytes[path.len] = *byte;
                path.len += 1;
            }
        }
        path
    }

    pub fn number(number: u64) -> Path {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        while rest > 0 || at == digits.len() {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        Path::of(&[&digits[at..]])
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// The program that bench has compiled, as an array of struct sock_filter.
pub fn read_filter(order: &Order) -> Result<&'static [u8], Failed> {
    let Some(path) = order.get("filter") else { return Ok(&[]) };
    let file = sys::openat(sys::CWD, path, sys::RDONLY, 0).at(5)?;
    let room = sys::filter_room();
    let length = sys::read(file, room).at(6)?;
    Ok(&room[..length])
}

/// The directory below root=, locked.
pub struct Container {
    order: Order,
    dir: Fd,
}

/// The first process, on record.
pub struct Init {
    pub pid: i32,
    /// Inode of its pidfd, which since Linux 6.9 no other process ever has.
    inode: u64,
}

impl Container {
    fn path(order: &Order) -> Result<Path, Failed> {
        Ok(Path::of(&[order.must("root")?.to_bytes(), b"/", order.must("id")?.to_bytes()]))
    }

    /// Claims the name; on record before anything of it exists.
    pub fn claim(order: &Order) -> Result<Container, Failed> {
        let path = Container::path(order)?;
        sys::mkdirat(sys::CWD, path.text(), 0o700).at(30)?;
        let container = Container::open(order)?;
        container.store(c"state", order.must("cgroup")?.to_bytes())?;
        Ok(container)
    }

    pub fn open(order: &Order) -> Result<Container, Failed> {
        let path = Container::path(order)?;
        let dir = sys::openat(sys::CWD, path.text(), sys::RDONLY | sys::DIRECTORY, 0).at(31)?;
        sys::flock_exclusive(dir).at(32)?;
        Ok(Container { order: *order, dir })
    }

    /// Whole from the moment it has its name.
    fn store(&self, name: &CStr, text: &[u8]) -> Result<(), Failed> {
        let file = sys::openat(self.dir, c".new", sys::WRONLY | sys::CREAT | sys::EXCL, 0o600).at(33)?;
        sys::write(file, text).at(34)?;
        sys::close(file).at(35)?;
        sys::renameat(self.dir, c".new", name).at(36)?;
        Ok(())
    }

    /// The container's cgroup with its device filter.
    pub fn make_cgroup(&self, order: &Order) -> Result<Fd, Failed> {
        let path = order.must("cgroup")?;
        sys::mkdirat(sys::CWD, path, 0o755).at(37)?;
        let cgroup = sys::openat(sys::CWD, path, sys::RDONLY | sys::DIRECTORY, 0).at(38)?;
        sys::bpf_attach(cgroup, device_program()?).at(39)?;
        Ok(cgroup)
    }

    /// What start writes to and what it reads from; both ends, so that neither open waits.
    pub fn make_fifos(&self) -> Result<(Fd, Fd), Failed> {
        const FIFO: u32 = 0o010_000;
        for name in [c"start", c"report"] {
            sys::mknodat(self.dir, name, FIFO | 0o600, 0).at(40)?;
        }
        Ok((
            sys::openat(self.dir, c"start", sys::RDWR, 0).at(41)?,
            sys::openat(self.dir, c"report", sys::RDWR, 0).at(42)?,
        ))
    }

    pub fn write_init(&self, pid: i32, pidfd: Fd) -> Result<(), Failed> {
        let (_, _, inode) = sys::fstat(pidfd).at(43)?;
        let mut text = [0u8; 12];
        text[..4].copy_from_slice(&pid.to_le_bytes());
        text[4..].copy_from_slice(&inode.to_le_bytes());
        self.store(c"init", &text)
    }

    pub fn write_pid_file(&self, path: &CStr) -> Result<(), Failed> {
        let init = self.init()?;
        let file = sys::openat(sys::CWD, path, sys::WRONLY | sys::CREAT | sys::EXCL, 0o644).at(44)?;
        sys::write(file, Path::number(init.pid as u64).bytes()).at(45)?;
        Ok(())
    }

    fn init(&self) -> Result<Init, Failed> {
        let file = sys::openat(self.dir, c"init", sys::RDONLY, 0).at(46)?;
        let mut text = [0u8; 12];
        sys::read(file, &mut text).at(47)?;
        let [a, b, c, d, inode @ ..] = text;
        Ok(Init { pid: i32::from_le_bytes([a, b, c, d]), inode: u64::from_le_bytes(inode) })
    }

    /// Its pidfd while it lives; `None` when it is gone, or its pid is somebody else's.
    pub fn living_init(&self) -> Result<Option<(Init, Fd)>, Failed> {
        let init = self.init()?;
        let Ok(pidfd) = sys::pidfd_open(init.pid) else { return Ok(None) };
        let same = sys::fstat(pidfd).at(48)?.2 == init.inode;
        let alive = same && sys::poll([pidfd], 0).at(49)? == 0;
        Ok(alive.then_some((init, pidfd)))
    }

    pub fn remove(&self) -> Result<(), Failed> {
        sys::rmdir(self.order.must("cgroup")?).at(50)?;
        for name in [c"init", c"start", c"report", c"state"] {
            // A container of `run` has no fifos.
            sys::unlinkat(self.dir, name).or(Ok(0)).at(51)?;
        }
        sys::rmdir(Container::path(&self.order)?.text()).at(52)?;
        Ok(())
    }
}

/// The default devices of the specification, and mknod of any: from the bpffs, or loaded and kept there.
fn device_program() -> Result<Fd, Failed> {
    const PINNED: &CStr = c"/sys/fs/bpf/xebec-bench-floor";
    if let Ok(program) = sys::bpf_get(PINNED) {
        return Ok(program);
    }
    let program = sys::bpf_load(&DEVICE_PROGRAM).at(53)?;
    // Where there is no bpffs it is loaded each time.
    sys::bpf_pin(program, PINNED).or(Ok(0)).at(54)?;
    Ok(program)
}

/// One instruction of bpf(2): code, registers, jump and immediate value.
const fn op(code: u8, to: u8, from: u8, jump: i16, value: i32) -> u64 {
    code as u64 | (to as u64) << 8 | (from as u64) << 12 | (jump as u16 as u64) << 16 | (value as u32 as u64) << 32
}

const LOAD: u8 = 0x61;
const EQUAL: u8 = 0x15;
const OTHER: u8 = 0x55;
const SET: u8 = 0xb7;
const EXIT: u8 = 0x95;

/// struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
const DEVICE_PROGRAM: [u64; 24] = [
    op(LOAD, 2, 1, 0, 0),
    op(0xbf, 3, 2, 0, 0),      // r3 = r2
    op(0x57, 3, 0, 0, 0xffff), // the type: 1 block, 2 character
    op(0x77, 2, 0, 0, 16),     // the access: 1 mknod, 2 read, 4 write
    op(LOAD, 4, 1, 4, 0),
    op(LOAD, 5, 1, 8, 0),
    op(EQUAL, 2, 0, 15, 1), // mknod alone: to allow at 22
    op(OTHER, 3, 0, 12, 2), // not a character device: to deny at 20
    op(EQUAL, 4, 0, 13, 136),
    op(OTHER, 4, 0, 6, 1), // not memory: to terminals at 16
    op(EQUAL, 5, 0, 11, 3),
    op(EQUAL, 5, 0, 10, 5),
    op(EQUAL, 5, 0, 9, 7),
    op(EQUAL, 5, 0, 8, 8),
    op(EQUAL, 5, 0, 7, 9),
    op(0x05, 0, 0, 4, 0),  // to deny
    op(OTHER, 4, 0, 3, 5), // not /dev/tty and its like: to deny
    op(EQUAL, 5, 0, 4, 0),
    op(EQUAL, 5, 0, 3, 1),
    op(EQUAL, 5, 0, 2, 2),
    op(SET, 0, 0, 0, 0),
    op(EXIT, 0, 0, 0, 0),
    op(SET, 0, 0, 0, 1),
    op(EXIT, 0, 0, 0, 0),
];

/// One byte to the child, then the end of its report: execve closes it.
pub fn start(order: &Order) -> Result<i32, Failed> {
    let container = Container::open(order)?;
    let Some((_, _)) = container.living_init()? else { return Err(Failed(55)) };
    let report = sys::openat(container.dir, c"report", sys::RDONLY | sys::NONBLOCK, 0).at(56)?;
    let gate = sys::openat(container.dir, c"start", sys::WRONLY | sys::NONBLOCK | sys::NOFOLLOW, 0).at(57)?;
    sys::write(gate, b"S").at(58)?;
    sys::poll([report], -1).at(59)?;
    let mut byte = [0];
    match sys::read(report, &mut byte).at(60)? {
        0 => Ok(0),
        _ => Err(Failed(i32::from(byte[0]))),
    }
}

pub fn delete(order: &Order) -> Result<i32, Failed> {
    let container = Container::open(order)?;
    if container.living_init()?.is_some() {
        return Err(Failed(61));
    }
    container.remove()?;
    Ok(0)
}

pub fn state(order: &Order) -> Result<i32, Failed> {
    let container = Container::open(order)?;
    let id = order.must("id")?.to_bytes();
    let (status, pid) = match container.living_init()? {
        Some((init, _)) => (&b"running"[..], Path::number(init.pid as u64)),
        None => (&b"stopped"[..], Path::number(0)),
    };
    let text = Path::of(&[
        b"{\"ociVersion\":\"1.0.2\",\"id\":\"", id, b"\",\"status\":\"", status, b"\",\"pid\":", pid.bytes(), b"}\n",
    ]);
    sys::write(Fd(1), text.bytes()).at(62)?;
    Ok(0)
}

pub fn kill(order: &Order) -> Result<i32, Failed> {
    const SIGKILL: i32 = 9;
    let Some((_, pidfd)) = Container::open(order)?.living_init()? else { return Err(Failed(63)) };
    sys::pidfd_send_signal(pidfd, SIGKILL).at(64)?;
    Ok(0)
}
