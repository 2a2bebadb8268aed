//! The default profile against an engine's own, name by name, and the groups against the tables.

use xebec_seccomp::bpf::Call;
use xebec_seccomp::{Action, Options, Profile, explain, syscall_number};

use super::*;

fn profile(caps: &[&str], allow: &[&str], deny: &[&str]) -> String {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (caps, allow, deny) = (owned(caps), owned(allow), owned(deny));
    let wish = Wish { native: Arch::X86_64, caps: &caps, allow: &allow, deny: &deny };
    default_profile(&wish).expect("a profile").to_string()
}

fn answer(text: &str, name: &str, args: &[u64]) -> Action {
    let profile: Profile<'_> = serde_json::from_str(text).expect("a profile");
    let options = Options { native: Arch::X86_64, enosys_stub: false, ..Options::default() };
    let mut values = [0; 6];
    values[..args.len()].copy_from_slice(args);
    let number = syscall_number(Arch::X86_64, name).unwrap_or_else(|| panic!("{name}"));
    explain(&profile, &options, &Call::new(Arch::X86_64, number, values)).expect("an answer").action
}

const EPERM: Action = Action::Errno(1);

#[test]
fn the_default_follows_the_capabilities() {
    let plain = profile(&[], &[], &[]);
    let admin = profile(&["CAP_SYS_ADMIN"], &[], &[]);
    for name in ["mount", "unshare", "setns", "bpf", "fsopen"] {
        assert_eq!((answer(&plain, name, &[]), answer(&admin, name, &[])), (EPERM, Action::Allow), "{name}");
    }
    for (cap, name) in [
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_MODULE", "finit_module"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_SYSLOG", "syslog"),
    ] {
        assert_eq!((answer(&plain, name, &[]), answer(&admin, name, &[])).0, EPERM, "{name}");
        assert_eq!(answer(&profile(&[cap], &[], &[]), name, &[]), Action::Allow, "{name}");
    }
    let user_namespace = 0x1000_0000;
    assert_eq!(answer(&plain, "clone", &[user_namespace | 17]), EPERM);
    assert_eq!(answer(&plain, "clone", &[0x003d_0f00]), Action::Allow, "a thread");
    assert_eq!(answer(&admin, "clone", &[user_namespace]), Action::Allow);
    assert_eq!(answer(&plain, "clone3", &[]), Action::Errno(38));
    assert_eq!(answer(&admin, "clone3", &[]), Action::Allow);
}

#[test]
fn arguments_decide_on_sockets_and_personalities() {
    let plain = profile(&[], &[], &[]);
    assert_eq!(answer(&plain, "socket", &[40, 1, 0]), EPERM, "AF_VSOCK");
    assert_eq!(answer(&plain, "socket", &[2, 1, 0]), Action::Allow, "AF_INET");
    assert_eq!(answer(&plain, "personality", &[0xffff_ffff]), Action::Allow);
    assert_eq!(answer(&plain, "personality", &[0x0040_0000]), EPERM, "READ_IMPLIES_EXEC");
}

#[test]
fn names_and_groups_are_added_and_taken_and_taking_is_stronger() {
    assert_eq!(answer(&profile(&[], &[], &[]), "keyctl", &[]), EPERM);
    assert_eq!(answer(&profile(&[], &["@keyring"], &[]), "keyctl", &[]), Action::Allow);
    assert_eq!(answer(&profile(&[], &["@keyring"], &["keyctl"]), "keyctl", &[]), EPERM);
    assert_eq!(answer(&profile(&[], &["clone"], &[]), "clone", &[0x1000_0000]), Action::Allow);
    assert_eq!(answer(&profile(&[], &[], &["@network-io"]), "socket", &[2]), EPERM);
    assert_eq!(answer(&profile(&[], &[], &["@network-io"]), "read", &[]), Action::Allow);
    // A group in a group: @system-service holds @io-event.
    assert_eq!(answer(&profile(&[], &[], &["@system-service"]), "epoll_wait", &[]), EPERM);
}

#[test]
fn what_nobody_knows_is_an_error_that_names_the_option() {
    let refused = |allow: &str, deny: &str| {
        let (allow, deny) = ([allow.to_owned()], [deny.to_owned()]);
        let wish = Wish { native: Arch::X86_64, caps: &[], allow: &allow, deny: &deny };
        default_profile(&wish).expect_err("must be refused").to_string()
    };
    assert!(
        refused("@nonsense", "read")
            .starts_with("--seccomp-allow @nonsense: there is no such group; hint: the groups are @aio,")
    );
    assert_eq!(refused("read", "nonsense"), "--seccomp-deny nonsense: no architecture has a system call of this name");
}

