//! The container's network namespace, made beside this thread while it goes on: it is the longest single
//! act of a start (docs/decisions/network-namespace.md has the figures and the review). A new user namespace
//! that it belongs to is made before it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{DumpableBehavior, dumpable_behavior, geteuid, set_dumpable_behavior};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::init::wire;
use crate::plan::{IdMaps, Namespaces, NetworkMaker, Plan, plan_namespaces};
use crate::sys::network::Coming;
use crate::sys::process::Child;
use crate::sys::{Fail, settings};

use super::{deliver, maps, refusal, settle};

const ITEM: &str = "linux.namespaces network";

/// What is made before the child, or beside it.
#[derive(Debug)]
pub struct Early {
    network: Coming,
    /// In this order: until the helper is gone.
    untraced: Option<Untraced>,
}

/// Begins with it where the parent is to make it, if there is a helper to be had. It takes longer than all else, so it is
/// begun before there is a plan; a config that is refused has it in vain.
pub fn begin(config: &Config<'_>) -> Result<Option<Early>> {
    // What is wrong with them, the plan tells.
    match plan_namespaces(config) {
        Ok(Namespaces { network: NetworkMaker::Parent, maps: None, .. }) => {
            let begun = Coming::begin().map_err(|fail| failed(&["network"], fail))?;
            Ok(begun.map(|network| Early { network, untraced: None }))
        }
        _ => Ok(None),
    }
}

/// The same in a new user namespace, where the plan has one.
pub fn begin_in_new_user(plan: &Plan) -> Result<Option<Early>> {
    match (plan.namespaces.network, &plan.namespaces.maps) {
        (NetworkMaker::Parent, Some(maps)) => begin_with_maps(plan, maps),
        _ => Ok(None),
    }
}

/// The helper is in the new user namespace, and in our memory.
fn begin_with_maps(plan: &Plan, maps: &IdMaps) -> Result<Option<Early>> {
    // The parent joins it for one clone3, and there would be two.
    if plan.namespaces.joins.iter().any(|join| join.kind == "pid") {
        return Ok(None);
    }
    let untraced = match (geteuid().is_root(), settings::capget()) {
        (true, _) => Some(Untraced::begin()?),
        // There is nothing to be had from us that our user has not; and a process that may not be traced may
        // not be given ids by its user either.
        (false, Ok(own)) if own.permitted == 0 => None,
        (false, Ok(_)) => return Ok(None),
        (false, Err(errno)) => return Err(Error::sys("linux.uidMappings", "capget", errno)),
    };
    // Where there is no /proc this says so.
    drop(settle::open_proc()?);
    let Some(network) = Coming::begin_in_new_user().map_err(|fail| failed(kinds(plan), fail))? else { return Ok(None) };
    if let Some(pid) = network.process() {
        maps::write_maps(pid.as_raw_nonzero().get(), maps, plan.map_writers)?;
    }
    network.go_on();
    Ok(Some(Early { network, untraced }))
}

impl Early {
    /// A child shares our memory from now on, and longer than what makes this.
    pub fn stay_untraced(&mut self) {
        std::mem::forget(self.untraced.take());
    }

    /// A new user namespace, with its ids.
    pub fn user_namespace(&self) -> Result<Option<OwnedFd>> {
        if self.network.process().is_none() {
            return Ok(None);
        }
        let failed = |fail: Fail| Error::sys("linux.namespaces user", fail.call.name(), fail.errno);
        self.network.user_namespace().map(Some).map_err(failed)
    }
}

/// Gives it to the child, which has got so far without it.
pub fn hand_over(early: Early, channel: BorrowedFd<'_>, child: &Child, plan: &Plan) -> Result<()> {
    let namespace = early.network.wait().map_err(|fail| failed(kinds(plan), fail))?;
    deliver(channel, child, plan, || wire::send_fd(channel, &[wire::NETWORK], namespace.as_fd()))?;
    // Before any GO: no other process has our memory when the program begins.
    drop(early);
    Ok(())
}

fn kinds(plan: &Plan) -> &'static [&'static str] {
    if plan.namespaces.is_new("user") { &["user", "network"] } else { &["network"] }
}

fn failed(kinds: &[&str], fail: Fail) -> Error {
    refusal::explain(Error::sys(ITEM, format!("{}(new network)", fail.call.name()), fail.errno), kinds)
}

/// For its time nobody may trace this process who has fewer rights in the runtime's user namespace.
#[derive(Debug)]
struct Untraced {
    before: DumpableBehavior,
}

impl Untraced {
    fn begin() -> Result<Untraced> {
        let failed = |call: &str, errno| Error::sys(ITEM, call, errno);
        let before = dumpable_behavior().map_err(|errno| failed("prctl(PR_GET_DUMPABLE)", errno))?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| failed("prctl(PR_SET_DUMPABLE)", e))?;
        Ok(Untraced { before })
    }
}

impl Drop for Untraced {
    fn drop(&mut self) {
        // A failure leaves us protected.
        set_dumpable_behavior(self.before).ok();
    }
}
