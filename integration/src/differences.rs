//! What a container with fewer rights cannot do: every test of the suite that does not hold there, with the reason.
//!
//! A listed test is run all the same. When it fails, it counts as skipped, with its reason; when it passes, the list
//! is out of date, and that is a failure. docs/rootless.md holds the same reasons, and a test keeps them together.

use crate::mode::Mode;

/// Tests that differ for one reason.
#[derive(Debug)]
pub struct Difference {
    pub modes: &'static [Mode],
    /// What the kernel or the specification says, in one sentence.
    pub why: &'static str,
    /// Names of tests; a trailing `*` stands for any ending.
    pub tests: &'static [&'static str],
}

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "A device is bound from the host's node of the same path, with that node's owner and mode: mknod(2) takes CAP_MKNOD in the initial user namespace.",
        tests: &[
            "devices.dev_null_is_there",
            "devices.dev_zero_is_there",
            "devices.dev_full_is_there",
            "devices.dev_random_is_there",
            "devices.dev_urandom_is_there",
            "devices.dev_tty_is_there",
            "devices.a_character_device_is_made",
            "devices.a_block_device_is_made",
            "devices.an_unbuffered_character_device_is_made",
            "devices.owner_and_mode_are_applied_whatever_the_umask",
            "devices.a_device_outside_dev_is_made_with_its_directories",
            "devices.major_and_minor_above_255_work",
            "schema.spec_example_runs_without_what_this_host_lacks",
            "resources.a_throttled_device_reads_slowly",
            "resources.a_disk_that_is_*",
            "systemd.a_daemon_reload_changes_no_access_to_devices",
            "systemd.a_daemon_reload_keeps_a_device_that_the_host_has_no_node_of",
        ],
    },
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "The container itself cannot make a device node either.",
        tests: &[
            "devices.a_denied_device_cannot_be_opened",
            "devices.a_default_device_made_by_hand_is_usable",
            "devices.allow_all_allows",
            "devices.a_later_allow_wins_over_deny_all",
            "devices.read_access_does_not_include_write",
        ],
    },
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "Opening /dev/stdout opens the caller's file anew, with the rights of the container's user.",
        tests: &["devices.dev_stdout_is_writable"],
    },
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "Only ids that the mappings name exist in a user namespace.",
        tests: &["process.uid_4000000000_and_gid_4000000001_are_applied", "process.additional_gids_are_applied"],
    },
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "The root of a user namespace has every capability there, also those that the caller lacks.",
        tests: &["privileges.a_capability_that_the_caller_lacks_is_only_a_warning"],
    },
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "Real-time scheduling and the real-time I/O class take CAP_SYS_NICE in the initial user namespace.",
        tests: &[
            "privileges.sched_fifo_with_a_priority",
            "privileges.sched_rr_with_a_priority",
            "privileges.scheduler_reset_on_fork_is_set",
            "privileges.io_priority_rt",
        ],
    },
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "The sysctl kernel.domainname belongs to the host's root; domainname in config.json sets the same.",
        tests: &["kernel.kernel.domainname_is_set"],
    },
    Difference {
        modes: &[Mode::UserNamespace],
        why: "A createContainer hook runs as the container's root, and may not write to the file of a hook that ran as the caller.",
        tests: &[
            "hooks.create_calls_its_kinds_in_order",
            "hooks.all_kinds_come_in_the_order_of_the_lifecycle",
            "hooks.run_calls_all_kinds",
        ],
    },
    Difference {
        modes: &[Mode::UserNamespace],
        why: "idmap without mappings takes those of the container's user namespace (config.md allows it).",
        tests: &["mount_refusals.idmap_without_any_mapping_is_refused"],
    },
    Difference {
        modes: &[Mode::UserNamespace],
        why: "procfs, mqueue and cgroup2 are mounted only by the owner of the namespace they show: a container that joins such a namespace joins its user namespace too, or binds the mount.",
        tests: &[
            "namespaces.a_pid_namespace_is_joined_by_path",
            "namespaces.a_ipc_namespace_is_joined_by_path",
            "namespaces.a_cgroup_namespace_is_joined_by_path",
            "namespaces.several_namespaces_of_another_container_are_joined",
        ],
    },
    Difference {
        modes: &[Mode::UserNamespace, Mode::User],
        why: "A mount namespace of another user namespace's cannot be joined from within one's own (setns(2)).",
        tests: &["namespaces.a_mount_namespace_is_joined_by_path"],
    },
    Difference {
        modes: &[Mode::User],
        why: "Joining a namespace takes CAP_SYS_ADMIN in the user namespace that owns it, which an ordinary user has only over the own containers' by joining their user namespace too.",
        tests: &[
            "namespaces.a_pid_namespace_is_joined_by_path",
            "namespaces.a_network_namespace_is_joined_by_path",
            "namespaces.a_ipc_namespace_is_joined_by_path",
            "namespaces.a_uts_namespace_is_joined_by_path",
            "namespaces.a_cgroup_namespace_is_joined_by_path",
            "namespaces.a_joined_namespace_outlives_the_container",
            "namespaces.a_bound_namespace_file_is_joined",
            "namespaces.several_namespaces_of_another_container_are_joined",
        ],
    },
    Difference {
        modes: &[Mode::User],
        why: "Moving a network interface takes CAP_NET_ADMIN in the namespace it leaves.",
        tests: &[
            "kernel.a_network_device_is_moved_in",
            "kernel.a_moved_network_device_is_up",
            "kernel.a_moved_network_device_is_renamed",
            "kernel.a_moved_network_device_keeps_its_address",
            "net_devices.a_device_keeps_its_permanent_global_addresses_and_is_up",
            "net_devices.a_device_leaves_the_host",
            "net_devices.sysctls_may_name_a_moved_device",
            "net_devices.a_device_gets_the_name_asked_for",
            "net_devices.a_template_gives_each_device_a_name",
            "schema.the_good_net_devices_are_moved",
        ],
    },
    Difference {
        modes: &[Mode::User],
        why: "The flags of the host's mounts are locked for an ordinary user, and what is mounted below them cannot be left out (mount_namespaces(7)).",
        tests: &[
            "mount_options.bind_noatime",
            "mount_options.bind_nodiratime",
            "mount_options.rbind_noatime",
            "mount_options.rbind_nodiratime",
            "mount_options.rnoatime_reaches_submounts",
            "mount_options.rnodiratime_reaches_submounts",
            "mount_options.rstrictatime_reaches_submounts",
            "mount_options.bind_leaves_submounts_out",
        ],
    },
    Difference {
        modes: &[Mode::User],
        why: "Mapping the ids of a mount takes CAP_SYS_ADMIN where its file system was mounted.",
        tests: &["mount_refusals.an_idmapped_bind_shows_mapped_owners"],
    },
    Difference {
        modes: &[Mode::User],
        why: "A controller that was not delegated cannot be switched on later.",
        tests: &[
            "update.a_huge_page_limit_is_changed",
            "resources.huge_pages_*",
            "resources.reservations_are_limited_too",
            "systemd.what_systemd_has_no_property_for_is_written_to_the_cgroup",
        ],
    },
];

