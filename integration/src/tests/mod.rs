//! The cases, one file a group. A test asserts what its cited clause says and nothing more:
//! wording, state file layout and timing belong to each runtime.

mod cgroups;
mod cgroups_v1;
mod cli;
mod devices;
mod errors;
mod exec;
mod exec_options;
mod hook_failures;
mod hooks;
mod kernel;
mod lifecycle;
mod limits;
mod mount_options;
mod mount_refusals;
mod mounts;
mod namespaces;
mod privileges;
mod process;
mod rootfs;
mod schema;
mod seccomp;
mod signals;
mod terminal;
mod texts;
mod verbs;

use crate::case::Case;

/// Every case of the suite, in the order it runs and prints.
pub fn all() -> Vec<Case> {
    let groups = [
        lifecycle::group(),
        signals::group(),
        verbs::group(),
        hooks::group(),
        hook_failures::group(),
        exec::group(),
        exec_options::group(),
        cli::group(),
        texts::group(),
        errors::group(),
        terminal::group(),
        cgroups::group(),
        cgroups_v1::group(),
        schema::group(),
        process::group(),
        privileges::group(),
        limits::group(),
        kernel::group(),
        seccomp::group(),
        namespaces::group(),
        rootfs::group(),
        mounts::group(),
        mount_refusals::group(),
        mount_options::group(),
        devices::group(),
    ];
    groups.into_iter().flat_map(|group| group.cases).collect()
}