#[test]
fn every_name_of_the_data_is_a_group_or_a_system_call() {
    let known: BTreeSet<&str> = Arch::ALL.into_iter().flat_map(xebec_seccomp::syscalls).map(|(name, _)| name).collect();
    let groups = groups();
    let members = groups.values().flatten().copied();
    let words = lines(DEFAULT).flat_map(|line| line.split(" if ").next().unwrap_or_default().split_whitespace());
    let words = words.filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase() || c == '@' || c == '_'));
    let grammar = ["allow", "deny", "errno", "on", "off", "with", "without", "x86_64", "s390x"];
    let mut strange: Vec<&str> = members
        .chain(words.filter(|word| !grammar.contains(word)))
        .filter(|name| if name.starts_with('@') { !groups.contains_key(name) } else { !known.contains(name) })
        .collect();
    strange.sort_unstable();
    strange.dedup();
    assert_eq!(strange, [""; 0]);
}

/// The calls that a list of rules allows, at least with some arguments; names that no architecture has
/// are left out.
fn allowed(rules: &Value) -> BTreeSet<&str> {
    let rules = rules.as_array().expect("rules").iter().filter(|rule| {
        let here = rule["includes"]["arches"].as_array().is_none_or(|list| list.contains(&json!("amd64")));
        rule["action"] == "SCMP_ACT_ALLOW" && rule["includes"]["caps"].is_null() && here
    });
    let names = rules.flat_map(|rule| rule["names"].as_array().expect("names")).filter_map(Value::as_str);
    names.filter(|name| Arch::ALL.into_iter().any(|arch| syscall_number(arch, name).is_some())).collect()
}

/// An engine's file for a container without capabilities, and ours: each difference is meant.
fn differs(engine: &str, more: &[&str], less: &[&str]) {
    let engine: Value = serde_json::from_str(engine).expect("testdata");
    let ours: Value = serde_json::from_str(&profile(&[], &[], &[])).expect("a profile");
    let (ours, theirs) = (allowed(&ours["syscalls"]), allowed(&engine["syscalls"]));
    let found: Vec<&str> = ours.difference(&theirs).copied().collect();
    assert_eq!(found, more, "allowed here alone");
    let found: Vec<&str> = theirs.difference(&ours).copied().collect();
    assert_eq!(found, less, "allowed there alone");
}

/// More: newer than that file, protection keys, and of other architectures, for which it has rules of
/// their own. Less: what later versions of docker refuse too, and podman does.
#[test]
fn the_default_differs_from_dockers_as_written_here() {
    let more = &[
        "arm_fadvise64_64",
        "cacheflush",
        "cachestat",
        "fchmodat2",
        "futex_requeue",
        "futex_wait",
        "futex_wake",
        "map_shadow_stack",
        "pkey_alloc",
        "pkey_free",
        "pkey_mprotect",
        "readdir",
        "riscv_flush_icache",
        "riscv_hwprobe",
        "set_tls",
        "sigaction",
        "signal",
        "sigpending",
        "sigsuspend",
        "sync_file_range2",
    ];
    let less = &["io_uring_enter", "io_uring_register", "io_uring_setup", "vmsplice"];
    differs(include_str!("../../seccomp/testdata/moby.json"), more, less);
}

/// Less: what docker allows with a capability only.
#[test]
fn the_default_differs_from_podmans_as_written_here() {
    let more = &[
        "arm_fadvise64_64",
        "cacheflush",
        "cachestat",
        "fchmodat2",
        "futex_requeue",
        "futex_wait",
        "futex_waitv",
        "futex_wake",
        "io_pgetevents",
        "io_pgetevents_time64",
        "map_shadow_stack",
        "riscv_flush_icache",
        "riscv_hwprobe",
        "set_tls",
        "sync_file_range2",
    ];
    let less = &[
        "clone3",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "get_mempolicy",
        "keyctl",
        "mbind",
        "mount",
        "mount_setattr",
        "move_mount",
        "name_to_handle_at",
        "open_tree",
        "pidfd_getfd",
        "pivot_root",
        "process_vm_readv",
        "process_vm_writev",
        "reboot",
        "set_mempolicy",
        "setns",
        "syscall",
        "syslog",
        "timerfd",
        "umount",
        "umount2",
        "unshare",
    ];
    differs(include_str!("../../seccomp/testdata/containers-common.json"), more, less);
}
