//! The systemd driver: the container's cgroup is a transient unit that systemd makes and removes.
//!
//! The parts stand in the order of use: [`UnitName`] reads cgroupsPath, [`plan_unit`] adds the
//! properties, `bus` and `unit` talk to the service manager. Only what systemd must know goes
//! through it: everything else, exec and kill and pause among it, is the cgroup directory's,
//! as with cgroupfs.
//!
//! The order of birth. A scope is made around a living process, so the child cannot be born in
//! it (CLONE_INTO_CGROUP). It is cloned in the runtime's cgroup and waits before its cgroup
//! namespace (`PLACED`); systemd makes the scope with its limits and moves the child; the
//! runtime writes what systemd has no property for, attaches the device program and lets the
//! child go on. A placeholder process in the scope, for the child to be born beside, would
//! cost a process and a second move for nothing. crun and runc order it likewise.
//!
//! Devices. The unit has no DevicePolicy: systemd then attaches no program of its own, at a
//! daemon-reload neither, and ours stays attached to the cgroup, since systemd takes away only
//! what it has put there. A DeviceAllow list beside it could only take devices away: it names
//! them by nodes of the host (/dev/char/MAJ:MIN), and one without a node is lost at the next
//! reload. That is how the peers' containers lose theirs.

mod annotation;
mod bus;
mod name;
mod property;
mod unit;
mod wire;

use std::fmt;

pub use bus::Bus;
pub use name::UnitName;
pub use property::Property;
pub use unit::{Unit, probe_user_manager, set_properties, start, stop};

use super::values::Writes;
use crate::config::words::SYSTEMD_SUBGROUP as SUBGROUP;
use crate::config::{StringMap, Text};
use crate::error::{Error, Result};
use property::Value;

/// What systemd will be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlan {
    pub name: UnitName,
    /// Of the user's service manager.
    pub user: bool,
    /// The container's cgroup below the unit's.
    pub subgroup: Option<String>,
    pub properties: Vec<Property>,
}

impl UnitPlan {
    /// The unit of container `id`; its limits are added by [`UnitPlan::limit`].
    pub fn new(id: &str, cgroups_path: Option<&str>, annotations: &StringMap<'_>, user: bool) -> Result<UnitPlan> {
        let name = UnitName::plan(cgroups_path, id, user)?;
        let subgroup = plan_subgroup(annotations)?;
        let text = |name: &str, text: &str| Property::new(name, Value::Text(text.to_owned()));
        let yes = |name: &str| Property::new(name, Value::Bool(true));
        let mut properties = vec![text("Description", &format!("xebec container {id}"))];
        if name.is_slice() {
            properties.push(Property::new("Wants", Value::Texts(vec![name.slice.clone()])));
        } else {
            properties.extend([text("Slice", &name.slice), yes("Delegate")]);
        }
        // It is the engine's to stop it, not the shutdown's of whatever else there is, as in the peers.
        properties.push(Property::new("DefaultDependencies", Value::Bool(false)));
        // Gone when it has ended, also as failed (after an OOM kill): nothing to reset.
        properties.push(text("CollectMode", "inactive-or-failed"));
        // systemctl status and systemd-cgtop show these.
        properties.extend(["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"].map(yes));
        // Without a word systemd sets its DefaultTasksMax, a limit that nobody asked for.
        properties.push(Property::new("TasksMax", Value::U64(u64::MAX)));
        for property in annotation::plan_annotations(annotations)? {
            replace(&mut properties, property);
        }
        Ok(UnitPlan { name, user, subgroup, properties })
    }

    /// Adds the limits that systemd has properties for. They win over annotations.
    pub fn limit(&mut self, writes: &Writes) {
        property::of_writes(writes).into_iter().for_each(|property| replace(&mut self.properties, property));
    }

    /// An update of a unit that is there.
    pub fn update(unit: &Unit, writes: &Writes) -> UnitPlan {
        let name = UnitName { unit: unit.name.clone(), slice: String::new() };
        UnitPlan { name, user: unit.user, subgroup: None, properties: property::of_writes(writes) }
    }
}

fn replace(properties: &mut Vec<Property>, property: Property) {
    properties.retain(|earlier| earlier.name != property.name);
    properties.push(property);
}

/// One name of a cgroup; empty means none, as in crun.
fn plan_subgroup(annotations: &StringMap<'_>) -> Result<Option<String>> {
    let Some(name) = annotations.get(&Text::from(SUBGROUP)).filter(|name| !name.is_empty()) else { return Ok(None) };
    if matches!(&**name, "." | "..") || name.len() > 255 || name.contains(['/', '\0', '\n']) {
        return Err(Error::invalid(
            format!("annotations {SUBGROUP}"),
            format!("{:?} is not a name of a cgroup", &**name),
        ));
    }
    Ok(Some(name.to_string()))
}

impl fmt::Display for UnitPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manager = if self.user { "user" } else { "system" };
        write!(f, "unit {:?} of the {manager} manager", self.name.unit)?;
        self.properties.iter().try_for_each(|property| write!(f, "\n  {property}"))
    }
}
