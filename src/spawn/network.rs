//! The container's network namespace, made by a second thread while this one goes on: it is the longest single
//! act of a start (docs/decisions/network-namespace.md has the figures and the review).

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Error, Result};
use crate::init::wire;
use crate::plan::{NetworkMaker, Plan};
use crate::sys::network::Coming;
use crate::sys::process::Child;

use super::{deliver, refusal};

const ITEM: &str = "linux.namespaces network";

/// Begins with it where the plan has the parent make it. Where no second thread is to be had clone3 makes it with
/// the others.
pub fn begin(plan: &Plan) -> Result<Option<Coming>> {
    match plan.namespaces.network {
        NetworkMaker::Parent => Coming::begin().map_err(|fail| Error::sys(ITEM, fail.call.name(), fail.errno)),
        _ => Ok(None),
    }
}

/// Gives it to the child, which has got so far without it.
pub fn hand_over(coming: Coming, channel: BorrowedFd<'_>, child: &Child, plan: &Plan) -> Result<()> {
    let namespace = coming.wait().map_err(|fail| {
        let error = Error::sys(ITEM, format!("{}(new network)", fail.call.name()), fail.errno);
        refusal::explain(error, &["network"])
    })?;
    deliver(channel, child, plan, || wire::send_fd(channel, &[wire::NETWORK], namespace.as_fd()))
}
