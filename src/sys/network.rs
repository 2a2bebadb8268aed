//! Network namespaces, and `lo` in them. Nothing here goes through the C library, whose errno is thread-local:
//! a [`Helper`] calls it.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, set_parent_process_death_signal, waitid};
use rustix::thread::{UnshareFlags, futex, sched_getaffinity, unshare_unsafe};
use rustix::time::Timespec;

use super::helper::Helper;
use super::{Call, During, Fail, Outcome};

static HELPER: Helper = Helper::new();
/// Somebody in this process has the helper, or what it has made.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// The helper's network namespace.
static NETWORK: Word = Word(AtomicU32::new(Word::PENDING));
/// The user namespace that the helper is in, where it is a process.
static USER: Word = Word(AtomicU32::new(Word::PENDING));
/// Whether that has its ids. A futex(2).
static MAPS: AtomicU32 = AtomicU32::new(UNWRITTEN);
const UNWRITTEN: u32 = 0;
const WRITTEN: u32 = 1;
const UNWANTED: u32 = 2;
/// How long to sleep between two looks at a word, should nobody wake us.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// A network namespace that a helper is making, with `lo` up.
#[derive(Debug)]
pub struct Coming {
    /// The helper is a process, not yet waited for.
    process: Option<Pid>,
}

impl Coming {
    /// Begins with a second thread; `None` where there is none to be had: another call in this process has it, a limit
    /// on tasks was reached, or the machine is one that the helper is not written for; and with one CPU, where
    /// nothing is gained.
    ///
    /// # Errors
    /// The signals could not be blocked for it, or not be unblocked again.
    pub fn begin() -> Outcome<Option<Coming>> {
        begin_with(|| HELPER.start(make_and_tell, 0).map(|()| None))
    }

    /// The same with a process in a new user namespace, which the network namespace will belong to: it waits for
    /// [`Coming::go_on`]. `None` also where that may not be made. [`Helper::start_in_new_user`] says who may trace it.
    pub fn begin_in_new_user() -> Outcome<Option<Coming>> {
        let own = getpid().as_raw_nonzero().get().unsigned_abs();
        begin_with(|| HELPER.start_in_new_user(enter_and_make, own).map(Some))
    }

    /// The helper that waits for ids.
    #[must_use]
    pub fn process(&self) -> Option<Pid> {
        self.process
    }

    /// The ids are written: it goes on.
    pub fn go_on(&self) {
        set_maps(WRITTEN);
    }

    /// A handle of the new user namespace.
    pub fn user_namespace(&self) -> Outcome<OwnedFd> {
        USER.wait()
    }

    /// Waits until it is there, and gives its handle.
    pub fn wait(&self) -> Outcome<OwnedFd> {
        NETWORK.wait()
    }

    /// Waits until no other process has our memory.
    fn end(&self) {
        let Some(pid) = self.process else { return };
        set_maps(UNWANTED);
        // It has no signal for its end (clone(2)). An error: the caller's program waits for all that ends, or an outer
        // filter refuses the call; then it is not fetched.
        let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        retry_on_intr(|| waitid(WaitId::Pid(pid), options)).ok();
        HELPER.join();
    }
}

impl Drop for Coming {
    /// Nobody wants it any more; after [`Coming::wait`] nothing is left to close. From here on no other process
    /// has our memory.
    fn drop(&mut self) {
        self.end();
        drop((NETWORK.wait(), USER.take()));
        TAKEN.store(false, Ordering::Release);
    }
}

fn begin_with(start: impl FnOnce() -> Outcome<Option<Pid>>) -> Outcome<Option<Coming>> {
    if !sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1) {
        return Ok(None);
    }
    if TAKEN.swap(true, Ordering::Acquire) {
        return Ok(None);
    }
    for word in [&NETWORK, &USER] {
        word.0.store(Word::PENDING, Ordering::Relaxed);
    }
    MAPS.store(UNWRITTEN, Ordering::Relaxed);
    // TAKEN stays after an error: this process does not try again.
    match start() {
        Ok(process) => Ok(Some(Coming { process })),
        Err(Fail { call: Call::Clone3, .. }) => Ok(None),
        Err(fail) => {
            set_maps(UNWANTED);
            Err(fail)
        }
    }
}

