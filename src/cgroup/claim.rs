//! ACT: claim the place, make the cgroup, fill it.
//!
//! The claim comes before anything is made and before the record is stored: it
//! refuses a cgroup in use, so a record never names processes of somebody else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::controllers;
use super::dir::Dir;
use super::path::CgroupPath;
use super::plan::{CgroupPlan, DeviceFilter, HierarchyPlan};
use super::program;
use super::record::Record;
use super::systemd::{self, Bus, Unit};
use super::values::Write;
use crate::error::{Error, Kind, Result};

const ITEM: &str = "linux.cgroupsPath";

/// A place found free, ready to be made.
#[derive(Debug)]
pub struct Claim<'p> {
    plan: &'p CgroupPlan,
    roots: Vec<(Dir, bool)>,
    /// Who makes it, where that is not the runtime.
    manager: Option<Bus>,
}

/// A container's cgroup, made and held by fds (all O_CLOEXEC).
#[derive(Debug)]
pub struct Cgroup<'p> {
    pub(super) plan: &'p CgroupPlan,
    leaves: Vec<Leaf<'p>>,
    /// systemd and the hierarchy's root, until [`Cgroup::start_unit`].
    manager: Option<(Bus, Dir)>,
}

#[derive(Debug)]
struct Leaf<'p> {
    plan: &'p HierarchyPlan,
    dir: Dir,
    /// What the cgroup v2 offers; empty for v1.
    controllers: Vec<String>,
}

impl CgroupPlan {
    /// What has to be stored to be able to remove the cgroup later.
    #[must_use]
    pub fn record(&self) -> Record {
        let (mut v2, mut v1) = (None, Vec::new());
        for hierarchy in &self.hierarchies {
            match hierarchy.v1.is_empty() {
                true => v2 = Some(self.path.at(&hierarchy.mount)),
                false => v1.push((hierarchy.v1.join(","), self.path.at(&hierarchy.mount))),
            }
        }
        let unit = self.unit.as_ref().map(|unit| Unit {
            name: unit.name.unit.clone(),
            user: unit.user,
            top: self.hierarchies.first().filter(|_| unit.subgroup.is_some()).map(|h| self.unit_path().at(&h.mount)),
        });
        Record { v2, v1, unit }
    }

    /// The cgroup of the unit, or without one the container's.
    fn unit_path(&self) -> CgroupPath {
        match &self.unit {
            Some(unit) if unit.subgroup.is_some() => self.path.parent(),
            _ => self.path.clone(),
        }
    }

    /// Opens the cgroup of a container that has one, to apply an update's plan
    /// ([`super::plan_update`]). Switches on controllers that the update needs.
    pub fn open(&self) -> Result<Cgroup<'_>> {
        let mut leaves = Vec::with_capacity(self.hierarchies.len());
        for hierarchy in &self.hierarchies {
            let failed = |path: &str, errno| Error::sys("cgroup", format!("open({path:?})"), errno);
            let root = Dir::open(&hierarchy.mount).map_err(|errno| failed(&hierarchy.mount, errno))?;
            let dir = open(&root, &self.path.to_string()[1..])?;
            let controllers = match hierarchy.v1.is_empty() {
                true => controllers::enable(&root, &self.path, &dir, &hierarchy.writes)?,
                false => Vec::new(),
            };
            leaves.push(Leaf { plan: hierarchy, dir, controllers });
        }
        Ok(Cgroup { plan: self, leaves, manager: None })
    }

    /// Looks whether the place is free: absent, or an empty cgroup that is not frozen
    /// (config-linux.md, "Control groups"). Makes nothing. Store [`CgroupPlan::record`]
    /// between this and [`Claim::create`].
    pub fn claim(&self) -> Result<Claim<'_>> {
        let mut roots = Vec::with_capacity(self.hierarchies.len());
        for hierarchy in &self.hierarchies {
            let root = Dir::open(&hierarchy.mount)
                .map_err(|errno| Error::sys("cgroup", format!("open({:?})", hierarchy.mount), errno))?;
            let there = self.check_free(&root)?;
            roots.push((root, there));
        }
        let manager = self.unit.as_ref().map(|unit| Bus::connect(unit.user)).transpose()?;
        Ok(Claim { plan: self, roots, manager })
    }

    /// Whether the cgroup is there; an error if it is in use.
    fn check_free(&self, root: &Dir) -> Result<bool> {
        let below = &self.unit_path().to_string()[1..];
        let leaf = match root.open_below(below) {
            Ok(leaf) => leaf,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(Error::sys(ITEM, format!("openat2({:?}, {below:?})", root.path), errno)),
        };
        let frozen = leaf.read("cgroup.freeze").is_ok_and(|state| state.trim() == "1")
            || leaf.read("freezer.state").is_ok_and(|state| state.trim() != "THAWED");
        if frozen {
            let text = format!("{} exists and is frozen", leaf.path);
            return Err(Error::new(Kind::Exists, ITEM, text).hint("thaw or remove it, or choose another cgroupsPath"));
        }
        if !super::record::procs_below(&leaf)?.is_empty() {
            let text = format!("{} exists and holds processes", leaf.path);
            return Err(
                Error::new(Kind::Exists, ITEM, text).hint("is it another container's? choose another cgroupsPath")
            );
        }
        Ok(true)
    }
}

