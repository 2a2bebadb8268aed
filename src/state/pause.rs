//! Pause and resume: the two transitions between `running` and `paused`.
//!
//! They live with the state because the frozen cgroup is the state: nothing is written
//! down. No lock is taken, so that a resume gets through to a pause that cannot finish.

use std::path::Path;

use crate::error::{Error, Kind, Result};

use super::{Container, ContainerId, Record, Status};

/// Freezes a running container; returns when nothing in it runs any more.
///
/// A created one is refused: its init could not take the word of `start`.
///
/// # Errors
/// It does not run, or its cgroup cannot be frozen (or not within ten seconds).
pub fn pause(root: &Path, id: &ContainerId) -> Result<()> {
    let container = Container::open(root, id)?;
    let text = container.record_text()?;
    let record = container.finished(&text)?;
    // Opened before the look: who runs then has had it all the time. Later, the path may be the next container's, which
    // would be frozen in the middle of its create.
    let freezer = record.cgroup.freezer();
    match container.status(&record.cgroup)?.0 {
        Status::Running => freezer
            .and_then(|freezer| freezer.freeze())
            .map_err(|error| or_ended(&container, &record, "container not running", error)),
        // Engines know runc's words.
        status => Err(wrong_state(&container, "container not running", status)),
    }
}

/// Lets a paused container go on.
///
/// # Errors
/// It is not paused.
pub fn resume(root: &Path, id: &ContainerId) -> Result<()> {
    let container = Container::open(root, id)?;
    let text = container.record_text()?;
    let record = container.finished(&text)?;
    let freezer = record.cgroup.freezer();
    match container.status(&record.cgroup)?.0 {
        Status::Paused => freezer
            .and_then(|freezer| freezer.thaw())
            .map_err(|error| or_ended(&container, &record, "container not paused", error)),
        status => Err(wrong_state(&container, "container not paused", status)),
    }
}

/// Where the container has ended meanwhile, that is the better error.
fn or_ended(container: &Container, record: &Record<'_>, words: &str, error: Error) -> Error {
    match container.status(&record.cgroup) {
        Ok((status @ (Status::Stopped | Status::Creating), _)) => wrong_state(container, words, status),
        _ => error,
    }
}

pub(super) fn wrong_state(container: &Container, words: &str, status: Status) -> Error {
    Error::new(Kind::WrongState, container.item(), format!("{words}: it is {}", status.as_str()))
}
