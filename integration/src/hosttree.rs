//! A tree of files as it stands: what an attacker may not get a runtime to change.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Larger files count by size and time only.
const READ_MOST: u64 = 64 << 10;

/// Every entry of a tree, with its kind, owner, mode and a hash of its content. Times are left out but for
/// large files: reading a file is no change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, String>);

impl Snapshot {
    /// Everything at and below `top` that `skip` does not name; other file systems are left out.
    pub fn of(top: &Path, skip: &[PathBuf]) -> io::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let device = fs::symlink_metadata(top)?.dev();
        snapshot.walk(top, device, skip)?;
        Ok(snapshot)
    }

    fn walk(&mut self, path: &Path, device: u64, skip: &[PathBuf]) -> io::Result<()> {
        if skip.iter().any(|skipped| skipped == path) {
            return Ok(());
        }
        let meta = fs::symlink_metadata(path)?;
        self.0.insert(path.to_path_buf(), describe(path, &meta)?);
        if meta.is_dir() && meta.dev() == device {
            for entry in fs::read_dir(path)? {
                self.walk(&entry?.path(), device, skip)?;
            }
        }
        Ok(())
    }

    /// What is there and was not, is gone, or is another; empty when nothing has changed.
    pub fn changes(&self, later: &Snapshot) -> Vec<String> {
        let gone = self.0.iter().filter(|(path, _)| !later.0.contains_key(*path));
        let gone = gone.map(|(path, what)| format!("{path:?} is gone: {what}"));
        let changed = later.0.iter().filter_map(|(path, now)| match self.0.get(path) {
            None => Some(format!("{path:?} is new: {now}")),
            Some(before) if before != now => Some(format!("{path:?} was {before} and is {now}")),
            Some(_) => None,
        });
        gone.chain(changed).collect()
    }

    /// Adds another tree's entries.
    pub fn extend(&mut self, other: Snapshot) {
        self.0.extend(other.0);
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn describe(path: &Path, meta: &fs::Metadata) -> io::Result<String> {
    let kind = meta.file_type();
    let what = if kind.is_file() && meta.len() > READ_MOST {
        format!("{} bytes of {}.{}", meta.len(), meta.mtime(), meta.mtime_nsec())
    } else if kind.is_file() {
        let mut hasher = DefaultHasher::new();
        fs::read(path)?.hash(&mut hasher);
        format!("{} bytes {:016x}", meta.len(), hasher.finish())
    } else if kind.is_symlink() {
        format!("link to {:?}", fs::read_link(path)?.as_os_str().as_bytes().escape_ascii().to_string())
    } else if kind.is_block_device() || kind.is_char_device() {
        format!("device {}", meta.rdev())
    } else {
        // Directories, sockets, fifos: their mode says which.
        String::new()
    };
    Ok(format!("{:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_seen_and_reading_is_none() {
        let top = std::env::temp_dir().join(format!("xebec-hosttree-{}", std::process::id()));
        fs::create_dir_all(top.join("skipped")).expect("a directory");
        fs::write(top.join("file"), "one").expect("a file");
        fs::write(top.join("gone"), "").expect("a file");
        let skip = [top.join("skipped")];
        let before = Snapshot::of(&top, &skip).expect("readable");
        fs::read(top.join("file")).expect("readable");
        fs::write(top.join("skipped/file"), "").expect("a file");
        assert_eq!(before.changes(&Snapshot::of(&top, &skip).expect("readable")), [""; 0]);
        fs::write(top.join("file"), "two").expect("a file");
        fs::remove_file(top.join("gone")).expect("removed");
        fs::create_dir(top.join("new")).expect("a directory");
        let changes = before.changes(&Snapshot::of(&top, &skip).expect("readable"));
        assert_eq!(changes.len(), 3, "{changes:?}");
        fs::remove_dir_all(&top).expect("removed");
    }
}
