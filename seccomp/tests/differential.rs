//! Same decisions as libseccomp, over every number of every ABI and arguments
//! at the edges of what the rules compare with.

mod generate;
mod oracle;

use oracle::{DOCKER_CAPS, Stub, arg, rule};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use xebec_seccomp::bpf::{self, Call, Instruction};
use xebec_seccomp::{Action, Arch, Options, Profile, compile};

const ENOSYS: u32 = 0x0005_0000 | 38;

/// Programs of libseccomp that were not compared, see [`oracle::is_sound`].
static UNSOUND: AtomicU32 = AtomicU32::new(0);

fn options(native: Arch, enosys_stub: bool) -> Options {
    Options { native, enosys_stub, ..Options::default() }
}

/// Values around every constant of the profile, for one argument.
fn edges(profile: &Profile<'_>, index: u64) -> Vec<u64> {
    let mut values = BTreeSet::from([0, 1, 0x1_0000_0000, u64::MAX]);
    let args = profile.syscalls.iter().flat_map(|r| &r.args);
    for arg in args.filter(|a| a.index == Some(index)) {
        let value = arg.value.expect("value");
        let two = arg.value_two.unwrap_or(0);
        for v in [value, two, two & value, two | !value] {
            values.extend([v, v.wrapping_add(1), v.wrapping_sub(1), v ^ (1 << 32), v ^ (1 << 63)]);
            values.extend([v & 0xffff_ffff, v | 0xffff_ffff_0000_0000, !v]);
            values.extend([v.wrapping_add(1 << 32), v.wrapping_sub(1 << 32)]);
        }
    }
    for selector in 0..26 {
        if index == 0 {
            values.insert(selector);
        }
    }
    values.into_iter().collect()
}

/// Argument tuples: every edge of each argument with the others fixed in a few
/// ways, then pairs chosen by a fixed-seed generator.
fn tuples(profile: &Profile<'_>, most: usize) -> Vec<[u64; 6]> {
    let edges: Vec<Vec<u64>> = (0..6).map(|i| edges(profile, i)).collect();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 33) as usize % below
    };
    let mut all = vec![[0; 6], [u64::MAX; 6]];
    for index in 0..6 {
        for &value in &edges[index] {
            let mut tuple: [u64; 6] = std::array::from_fn(|i| edges[i][next(edges[i].len())]);
            tuple[index] = value;
            all.push(tuple);
        }
    }
    while all.len() < most {
        all.push(std::array::from_fn(|i| edges[i][next(edges[i].len())]));
    }
    all
}

fn describe(program: &[Instruction], big: bool) -> String {
    bpf::disassemble(program, big)
}

/// Compares decisions call by call; gives how many were compared.
fn assert_same(
    ours: &[Instruction],
    theirs: &[Instruction],
    stub: Option<&Stub>,
    profile: &Profile<'_>,
    native: Arch,
    tuples: &[[u64; 6]],
) -> usize {
    let big = native.is_big_endian();
    bpf::verify(ours).expect("the kernel would take ours");
    bpf::verify(theirs).expect("the kernel would take theirs");
    let conditional: BTreeSet<(Arch, u32)> = conditional(profile);
    let mut compared = 0;
    let mut archs: Vec<Arch> = Arch::ALL.to_vec();
    archs.retain(|a| a.is_big_endian() == big);
    for arch in archs {
        for nr in oracle::numbers(arch) {
            let few = if conditional.contains(&(arch, nr)) { tuples.len() } else { 3 };
            for args in tuples.iter().take(few) {
                let call = Call::new(arch, nr, *args);
                let mut expected = bpf::execute(theirs, &call, big).value;
                if stub.is_some_and(|s| s.answers(&call)) {
                    expected = ENOSYS;
                }
                let got = bpf::execute(ours, &call, big).value;
                compared += 1;
                assert!(
                    got == expected,
                    "{arch:?} nr {nr:#x} args {args:x?}: ours {}, libseccomp {}\n{}\n{}",
                    Action::from_value(got),
                    Action::from_value(expected),
                    serde_json::to_string(profile).expect("a profile is JSON"),
                    describe(ours, big),
                );
            }
        }
    }
    for unknown in [0, 0xdead_beef] {
        let call = Call { arch: unknown, ..Call::new(native, 0, [0; 6]) };
        assert_eq!(bpf::execute(ours, &call, big).value, 0, "an unknown ABI is killed");
        assert_eq!(bpf::execute(theirs, &call, big).value, 0);
    }
    compared
}

