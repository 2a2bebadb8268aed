//! `linux.intelRdt`: the container's group in the resctrl file system (config-linux.md, "IntelRdt").
//!
//! The parent surveys it before anything is made, so that state.json names what is
//! going to be made, makes it once there is a process to put in, and delete removes
//! exactly that. Without linux.intelRdt no resctrl file system is touched.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstatfs, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::Resctrl;

const ITEM: &str = "linux.intelRdt";
const ROOT: &str = "/sys/fs/resctrl";
/// RDTGROUP_SUPER_MAGIC of linux/magic.h.
const RDTGROUP_SUPER_MAGIC: u64 = 0x765_5821;

/// What state.json remembers: the groups that the container's processes belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Below the root of resctrl; `.` is the default group.
    pub group: String,
    /// The group is this container's alone: delete removes it.
    pub owned: bool,
    /// The monitoring group, below the root of resctrl; delete removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
}

/// A group between survey and use.
#[derive(Debug)]
pub struct Group {
    root: OwnedFd,
    record: Record,
    lines: Vec<String>,
    /// It is not there yet.
    missing: bool,
    /// This create has made a group that the record does not own.
    made_shared: bool,
}

fn failed(call: &str, path: &str, errno: Errno) -> Error {
    let path = path.trim_start_matches("./");
    Error::sys(ITEM, format!("{call}(\"{ROOT}/{path}\")"), errno)
}

/// The mounted resctrl file system.
fn open_root() -> Result<OwnedFd> {
    let not_mounted = || {
        Error::invalid(ITEM, format!("no resctrl file system is mounted on {ROOT}"))
            .hint(format!("mount -t resctrl resctrl {ROOT}; it takes a processor with resource control"))
    };
    let root = match openat(CWD, ROOT, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Err(not_mounted()),
        Err(errno) => return Err(failed("openat", "", errno)),
    };
    match fstatfs(&root).map_err(|errno| failed("fstatfs", "", errno))?.f_type as u64 {
        RDTGROUP_SUPER_MAGIC => Ok(root),
        _ => Err(not_mounted()),
    }
}

fn open(root: &OwnedFd, path: &str, flags: OFlags) -> Result<std::fs::File> {
    openat(root, path, flags | OFlags::CLOEXEC, Mode::empty())
        .map(std::fs::File::from)
        .map_err(|errno| failed("openat", path, errno))
}

fn read(root: &OwnedFd, path: &str) -> Result<String> {
    let mut text = String::new();
    let read = open(root, path, OFlags::RDONLY)?.read_to_string(&mut text);
    read.map_err(|e| failed("read", path, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    Ok(text)
}

/// One write; the kernel explains a refusal in info/last_cmd_status.
fn write(root: &OwnedFd, path: &str, line: &str) -> Result<()> {
    let result = open(root, path, OFlags::WRONLY)?.write_all(format!("{line}\n").as_bytes());
    result.map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        let error = failed(&format!("write {line:?} "), path, errno);
        explain(root, error)
    })
}

fn explain(root: &OwnedFd, error: Error) -> Error {
    match read(root, "info/last_cmd_status") {
        Ok(said) if !matches!(said.trim(), "" | "ok") => error.note(&format!("the kernel says: {}", said.trim())),
        _ => error,
    }
}

fn is_directory(root: &OwnedFd, path: &str) -> Result<bool> {
    match statat(root, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("statat", path, errno)),
    }
}

fn make_directory(root: &OwnedFd, path: &str) -> Result<()> {
    mkdirat(root, path, Mode::from_raw_mode(0o755)).map_err(|errno| {
        let error = failed("mkdirat", path, errno);
        let error =
            if errno == Errno::NOSPC { error.hint("the processor has no free class or counter") } else { error };
        explain(root, error)
    })
}

/// rmdir(2); what is gone already is done. The kernel moves tasks that are left to the default group.
fn remove_directory(root: &OwnedFd, path: &str) -> Result<()> {
    match unlinkat(root, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("rmdir", path, errno)),
    }
}

