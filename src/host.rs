//! Facts about the host, each asked for once and only when a plan needs it.

use std::cell::OnceCell;

use rustix::fs::statfs;

use crate::config::Config;
use crate::sys::settings;

/// The host as the plan sees it. Tests fill in the facts; otherwise each is probed at first use.
#[derive(Debug, Default)]
pub struct Host {
    pub capabilities: OnceCell<u64>,
    pub cgroup_v2: OnceCell<bool>,
    pub apparmor: OnceCell<bool>,
    pub selinux: OnceCell<bool>,
}

/// Where cgroups are mounted on every host.
const CGROUP_MOUNT: &str = "/sys/fs/cgroup";
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
const SELINUX_MAGIC: u64 = 0xf97c_ff8c;

impl Host {
    /// The capabilities that the runtime can pass on, one bit each.
    #[must_use]
    pub fn capabilities(&self) -> u64 {
        *self.capabilities.get_or_init(|| {
            let permitted = settings::capget().map(|sets| sets.permitted).unwrap_or(0);
            let in_bounding = |cap: &u32| permitted & 1 << cap != 0 && settings::in_bounding(*cap) == Some(true);
            (0..63).filter(in_bounding).fold(0, |bits, cap| bits | 1 << cap)
        })
    }

    /// Where cgroup v2 alone is mounted; `None` on v1 and hybrid hosts.
    #[must_use]
    pub fn cgroup_v2_mount(&self) -> Option<&'static str> {
        let is_v2 = || statfs(CGROUP_MOUNT).is_ok_and(|fs| fs.f_type as u64 == CGROUP2_SUPER_MAGIC);
        self.cgroup_v2.get_or_init(is_v2).then_some(CGROUP_MOUNT)
    }

    /// The container's directories in cgroup v1: name below /sys/fs/cgroup, path on the host.
    #[must_use]
    pub fn cgroup_v1_directories(&self, _id: &str, _config: &Config<'_>) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Is AppArmor active?
    #[must_use]
    pub fn apparmor(&self) -> bool {
        let enabled =
            || std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
        *self.apparmor.get_or_init(enabled)
    }

    /// Is SELinux active?
    #[must_use]
    pub fn selinux(&self) -> bool {
        let mounted = || statfs("/sys/fs/selinux").is_ok_and(|fs| fs.f_type as u64 == SELINUX_MAGIC);
        *self.selinux.get_or_init(mounted)
    }
}
