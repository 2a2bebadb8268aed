//! Update: new limits for a container that exists.
//!
//! It lives with the state because only that tells whether there is anything to limit;
//! the limits are the kernel's alone and not written down. No lock is taken, as in pause.

use std::path::Path;

use crate::cgroup::{plan_update, probe_layout};
use crate::config::Resources;
use crate::error::{Error, Result};
use crate::spawn::resctrl;

use super::pause::wrong_state;
use super::{Container, ContainerId, Record, Status};

/// Sets the values that `resources` names and leaves the others, and all device rules, as
/// they are. Returns the values without effect. `resources` has passed
/// [`crate::config::check::check_resources`].
///
/// # Errors
/// The container has ended or has no cgroup of its own, or the kernel refuses a value.
pub fn update(root: &Path, id: &ContainerId, resources: &Resources<'_>) -> Result<Vec<String>> {
    let container = Container::open(root, id)?;
    let text = container.record_text()?;
    let record = living(&container, &text)?;
    // Where the container has ended meanwhile, that is the better error.
    limit(&record, resources).map_err(|error| living(&container, &text).err().unwrap_or(error))
}

fn limit(record: &Record<'_>, resources: &Resources<'_>) -> Result<Vec<String>> {
    let mut resources = resources.clone();
    record.cgroup.complete(&mut resources)?;
    let plan = plan_update(&record.cgroup, &resources, &probe_layout()?)?;
    let cgroup = plan.open()?;
    cgroup.tell_unit()?;
    cgroup.apply()?;
    Ok(plan.warnings)
}

/// Writes lines of a schema, such as `L3:0=7f0`, for the container's class in resctrl.
///
/// # Errors
/// The container has ended or was created without `linux.intelRdt`, or the kernel refuses a line.
pub fn update_schemata(root: &Path, id: &ContainerId, lines: &[&str]) -> Result<()> {
    let container = Container::open(root, id)?;
    let text = container.record_text()?;
    let Some(group) = living(&container, &text)?.resctrl else {
        return Err(Error::invalid(container.item(), "it was created without linux.intelRdt and has no cache schema"));
    };
    resctrl::write_schemata(&group, lines)
}

fn living<'t>(container: &Container, text: &'t Option<Vec<u8>>) -> Result<Record<'t>> {
    let record = container.finished(text)?;
    match container.status(&record.cgroup)?.0 {
        Status::Created | Status::Running | Status::Paused => Ok(record),
        status => Err(wrong_state(container, "container not running", status)),
    }
}
