//! The container's cgroup: planned purely, made by the parent, removed from a record.
//!
//! A cgroup passes [`probe_layout`], [`plan_cgroup`], [`CgroupPlan::claim`] (which
//! yields the [`Record`] to store before anything exists), [`Claim::create`],
//! [`Cgroup::apply`], and in the end [`Record::kill_all`] and [`Record::remove`].
//! Nothing here prints, reads the bundle or knows the container's other parts.

mod claim;
mod complete;
mod controllers;
mod delegate;
#[cfg(test)]
mod device_emulator;
mod devices;
mod dir;
mod freeze;
mod join;
mod layout;
mod measure;
mod path;
mod plan;
mod program;
mod record;
pub mod stats;
mod systemd;
mod v1;
mod v2;
mod values;
mod watch;

pub use claim::{Cgroup, Claim};
pub use freeze::Freezer;
pub use join::Join;
pub use layout::{Hierarchy, Layout, probe_layout, probe_own_cgroup};
pub use path::CgroupPath;
pub use plan::{CgroupPlan, DeviceFilter, Driver, HierarchyPlan, Options, plan_cgroup, plan_update};
pub use record::{Everybody, Record};
pub use systemd::{Property, Unit, UnitName, UnitPlan, probe_user_manager};
pub use values::{Write, Writes};
pub use watch::MemoryWatch;
