//! The order in which a call's conditional rules are tried when their actions
//! differ: that of libseccomp's tree, in which rules are grouped by their first
//! condition, then by the second, and so on. Pure comparison of conditions.

use crate::parse::{Cond, Op};

/// Gives the order in which to try the rules, as positions in `rules`.
pub(crate) fn tree_order(rules: &[Vec<Cond>]) -> Vec<usize> {
    let mut order = Vec::with_capacity(rules.len());
    for new in 0..rules.len() {
        let at = place(rules, &order, new);
        order.insert(at, new);
    }
    order
}

/// Where rule `new` goes among those already ordered.
fn place(rules: &[Vec<Cond>], order: &[usize], new: usize) -> usize {
    let (mut from, mut to) = (0, order.len());
    // Each round looks at rules that agree with the new one so far.
    for depth in 0.. {
        // A rule whose conditions are the beginning of another's goes first:
        // whatever the other matches, it matches.
        let Some(cond) = rules[new].get(depth) else {
            return from;
        };
        let same = |&&at: &&usize| rules[at].get(depth).is_some_and(|c| test(c) == test(cond));
        let Some(first) = order[from..to].iter().position(|at| same(&at)) else {
            let before = |at: &usize| rules[*at].get(depth).is_some_and(|c| goes_before(cond, c));
            let ahead = order[from..to].iter().position(before);
            return ahead.map_or(to, |ahead| from + ahead);
        };
        let group = order[from + first..to].iter().take_while(same).count();
        from += first;
        to = from + group;
    }
    unreachable!("a rule has at most six conditions")
}

/// What the tree compares: NE is EQ with its ways swapped, LT is GE, LE is GT.
fn test(cond: &Cond) -> (u8, Op, u64, u64) {
    let op = match cond.op {
        Op::Ne => Op::Eq,
        Op::Lt => Op::Ge,
        Op::Le => Op::Gt,
        op => op,
    };
    (cond.arg, op, cond.datum, cond.mask)
}

/// The higher argument first; then equality before "less" before "greater";
/// then the larger value, for "less" the smaller. Ties stay as written.
fn goes_before(new: &Cond, old: &Cond) -> bool {
    let rank = |cond: &Cond| match cond.op {
        Op::MaskedEq | Op::Eq | Op::Ne => 3,
        Op::Le | Op::Lt => 2,
        Op::Ge | Op::Gt => 1,
    };
    let (a, b) = ((new.arg, rank(new)), (old.arg, rank(old)));
    if a != b {
        return a > b;
    }
    match old.op {
        Op::Le | Op::Lt => new.datum < old.datum,
        _ => new.datum > old.datum,
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
        assert_eq!(tree_order(&greater), [1, 0]);
        let less = [vec![cond(0, Op::Lt, 5)], vec![cond(0, Op::Lt, 3)]];
        assert_eq!(tree_order(&less), [1, 0]);
    }

    #[test]
    fn a_rule_goes_before_those_that_add_conditions_to_it() {
        let rules = [vec![cond(0, Op::Eq, 1), cond(2, Op::Eq, 9)], vec![cond(0, Op::Eq, 1)], vec![cond(1, Op::Eq, 1)]];
        assert_eq!(tree_order(&rules), [2, 1, 0]);
    }
}
