//! Makes the system call tables. The numbers come from two crates whose
//! sources are generated from the kernel: `linux-raw-sys` (the kernel's own
//! headers) and `linux-sysno` (newer calls, and the mips n32 ABI). Both expose
//! constants or enums that cannot be enumerated from Rust, so their sources
//! are read as text. Nothing here is written by hand but the list of files.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "src/hash.rs"]
mod hash;
#[path = "src/mux.rs"]
mod mux;

type Table = BTreeMap<String, u32>;

struct Source {
    /// Name of the generated constant that holds this column's index.
    column: &'static str,
    /// Directory in linux-raw-sys, when it has the ABI.
    raw: Option<&'static str>,
    /// File in linux-sysno.
    sysno: &'static str,
    /// First number of the ABI.
    base: u32,
    /// ABIs on the generic table (asm-generic/unistd.h). There linux-sysno 0.5
    /// has names of 32-bit ABIs only and lacks newfstatat, so it serves only
    /// for numbers the headers at hand do not have yet.
    generic: bool,
}

const fn source(
    column: &'static str,
    raw: Option<&'static str>,
    sysno: &'static str,
    base: u32,
    generic: bool,
) -> Source {
    Source { column, raw, sysno, base, generic }
}

const SOURCES: [Source; 13] = [
    source("X86_64", Some("x86_64"), "x86_64", 0, false),
    source("X86", Some("x86"), "x86", 0, false),
    source("X32", Some("x32"), "x32", 0x4000_0000, false),
    source("AARCH64", Some("aarch64"), "aarch64", 0, true),
    source("ARM", Some("arm"), "arm", 0, false),
    source("RISCV64", Some("riscv64"), "generic", 0, true),
    source("LOONGARCH64", Some("loongarch64"), "generic", 0, true),
    source("S390X", Some("s390x"), "s390x", 0, false),
    source("PPC64", Some("powerpc64"), "powerpc64", 0, false),
    source("PPC", Some("powerpc"), "powerpc", 0, false),
    source("MIPS", Some("mips"), "mips", 4000, false),
    source("MIPS64", Some("mips64"), "mips64", 5000, false),
    source("MIPS64N32", None, "mipsn32", 6000, false),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/hash.rs");
    println!("cargo::rerun-if-changed=src/mux.rs");
    let dirs = crate_dirs();
    let tables: Vec<Table> = SOURCES.iter().map(|s| read(s, &dirs)).collect();
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("tables.rs");
    fs::write(&out, render(&tables)).expect("writing the tables to OUT_DIR");
}

struct Dirs {
    raw: PathBuf,
    sysno: PathBuf,
}

/// Asks cargo where it keeps the sources of the two crates. XEBEC_RAW_SYS_SRC
/// and XEBEC_SYSNO_SRC name the directories for builds without cargo metadata.
fn crate_dirs() -> Dirs {
    println!("cargo::rerun-if-env-changed=XEBEC_RAW_SYS_SRC");
    println!("cargo::rerun-if-env-changed=XEBEC_SYSNO_SRC");
    if let (Some(raw), Some(sysno)) = (env::var_os("XEBEC_RAW_SYS_SRC"), env::var_os("XEBEC_SYSNO_SRC")) {
        return Dirs { raw: raw.into(), sysno: sysno.into() };
    }
    let manifest = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("Cargo.toml");
    // Offline first: the two crates are there, since cargo built them. It fails
    // only where others of the workspace (dev-dependencies) were never fetched.
    let output = metadata(&manifest, &["--offline"]);
    let output = if output.status.success() { output } else { metadata(&manifest, &[]) };
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    Dirs {
        raw: package_src(&metadata, "linux-raw-sys", "0.12.1"),
        sysno: package_src(&metadata, "linux-sysno", "0.5.0"),
    }
}

fn metadata(manifest: &Path, more: &[&str]) -> Output {
    Command::new(env::var_os("CARGO").expect("cargo sets CARGO"))
        .args(["metadata", "--format-version=1", "--filter-platform"])
        .arg(env::var_os("HOST").expect("cargo sets HOST"))
        .arg("--manifest-path")
        .arg(manifest)
        .args(more)
        .output()
        .expect("running cargo metadata")
}

fn package_src(metadata: &serde_json::Value, name: &str, version: &str) -> PathBuf {
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    let package = packages
        .iter()
        .find(|p| p["name"] == name && p["version"] == version)
        .unwrap_or_else(|| panic!("no {name} {version} in cargo metadata"));
    let manifest = package["manifest_path"].as_str().expect("manifest_path is a string");
    Path::new(manifest).parent().expect("a manifest has a directory").join("src")
}

