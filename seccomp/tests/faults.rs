//! The faults of libseccomp 2.5.4 that README.md names: each is shown by
//! libseccomp's own program, beside ours on the same profile. With another
//! version of the library these tests say so and judge ours only.

mod oracle;

use oracle::{arg, rule};
use xebec_seccomp::bpf::{self, Call};
use xebec_seccomp::{Action, Arch, Options, Profile, Rule, compile};

const DEFAULT: Action = Action::KillThread;

fn profile<'a>(archs: &[Arch], syscalls: Vec<Rule<'a>>) -> Profile<'a> {
    Profile {
        default_action: Some("SCMP_ACT_KILL".into()),
        architectures: archs.iter().map(|a| a.spec_name().into()).collect(),
        syscalls,
        ..Profile::default()
    }
}

fn ours(profile: &Profile<'_>, call: &Call) -> Action {
    let options = Options { native: Arch::X86_64, enosys_stub: false, ..Options::default() };
    let program = compile(profile, &options).expect("compiles").program;
    Action::from_value(bpf::run(&program, call, false).expect("verified").value)
}

/// What libseccomp 2.5.4 answers; `None` under another version.
fn theirs(profile: &Profile<'_>, call: &Call) -> Option<Result<Action, String>> {
    let version = libseccomp::ScmpVersion::current().expect("a version");
    if (version.major, version.minor, version.micro) != (2, 5, 4) {
        eprintln!("SKIPPED: libseccomp is {version:?}, its faults are of 2.5.4");
        return None;
    }
    Some(
        oracle::oracle(profile, Arch::X86_64, 1)
            .map(|program| Action::from_value(bpf::run(&program, call, false).expect("verified").value)),
    )
}

fn read(first: u64, last: u64) -> Call {
    Call::new(Arch::X86_64, 0, [first, 0, 0, 0, 0, last])
}

#[track_caller]
fn assert_fault(profile: &Profile<'_>, call: &Call, right: Action, wrong: Action) {
    assert_eq!(ours(profile, call), right);
    if let Some(theirs) = theirs(profile, call) {
        assert_eq!(theirs, Ok(wrong));
    }
}

#[test]
fn two_ranges_of_one_argument_compare_the_wrong_word() {
    let less = |value| rule(&["read"], "SCMP_ACT_ALLOW", vec![arg(0, "SCMP_CMP_LT", value, 0)]);
    let profile = profile(&[], vec![less(0x50_ab92_435d_6034), less(0)]);
    assert_fault(&profile, &read(0x435d_6034, 0), Action::Allow, DEFAULT);
}

#[test]
fn a_rule_is_dropped_because_of_the_opposite_of_its_last_condition() {
    let profile = profile(
        &[],
        vec![
            rule(&["read"], "SCMP_ACT_ALLOW", vec![arg(5, "SCMP_CMP_EQ", 1, 0)]),
            rule(&["read"], "SCMP_ACT_ALLOW", vec![arg(0, "SCMP_CMP_LE", 0, 0), arg(5, "SCMP_CMP_NE", 1, 0)]),
        ],
    );
    assert_fault(&profile, &read(0, 0), Action::Allow, DEFAULT);
}

#[test]
fn of_two_upper_bounds_the_first_decides_far_below_both() {
    let less = |value, action| rule(&["read"], action, vec![arg(0, "SCMP_CMP_LT", value, 0)]);
    let profile = profile(&[], vec![less(0x1_0000_0009, "SCMP_ACT_ALLOW"), less(0x1_0000_0005, "SCMP_ACT_LOG")]);
    // Where the high words are equal the smaller bound decides in both.
    let near = read(0x1_0000_0001, 0);
    assert_eq!(ours(&profile, &near), Action::Log);
    if let Some(theirs) = theirs(&profile, &near) {
        assert_eq!(theirs, Ok(Action::Log));
    }
    assert_fault(&profile, &read(1, 0), Action::Log, Action::Allow);
}

#[test]
fn an_abi_whose_first_rule_is_for_a_call_it_lacks_never_loads_the_number() {
    let profile = profile(
        &[Arch::Arm],
        vec![
            rule(&["send"], "SCMP_ACT_LOG", vec![arg(0, "SCMP_CMP_NE", 1, 0)]),
            rule(&["ipc"], "SCMP_ACT_LOG", vec![]),
        ],
    );
    let send = Call::new(Arch::Arm, 289, [0; 6]);
    assert_fault(&profile, &send, Action::Log, DEFAULT);
}

#[test]
fn a_shorter_rule_wins_in_both_orders() {
    let short = || rule(&["read"], "SCMP_ACT_LOG", vec![arg(0, "SCMP_CMP_EQ", 1, 0)]);
    let long = || {
        let args = vec![arg(0, "SCMP_CMP_EQ", 1, 0), arg(5, "SCMP_CMP_EQ", 2, 0)];
        rule(&["read"], "SCMP_ACT_ALLOW", args)
    };
    let call = read(1, 2);
    let short_first = profile(&[], vec![short(), long()]);
    assert_eq!(ours(&short_first, &call), Action::Log);
    let long_first = profile(&[], vec![long(), short()]);
    assert_eq!(ours(&long_first, &call), Action::Log);
    if let (Some(one), Some(two)) = (theirs(&short_first, &call), theirs(&long_first, &call)) {
        assert_eq!(one, Ok(Action::Log));
        assert!(two.is_err(), "libseccomp refuses the longer rule first: {two:?}");
    }
}
