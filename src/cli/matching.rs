//! --regex: the containers whose whole id matches.

use std::path::Path;

use regex_lite::Regex;
use xebec::state::{self, ContainerId};
use xebec::{Error, Result};

/// Does it to every container that matches; one that fails stops nobody else's turn. All failures are one error.
pub fn each(root: &Path, pattern: &str, mut act: impl FnMut(&ContainerId) -> Result<()>) -> Result<()> {
    let failures = ids(root, pattern)?.iter().filter_map(|id| act(id).err()).collect::<Vec<_>>();
    let all = failures.into_iter().reduce(|first, next| first.note(&format!("and {next}")));
    all.map_or(Ok(()), Err)
}

/// The ids under `root` that match `pattern` from end to end.
fn ids(root: &Path, pattern: &str) -> Result<Vec<ContainerId>> {
    let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| Error::invalid("--regex", e.to_string()))?;
    Ok(state::ids(root)?.into_iter().filter(|id| whole.is_match(id.as_str())).collect())
}