/// The calls whose arguments matter, the multiplexers included.
fn conditional(profile: &Profile<'_>) -> BTreeSet<(Arch, u32)> {
    let mut all = BTreeSet::new();
    for arch in Arch::ALL {
        let names = profile
            .syscalls
            .iter()
            .filter(|r| !r.args.is_empty())
            .flat_map(|r| r.names.iter().map(|n| &**n))
            .chain(["socketcall", "ipc"]);
        all.extend(names.filter_map(|n| Some((arch, xebec_seccomp::syscall_number(arch, n)?))));
    }
    all
}

/// Leaves out what libseccomp 2.5.4 does not know.
fn known_only<'a>(profile: &Profile<'a>) -> Profile<'a> {
    let mut profile = profile.clone();
    for rule in &mut profile.syscalls {
        rule.names.retain(|n| oracle::knows(n));
    }
    profile.syscalls.retain(|r| !r.names.is_empty());
    profile
}

/// Compares with and without ENOSYS answers; `levels` are libseccomp's
/// OPTIMIZE settings.
fn compare_all(profile: &Profile<'_>, native: Arch, most: usize, levels: &[u32]) -> usize {
    let profile = known_only(profile);
    let tuples = tuples(&profile, most);
    let mut compared = 0;
    for &level in levels {
        let theirs =
            oracle::oracle(&profile, native, level).unwrap_or_else(|e| panic!("libseccomp: {e}\n{profile:#?}"));
        if !oracle::is_sound(&theirs) {
            UNSOUND.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        for stub in [false, true] {
            let ours = compile(&profile, &options(native, stub)).expect("compiles").program;
            let stub = stub.then(|| Stub::new(&profile, native));
            compared += assert_same(&ours, &theirs, stub.as_ref(), &profile, native, &tuples);
        }
    }
    compared
}

/// Of the names Debian's libseccomp 2.5.4 has, these differ. arm's is an alias
/// of arm_sync_file_range in the kernel's header; x32's is in the header that
/// linux-raw-sys was made from. libseccomp has neither.
const TABLE_DIFFERENCES: [&str; 2] = ["Arm sync_file_range2", "X32 map_shadow_stack"];

#[test]
fn the_tables_agree_on_every_name_both_know() {
    let mut differ = BTreeSet::new();
    for arch in Arch::ALL {
        let names = Arch::ALL.into_iter().flat_map(xebec_seccomp::syscalls).map(|(n, _)| n);
        differ.extend(names.filter(|n| !oracle::same_number(arch, n)).map(|n| format!("{arch:?} {n}")));
    }
    let differ: Vec<&str> = differ.iter().map(String::as_str).collect();
    assert_eq!(differ, TABLE_DIFFERENCES);
}

#[test]
fn the_engines_default_profile_decides_as_libseccomp_for_every_capability_set() {
    let mut compared = 0;
    let sets: [&[&str]; 4] = [
        &DOCKER_CAPS,
        &[],
        &["CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"],
        &["CAP_AUDIT_WRITE", "CAP_SYS_TIME", "CAP_SYS_RAWIO"],
    ];
    for caps in sets {
        let json = oracle::engine_profile(Arch::X86_64, caps);
        let profile: Profile<'_> = serde_json::from_str(&json).expect("a profile");
        compared += compare_all(&profile, Arch::X86_64, 400, &[1, 2]);
    }
    assert!(compared > 100_000, "{compared}");
}

const MOBY: &str = include_str!("../testdata/moby.json");

#[test]
fn mobys_default_profile_decides_as_libseccomp_for_every_capability_set() {
    let mut compared = 0;
    for caps in [&DOCKER_CAPS[..], &[], &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_BPF"]] {
        let json = oracle::engine_profile_of(MOBY, Arch::X86_64, caps);
        let profile: Profile<'_> = serde_json::from_str(&json).expect("a profile");
        compared += compare_all(&profile, Arch::X86_64, 400, &[1, 2]);
    }
    println!("{compared} decisions compared");
    assert!(compared > 100_000, "{compared}");
}

#[test]
fn the_engines_profiles_decide_as_libseccomp_on_every_processor() {
    let mut compared = 0;
    for native in Arch::ALL.into_iter().filter(|a| oracle::scmp(*a).is_some()) {
        for json in
            [oracle::engine_profile_of(MOBY, native, &DOCKER_CAPS), oracle::engine_profile(native, &DOCKER_CAPS)]
        {
            let profile: Profile<'_> = serde_json::from_str(&json).expect("a profile");
            compared += compare_all(&profile, native, 0, &[1, 2]);
        }
    }
    println!("{compared} decisions compared");
    assert!(compared > 1_000_000, "{compared}");
}

/// Each group of systemd refused, and each allowed alone, on x86_64 with its two other ABIs.
#[test]
fn systemds_groups_decide_as_libseccomp() {
    let (mut compared, mut groups) = (0, 0);
    for (_, mut names) in xebec_seccomp::groups() {
        names.retain(|name| !name.starts_with('@'));
        names.sort_unstable();
        names.dedup();
        for (default, action) in [("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"), ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW")] {
            let profile = Profile {
                default_action: Some(default.into()),
                architectures: vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()],
                syscalls: vec![rule(&names, action, Vec::new())],
                ..Profile::default()
            };
            compared += compare_all(&profile, Arch::X86_64, 0, &[1, 2]);
        }
        groups += 1;
    }
    println!("{groups} groups, {compared} decisions compared");
    assert!(groups > 20 && compared > 1_000_000, "{groups} {compared}");
}

