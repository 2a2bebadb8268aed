//! The rules of one ABI by system call number, while they are gathered. Knows
//! which of two rules for a call stays, not what rules say.

use crate::rules::Entry;

/// Numbers this far from an ABI's base are looked up by index.
const DENSE: u32 = 1024;

/// The rules of one number: none; one without conditions (its chain in the low
/// bits); otherwise the last conditional link plus one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot(u32);

const EMPTY: Slot = Slot(0);
const ALWAYS: u32 = 0x8000_0000;

pub(crate) struct Slots {
    base: u32,
    dense: Vec<Slot>,
    /// Dense slots in use: none at or above.
    used: usize,
    far: Vec<(u32, Slot)>,
    /// Conditional rules, each with the slot as it was before.
    links: Vec<(Entry, Slot)>,
}

/// What a call's slot holds.
pub(crate) enum Rules {
    /// A chain that matches whatever the arguments are.
    Always(u16),
    /// Conditional ones in the order of the profile.
    Conditional(Vec<Entry>),
}

impl Slots {
    pub(crate) fn new() -> Slots {
        Slots { base: 0, dense: vec![EMPTY; DENSE as usize], used: 0, far: Vec::new(), links: Vec::new() }
    }

    /// Forgets all rules, for an ABI whose numbers begin here.
    pub(crate) fn begin(&mut self, base: u32) {
        self.base = base;
        self.dense[..self.used].fill(EMPTY);
        self.used = 0;
        self.far.clear();
        self.links.clear();
    }

    /// Adds a rule to a number. One without conditions beats all with, before
    /// and after it; of two without, the first stays. So does libseccomp.
    pub(crate) fn put(&mut self, number: u32, always: bool, entry: Entry) {
        let offset = number.wrapping_sub(self.base);
        let slot = if offset < DENSE {
            self.used = self.used.max(offset as usize + 1);
            &mut self.dense[offset as usize]
        } else {
            let at = match self.far.binary_search_by_key(&number, |f| f.0) {
                Ok(at) => at,
                Err(at) => {
                    self.far.insert(at, (number, EMPTY));
                    at
                }
            };
            &mut self.far[at].1
        };
        if slot.0 & ALWAYS != 0 {
            return;
        }
        if always {
            *slot = Slot(ALWAYS | u32::from(entry.chain));
        } else {
            self.links.push((entry, *slot));
            *slot = Slot(self.links.len() as u32);
        }
    }

    /// Every number with a rule, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Rules)> + '_ {
        let dense = self.dense[..self.used].iter().enumerate();
        let dense = dense.map(|(at, slot)| (self.base + at as u32, *slot));
        let all = dense.chain(self.far.iter().copied());
        all.filter(|(_, slot)| *slot != EMPTY).map(|(number, slot)| (number, self.rules(slot)))
    }

    fn rules(&self, slot: Slot) -> Rules {
        if slot.0 & ALWAYS != 0 {
            return Rules::Always((slot.0 & !ALWAYS) as u16);
        }
        let mut entries = Vec::new();
        let mut at = slot;
        while at != EMPTY {
            let (entry, before) = self.links[at.0 as usize - 1];
            entries.push(entry);
            at = before;
        }
        entries.reverse();
        Rules::Conditional(entries)
    }
}
