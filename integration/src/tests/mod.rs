//! The cases, one file a group. A test asserts what its cited clause says and nothing more:
//! wording, state file layout and timing belong to each runtime.

mod callers;
mod cgroup_refusals;
mod cgroups;
mod cgroups_v1;
mod cli;
mod devices;
mod errors;
mod exec;
mod exec_options;
mod hook_failures;
mod hooks;
mod hostile;
mod idmaps;
mod insight;
mod kernel;
mod lifecycle;
mod limits;
mod mount_options;
mod mount_refusals;
mod mountns;
mod mounts;
mod namespaces;
mod nesting;
mod net_devices;
mod notify;
mod pods;
mod privileges;
mod process;
mod profiles;
mod resources;
mod rootfs;
mod rootless;
mod schema;
mod seccomp;
mod seccomp_calls;
mod seccomp_notify;
mod signals;
mod stress;
mod systemd;
mod terminal;
mod texts;
mod update;
mod verbs;

use crate::case::Case;

/// Every case of the suite, in the order it runs and prints.
pub fn all() -> Vec<Case> {
    let groups = [
        lifecycle::group(),
        signals::group(),
        verbs::group(),
        insight::group(),
        hooks::group(),
        mountns::group(),
        hostile::group(),
        hook_failures::group(),
        exec::group(),
        exec_options::group(),
        callers::group(),
        cli::group(),
        texts::group(),
        errors::group(),
        terminal::group(),
        cgroups::group(),
        cgroup_refusals::group(),
        cgroups_v1::group(),
        resources::group(),
        systemd::group(),
        systemd::absent(),
        update::group(),
        update::events(),
        schema::group(),
        process::group(),
        privileges::group(),
        limits::group(),
        kernel::group(),
        seccomp::group(),
        profiles::group(),
        seccomp_calls::group(),
        seccomp_notify::group(),
        namespaces::group(),
        pods::group(),
        rootless::group(),
        nesting::group(),
        net_devices::group(),
        notify::group(),
        rootfs::group(),
        mounts::group(),
        mount_refusals::group(),
        mount_options::group(),
        idmaps::group(),
        devices::group(),
        stress::group(),
    ];
    groups.into_iter().flat_map(|group| group.cases).collect()
}

#[cfg(test)]
mod suite {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut seen = BTreeSet::new();
        let twice: Vec<String> =
            all().into_iter().map(|case| case.name).filter(|name| !seen.insert(name.clone())).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn every_line_of_the_lists_for_vms_names_a_case() {
        for list in [
            include_str!("../../vm/small.6.12"),
            include_str!("../../vm/small.6.12.as-user"),
            include_str!("../../vm/small.6.12.userns"),
            include_str!("../../vm/small.6.1"),
        ] {
            for line in list.lines().filter(|line| !line.starts_with('#')) {
                assert!(!line.is_empty() && all().iter().any(|case| case.name.contains(line)), "{line:?}");
            }
        }
    }

    #[test]
    fn every_case_cites_a_document() {
        for case in all() {
            assert!(
                case.cites == "engine contract" || case.cites.contains(".md"),
                "{} cites {}",
                case.name,
                case.cites
            );
        }
    }

    #[test]
    fn what_outruns_the_peers_names_its_clause() {
        for case in all() {
            let Some(why) = case.beyond_peers else { continue };
            assert!(why.contains(".md#") || why.contains("engine contract"), "{}: {why}", case.name);
        }
    }
}
