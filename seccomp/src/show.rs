//! A profile as text: what each number gets, by ABI, and the program. For
//! people; the layout is not an interface.

use crate::arch::{Arch, X32_BIT};
use crate::bpf;
use crate::filter::{self, Error, Options, compile};
use crate::parse::{Cond, Op};
use crate::profile::Profile;
use crate::rules::{Leaf, Resolved, Space, Verdict, effective};
use crate::table;
use std::fmt::Write as _;

/// Prints the decisions of a profile as ranges of system call numbers, of one
/// ABI or of all, and then the program that makes them.
///
/// # Errors
///
/// As [`compile`].
pub fn show(profile: &Profile<'_>, options: &Options, only: Option<Arch>) -> Result<String, Error> {
    let filter = compile(profile, options)?;
    let (_, resolved) = filter::understand(profile, options)?;
    let mut out = String::new();
    for space in &resolved.spaces {
        if only.is_none_or(|arch| arch.audit() == space.audit) {
            show_space(&mut out, &resolved, space);
        }
    }
    let end = format!("any other architecture: {}\n\n", crate::rules::BAD_ARCH);
    out.push_str(&end);
    out.push_str(&bpf::disassemble(&filter.program, resolved.big_endian));
    Ok(out)
}

fn show_space(out: &mut String, resolved: &Resolved, space: &Space) {
    let archs = Arch::ALL.into_iter().filter(|arch| arch.audit() == space.audit);
    let names: Vec<&str> = archs.map(Arch::spec_name).collect();
    line(out, format_args!("{} (arch {:#x})", names.join(" and "), space.audit));
    for (at, &(first, verdict)) in space.ranges.iter().enumerate() {
        let last = space.ranges.get(at + 1).map_or(u32::MAX, |next| next.0 - 1);
        let range = match last {
            _ if first == last => shown(first),
            u32::MAX => format!("{} and above", shown(first)),
            _ => format!("{}-{}", shown(first), shown(last)),
        };
        let name = if first == last { name_in(space.audit, first) } else { None };
        match verdict {
            Verdict::Return(action) => {
                let action = action.to_string();
                line(out, format_args!("  {range:<23} {action:<14} {}", name.unwrap_or("")));
            }
            Verdict::Leaf(index) => {
                let leaf = &resolved.leaves[usize::from(index)];
                line(out, format_args!("  {range:<23} by arguments   {}", name.unwrap_or("")));
                show_leaf(out, resolved, leaf);
            }
        }
    }
}

fn show_leaf(out: &mut String, resolved: &Resolved, leaf: &Leaf) {
    for entry in &leaf.entries {
        let chain = &resolved.chains[usize::from(entry.chain)];
        let conds: Vec<String> = effective(&resolved.chains, *entry, leaf.wide).map(|c| condition(&c)).collect();
        let rule = chain.rule;
        let all = conds.join(" and ");
        line(out, format_args!("      {} if {all}  (/syscalls/{rule})", chain.action));
    }
    line(out, format_args!("      {} otherwise", resolved.default));
}

fn condition(cond: &Cond) -> String {
    let Cond { arg, datum, mask, .. } = *cond;
    let sign = match cond.op {
        Op::MaskedEq => return format!("args[{arg}] & {mask:#x} == {datum:#x}"),
        Op::Ne => "!=",
        Op::Lt => "<",
        Op::Le => "<=",
        Op::Eq => "==",
        Op::Ge => ">=",
        Op::Gt => ">",
    };
    format!("args[{arg}] {sign} {datum:#x}")
}

/// Small numbers as the tables have them, those of x32 with their bit apart.
fn shown(number: u32) -> String {
    match number {
        0..X32_BIT => number.to_string(),
        X32_BIT..=0x4000_ffff => format!("x32+{}", number - X32_BIT),
        _ => format!("{number:#x}"),
    }
}

fn name_in(audit: u32, number: u32) -> Option<&'static str> {
    let mut archs = Arch::ALL.into_iter().filter(|arch| arch.audit() == audit);
    archs.find_map(|arch| table::syscall_name(arch, number))
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let start = out.len();
    // Writing to a String cannot fail.
    let written = writeln!(out, "{text}");
    debug_assert!(written.is_ok());
    let end = start + out[start..].trim_end().len();
    out.replace_range(end.., "\n");
}
