//! libseccomp as the oracle: builds a filter from a profile with the calls
//! runc makes, and answers what runc's ENOSYS stub would answer. Shared by the
//! tests; it uses nothing of the crate but the profile and instruction types.
#![allow(dead_code, unreachable_pub)]

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::io::{Read, Seek};
use xebec_seccomp::bpf::{Call, Instruction};
use xebec_seccomp::{Action, Arch, Arg, Profile, Rule, Text};

pub fn scmp(arch: Arch) -> Option<ScmpArch> {
    Some(match arch {
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X86 => ScmpArch::X86,
        Arch::X32 => ScmpArch::X32,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Arm => ScmpArch::Arm,
        Arch::Riscv64 => ScmpArch::Riscv64,
        Arch::S390x => ScmpArch::S390X,
        Arch::Ppc64le => ScmpArch::Ppc64Le,
        Arch::Ppc64 => ScmpArch::Ppc64,
        Arch::Ppc => ScmpArch::Ppc,
        Arch::Mips => ScmpArch::Mips,
        Arch::Mipsel => ScmpArch::Mipsel,
        Arch::Mips64 => ScmpArch::Mips64,
        Arch::Mipsel64 => ScmpArch::Mipsel64,
        Arch::Mips64n32 => ScmpArch::Mips64N32,
        Arch::Mipsel64n32 => ScmpArch::Mipsel64N32,
        // libseccomp 2.5.4 does not have it.
        Arch::Loongarch64 => return None,
    })
}

/// The ABIs a host of the given one can run, as engines list them.
pub fn family(native: Arch) -> Vec<Arch> {
    match native {
        Arch::X86_64 => vec![Arch::X86_64, Arch::X86, Arch::X32],
        Arch::Aarch64 => vec![Arch::Aarch64, Arch::Arm],
        Arch::Mips64 => vec![Arch::Mips64, Arch::Mips, Arch::Mips64n32],
        Arch::Mipsel64 => vec![Arch::Mipsel64, Arch::Mipsel, Arch::Mipsel64n32],
        Arch::Ppc64 => vec![Arch::Ppc64, Arch::Ppc],
        other => vec![other],
    }
}

fn action(name: &str, errno: Option<u64>) -> ScmpAction {
    let errno = errno.unwrap_or(1) as u16;
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(i32::from(errno)),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(errno),
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => ScmpAction::Notify,
        other => panic!("no action {other}"),
    }
}

fn compare(arg: &Arg<'_>) -> ScmpArgCompare {
    let value = arg.value.expect("value");
    let index = arg.index.expect("index") as u32;
    let (op, datum) = match arg.op.as_deref().expect("op") {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, value),
        _ => (ScmpCompareOp::MaskedEqual(value), arg.value_two.unwrap_or(0)),
    };
    ScmpArgCompare::new(index, op, datum)
}

/// Whether libseccomp 2.5.4 has the name and gets back to it: it carries a call
/// from ABI to ABI by the host's number, and a few names x86_64 lacks share one
/// pseudo number there (sys_debug_setcontext of powerpc does).
pub fn knows(name: &str) -> bool {
    ScmpSyscall::from_name(name).and_then(|s| s.get_name_by_arch(ScmpArch::X8664)).is_ok_and(|back| back == name)
        && Arch::ALL.iter().all(|a| same_number(*a, name))
}

/// Whether both tables give a call the same number on an ABI. Multiplexed
/// calls have a pseudo number below -100 in libseccomp.
pub fn same_number(arch: Arch, name: &str) -> bool {
    let Some(scmp) = scmp(arch) else { return true };
    let ours = xebec_seccomp::syscall_number(arch, name);
    let theirs = ScmpSyscall::from_name_by_arch(name, scmp).map(|s| s.as_raw_syscall());
    match theirs {
        Ok(-120..=-100 | -224..=-201) => true,
        Ok(number) => ours == u32::try_from(number).ok(),
        Err(_) => true,
    }
}

/// A filter context for the profile on a host of the given ABI, the way runc's
/// InitSeccomp fills it.
pub fn context(
    profile: &Profile<'_>,
    native: Arch,
    optimize: u32,
) -> Result<ScmpFilterContext, libseccomp::error::SeccompError> {
    let default = action(profile.default_action.as_deref().expect("default"), profile.default_errno_ret);
    let mut context = ScmpFilterContext::new(default)?;
    if native != Arch::native() {
        context.remove_arch(ScmpArch::Native)?;
        context.add_arch(scmp(native).expect("libseccomp has the ABI"))?;
    }
    for name in &profile.architectures {
        let arch = Arch::from_spec_name(name).and_then(scmp).expect("libseccomp has the ABI");
        context.add_arch(arch)?;
    }
    context.set_ctl_optimize(optimize)?;
    for rule in &profile.syscalls {
        let action = action(rule.action.as_deref().expect("action"), rule.errno_ret);
        if action == default {
            continue;
        }
        for name in &rule.names {
            let Ok(syscall) = ScmpSyscall::from_name(name) else {
                continue;
            };
            add(&mut context, rule, action, syscall)?;
        }
    }
    Ok(context)
}

