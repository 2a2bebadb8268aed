//! The table of mount options (config.md, "Linux mount options").
//!
//! One list serves the plan, which acts on it, and `features`, which prints it.
//! Options that are not here belong to the file system and go to its
//! fsconfig(2), as the specification asks. Makes no system call.

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
    MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME, MS_MANDLOCK, MS_PRIVATE, MS_REC, MS_SHARED, MS_SILENT, MS_SLAVE,
    MS_SYNCHRONOUS, MS_UNBINDABLE, c_ulong,
};

/// One option's name and what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOption {
    /// As written in `mounts[].options`.
    pub name: &'static str,
    /// What it does; where two options contradict each other the later one wins.
    pub effect: Effect,
}

/// What a mount option asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Attributes (`MOUNT_ATTR_*`) of this one mount: `clear` first, then `set`.
    ///
    /// An access time mode is an enumeration, so its options clear all of
    /// `MOUNT_ATTR__ATIME`, as mount_setattr(2) demands. On a new superblock
    /// `ro` also makes the superblock read-only, as it does in mount(8).
    Attr { set: u64, clear: u64 },
    /// The same for the mount and all below it (`AT_RECURSIVE`, kernel 5.12).
    RecAttr { set: u64, clear: u64 },
    /// Propagation, in the flags of mount(2): one `MS_*` type, perhaps with `MS_REC`.
    Propagation(c_ulong),
    /// A flag of the superblock: its `MS_*` bit, whether it is set or cleared,
    /// and the name that fsconfig(FSCONFIG_SET_FLAG) knows it by. `None`: the
    /// new mount API cannot express it and mount(2) only ever hinted by it.
    Superblock { flag: c_ulong, on: bool, fsconfig: Option<&'static str> },
    /// Bind mount of the source alone.
    Bind,
    /// Bind mount of the source with all mounts below it.
    Rbind,
    /// Change of what is mounted there already.
    Remount,
    /// Copy what the destination holds into the new tmpfs.
    TmpCopyUp,
    /// Map the mount's ids (`MOUNT_ATTR_IDMAP`, kernel 5.12).
    Idmap,
    /// Map the ids of the mount and of all below it.
    Ridmap,
    /// Known to mount(8), nothing for the kernel to do.
    Ignored,
}

const fn attr(name: &'static str, set: u64, clear: u64) -> MountOption {
    MountOption { name, effect: Effect::Attr { set, clear } }
}

const fn rec(name: &'static str, set: u64, clear: u64) -> MountOption {
    MountOption { name, effect: Effect::RecAttr { set, clear } }
}

const fn propagation(name: &'static str, flags: c_ulong) -> MountOption {
    MountOption { name, effect: Effect::Propagation(flags) }
}

const fn superblock(name: &'static str, flag: c_ulong, on: bool, fsconfig: Option<&'static str>) -> MountOption {
    MountOption { name, effect: Effect::Superblock { flag, on, fsconfig } }
}

const fn plain(name: &'static str, effect: Effect) -> MountOption {
    MountOption { name, effect }
}

