//! Proof for devices.rs: what the program decides is what the rules say.
//!
//! Three judges are compared over generated rule sets: the rules read plainly, the
//! compiled program run by a small interpreter, and cgroup v1's exceptions.

use proptest::prelude::*;

use super::devices::{self, Exceptions, MKNOD, Node, READ, Rule, WRITE};
use crate::sys::bpf::Insn;

type Access = (Node, u32, u32, u8);

/// The rules read plainly: the last rule that speaks of a bit decides it.
fn by_rules(rules: &[Rule], (node, major, minor, access): Access) -> bool {
    let speaks = |rule: &Rule, bit: u8| {
        rule.access & bit != 0
            && rule.node.is_none_or(|n| n == node)
            && rule.major.is_none_or(|n| n == major)
            && rule.minor.is_none_or(|n| n == minor)
    };
    [MKNOD, READ, WRITE]
        .into_iter()
        .filter(|bit| access & bit != 0)
        .all(|bit| rules.iter().rev().find(|rule| speaks(rule, bit)).is_some_and(|rule| rule.allow))
}

/// Runs a program as the kernel would; panics on anything outside the used subset,
/// on reads of unset registers, and on running past the end.
fn by_program(program: &[Insn], (node, major, minor, access): Access) -> bool {
    let context = [u32::from(access) << 16 | node as u32, major, minor];
    let mut registers = [None::<u64>; 11];
    let mut at = 0usize;
    loop {
        let Insn { code, regs, off, imm } = program[at];
        let (dst, src) = (usize::from(regs & 15), usize::from(regs >> 4));
        let constant = imm as i64 as u64;
        at += 1;
        match code {
            0x61 => registers[dst] = Some(u64::from(context[off as usize / 4])),
            0xbf => registers[dst] = registers[src],
            0xb7 => registers[dst] = Some(constant),
            0x77 => registers[dst] = Some(registers[dst].unwrap() >> imm),
            0x57 => registers[dst] = Some(registers[dst].unwrap() & constant),
            0x55 if registers[dst].unwrap() != constant => at += usize::try_from(off).unwrap(),
            0x15 if registers[dst].unwrap() == constant => at += usize::try_from(off).unwrap(),
            0x55 | 0x15 => {}
            0x95 => return registers[0].unwrap() == 1,
            _ => panic!("code {code:#x} is not of the subset"),
        }
    }
}

/// security/device_cgroup.c: with a default of deny one exception must have all
/// bits; with a default of allow any bit of any exception denies.
fn by_exceptions(state: &Exceptions, (node, major, minor, access): Access) -> bool {
    let mut matching = state
        .list
        .iter()
        .filter(|((n, a, i), _)| *n == node && a.is_none_or(|a| a == major) && i.is_none_or(|i| i == minor));
    if state.default_allow {
        matching.all(|(_, bits)| bits & access == 0)
    } else {
        matching.any(|(_, bits)| access & !bits == 0)
    }
}

fn a_rule() -> impl Strategy<Value = Rule> {
    let node = prop_oneof![Just(None), Just(Some(Node::Char)), Just(Some(Node::Block))];
    let number = || prop_oneof![1 => Just(None), 3 => (0u32..4).prop_map(Some), 1 => Just(Some(5_000_000))];
    (any::<bool>(), node, number(), number(), 0u8..8).prop_map(|(allow, node, major, minor, access)| Rule {
        allow,
        node,
        major,
        minor,
        access,
    })
}