#[test]
fn one_rule_of_every_operator_at_every_edge() {
    let ops = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let values = [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 0xffff_ffff_0000_0000, u64::MAX];
    for op in ops {
        let op = format!("SCMP_CMP_{op}");
        for value in values {
            let mut profile = Profile {
                default_action: Some("SCMP_ACT_ALLOW".into()),
                architectures: vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()],
                ..Profile::default()
            };
            let two = value & 0x8000_0001_8000_0001;
            profile.syscalls.push(rule(
                &["read", "personality", "socket", "mmap2"],
                "SCMP_ACT_KILL_PROCESS",
                vec![arg(2, &op, value, two)],
            ));
            compare_all(&profile, Arch::X86_64, 0, &[1, 2]);
        }
    }
}

mod generated {
    use super::*;
    use crate::generate::{ACTIONS, EQUALITIES, OPS, POOL, cases, profile};
    use proptest::prelude::*;
    use proptest::sample::select;
    use xebec_seccomp::{Arg, Rule};

    /// One action besides the default: libseccomp's merging cannot show.
    fn compare_one_action(rules: &mut [Rule<'static>], action: &'static str) {
        for rule in rules {
            rule.action = Some(action.into());
        }
    }

    /// What a profile with one action besides the default means, in its own
    /// words: the action when every comparison of any rule holds.
    fn model(profile: &Profile<'_>, arch: Arch, nr: u32, args: &[u64; 6]) -> u32 {
        let name_here = |name: &str| xebec_seccomp::syscall_number(arch, name) == Some(nr);
        let hit = profile
            .syscalls
            .iter()
            .any(|rule| rule.names.iter().any(|n| name_here(n)) && rule_matches(rule, arch, args));
        let word = |name: &str| {
            if name == "SCMP_ACT_ERRNO" || name == "SCMP_ACT_TRACE" { 1 } else { 0 }
        };
        let value = |name: &str| super::value_of(name) | word(name);
        let default = profile.default_action.as_deref().expect("default");
        let action = profile.syscalls[0].action.as_deref().expect("action");
        value(if hit { action } else { default })
    }

    fn rule_matches(rule: &Rule<'_>, arch: Arch, args: &[u64; 6]) -> bool {
        let width = |v: u64| if arch.is_64bit() { v } else { v & 0xffff_ffff };
        let holds = |arg: &Arg<'_>| {
            let actual = width(args[arg.index.expect("index") as usize]);
            let value = width(arg.value.expect("value"));
            match arg.op.as_deref().expect("op") {
                "SCMP_CMP_NE" => actual != value,
                "SCMP_CMP_LT" => actual < value,
                "SCMP_CMP_LE" => actual <= value,
                "SCMP_CMP_EQ" => actual == value,
                "SCMP_CMP_GE" => actual >= value,
                "SCMP_CMP_GT" => actual > value,
                _ => actual & value == width(arg.value_two.expect("value")) & value,
            }
        };
        let twice = (0..6).any(|i| rule.args.iter().filter(|a| a.index == Some(i)).count() > 1);
        if twice { rule.args.iter().any(holds) } else { rule.args.iter().all(holds) }
    }

