//! `xebec seccomp record`: a container is run, and the calls it made become a profile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use xebec::spawn::record::{self, Seen, passes};
use xebec::{Error, Kind, Result};
use xebec_seccomp::bpf::Call;
use xebec_seccomp::{Arch, Profile, Rule, compile, explain, syscall_name};

use super::args::Record;
use super::profile::{Source, options};
use super::short;
use crate::cli::args::{Global, Level};
use crate::cli::log::Log;
use crate::cli::{create, io_error, settings};

/// What is not recorded fails with EPERM, as under the engines' profiles.
const NOTHING: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"syscalls":[]}"#;

pub fn run(global: &Global, log: &Log, args: &Record) -> Result<u8> {
    let settings = settings::options(global, &args.create)?;
    let id = settings::id(&args.create.id)?;
    refuse_overwriting(args)?;
    let merge = args.merge.as_deref().map(|path| Source::read(path, &args.container.cap)).transpose()?;
    let base = match &merge {
        Some(source) => source.profile()?,
        None => serde_json::from_str(NOTHING).map_err(|error| Error::invalid("", error.to_string()))?,
    };
    let program = compile(&base, &options()).map_err(|error| Error::invalid("--merge", error.to_string()))?.program;
    let bundle = create::bundle(&args.create)?;
    let (exit, seen) = record::record(&bundle, &id, &settings, &archs(args), &program)?;
    log.warn(&exit.warnings);
    let named = named(&seen, log);
    let profile = grown(base, &named)?;
    write(&args.output, &profile)?;
    let count = named.values().flatten().collect::<BTreeSet<_>>().len();
    log.record(Level::Info, &format!("{}: {count} system calls added", args.output.display()));
    Ok(exit.status as u8)
}

/// A profile that is there may be somebody's work.
fn refuse_overwriting(args: &Record) -> Result<()> {
    if args.output.exists() && args.merge.as_ref() != Some(&args.output) {
        return Err(Error::invalid(format!("--output {}", args.output.display()), "exists already")
            .hint("remove it first, add to it with --merge, or write another"));
    }
    Ok(())
}

/// The architectures under watch: those asked for, or all that the kernel could run here.
fn archs(args: &Record) -> Vec<Arch> {
    if !args.arch.is_empty() {
        return args.arch.clone();
    }
    let native = Arch::native();
    Arch::ALL.into_iter().filter(|arch| arch.is_big_endian() == native.is_big_endian()).collect()
}

/// The calls by architecture and name. One without a name cannot stand in a profile, and the kernel
/// answers it with ENOSYS anyway.
fn named(seen: &BTreeSet<Seen>, log: &Log) -> BTreeMap<Arch, BTreeSet<&'static str>> {
    let mut named: BTreeMap<Arch, BTreeSet<&'static str>> = BTreeMap::new();
    for call in seen {
        let arch = Arch::of_call(call.audit, call.number);
        match arch.and_then(|arch| Some((arch, syscall_name(arch, call.number)?))) {
            Some((arch, name)) => {
                named.entry(arch).or_default().insert(name);
            }
            None => {
                let arch = arch.map_or_else(|| format!("{:#x}", call.audit), short);
                log.record(Level::Warning, &format!("call {} of {arch} has no name and is left out", call.number));
            }
        }
    }
    named
}

/// `base` with a rule that allows the calls. It is without conditions and so decides alone: all other
/// rules let go of their names.
fn grown<'a>(mut base: Profile<'a>, named: &BTreeMap<Arch, BTreeSet<&'static str>>) -> Result<Profile<'a>> {
    let names: BTreeSet<&'static str> = named.values().flatten().copied().collect();
    for rule in &mut base.syscalls {
        rule.names.retain(|name| !names.contains(&**name));
    }
    base.syscalls.retain(|rule| !rule.names.is_empty());
    if !names.is_empty() {
        base.syscalls.push(Rule {
            names: names.iter().map(|name| (*name).into()).collect(),
            action: Some("SCMP_ACT_ALLOW".into()),
            ..Rule::default()
        });
    }
    for arch in named.keys().chain([&Arch::native()]) {
        if !base.architectures.iter().any(|name| **name == *arch.spec_name()) {
            base.architectures.push(arch.spec_name().into());
        }
    }
    prove(&base, named)?;
    Ok(base)
}

/// Whatever was recorded must be allowed now.
fn prove(profile: &Profile<'_>, named: &BTreeMap<Arch, BTreeSet<&'static str>>) -> Result<()> {
    let failed = |text: String| Error::new(Kind::Invalid, "the merged profile", text);
    for (arch, names) in named {
        for name in names {
            let Some(number) = xebec_seccomp::syscall_number(*arch, name) else { continue };
            let why = explain(profile, &options(), &Call::new(*arch, number, [0; 6]))
                .map_err(|error| failed(error.to_string()))?;
            if !passes(why.action) {
                return Err(failed(format!("{} {name} is not allowed: {why}", short(*arch))));
            }
        }
    }
    Ok(())
}

/// Whole or not at all: written beside its place and renamed.
fn write(path: &Path, profile: &Profile<'_>) -> Result<()> {
    let value: Value = serde_json::to_value(profile).map_err(|error| Error::invalid("", error.to_string()))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let written = std::fs::File::create_new(&beside)
        .and_then(|mut file| file.write_all(format!("{value:#}\n").as_bytes()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| io_error(&format!("--output {}", path.display()), "write", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(list: &[(Arch, &'static str)]) -> BTreeMap<Arch, BTreeSet<&'static str>> {
        let mut named: BTreeMap<Arch, BTreeSet<&'static str>> = BTreeMap::new();
        for (arch, name) in list {
            named.entry(*arch).or_default().insert(name);
        }
        named
    }

    fn grown_from(base: &str, list: &[(Arch, &'static str)]) -> Value {
        let base: Profile<'_> = serde_json::from_str(base).expect("a profile");
        serde_json::to_value(grown(base, &calls(list)).expect("a profile")).expect("JSON")
    }

    #[test]
    fn recorded_calls_become_one_rule_and_their_architectures_are_listed() {
        let native = Arch::native();
        let profile = grown_from(NOTHING, &[(native, "read"), (native, "execve"), (native, "read")]);
        assert_eq!(profile["architectures"], serde_json::json!([native.spec_name()]));
        assert_eq!(profile["syscalls"], serde_json::json!([{"names": ["execve", "read"], "action": "SCMP_ACT_ALLOW"}]));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn another_architectures_call_brings_that_architecture() {
        let profile = grown_from(NOTHING, &[(Arch::X86, "socketcall"), (Arch::X86_64, "read")]);
        assert_eq!(profile["architectures"], serde_json::json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
    }

    #[test]
    fn rules_let_go_of_what_was_recorded() {
        let base = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["mount","reboot"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["bpf"],"action":"SCMP_ACT_KILL"},
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#;
        let native = Arch::native();
        let profile = grown_from(base, &[(native, "mount"), (native, "bpf"), (native, "personality")]);
        assert_eq!(profile["syscalls"][0]["names"], serde_json::json!(["reboot"]));
        assert_eq!(profile["syscalls"].as_array().map(Vec::len), Some(2), "{profile}");
        assert_eq!(profile["syscalls"][1]["names"], serde_json::json!(["bpf", "mount", "personality"]));
    }
}
