//! The assembler: instructions are put down from the end of the program to its
//! start, so that every jump knows its distance when it is written. A jump
//! reaches 255 instructions; farther returns are written again nearby, farther
//! code is reached through an unconditional jump. Knows no rules.

use crate::bpf::{AND_K, Instruction, JA, JEQ_K, JGE_K, JGT_K, LD_ABS, RET_K};

/// An instruction already put down, counted from the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label(u32);

/// Where a jump goes: to code, or to the return of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    At(Label),
    Return(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Eq,
    Gt,
    Ge,
}

/// A jump reaches 255; three are kept for what settling its other way may add.
const REACH: usize = 252;

pub(crate) struct Emitter {
    /// The program, last instruction first.
    reversed: Vec<Instruction>,
    /// The nearest return of each value.
    returns: Vec<(u32, Label)>,
    /// The nearest way to code that was once out of reach.
    bridges: Vec<(Label, Label)>,
}

impl Emitter {
    pub(crate) fn new() -> Emitter {
        Emitter { reversed: Vec::with_capacity(512), returns: Vec::with_capacity(8), bridges: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// Whether the next instruction could jump there directly.
    pub(crate) fn reaches(&self, label: Label) -> bool {
        self.len() - label.0 as usize <= REACH
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() as u32 - 1)
    }

    /// `if A <test> k goto yes else no`.
    pub(crate) fn branch(&mut self, test: Test, k: u32, yes: Target, no: Target) -> Label {
        // Settling `no` may push `yes` out of reach only by the one or two
        // instructions REACH keeps free.
        let yes = self.settle(yes);
        let no = self.settle(no);
        let code = match test {
            Test::Eq => JEQ_K,
            Test::Gt => JGT_K,
            Test::Ge => JGE_K,
        };
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.push(code, jt, jf, k)
    }

    /// Loads a word of the call into A and goes on with what was put down last.
    pub(crate) fn load(&mut self, offset: u32) -> Label {
        self.push(LD_ABS, 0, 0, offset)
    }

    /// `A &= mask`, then on.
    pub(crate) fn mask(&mut self, mask: u32) -> Label {
        self.push(AND_K, 0, 0, mask)
    }

    /// Makes a target an instruction that falls through can reach: the last
    /// one put down.
    pub(crate) fn place(&mut self, target: Target) -> Label {
        match target {
            Target::Return(value) => self.push_return(value),
            Target::At(label) if label.0 as usize + 1 == self.len() => label,
            Target::At(label) => self.bridge(label),
        }
    }

    fn distance(&self, label: Label) -> u8 {
        let distance = self.len() - label.0 as usize - 1;
        u8::try_from(distance).expect("settle keeps targets in reach")
    }

    fn settle(&mut self, target: Target) -> Label {
        match target {
            Target::Return(value) => match self.returns.iter().find(|(v, _)| *v == value) {
                Some(&(_, label)) if self.reaches(label) => label,
                _ => self.push_return(value),
            },
            Target::At(label) if self.reaches(label) => label,
            Target::At(label) => match self.bridges.iter().find(|(to, _)| *to == label) {
                Some(&(_, near)) if self.reaches(near) => near,
                _ => self.bridge(label),
            },
        }
    }

    fn push_return(&mut self, value: u32) -> Label {
        let label = self.push(RET_K, 0, 0, value);
        match self.returns.iter_mut().find(|(v, _)| *v == value) {
            Some(entry) => entry.1 = label,
            None => self.returns.push((value, label)),
        }
        label
    }

    fn bridge(&mut self, to: Label) -> Label {
        let distance = self.len() as u32 - to.0 - 1;
        let label = self.push(JA, 0, 0, distance);
        match self.bridges.iter_mut().find(|(t, _)| *t == to) {
            Some(entry) => entry.1 = label,
            None => self.bridges.push((to, label)),
        }
        label
    }

    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}
