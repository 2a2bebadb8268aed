//! Profile words to rules per ABI: names become numbers, several rules for one
//! call are merged, and what the kernel will see becomes one ordered list of
//! number ranges for each AUDIT_ARCH. The precedence is libseccomp's, as runc
//! drives it (README.md, "What wins"). Pure; no BPF here.

use crate::arch::{Arch, X32_BIT};
use crate::order::tree_order;
use crate::parse::{Cond, Op, Parsed, ParsedRule};
use crate::profile::Profile;
use crate::slots::{Rules, Slots};
use crate::table::{self, NameId};
use crate::{Action, Error, Options, Warning};

/// Answer to a call of an ABI the profile does not list: libseccomp's bad
/// architecture action.
pub(crate) const BAD_ARCH: Action = Action::KillThread;
/// Answer to a call newer than the profile.
pub(crate) const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// One way a rule can match: every condition holds. A rule has one chain, or
/// one for each condition when an index comes twice.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Sorted by argument.
    pub(crate) conds: Vec<Cond>,
    pub(crate) action: Action,
    /// Position in `syscalls`.
    pub(crate) rule: u16,
}

/// A chain as one call uses it: behind a multiplexer, argument 0 is the
/// selector and the chain's own condition on it is dropped (as libseccomp does).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) chain: u16,
    pub(crate) selector: u8,
}

/// Conditional rules of a call, first match wins, else the default action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) entries: Vec<Entry>,
    /// Arguments are compared in 64 bits.
    pub(crate) wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Return(Action),
    Leaf(u16),
}

/// What happens to every number of one AUDIT_ARCH: each element holds from its
/// number to the next one's. The first starts at 0.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) audit: u32,
    pub(crate) ranges: Vec<(u32, Verdict)>,
}

#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) default: Action,
    pub(crate) chains: Vec<Chain>,
    pub(crate) leaves: Vec<Leaf>,
    /// The native ABI's first.
    pub(crate) spaces: Vec<Space>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) big_endian: bool,
}

struct Resolver<'a> {
    parsed: &'a Parsed,
    /// Chains of each rule; none for a rule that says what the default says.
    chains_of: Vec<std::ops::Range<u16>>,
    names: Vec<(NameId, u16)>,
    resolved: Resolved,
}

pub(crate) fn resolve(profile: &Profile<'_>, parsed: &Parsed, options: &Options) -> Result<Resolved, Error> {
    let archs = listed_archs(parsed, options.native);
    let mut resolver = Resolver {
        parsed,
        chains_of: Vec::with_capacity(parsed.rules.len()),
        names: Vec::with_capacity(512),
        resolved: Resolved {
            default: parsed.default,
            chains: Vec::with_capacity(parsed.rules.len()),
            leaves: Vec::with_capacity(16),
            spaces: Vec::with_capacity(3),
            warnings: Vec::new(),
            big_endian: options.native.is_big_endian(),
        },
    };
    for &index in &parsed.without_table {
        resolver.resolved.warnings.push(Warning::NoTable {
            pointer: format!("/architectures/{index}"),
            name: profile.architectures[index].0.to_string(),
        });
    }
    resolver.gather_names(profile);
    resolver.make_chains();
    let stub = options.enosys_stub && !parsed.default.lets_through() && parsed.default != ENOSYS;
    // One for all ABIs, which come one after the other.
    let mut slots = Slots::new();
    let mut done = [false; Arch::ALL.len()];
    for &arch in &archs {
        if done[arch as usize] {
            continue;
        }
        let space = if matches!(arch, Arch::X86_64 | Arch::X32) {
            done[Arch::X86_64 as usize] = true;
            done[Arch::X32 as usize] = true;
            let has = |arch| archs.contains(&arch);
            resolver.x86_64_space(&mut slots, has(Arch::X86_64), has(Arch::X32), stub)?
        } else {
            done[arch as usize] = true;
            resolver.plain_space(&mut slots, arch, stub)?
        };
        resolver.resolved.spaces.push(space);
    }
    Ok(resolver.resolved)
}

/// The native ABI is always there, as with libseccomp, and comes first: its
/// calls are the frequent ones.
pub(crate) fn listed_archs(parsed: &Parsed, native: Arch) -> Vec<Arch> {
    let mut archs = Vec::with_capacity(4);
    archs.push(native);
    archs.extend(parsed.archs.iter().copied().filter(|arch| *arch != native));
    archs
}

