//! The cases, one file a group. A test asserts what its cited clause says and nothing more:
//! wording, state file layout and timing belong to each runtime.

mod cgroups;
mod cli;
mod devices;
mod errors;
mod exec;
mod hooks;
mod kernel;
mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod privileges;
mod process;
mod rootfs;
mod schema;
mod signals;
mod terminal;

use crate::case::Case;

/// Every case of the suite, in the order it runs and prints.
pub fn all() -> Vec<Case> {
    let groups = [
        lifecycle::group(),
        signals::group(),
        hooks::group(),
        exec::group(),
        cli::group(),
        errors::group(),
        terminal::group(),
        cgroups::group(),
        schema::group(),
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
