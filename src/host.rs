//! Facts about the host, each asked for once and only when a plan needs it.

use std::cell::OnceCell;

use rustix::fs::statfs;

use crate::cgroup::{Layout, probe_layout};
use crate::error::{Error, Result};
use crate::sys::settings;

/// The host as the plan sees it. Tests fill in the facts; otherwise each is probed at first use.
#[derive(Debug, Default)]
pub struct Host {
    /// In a test: what can be passed on. Otherwise the kernel is asked for each capability that is named.
    pub capabilities: OnceCell<u64>,
    /// Effective user and group.
    pub ids: OnceCell<(u32, u32)>,
    pub cgroups: OnceCell<Layout>,
    pub apparmor: OnceCell<bool>,
    pub selinux: OnceCell<bool>,
    /// Is there a small mount namespace to make containers from?
    pub mountns: OnceCell<bool>,
}

const SELINUX_MAGIC: u64 = 0xf97c_ff8c;

impl Host {
    /// Those of the capabilities `named`, one bit each, that the runtime can pass on.
    pub fn capabilities(&self, named: u64) -> Result<u64> {
        if let Some(all) = self.capabilities.get() {
            return Ok(all & named);
        }
        let failed = |call: &str, errno| Error::sys("process.capabilities", call, errno);
        let mut permitted = named & settings::capget().map_err(|errno| failed("capget(own)", errno))?.permitted;
        for cap in (0..64).filter(|cap| named & 1 << cap != 0) {
            // Not there is an answer; anything else says nothing about the capability.
            if !settings::in_bounding(cap).map_err(|errno| failed("prctl(PR_CAPBSET_READ)", errno))? {
                permitted &= !(1 << cap);
            }
        }
        Ok(permitted)
    }

    /// The caller's effective user and group id.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        let probe = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        *self.ids.get_or_init(probe)
    }

    /// How cgroups are mounted.
    pub fn cgroups(&self) -> Result<&Layout> {
        if let Some(layout) = self.cgroups.get() {
            return Ok(layout);
        }
        let layout = probe_layout()?;
        Ok(self.cgroups.get_or_init(|| layout))
    }

    /// Is there a small mount namespace to make containers from?
    pub fn has_mountns(&self) -> Result<bool> {
        if let Some(pinned) = self.mountns.get() {
            return Ok(*pinned);
        }
        let pinned = crate::mountns::is_pinned()?;
        Ok(*self.mountns.get_or_init(|| pinned))
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
