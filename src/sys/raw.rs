//! The kernel called by hand. errno is a thread-local variable, and a child that works in this memory beside us
//! (`shared.rs`) has the same one: what both use must not set it.

use rustix::io::Errno;

/// A system call with up to six words, each whatever `as usize` takes; the result, or the error.
macro_rules! syscall {
    ($number:expr $(, $word:expr)* $(,)?) => {
        $crate::sys::raw::call($number, $crate::sys::raw::six([$($word as usize),*]))
    };
}
pub(super) use syscall;

/// The words of a call, and zeros.
pub const fn six<const N: usize>(words: [usize; N]) -> [usize; 6] {
    let mut all = [0; 6];
    let mut at = 0;
    while at < N {
        all[at] = words[at];
        at += 1;
    }
    all
}

/// syscall(2).
///
/// # Safety
/// What the call does with the words is the caller's to know.
pub unsafe fn call(number: libc::c_long, words: [usize; 6]) -> Result<libc::c_long, Errno> {
    let result: libc::c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's registers on x86-64; it changes rcx and r11 besides the result.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") words[0], in("rsi") words[1], in("rdx") words[2],
            in("r10") words[3], in("r8") words[4], in("r9") words[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's registers on AArch64; it changes the result only.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") words[0] => result,
            in("x1") words[1], in("x2") words[2], in("x3") words[3], in("x4") words[4], in("x5") words[5],
            options(nostack),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        // No child shares our memory there.
        // SAFETY: the caller's promise.
        result = match unsafe { libc::syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]) } {
            -1 => -libc::c_long::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
            result => result,
        };
    }
    match result {
        -4095..0 => Err(Errno::from_raw_os_error(-result as i32)),
        result => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gives_its_result_or_its_error_and_leaves_errno_alone() {
        let nothing = -1i32;
        // SAFETY: errno is this thread's own; the calls take numbers only.
        unsafe {
            *libc::__errno_location() = 77;
            assert_eq!(syscall!(libc::SYS_getpid), Ok(libc::c_long::from(libc::getpid())));
            assert_eq!(syscall!(libc::SYS_fcntl, nothing, libc::F_GETFD), Err(Errno::BADF));
            assert_eq!(syscall!(libc::SYS_fcntl, 0, libc::F_GETFD).is_ok(), libc::fcntl(0, libc::F_GETFD) >= 0);
            assert_eq!(*libc::__errno_location(), 77);
        }
    }

    #[test]
    fn all_six_words_arrive() {
        let (mut page, nothing) = ([0u8; 1], -1i32);
        // SAFETY: the kernel gives a new mapping, reads a byte of it, and takes it back.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let file = syscall!(libc::SYS_memfd_create, c"six".as_ptr(), libc::MFD_CLOEXEC).expect("memfd_create");
            assert_eq!(syscall!(libc::SYS_pwrite64, file, c"x".as_ptr(), 1, 8192), Ok(1));
            let map = syscall!(libc::SYS_mmap, 0, 4096, libc::PROT_READ, libc::MAP_PRIVATE, file, 8192).expect("mmap");
            page[0] = *(map as *const u8);
            assert_eq!(syscall!(libc::SYS_munmap, map, 4096), Ok(0));
            assert_eq!(syscall!(libc::SYS_mmap, 0, 0, 0, flags, nothing, 0), Err(Errno::INVAL));
            assert_eq!(syscall!(libc::SYS_close, file), Ok(0));
        }
        assert_eq!(page, *b"x");
    }
}