impl<'p> Claim<'p> {
    /// Makes the directories and switches controllers on. After an error nothing that
    /// was made here is left.
    ///
    /// With the systemd driver nothing is made yet: a scope needs its process first.
    pub fn create(mut self) -> Result<Cgroup<'p>> {
        // Without a manager the roots stay: they are where the cgroup is made.
        if let Some(bus) = self.manager.take()
            && let Some((root, _)) = self.roots.pop()
        {
            return Ok(Cgroup { plan: self.plan, leaves: Vec::new(), manager: Some((bus, root)) });
        }
        let mut made = Vec::new();
        match self.make_all(&mut made) {
            Ok(cgroup) => Ok(cgroup),
            Err(error) => {
                undo(&made);
                Err(error)
            }
        }
    }

    fn make_all<'c>(&'c self, made: &mut Vec<(&'c Dir, String)>) -> Result<Cgroup<'p>> {
        let mut leaves = Vec::with_capacity(self.roots.len());
        for (hierarchy, (root, there)) in self.plan.hierarchies.iter().zip(&self.roots) {
            let before = made.len();
            let dir = match make_leaf(root, &self.plan.path, *there, made) {
                Err(error) if hierarchy.may_be_missing && is_denied(&error) => {
                    undo(&made[before..]);
                    made.truncate(before);
                    continue;
                }
                other => other?,
            };
            if hierarchy.v1.iter().any(|c| c == "cpuset") {
                fill_cpuset(root, &self.plan.path)?;
            }
            let controllers = match hierarchy.v1.is_empty() {
                true => controllers::enable(root, &self.plan.path, &dir, &hierarchy.writes)?,
                false => Vec::new(),
            };
            leaves.push(Leaf { plan: hierarchy, dir, controllers });
        }
        Ok(Cgroup { plan: self.plan, leaves, manager: None })
    }
}

fn is_denied(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// Takes back what a failed create has made. That create's error is the one that
/// counts, and a directory that somebody has moved into meanwhile stays theirs.
fn undo(made: &[(&Dir, String)]) {
    for (root, path) in made.iter().rev() {
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        if let Ok(parent) = root.open_below(above) {
            parent.rmdir(name.as_ref()).unwrap_or(());
        }
    }
}

/// mkdir -p under the root's fd; every made directory is noted.
fn make_leaf<'c>(root: &'c Dir, path: &CgroupPath, there: bool, made: &mut Vec<(&'c Dir, String)>) -> Result<Dir> {
    let above = path.ancestors().join("/");
    let opened = match above.is_empty() {
        true => None,
        false => match root.open_below(&above) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT) => make_ancestors(root, path, made)?,
            Err(errno) => return Err(Error::sys(ITEM, format!("openat2({:?}, {above:?})", root.path), errno)),
        },
    };
    let parent = opened.as_ref().unwrap_or(root);
    let fresh = parent.mkdir(path.leaf())?;
    match (fresh, there) {
        (true, _) => made.push((root, path.to_string()[1..].to_owned())),
        (false, true) => {}
        (false, false) => {
            // It was not there a moment ago: two creates want the same place.
            return Err(Error::new(Kind::Exists, ITEM, format!("{} is just being made", parent.join(path.leaf()))));
        }
    }
    open(parent, path.leaf())
}

fn make_ancestors<'c>(root: &'c Dir, path: &CgroupPath, made: &mut Vec<(&'c Dir, String)>) -> Result<Option<Dir>> {
    let mut last: Option<Dir> = None;
    let mut below = String::new();
    for name in path.ancestors() {
        below.push_str(if below.is_empty() { "" } else { "/" });
        below.push_str(name);
        let dir = last.as_ref().unwrap_or(root);
        if dir.mkdir(name)? {
            made.push((root, below.clone()));
        }
        last = Some(open(dir, name)?);
    }
    Ok(last)
}

