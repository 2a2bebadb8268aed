//! The ABIs a filter can tell apart: how the kernel names each to seccomp
//! (AUDIT_ARCH_*), how wide its arguments are, and how it multiplexes socket
//! and SysV calls. No rule or profile is known here.

use crate::table;

/// Bit that marks an x32 call; x32 shares its AUDIT_ARCH with x86_64.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// A system call ABI, named as `SCMP_ARCH_*` in the runtime spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Loongarch64,
    S390x,
    Ppc64le,
    Ppc64,
    Ppc,
    Mips,
    Mipsel,
    Mips64,
    Mipsel64,
    Mips64n32,
    Mipsel64n32,
}

/// One row an ABI: spec name, AUDIT_ARCH value (uapi/linux/audit.h: the ELF
/// machine, bit 31 for 64-bit calls, bit 30 for little endian, bit 29 for n32),
/// table column.
const ROWS: [(Arch, &str, u32, usize); 17] = [
    (Arch::X86_64, "SCMP_ARCH_X86_64", 0xc000_003e, table::X86_64),
    (Arch::X86, "SCMP_ARCH_X86", 0x4000_0003, table::X86),
    (Arch::X32, "SCMP_ARCH_X32", 0xc000_003e, table::X32),
    (Arch::Aarch64, "SCMP_ARCH_AARCH64", 0xc000_00b7, table::AARCH64),
    (Arch::Arm, "SCMP_ARCH_ARM", 0x4000_0028, table::ARM),
    (Arch::Riscv64, "SCMP_ARCH_RISCV64", 0xc000_00f3, table::RISCV64),
    (Arch::Loongarch64, "SCMP_ARCH_LOONGARCH64", 0xc000_0102, table::LOONGARCH64),
    (Arch::S390x, "SCMP_ARCH_S390X", 0x8000_0016, table::S390X),
    (Arch::Ppc64le, "SCMP_ARCH_PPC64LE", 0xc000_0015, table::PPC64),
    (Arch::Ppc64, "SCMP_ARCH_PPC64", 0x8000_0015, table::PPC64),
    (Arch::Ppc, "SCMP_ARCH_PPC", 0x0000_0014, table::PPC),
    (Arch::Mips, "SCMP_ARCH_MIPS", 0x0000_0008, table::MIPS),
    (Arch::Mipsel, "SCMP_ARCH_MIPSEL", 0x4000_0008, table::MIPS),
    (Arch::Mips64, "SCMP_ARCH_MIPS64", 0x8000_0008, table::MIPS64),
    (Arch::Mipsel64, "SCMP_ARCH_MIPSEL64", 0xc000_0008, table::MIPS64),
    (Arch::Mips64n32, "SCMP_ARCH_MIPS64N32", 0xa000_0008, table::MIPS64N32),
    (Arch::Mipsel64n32, "SCMP_ARCH_MIPSEL64N32", 0xe000_0008, table::MIPS64N32),
];

/// Names the spec allows (runtime-spec 1.3.0, config-linux.md, Seccomp) for
/// which the kernel crates give no table. A filter kills their calls.
const WITHOUT_TABLE: [&str; 6] =
    ["SCMP_ARCH_S390", "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_M68K", "SCMP_ARCH_SH", "SCMP_ARCH_SHEB"];

/// What a spec name of an architecture stands for.
pub(crate) enum Named {
    Known(Arch),
    WithoutTable,
    Unknown,
}

pub(crate) fn named(name: &str) -> Named {
    match ROWS.iter().find(|row| row.1 == name) {
        Some(row) => Named::Known(row.0),
        None if WITHOUT_TABLE.contains(&name) => Named::WithoutTable,
        None => Named::Unknown,
    }
}

impl Arch {
    /// Every ABI this crate can filter.
    pub const ALL: [Arch; 17] = {
        let mut all = [Arch::X86_64; 17];
        let mut index = 0;
        while index < ROWS.len() {
            all[index] = ROWS[index].0;
            index += 1;
        }
        all
    };

