//! The cases, one file a group. A test asserts what its cited clause says and nothing more:
//! wording, state file layout and timing belong to each runtime.

mod devices;
mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod rootfs;

use crate::case::Case;

/// Every case of the suite, in the order it runs and prints.
pub fn all() -> Vec<Case> {
    let groups = [
        lifecycle::group(),
        process::group(),
        namespaces::group(),
        rootfs::group(),
        mounts::group(),
        mount_options::group(),
        devices::group(),
    ];
    groups.into_iter().flat_map(|group| group.cases).collect()
}