impl Resolver<'_> {
    fn gather_names(&mut self, profile: &Profile<'_>) {
        for (index, rule) in profile.syscalls.iter().enumerate() {
            for (at, name) in rule.names.iter().enumerate() {
                match table::find(name) {
                    Some(id) => self.names.push((id, index as u16)),
                    None => self.resolved.warnings.push(Warning::UnknownSyscall {
                        pointer: format!("/syscalls/{index}/names/{at}"),
                        name: name.0.to_string(),
                    }),
                }
            }
        }
    }

    fn make_chains(&mut self) {
        for rule in &self.parsed.rules {
            let start = self.resolved.chains.len() as u16;
            if rule.action != self.parsed.default {
                self.resolved.chains.extend(chains(rule));
            }
            self.chains_of.push(start..self.resolved.chains.len() as u16);
        }
    }

    /// The rules of an ABI by number; the largest number they name.
    fn gather(&self, slots: &mut Slots, arch: Arch) -> u32 {
        slots.begin(arch.base());
        let mut largest = 0;
        let multiplexes = arch.multiplexes();
        for &(id, rule) in &self.names {
            let mux = if multiplexes { table::mux(id) } else { None };
            if let Some(number) = table::number(arch, id) {
                // libseccomp gives multiplexed names a number below zero, so
                // runc does not count them when it looks for the largest.
                if mux.is_none() {
                    largest = largest.max(number);
                }
                self.add(slots, arch, number, rule, 0);
            }
            if let Some(mux) = mux {
                let call = table::find(mux.call).and_then(|id| table::number(arch, id));
                if let Some(call) = call {
                    self.add(slots, arch, call, rule, mux.selector);
                }
            }
        }
        largest
    }

    fn add(&self, slots: &mut Slots, arch: Arch, number: u32, rule: u16, selector: u8) {
        for chain in self.chains_of[usize::from(rule)].clone() {
            let conds = &self.resolved.chains[usize::from(chain)].conds;
            let always = selector == 0 && conds.iter().all(|c| is_noop(c, arch.is_64bit()));
            slots.put(number, always, Entry { chain, selector });
        }
    }

    fn verdict(&mut self, rules: Rules, wide: bool) -> Result<Verdict, Error> {
        let mut entries = match rules {
            Rules::Always(chain) => {
                let chain = &self.resolved.chains[usize::from(chain)];
                return Ok(Verdict::Return(chain.action));
            }
            Rules::Conditional(entries) => entries,
        };
        entries.dedup();
        self.order(&mut entries, wide)?;
        let leaf = Leaf { entries, wide };
        let known = self.resolved.leaves.iter().position(|l| *l == leaf);
        let index = known.unwrap_or_else(|| {
            self.resolved.leaves.push(leaf);
            self.resolved.leaves.len() - 1
        });
        Ok(Verdict::Leaf(index as u16))
    }

    /// Puts the entries of a call in the order in which they are tried. With
    /// one action for all of them the order decides nothing.
    fn order(&self, entries: &mut [Entry], wide: bool) -> Result<(), Error> {
        let chains = &self.resolved.chains;
        let action = |e: &Entry| chains[usize::from(e.chain)].action;
        if entries.windows(2).all(|pair| action(&pair[0]) == action(&pair[1])) {
            return Ok(());
        }
        self.contradictions(entries)?;
        let conds: Vec<Vec<Cond>> = entries.iter().map(|e| effective(chains, *e, wide).collect()).collect();
        let order = tree_order(&conds, wide);
        let sorted: Vec<Entry> = order.iter().map(|&at| entries[at]).collect();
        entries.copy_from_slice(&sorted);
        Ok(())
    }

    fn contradictions(&self, entries: &[Entry]) -> Result<(), Error> {
        let chain = |e: &Entry| &self.resolved.chains[usize::from(e.chain)];
        for (at, second) in entries.iter().enumerate() {
            for first in &entries[..at] {
                let (one, two) = (chain(first), chain(second));
                if one.conds == two.conds && first.selector == second.selector && one.action != two.action {
                    return Err(Error::Contradiction {
                        first: format!("/syscalls/{}", one.rule),
                        second: format!("/syscalls/{}", two.rule),
                        actions: (one.action, two.action),
                    });
                }
            }
        }
        Ok(())
    }

    fn plain_space(&mut self, slots: &mut Slots, arch: Arch, stub: bool) -> Result<Space, Error> {
        let largest = self.gather(slots, arch);
        let mut ranges = Ranges::new();
        let last = if stub && largest != 0 { largest } else { u32::MAX };
        self.fill(&mut ranges, slots, arch, 0, last)?;
        if last != u32::MAX {
            ranges.from(last + 1, Verdict::Return(ENOSYS));
        }
        let mut ranges = ranges.list;
        // The kernel passes a large number it does not know to a filter as 0,
        // the long unused setup(2); runc answers it like a new call.
        if arch == Arch::S390x && last != u32::MAX {
            let first = ranges[0].1;
            if ranges.len() == 1 || ranges[1].0 != 1 {
                ranges.insert(1, (1, first));
            }
            ranges[0].1 = Verdict::Return(ENOSYS);
        }
        Ok(Space { audit: arch.audit(), ranges })
    }

    /// x86_64 and x32 share an AUDIT_ARCH; the numbers of x32 have bit 30.
    /// A listed ABI alone kills the numbers of the other. -1, with which a
    /// tracer skips a call, counts as x86_64. ENOSYS answers look at bit 30
    /// only, the rest at the number being below or above: hence the quarters.
    fn x86_64_space(&mut self, slots: &mut Slots, long: bool, x32: bool, stub: bool) -> Result<Space, Error> {
        let mut ranges = Ranges::new();
        let default = Verdict::Return(self.parsed.default);
        let bad = Verdict::Return(BAD_ARCH);
        let enosys = Verdict::Return(ENOSYS);
        let mut stubs = [false; 2];
        if long {
            let largest = self.gather(slots, Arch::X86_64);
            stubs[0] = stub && largest != 0;
            let last = if stubs[0] { largest } else { X32_BIT - 1 };
            self.fill(&mut ranges, slots, Arch::X86_64, 0, last)?;
            if stubs[0] {
                ranges.from(last + 1, enosys);
            }
        } else {
            ranges.from(0, bad);
        }
        if x32 {
            let largest = self.gather(slots, Arch::X32);
            stubs[1] = stub && largest != 0;
            let last = if stubs[1] { largest } else { 2 * X32_BIT - 1 };
            self.fill(&mut ranges, slots, Arch::X32, X32_BIT, last)?;
            if stubs[1] {
                ranges.from(last + 1, enosys);
            }
        } else {
            ranges.from(X32_BIT, bad);
        }
        let above = if x32 { default } else { bad };
        ranges.from(2 * X32_BIT, if stubs[0] { enosys } else { above });
        ranges.from(3 * X32_BIT, if stubs[1] { enosys } else { above });
        ranges.from(u32::MAX, if stubs[1] { enosys } else { default });
        Ok(Space { audit: Arch::X86_64.audit(), ranges: ranges.list })
    }

    /// Appends the calls of an ABI from `first` to `last`, both included.
    fn fill(&mut self, ranges: &mut Ranges, slots: &Slots, arch: Arch, first: u32, last: u32) -> Result<(), Error> {
        let default = Verdict::Return(self.parsed.default);
        ranges.from(first, default);
        let mut next = first;
        for (number, rules) in slots.iter().filter(|(number, _)| *number <= last) {
            if number > next {
                ranges.from(next, default);
            }
            let verdict = self.verdict(rules, arch.is_64bit())?;
            ranges.from(number, verdict);
            next = number + 1;
        }
        if next <= last {
            ranges.from(next, default);
        }
        Ok(())
    }
}

