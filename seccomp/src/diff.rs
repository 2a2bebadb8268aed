//! What two profiles treat differently: both are compiled, and their programs
//! are asked about every call either can tell apart. For people and tests.

use crate::action::Action;
use crate::arch::Arch;
use crate::bpf::{self, Call};
use crate::filter::{Error, Options, compile};
use crate::profile::{Profile, Rule};
use crate::table;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A call two profiles answer differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The ABI.
    pub arch: Arch,
    /// The call; `None` stands for all calls of the ABI without a name.
    pub name: Option<&'static str>,
    /// Number of the call (of the first without a name).
    pub number: u32,
    /// Arguments that show it; `None` when it does not depend on them.
    pub args: Option<[u64; 6]>,
    /// What the first profile answers.
    pub first: Action,
    /// What the second profile answers.
    pub second: Action,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let abi = self.arch.spec_name().trim_start_matches("SCMP_ARCH_");
        write!(f, "{abi} {} ", self.name.unwrap_or("(unnamed calls)"))?;
        if let Some(args) = &self.args {
            write!(f, "{args:x?} ")?;
        }
        write!(f, "{} -> {}", self.first, self.second)
    }
}

/// How many argument tuples a call is asked with at most.
const MOST_TUPLES: usize = 4096;

/// Lists the calls that two profiles treat differently on the ABIs either
/// names, one difference for each pair of answers. Arguments are taken from
/// the edges of all conditions on the call, in every combination while these
/// are at most 4096; beyond, the list may miss a difference that takes two.
///
/// # Errors
///
/// As [`compile`], for the first profile and then the second.
pub fn diff(first: &Profile<'_>, second: &Profile<'_>, options: &Options) -> Result<Vec<Difference>, Error> {
    let programs = [compile(first, options)?.program, compile(second, options)?.program];
    let big_endian = options.native.is_big_endian();
    let mut found = Vec::new();
    for arch in archs(&[first, second], options) {
        for (name, number) in calls(arch) {
            let rules = rules_of(&[first, second], name);
            let tuples = tuples(&rules);
            // Each pair of answers with the first arguments that show it.
            let mut answers = BTreeMap::new();
            for args in tuples {
                let call = Call::new(arch, number, args);
                let pair = programs.each_ref().map(|program| bpf::execute(program, &call, big_endian).value);
                answers.entry(pair).or_insert(args);
            }
            let depends = answers.len() > 1;
            let mut differing: Vec<_> = answers.into_iter().filter(|(pair, _)| pair[0] != pair[1]).collect();
            differing.sort_unstable_by_key(|(_, args)| *args);
            found.extend(differing.into_iter().map(|(pair, args)| Difference {
                arch,
                name,
                number,
                args: depends.then_some(args),
                first: Action::from_value(pair[0]),
                second: Action::from_value(pair[1]),
            }));
        }
    }
    Ok(found)
}

fn archs(profiles: &[&Profile<'_>], options: &Options) -> BTreeSet<Arch> {
    let names = profiles.iter().flat_map(|p| &p.architectures);
    names
        .filter_map(|name| Arch::from_spec_name(name))
        .filter(|arch| arch.is_big_endian() == options.native.is_big_endian())
        .chain([options.native])
        .collect()
}

/// Every named call of an ABI, and one without a name: the first number above
/// all of them.
fn calls(arch: Arch) -> Vec<(Option<&'static str>, u32)> {
    let mut all: Vec<_> = table::syscalls(arch).map(|(n, nr)| (Some(n), nr)).collect();
    all.sort_unstable_by_key(|&(name, number)| (number, name));
    all.dedup_by_key(|call| call.1);
    // arm's private calls lie far above its table.
    let near = all.iter().map(|call| call.1).filter(|n| n - arch.base() < 1000);
    let unnamed = near.max().map_or(arch.base(), |last| last + 1);
    all.push((None, unnamed));
    all
}

/// The rules that can decide a call; for a multiplexer also those of the calls
/// behind it.
fn rules_of<'p, 'a>(profiles: &[&'p Profile<'a>], name: Option<&str>) -> Vec<&'p Rule<'a>> {
    let Some(name) = name else { return Vec::new() };
    let behind = |n: &str| table::find(n).and_then(table::mux).is_some_and(|mux| mux.call == name);
    let rules = profiles.iter().flat_map(|p| &p.syscalls);
    rules.filter(|r| r.names.iter().any(|n| &**n == name || behind(n))).collect()
}

/// Argument tuples at the edges of the rules' conditions: every combination
/// while there are few, else every value of each argument beside zeros.
fn tuples(rules: &[&Rule<'_>]) -> Vec<[u64; 6]> {
    let mut edges: [BTreeSet<u64>; 6] = std::array::from_fn(|_| BTreeSet::from([0]));
    let multiplexer =
        rules.iter().flat_map(|r| &r.names).any(|n| table::find(n).is_some_and(|id| table::mux(id).is_some()));
    if multiplexer {
        edges[0].extend(1..=24);
    }
    for arg in rules.iter().flat_map(|r| &r.args) {
        let (Some(index), Some(value)) = (arg.index, arg.value) else {
            continue;
        };
        let Some(edges) = edges.get_mut(index as usize) else {
            continue;
        };
        let two = arg.value_two.unwrap_or(0) & value;
        edges.extend([value, value.wrapping_add(1), value.wrapping_sub(1), two, !value, u64::MAX]);
        edges.extend([value ^ (1 << 32), value & 0xffff_ffff]);
    }
    let product = edges.iter().map(BTreeSet::len).try_fold(1usize, |a, b| a.checked_mul(b));
    let mut all = vec![[0; 6]];
    for (index, edges) in edges.iter().enumerate() {
        let old = if product.is_some_and(|p| p <= MOST_TUPLES) { all.clone() } else { vec![[0; 6]] };
        for &value in edges.iter().filter(|v| **v != 0) {
            all.extend(old.iter().map(|tuple| {
                let mut tuple = *tuple;
                tuple[index] = value;
                tuple
            }));
        }
    }
    all
}
