//! The explanation and the filter agree; profiles that are wrong are told why.

mod generate;
mod oracle;

use generate::{ACTIONS, OPS, cases, profile};
use oracle::{arg, rule};
use proptest::prelude::*;
use proptest::sample::select;
use xebec_seccomp::bpf::{self, Call};
use xebec_seccomp::{Action, Arch, Error, Options, Profile, Reason, Warning, compile, diff, explain, show};

fn options(native: Arch) -> Options {
    Options { native, ..Options::default() }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn an_explanation_says_what_the_filter_does(
        (profile, native) in profile(select(&ACTIONS[..]), &OPS),
        args in prop::collection::vec(
            prop::array::uniform6(prop_oneof![
                0..26u64,
                select(vec![0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX]),
                any::<u64>(),
            ]),
            4,
        ),
        more in 0..3u32,
    ) {
        // Contradictory rules have no filter to compare with.
        let Ok(filter) = compile(&profile, &options(native)) else { return Ok(()) };
        let big = native.is_big_endian();
        for arch in Arch::ALL {
            let named = profile
                .syscalls
                .iter()
                .flat_map(|r| &r.names)
                .filter_map(|n| xebec_seccomp::syscall_number(arch, n))
                .take(8);
            let odd = [0, 0x66, 0x75, 600 + more, 1 << 30, (1 << 31) + more, 3 << 30, u32::MAX];
            for nr in named.chain(odd) {
                for args in &args {
                    let call = Call::new(arch, nr, *args);
                    let why = explain(&profile, &options(native), &call).expect("compiled before");
                    let got = bpf::execute(&filter.program, &call, big).value;
                    prop_assert_eq!(why.action.value(), got, "{:?} {:#x} {:x?}", arch, nr, args);
                }
            }
        }
    }

    #[test]
    fn a_profile_does_not_differ_from_itself_written_backwards_with_one_action(
        (mut profile, native) in profile(Just("SCMP_ACT_TRAP"), &OPS),
    ) {
        for rule in &mut profile.syscalls {
            rule.action = Some("SCMP_ACT_TRAP".into());
        }
        let mut backwards = profile.clone();
        backwards.syscalls.reverse();
        let found = diff(&profile, &backwards, &options(native)).expect("both compile");
        prop_assert!(found.is_empty(), "{}", found[0]);
    }
}

fn profile_of(json: &str) -> Profile<'_> {
    serde_json::from_str(json).expect("a profile")
}

#[test]
fn the_rule_that_decides_is_named_and_so_are_those_passed_over() {
    let profile = Profile {
        default_action: Some("SCMP_ACT_ERRNO".into()),
        syscalls: vec![
            rule(&["personality"], "SCMP_ACT_ALLOW", vec![arg(0, "SCMP_CMP_EQ", 8, 0)]),
            rule(&["personality"], "SCMP_ACT_LOG", vec![arg(0, "SCMP_CMP_EQ", 0, 0)]),
            rule(&["personality"], "SCMP_ACT_ERRNO", vec![]),
        ],
        ..Profile::default()
    };
    let call = Call::new(Arch::X86_64, 135, [8, 0, 0, 0, 0, 0]);
    let why = explain(&profile, &options(Arch::X86_64), &call).expect("right");
    assert_eq!(
        why.to_string(),
        "allow: rule /syscalls/0\n  \
         /syscalls/2: says what the default says, dropped\n  \
         /syscalls/1: a condition does not hold"
    );
    let newer = Call::new(Arch::X86_64, 136, [0; 6]);
    let why = explain(&profile, &options(Arch::X86_64), &newer).expect("right");
    assert_eq!(why.reason, Reason::NewerThanProfile { largest: 135 });
    let foreign = Call::new(Arch::Aarch64, 0, [0; 6]);
    let why = explain(&profile, &options(Arch::X86_64), &foreign).expect("right");
    assert_eq!((why.action, why.reason), (Action::KillThread, Reason::BadArch));
}