/// All options, sorted by name.
///
/// `atime`, `norelatime` and `nostrictatime` give back the kernel's default,
/// which has been relatime since 2.6.30.
pub static MOUNT_OPTIONS: &[MountOption] = &[
    superblock("async", MS_SYNCHRONOUS, false, Some("async")),
    attr("atime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    plain("bind", Effect::Bind),
    plain("defaults", Effect::Ignored),
    attr("dev", 0, MOUNT_ATTR_NODEV),
    attr("diratime", 0, MOUNT_ATTR_NODIRATIME),
    superblock("dirsync", MS_DIRSYNC, true, Some("dirsync")),
    attr("exec", 0, MOUNT_ATTR_NOEXEC),
    plain("idmap", Effect::Idmap),
    superblock("iversion", MS_I_VERSION, true, None),
    superblock("lazytime", MS_LAZYTIME, true, Some("lazytime")),
    superblock("loud", MS_SILENT, false, None),
    superblock("mand", MS_MANDLOCK, true, Some("mand")),
    attr("noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
    attr("nodev", MOUNT_ATTR_NODEV, 0),
    attr("nodiratime", MOUNT_ATTR_NODIRATIME, 0),
    attr("noexec", MOUNT_ATTR_NOEXEC, 0),
    superblock("noiversion", MS_I_VERSION, false, None),
    superblock("nolazytime", MS_LAZYTIME, false, Some("nolazytime")),
    superblock("nomand", MS_MANDLOCK, false, Some("nomand")),
    attr("norelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    attr("nostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    attr("nosuid", MOUNT_ATTR_NOSUID, 0),
    attr("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0),
    propagation("private", MS_PRIVATE),
    rec("ratime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    plain("rbind", Effect::Rbind),
    rec("rdev", 0, MOUNT_ATTR_NODEV),
    rec("rdiratime", 0, MOUNT_ATTR_NODIRATIME),
    attr("relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    plain("remount", Effect::Remount),
    rec("rexec", 0, MOUNT_ATTR_NOEXEC),
    plain("ridmap", Effect::Ridmap),
    rec("rnoatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
    rec("rnodev", MOUNT_ATTR_NODEV, 0),
    rec("rnodiratime", MOUNT_ATTR_NODIRATIME, 0),
    rec("rnoexec", MOUNT_ATTR_NOEXEC, 0),
    rec("rnorelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    rec("rnostrictatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    rec("rnosuid", MOUNT_ATTR_NOSUID, 0),
    rec("rnosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0),
    attr("ro", MOUNT_ATTR_RDONLY, 0),
    propagation("rprivate", MS_PRIVATE | MS_REC),
    rec("rrelatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
    rec("rro", MOUNT_ATTR_RDONLY, 0),
    rec("rrw", 0, MOUNT_ATTR_RDONLY),
    propagation("rshared", MS_SHARED | MS_REC),
    propagation("rslave", MS_SLAVE | MS_REC),
    rec("rstrictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    rec("rsuid", 0, MOUNT_ATTR_NOSUID),
    rec("rsymfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
    propagation("runbindable", MS_UNBINDABLE | MS_REC),
    attr("rw", 0, MOUNT_ATTR_RDONLY),
    propagation("shared", MS_SHARED),
    superblock("silent", MS_SILENT, true, None),
    propagation("slave", MS_SLAVE),
    attr("strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
    attr("suid", 0, MOUNT_ATTR_NOSUID),
    attr("symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
    superblock("sync", MS_SYNCHRONOUS, true, Some("sync")),
    plain("tmpcopyup", Effect::TmpCopyUp),
    propagation("unbindable", MS_UNBINDABLE),
];

/// What `option` asks for; `None` when it is the file system's own.
#[must_use]
pub fn mount_option(option: &str) -> Option<Effect> {
    let at = MOUNT_OPTIONS.binary_search_by(|known| known.name.cmp(option)).ok()?;
    Some(MOUNT_OPTIONS[at].effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_without_duplicates() {
        for pair in MOUNT_OPTIONS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
    }

    /// Every name of config.md's table, which lacks only `rnodev`.
    #[test]
    fn every_option_of_the_specification_is_known() {
        let names = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
            rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime \
            rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow \
            runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap";
        for name in names.split_whitespace() {
            assert!(mount_option(name).is_some(), "{name}");
        }
        assert_eq!(names.split_whitespace().count() + 1, MOUNT_OPTIONS.len());
    }

    #[test]
    fn an_option_of_the_file_system_is_not_ours() {
        for name in ["mode=755", "newinstance", "", "RO", "context=\"system_u:object_r:x:s0\""] {
            assert_eq!(mount_option(name), None, "{name}");
        }
    }

    #[test]
    fn access_time_modes_clear_the_whole_field() {
        for option in MOUNT_OPTIONS.iter().filter(|o| o.name.ends_with("atime") && !o.name.contains("diratime")) {
            if let Effect::Attr { set, clear } | Effect::RecAttr { set, clear } = option.effect {
                assert_eq!(clear & MOUNT_ATTR__ATIME, MOUNT_ATTR__ATIME, "{}", option.name);
                assert_eq!(set & !MOUNT_ATTR__ATIME, 0, "{}", option.name);
            }
        }
    }

    #[test]
    fn a_recursive_option_is_its_plain_twin_with_an_r() {
        for option in MOUNT_OPTIONS {
            if let Effect::RecAttr { set, clear } = option.effect {
                assert_eq!(mount_option(&option.name[1..]), Some(Effect::Attr { set, clear }), "{}", option.name);
            }
        }
    }
}
