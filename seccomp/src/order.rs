//! The order in which a call's conditional rules are tried when their actions
//! differ: that of libseccomp's tree, in which rules are grouped by their first
//! condition, then by the second, and so on. Pure comparison of conditions.

use crate::parse::{Cond, Op};

/// What libseccomp's tree compares at one level: a word of an argument.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Twice the argument, plus one for the high word.
    word: u8,
    test: Op,
    datum: u32,
    mask: u32,
    /// 3 for equality, 2 for "less", 1 for "greater", as written.
    rank: u8,
}

/// Gives the order in which to try the rules, as positions in `rules`.
pub(crate) fn tree_order(rules: &[Vec<Cond>], wide: bool) -> Vec<usize> {
    let rules: Vec<Vec<Step>> = rules.iter().map(|conds| steps(conds, wide)).collect();
    let mut order = Vec::with_capacity(rules.len());
    for new in 0..rules.len() {
        let at = place(&rules, &order, new);
        order.insert(at, new);
    }
    order
}

/// Where rule `new` goes among those already ordered.
fn place(rules: &[Vec<Step>], order: &[usize], new: usize) -> usize {
    let (mut from, mut to) = (0, order.len());
    // Each round looks at rules that agree with the new one so far.
    for (depth, step) in rules[new].iter().enumerate() {
        let same = |&&at: &&usize| rules[at].get(depth).is_some_and(|s| s.is_same(step));
        let Some(first) = order[from..to].iter().position(|at| same(&at)) else {
            let before = |at: &usize| rules[*at].get(depth).is_some_and(|s| step.goes_before(s));
            let ahead = order[from..to].iter().position(before);
            return ahead.map_or(to, |ahead| from + ahead);
        };
        let group = order[from + first..to].iter().take_while(same).count();
        from += first;
        to = from + group;
    }
    // A rule whose conditions are the beginning of another's goes first:
    // whatever the other matches, it matches.
    from
}

fn steps(conds: &[Cond], wide: bool) -> Vec<Step> {
    let mut steps = Vec::with_capacity(conds.len() * 3);
    for cond in conds {
        let (low, rank) = match cond.op {
            Op::MaskedEq => (Op::MaskedEq, 3),
            Op::Eq | Op::Ne => (Op::Eq, 3),
            Op::Le => (Op::Gt, 2),
            Op::Lt => (Op::Ge, 2),
            Op::Ge => (Op::Ge, 1),
            Op::Gt => (Op::Gt, 1),
        };
        let mut step = |high: bool, test| {
            let shift = if high { 32 } else { 0 };
            steps.push(Step {
                word: cond.arg * 2 + u8::from(high),
                test,
                datum: (cond.datum >> shift) as u32,
                mask: (cond.mask >> shift) as u32,
                rank,
            });
        };
        if wide && rank == 3 {
            step(true, low);
        } else if wide {
            step(true, Op::Gt);
            step(true, Op::Eq);
        }
        step(false, low);
    }
    steps
}

impl Step {
    fn is_same(&self, other: &Step) -> bool {
        (self.word, self.test, self.datum, self.mask) == (other.word, other.test, other.datum, other.mask)
    }

    /// The higher word first; then equality before "less" before "greater";
    /// then the larger value, for "less" the smaller. Ties stay as written.
    fn goes_before(&self, old: &Step) -> bool {
        let (new, at) = ((self.word, self.rank), (old.word, old.rank));
        if new != at {
            return new > at;
        }
        if old.rank == 2 { self.datum < old.datum } else { self.datum > old.datum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cond(arg: u8, op: Op, datum: u64) -> Cond {
        Cond { arg, op, datum, mask: u64::MAX }
    }

    #[test]
    fn the_larger_bound_is_tried_first_and_for_less_the_smaller() {
        let greater = [vec![cond(0, Op::Gt, 3)], vec![cond(0, Op::Gt, 5)]];
        assert_eq!(tree_order(&greater, true), [1, 0]);
        let less = [vec![cond(0, Op::Lt, 5)], vec![cond(0, Op::Lt, 3)]];
        assert_eq!(tree_order(&less, true), [1, 0]);
    }

    #[test]
    fn a_rule_goes_before_those_that_add_conditions_to_it() {
        let rules = [vec![cond(0, Op::Eq, 1), cond(2, Op::Eq, 9)], vec![cond(0, Op::Eq, 1)], vec![cond(1, Op::Eq, 1)]];
        assert_eq!(tree_order(&rules, false), [2, 1, 0]);
    }
}
