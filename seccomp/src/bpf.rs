//! Classic BPF as seccomp(2) takes it: the instruction, the kernel's checks,
//! an interpreter and a disassembler. Knows nothing of profiles.

use crate::arch::Arch;
use std::fmt;

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the test holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Constant.
    pub k: u32,
}

/// What the kernel shows a filter of one call (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Number of the system call, with the bit of x32 where it applies.
    pub nr: u32,
    /// `AUDIT_ARCH_*`, see [`Arch::audit`].
    pub arch: u32,
    /// Address of the instruction that made the call.
    pub instruction_pointer: u64,
    /// The arguments.
    pub args: [u64; 6],
}

impl Call {
    /// A call of `arch` from address 0.
    pub fn new(arch: Arch, nr: u32, args: [u64; 6]) -> Call {
        Call { nr, arch: arch.audit(), instruction_pointer: 0, args }
    }

    /// The 32-bit word at byte `offset`, as a host of that byte order has it.
    fn word(&self, offset: u32, big_endian: bool) -> u32 {
        let long = match offset / 8 {
            0 => return if offset == 0 { self.nr } else { self.arch },
            1 => self.instruction_pointer,
            index => self.args[index as usize - 2],
        };
        let high = offset.is_multiple_of(8) == big_endian;
        if high { (long >> 32) as u32 } else { long as u32 }
    }
}

/// The longest program the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Size of `struct seccomp_data`.
const DATA_SIZE: u32 = 64;
/// Scratch words (`BPF_MEMWORDS`).
const CELLS: u32 = 16;

// Classes and operations of uapi/linux/bpf_common.h.
pub(crate) const LD_ABS: u16 = 0x20;
pub(crate) const RET_K: u16 = 0x06;
pub(crate) const AND_K: u16 = 0x54;
pub(crate) const JA: u16 = 0x05;
pub(crate) const JEQ_K: u16 = 0x15;
pub(crate) const JGT_K: u16 = 0x25;
pub(crate) const JGE_K: u16 = 0x35;
const JSET_K: u16 = 0x45;
const RET_A: u16 = 0x16;
const LD_LEN: u16 = 0x80;
const LDX_LEN: u16 = 0x81;
const LD_IMM: u16 = 0x00;
const LDX_IMM: u16 = 0x01;
const LD_MEM: u16 = 0x60;
const LDX_MEM: u16 = 0x61;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;
const ALU: u16 = 0x04;
const JMP: u16 = 0x05;
const SRC_X: u16 = 0x08;
const NEG: u16 = 0x84;

/// Why the kernel would refuse a program, with the index of the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// No instruction at all, or more than [`MAX_INSTRUCTIONS`].
    Length(usize),
    /// An operation seccomp does not allow.
    Operation(usize),
    /// A load outside `seccomp_data`, or not of a whole aligned word.
    Load(usize),
    /// A jump past the end.
    Jump(usize),
    /// A division by the constant zero.
    Division(usize),
    /// A shift by 32 or more.
    Shift(usize),
    /// A scratch word that does not exist, or is read before it is written.
    Cell(usize),
    /// The last instruction does not return.
    End,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::Length(n) => write!(f, "{n} instructions, the kernel takes 1 to 4096"),
            Rejected::Operation(at) => write!(f, "{at}: operation not allowed by seccomp"),
            Rejected::Load(at) => write!(f, "{at}: load outside seccomp_data or unaligned"),
            Rejected::Jump(at) => write!(f, "{at}: jump past the end"),
            Rejected::Division(at) => write!(f, "{at}: division by zero"),
            Rejected::Shift(at) => write!(f, "{at}: shift by 32 or more"),
            Rejected::Cell(at) => write!(f, "{at}: no such scratch word, or not written yet"),
            Rejected::End => f.write_str("the last instruction does not return"),
        }
    }
}

impl std::error::Error for Rejected {}

/// Applies the kernel's rules: `bpf_check_classic` and `check_load_and_stores`
/// (net/core/filter.c), `seccomp_check_filter` (kernel/seccomp.c).
pub fn verify(program: &[Instruction]) -> Result<(), Rejected> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(Rejected::Length(program.len()));
    }
    for (at, instruction) in program.iter().enumerate() {
        verify_one(at, instruction, program.len())?;
    }
    match program.last().map(|last| last.code) {
        Some(RET_K | RET_A) => verify_cells(program),
        _ => Err(Rejected::End),
    }
}

fn verify_one(at: usize, instruction: &Instruction, len: usize) -> Result<(), Rejected> {
    let Instruction { code, jt, jf, k } = *instruction;
    match code {
        LD_ABS if k >= DATA_SIZE || k % 4 != 0 => Err(Rejected::Load(at)),
        LD_MEM | LDX_MEM | ST | STX if k >= CELLS => Err(Rejected::Cell(at)),
        LD_ABS | LD_LEN | LDX_LEN | LD_IMM | LDX_IMM | LD_MEM | LDX_MEM | ST | STX | TAX | TXA | RET_K | RET_A
        | NEG => Ok(()),
        // The sum may not wrap: the kernel compares with what is left.
        JA if k as usize >= len - at - 1 => Err(Rejected::Jump(at)),
        JA => Ok(()),
        _ if code & 7 == JMP && matches!(code & !SRC_X, JEQ_K | JGT_K | JGE_K | JSET_K) => {
            let farthest = at + 1 + usize::from(jt.max(jf));
            if farthest >= len { Err(Rejected::Jump(at)) } else { Ok(()) }
        }
        _ if code & 7 == ALU && code & !0xff == 0 => match (code & 0xf0, code & SRC_X) {
            (0x30, 0) if k == 0 => Err(Rejected::Division(at)),
            (0x60 | 0x70, 0) if k >= 32 => Err(Rejected::Shift(at)),
            // ADD SUB MUL DIV OR AND LSH RSH and XOR; seccomp has no MOD.
            (0x00..=0x70 | 0xa0, _) => Ok(()),
            _ => Err(Rejected::Operation(at)),
        },
        _ => Err(Rejected::Operation(at)),
    }
}

