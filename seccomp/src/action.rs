//! What a filter answers, and the words and numbers for it.

use std::fmt;

/// EPERM, what an action with an errno returns when the profile gives none
/// (config-linux.md, Seccomp, errnoRet).
const DEFAULT_ERRNO: u16 = 1;

/// A filter's answer to one call. [`Action::value`] gives the number the
/// kernel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ends the process (`SCMP_ACT_KILL_PROCESS`).
    KillProcess,
    /// Ends the thread (`SCMP_ACT_KILL_THREAD`, and `SCMP_ACT_KILL`, which
    /// libseccomp defines as the same).
    KillThread,
    /// Sends SIGSYS.
    Trap,
    /// Fails the call with an errno.
    Errno(u16),
    /// Hands the call to an agent.
    Notify,
    /// Hands the call to a tracer, with a message for it.
    Trace(u16),
    /// Allows and logs the call.
    Log,
    /// Allows the call.
    Allow,
}

/// The actions of the spec by name; those with an errno carry the default one.
const WORDS: [(&str, Action); 9] = [
    ("SCMP_ACT_ALLOW", Action::Allow),
    ("SCMP_ACT_ERRNO", Action::Errno(DEFAULT_ERRNO)),
    ("SCMP_ACT_KILL", Action::KillThread),
    ("SCMP_ACT_KILL_PROCESS", Action::KillProcess),
    ("SCMP_ACT_KILL_THREAD", Action::KillThread),
    ("SCMP_ACT_LOG", Action::Log),
    ("SCMP_ACT_NOTIFY", Action::Notify),
    ("SCMP_ACT_TRACE", Action::Trace(DEFAULT_ERRNO)),
    ("SCMP_ACT_TRAP", Action::Trap),
];

/// Why a word and an errno make no action.
pub(crate) enum Fault {
    Unknown,
    ErrnoWithout,
    ErrnoRange,
}

impl Action {
    /// The action of a spec name and its errno.
    pub(crate) fn parse(name: &str, errno: Option<u64>) -> Result<Action, Fault> {
        let word = WORDS.iter().find(|word| word.0 == name).ok_or(Fault::Unknown)?;
        match word.1 {
            Action::Errno(_) => with_errno(errno, Action::Errno),
            Action::Trace(_) => with_errno(errno, Action::Trace),
            // "When the action doesn't support an errno, the runtime MUST print
            // and error and fail."
            _ if errno.is_some() => Err(Fault::ErrnoWithout),
            plain => Ok(plain),
        }
    }

    /// The names of all actions, as the spec writes them: `SCMP_ACT_*`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|word| word.0)
    }

    /// The value a filter returns for it (uapi/linux/seccomp.h).
    pub fn value(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::Notify => 0x7fc0_0000,
            Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// The action of a filter's return value. A value the kernel does not know
    /// ends the process, as the kernel does.
    pub fn from_value(value: u32) -> Action {
        let data = value as u16;
        match value & 0xffff_0000 {
            0 => Action::KillThread,
            0x0003_0000 => Action::Trap,
            0x0005_0000 => Action::Errno(data),
            0x7fc0_0000 => Action::Notify,
            0x7ff0_0000 => Action::Trace(data),
            0x7ffc_0000 => Action::Log,
            0x7fff_0000 => Action::Allow,
            _ => Action::KillProcess,
        }
    }

    /// Whether the call is made: after logging, or as a tracer decides. runc
    /// puts no ENOSYS answers in front of such a default.
    pub(crate) fn lets_through(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

fn with_errno(errno: Option<u64>, make: fn(u16) -> Action) -> Result<Action, Fault> {
    match errno {
        None => Ok(make(DEFAULT_ERRNO)),
        // SECCOMP_RET_DATA is 16 bits wide; the kernel further caps an errno
        // at MAX_ERRNO (4095).
        Some(errno) => u16::try_from(errno).map(make).map_err(|_| Fault::ErrnoRange),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::KillProcess => f.write_str("kill process"),
            Action::KillThread => f.write_str("kill thread"),
            Action::Trap => f.write_str("trap"),
            Action::Errno(errno) => write!(f, "errno {errno}"),
            Action::Notify => f.write_str("notify"),
            Action::Trace(message) => write!(f, "trace {message}"),
            Action::Log => f.write_str("log"),
            Action::Allow => f.write_str("allow"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_actions_are_each_others_inverse() {
        for action in [
            Action::KillProcess,
            Action::KillThread,
            Action::Trap,
            Action::Errno(38),
            Action::Notify,
            Action::Trace(7),
            Action::Log,
            Action::Allow,
        ] {
            assert_eq!(Action::from_value(action.value()), action);
        }
    }
}