fn read(source: &Source, dirs: &Dirs) -> Table {
    let mut table = Table::new();
    if let Some(raw) = source.raw {
        let text = text_of(&dirs.raw.join(raw).join("general.rs"));
        for line in text.lines() {
            if let Some((name, number)) = raw_line(line) {
                table.insert(name.to_owned(), number);
            }
        }
    }
    // Numbers of the table proper: mips and arm have private ones far above.
    let newest = table.values().copied().filter(|n| n - source.base < 1000).max().unwrap_or(0);
    let text = text_of(&dirs.sysno.join(source.sysno).with_extension("rs"));
    for line in text.lines() {
        let Some((name, number)) = sysno_line(line) else {
            continue;
        };
        let newer = number > newest && number - source.base < 1000;
        if source.generic && !newer {
            continue;
        }
        let old = table.insert(name.to_owned(), number);
        assert!(
            old.is_none_or(|o| o == number),
            "{}: {name} is {number} in linux-sysno and {old:?} in linux-raw-sys",
            source.column
        );
    }
    assert!(table.len() > 300, "{}: only {} calls found", source.column, table.len());
    table
}

fn text_of(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `pub const __NR_read: u32 = 0;`, and __ARM_NR_ for arm's private calls.
fn raw_line(line: &str) -> Option<(&str, u32)> {
    let rest = line.strip_prefix("pub const __")?;
    let rest = rest.strip_prefix("ARM_").unwrap_or(rest).strip_prefix("NR_")?;
    let (name, number) = rest.strip_suffix(';')?.split_once(": u32 = ")?;
    // Bounds of the number space and reserved slots, not calls.
    let marker = ["Linux", "BASE", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "SYSCALL_MASK"];
    (!marker.contains(&name) && !unused(name)).then_some((name, number.parse().ok()?))
}

/// `    read = 0,` inside the enum, with `r#` before a Rust keyword.
fn sysno_line(line: &str) -> Option<(&str, u32)> {
    let (name, number) = line.strip_prefix("    ")?.strip_suffix(',')?.split_once(" = ")?;
    let name = name.strip_prefix("r#").unwrap_or(name);
    let number = number.parse().ok()?;
    (!unused(name)).then_some((name, number))
}

fn unused(name: &str) -> bool {
    ["unused", "reserved"]
        .iter()
        .filter_map(|p| name.strip_prefix(p))
        .any(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

fn render(tables: &[Table]) -> String {
    let mut names: Vec<&str> = tables.iter().flat_map(|t| t.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() * 2 < hash::SLOTS, "raise hash::SLOTS for {} names", names.len());
    let mut offsets = vec![0];
    for name in &names {
        offsets.push(offsets[offsets.len() - 1] + name.len());
    }
    let mut slots = vec![u16::MAX; hash::SLOTS];
    for (id, name) in names.iter().enumerate() {
        let mut at = hash::slot(name.as_bytes());
        while slots[at] != u16::MAX {
            at = (at + 1) % hash::SLOTS;
        }
        slots[at] = id as u16;
    }
    let mut out = String::new();
    put(&mut out, &format!("pub(crate) const NAMES: usize = {};", names.len()));
    put(&mut out, &format!("static BLOB: &str = {:?};", names.concat()));
    put(&mut out, &format!("static OFFSETS: [u16; NAMES + 1] = {offsets:?};"));
    put(&mut out, &format!("static SLOT: [u16; hash::SLOTS] = {slots:?};"));
    let selectors: Vec<u8> = names.iter().map(|n| selector(n)).collect();
    put(&mut out, &format!("static MUX: [u8; NAMES] = {selectors:?};"));
    let columns = tables.len();
    put(&mut out, &format!("static NUMBERS: [[u32; NAMES]; {columns}] = ["));
    for table in tables {
        let row: Vec<u32> = names.iter().map(|n| table.get(*n).copied().unwrap_or(u32::MAX)).collect();
        put(&mut out, &format!("    {row:?},"));
    }
    put(&mut out, "];");
    for (index, source) in SOURCES.iter().enumerate() {
        put(&mut out, &format!("pub(crate) const {}: usize = {index};", source.column));
    }
    out
}

fn selector(name: &str) -> u8 {
    if let Some(at) = mux::SOCKETCALL.iter().position(|n| *n == name) {
        return at as u8 + 1;
    }
    mux::IPC.iter().find(|(n, _)| *n == name).map_or(0, |(_, s)| s | mux::IPC_BIT)
}

fn put(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("writing to a string cannot fail");
}
