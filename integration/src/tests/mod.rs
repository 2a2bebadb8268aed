//! The cases, one file a group. A test asserts what its cited clause says and nothing more:
//! wording, state file layout and timing belong to each runtime.

mod devices;
mod hooks;
mod kernel;
mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod privileges;
mod process;
mod rootfs;
mod signals;

use crate::case::Case;

/// Every case of the suite, in the order it runs and prints.
pub fn all() -> Vec<Case> {
    let groups = [
        lifecycle::group(),
        signals::group(),
        hooks::group(),
        process::group(),
        privileges::group(),
        kernel::group(),
        kernel::seccomp_group(),
        namespaces::group(),
        rootfs::group(),
        mounts::group(),
        mount_options::group(),
        devices::group(),
    ];
    groups.into_iter().flat_map(|group| group.cases).collect()
}
