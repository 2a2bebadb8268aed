//! From a profile to a filter: the one entrance to parse, rules and tree.
//! Pure: no system call is made here, and none depends on the running kernel.

use crate::action::Action;
use crate::arch::Arch;
use crate::bpf::{Instruction, MAX_INSTRUCTIONS};
use crate::parse::{self, Finding, Parsed};
use crate::profile::Profile;
use crate::{rules, tree};
use std::fmt;

/// What a profile leaves to the runtime. [`Options::default`] does as runc
/// does, but for `absent_flags`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The ABI of the host; always filtered, listed in the profile or not.
    pub native: Arch,
    /// Answer ENOSYS to calls newer than any the profile names on their ABI,
    /// unless the default action lets calls through (ALLOW, LOG, TRACE) or is
    /// ENOSYS itself. See README.md, "ENOSYS for newer calls".
    pub enosys_stub: bool,
    /// Make an unknown system call name an error instead of a warning.
    pub fail_unknown: bool,
    /// Flags of seccomp(2) when the profile has no `flags`. runc sets
    /// SECCOMP_FILTER_FLAG_SPEC_ALLOW (4) then; the spec names no default, and
    /// neither does this crate.
    pub absent_flags: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { native: Arch::native(), enosys_stub: true, fail_unknown: false, absent_flags: 0 }
    }
}

/// A compiled profile, ready for [`load`](crate::load).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program, at most [`MAX_INSTRUCTIONS`] long.
    pub program: Vec<Instruction>,
    /// Flags for seccomp(2), `SECCOMP_FILTER_FLAG_NEW_LISTENER` among them
    /// when the profile uses `SCMP_ACT_NOTIFY`.
    pub flags: u32,
    /// Whether loading gives a listener to hand to an agent.
    pub uses_notify: bool,
    /// What was ignored, and where it stands.
    pub warnings: Vec<Warning>,
}

/// Something in a profile that has no effect here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No ABI this crate knows has the call.
    UnknownSyscall {
        /// JSON pointer to the name, relative to the seccomp object.
        pointer: String,
        /// The name.
        name: String,
    },
    /// The spec knows the architecture, but there is no table for it. Its
    /// calls are killed, like those of an architecture not listed.
    NoTable {
        /// JSON pointer to the architecture.
        pointer: String,
        /// Its name.
        name: String,
    },
    /// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without SCMP_ACT_NOTIFY: the
    /// kernel would refuse it (EINVAL), so it is left out.
    FlagWithoutNotify,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnknownSyscall { pointer, name } => {
                write!(f, "{pointer}: unknown system call {name:?}, ignored")
            }
            Warning::NoTable { pointer, name } => {
                write!(f, "{pointer}: no system call table for {name}, its calls are killed")
            }
            Warning::FlagWithoutNotify => {
                f.write_str("/flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs SCMP_ACT_NOTIFY, ignored")
            }
        }
    }
}

/// Why a profile cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The profile is not as the spec wants it; every finding is given.
    Invalid(Vec<Finding>),
    /// Names nothing knows, with [`Options::fail_unknown`].
    UnknownSyscalls(Vec<Warning>),
    /// Two rules with the same conditions and different actions for a call.
    /// libseccomp refuses such a pair too (EEXIST).
    Contradiction {
        /// JSON pointer to the earlier rule.
        first: String,
        /// JSON pointer to the later rule.
        second: String,
        /// What each says.
        actions: (Action, Action),
    },
    /// An architecture whose byte order is not the native one's: one program
    /// cannot find the halves of an argument in both. libseccomp: EDOM.
    ByteOrder {
        /// JSON pointer to the architecture.
        pointer: String,
    },
    /// The program has more instructions than the kernel takes.
    TooLong {
        /// Its length; 4096 are allowed.
        instructions: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(findings) => list(f, "seccomp profile: ", findings),
            Error::UnknownSyscalls(names) => list(f, "seccomp profile: ", names),
            Error::Contradiction { first, second, actions } => write!(
                f,
                "seccomp profile: {first} and {second} have the same conditions for a system \
                 call, but {first} says {} and {second} {}",
                actions.0, actions.1
            ),
            Error::ByteOrder { pointer } => {
                write!(f, "seccomp profile: {pointer}: byte order differs from the host's")
            }
            Error::TooLong { instructions } => write!(
                f,
                "seccomp profile: the filter has {instructions} instructions, {} more than the \
                 kernel's limit of {MAX_INSTRUCTIONS}",
                instructions - MAX_INSTRUCTIONS
            ),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, intro: &str, items: &[impl fmt::Display]) -> fmt::Result {
    f.write_str(intro)?;
    for (at, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { "; " })?;
    }
    Ok(())
}

impl std::error::Error for Error {}

/// Compiles a profile.
///
/// # Errors
///
/// See [`Error`]; [`Error::Invalid`] holds everything that is wrong, not only
/// the first.
pub fn compile(profile: &Profile<'_>, options: &Options) -> Result<Filter, Error> {
    let (parsed, resolved) = understand(profile, options)?;
    let program = tree::program(&resolved);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong { instructions: program.len() });
    }
    let uses_notify = parsed.default == Action::Notify || parsed.rules.iter().any(|rule| rule.action == Action::Notify);
    let mut warnings = resolved.warnings;
    let flags = flags(parsed.flags.unwrap_or(options.absent_flags), uses_notify, &mut warnings);
    Ok(Filter { program, flags, uses_notify, warnings })
}

/// Everything but code generation, for [`compile`] and for explanations.
pub(crate) fn understand(profile: &Profile<'_>, options: &Options) -> Result<(Parsed, rules::Resolved), Error> {
    let mut findings = Vec::new();
    let parsed = parse::parse(profile, &mut findings);
    if !findings.is_empty() {
        return Err(Error::Invalid(findings));
    }
    let foreign = |arch: &Arch| arch.is_big_endian() != options.native.is_big_endian();
    if let Some(arch) = parsed.archs.iter().find(|arch| foreign(arch)) {
        let names = &profile.architectures;
        let at = names.iter().position(|name| **name == *arch.spec_name()).unwrap_or(0);
        return Err(Error::ByteOrder { pointer: format!("/architectures/{at}") });
    }
    let mut resolved = rules::resolve(profile, &parsed, options)?;
    if options.fail_unknown {
        let unknown = |w: &Warning| matches!(w, Warning::UnknownSyscall { .. });
        if resolved.warnings.iter().any(unknown) {
            resolved.warnings.retain(unknown);
            return Err(Error::UnknownSyscalls(resolved.warnings));
        }
    }
    Ok((parsed, resolved))
}

fn flags(wanted: u32, uses_notify: bool, warnings: &mut Vec<Warning>) -> u32 {
    let mut flags = wanted;
    if uses_notify {
        flags |= parse::FLAG_NEW_LISTENER;
        // The return value can be a listener or a thread id, not both: with
        // TSYNC the kernel wants failures told by ESRCH (since 5.7).
        if flags & parse::FLAG_TSYNC != 0 {
            flags |= parse::FLAG_TSYNC_ESRCH;
        }
    } else if flags & parse::FLAG_WAIT_KILLABLE_RECV != 0 {
        flags &= !parse::FLAG_WAIT_KILLABLE_RECV;
        warnings.push(Warning::FlagWithoutNotify);
    }
    flags
}