#[test]
fn every_wrong_word_is_found_at_once_with_its_pointer() {
    let json = r#"{
        "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_PDP11"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_NEW_LISTENER"],
        "listenerMetadata": "x",
        "syscalls": [
            { "names": [], "action": "SCMP_ACT_ALLOW" },
            { "names": null, "action": "SCMP_ACT_DENY" },
            { "names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 3 },
            { "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536 },
            { "names": ["read"], "action": "SCMP_ACT_ERRNO",
              "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" },
                       { "index": 0, "op": "SCMP_CMP_XX" }, {}] },
            { "names": ["read"] } ] }"#;
    let profile = profile_of(json);
    let pointers: Vec<String> = profile.check().into_iter().map(|f| f.pointer).collect();
    let expected = [
        "/defaultErrnoRet",
        "/flags/1",
        "/architectures/1",
        "/listenerMetadata",
        "/syscalls/0/names",
        "/syscalls/1/names",
        "/syscalls/1/action",
        "/syscalls/2/errnoRet",
        "/syscalls/3/errnoRet",
        "/syscalls/4/args/0/index",
        "/syscalls/4/args/1/value",
        "/syscalls/4/args/1/op",
        "/syscalls/4/args/2/index",
        "/syscalls/4/args/2/value",
        "/syscalls/4/args/2/op",
        "/syscalls/5/action",
    ];
    assert_eq!(pointers, expected);
    let error = compile(&profile, &Options::default()).expect_err("wrong");
    assert_eq!(error, Error::Invalid(profile.check()));
}

#[test]
fn nulls_of_gos_encoder_and_unknown_properties_are_as_if_absent() {
    let json = r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": null,
        "architectures": null, "flags": null, "listenerPath": null, "archMap": [1],
        "syscalls": [{ "names": ["re\u0061d"], "action": "SCMP_ACT_ALLOW", "args": null,
                       "errnoRet": null, "comment": "x" }] }"#;
    let profile = profile_of(json);
    assert_eq!(profile.check(), []);
    assert_eq!(&*profile.syscalls[0].names[0], "read");
    let plain = r#"{ "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW" }] }"#;
    assert_eq!(profile, profile_of(plain));
    let no_rules = profile_of(r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": null }"#);
    assert!(compile(&no_rules, &Options::default()).is_ok());
}

#[test]
fn plain_strings_are_borrowed_from_the_config() {
    let json = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"] }"#;
    let profile = profile_of(json);
    let borrowed = |text: &xebec_seccomp::Text<'_>| matches!(text.0, std::borrow::Cow::Borrowed(_));
    assert!(borrowed(profile.default_action.as_ref().expect("given")));
    assert!(profile.architectures.iter().all(borrowed));
    // As a runtime's config type embeds it.
    #[derive(serde::Deserialize)]
    struct Linux<'a> {
        #[serde(borrow)]
        seccomp: Option<Profile<'a>>,
    }
    let linux = format!(r#"{{ "seccomp": {json} }}"#);
    let linux: Linux<'_> = serde_json::from_str(&linux).expect("a config");
    assert!(borrowed(&linux.seccomp.expect("given").architectures[0]));
    let none: Linux<'_> = serde_json::from_str(r#"{ "seccomp": null }"#).expect("a config");
    assert!(none.seccomp.is_none());
}

#[test]
fn contradictory_rules_are_named() {
    let args = || vec![arg(0, "SCMP_CMP_EQ", 8, 0)];
    let profile = Profile {
        default_action: Some("SCMP_ACT_ERRNO".into()),
        syscalls: vec![
            rule(&["read"], "SCMP_ACT_ALLOW", vec![]),
            rule(&["personality"], "SCMP_ACT_ALLOW", args()),
            rule(&["personality"], "SCMP_ACT_KILL", args()),
        ],
        ..Profile::default()
    };
    let error = compile(&profile, &Options::default()).expect_err("contradiction");
    assert_eq!(
        error.to_string(),
        "seccomp profile: /syscalls/1 and /syscalls/2 have the same conditions for a system \
         call, but /syscalls/1 says allow and /syscalls/2 kill thread"
    );
}

