//! Holes that OCI runtimes have had, one test or more each, named after its id; docs/cves.md is their table.
//!
//! The root file system, what runs in a container and whoever shares a volume with it are the attacker's. What an
//! attack aims at here is a decoy of the test's own, never a knob of the machine.

mod cgroups;
mod exec;
mod procfs;
mod races;
mod rootfs;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use crate::case::{Group, Outcome, fail};
use crate::ensure;
use crate::hosttree::Snapshot;
use crate::trial::Trial;

pub fn group() -> Group {
    let mut group = Group::new("hostile", "engine contract");
    rootfs::add(&mut group);
    procfs::add(&mut group);
    exec::add(&mut group);
    cgroups::add(&mut group);
    races::add(&mut group);
    group
}

/// What of the host an attack aims at: a directory outside the bundle that nothing may touch.
#[derive(Debug)]
pub struct Decoy {
    pub path: PathBuf,
    before: Snapshot,
}

impl Decoy {
    /// `scratch/decoy` with a file `knob`, a file `ptmx` and a directory.
    pub fn plant(t: &Trial) -> Outcome<Decoy> {
        let path = t.scratch.join("decoy");
        fs::create_dir(&path)?;
        fs::create_dir(path.join("directory"))?;
        fs::write(path.join("knob"), "the host's")?;
        fs::write(path.join("ptmx"), "the host's")?;
        t.hand_over()?;
        let before = Snapshot::of(&path, &[])?;
        Ok(Decoy { path, before })
    }

    /// The decoy as a link in the root file system may name it: absolute, or by enough dots from anywhere.
    pub fn as_target(&self, relative: bool) -> PathBuf {
        let absolute = self.path.as_path();
        match (relative, absolute.strip_prefix("/")) {
            (true, Ok(below)) => Path::new(&"../".repeat(12)).join(below),
            _ => absolute.to_path_buf(),
        }
    }

    /// Fails when anything of it has changed.
    pub fn untouched(&self) -> Outcome {
        let changes = self.before.changes(&Snapshot::of(&self.path, &[])?);
        ensure!(changes.is_empty(), "the host's files are not what they were: {}", changes.join("; "));
        Ok(())
    }
}

/// Drops every mount at or below `top` from the configuration.
pub fn without_mounts_at(t: &mut Trial, top: &str) -> Outcome {
    let Some(mounts) = t.config.pointer("/mounts").and_then(|mounts| mounts.as_array()).cloned() else {
        return fail("the default bundle has no mounts");
    };
    let below = |destination: &str| Path::new(destination).starts_with(top);
    let kept = mounts.into_iter().filter(|mount| !below(mount["destination"].as_str().unwrap_or("")));
    t.set("/mounts", kept.collect());
    Ok(())
}

/// Puts something else where a directory or a file of the root file system was.
pub fn clear(path: &Path) -> Outcome {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(fs::remove_dir_all(path)?),
        Ok(_) => Ok(fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}
