//! The host as a container must leave it: files, mounts, settings, cgroups, processes, descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::case::Outcome;
use crate::hosttree::Snapshot;
use crate::leftovers::Baseline;
use crate::trial::Trial;

use super::super::kills::base_name;
use super::image::HOST;

/// Nodes of the machine's /dev that a runtime could mistake for the container's.
const NODES: &[&str] =
    &["null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "fd", "stdin", "stdout"];

pub struct Host {
    baseline: Baseline,
    descriptors: usize,
    /// Those settings in /proc/sys that stay as they are by themselves.
    settings: BTreeMap<PathBuf, Vec<u8>>,
    /// Entries of the trees, told in the report.
    entries: usize,
}

impl Host {
    pub fn watch(t: &Trial) -> Outcome<Host> {
        let mut settings = BTreeMap::new();
        read_settings(Path::new("/proc/sys"), &mut settings);
        // What moves by itself says nothing: counters, and what is drawn anew at each reading.
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(30));
            let mut again = BTreeMap::new();
            read_settings(Path::new("/proc/sys"), &mut again);
            settings.retain(|path, value| again.get(path) == Some(value) && !is_counter(path));
        }
        let entries = tree(t, &t.bundle)?.len();
        let descriptors = descriptors()?;
        Ok(Host { baseline: Baseline::take(t.view, base_name(t)), descriptors, settings, entries })
    }

    pub fn describe(&self) -> String {
        format!(
            "{} files, {} settings of the kernel, mounts, cgroups, processes, {} descriptors",
            self.entries,
            self.settings.len(),
            self.descriptors
        )
    }

    /// The trees, once image and config are written.
    pub fn look(&self, t: &Trial, place: &Path) -> Outcome<Snapshot> {
        tree(t, place)
    }

    /// Everything that is not as it was.
    pub fn changes(&self, t: &Trial, place: &Path, before: &Snapshot) -> Outcome<Vec<String>> {
        let mut changes = before.changes(&tree(t, place)?);
        changes.extend(self.baseline.compare(&t.root, std::slice::from_ref(&t.id)));
        let now = descriptors()?;
        if now != self.descriptors {
            changes.push(format!("{} descriptors of the caller were {}", now, self.descriptors));
        }
        for (path, value) in &self.settings {
            let now = fs::read(path).unwrap_or_default();
            if now != *value {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
                changes.push(format!("{} was {:?} and is {:?}", path.display(), text(value), text(&now)));
            }
        }
        Ok(changes)
    }
}

/// The sandbox's whole /run but for what is meant to change, and the machine's device nodes.
fn tree(t: &Trial, place: &Path) -> Outcome<Snapshot> {
    let skip = [place.join("rootfs"), t.scratch.clone(), t.root.clone()];
    let mut all = Snapshot::of(Path::new("/run"), &skip)?;
    all.extend(Snapshot::of(Path::new(HOST), &[])?);
    for node in NODES {
        let path = Path::new("/dev").join(node);
        if path.symlink_metadata().is_ok() {
            all.extend(Snapshot::of(&path, &[])?);
        }
    }
    Ok(all)
}

fn descriptors() -> Outcome<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

fn read_settings(directory: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => read_settings(&path, into),
            // Some may only be written.
            _ => drop(fs::read(&path).map(|value| into.insert(path, value))),
        }
    }
}

fn is_counter(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let counters = [
        "/random/",
        "/fs/dentry",
        "/fs/inode",
        "/fs/file-nr",
        "/fs/aio-nr",
        "/fs/quota/",
        "ns_last_pid",
        "pty/nr",
        "_count",
    ];
    counters.iter().any(|counter| text.contains(counter))
}
