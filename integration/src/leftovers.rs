//! What a runtime may not leave behind: processes, mounts, cgroups, state files.
//! Compares the sandbox before the first and after the last call of the runtime.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::options::View;

/// How long the kernel may take to finish what the runtime started (reaping, cgroup release).
const GRACE: Duration = Duration::from_secs(2);

/// What there was before the test.
#[derive(Debug)]
pub struct Baseline {
    view: View,
    cgroup_name: String,
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
}

impl Baseline {
    pub fn take(view: View, cgroup_name: &str) -> Baseline {
        Baseline {
            view,
            cgroup_name: cgroup_name.to_string(),
            processes: processes(),
            mounts: mounts(),
            cgroups: cgroups(view, cgroup_name),
        }
    }

    /// Everything that is there now and was not before; empty when all is clean.
    /// Waits up to [`GRACE`] for it to go away.
    pub fn compare(&self, root: &Path, ids: &[String]) -> Vec<String> {
        let deadline = Instant::now() + GRACE;
        loop {
            let found = self.look(root, ids);
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn look(&self, root: &Path, ids: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(processes().difference(&self.processes).map(|what| format!("process {what}")));
        found.extend(mounts().difference(&self.mounts).map(|what| format!("mount {what}")));
        let cgroups = cgroups(self.view, &self.cgroup_name);
        found.extend(cgroups.difference(&self.cgroups).map(|path| format!("cgroup {}", path.display())));
        for path in directories_and_files(root) {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if ids.iter().any(|id| name.split('/').any(|part| part == id)) {
                found.push(format!("state {}", path.display()));
            }
        }
        found
    }
}

/// Processes of the PID namespace, as `pid (name)`: PID 1, this one, and a message bus.
fn processes() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeSet::from(["?: /proc is unreadable".into()]);
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some(format!("{pid} ({})", name.trim()))
        })
        .collect()
}

fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(" ")).collect()
}

/// cgroup directories a test could have made: all of them in a private view, those below the
/// test's own name on a host's hierarchies. Slices are systemd's to keep.
fn cgroups(view: View, name: &str) -> BTreeSet<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    match view {
        View::V2 => {
            let slice = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "slice");
            directories(top).into_iter().filter(|path| !slice(path)).collect()
        }
        View::Host => cgroups_named(name).iter().flat_map(|path| directories(path)).collect(),
    }
}

/// Directories called `name` at the top of, or one step below the top of, any cgroup hierarchy.
pub fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for point in crate::sandbox::mount_points_below(Path::new("/sys/fs/cgroup")).unwrap_or_default() {
        let candidate = point.join(name);
        if candidate.is_dir() {
            found.push(candidate);
        }
    }
    found
}

fn directories(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(top) else {
        return found;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(directories(&entry.path()));
            found.push(entry.path());
        }
    }
    found
}

fn directories_and_files(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(top) else {
        return found;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(directories_and_files(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

/// Removes the cgroups of a suite that was killed: those named after a process that is gone.
pub fn sweep_abandoned() {
    let Some(own) = crate::sandbox::own_cgroup_directory("") else {
        return;
    };
    let Ok(entries) = fs::read_dir(own) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("xebec-it-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_cgroup(&entry.path());
        }
    }
}

/// Ends whatever is in a test's cgroup2 cgroup and removes it, children first.
pub fn remove_cgroup(directory: &Path) {
    if !directory.is_dir() {
        return;
    }
    // Absent before Linux 5.14; the PID namespace has ended the processes in that case too.
    drop(fs::write(directory.join("cgroup.kill"), "1"));
    let deadline = Instant::now() + GRACE;
    loop {
        for child in directories(directory) {
            // A child that is still busy is tried again with its parent.
            drop(fs::remove_dir(child));
        }
        if fs::remove_dir(directory).is_ok() || Instant::now() > deadline {
            return;
        }
        sleep(Duration::from_millis(5));
    }
}
