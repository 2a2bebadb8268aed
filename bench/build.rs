//! Builds the floor, which has no libc and no std, with the compiler at hand, always optimized: what is
//! measured must not depend on the profile that the measuring program was built with.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

fn main() {
    println!("cargo:rerun-if-changed=floor");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let floor = PathBuf::from(variable("OUT_DIR")).join("floor");
    if variable("CARGO_CFG_TARGET_ARCH") != "x86_64" {
        // Its entry and system calls are x86_64's; bench says that it has no floor.
        std::fs::write(&floor, "").unwrap_or_else(|error| fail(&format!("{}: {error}", floor.display())));
        return;
    }
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["floor/main.rs", "--crate-name", "floor", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["--target", &variable("TARGET"), "-o"]).arg(&floor);
    for option in ["opt-level=3", "lto=fat", "codegen-units=1", "panic=abort", "strip=symbols"] {
        rustc.args(["-C", option]);
    }
    // Not relocatable: what is possible, where xebec is a static PIE.
    for option in ["relocation-model=static", "link-arg=-nostartfiles", "link-arg=-nostdlib", "link-arg=-static"] {
        rustc.args(["-C", option]);
    }
    match rustc.status() {
        Ok(status) if status.success() => {}
        other => fail(&format!("{rustc:?}: {other:?}")),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("building the floor: {message}");
    exit(1)
}