#[test]
fn unknown_names_are_warnings_or_on_demand_an_error() {
    let profile = Profile {
        default_action: Some("SCMP_ACT_ERRNO".into()),
        syscalls: vec![rule(&["read", "raed", "socketcall"], "SCMP_ACT_ALLOW", vec![])],
        ..Profile::default()
    };
    let expected = vec![Warning::UnknownSyscall { pointer: "/syscalls/0/names/1".into(), name: "raed".into() }];
    let filter = compile(&profile, &Options::default()).expect("a warning");
    assert_eq!(filter.warnings, expected);
    let strict = Options { fail_unknown: true, ..Options::default() };
    assert_eq!(compile(&profile, &strict), Err(Error::UnknownSyscalls(expected)));
}

#[test]
fn an_architecture_without_a_table_is_a_warning_and_one_of_other_byte_order_an_error() {
    let s390 = profile_of(r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390"] }"#);
    let filter = compile(&s390, &options(Arch::S390x)).expect("a warning");
    assert!(matches!(&filter.warnings[..], [Warning::NoTable { .. }]));
    let mixed = profile_of(
        r#"{ "defaultAction": "SCMP_ACT_ALLOW",
             "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"] }"#,
    );
    let error = compile(&mixed, &options(Arch::X86_64)).expect_err("byte order");
    assert_eq!(error, Error::ByteOrder { pointer: "/architectures/1".into() });
}

#[test]
fn a_filter_too_long_for_the_kernel_is_refused_with_its_length() {
    let rules = (0..3000u64)
        .map(|value| rule(&["read"], "SCMP_ACT_ALLOW", vec![arg(0, "SCMP_CMP_EQ", value << 32 | value, 0)]));
    let profile =
        Profile { default_action: Some("SCMP_ACT_ERRNO".into()), syscalls: rules.collect(), ..Profile::default() };
    let error = compile(&profile, &Options::default()).expect_err("too long");
    let Error::TooLong { instructions } = error else { panic!("{error}") };
    assert!(instructions > 6000, "{instructions}");
    assert!(error.to_string().contains(&format!("{} more", instructions - 4096)));
}

#[test]
fn diff_shows_the_call_the_argument_and_both_answers() {
    let of = |value| Profile {
        default_action: Some("SCMP_ACT_ERRNO".into()),
        syscalls: vec![
            rule(&["personality"], "SCMP_ACT_ALLOW", vec![arg(0, "SCMP_CMP_EQ", value, 0)]),
            rule(&["listns"], "SCMP_ACT_ALLOW", vec![]),
        ],
        ..Profile::default()
    };
    let found = diff(&of(8), &of(9), &options(Arch::X86_64)).expect("both compile");
    let shown: Vec<(Option<&str>, u64, Action, Action)> =
        found.iter().map(|d| (d.name, d.args.expect("by argument")[0], d.first, d.second)).collect();
    assert_eq!(
        shown,
        [
            (Some("personality"), 8, Action::Allow, Action::Errno(1)),
            (Some("personality"), 9, Action::Errno(1), Action::Allow),
        ]
    );
}

#[test]
fn a_profile_is_shown_as_ranges_and_conditions_and_its_program() {
    let profile = Profile {
        default_action: Some("SCMP_ACT_ERRNO".into()),
        syscalls: vec![
            rule(&["read", "write"], "SCMP_ACT_ALLOW", vec![]),
            rule(&["personality"], "SCMP_ACT_LOG", vec![arg(0, "SCMP_CMP_MASKED_EQ", 0xff, 8)]),
        ],
        ..Profile::default()
    };
    let text = show(&profile, &options(Arch::Aarch64), None).expect("right");
    let expected = "\
SCMP_ARCH_AARCH64 (arch 0xc00000b7)
  0-62                    errno 1
  63-64                   allow
  65-91                   errno 1
  92                      by arguments   personality
      log if args[0] & 0xff == 0x8  (/syscalls/1)
      errno 1 otherwise
  93 and above            errno 38
any other architecture: kill thread

   0: load arch
   1: if == 0xc00000b7 goto 3 else ";
    assert!(text.starts_with(expected), "{text}");
}
