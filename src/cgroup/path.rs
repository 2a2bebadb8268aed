//! Where a container's cgroup lies: cgroupsPath judged and turned into a [`CgroupPath`].
//!
//! Pure: nothing here looks at the host.

use std::fmt;

use super::systemd::UnitPlan;
use crate::error::{Error, Result};

const ITEM: &str = "linux.cgroupsPath";

/// A place below the root of every hierarchy: names without `.`, `..` or empty
/// parts, at least one. Only [`CgroupPath::plan`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath(Vec<String>);

impl CgroupPath {
    /// Judges cgroupsPath (config-linux.md, "Cgroups Path").
    ///
    /// An absolute path counts from the hierarchy's mount point. Without a path the
    /// cgroup is named after the container. That name and a relative path count
    /// from `base`: the hierarchy's root, as in crun, so that one value always means
    /// one place, whichever session the runtime is called from; for a rootless
    /// runtime the parent of its own cgroup, as in runc, since it may write nowhere
    /// higher and its own cgroup, holding processes, cannot hand out controllers.
    pub fn plan(configured: Option<&str>, id: &str, rootless_base: Option<&str>) -> Result<CgroupPath> {
        let configured = configured.filter(|path| !path.is_empty());
        let mut names = Vec::new();
        if !configured.is_some_and(|path| path.starts_with('/')) {
            names.extend(rootless_base.map(parent_names).unwrap_or_default());
        }
        for name in configured.unwrap_or(id).split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(Error::invalid(ITEM, format!("{:?} holds `..`", configured.unwrap_or(id)))),
                _ if name.len() > 255 => return Err(Error::invalid(ITEM, "a name in it is longer than 255 bytes")),
                _ if name.contains(['\0', '\n']) => {
                    return Err(Error::invalid(ITEM, format!("{name:?} holds a NUL or a line break")));
                }
                _ => names.push(name.to_owned()),
            }
        }
        if names.is_empty() {
            return Err(Error::invalid(ITEM, "names the root cgroup, which no container may own"));
        }
        Ok(CgroupPath(names))
    }

    /// The place of a unit below the service manager's cgroup `base`.
    pub fn of_unit(base: Option<&str>, unit: &UnitPlan) -> Result<CgroupPath> {
        let base = base.unwrap_or("").split('/').filter(|name| !name.is_empty()).map(str::to_owned);
        let names: Vec<String> = base.chain(unit.name.path()?).chain(unit.subgroup.clone()).collect();
        match names.iter().any(|name| name == "..") {
            true => Err(Error::invalid(ITEM, "systemd's cgroup is outside of this cgroup namespace")),
            false if names.is_empty() => Err(Error::invalid(ITEM, "names the root slice, which no container may own")),
            false => Ok(CgroupPath(names)),
        }
    }

    /// The cgroup above.
    #[must_use]
    pub fn parent(&self) -> CgroupPath {
        CgroupPath(self.ancestors().to_vec())
    }

    /// The cgroup's own name.
    #[must_use]
    pub fn leaf(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The names above the leaf, from the root.
    #[must_use]
    pub fn ancestors(&self) -> &[String] {
        &self.0[..self.0.len().saturating_sub(1)]
    }

    /// The absolute path of this cgroup in the hierarchy mounted at `mount`.
    #[must_use]
    pub fn at(&self, mount: &str) -> String {
        format!("{}{self}", mount.trim_end_matches('/'))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// The names of the cgroup above `own`. A `..` (a cgroup outside the runtime's
/// cgroup namespace) leaves nothing to count from but the root.
fn parent_names(own: &str) -> Vec<String> {
    let mut names: Vec<String> = own.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.pop();
    if names.iter().any(|name| name == "..") { Vec::new() } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(path: Option<&str>, base: Option<&str>) -> String {
        match CgroupPath::plan(path, "c1", base) {
            Ok(path) => path.to_string(),
            Err(e) => format!("error: {e}"),
        }
    }

    #[test]
    fn a_path_stays_below_the_root_and_means_one_place() {
        for (path, base, want) in [
            (None, None, "/c1"),
            (Some(""), None, "/c1"),
            (Some("/a/b"), None, "/a/b"),
            (Some("a//./b/"), None, "/a/b"),
            (Some("slice:prefix:c1"), None, "/slice:prefix:c1"),
            (None, Some("/user.slice/s.scope"), "/user.slice/c1"),
            (Some("p"), Some("/user.slice/s.scope"), "/user.slice/p"),
            (Some("/p"), Some("/user.slice/s.scope"), "/p"),
            (None, Some("/../x"), "/c1"),
            (Some("/a/../b"), None, "error: linux.cgroupsPath: \"/a/../b\" holds `..`"),
            (Some(".."), None, "error: linux.cgroupsPath: \"..\" holds `..`"),
            (Some("/"), None, "error: linux.cgroupsPath: names the root cgroup, which no container may own"),
            (Some("/a\nb"), None, "error: linux.cgroupsPath: \"a\\nb\" holds a NUL or a line break"),
        ] {
            assert_eq!(planned(path, base), want, "{path:?} from {base:?}");
        }
    }
}
