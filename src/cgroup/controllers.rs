//! Controllers of a cgroup v2: switched on in the ancestors where missing, and only there.
//!
//! A write to cgroup.subtree_control walks every cgroup below, so the leaf's own list
//! is read first: on most hosts that one read is all.

use rustix::io::Errno;

use super::dir::Dir;
use super::path::CgroupPath;
use super::values::{Write, Writes};
use crate::error::{Error, Result};

const LIST: &str = "cgroup.controllers";
const SWITCH: &str = "cgroup.subtree_control";

/// Makes the needed controllers and, where possible, the wanted ones available in
/// the leaf; returns what the leaf has.
pub fn enable(root: &Dir, path: &CgroupPath, leaf: &Dir, writes: &Writes) -> Result<Vec<String>> {
    let needs = writes.needs();
    if needs.is_empty() && writes.wants.is_empty() {
        return Ok(Vec::new());
    }
    let mut have = names(leaf, LIST)?;
    let missing: Vec<&str> =
        needs.iter().copied().chain(writes.wants.iter().map(String::as_str)).filter(|c| !has(&have, c)).collect();
    if missing.is_empty() {
        return Ok(have);
    }
    let available = names(root, LIST)?;
    let nowhere = |w: &&Write| is_needed(w) && missing.contains(&&*w.controller) && !has(&available, &w.controller);
    if let Some(write) = writes.list.iter().find(nowhere) {
        return Err(unavailable(write, root));
    }
    let reachable: Vec<&str> = missing.into_iter().filter(|c| has(&available, c)).collect();
    if reachable.is_empty() {
        return Ok(have);
    }
    switch_on(root, path, &reachable, writes)?;
    have = names(leaf, LIST)?;
    Ok(have)
}

fn is_needed(write: &Write) -> bool {
    !write.harmless && !write.unified
}

/// From the root down to the leaf's parent.
fn switch_on(root: &Dir, path: &CgroupPath, controllers: &[&str], writes: &Writes) -> Result<()> {
    let mut below = String::new();
    for depth in 0..=path.ancestors().len() {
        let opened;
        let dir = match depth {
            0 => root,
            _ => {
                below.push_str(if depth == 1 { "" } else { "/" });
                below.push_str(&path.ancestors()[depth - 1]);
                let failed = |errno| Error::sys("cgroup", format!("openat2({:?})", root.join(&below)), errno);
                opened = root.open_below(&below).map_err(failed)?;
                &opened
            }
        };
        let on = names(dir, SWITCH)?;
        for controller in controllers.iter().filter(|c| !has(&on, c)) {
            let needed = writes.list.iter().find(|w| w.controller == *controller && is_needed(w));
            match (dir.write(SWITCH, &format!("+{controller}")), needed) {
                // A wanted controller may stay off: nothing was promised.
                (Ok(()), _) | (Err(_), None) => {}
                (Err(errno), Some(write)) => return Err(refused(write, dir, errno)),
            }
        }
    }
    Ok(())
}

fn names(dir: &Dir, file: &str) -> Result<Vec<String>> {
    let failed = |errno| Error::sys("cgroup", format!("read({:?})", dir.join(file)), errno);
    Ok(dir.read(file).map_err(failed)?.split_ascii_whitespace().map(str::to_owned).collect())
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|n| n == name)
}

fn unavailable(write: &Write, root: &Dir) -> Error {
    let text = format!("the {} controller is not in {}", write.controller, root.join(LIST));
    Error::invalid(&write.item, text).hint("a cgroup v1 hierarchy may hold it, or the kernel lacks it (/proc/cgroups)")
}

fn refused(write: &Write, dir: &Dir, errno: Errno) -> Error {
    let call = format!("write({:?}, \"+{}\")", dir.join(SWITCH), write.controller);
    let error = Error::sys(&write.item, call, errno);
    match errno {
        Errno::BUSY => error.hint(format!(
            "{} holds processes, so it cannot hand controllers to cgroups below; choose another cgroupsPath",
            dir.path
        )),
        Errno::NOENT => error.hint(format!("the {} controller is not in {}", write.controller, dir.join(LIST))),
        Errno::OPNOTSUPP => error.hint(format!("{} is a threaded cgroup", dir.path)),
        Errno::PERM if write.controller == "cpuset" => error.hint(format!(
            "{} is not delegated to this user, or has processes of others below, over which older kernels (6.1) want rights for this controller",
            dir.path
        )),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => error.hint(format!("{} is not delegated to this user", dir.path)),
        _ => error,
    }
}
