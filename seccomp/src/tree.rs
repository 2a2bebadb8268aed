//! Decisions to code. A call's number is found by a balanced tree over ranges;
//! the conditions on its arguments become a graph of 32-bit tests in which a
//! test whose result is already known is skipped. `emit` places the result.

use crate::bpf::Instruction;
use crate::emit::{Emitter, Label, Target, Test};
use crate::parse::{Cond, Op};
use crate::rules::{BAD_ARCH, Leaf, Resolved, Space, Verdict, effective};

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// The whole program: architecture check first, then the native ABI's tree.
pub(crate) fn program(resolved: &Resolved) -> Vec<Instruction> {
    let mut builder = Builder { resolved, emitter: Emitter::new(), placed: vec![None; resolved.leaves.len()] };
    let mut otherwise = Target::Return(BAD_ARCH.value());
    // From the end of the program to its start: the native ABI comes last.
    for space in resolved.spaces.iter().rev() {
        let tree = builder.space(space);
        let check = builder.emitter.branch(Test::Eq, space.audit, Target::At(tree), otherwise);
        otherwise = Target::At(check);
    }
    builder.emitter.place(otherwise);
    builder.emitter.load(ARCH);
    builder.emitter.finish()
}

struct Builder<'a> {
    resolved: &'a Resolved,
    emitter: Emitter,
    /// Where the code of each leaf was last put down.
    placed: Vec<Option<Label>>,
}

impl Builder<'_> {
    fn space(&mut self, space: &Space) -> Label {
        let root = self.subtree(&space.ranges);
        self.emitter.place(root);
        self.emitter.load(NR)
    }

    fn subtree(&mut self, ranges: &[(u32, Verdict)]) -> Target {
        match ranges {
            [only] => self.verdict(only.1),
            // Numbers apart from their surroundings: one test each, not two.
            [around, island, _] if is_island(ranges, 1) => {
                let around = self.verdict(around.1);
                self.island(*island, around)
            }
            [around, one, _, two, _] if is_island(ranges, 1) && is_island(ranges, 3) => {
                let around = self.verdict(around.1);
                let rest = self.island(*two, around);
                self.island(*one, rest)
            }
            _ => {
                let (low, high) = ranges.split_at(cut(ranges));
                let right = self.subtree(high);
                let left = self.subtree(low);
                Target::At(self.emitter.branch(Test::Ge, high[0].0, right, left))
            }
        }
    }

    fn island(&mut self, island: (u32, Verdict), around: Target) -> Target {
        let yes = self.verdict(island.1);
        Target::At(self.emitter.branch(Test::Eq, island.0, yes, around))
    }

    fn verdict(&mut self, verdict: Verdict) -> Target {
        match verdict {
            Verdict::Return(action) => Target::Return(action.value()),
            Verdict::Leaf(index) => self.leaf(usize::from(index)),
        }
    }

    fn leaf(&mut self, index: usize) -> Target {
        if let Some(label) = self.placed[index] {
            return Target::At(label);
        }
        let graph = Graph::of(&self.resolved.leaves[index], self.resolved);
        let target = graph.emit(&mut self.emitter, self.resolved.big_endian);
        if let Target::At(label) = target {
            self.placed[index] = Some(label);
        }
        target
    }
}

/// Where to divide: in the middle, or next to it where that keeps an island
/// whole. Cost is the number of instructions first (the kernel checks and
/// compiles each), then the depth (it runs the filter once for every number
/// when it is loaded), hence nowhere else.
fn cut(ranges: &[(u32, Verdict)]) -> usize {
    let middle = ranges.len() / 2;
    let whole = |at: &usize| (1..ranges.len()).contains(at) && !is_island(ranges, *at) && !is_island(ranges, *at - 1);
    [middle, middle + 1, middle - 1].into_iter().find(whole).unwrap_or(middle)
}

/// Whether an element is one number with the same answer on both sides.
fn is_island(ranges: &[(u32, Verdict)], at: usize) -> bool {
    at > 0 && at + 1 < ranges.len() && ranges[at - 1].1 == ranges[at + 1].1 && ranges[at + 1].0 - ranges[at].0 == 1
}

/// One 32-bit word of the arguments: twice the index, plus one for the high half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u8);

/// A test of one word. Ways lead to nodes made before it, or to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    word: Word,
    mask: u32,
    test: Test,
    k: u32,
    yes: Way,
    no: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Node(u32),
    Return(u32),
}

