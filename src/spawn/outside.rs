//! What create changes outside of the container's own cgroup, namespaces and state.
//!
//! All of it goes back when create fails: an error leaves the environment as it was
//! (runtime.md, "Errors"). What a running container keeps is in its record.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::sys::process::Child;

use super::net_device::{self, Moved};
use super::resctrl::{self, Group};

/// Host interfaces lent to the container, and its place in resctrl.
#[derive(Debug)]
pub struct Outside {
    resctrl: Option<Group>,
    devices: Option<Moved>,
}

impl Outside {
    /// Sees whether what the plan wants can be had; nothing is changed.
    pub fn survey(plan: &Plan) -> Result<Outside> {
        let resctrl = plan.resctrl.as_ref().map(Group::survey).transpose()?;
        Ok(Outside { resctrl, devices: None })
    }

    /// The part of the container's record.
    #[must_use]
    pub fn record(&self) -> Option<resctrl::Record> {
        self.resctrl.as_ref().map(Group::record)
    }

    /// Makes the changes for `child`; `joins` are the handles of `plan.namespaces.joins`.
    pub fn change(&mut self, plan: &Plan, proc: BorrowedFd<'_>, joins: &[OwnedFd], child: &Child) -> Result<()> {
        if let Some(group) = &mut self.resctrl {
            group.set_up(child.pid.as_raw_nonzero().get())?;
        }
        if !plan.net_devices.is_empty() {
            let join = plan.namespaces.joins.iter().zip(joins).find(|(join, _)| join.kind == "network");
            self.devices = Some(net_device::move_in(plan, proc, join.map(|(_, fd)| fd), child)?);
        }
        Ok(())
    }

    /// Takes the changes back; what cannot be is told with the error.
    #[must_use]
    pub fn take_back(self, mut error: Error) -> Error {
        if let Some(devices) = self.devices {
            error = devices.give_back(error);
        }
        self.resctrl.into_iter().fold(error, |error, group| group.take_back(error))
    }
}
