//! The order of a runtime's functions: those that its verbs reach, written as a linker script that puts them side by
//! side. What more verbs reach comes first, so that a small verb needs little more than the beginning.
//!
//! A function's section bears its mangled name (rustc's "v0" scheme). The hashes of crates in it differ from build to
//! build, so the script has `*` in their place. A name that a later build no longer has is passed over by the linker.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::process::Command;

use crate::bundle::Kit;
use crate::contender::Contender;
use crate::counts;

const HEAD: &str = "/* The functions that create, start, run, exec, state, kill and delete reach, those first that more of them reach:\n   \
     a page fault maps 64 KiB of code, so they lie side by side. Written by `make order`;\n   \
     docs/decisions/static-binary.md has the figures. */\nSECTIONS\n{\n  .text.first :\n  {\n";
const TAIL: &str = "  }\n}\nINSERT BEFORE .text;\n";

/// A function of the program: where it begins in memory, relative to the program's first byte, and its symbol.
struct Function {
    at: u64,
    name: String,
}

/// Writes the script for `contender`, whose program has its symbols.
pub fn write(contender: &Contender, kit: &Kit, path: &Path) -> Result<(), String> {
    let functions = functions(&contender.program)?;
    let reached = counts::reach(contender, kit)?;
    let sections = sections(&functions, &reached);
    if sections.is_empty() {
        return Err(format!("{}: no function of it was reached", contender.program.display()));
    }
    let lines: String = sections.iter().map(|section| format!("    {section}\n")).collect();
    std::fs::write(path, format!("{HEAD}{lines}{TAIL}")).map_err(|error| format!("{}: {error}", path.display()))
}

/// nm(1)'s list, sorted by address.
fn functions(program: &Path) -> Result<Vec<Function>, String> {
    let output = Command::new("nm").args(["-n", "--defined-only"]).arg(program).output();
    let output = output.map_err(|error| format!("nm: {error}"))?;
    let parsed = |line: &str| {
        let mut words = line.split(' ');
        let (at, kind, name) = (words.next()?, words.next()?, words.next()?);
        let at = u64::from_str_radix(at, 16).ok()?;
        matches!(kind, "t" | "T" | "w" | "W").then(|| Function { at, name: name.into() })
    };
    let found: Vec<Function> = String::from_utf8_lossy(&output.stdout).lines().filter_map(parsed).collect();
    if found.is_empty() {
        return Err(format!(
            "{}: nm finds no symbols; build it with CARGO_PROFILE_RELEASE_STRIP=none",
            program.display()
        ));
    }
    Ok(found)
}

/// Each section once: by the number of verbs that reach it, then as first reached.
fn sections(functions: &[Function], reached: &[Vec<u64>]) -> Vec<String> {
    let mut verbs: HashMap<usize, usize> = HashMap::new();
    let mut order = Vec::new();
    for places in reached {
        let behind = places.iter().map(|&at| functions.partition_point(|function| function.at <= at));
        let mut seen = BTreeSet::new();
        for at in behind.filter_map(|behind| behind.checked_sub(1)).filter(|at| seen.insert(*at)) {
            let count = verbs.entry(at).or_default();
            if *count == 0 {
                order.push(at);
            }
            *count += 1;
        }
    }
    // Stable: the order of the first time stays among equals.
    order.sort_by_key(|at| std::cmp::Reverse(verbs[at]));
    let mut once = HashSet::new();
    order.iter().map(|&at| section(&functions[at].name)).filter(|section| once.insert(section.clone())).collect()
}

/// The section that a function lies in: its own, but for what the C library has in assembler.
fn section(name: &str) -> String {
    match name {
        "memcpy" | "__memcpy_fwd" => "*:memcpy.*o(.text)".into(),
        "memmove" | "memset" => format!("*:{name}.*o(.text)"),
        _ => format!("*(.text.{})", without_hashes(name)),
    }
}

/// `*` for what differs from build to build: "Cs", a number in base 62 and "_" for each crate, and what LLVM appends.
fn without_hashes(name: &str) -> String {
    let mut text = String::new();
    let mut rest = name.split_once(".llvm.").map_or(name, |(stem, _)| stem);
    let tail = if rest.len() < name.len() { "*" } else { "" };
    while let Some((before, hashed)) = rest.split_once("Cs") {
        let digits = hashed.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(hashed.len());
        match hashed[digits..].strip_prefix('_') {
            Some(after) => {
                text += &format!("{before}Cs*_");
                rest = after;
            }
            None => {
                text += &format!("{before}Cs");
                rest = hashed;
            }
        }
    }
    text + rest + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions() -> Vec<Function> {
        [(0x100, "_RNvNtCs8kZ_5xebec4exec4exec"), (0x180, "_start"), (0x200, "main")]
            .map(|(at, name)| Function { at, name: name.into() })
            .into()
    }

    #[test]
    fn what_more_verbs_reach_comes_first_once_and_without_hashes() {
        let found = sections(&functions(), &[vec![0x201, 0x110, 0x250], vec![0x17f, 0x10, 0x181]]);
        assert_eq!(found, ["*(.text._RNvNtCs*_5xebec4exec4exec)", "*(.text.main)", "*(.text._start)"]);
    }

    #[test]
    fn a_clone_made_by_the_compiler_is_found_by_its_stem() {
        assert_eq!(without_hashes("_RNvCs1_3std2io.llvm.123"), "_RNvCs*_3std2io*");
    }
}
