//! The payload that costs nothing: a static program of one page, without libc, that exits with 0.
//! A libc's start-up is longer than a whole container start, so it would hide what is measured.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where an ELF file is loaded by custom; the entry follows the two headers.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// `exit(0)` in machine code, and the machine's number in an ELF header (elf(5), `e_machine`).
const EXIT: Option<(u16, &[u8])> = if cfg!(target_arch = "x86_64") {
    // xor edi, edi; mov eax, 60; syscall
    Some((62, &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]))
} else if cfg!(target_arch = "aarch64") {
    // mov x0, #0; mov x8, #93; svc #0
    Some((183, &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4]))
} else {
    None
};

/// The same of a program that waits until it is killed.
const WAIT: Option<(u16, &[u8])> = if cfg!(target_arch = "x86_64") {
    // mov eax, 34 (pause); syscall; jmp to the beginning
    Some((62, &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]))
} else {
    None
};

/// Puts `/exit` and `/wait` into the root file system; busybox's `true` and `sleep` where no
/// machine code is known.
pub fn install(rootfs: &Path) -> io::Result<()> {
    for (name, known, script) in [("exit", EXIT, "#!/bin/true\n"), ("wait", WAIT, "#!/bin/sh\nexec sleep 100000\n")] {
        let path = rootfs.join(name);
        match known {
            Some((machine, code)) => fs::write(&path, program(machine, code))?,
            None => fs::write(&path, script)?,
        }
        executable(&path)?;
    }
    Ok(())
}

fn executable(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// A 64-bit little-endian ELF file of one loaded segment, elf(5).
fn program(machine: u16, code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    // ET_EXEC, machine, version, entry, program headers' offset, no sections, no flags.
    put(&2u16.to_le_bytes());
    put(&machine.to_le_bytes());
    put(&1u32.to_le_bytes());
    put(&(BASE + HEADERS).to_le_bytes());
    put(&64u64.to_le_bytes());
    put(&[0; 12]);
    // Sizes and counts: ELF header 64, one program header of 56, no section headers.
    for size in [64u16, 56, 1, 0, 0, 0] {
        put(&size.to_le_bytes());
    }
    // PT_LOAD, readable and executable, the whole file.
    put(&1u32.to_le_bytes());
    put(&5u32.to_le_bytes());
    let size = HEADERS + code.len() as u64;
    for word in [0, BASE, BASE, size, size, 0x1000] {
        put(&word.to_le_bytes());
    }
    put(code);
    file
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_runs_and_exits_with_zero() {
        let directory = std::env::temp_dir().join(format!("xebec-payload-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a scratch directory");
        super::install(&directory).expect("the program is written");
        let status = std::process::Command::new(directory.join("exit")).status();
        std::fs::remove_dir_all(&directory).expect("the scratch directory goes");
        assert_eq!(status.expect("the kernel loads it").code(), Some(0));
    }
}
