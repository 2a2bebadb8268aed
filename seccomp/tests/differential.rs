//! Same decisions as libseccomp, over every number of every ABI and arguments
//! at the edges of what the rules compare with.

mod oracle;

use oracle::{DOCKER_CAPS, Stub, arg, rule};
use std::collections::BTreeSet;
use xebec_seccomp::bpf::{self, Call, Instruction};
use xebec_seccomp::{Action, Arch, Options, Profile, compile};

const ENOSYS: u32 = 0x0005_0000 | 38;

fn options(native: Arch, enosys_stub: bool) -> Options {
    Options {
        native,
        enosys_stub,
        ..Options::default()
    }
}

/// Values around every constant of the profile, for one argument.
fn edges(profile: &Profile<'_>, index: u64) -> Vec<u64> {
    let mut values = BTreeSet::from([0, 1, 0x1_0000_0000, u64::MAX]);
    let args = profile.syscalls.iter().flat_map(|r| &r.args);
    for arg in args.filter(|a| a.index == Some(index)) {
        let value = arg.value.expect("value");
        let two = arg.value_two.unwrap_or(0);
        for v in [value, two, two & value, two | !value] {
            values.extend([
                v,
                v.wrapping_add(1),
                v.wrapping_sub(1),
                v ^ (1 << 32),
                v ^ (1 << 63),
            ]);
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
            let few = if conditional.contains(&(arch, nr)) {
                tuples.len()
            } else {
                3
            };
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
                    "{arch:?} nr {nr:#x} args {args:x?}: ours {}, libseccomp {}\n{profile:#?}\n{}",
                    Action::from_value(got),
                    Action::from_value(expected),
                    describe(ours, big),
                );
            }
        }
    }
    for unknown in [0, 0xdead_beef] {
        let call = Call {
            arch: unknown,
            ..Call::new(native, 0, [0; 6])
        };
        assert_eq!(
            bpf::execute(ours, &call, big).value,
            0,
            "an unknown ABI is killed"
        );
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

fn compare_all(profile: &Profile<'_>, native: Arch, most: usize) -> usize {
    let profile = known_only(profile);
    let tuples = tuples(&profile, most);
    let mut compared = 0;
    for optimize in [1, 2] {
        let theirs = oracle::oracle(&profile, native, optimize)
            .unwrap_or_else(|e| panic!("libseccomp: {e}\n{profile:#?}"));
        for stub in [false, true] {
            let ours = compile(&profile, &options(native, stub))
                .expect("compiles")
                .program;
            let stub = stub.then(|| Stub::new(&profile, native));
            compared += assert_same(&ours, &theirs, stub.as_ref(), &profile, native, &tuples);
        }
    }
    compared
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
        compared += compare_all(&profile, Arch::X86_64, 400);
    }
    assert!(compared > 100_000, "{compared}");
}

#[test]
fn one_rule_of_every_operator_at_every_edge() {
    let ops = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let values = [
        0,
        1,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0005,
        0xffff_ffff_0000_0000,
        u64::MAX,
    ];
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
            compare_all(&profile, Arch::X86_64, 0);
        }
    }
}