/// Why this test does not hold in this mode; `None` where it must pass.
pub fn reason(mode: Mode, test: &str) -> Option<&'static str> {
    let found = DIFFERENCES.iter().find(|difference| {
        difference.modes.contains(&mode) && difference.tests.iter().any(|pattern| matches(pattern, test))
    });
    found.map(|difference| difference.why)
}

fn matches(pattern: &str, test: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => test.starts_with(start),
        None => test == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_names_a_test_and_none_is_listed_twice() {
        let names: Vec<String> = crate::tests::all().into_iter().map(|case| case.name).collect();
        for mode in [Mode::UserNamespace, Mode::User] {
            let patterns: Vec<&str> = DIFFERENCES
                .iter()
                .filter(|difference| difference.modes.contains(&mode))
                .flat_map(|difference| difference.tests.iter().copied())
                .collect();
            for pattern in &patterns {
                assert!(names.iter().any(|name| matches(pattern, name)), "{pattern} names no test");
            }
            for name in &names {
                let times = patterns.iter().filter(|pattern| matches(pattern, name)).count();
                assert!(times <= 1, "{name} is listed {times} times for {}", mode.word());
            }
        }
    }

    #[test]
    fn the_documentation_gives_every_reason() {
        let text = include_str!("../../docs/rootless.md").split_whitespace().collect::<Vec<_>>().join(" ");
        for difference in DIFFERENCES {
            assert!(text.contains(difference.why), "docs/rootless.md does not say: {}", difference.why);
        }
    }
}