    /// The ABI this program was compiled for.
    ///
    /// ```
    /// # #[cfg(target_arch = "x86_64")]
    /// assert_eq!(xebec_seccomp::Arch::native(), xebec_seccomp::Arch::X86_64);
    /// ```
    pub const fn native() -> Arch {
        let little = cfg!(target_endian = "little");
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Arch::X86_64
        } else if cfg!(target_arch = "x86_64") {
            Arch::X32
        } else if cfg!(target_arch = "x86") {
            Arch::X86
        } else if cfg!(target_arch = "aarch64") {
            Arch::Aarch64
        } else if cfg!(target_arch = "arm") {
            Arch::Arm
        } else if cfg!(target_arch = "riscv64") {
            Arch::Riscv64
        } else if cfg!(target_arch = "loongarch64") {
            Arch::Loongarch64
        } else if cfg!(target_arch = "s390x") {
            Arch::S390x
        } else if cfg!(target_arch = "powerpc64") {
            if little { Arch::Ppc64le } else { Arch::Ppc64 }
        } else if cfg!(target_arch = "powerpc") {
            Arch::Ppc
        } else if cfg!(target_arch = "mips") {
            if little { Arch::Mipsel } else { Arch::Mips }
        } else if cfg!(target_arch = "mips64") {
            match (little, cfg!(target_pointer_width = "32")) {
                (true, false) => Arch::Mipsel64,
                (false, false) => Arch::Mips64,
                (true, true) => Arch::Mipsel64n32,
                (false, true) => Arch::Mips64n32,
            }
        } else {
            panic!("no system call table for this architecture")
        }
    }

    fn row(self) -> &'static (Arch, &'static str, u32, usize) {
        &ROWS[self as usize]
    }

    /// The name of the spec, such as `SCMP_ARCH_X86_64`.
    pub fn spec_name(self) -> &'static str {
        self.row().1
    }

    /// The ABI of a spec name; `None` for an unknown one and for one without a
    /// system call table.
    pub fn from_spec_name(name: &str) -> Option<Arch> {
        match named(name) {
            Named::Known(arch) => Some(arch),
            Named::WithoutTable | Named::Unknown => None,
        }
    }

    /// The kernel's `AUDIT_ARCH_*` value, `seccomp_data.arch`.
    pub fn audit(self) -> u32 {
        self.row().2
    }

    /// The ABI of a call, by its `AUDIT_ARCH_*` value and its number: x86_64 and
    /// x32 share the former.
    pub fn of_call(audit: u32, number: u32) -> Option<Arch> {
        let x32 = audit == Arch::X32.audit() && number & X32_BIT != 0;
        if x32 { Some(Arch::X32) } else { Arch::ALL.into_iter().find(|arch| arch.audit() == audit) }
    }

    pub(crate) fn column(self) -> usize {
        self.row().3
    }

    /// Whether arguments are compared in 64 bits. x32 and mips n32 have 64-bit
    /// registers but 32-bit longs: only the low half counts, as in libseccomp.
    pub fn is_64bit(self) -> bool {
        use Arch::*;
        matches!(self, X86_64 | Aarch64 | Riscv64 | Loongarch64 | S390x | Ppc64le | Ppc64 | Mips64 | Mipsel64)
    }

    /// Whether the low half of a 64-bit argument comes second in memory.
    pub fn is_big_endian(self) -> bool {
        use Arch::*;
        matches!(self, S390x | Ppc64 | Ppc | Mips | Mips64 | Mips64n32)
    }

    /// Whether the kernel has socketcall(2) and ipc(2) for this ABI.
    pub(crate) fn multiplexes(self) -> bool {
        use Arch::*;
        matches!(self, X86 | S390x | Ppc64le | Ppc64 | Ppc | Mips | Mipsel)
    }

    /// First number of the ABI's table.
    pub(crate) fn base(self) -> u32 {
        use Arch::*;
        match self {
            X32 => X32_BIT,
            Mips | Mipsel => 4000,
            Mips64 | Mipsel64 => 5000,
            Mips64n32 | Mipsel64n32 => 6000,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abi_finds_its_own_row_and_name() {
        for arch in Arch::ALL {
            assert_eq!(arch.row().0, arch);
            assert_eq!(Arch::from_spec_name(arch.spec_name()), Some(arch));
        }
    }

    #[test]
    fn a_call_tells_its_abi_by_audit_value_and_number() {
        for arch in Arch::ALL {
            assert_eq!(Arch::of_call(arch.audit(), arch.base()), Some(arch));
        }
        assert_eq!(Arch::of_call(7, 0), None);
    }

    #[test]
    fn audit_values_agree_with_width_and_byte_order() {
        for arch in Arch::ALL {
            assert_eq!(arch.audit() & 0x4000_0000 == 0, arch.is_big_endian(), "{arch:?}");
            let n32 = arch == Arch::X32 || arch.audit() & 0x2000_0000 != 0;
            assert_eq!(arch.audit() & 0x8000_0000 != 0, arch.is_64bit() || n32, "{arch:?}");
        }
    }
}