pub fn open(dir: &Dir, name: &str) -> Result<Dir> {
    dir.open_below(name).map_err(|errno| Error::sys("cgroup", format!("openat2({:?})", dir.join(name)), errno))
}

/// v1 cpusets are born empty and take no process until they have CPUs and memory
/// nodes: each level that has none takes its parent's.
fn fill_cpuset(root: &Dir, path: &CgroupPath) -> Result<()> {
    let mut parent = open(root, ".")?;
    for name in path.ancestors().iter().map(String::as_str).chain([path.leaf()]) {
        let dir = open(&parent, name)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let read = |dir: &Dir| {
                dir.read(file).map_err(|errno| Error::sys("cgroup", format!("read({:?})", dir.join(file)), errno))
            };
            if read(&dir)?.trim().is_empty() {
                let value = read(&parent)?.trim().to_owned();
                let failed = |errno| Error::sys("cgroup", format!("write({:?}, {value:?})", dir.join(file)), errno);
                dir.write(file, &value).map_err(failed)?;
            }
        }
        parent = dir;
    }
    Ok(())
}

impl Cgroup<'_> {
    /// With the systemd driver: has the unit made around process `pid`, and takes hold of
    /// the cgroup. Nothing is left to do for [`Cgroup::place`].
    pub fn start_unit(&mut self, pid: u32) -> Result<()> {
        let plan = self.plan;
        let (Some(unit), Some((mut bus, root))) = (&plan.unit, self.manager.take()) else { return Ok(()) };
        systemd::start(&mut bus, unit, pid)?;
        let mut dir = open(&root, &plan.unit_path().to_string()[1..])?;
        if let Some(name) = &unit.subgroup {
            dir.mkdir(name)?;
            dir = open(&dir, name)?;
        }
        if unit.subgroup.is_some() || unit.name.is_slice() {
            super::join::place(&dir, pid)?;
        }
        for hierarchy in &plan.hierarchies {
            let controllers = controllers::enable(&root, &plan.path, &dir, &hierarchy.writes)?;
            let dir = open(&dir, ".")?;
            self.leaves.push(Leaf { plan: hierarchy, dir, controllers });
        }
        Ok(())
    }

    /// With the systemd driver: tells systemd of an update's values, so that it does not
    /// undo them. To be followed by [`Cgroup::apply`], which writes them exactly.
    pub fn tell_unit(&self) -> Result<()> {
        let Some(unit) = self.plan.unit.as_ref().filter(|unit| !unit.properties.is_empty()) else { return Ok(()) };
        // systemd would write at once what must not be written.
        for leaf in &self.leaves {
            leaf.plan.writes.list.iter().try_for_each(|write| leaf.check_usage(write))?;
        }
        systemd::set_properties(&mut Bus::connect(unit.user)?, &unit.name.unit, &unit.properties)
    }

    /// The cgroup v2 directory for CLONE_INTO_CGROUP; `None` without one.
    #[must_use]
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2_dir().map(Dir::as_fd)
    }

    pub(super) fn v2_dir(&self) -> Option<&Dir> {
        self.leaves.iter().find(|leaf| leaf.plan.v1.is_empty()).map(|leaf| &leaf.dir)
    }

    /// Makes a cgroup threaded that the kernel refused a process for (EOPNOTSUPP): below
    /// a threaded cgroup a new one takes none until it is threaded too. Whether it was that.
    pub fn make_threaded(&self) -> Result<bool> {
        let Some(dir) = self.v2_dir() else { return Ok(false) };
        let failed = |call: String, errno| Error::sys(ITEM, call, errno);
        let kind =
            dir.read("cgroup.type").map_err(|errno| failed(format!("read({:?})", dir.join("cgroup.type")), errno))?;
        if kind.trim() != "domain invalid" {
            return Ok(false);
        }
        dir.write("cgroup.type", "threaded")
            .map_err(|errno| failed(format!("write({:?}, \"threaded\")", dir.join("cgroup.type")), errno))?;
        Ok(true)
    }

    /// Whether nothing was made: the container stays in the caller's cgroup.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Whether [`Cgroup::place`] has anything to do for a child born in [`Cgroup::v2`].
    #[must_use]
    pub fn has_v1(&self) -> bool {
        self.leaves.iter().any(|leaf| !leaf.plan.v1.is_empty())
    }

    /// Moves process `pid` into every v1 hierarchy, and into the v2 one unless it was
    /// born there. Each move waits for RCU, up to milliseconds.
    pub fn place(&self, pid: u32, born_in_v2: bool) -> Result<()> {
        // v2 first: a create killed in the middle leaves a process that cgroup.kill finds.
        let (v2, v1): (Vec<_>, Vec<_>) = self.leaves.iter().partition(|leaf| leaf.plan.v1.is_empty());
        let v2 = v2.into_iter().filter(|_| !born_in_v2);
        v2.chain(v1).try_for_each(|leaf| super::join::place(&leaf.dir, pid))
    }

    /// Writes the values, puts the device filter in force, hands the cgroup over to its
    /// owner. Before the container's own code runs.
    pub fn apply(&self) -> Result<()> {
        for leaf in &self.leaves {
            leaf.apply_all()?;
        }
        let Some(v2) = self.leaves.iter().find(|leaf| leaf.plan.v1.is_empty()) else { return Ok(()) };
        if let DeviceFilter::Program { program, pin, may_be_missing } = &self.plan.devices {
            program::attach(&v2.dir, program, pin, *may_be_missing)?;
        }
        match self.plan.owner {
            Some(owner) => hand_over(&v2.dir, owner),
            None => Ok(()),
        }
    }

    /// The cgroup v2 directory, to keep; drops the rest.
    #[must_use]
    pub fn into_v2(self) -> Option<OwnedFd> {
        self.leaves.into_iter().find(|leaf| leaf.plan.v1.is_empty()).map(|leaf| leaf.dir.into_fd())
    }
}

