//! --regex: the containers whose whole id matches.

use std::path::Path;

use regex_lite::Regex;
use xebec::state::{self, ContainerId};
use xebec::{Error, Result};

/// The ids under `root` that match `pattern` from end to end.
pub fn ids(root: &Path, pattern: &str) -> Result<Vec<ContainerId>> {
    let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| Error::invalid("--regex", e.to_string()))?;
    Ok(state::ids(root)?.into_iter().filter(|id| whole.is_match(id.as_str())).collect())
}
