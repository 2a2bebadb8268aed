//! The container's network namespace, made by a second thread while this one goes on: it is the longest single
//! act of a start (docs/decisions/network-namespace.md has the figures and the review).

use std::os::fd::{AsFd, BorrowedFd};

use rustix::thread::sched_getaffinity;

use crate::error::{Error, Result};
use crate::init::wire;
use crate::plan::Plan;
use crate::plan::step::Step;
use crate::sys::network::Coming;
use crate::sys::process::Child;

use super::{deliver, refusal};

/// Begins with it where the plan has it made apart. With one CPU nothing is gained, and where no second thread is to
/// be had nothing lost: then clone3 makes it with the others.
pub fn begin(plan: &Plan) -> Option<Coming> {
    let apart = plan.steps.iter().any(|step| matches!(step, Step::Network));
    let several_cpus = || sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1);
    if apart && several_cpus() { Coming::begin() } else { None }
}

/// Gives it to the child, which has got so far without it.
pub fn hand_over(coming: Coming, channel: BorrowedFd<'_>, child: &Child, plan: &Plan) -> Result<()> {
    let namespace = coming.wait().map_err(|fail| {
        let error = Error::sys("linux.namespaces network", format!("{}(new network)", fail.call.name()), fail.errno);
        refusal::explain(error, &["network"])
    })?;
    deliver(channel, child, plan, || wire::send_fd(channel, &[wire::NETWORK], namespace.as_fd()))
}