impl Group {
    /// Looks at what is there; nothing is made.
    pub fn survey(plan: &Resctrl) -> Result<Group> {
        Group::survey_in(open_root()?, plan)
    }

    fn survey_in(root: OwnedFd, plan: &Resctrl) -> Result<Group> {
        let missing = !is_directory(&root, &plan.group)?;
        if missing && plan.must_exist {
            return Err(Error::invalid(ITEM, format!("closID {:?} names no group of {ROOT}", plan.group))
                .hint("make the group first, or give a schema"));
        }
        if let (false, Some(monitor)) = (missing, &plan.monitor) {
            // The record would make delete remove somebody else's.
            if is_directory(&root, monitor)? {
                return Err(Error::invalid(ITEM, format!("the monitoring group {ROOT}/{monitor} is there already"))
                    .hint("choose another container id, or remove it"));
            }
        }
        if !missing && plan.compared > 0 {
            let schemata = read(&root, &format!("{}/schemata", plan.group))?;
            let step = read(&root, "info/MB/bandwidth_gran").ok().and_then(|text| text.trim().parse().ok());
            for line in &plan.lines[..plan.compared] {
                if !agrees(line, &schemata, step) {
                    let text = format!("{line:?} is not what the group {ROOT}/{} has", plan.group);
                    return Err(
                        Error::invalid(ITEM, text).hint("several containers share it; give the same schema, or none")
                    );
                }
            }
        }
        let record =
            Record { group: plan.group.clone(), owned: missing && !plan.shared, monitor: plan.monitor.clone() };
        Ok(Group { root, record, lines: plan.lines.clone(), missing, made_shared: false })
    }

    /// What delete will have to know.
    #[must_use]
    pub fn record(&self) -> Record {
        self.record.clone()
    }

    /// Makes the groups, sets their limits, and puts the process `pid` into them.
    pub fn set_up(&mut self, pid: i32) -> Result<()> {
        self.make()?;
        self.write_schemata()?;
        self.make_monitor()?;
        join_in(&self.root, &self.record, pid)
    }

    fn make(&mut self) -> Result<()> {
        if self.missing {
            make_directory(&self.root, &self.record.group)?;
            self.made_shared = !self.record.owned;
        }
        Ok(())
    }

    fn write_schemata(&self) -> Result<()> {
        let path = format!("{}/schemata", self.record.group);
        self.lines.iter().try_for_each(|line| write(&self.root, &path, line))
    }

    fn make_monitor(&self) -> Result<()> {
        self.record.monitor.as_deref().map_or(Ok(()), |monitor| make_directory(&self.root, monitor))
    }

    /// After a failed create: removes a new group with a closID too, which delete would leave alone.
    #[must_use]
    pub fn take_back(self, error: Error) -> Error {
        if !self.made_shared {
            return error;
        }
        match remove_directory(&self.root, &self.record.group) {
            Ok(()) => error,
            Err(left) => error.note(&format!("and {left}")),
        }
    }
}

fn join_in(root: &OwnedFd, record: &Record, pid: i32) -> Result<()> {
    // The monitoring group takes only tasks of its control group.
    let groups = std::iter::once(&record.group).chain(&record.monitor);
    groups.into_iter().try_for_each(|group| write(root, &format!("{group}/tasks"), &pid.to_string()))
}

/// Puts a further process of the container into its groups.
pub fn join(record: &Record, pid: i32) -> Result<()> {
    join_in(&open_root()?, record, pid)
}

/// Writes lines of a schema for the group of `record`, in order.
pub fn write_schemata(record: &Record, lines: &[&str]) -> Result<()> {
    let root = open_root()?;
    lines.iter().try_for_each(|line| write(&root, &format!("{}/schemata", record.group), line))
}

/// Removes what create made.
pub fn remove(record: &Record) -> Result<()> {
    // With the mount its groups are gone too.
    open_root().map_or(Ok(()), |root| remove_in(&root, record))
}