struct Ranges {
    list: Vec<(u32, Verdict)>,
}

impl Ranges {
    fn new() -> Ranges {
        Ranges { list: Vec::with_capacity(128) }
    }

    /// From `start` on, `verdict` holds. Starts never decrease.
    fn from(&mut self, start: u32, verdict: Verdict) {
        if self.list.last().is_some_and(|last| last.0 == start) {
            self.list.pop();
        }
        if self.list.last().is_none_or(|last| last.1 != verdict) {
            self.list.push((start, verdict));
        }
    }
}

fn chains(rule: &ParsedRule) -> Vec<Chain> {
    let chain = |conds| Chain { conds, action: rule.action, rule: rule.index };
    if rule.each { rule.conds.iter().map(|cond| chain(vec![*cond])).collect() } else { vec![chain(rule.conds.clone())] }
}

/// Whether a condition always holds because no bit of the compared width is
/// under its mask.
pub(crate) fn is_noop(cond: &Cond, wide: bool) -> bool {
    let mask = if wide { cond.mask } else { cond.mask & 0xffff_ffff };
    cond.op == Op::MaskedEq && mask == 0
}

/// The conditions an entry puts on a call, sorted by argument.
pub(crate) fn effective(chains: &[Chain], entry: Entry, wide: bool) -> impl Iterator<Item = Cond> + '_ {
    let selector =
        (entry.selector != 0).then_some(Cond { arg: 0, op: Op::Eq, datum: u64::from(entry.selector), mask: u64::MAX });
    let own = chains[usize::from(entry.chain)].conds.iter().copied();
    selector
        .into_iter()
        .chain(own.filter(move |c| entry.selector == 0 || c.arg != 0))
        .filter(move |c| !is_noop(c, wide))
        .map(move |c| if wide { c } else { narrow(c) })
}

fn narrow(cond: Cond) -> Cond {
    Cond { datum: cond.datum & 0xffff_ffff, mask: cond.mask & 0xffff_ffff, ..cond }
}
