//! A container's state at one moment, for callers of the library and the verbs that show it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::error::{Kind, Result};

use super::{Container, ContainerId, Status, ids};

/// The state of a container (runtime.md, "State"), with what runc adds to it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    /// As the runtime sees it; 0 when there is no process.
    pub pid: i32,
    #[serde(serialize_with = "status_word")]
    pub status: Status,
    pub bundle: String,
    pub rootfs: String,
    /// RFC 3339.
    pub created: String,
    pub annotations: BTreeMap<String, String>,
    /// The uid of whoever created it.
    #[serde(skip)]
    pub owner: u32,
}

fn status_word<S: serde::Serializer>(status: &Status, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(status.as_str())
}

/// Asks for one container's state (runtime.md, "Query State").
pub fn state(root: &Path, id: &ContainerId) -> Result<State> {
    let container = Container::open(root, id)?;
    let text = container.record_text()?;
    let record = container.finished(&text)?;
    let (status, init) = container.status(&record.cgroup)?;
    let owned =
        |(key, value): (&crate::config::Text<'_>, &crate::config::Text<'_>)| (key.to_string(), value.to_string());
    Ok(State {
        oci_version: record.oci_version.to_string(),
        id: record.id.to_string(),
        pid: init.map_or(0, |init| init.pid.as_raw_nonzero().get()),
        status,
        bundle: record.bundle.to_string(),
        rootfs: record.rootfs.to_string(),
        created: record.created.to_string(),
        annotations: record.annotations.iter().map(owned).collect(),
        owner: record.owner,
    })
}

/// The state of every container under `root`, by id. One that vanishes meanwhile is left out.
pub fn list(root: &Path) -> Result<Vec<State>> {
    let states = ids(root)?.into_iter().map(|id| state(root, &id));
    let gone = |result: &Result<State>| !matches!(result, Err(error) if matches!(error.kind(), Kind::NoSuchContainer | Kind::WrongState));
    states.filter(gone).collect()
}