fn remove_in(root: &OwnedFd, record: &Record) -> Result<()> {
    if let Some(monitor) = &record.monitor {
        remove_directory(root, monitor)?;
    }
    if record.owned { remove_directory(root, &record.group) } else { Ok(()) }
}

/// Does the group's `schemata` file say what `wanted` asks for? Domains that are not mentioned do not count.
///
/// Cache masks are hexadecimal; bandwidths are decimal, and the kernel has rounded them up to `step`.
fn agrees(wanted: &str, schemata: &str, step: Option<u64>) -> bool {
    let find = |resource: &str| {
        let values = schemata.lines().filter_map(|line| line.trim().split_once(':'));
        values.filter(|(name, _)| *name == resource).map(|(_, values)| values).next()
    };
    let same = |resource: &str, a: &str, b: &str| {
        let radix = if resource == "MB" { 10 } else { 16 };
        let number = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), radix).ok();
        let rounded = |n: u64| match step {
            Some(step) if resource == "MB" && step > 0 => n.next_multiple_of(step),
            _ => n,
        };
        number(a).zip(number(b)).is_some_and(|(a, b)| a == b || rounded(a) == b)
    };
    wanted.lines().filter_map(|line| line.trim().split_once(':')).all(|(resource, values)| {
        let Some(found) = find(resource) else { return false };
        let domains = values.split(';').filter(|domain| !domain.trim().is_empty());
        domains.into_iter().all(|domain| {
            let Some((id, value)) = domain.split_once('=') else { return false };
            let there = found.split(';').filter_map(|domain| domain.split_once('='));
            there.filter(|(other, _)| other.trim() == id.trim()).any(|(_, other)| same(resource, value, other))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A directory that looks like resctrl with one class, `gold`; the test does the kernel's part.
    fn fake() -> (tempfile::TempDir, impl Fn() -> OwnedFd) {
        let dir = tempfile::tempdir().expect("a directory");
        populate(dir.path(), "");
        populate(&dir.path().join("gold"), "    L3:0=7f0;1=1f\n    MB:0=20;1= 70\n");
        let path = dir.path().to_owned();
        let open = move || openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        (dir, move || open().expect("open"))
    }

    /// What the kernel puts into a new group.
    fn populate(group: &Path, schemata: &str) {
        std::fs::create_dir_all(group.join("mon_groups")).expect("mkdir");
        std::fs::write(group.join("schemata"), schemata).expect("write");
        std::fs::write(group.join("tasks"), "").expect("write");
    }

    fn plan(group: &str, lines: &[&str]) -> Resctrl {
        Resctrl {
            group: group.into(),
            shared: true,
            must_exist: lines.is_empty(),
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
            compared: lines.len(),
            monitor: None,
        }
    }

    #[test]
    fn a_group_of_the_containers_own_is_recorded_made_and_removed() {
        let (dir, root) = fake();
        let plan = Resctrl {
            shared: false,
            must_exist: false,
            monitor: Some("c1/mon_groups/c1".into()),
            ..plan("c1", &["L3:0=1"])
        };
        let mut group = Group::survey_in(root(), &plan).expect("surveyed");
        let record = group.record();
        assert_eq!(record, Record { group: "c1".into(), owned: true, monitor: Some("c1/mon_groups/c1".into()) });
        assert!(!dir.path().join("c1").exists(), "a survey makes nothing");
        group.make().expect("made");
        populate(&dir.path().join("c1"), "");
        group.write_schemata().expect("written");
        assert_eq!(std::fs::read_to_string(dir.path().join("c1/schemata")).expect("read"), "L3:0=1\n");
        group.make_monitor().expect("made");
        let monitor = dir.path().join("c1/mon_groups/c1");
        std::fs::write(monitor.join("tasks"), "").expect("write");
        join_in(&root(), &record, 42).expect("joined");
        for tasks in [dir.path().join("c1/tasks"), monitor.join("tasks")] {
            assert_eq!(std::fs::read_to_string(tasks).expect("read"), "42\n");
        }
        // A kernfs directory goes with its files; a real one must be empty first.
        std::fs::remove_file(monitor.join("tasks")).expect("remove");
        remove_directory(&root(), "c1/mon_groups/c1").expect("removed");
        std::fs::remove_dir_all(dir.path().join("c1")).expect("remove");
        std::fs::create_dir(dir.path().join("c1")).expect("mkdir");
        remove_in(&root(), &record).expect("removed");
        assert!(!dir.path().join("c1").exists());
        remove_in(&root(), &record).expect("twice is as good as once");
    }

    #[test]
    fn a_class_that_is_there_must_agree_and_stays_on_delete() {
        let (dir, root) = fake();
        let group = Group::survey_in(root(), &plan("gold", &["L3:0=07f0", "MB:1=70"])).expect("agrees");
        assert!(!group.record().owned);
        remove_in(&root(), &group.record()).expect("nothing to remove");
        assert!(dir.path().join("gold").exists());
        let error = Group::survey_in(root(), &plan("gold", &["L3:0=f"])).expect_err("differs").to_string();
        assert!(error.contains("\"L3:0=f\" is not what the group /sys/fs/resctrl/gold has"), "{error}");
    }

    #[test]
    fn a_class_without_a_schema_must_be_there() {
        let (_dir, root) = fake();
        let error = Group::survey_in(root(), &plan("silver", &[])).expect_err("missing").to_string();
        assert!(error.contains("closID \"silver\" names no group"), "{error}");
        let group = Group::survey_in(root(), &plan("gold", &[])).expect("there");
        join_in(&root(), &group.record(), 7).expect("joined");
    }

    #[test]
    fn a_new_class_goes_away_when_create_fails_and_stays_otherwise() {
        let (dir, root) = fake();
        let mut group = Group::survey_in(root(), &plan("silver", &["L3:0=1"])).expect("surveyed");
        group.make().expect("made");
        assert!(!group.record().owned, "delete leaves it alone");
        assert_eq!(group.take_back(Error::invalid("x", "failed")).to_string(), "x: failed");
        assert!(!dir.path().join("silver").exists());
    }

    #[test]
    fn somebody_elses_monitoring_group_is_not_taken() {
        let (dir, root) = fake();
        std::fs::create_dir(dir.path().join("gold/mon_groups/c1")).expect("mkdir");
        let plan = Resctrl { monitor: Some("gold/mon_groups/c1".into()), ..plan("gold", &[]) };
        let error = Group::survey_in(root(), &plan).expect_err("taken").to_string();
        assert!(error.contains("is there already"), "{error}");
    }

    #[test]
    fn the_kernels_own_words_come_with_its_refusal() {
        let (dir, root) = fake();
        std::fs::create_dir(dir.path().join("info")).expect("mkdir");
        std::fs::write(dir.path().join("info/last_cmd_status"), "Mask out of range\n").expect("write");
        let error = write(&root(), "gold/none", "L3:0=0").expect_err("no such file").to_string();
        assert!(error.contains("ENOENT"), "{error}");
        assert!(explain(&root(), Error::invalid("x", "y")).to_string().contains("the kernel says: Mask out of range"));
    }

    #[test]
    fn masks_are_compared_as_numbers_and_bandwidth_as_rounded() {
        let there = "    L3:0=7f0;1=1f\n    MB:0= 40;1=100\n";
        assert!(agrees("L3:1=001F", there, None));
        assert!(agrees("MB:0=35", there, Some(10)));
        assert!(!agrees("MB:0=35", there, None));
        assert!(!agrees("MB:0=25", there, Some(10)));
        assert!(!agrees("L3:2=1", there, None));
        assert!(!agrees("L2:0=1", there, None));
        assert!(!agrees("L3:0", there, None));
    }
}
