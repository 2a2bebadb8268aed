//! The Debian root file system that the servers come from: built by mmdebstrap when it is absent,
//! kept under the name of its recipe. Runs before the sandbox, because it needs the network.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SUITE: &str = "bookworm";
const PACKAGES: &[&str] = &["nginx-light", "postgresql", "redis-server"];

/// The kept root file system below `keep`, built if need be.
pub fn prepare(keep: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(keep).map_err(|error| format!("{}: {error}", keep.display()))?;
    let keep = fs::canonicalize(keep).map_err(|error| format!("{}: {error}", keep.display()))?;
    let name = format!("{SUITE}-{:016x}", fingerprint(&PACKAGES.join(",")));
    let finished = keep.join(&name);
    if finished.is_dir() {
        return Ok(finished);
    }
    // Built beside, renamed when whole: an interrupted build is never taken for a root file system.
    let building = keep.join(format!("{name}.{}", std::process::id()));
    println!("building {} with mmdebstrap", finished.display());
    let built =
        build(&building).and_then(|()| fs::rename(&building, &finished).map_err(|error| format!("rename: {error}")));
    if let Err(message) = built {
        // What is there of it goes; it may not exist.
        drop(fs::remove_dir_all(&building));
        return Err(message);
    }
    Ok(finished)
}

/// FNV-1a: only tells one recipe from another.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// mmdebstrap in mount and PID namespaces of its own: nothing of it outlives an interruption.
fn build(directory: &Path) -> Result<(), String> {
    let log = directory.with_extension("log");
    let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let errors = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
    let sources = apt_sources();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc", "mmdebstrap"]);
    command.args(["--variant=minbase", &format!("--include={}", PACKAGES.join(","))]);
    command.arg(SUITE).arg(directory);
    // Without a source of ours mmdebstrap takes Debian's own mirror.
    command.args((!sources.is_empty()).then_some("-"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("unshare mmdebstrap: {error}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(sources.as_bytes()).map_err(|error| format!("mmdebstrap's stdin: {error}"))?;
    }
    let status = child.wait().map_err(|error| format!("mmdebstrap: {error}"))?;
    let said = fs::read(&log).unwrap_or_default();
    fs::remove_file(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(10)..].join("\n");
    Err(format!("mmdebstrap: {status}\n{last}"))
}

/// The host's apt sources that serve the suite, as they are written: one-line and deb822 style.
fn apt_sources() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d");
    files.extend(more.into_iter().flatten().flatten().map(|entry| entry.path()));
    let texts = files.iter().filter_map(|path| fs::read_to_string(path).ok());
    texts.map(|text| of_suite(&text)).collect()
}

/// The entries of one file that name the suite or one of its pockets (`bookworm-security`).
fn of_suite(text: &str) -> String {
    let ours = |word: &str| word == SUITE || word.starts_with(&format!("{SUITE}-"));
    let stanza_fits = |stanza: &str| {
        stanza.lines().filter_map(|line| line.strip_prefix("Suites:")).any(|suites| suites.split_whitespace().any(ours))
    };
    let line_fits = |line: &str| line.starts_with("deb ") && line.split_whitespace().any(ours);
    let mut found = String::new();
    for stanza in text.split("\n\n") {
        if stanza_fits(stanza) {
            found += &format!("{}\n\n", stanza.trim());
        } else {
            found.extend(stanza.lines().filter(|line| line_fits(line)).map(|line| format!("{line}\n")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_suite_is_taken_from_the_sources() {
        let text = "# comment\nTypes: deb\nSuites: bookworm bookworm-updates\n\nTypes: deb\nSuites: nodistro\n";
        assert_eq!(super::of_suite(text), "# comment\nTypes: deb\nSuites: bookworm bookworm-updates\n\n");
        let text = "deb http://a bookworm main\ndeb-src http://a bookworm main\ndeb http://b cloud-bookworm main\n";
        assert_eq!(super::of_suite(text), "deb http://a bookworm main\n");
    }
}
