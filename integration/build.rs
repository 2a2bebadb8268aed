//! Builds data/calls.c, the payload of the seccomp cases, into the suite: the machine that runs the
//! suite then needs no compiler.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=data/calls.c");
    println!("cargo::rerun-if-env-changed=CC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("calls");
    let target = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    // The cases are skipped where there is no payload.
    let host = std::env::var("HOST").expect("cargo sets HOST");
    if !matches!(target.as_str(), "x86_64" | "aarch64") || !host.starts_with(&target) {
        std::fs::write(&out, []).expect("OUT_DIR can be written");
        return;
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "gcc".into());
    let status = Command::new(&compiler)
        .args(["-static", "-nostdlib", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector"])
        .args(["-fno-asynchronous-unwind-tables", "-O1", "-s", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&out)
        .arg("data/calls.c")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{compiler} could not build data/calls.c: {status}"),
        Err(error) => panic!("{compiler}, which builds data/calls.c: {error}"),
    }
}
