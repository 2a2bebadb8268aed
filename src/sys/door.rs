//! The `xebec` program's first instructions: the second start that protects the binary (`spawn/own_exe.rs`), taken
//! before this start has cost anything.
//!
//! A static PIE relocates itself, sets up its libc and reads its arguments: half a hundred page faults, and all for
//! nothing when the next thing it does is to run itself again. Here nothing is relocated yet and no libc is there: no
//! static with a pointer in it, no thread-local, no panic, no call of another crate's function (memset for a large
//! array included), and the kernel is called by hand.
//!
//! Whatever does not go as expected is left to `own_exe::protect`, which tries again and can say why.
//! Where this is not the entry point (.ci/release.sh makes it that), it does all of it.

use core::arch::{asm, global_asm};
use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

// Linked as the entry point: the kernel's stack pointer is the only argument (x86-64 psABI, "Process Initialization"),
// and the C library's own start finds everything as it was.
global_asm!(
    ".globl xebec_entry",
    ".hidden xebec_entry",
    ".type xebec_entry, @function",
    "xebec_entry:",
    "mov rbx, rsp",
    "mov r12, rdx",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {door}",
    "mov rsp, rbx",
    "mov rdx, r12",
    "jmp _start",
    door = sym door,
);

/// What the look at the own binary's mount has found: nothing is left to do for `own_exe`.
static READ_ONLY: AtomicBool = AtomicBool::new(false);

/// Was the binary seen on a read-only mount? `false` also where nobody has looked.
pub fn saw_read_only_mount() -> bool {
    READ_ONLY.load(Ordering::Relaxed)
}

const EXE: &CStr = c"/proc/self/exe";

/// `stack` is what the kernel made: the count of the arguments, they, a null, the environment, a null.
unsafe extern "C" fn door(stack: *const usize) {
    // SAFETY: the kernel's layout at the start of a process; each vector ends with a null pointer.
    unsafe {
        let count = *stack;
        let argv = stack.add(1).cast::<*const c_char>();
        let envp = argv.add(count + 1);
        if wants_protection(argv, envp) {
            match is_on_read_only_mount() {
                true => READ_ONLY.store(true, Ordering::Relaxed),
                false => run_again(argv, envp),
            }
        }
    }
}

/// A verb that comes near a container is among the words; as the value of another option it costs
/// a second start that nobody needed. A recording (--timings) wants to know when the first start began.
unsafe fn wants_protection(argv: *const *const c_char, envp: *const *const c_char) -> bool {
    let mut near = false;
    // SAFETY: as for `door`.
    unsafe {
        let mut at = 1;
        while !(*argv).is_null() && !(*argv.add(at)).is_null() {
            let word = *argv.add(at);
            if begins(word, b"--timings") {
                return false;
            }
            near |= begins(word, b"create\0") || begins(word, b"run\0") || begins(word, b"exec\0");
            at += 1;
        }
        let mut at = 0;
        while near && !(*envp.add(at)).is_null() {
            if begins(*envp.add(at), b"XEBEC_TIMINGS=") {
                return false;
            }
            at += 1;
        }
    }
    near
}

unsafe fn begins(text: *const c_char, with: &[u8]) -> bool {
    for (at, &byte) in with.iter().enumerate() {
        // SAFETY: a difference, the NUL included, ends the loop, so nothing behind the string's end is read.
        if unsafe { *text.add(at).cast::<u8>() } != byte {
            return false;
        }
    }
    true
}

fn is_on_read_only_mount() -> bool {
    // Larger than struct statfs of any kernel; its flags are the eleventh word (statfs(2)).
    let mut answer = MaybeUninit::<[usize; 32]>::uninit();
    // SAFETY: the path ends in NUL, and the kernel writes one struct statfs, of which the flags are read.
    unsafe {
        let done = call(libc::SYS_statfs, [EXE.as_ptr() as usize, answer.as_mut_ptr() as usize, 0, 0, 0]);
        done == 0 && *answer.as_ptr().cast::<usize>().add(10) & libc::ST_RDONLY as usize != 0
    }
}

/// Returns only when something failed. The clone is CLOEXEC, as in `own_exe`.
unsafe fn run_again(argv: *const *const c_char, envp: *const *const c_char) {
    const CLONE_CLOEXEC: usize = 1 | libc::O_CLOEXEC as usize;
    let attr = [libc::MOUNT_ATTR_RDONLY as usize, 0, 0, 0];
    let empty = c"".as_ptr() as usize;
    let at_empty = libc::AT_EMPTY_PATH as usize;
    // SAFETY: strings end in NUL, `attr` is a struct mount_attr of the size told, and the vectors are the kernel's own.
    unsafe {
        let tree = call(libc::SYS_open_tree, [libc::AT_FDCWD as usize, EXE.as_ptr() as usize, CLONE_CLOEXEC, 0, 0]);
        if tree < 0 {
            return;
        }
        let tree = tree as usize;
        let size = size_of_val(&attr);
        if call(libc::SYS_mount_setattr, [tree, empty, at_empty, attr.as_ptr() as usize, size]) == 0 {
            call(libc::SYS_execveat, [tree, empty, argv as usize, envp as usize, at_empty]);
        }
        call(libc::SYS_close, [tree, 0, 0, 0, 0]);
    }
}

/// A system call without errno, which is thread-local; a negative result is the error.
unsafe fn call(number: libc::c_long, words: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: syscall(2)'s registers on x86-64; what the call does with the words is the caller's to know.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") words[0], in("rsi") words[1], in("rdx") words[2], in("r10") words[3], in("r8") words[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}
