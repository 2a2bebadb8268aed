//! Random profiles for the differential tests, of names libseccomp knows too
//! (a file that uses this has `mod oracle` beside it).
#![allow(dead_code, unreachable_pub)]

use crate::oracle::{self, arg, rule};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use xebec_seccomp::{Arch, Arg, Profile};

pub const OPS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];
pub const EQUALITIES: [&str; 2] = ["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"];
pub const ACTIONS: [&str; 8] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];
/// Few names, so that rules meet; multiplexed ones among them.
pub const POOL: [&str; 14] = [
    "read",
    "clone",
    "mmap",
    "socket",
    "accept",
    "accept4",
    "sendto",
    "send",
    "semop",
    "shmctl",
    "personality",
    "socketcall",
    "ipc",
    "_llseek",
];

pub fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4u64,
        select(vec![0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x8000_0000, 1 << 63, u64::MAX, 0xffff_ffff_0000_0000,]),
        any::<u64>(),
    ]
}

pub fn args(ops: &'static [&'static str]) -> impl Strategy<Value = Vec<Arg<'static>>> {
    let arg = (0..6u64, select(ops), value(), value()).prop_map(|(index, op, one, two)| arg(index, op, one, two));
    prop_oneof![
        2 => Just(Vec::new()),
        5 => prop::collection::vec(arg, 1..4),
    ]
}

pub fn names(all: Vec<&'static str>) -> impl Strategy<Value = Vec<&'static str>> {
    let wide = prop::collection::vec(any::<Index>(), 1..60)
        .prop_map(move |picks| picks.iter().map(|i| *i.get(&all)).collect());
    prop_oneof![
        3 => subsequence(POOL.to_vec(), 1..5),
        1 => wide,
    ]
}

/// Every name libseccomp has too.
pub fn all_names() -> Vec<&'static str> {
    let mut all: Vec<&str> = Arch::ALL.iter().flat_map(|a| xebec_seccomp::syscalls(*a)).map(|(n, _)| n).collect();
    all.sort_unstable();
    all.dedup();
    all.retain(|n| oracle::knows(n));
    all
}

pub fn natives() -> impl Strategy<Value = Arch> {
    prop_oneof![
        4 => Just(Arch::X86_64),
        3 => select(vec![
            Arch::X86,
            Arch::X32,
            Arch::Aarch64,
            Arch::Arm,
            Arch::Riscv64,
            Arch::S390x,
            Arch::Ppc64le,
            Arch::Ppc64,
            Arch::Ppc,
            Arch::Mips,
            Arch::Mipsel,
            Arch::Mips64,
            Arch::Mipsel64,
            Arch::Mips64n32,
            Arch::Mipsel64n32,
        ]),
    ]
}

pub fn profile(
    actions: impl Strategy<Value = &'static str> + Clone,
    ops: &'static [&'static str],
) -> impl Strategy<Value = (Profile<'static>, Arch)> {
    let rule =
        (names(all_names()), actions.clone(), args(ops)).prop_map(|(names, action, args)| rule(&names, action, args));
    let rules = prop::collection::vec(rule, 0..10);
    (natives(), select(&ACTIONS[..]), rules, any::<u8>()).prop_map(|(native, default, mut syscalls, bits)| {
        // libseccomp 2.5.4 forgets to load the number when the first
        // rule of an ABI is of a call the ABI lacks (README.md). A
        // call that all have, without conditions, comes before those.
        let first = if default == "SCMP_ACT_TRAP" { "SCMP_ACT_LOG" } else { "SCMP_ACT_TRAP" };
        syscalls.insert(0, oracle::rule(&["getpid"], first, vec![]));
        let archs: Vec<Arch> = Arch::ALL
            .into_iter()
            .filter(|a| a.is_big_endian() == native.is_big_endian())
            .filter(|a| oracle::scmp(*a).is_some())
            .enumerate()
            .filter(|(at, _)| bits & (1 << (at % 8)) != 0)
            .map(|(_, arch)| arch)
            .collect();
        let profile = Profile {
            default_action: Some(default.into()),
            architectures: archs.iter().map(|a| a.spec_name().into()).collect(),
            syscalls,
            ..Profile::default()
        };
        (profile, native)
    })
}

pub fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(default), failure_persistence: None, ..ProptestConfig::default() }
}
