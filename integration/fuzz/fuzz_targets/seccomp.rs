//! Profile -> BPF -> the kernel's rules: whatever compiles must verify, and
//! decide as `explain` says. `cargo +nightly fuzz run profile`, or build with
//! the coverage flags and run the binary.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xebec_seccomp::bpf::{self, Call};
use xebec_seccomp::{Arch, Arg, Options, Profile, Rule, compile, explain, syscall_number};

const NAMES: [&str; 16] = [
    "read",
    "clone",
    "socket",
    "accept",
    "accept4",
    "send",
    "semop",
    "shmctl",
    "personality",
    "socketcall",
    "ipc",
    "_llseek",
    "breakpoint",
    "newfstatat",
    "listns",
    "no_such_call",
];
const ACTIONS: [&str; 10] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_NONSENSE",
];
const OPS: [&str; 8] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NONSENSE",
];

/// Takes values from the fuzzer's bytes, zeros when they end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Small numbers, edges of words, and anything.
    fn value(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=127 => u64::from(small % 27),
            128..=159 => 0xffff_ffff + u64::from(self.byte() % 3),
            160..=191 => u64::MAX - u64::from(self.byte() % 3),
            192..=223 => 1 << (self.byte() % 64),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }
}

fn profile(bytes: &mut Bytes<'_>) -> (Profile<'static>, Options) {
    let native = Arch::ALL[usize::from(bytes.byte()) % Arch::ALL.len()];
    let flags = bytes.byte();
    let options = Options {
        native,
        enosys_stub: flags & 1 != 0,
        fail_unknown: flags & 2 != 0,
        ..Options::default()
    };
    let mut profile = Profile {
        default_action: Some(bytes.pick(&ACTIONS).into()),
        default_errno_ret: (flags & 4 != 0).then(|| bytes.value()),
        ..Profile::default()
    };
    for _ in 0..bytes.byte() % 4 {
        let arch = Arch::ALL[usize::from(bytes.byte()) % Arch::ALL.len()];
        profile.architectures.push(arch.spec_name().into());
    }
    while !bytes.0.is_empty() && profile.syscalls.len() < 64 {
        let mut rule = Rule {
            action: Some(bytes.pick(&ACTIONS).into()),
            ..Rule::default()
        };
        for _ in 0..=bytes.byte() % 3 {
            rule.names.push(bytes.pick(&NAMES).into());
        }
        for _ in 0..bytes.byte() % 4 {
            rule.args.push(Arg {
                index: Some(u64::from(bytes.byte() % 7)),
                value: Some(bytes.value()),
                value_two: Some(bytes.value()),
                op: Some(bytes.pick(&OPS).into()),
            });
        }
        profile.syscalls.push(rule);
    }
    (profile, options)
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let other = Arch::ALL[usize::from(bytes.byte()) % Arch::ALL.len()];
    let calls: [[u64; 6]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| bytes.value()));
    let (profile, options) = profile(&mut bytes);
    let Ok(filter) = compile(&profile, &options) else {
        return;
    };
    bpf::verify(&filter.program).expect("the kernel would refuse the program");
    let big_endian = options.native.is_big_endian();
    // An explanation reads the profile anew each time: two ABIs are enough.
    for arch in [options.native, other] {
        let numbers = NAMES.iter().filter_map(|name| syscall_number(arch, name));
        for nr in numbers.chain([u32::MAX, 1 << 30, 1 << 31, 1000]) {
            for args in calls {
                let call = Call::new(arch, nr, args);
                let why = explain(&profile, &options, &call).expect("it compiled");
                let got = bpf::execute(&filter.program, &call, big_endian).value;
                assert_eq!(why.action.value(), got, "{arch:?} {nr:#x} {args:x?}: {why}");
            }
        }
    }
});