/// What is known of a word on the way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fact {
    word: Word,
    mask: u32,
    test: Test,
    k: u32,
    holds: bool,
}

/// Facts carried along; more are forgotten, which costs instructions only.
const FACTS: usize = 16;
/// How many nodes back an equal one is looked for; farther ones stay.
const NEAR: usize = 64;

struct Graph {
    /// Every node stands after those it leads to.
    nodes: Vec<Node>,
    root: Way,
}

impl Graph {
    fn of(leaf: &Leaf, resolved: &Resolved) -> Graph {
        let mut graph =
            Graph { nodes: Vec::with_capacity(leaf.entries.len() * 4), root: Way::Return(resolved.default.value()) };
        for entry in leaf.entries.iter().rev() {
            let action = resolved.chains[usize::from(entry.chain)].action;
            let mut yes = Way::Return(action.value());
            let no = graph.root;
            let conds: Vec<Cond> = effective(&resolved.chains, *entry, leaf.wide).collect();
            for cond in conds.iter().rev() {
                yes = graph.cond(cond, leaf.wide, yes, no);
            }
            graph.root = yes;
        }
        graph.skip_known_tests();
        graph.merge();
        graph
    }

    /// From the answers up: a test whose ways meet is no test, and of equal
    /// nodes one is enough.
    fn merge(&mut self) {
        let mut moved: Vec<Way> = Vec::with_capacity(self.nodes.len());
        let to = |way: Way, moved: &[Way]| match way {
            Way::Node(at) => moved[at as usize],
            answer => answer,
        };
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.yes = to(node.yes, &moved);
            node.no = to(node.no, &moved);
            let node = *node;
            let near = at.saturating_sub(NEAR);
            let twin = self.nodes[near..at].iter().rposition(|n| *n == node);
            moved.push(match twin {
                _ if node.yes == node.no => node.yes,
                Some(offset) => moved[near + offset],
                None => Way::Node(at as u32),
            });
        }
        self.root = to(self.root, &moved);
    }

    fn node(&mut self, word: Word, mask: u32, test: Test, k: u32, yes: Way, no: Way) -> Way {
        match (test, k) {
            _ if yes == no => return yes,
            (Test::Ge, 0) => return yes,
            (Test::Gt, u32::MAX) => return no,
            _ => {}
        }
        self.nodes.push(Node { word, mask, test, k, yes, no });
        Way::Node(self.nodes.len() as u32 - 1)
    }

    /// One condition as tests of halves; only the low one in a 32-bit ABI.
    fn cond(&mut self, cond: &Cond, wide: bool, yes: Way, no: Way) -> Way {
        let (low, high) = (Word(cond.arg * 2), Word(cond.arg * 2 + 1));
        let (l, h) = (cond.datum as u32, (cond.datum >> 32) as u32);
        let (lm, hm) = (cond.mask as u32, (cond.mask >> 32) as u32);
        match cond.op {
            Op::Ne => self.cond(&Cond { op: Op::Eq, ..*cond }, wide, no, yes),
            Op::Eq | Op::MaskedEq => {
                let mut way = yes;
                if lm != 0 {
                    way = self.node(low, lm, Test::Eq, l, way, no);
                }
                if wide && hm != 0 {
                    way = self.node(high, hm, Test::Eq, h, way, no);
                }
                way
            }
            Op::Lt => self.cond(&Cond { op: Op::Ge, ..*cond }, wide, no, yes),
            Op::Le => self.cond(&Cond { op: Op::Gt, ..*cond }, wide, no, yes),
            Op::Ge | Op::Gt => {
                let test = if cond.op == Op::Ge { Test::Ge } else { Test::Gt };
                let way = self.node(low, u32::MAX, test, l, yes, no);
                if !wide {
                    return way;
                }
                let equal = self.node(high, u32::MAX, Test::Eq, h, way, no);
                self.node(high, u32::MAX, Test::Gt, h, yes, equal)
            }
        }
    }

    /// From the root down: an edge that leads to a test whose result the edge
    /// already implies goes on to where that test leads.
    fn skip_known_tests(&mut self) {
        let mut facts: Vec<Option<Vec<Fact>>> = vec![None; self.nodes.len()];
        if let Way::Node(root) = self.root {
            facts[root as usize] = Some(Vec::new());
        }
        for at in (0..self.nodes.len()).rev() {
            let Some(known) = facts[at].take() else {
                continue;
            };
            let node = self.nodes[at];
            let learn = |holds| {
                let mut all = known.clone();
                if all.len() == FACTS {
                    all.remove(0);
                }
                all.push(Fact { word: node.word, mask: node.mask, test: node.test, k: node.k, holds });
                all
            };
            for holds in [true, false] {
                let with = learn(holds);
                let way = self.follow(if holds { node.yes } else { node.no }, &with);
                if let Way::Node(to) = way {
                    let to = &mut facts[to as usize];
                    *to = Some(match to.take() {
                        None => with,
                        Some(old) => old.into_iter().filter(|f| with.contains(f)).collect(),
                    });
                }
                let node = &mut self.nodes[at];
                if holds {
                    node.yes = way;
                } else {
                    node.no = way;
                }
            }
        }
    }

    fn follow(&self, mut way: Way, facts: &[Fact]) -> Way {
        while let Way::Node(at) = way {
            let node = &self.nodes[at as usize];
            let Some(holds) = facts.iter().find_map(|fact| implied(fact, node)) else {
                break;
            };
            way = if holds { node.yes } else { node.no };
        }
        way
    }

    fn emit(&self, emitter: &mut Emitter, big_endian: bool) -> Target {
        let Way::Node(root) = self.root else {
            return self.target(self.root, None, &[]);
        };
        let (reached, loads) = self.reach(root as usize);
        let mut placed: Vec<Option<Placed>> = vec![None; self.nodes.len()];
        for at in 0..=root as usize {
            if !reached[at] {
                continue;
            }
            let node = &self.nodes[at];
            let here = Some((node.word, node.mask));
            let yes = self.target(node.yes, here, &placed);
            let no = self.target(node.no, here, &placed);
            let loaded = emitter.branch(node.test, node.k, yes, no);
            let mut start = loaded;
            if loads[at] {
                if node.mask != u32::MAX {
                    emitter.mask(node.mask);
                }
                start = emitter.load(offset(node.word, big_endian));
            }
            placed[at] = Some(Placed { start, loaded });
        }
        self.target(self.root, None, &placed)
    }

    /// Which nodes can be reached, and which of them are reached with a word
    /// other than theirs in the accumulator.
    fn reach(&self, root: usize) -> (Vec<bool>, Vec<bool>) {
        let mut reached = vec![false; self.nodes.len()];
        let mut loads = vec![false; self.nodes.len()];
        reached[root] = true;
        loads[root] = true;
        for at in (0..=root).rev() {
            if !reached[at] {
                continue;
            }
            let node = &self.nodes[at];
            for way in [node.yes, node.no] {
                if let Way::Node(to) = way {
                    let next = &self.nodes[to as usize];
                    reached[to as usize] = true;
                    loads[to as usize] |= (next.word, next.mask) != (node.word, node.mask);
                }
            }
        }
        (reached, loads)
    }

    fn target(&self, way: Way, here: Option<(Word, u32)>, placed: &[Option<Placed>]) -> Target {
        match way {
            Way::Return(value) => Target::Return(value),
            Way::Node(to) => {
                let node = &self.nodes[to as usize];
                let at = placed[to as usize].expect("nodes stand after those they lead to");
                let same = here == Some((node.word, node.mask));
                Target::At(if same { at.loaded } else { at.start })
            }
        }
    }
}

/// Where a node begins, and where it goes on with its word already loaded.
#[derive(Clone, Copy, Debug)]
struct Placed {
    start: Label,
    loaded: Label,
}

/// The result of a node's test when a fact is known, if that settles it.
fn implied(fact: &Fact, node: &Node) -> Option<bool> {
    if (fact.word, fact.mask) != (node.word, node.mask) {
        return None;
    }
    if (fact.test, fact.k) == (node.test, node.k) {
        return Some(fact.holds);
    }
    // Equal to a constant: every further test of the word is settled. So is a
    // word that is not above zero.
    let value = match (fact.test, fact.holds) {
        (Test::Eq, true) => fact.k,
        (Test::Gt, false) if fact.k == 0 => 0,
        _ => return None,
    };
    Some(match node.test {
        Test::Eq => value == node.k,
        Test::Gt => value > node.k,
        Test::Ge => value >= node.k,
    })
}

fn offset(word: Word, big_endian: bool) -> u32 {
    let high = word.0 % 2 == 1;
    let second = high != big_endian;
    ARGS + u32::from(word.0 / 2) * 8 + if second { 4 } else { 0 }
}
