//! `run.oci.delegate-cgroup`: a cgroup below the container's own for what manages cgroups itself.
//!
//! The limits are on the container's cgroup, which stays the runtime's; its process is moved into the
//! one below, which is the container's to divide. Cgroup v2 only: version 1 cannot delegate safely.

use rustix::io::Errno;

use super::claim::{self, Cgroup};
use super::dir::Dir;
use super::path::CgroupPath;
use super::plan::CgroupPlan;
use crate::config::Config;
use crate::config::words::DELEGATE_CGROUP;
use crate::error::{Error, Result};

/// Judges the annotation: a path of names below the container's cgroup.
pub fn plan_delegate(config: &Config<'_>, plan: &mut CgroupPlan) -> Result<()> {
    let Some(wanted) = config.annotations.get(&DELEGATE_CGROUP.into()).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = CgroupPath::plan(Some(wanted), "", None)
        .map_err(|error| Error::invalid(item(), format!("is no path of a cgroup ({error})")))?;
    if plan.hierarchies.iter().any(|hierarchy| hierarchy.v1.is_empty()) {
        plan.delegate = Some(path);
    } else {
        plan.warnings.push(format!("{} has no effect without cgroup v2", item()));
    }
    Ok(())
}

fn item() -> String {
    format!("annotations.{DELEGATE_CGROUP}")
}

impl Cgroup<'_> {
    /// Makes the delegated cgroup, moves the container's process there and hands down every
    /// controller that the container's own cgroup has. After the process has unshared its
    /// cgroup namespace, so that the container's cgroup is that namespace's root.
    pub fn delegate(&self, pid: u32) -> Result<()> {
        let (Some(path), Some(top)) = (&self.plan.delegate, self.v2_dir()) else { return Ok(()) };
        let mut above: Vec<Dir> = Vec::new();
        for name in path.ancestors().iter().map(String::as_str).chain([path.leaf()]) {
            let dir = above.last().unwrap_or(top);
            dir.mkdir(name)?;
            let made = claim::open(dir, name)?;
            above.push(made);
        }
        let Some(leaf) = above.pop() else { return Ok(()) };
        super::join::place(&leaf, pid)?;
        // Only now: a cgroup with processes in it cannot hand its controllers down.
        for dir in [top].into_iter().chain(&above) {
            hand_down(dir)?;
        }
        match self.plan.owner {
            Some(owner) => claim::hand_over(&leaf, owner),
            None => Ok(()),
        }
    }
}

/// Switches on, for the cgroups below, every controller that `dir` has.
fn hand_down(dir: &Dir) -> Result<()> {
    let failed = |call: String, errno| Error::sys(item(), call, errno);
    let list = dir
        .read("cgroup.controllers")
        .map_err(|errno| failed(format!("read({:?})", dir.join("cgroup.controllers")), errno))?;
    for controller in list.split_ascii_whitespace() {
        let value = format!("+{controller}");
        dir.write("cgroup.subtree_control", &value).map_err(|errno| {
            let error = failed(format!("write({:?}, {value:?})", dir.join("cgroup.subtree_control")), errno);
            match errno {
                // Kernels with CONFIG_RT_GROUP_SCHED.
                Errno::INVAL => {
                    error.hint("a process with real-time scheduling keeps the cpu controller from the cgroups below")
                }
                _ => error,
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Hierarchy, Layout, Options, plan_cgroup};
    use super::*;

    fn planned(path: &str, layout: &Layout) -> String {
        let text = format!(r#"{{"ociVersion":"1.3.0","annotations":{{"{DELEGATE_CGROUP}":"{path}"}},"linux":{{}}}}"#);
        let config: Config<'_> = serde_json::from_str(&text).unwrap();
        match plan_cgroup("c1", &config, layout, &Options::default()) {
            Ok(plan) => format!("{:?} {:?}", plan.delegate.map(|path| path.to_string()), plan.warnings),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn the_annotation_is_a_path_below_the_containers_cgroup() {
        let v2 = Layout::V2 { mount: "/sys/fs/cgroup".into() };
        assert_eq!(planned("inner", &v2), "Some(\"/inner\") []");
        assert_eq!(planned("/a/b/", &v2), "Some(\"/a/b\") []");
        assert_eq!(planned("", &v2), "None []");
        assert!(
            planned("../x", &v2).starts_with("error: annotations.run.oci.delegate-cgroup: "),
            "{}",
            planned("../x", &v2)
        );
    }

    #[test]
    fn without_cgroup_v2_it_is_a_warning() {
        let controllers = ["cpu", "memory", "devices", "freezer"].map(str::to_owned).to_vec();
        let v1 = Layout::Hybrid { v1: vec![Hierarchy { controllers, mount: "/cg".into() }], v2: None };
        assert_eq!(
            planned("inner", &v1),
            "None [\"annotations.run.oci.delegate-cgroup has no effect without cgroup v2\"]"
        );
    }
}