fn set_maps(state: u32) {
    MAPS.store(state, Ordering::Release);
    wake(&MAPS);
}

/// Nobody may wait yet, which is no error; and who waits looks again after a while.
fn wake(word: &AtomicU32) {
    futex::wake(word, futex::Flags::PRIVATE, 1).ok();
}

/// Sleeps while the word is this. EINTR, EAGAIN when it was just written, or the time is over: it is read again.
fn sleep_while(word: &AtomicU32, value: u32) {
    futex::wait(word, futex::Flags::PRIVATE, value, Some(&GLANCE)).ok();
}

/// A handle that the helper gives: its number, or [`Word::FAILED`] with the call and the errno. A futex(2).
struct Word(AtomicU32);

impl Word {
    const PENDING: u32 = u32::MAX;
    const FAILED: u32 = 1 << 31;

    fn tell(&self, made: Outcome<OwnedFd>) {
        let word = match made {
            Ok(namespace) => namespace.into_raw_fd().cast_unsigned(),
            Err(fail) => Word::failure(fail),
        };
        self.0.store(word, Ordering::Release);
        wake(&self.0);
    }

    const fn failure(fail: Fail) -> u32 {
        Word::FAILED | (fail.call as u32) << 16 | fail.errno.raw_os_error().cast_unsigned()
    }

    /// What the helper has said. ECHILD where it was killed before that.
    fn wait(&self) -> Outcome<OwnedFd> {
        loop {
            // In this order: what it has said before its end is there after it.
            let ended = HELPER.has_ended();
            match self.take() {
                Some(said) => return said,
                None if ended => return Err(Errno::CHILD).during(Call::Unshare),
                None => sleep_while(&self.0, Word::PENDING),
            }
        }
    }

    /// The same if it has, once: EBADF for the second who asks.
    fn take(&self) -> Option<Outcome<OwnedFd>> {
        const TAKEN: u32 = Word::failure(Fail { call: Call::Unshare, errno: Errno::BADF });
        let word = match self.0.load(Ordering::Acquire) {
            Word::PENDING => return None,
            word => word,
        };
        self.0.store(TAKEN, Ordering::Relaxed);
        let Some(call) = Call::from_number((word >> 16 & 0x7fff) as u16).filter(|_| word & Word::FAILED != 0) else {
            // SAFETY: the helper has let go of this fd (into_raw_fd), and the word is read once.
            return Some(Ok(unsafe { OwnedFd::from_raw_fd(word.cast_signed()) }));
        };
        Some(Err(Fail { call, errno: Errno::from_raw_os_error((word & 0xffff).cast_signed()) }))
    }
}

fn make_and_tell(_: u32) {
    NETWORK.tell(make_namespace());
}

/// The helper that is a process, in a user namespace without ids yet. `runtime` is its parent.
fn enter_and_make(runtime: u32) {
    match own_user_namespace(runtime) {
        Ok(user) => {
            USER.tell(Ok(user));
            if await_maps() {
                NETWORK.tell(make_namespace());
            }
        }
        failed => USER.tell(failed),
    }
}