    proptest! {
        #![proptest_config(cases(40))]

        /// Any operators and rules: ours must do what the rules say.
        #[test]
        fn one_action_means_any_rule_that_holds(
            (mut profile, native) in profile(Just("SCMP_ACT_ALLOW"), &OPS),
            action in select(&ACTIONS[..]),
        ) {
            compare_one_action(&mut profile.syscalls, action);
            profile.architectures.clear();
            // The model knows no multiplexers.
            let muxed = ["socketcall", "ipc"];
            let ours = compile(&profile, &options(native, false)).expect("compiles").program;
            for args in tuples(&profile, 300) {
                for name in POOL.iter().filter(|n| !muxed.contains(n)) {
                    let Some(nr) = xebec_seccomp::syscall_number(native, name) else { continue };
                    let call = Call::new(native, nr, args);
                    let got = bpf::execute(&ours, &call, native.is_big_endian()).value;
                    let expected = model(&profile, native, nr, &args);
                    prop_assert_eq!(got, expected, "{} {:x?}", name, args);
                }
            }
        }

        /// Every operator, one rule a call.
        #[test]
        fn one_rule_a_call((profile, native) in profile(select(&ACTIONS[..]), &OPS)) {
            let mut profile = profile;
            let mut seen = BTreeSet::new();
            for rule in &mut profile.syscalls {
                let each = (0..6)
                    .any(|i| rule.args.iter().filter(|a| a.index == Some(i)).count() > 1);
                if each {
                    rule.args.truncate(1);
                }
                rule.names.retain(|n| seen.insert(n.0.to_string()));
                // A multiplexed call shares its multiplexer with others.
                rule.names.retain(|n| !MUXED.contains(&&**n));
            }
            profile.syscalls.retain(|r| !r.names.is_empty());
            compare_all(&profile, native, 100, &[1, 2]);
        }

        /// Many rules a call with one action.
        #[test]
        fn several_equalities_with_one_action(
            (mut profile, native) in profile(Just("SCMP_ACT_ALLOW"), &EQUALITIES),
            action in select(&ACTIONS[..]),
        ) {
            compare_one_action(&mut profile.syscalls, action);
            compare_all(&profile, native, 100, &[1, 2]);
        }

        /// Many rules a call that say different things.
        #[test]
        fn several_equalities_with_several_actions(
            (profile, native) in profile(select(&ACTIONS[..]), &EQUALITIES),
        ) {
            let known = known_only(&profile);
            // What libseccomp refuses has no decision to compare.
            prop_assume!(oracle::oracle(&known, native, 1).is_ok());
            prop_assume!(compile(&known, &options(native, true)).is_ok());
            compare_all(&profile, native, 100, &[1, 2]);
        }
    }

    const MUXED: [&str; 34] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
        "semop",
        "semget",
        "semctl",
        "semtimedop",
        "msgsnd",
        "msgrcv",
        "msgget",
        "msgctl",
        "shmat",
        "shmdt",
        "shmget",
        "shmctl",
        "socketcall",
        "ipc",
    ];
}

fn value_of(action: &str) -> u32 {
    match action {
        "SCMP_ACT_KILL" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        _ => 0x7fff_0000,
    }
}