fn add(
    context: &mut ScmpFilterContext,
    rule: &Rule<'_>,
    action: ScmpAction,
    syscall: ScmpSyscall,
) -> Result<(), libseccomp::error::SeccompError> {
    if rule.args.is_empty() {
        return context.add_rule(action, syscall).map(|_| ());
    }
    let twice = (0..6).any(|i| rule.args.iter().filter(|a| a.index == Some(i)).count() > 1);
    let all: Vec<ScmpArgCompare> = rule.args.iter().map(compare).collect();
    let size = if twice { 1 } else { all.len() };
    for part in all.chunks(size) {
        context.add_rule_conditional(action, syscall, part)?;
    }
    Ok(())
}

pub fn export(context: &ScmpFilterContext) -> Vec<Instruction> {
    let mut file = tempfile();
    context.export_bpf(&file).expect("export to a file");
    let mut bytes = Vec::new();
    file.rewind().expect("rewind a file");
    file.read_to_end(&mut bytes).expect("read a file");
    bytes
        .chunks_exact(8)
        .map(|b| Instruction {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect()
}

fn tempfile() -> std::fs::File {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a C string; the call touches no other memory.
    let fd = unsafe { libc::memfd_create(c"filter".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create");
    // SAFETY: fd is new and owned by nobody else.
    unsafe { std::fs::File::from_raw_fd(fd) }
}

/// What libseccomp exports holds the constants in the byte order of the
/// filter's ABI; brings them to this host's for the interpreter.
pub fn oracle(profile: &Profile<'_>, native: Arch, optimize: u32) -> Result<Vec<Instruction>, String> {
    let context = context(profile, native, optimize).map_err(|e| e.to_string())?;
    let mut program = export(&context);
    if native.is_big_endian() {
        for i in &mut program {
            i.code = i.code.swap_bytes();
            i.k = i.k.swap_bytes();
            // A return it had to repeat within reach of a jump is swapped once
            // too often (2.5.4, only when the host has the other order).
            if i.code == 0x06 && Action::from_value(i.k).value() != i.k {
                i.k = i.k.swap_bytes();
            }
        }
    }
    Ok(program)
}

/// Whether every comparison of a program always sees the same word. libseccomp
/// 2.5.4 can jump to a comparison with another word in the accumulator than
/// the one the comparison is meant for (two ranges of one 64-bit argument are
/// enough); such a program does not do what its rules say.
pub fn is_sound(program: &[Instruction]) -> bool {
    // What the accumulator may hold before each instruction: (word, mask).
    let mut before: Vec<Option<(u32, u32)>> = vec![None; program.len()];
    let mut reached = vec![false; program.len()];
    let mut arrive = |to: usize, holds: (u32, u32), sound: &mut bool| {
        *sound &= !reached[to] || before[to] == Some(holds) || program[to].code == 0x20 || program[to].code == 0x06;
        reached[to] = true;
        before[to] = Some(holds);
        holds
    };
    let mut sound = true;
    let mut states = vec![None; program.len()];
    states[0] = Some((u32::MAX, u32::MAX));
    for (at, i) in program.iter().enumerate() {
        let Some(holds) = states[at] else { continue };
        let next: Vec<(usize, (u32, u32))> = match i.code {
            0x20 => vec![(at + 1, (i.k, u32::MAX))],
            0x54 => vec![(at + 1, (holds.0, holds.1 & i.k))],
            0x06 => vec![],
            0x05 => vec![(at + 1 + i.k as usize, holds)],
            _ => vec![(at + 1 + usize::from(i.jt), holds), (at + 1 + usize::from(i.jf), holds)],
        };
        for (to, holds) in next {
            states[to] = Some(arrive(to, holds, &mut sound));
        }
    }
    sound
}

/// runc's patchbpf (1.1.10 and later): the ENOSYS answers that come before
/// libseccomp's program.
pub struct Stub {
    largest: Vec<(Arch, u32)>,
}

impl Stub {
    pub fn new(profile: &Profile<'_>, native: Arch) -> Stub {
        let mut archs = vec![native];
        archs.extend(profile.architectures.iter().filter_map(|n| Arch::from_spec_name(n)));
        let default = profile.default_action.as_deref().expect("default");
        let permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&default);
        let mut largest = Vec::new();
        if permissive || profile.default_errno_ret == Some(38) {
            return Stub { largest };
        }
        for arch in archs {
            let numbers = profile.syscalls.iter().flat_map(|r| &r.names).filter_map(|name| {
                let scmp = scmp(arch).expect("libseccomp has the ABI");
                let number = ScmpSyscall::from_name_by_arch(name, scmp).ok()?.as_raw_syscall();
                u32::try_from(number).ok()
            });
            if let Some(most) = numbers.max().filter(|n| *n != 0) {
                largest.push((arch, most));
            }
        }
        Stub { largest }
    }

    pub fn answers(&self, call: &Call) -> bool {
        self.largest.iter().any(|&(arch, most)| {
            let mode = match arch {
                Arch::X86_64 => call.nr & (1 << 30) == 0,
                Arch::X32 => call.nr & (1 << 30) != 0,
                _ => true,
            };
            let setup = arch == Arch::S390x && call.nr == 0;
            arch.audit() == call.arch && mode && (call.nr > most || setup)
        })
    }
}

/// Every ABI's number space around what matters, plus the borders of x32.
pub fn numbers(arch: Arch) -> Vec<u32> {
    let base = match arch {
        Arch::X32 => 1 << 30,
        Arch::Mips | Arch::Mipsel => 4000,
        Arch::Mips64 | Arch::Mipsel64 => 5000,
        Arch::Mips64n32 | Arch::Mipsel64n32 => 6000,
        _ => 0,
    };
    let mut all: Vec<u32> = (0..620).map(|n| base + n).collect();
    all.extend([0, 1, 1023, 1024, 1025, 3999, 4999, 5999, 983_040, 983_041, 983_045, 983_050]);
    for edge in [1u32 << 30, 1 << 31, 3 << 30, 0] {
        all.extend([edge.wrapping_sub(2), edge.wrapping_sub(1), edge, edge + 1, edge + 700]);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// docker's kind of profile: the engines' file turned into `linux.seccomp` for
/// a container with the given capabilities, as podman and docker do it.
pub fn engine_profile(native: Arch, caps: &[&str]) -> String {
    engine_profile_of(include_str!("../../testdata/containers-common.json"), native, caps)
}

/// The same of another engine's text.
pub fn engine_profile_of(text: &str, native: Arch, caps: &[&str]) -> String {
    let engine: serde_json::Value = serde_json::from_str(text).expect("testdata is JSON");
    let goarch = match native {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
        Arch::S390x => "s390x",
        Arch::Ppc64le => "ppc64le",
        _ => "other",
    };
    let strings = |v: &serde_json::Value| -> Vec<String> {
        let list = v.as_array().cloned().unwrap_or_default();
        list.iter().map(|s| s.as_str().expect("a string").to_owned()).collect()
    };
    let mut rules = Vec::new();
    for rule in engine["syscalls"].as_array().expect("rules") {
        let arches = strings(&rule["includes"]["arches"]);
        let wants = strings(&rule["includes"]["caps"]);
        let without = strings(&rule["excludes"]["caps"]);
        let elsewhere = strings(&rule["excludes"]["arches"]);
        let has = |cap: &String| caps.contains(&cap.as_str());
        if (!arches.is_empty() && !arches.iter().any(|a| a == goarch))
            || elsewhere.iter().any(|a| a == goarch)
            || !wants.iter().all(has)
            || without.iter().any(has)
        {
            continue;
        }
        let mut rule = rule.clone();
        for key in ["comment", "includes", "excludes", "errno"] {
            rule.as_object_mut().expect("an object").remove(key);
        }
        if rule["args"].is_null() {
            rule["args"] = serde_json::json!([]);
        }
        rules.push(rule);
    }
    let archs: Vec<&str> = family(native).iter().map(|a| a.spec_name()).collect();
    serde_json::json!({
        "defaultAction": engine["defaultAction"],
        "defaultErrnoRet": engine["defaultErrnoRet"],
        "architectures": archs,
        "syscalls": rules,
    })
    .to_string()
}

/// docker's default capabilities.
pub const DOCKER_CAPS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

pub fn rule<'a>(names: &[&'a str], action: &'a str, args: Vec<Arg<'a>>) -> Rule<'a> {
    Rule { names: names.iter().map(|n| Text::from(*n)).collect(), action: Some(action.into()), errno_ret: None, args }
}

pub fn arg(index: u64, op: &str, value: u64, value_two: u64) -> Arg<'_> {
    Arg { index: Some(index), value: Some(value), value_two: Some(value_two), op: Some(op.into()) }
}