/// Dies with the parent first.
fn own_user_namespace(runtime: u32) -> Outcome<OwnedFd> {
    set_parent_process_death_signal(Some(Signal::KILL)).during(Call::Prctl)?;
    if getppid().map(|parent| parent.as_raw_nonzero().get().unsigned_abs()) != Some(runtime) {
        return Err(Errno::CHILD).during(Call::Prctl);
    }
    openat(CWD, c"/proc/self/ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(Call::Openat)
}

/// Before a map is written, files of the network namespace would belong to nobody in it. False: it is not wanted.
fn await_maps() -> bool {
    loop {
        match MAPS.load(Ordering::Acquire) {
            UNWRITTEN => sleep_while(&MAPS, UNWRITTEN),
            state => return state == WRITTEN,
        }
    }
}

/// Moves the calling thread into a new network namespace with `lo` up, and gives a handle of it.
pub fn make_namespace() -> Outcome<OwnedFd> {
    // SAFETY: it moves neither memory nor descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.during(Call::Unshare)?;
    let socket = bring_loopback_up()?;
    namespace_of(socket.as_fd()).during(Call::SiocGskns)
}

/// Brings `lo` up in the calling thread's network namespace (netdevice(7)); gives a socket of that namespace.
pub fn bring_loopback_up() -> Outcome<OwnedFd> {
    let socket =
        socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).during(Call::Socket)?;
    // SAFETY: an all-zero ifreq is valid; the name fits and stays NUL-terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    let set = unsafe { ioctl(&socket, Setter::<{ libc::SIOCSIFFLAGS as Opcode }, _>::new(request)) };
    set.during(Call::SiocSifflags)?;
    Ok(socket)
}

/// ioctl(SIOCGSKNS): the network namespace of a socket, close-on-exec (Linux 4.10).
fn namespace_of(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    struct Namespace;
    // SAFETY: the request takes no argument, and its result is a fresh fd.
    unsafe impl Ioctl for Namespace {
        type Output = OwnedFd;
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> Opcode {
            // linux/sockios.h
            0x894c
        }
        fn as_ptr(&mut self) -> *mut c_void {
            std::ptr::null_mut()
        }
        unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<OwnedFd, Errno> {
            // SAFETY: the kernel has just given us this fd, and nobody else knows it.
            Ok(unsafe { OwnedFd::from_raw_fd(output) })
        }
    }
    // SAFETY: as said above.
    unsafe { ioctl(socket, Namespace) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// There is one at a time.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inode(path: &str) -> u64 {
        rustix::fs::stat(path).expect("a namespace").st_ino
    }

    #[test]
    fn a_namespace_comes_from_a_second_thread_and_ours_stays() {
        let _alone = alone();
        let own = inode("/proc/thread-self/ns/net");
        let Ok(Some(coming)) = Coming::begin() else { return };
        assert!(matches!(Coming::begin(), Ok(None)), "there is one at a time");
        match coming.wait() {
            Ok(made) => assert_ne!(rustix::fs::fstat(&made).expect("a namespace").st_ino, own),
            Err(fail) => assert_eq!((fail.call, fail.errno), (Call::Unshare, Errno::PERM), "without the right to"),
        }
        assert_eq!(inode("/proc/thread-self/ns/net"), own);
    }

    #[test]
    fn a_namespace_of_a_new_user_namespace_comes_from_a_process_and_ours_stay() {
        let _alone = alone();
        let own = || ["net", "user"].map(|name| inode(&format!("/proc/thread-self/ns/{name}")));
        let before = own();
        let Ok(Some(coming)) = Coming::begin_in_new_user() else { return };
        let pid = coming.process().expect("a process").as_raw_nonzero();
        let line = format!("0 {} 1\n", rustix::process::geteuid().as_raw());
        std::fs::write(format!("/proc/{pid}/uid_map"), line).expect("a map");
        coming.go_on();
        let user = coming.user_namespace().expect("a user namespace");
        let network = coming.wait().expect("a network namespace");
        drop(coming);
        // SAFETY: NS_GET_USERNS (linux/nsfs.h) takes no argument and gives a fresh fd.
        let owner = unsafe { OwnedFd::from_raw_fd(libc::ioctl(network.as_raw_fd(), 0xb701)) };
        let number = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("a namespace").st_ino;
        assert_eq!(number(&owner), number(&user));
        assert_eq!(own(), before);
    }

    #[test]
    fn a_process_that_is_killed_or_not_wanted_is_no_hang() {
        let _alone = alone();
        let Ok(Some(coming)) = Coming::begin_in_new_user() else { return };
        rustix::process::kill_process(coming.process().expect("a process"), Signal::KILL).expect("killed");
        assert_eq!(coming.wait().expect_err("killed").errno, Errno::CHILD);
        drop(coming);
        drop(Coming::begin_in_new_user().expect("begun").expect("there is none any more"));
    }
}
