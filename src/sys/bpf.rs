//! bpf(2) for the device filter of a cgroup v2: load, pin, get, attach.
//!
//! The attribute block is always larger than the kernel reads and zeroed: kernels
//! from 6.17 write result fields past the size that the caller gave.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::raw::syscall;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One eBPF instruction, as the kernel's `struct bpf_insn` (8 bytes).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation and source.
    pub code: u8,
    /// Source register in the high four bits, destination in the low four.
    pub regs: u8,
    /// Jump distance or memory offset.
    pub off: i16,
    /// The constant.
    pub imm: i32,
}

/// A zeroed `union bpf_attr`, with room behind what any kernel writes today.
#[repr(C, align(8))]
struct Attr([u8; 512]);

impl Attr {
    fn new() -> Attr {
        Attr([0; 512])
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn ptr<T: ?Sized>(&mut self, at: usize, value: *const T) {
        self.0[at..at + 8].copy_from_slice(&(value.cast::<u8>() as u64).to_ne_bytes());
    }

    fn fd(&mut self, at: usize, fd: BorrowedFd<'_>) {
        self.0[at..at + 4].copy_from_slice(&fd.as_raw_fd().to_ne_bytes());
    }
}

/// bpf(2). `size` is what the command's fields take, so that old kernels accept it.
///
/// # Safety
/// Every pointer stored in `attr` must stay valid for the call, and `command`
/// must only read through them.
unsafe fn bpf(command: libc::c_int, attr: &mut Attr, size: usize) -> Result<libc::c_int, Errno> {
    debug_assert!(size <= attr.0.len());
    // SAFETY: attr is a live, exclusive, 8-aligned block of 512 bytes, more than
    // any kernel reads or writes; the caller vouches for the pointers inside.
    let got = unsafe { syscall!(libc::SYS_bpf, command, attr.0.as_mut_ptr(), size) }?;
    Ok(got as libc::c_int)
}

/// Takes a fd that bpf(2) has just returned; the kernel makes it O_CLOEXEC.
fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: fd was returned by this process's bpf(2) a moment ago and nobody
    // else has seen its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// bpf(BPF_PROG_LOAD) of a BPF_PROG_TYPE_CGROUP_DEVICE program.
pub fn prog_load_cgroup_device(insns: &[Insn]) -> Result<OwnedFd, Errno> {
    let license = c"Apache-2.0";
    let mut attr = Attr::new();
    attr.u32(0, BPF_PROG_TYPE_CGROUP_DEVICE);
    attr.u32(4, u32::try_from(insns.len()).map_err(|_| Errno::TOOBIG)?);
    attr.ptr(8, insns.as_ptr());
    attr.ptr(16, license.as_ptr());
    // SAFETY: insns and license outlive the call; the kernel only reads them.
    unsafe { bpf(BPF_PROG_LOAD, &mut attr, 48) }.map(owned)
}

/// bpf(BPF_PROG_ATTACH) to a cgroup v2 directory with BPF_F_ALLOW_MULTI: every
/// attached program has to allow an access. rmdir of the cgroup detaches.
pub fn prog_attach_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = Attr::new();
    attr.fd(0, cgroup);
    attr.fd(4, program);
    attr.u32(8, BPF_CGROUP_DEVICE);
    attr.u32(12, BPF_F_ALLOW_MULTI);
    // SAFETY: the block holds numbers only; both fds are borrowed for the call.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr, 16) }.map(drop)
}

/// bpf(BPF_OBJ_PIN): gives a program a name in bpffs. EEXIST if it is taken.
pub fn obj_pin(program: BorrowedFd<'_>, path: &CStr) -> Result<(), Errno> {
    let mut attr = Attr::new();
    attr.ptr(0, path.as_ptr());
    attr.fd(8, program);
    // SAFETY: path is a NUL-terminated string that outlives the call and is only read.
    unsafe { bpf(BPF_OBJ_PIN, &mut attr, 16) }.map(drop)
}

/// bpf(BPF_OBJ_GET): opens what is pinned at `path`.
pub fn obj_get(path: &CStr) -> Result<OwnedFd, Errno> {
    let mut attr = Attr::new();
    attr.ptr(0, path.as_ptr());
    // SAFETY: path is a NUL-terminated string that outlives the call and is only read.
    unsafe { bpf(BPF_OBJ_GET, &mut attr, 16) }.map(owned)
}
