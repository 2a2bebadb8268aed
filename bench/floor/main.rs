//! The floor: what a safe runtime must do for one bundle, by hand. No JSON, no libc, no allocation, and
//! no word about what went wrong but the step's number as exit status.
//!
//! It makes the container that `xebec spec` describes, without terminal: all its namespaces, mounts,
//! devices, masks and limits, the device filter, capabilities and no_new_privs, and a seccomp program that
//! bench has compiled. It protects its own binary, keeps a record that start, exec and delete
//! trust, and looks up no path of the root file system outside of it. It is no runtime for
//! use: it cannot say what failed, undoes nothing, and knows only this one bundle.
//!
//! `floor VERB root=DIR id=NAME cgroup=DIR rootfs=DIR program=FILE [filter=FILE] [netns=FILE] [cgroupns=no] [userns=ID] ...`
#![no_std]
#![no_main]

mod child;
mod container;
mod exec;
mod sys;

use core::ffi::CStr;

use container::{Container, Path};
use sys::{Fd, Words};

/// A step that failed, which becomes the exit status.
pub struct Failed(i32);

/// The number of the step that a failing call belongs to.
pub trait At<T> {
    fn at(self, step: i32) -> Result<T, Failed>;
}

impl<T> At<T> for sys::Result<T> {
    fn at(self, step: i32) -> Result<T, Failed> {
        self.map_err(|_| Failed(step))
    }
}

/// The command line.
#[derive(Clone, Copy)]
pub struct Order {
    words: Words,
}

impl Order {
    /// The value of `key=value`.
    pub fn get(&self, key: &str) -> Option<&'static CStr> {
        let mut at = 2;
        while let Some(word) = self.words.get(at) {
            let bytes = word.to_bytes_with_nul();
            if bytes.starts_with(key.as_bytes()) && bytes.get(key.len()) == Some(&b'=') {
                return CStr::from_bytes_with_nul(&bytes[key.len() + 1..]).ok();
            }
            at += 1;
        }
        None
    }

    pub fn must(&self, key: &str) -> Result<&'static CStr, Failed> {
        self.get(key).ok_or(Failed(99))
    }

    /// The namespaces of the container, the cgroup namespace included.
    pub fn namespaces(&self) -> u64 {
        let cgroup = if self.get("cgroupns").is_some() { 0 } else { sys::NEWCGROUP };
        let user = if self.get("userns").is_some() { sys::NEWUSER } else { 0 };
        sys::NEWNS | sys::NEWUTS | sys::NEWIPC | sys::NEWPID | sys::NEWNET | cgroup | user
    }
}

pub fn main(words: Words) -> i32 {
    let order = Order { words };
    let done = match words.get(1).map(CStr::to_bytes) {
        Some(b"run") => run(&order),
        Some(b"create") => create(&order),
        Some(b"start") => container::start(&order),
        Some(b"delete") => container::delete(&order),
        Some(b"state") => container::state(&order),
        Some(b"kill") => container::kill(&order),
        Some(b"exec") => exec::exec(&order),
        _ => Err(Failed(98)),
    };
    match done {
        Ok(status) => status,
        Err(Failed(step)) => step,
    }
}

/// CVE-2019-5736: runs from a file that nobody can write through /proc/PID/exe.
pub fn protect(order: &Order) -> Result<(), Failed> {
    const EXE: &CStr = c"/proc/self/exe";
    if sys::statfs_flags(EXE).at(1)? & 1 != 0 {
        return Ok(());
    }
    let tree = sys::clone_tree(sys::CWD, EXE, false).at(2)?;
    sys::mount_setattr(tree, c"", false, sys::MOUNT_RDONLY, 0).at(3)?;
    sys::fexecve(tree, order.words.argv(), order.words.envp()).at(4)?;
    Ok(())
}

/// A container whose child waits for its start, and the parent's end of the channel.
struct Made {
    container: Container,
    pidfd: Fd,
    channel: Fd,
}

fn make(order: &Order, wait_on_fifo: bool) -> Result<Made, Failed> {
    protect(order)?;
    let filter = container::read_filter(order)?;
    let container = Container::claim(order)?;
    let cgroup = container.make_cgroup(order)?;
    let gate = if wait_on_fifo { Some(container.make_fifos()?) } else { None };
    let netns = match order.get("netns") {
        Some(path) => Some(sys::openat(sys::CWD, path, sys::RDONLY, 0).at(12)?),
        None => None,
    };
    let (channel, far) = sys::socketpair().at(13)?;
    // The cgroup namespace is unshared by the child: clone3 would root it in our cgroup.
    let flags = order.namespaces() & !sys::NEWCGROUP & !if netns.is_some() { sys::NEWNET } else { 0 };
    let Some((pid, pidfd)) = sys::clone3(flags, cgroup).at(14)? else {
        let scene = child::Scene { order, channel: far, gate, netns, filter };
        let Err(Failed(step)) = child::run(&scene);
        sys::exit(step);
    };
    // So that a dead child is an end of file.
    sys::close(far).at(15)?;
    if let Some(first) = order.get("userns") {
        let map = Path::of(&[b"0 ", first.to_bytes(), b" 65536\n"]);
        for file in [&b"/uid_map"[..], b"/gid_map"] {
            let path = Path::of(&[b"/proc/", Path::number(pid as u64).bytes(), file]);
            let file = sys::openat(sys::CWD, path.text(), sys::WRONLY, 0).at(16)?;
            sys::write(file, map.bytes()).at(17)?;
        }
        sys::write(channel, b"M").at(18)?;
    }
    container.write_init(pid, pidfd)?;
    let mut byte = [0];
    match sys::read(channel, &mut byte).at(19)? {
        1 => Ok(Made { container, pidfd, channel }),
        // It has died; its exit status is the step.
        _ => Err(Failed(sys::wait(pidfd).at(20)?.1)),
    }
}

/// The child is told that it may outlive us by its own prctl; start opens the fifo's gate.
fn create(order: &Order) -> Result<i32, Failed> {
    let made = make(order, true)?;
    if let Some(path) = order.get("pidfile") {
        made.container.write_pid_file(path)?;
    }
    Ok(0)
}

fn run(order: &Order) -> Result<i32, Failed> {
    const ALL: u64 = u64::MAX;
    sys::prctl(36, 1).at(21)?; // PR_SET_CHILD_SUBREAPER
    let made = make(order, false)?;
    sys::sigprocmask(0, ALL).at(22)?;
    let signals = sys::signalfd(ALL).at(23)?;
    sys::write(made.channel, b"G").at(24)?;
    forward_until_the_end(made.pidfd, signals)?;
    let (code, status) = sys::wait(made.pidfd).at(25)?;
    made.container.remove()?;
    Ok(if code == 1 { status } else { 128 + status })
}

/// Signals of the caller go to the container's process, until that ends.
pub fn forward_until_the_end(pidfd: Fd, signals: Fd) -> Result<(), Failed> {
    const SIGCHLD: u32 = 17;
    while sys::poll([pidfd, signals], -1).at(26)? & 1 == 0 {
        let mut info = [0u8; 128];
        sys::read(signals, &mut info).at(27)?;
        let number = u32::from_le_bytes([info[0], info[1], info[2], info[3]]);
        if number != SIGCHLD {
            // ESRCH: it ended meanwhile, which poll tells next.
            sys::pidfd_send_signal(pidfd, number as i32).or(Ok(0)).at(28)?;
        }
    }
    Ok(())
}