/// A scratch word must be written on every way to its reading.
fn verify_cells(program: &[Instruction]) -> Result<(), Rejected> {
    let mut known = vec![u16::MAX; program.len()];
    let mut valid = 0u16;
    for (at, instruction) in program.iter().enumerate() {
        valid &= known[at];
        let Instruction { code, jt, jf, k } = *instruction;
        match code {
            ST | STX => valid |= 1 << k,
            LD_MEM | LDX_MEM if valid & (1 << k) == 0 => return Err(Rejected::Cell(at)),
            JA => {
                known[at + 1 + k as usize] &= valid;
                valid = u16::MAX;
            }
            _ if code & 7 == JMP => {
                known[at + 1 + usize::from(jt)] &= valid;
                known[at + 1 + usize::from(jf)] &= valid;
                valid = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The result of running a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The value returned, see [`Action::from_value`](crate::Action::from_value).
    pub value: u32,
    /// Instructions executed, the return among them.
    pub steps: u32,
}

/// Runs a program on one call, on a host of the given byte order. The program
/// is verified first, so that nothing runs here that the kernel would refuse.
pub fn run(program: &[Instruction], call: &Call, big_endian: bool) -> Result<Outcome, Rejected> {
    verify(program)?;
    Ok(execute(program, call, big_endian))
}

/// [`run`] for a caller that has verified the program and runs it often.
/// Panics on a program [`verify`] refuses.
pub fn execute(program: &[Instruction], call: &Call, big_endian: bool) -> Outcome {
    let (mut a, mut x, mut cells) = (0u32, 0u32, [0u32; CELLS as usize]);
    let mut at = 0;
    let mut steps = 0;
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        match code {
            RET_K => return Outcome { value: k, steps },
            RET_A => return Outcome { value: a, steps },
            LD_ABS => a = call.word(k, big_endian),
            LD_LEN => a = DATA_SIZE,
            LDX_LEN => x = DATA_SIZE,
            LD_IMM => a = k,
            LDX_IMM => x = k,
            LD_MEM => a = cells[k as usize],
            LDX_MEM => x = cells[k as usize],
            ST => cells[k as usize] = a,
            STX => cells[k as usize] = x,
            TAX => x = a,
            TXA => a = x,
            NEG => a = a.wrapping_neg(),
            JA => at += k as usize,
            _ => {
                let operand = if code & SRC_X == 0 { k } else { x };
                if code & 7 == JMP {
                    at += usize::from(if holds(code & !SRC_X, a, operand) { jt } else { jf });
                } else if code & 0xf0 == 0x30 && operand == 0 {
                    // Division by a zero X ends the program with 0.
                    return Outcome { value: 0, steps };
                } else {
                    a = compute(code & 0xf0, a, operand);
                }
            }
        }
    }
}

fn holds(test: u16, a: u32, operand: u32) -> bool {
    match test {
        JEQ_K => a == operand,
        JGT_K => a > operand,
        JGE_K => a >= operand,
        _ => a & operand != 0,
    }
}

fn compute(operation: u16, a: u32, operand: u32) -> u32 {
    match operation {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a / operand,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.wrapping_shl(operand),
        0x70 => a.wrapping_shr(operand),
        _ => a ^ operand,
    }
}

/// Writes a program as text, one line an instruction, jumps by line number.
pub fn disassemble(program: &[Instruction], big_endian: bool) -> String {
    let mut out = String::new();
    for (at, instruction) in program.iter().enumerate() {
        out.push_str(&format!("{at:4}: {}\n", line(at, instruction, big_endian)));
    }
    out
}

fn line(at: usize, instruction: &Instruction, big_endian: bool) -> String {
    let Instruction { code, jt, jf, k } = *instruction;
    let (yes, no) = (at + 1 + usize::from(jt), at + 1 + usize::from(jf));
    match code {
        LD_ABS => format!("load {}", field(k, big_endian)),
        AND_K => format!("and  {k:#x}"),
        RET_K => format!("ret  {}", crate::Action::from_value(k)),
        JA => format!("goto {}", at + 1 + k as usize),
        JEQ_K => format!("if == {k:#x} goto {yes} else {no}"),
        JGT_K => format!("if > {k:#x} goto {yes} else {no}"),
        JGE_K => format!("if >= {k:#x} goto {yes} else {no}"),
        JSET_K => format!("if & {k:#x} goto {yes} else {no}"),
        _ => format!("op {code:#06x} jt {jt} jf {jf} k {k:#x}"),
    }
}

fn field(offset: u32, big_endian: bool) -> String {
    match offset {
        0 => "nr".to_owned(),
        4 => "arch".to_owned(),
        8 | 12 => format!("ip+{}", offset - 8),
        _ => {
            let high = offset.is_multiple_of(8) == big_endian;
            let half = if high { "high" } else { "low" };
            format!("args[{}].{half}", offset / 8 - 2)
        }
    }
}
