//! uid_map and gid_map of a new user namespace (user_namespaces(7)): written by us where we have the right,
//! otherwise by newuidmap(1) and newgidmap(1), which know the caller's subordinate ids.

use std::process::{Command, Stdio};

use rustix::io::Errno;

use crate::config::IdMapping;
use crate::error::{Error, Kind, Result};
use crate::plan::{IdMaps, MapWriter};

/// Gives the child's user namespace its ids.
pub fn write_maps(pid: i32, maps: &IdMaps, writers: (MapWriter, MapWriter)) -> Result<()> {
    write_by(writers.0, pid, "uid_map", "linux.uidMappings", &maps.uid)?;
    write_by(writers.1, pid, "gid_map", "linux.gidMappings", &maps.gid)
}

fn write_by(writer: MapWriter, pid: i32, file: &str, item: &str, maps: &[IdMapping]) -> Result<()> {
    match writer {
        MapWriter::Direct => write_map(pid, file, item, maps),
        MapWriter::WithoutSetgroups => {
            deny_setgroups(pid)?;
            write_map(pid, file, item, maps)
        }
        MapWriter::Helper => ask_helper(pid, file, item, maps),
    }
}

fn deny_setgroups(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/setgroups");
    std::fs::write(&path, "deny").map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        Error::sys("linux.gidMappings", format!("write({path:?}, \"deny\")"), errno)
    })
}

/// user_namespaces(7): one write holds all lines.
pub fn write_map(pid: i32, file: &str, item: &str, maps: &[IdMapping]) -> Result<()> {
    let lines: String = maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, &lines).map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        Error::sys(item, format!("write({path:?}, {})", first_lines(maps)), errno)
    })
}

/// An error has to stay readable, and a map may have 340 lines.
fn first_lines(maps: &[IdMapping]) -> String {
    const SHOWN: usize = 4;
    let shown = maps.iter().take(SHOWN).map(|m| format!("{} {} {}", m.container_id, m.host_id, m.size));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match maps.len().saturating_sub(SHOWN) {
        0 => format!("{shown:?}"),
        more => format!("{shown:?} and {more} more"),
    }
}

/// The helper is looked up in $PATH: it is the caller who calls it, with no more rights than the caller has.
fn ask_helper(pid: i32, file: &str, item: &str, maps: &[IdMapping]) -> Result<()> {
    let (helper, registry) =
        if file == "uid_map" { ("newuidmap", "/etc/subuid") } else { ("newgidmap", "/etc/subgid") };
    let ids = maps.iter().flat_map(|m| [m.container_id, m.host_id, m.size]).map(|id| id.to_string());
    let called = Command::new(helper).arg(pid.to_string()).args(ids).stdin(Stdio::null()).output();
    let output = called.map_err(|e| {
        let error = Error::sys(item, helper, Errno::from_io_error(&e).unwrap_or(Errno::IO));
        error.hint(format!("mapping more than one's own id takes {helper} in $PATH: install the package uidmap"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', ", ");
    let said = if said.is_empty() { format!("{helper} ended with {}", output.status) } else { said };
    Err(Error::new(Kind::System, item, said).hint(refusal_hint(maps, registry)))
}

/// subuid(5): what the registry must say for this map.
fn refusal_hint(maps: &[IdMapping], registry: &str) -> String {
    let caller = rustix::process::getuid().as_raw();
    let wanted = maps.iter().filter(|m| m.host_id != caller || m.size != 1);
    let last = |m: &IdMapping| u64::from(m.host_id) + u64::from(m.size);
    let (first, end) = wanted.fold((u32::MAX, 0), |(first, end), m| (first.min(m.host_id), end.max(last(m))));
    format!(
        "{registry} must give the caller the host ids {first} to {}: a line {caller}:{first}:{}; usermod(8) adds one",
        end.saturating_sub(1),
        end.saturating_sub(u64::from(first)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn a_long_map_is_shortened_in_an_error() {
        let maps: Vec<IdMapping> = (0..340).map(|id| map(id, id, 1)).collect();
        assert_eq!(first_lines(&maps), "\"0 0 1, 1 1 1, 2 2 1, 3 3 1\" and 336 more");
        assert_eq!(first_lines(&maps[..1]), "\"0 0 1\"");
    }

    #[test]
    fn the_hint_names_the_ids_that_are_missing() {
        let own = rustix::process::getuid().as_raw();
        let hint = refusal_hint(&[map(0, own, 1), map(1, 200_000, 1000)], "/etc/subuid");
        assert!(hint.contains("200000 to 200999") && hint.contains(":200000:1000"), "{hint}");
    }
}
