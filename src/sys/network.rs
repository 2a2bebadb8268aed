//! Network namespaces, and `lo` in them. Nothing here goes through the C library, whose errno is thread-local:
//! a [`Helper`] calls it.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{UnshareFlags, futex, sched_getaffinity, unshare_unsafe};
use rustix::time::Timespec;

use super::helper::Helper;
use super::{Call, During, Fail, Outcome};

static HELPER: Helper = Helper::new();
/// Somebody in this process has the helper, or what it has made.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// What the helper has to say: the number of the handle, or [`FAILED`] with the call and the errno. A futex(2).
static WORD: AtomicU32 = AtomicU32::new(PENDING);
const PENDING: u32 = u32::MAX;
const FAILED: u32 = 1 << 31;
/// How long to sleep between two looks at the word, should nobody wake us.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// A network namespace that a second thread is making, with `lo` up.
#[derive(Debug)]
pub struct Coming(());

impl Coming {
    /// Begins; `None` where there is no such thread to be had: another call in this process has it, a limit on
    /// tasks was reached, or the machine is one that the helper is not written for; and with one CPU, where nothing
    /// is gained.
    ///
    /// # Errors
    /// The signals could not be blocked for it, or not be unblocked again.
    pub fn begin() -> Outcome<Option<Coming>> {
        if !sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1) {
            return Ok(None);
        }
        if TAKEN.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        WORD.store(PENDING, Ordering::Relaxed);
        // TAKEN stays after an error: this process does not try again.
        match HELPER.start(make_and_tell, 0) {
            Ok(()) => Ok(Some(Coming(()))),
            Err(Fail { call: Call::Clone3, .. }) => Ok(None),
            Err(fail) => Err(fail),
        }
    }

    /// Waits until it is there, and gives its handle.
    pub fn wait(self) -> Outcome<OwnedFd> {
        take()
    }
}

impl Drop for Coming {
    /// Nobody wants it any more; after [`Coming::wait`] nothing is left to close.
    fn drop(&mut self) {
        drop(take());
        TAKEN.store(false, Ordering::Release);
    }
}

fn make_and_tell(_: u32) {
    let word = match make_namespace() {
        Ok(namespace) => namespace.into_raw_fd().cast_unsigned(),
        Err(fail) => FAILED | (fail.call as u32) << 16 | fail.errno.raw_os_error().cast_unsigned(),
    };
    WORD.store(word, Ordering::Release);
    // Nobody may wait yet, which is no error; and who waits looks again after a while.
    futex::wake(&WORD, futex::Flags::PRIVATE, 1).ok();
}

/// What the helper has said, once: EBADF for the second who asks.
fn take() -> Outcome<OwnedFd> {
    loop {
        match WORD.load(Ordering::Acquire) {
            // EINTR, EAGAIN when the word was just written, or the time is over: it is read again.
            PENDING => drop(futex::wait(&WORD, futex::Flags::PRIVATE, PENDING, Some(&GLANCE))),
            word => {
                WORD.store(
                    FAILED | (Call::Unshare as u32) << 16 | Errno::BADF.raw_os_error().cast_unsigned(),
                    Ordering::Relaxed,
                );
                let Some(call) = Call::from_number((word >> 16 & 0x7fff) as u16).filter(|_| word & FAILED != 0) else {
                    // SAFETY: the helper has let go of this fd (into_raw_fd), and the word is read once.
                    return Ok(unsafe { OwnedFd::from_raw_fd(word.cast_signed()) });
                };
                return Err(Fail { call, errno: Errno::from_raw_os_error((word & 0xffff).cast_signed()) });
            }
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

    #[test]
    fn a_namespace_comes_from_a_second_thread_and_ours_stays() {
        let inode = |path: &str| rustix::fs::stat(path).expect("a namespace").st_ino;
        let own = inode("/proc/thread-self/ns/net");
        let Ok(Some(coming)) = Coming::begin() else { return };
        assert!(matches!(Coming::begin(), Ok(None)), "there is one at a time");
        match coming.wait() {
            Ok(made) => assert_ne!(rustix::fs::fstat(&made).expect("a namespace").st_ino, own),
            Err(fail) => assert_eq!((fail.call, fail.errno), (Call::Unshare, Errno::PERM), "without the right to"),
        }
        assert_eq!(inode("/proc/thread-self/ns/net"), own);
    }
}
