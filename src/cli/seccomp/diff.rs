//! `xebec seccomp diff`: what two profiles treat differently.

use std::fmt::Write as _;

use xebec::Result;
use xebec_seccomp::bpf::Call;
use xebec_seccomp::{Arg, Difference, Explanation, Profile, Reason, diff, explain};

use super::args::Diff;
use super::profile::{Source, options};
use super::{ANOTHER_ANSWER, short};
use crate::cli::print;

pub fn run(args: &Diff) -> Result<u8> {
    let sources = [Source::read(&args.first, &args.container.cap)?, Source::read(&args.second, &args.container.cap)?];
    let profiles = [sources[0].profile()?, sources[1].profile()?];
    let mut differences = diff(&profiles[0], &profiles[1], &options()).map_err(|error| sources[0].refusal(&error))?;
    differences.retain(|difference| args.arch.is_none_or(|arch| difference.arch == arch));
    if differences.is_empty() {
        return Ok(0);
    }
    let mut text = format!("first {}, second {}\n", sources[0].name(), sources[1].name());
    whole_calls(&mut text, &differences);
    for difference in &differences {
        let Some(values) = difference.args else { continue };
        let call = Call::new(difference.arch, difference.number, values);
        // Writing to a String cannot fail.
        writeln!(
            text,
            "{} {}, as with {}: {} -> {}",
            short(difference.arch),
            name(difference),
            shown(&values),
            difference.first,
            difference.second
        )
        .ok();
        for ((title, source), profile) in ["first", "second"].iter().zip(&sources).zip(&profiles) {
            let why = explain(profile, &options(), &call).map_err(|error| source.refusal(&error))?;
            writeln!(text, "    {title}: {}", source.words(&reasons(profile, &why))).ok();
        }
    }
    print(&text)?;
    Ok(ANOTHER_ANSWER)
}

/// The calls that differ whatever their arguments, those with the same pair of answers together.
fn whole_calls(text: &mut String, differences: &[Difference]) {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for difference in differences.iter().filter(|difference| difference.args.is_none()) {
        let title = format!("{}: {} -> {}", short(difference.arch), difference.first, difference.second);
        match groups.iter_mut().find(|group| group.0 == title) {
            Some(group) => group.1.push(name(difference)),
            None => groups.push((title, vec![name(difference)])),
        }
    }
    for (title, names) in groups {
        writeln!(text, "{title}").ok();
        names.iter().for_each(|name| writeln!(text, "    {name}").unwrap_or_default());
    }
}

fn name(difference: &Difference) -> &'static str {
    difference.name.unwrap_or("(calls without a name)")
}

/// The arguments that show a difference; those of 0 are left out.
fn shown(values: &[u64; 6]) -> String {
    let set = values.iter().enumerate().filter(|(_, value)| **value != 0);
    let all: Vec<String> = set.map(|(index, value)| format!("args[{index}] = {value:#x}")).collect();
    if all.is_empty() { "arguments of 0".to_owned() } else { all.join(", ") }
}

/// What decides, and the rules that name the call and do not decide it.
fn reasons(profile: &Profile<'_>, why: &Explanation) -> String {
    let mut all = vec![match &why.reason {
        Reason::Rule(pointer) => rule(profile, pointer),
        other => other.to_string(),
    }];
    all.extend(why.passed_over.iter().map(|(pointer, _)| format!("not {}", rule(profile, pointer))));
    all.join(", ")
}

fn rule(profile: &Profile<'_>, pointer: &str) -> String {
    let place = pointer.trim_start_matches("/syscalls/").parse::<usize>().ok();
    let args = place.and_then(|place| profile.syscalls.get(place)).map_or(&[][..], |rule| &rule.args);
    let conditions: Vec<String> = args.iter().map(condition).collect();
    match conditions.as_slice() {
        [] => format!("rule {pointer}"),
        all => format!("rule {pointer} if {}", all.join(" and ")),
    }
}

/// A condition as the profile words it.
fn condition(arg: &Arg<'_>) -> String {
    let (index, value) = (arg.index.unwrap_or(0), arg.value.unwrap_or(0));
    let sign = match arg.op.as_deref() {
        Some("SCMP_CMP_MASKED_EQ") => {
            return format!("args[{index}] & {value:#x} == {:#x}", arg.value_two.unwrap_or(0));
        }
        Some("SCMP_CMP_NE") => "!=",
        Some("SCMP_CMP_LT") => "<",
        Some("SCMP_CMP_LE") => "<=",
        Some("SCMP_CMP_GE") => ">=",
        Some("SCMP_CMP_GT") => ">",
        _ => "==",
    };
    format!("args[{index}] {sign} {value:#x}")
}
