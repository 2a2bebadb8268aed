//! Start-up benchmarks for OCI container runtimes.
//!
//! Empty so far, and says so: first figures come from `xebec-integration figures`.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("xebec-bench: no cases yet; `make figures` times run and create to delete beside crun and runc");
    ExitCode::from(2)
}