fn every_access() -> impl Iterator<Item = Access> {
    let nodes = [Node::Char, Node::Block].into_iter();
    nodes
        .flat_map(|node| (0..5).flat_map(move |a| (0..5).flat_map(move |i| (1..8).map(move |bits| (node, a, i, bits)))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_decides_as_the_rules_do(rules in prop::collection::vec(a_rule(), 0..12)) {
        let program = devices::compile(&rules);
        let mut all = true;
        for access in every_access() {
            let want = by_rules(&rules, access);
            all &= want;
            prop_assert_eq!(by_program(&program, access), want, "{:?} of {:?}", access, rules);
        }
        prop_assert!(all || !devices::allow_all(&rules), "allow_all({:?})", rules);
    }

    #[test]
    fn cgroup_v1_decides_as_the_rules_do_or_refuses_them(rules in prop::collection::vec(a_rule(), 0..8)) {
        if let Ok(state) = devices::exceptions(&rules) {
            for access in every_access() {
                let want = by_rules(&rules, access);
                prop_assert_eq!(by_exceptions(&state, access), want, "{:?} of {:?} as {:?}", access, rules, state);
            }
        }
    }
}

#[test]
fn an_empty_list_still_denies_all_but_the_default_devices() {
    let rules = devices::plan_rules(&[]).unwrap();
    let program = devices::compile(&rules);
    for (access, want) in [
        ((Node::Char, 1, 1, READ), false),
        ((Node::Char, 1, 1, MKNOD), true),
        ((Node::Char, 1, 3, READ | WRITE), true),
        ((Node::Char, 5, 1, READ), false),
        ((Node::Char, 5, 2, READ | WRITE), true),
        ((Node::Char, 136, 77, READ | WRITE), true),
        ((Node::Block, 8, 0, READ), false),
        ((Node::Block, 8, 0, MKNOD), true),
    ] {
        assert_eq!(by_program(&program, access), want, "{access:?}");
    }
}

#[test]
fn rules_of_the_config_are_judged_with_their_place() {
    for (rules, want) in [
        (r#"[{"allow":true,"type":"x"}]"#, "linux.resources.devices[0].type: \"x\" is none of a, b and c"),
        (
            r#"[{"allow":true},{"allow":true,"access":"rx"}]"#,
            "linux.resources.devices[1].access: 'x' is none of r, w and m",
        ),
        (r#"[{"allow":true,"major":-2}]"#, "linux.resources.devices[0].major: -2 is not a device number"),
    ] {
        let parsed: Vec<crate::config::DeviceCgroup<'_>> = serde_json::from_str(rules).unwrap();
        assert_eq!(devices::plan_rules(&parsed).unwrap_err().to_string(), want);
    }
}

#[test]
fn allowing_everything_needs_no_program() {
    let all: Vec<crate::config::DeviceCgroup<'_>> = serde_json::from_str(r#"[{"allow":true,"major":-1}]"#).unwrap();
    assert!(devices::allow_all(&devices::plan_rules(&all).unwrap()));
    assert!(!devices::allow_all(&devices::plan_rules(&[]).unwrap()));
}

#[test]
fn a_hole_in_a_wildcard_cannot_be_said_on_cgroup_v1() {
    let rules = r#"[{"allow":true,"type":"c","major":1,"access":"rw"},{"allow":false,"type":"c","major":1,"minor":1,"access":"r"}]"#;
    let parsed: Vec<crate::config::DeviceCgroup<'_>> = serde_json::from_str(rules).unwrap();
    let refused = devices::exceptions(&devices::plan_rules(&parsed).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("cgroup v1 cannot"), "{refused}");
}

#[test]
fn the_default_list_in_the_words_of_cgroup_v1() {
    let state = devices::exceptions(&devices::plan_rules(&[]).unwrap()).unwrap();
    let lines: Vec<String> = devices::v1_lines(&state).iter().map(|(file, line)| format!("{file} {line}")).collect();
    assert_eq!(lines[0], "devices.deny a");
    assert!(lines.contains(&"devices.allow c 1:3 rwm".to_owned()), "{lines:?}");
    assert!(lines.contains(&"devices.allow c 136:* rwm".to_owned()), "{lines:?}");
    assert!(lines.contains(&"devices.allow b *:* m".to_owned()), "{lines:?}");
    assert_eq!(lines.len(), 11);
}