impl Leaf<'_> {
    /// Writes the values in order. Some depend on each other in a way that changes with
    /// what was there before (memory and memory+swap, quota and burst): what the kernel
    /// refuses with EINVAL is tried once more after the rest.
    fn apply_all(&self) -> Result<()> {
        let mut refused = Vec::new();
        for write in &self.plan.writes.list {
            match self.apply(write) {
                Err(error) if error.errno() == Some(Errno::INVAL) => refused.push(write),
                other => other?,
            }
        }
        refused.into_iter().try_for_each(|write| self.apply(write))
    }

    fn apply(&self, write: &Write) -> Result<()> {
        let is_v2 = self.plan.v1.is_empty();
        if is_v2 && write.harmless && !self.controllers.contains(&write.controller) {
            return Ok(());
        }
        self.check_usage(write)?;
        let mut tried = (&write.file, &write.value);
        let mut result = self.dir.write(tried.0, tried.1);
        if let (Err(Errno::NOENT), Some((file, value))) = (result, &write.or) {
            tried = (file, value);
            result = self.dir.write(file, value);
        }
        match result {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) if write.harmless => Ok(()),
            Err(errno) => Err(self.write_error(write, tried, errno)),
        }
    }

    fn check_usage(&self, write: &Write) -> Result<()> {
        let Some((file, limit)) = write.not_below else { return Ok(()) };
        let usage = self.dir.read(file).ok().and_then(|text| text.trim().parse::<i64>().ok());
        match usage.filter(|usage| *usage >= limit) {
            Some(usage) => Err(Error::invalid(&write.item, format!("{limit} is not above the {usage} bytes in use"))),
            None => Ok(()),
        }
    }

    fn write_error(&self, write: &Write, (file, value): (&String, &String), errno: Errno) -> Error {
        let call = format!("write({:?}, {value:?})", self.dir.join(file));
        let error = Error::sys(&write.item, call, errno);
        let controller = &write.controller;
        let absent = self.plan.v1.is_empty() && !self.controllers.contains(controller);
        match errno {
            Errno::NOENT if absent && controller != "cgroup" => {
                error.hint(format!("the {controller} controller is not available in {}", self.dir.path))
            }
            Errno::NOENT => error.hint("this kernel has no such file"),
            Errno::INVAL | Errno::RANGE => error.hint("the kernel does not take this value"),
            Errno::BUSY if controller == "memory" => error.hint("the limit is below the memory in use"),
            Errno::NODEV => error.hint("there is no such device"),
            _ => error,
        }
    }
}

/// Gives the cgroup and the files that the kernel lists for delegation to `owner`.
pub fn hand_over(dir: &Dir, owner: u32) -> Result<()> {
    let failed = |file: &str, errno| Error::sys("cgroup", format!("chown({:?}, {owner})", dir.join(file)), errno);
    dir.chown("", owner).map_err(|errno| failed("", errno))?;
    // cgroups(7): since kernel 4.15.
    let list = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for file in list.lines() {
        match dir.chown(file, owner) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(file, errno)),
        }
    }
    Ok(())
}
