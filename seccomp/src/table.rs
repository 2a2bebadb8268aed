//! Names and numbers of system calls for every ABI, as build.rs found them in
//! the kernel's headers. Lookups only: no policy, no profile types.

use crate::arch::Arch;
use crate::hash;
use crate::mux::IPC_BIT;

mod generated {
    #![allow(clippy::unreadable_literal)]
    use crate::hash;
    include!(concat!(env!("OUT_DIR"), "/tables.rs"));

    pub(super) fn name(id: usize) -> &'static str {
        &BLOB[OFFSETS[id] as usize..OFFSETS[id + 1] as usize]
    }
    pub(super) fn slot(at: usize) -> u16 {
        SLOT[at]
    }
    pub(super) fn number(column: usize, id: usize) -> u32 {
        NUMBERS[column][id]
    }
    pub(super) fn mux(id: usize) -> u8 {
        MUX[id]
    }
}

pub(crate) use generated::{
    AARCH64, ARM, LOONGARCH64, MIPS, MIPS64, MIPS64N32, NAMES, PPC, PPC64, RISCV64, S390X, X32, X86, X86_64,
};

/// Index of a name in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameId(u16);

/// Finds a system call by name, whatever ABI has it.
pub(crate) fn find(name: &str) -> Option<NameId> {
    let mut at = hash::slot(name.as_bytes());
    loop {
        let id = generated::slot(at);
        if id == u16::MAX {
            return None;
        }
        if generated::name(id as usize) == name {
            return Some(NameId(id));
        }
        at = (at + 1) % hash::SLOTS;
    }
}

/// The number of a call on one ABI, as seccomp sees it: with
/// `__X32_SYSCALL_BIT` on x32, from 4000, 5000 and 6000 on the mips ABIs.
pub(crate) fn number(arch: Arch, id: NameId) -> Option<u32> {
    let number = generated::number(arch.column(), id.0 as usize);
    (number != u32::MAX).then_some(number)
}

/// The multiplexer through which a call can also come, on ABIs that have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mux {
    pub(crate) call: &'static str,
    pub(crate) selector: u8,
}

pub(crate) fn mux(id: NameId) -> Option<Mux> {
    match generated::mux(id.0 as usize) {
        0 => None,
        byte if byte & IPC_BIT != 0 => Some(Mux { call: "ipc", selector: byte & !IPC_BIT }),
        byte => Some(Mux { call: "socketcall", selector: byte }),
    }
}

pub(crate) fn name_of(id: NameId) -> &'static str {
    generated::name(id.0 as usize)
}

/// The number of the call `name` on `arch`, or `None` when that ABI lacks it.
///
/// ```
/// use xebec_seccomp::{Arch, syscall_number};
/// assert_eq!(syscall_number(Arch::X86_64, "openat2"), Some(437));
/// assert_eq!(syscall_number(Arch::X86_64, "socketcall"), None);
/// ```
pub fn syscall_number(arch: Arch, name: &str) -> Option<u32> {
    number(arch, find(name)?)
}

/// The name of call `number` on `arch`; a linear search, for diagnostics. Where
/// one number has two names (arm's 341) the first in the alphabet is given.
pub fn syscall_name(arch: Arch, number: u32) -> Option<&'static str> {
    syscalls(arch).find(|&(_, n)| n == number).map(|(name, _)| name)
}

/// Every call of `arch` with its number, in the order of names.
pub fn syscalls(arch: Arch) -> impl Iterator<Item = (&'static str, u32)> {
    (0..NAMES as u16).filter_map(move |id| {
        let id = NameId(id);
        Some((name_of(id), number(arch, id)?))
    })
}
