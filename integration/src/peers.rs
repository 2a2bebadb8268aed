//! What a runtime needs from its surroundings on a restricted machine. Nothing about verdicts:
//! every runtime is held to the same tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// CAP_SYS_RESOURCE, capabilities(7).
const CAP_SYS_RESOURCE: u32 = 24;

/// crun raises RLIMIT_MEMLOCK before it loads the device program and gives up on EPERM; kernels since
/// 5.11 account BPF memory to the cgroup, so hiding that one failure changes nothing else.
const PRELOAD_SOURCE: &str = r#"
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit) {
  long done = syscall(SYS_prlimit64, 0, resource, limit, 0);
  return resource == RLIMIT_MEMLOCK ? 0 : done;
}
"#;

/// True where the calling process holds the capability with this number.
pub fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> number & 1 == 1)
}

/// Builds the library that crun needs where CAP_SYS_RESOURCE is missing; `None` where nobody needs it.
pub fn prepare_preload(runtimes: &[PathBuf], directory: &Path) -> Result<Option<PathBuf>, String> {
    if has_capability(CAP_SYS_RESOURCE) || !runtimes.iter().any(|runtime| is_crun(runtime)) {
        return Ok(None);
    }
    let source = directory.join("memlock.c");
    let library = directory.join("memlock.so");
    fs::write(&source, PRELOAD_SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let status = Command::new("gcc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status()
        .map_err(|error| format!("gcc, needed to let crun run without CAP_SYS_RESOURCE: {error}"))?;
    if !status.success() {
        return Err(format!("gcc could not build {}", source.display()));
    }
    Ok(Some(library))
}

/// crun names itself in its version text, whatever the file is called.
pub fn is_crun(runtime: &Path) -> bool {
    let output = Command::new(runtime).arg("--version").stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout.starts_with(b"crun "))
}
