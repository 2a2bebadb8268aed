//! `linux.seccomp` to a compiled filter, and to the right to load it.

use xebec_seccomp::{Filter, Options, compile};

use crate::config::Config;
use crate::config::words::{SECCOMP_FAIL_UNKNOWN, SECCOMP_RECEIVER};
use crate::error::{Error, Result};

use super::step::Credentials;

/// SECCOMP_FILTER_FLAG_SPEC_ALLOW: runc's and crun's choice where a profile has no flags.
const SPEC_ALLOW: u32 = 4;
/// SECCOMP_FILTER_FLAG_TSYNC and _TSYNC_ESRCH.
const TSYNC: u32 = 1 | 1 << 4;
const CAP_SYS_ADMIN: u32 = 21;

/// Compiles the profile; names that no architecture knows are warnings, or with
/// the annotation run.oci.seccomp_fail_unknown_syscall errors.
pub fn plan_seccomp(config: &Config<'_>) -> Result<Option<Filter>> {
    let Some(profile) = &config.linux.seccomp else { return Ok(None) };
    let fail_unknown = config.annotations.get(&SECCOMP_FAIL_UNKNOWN.into()).is_some_and(|value| &**value == "1");
    let options = Options { absent_flags: SPEC_ALLOW, fail_unknown, ..Options::default() };
    let mut filter = compile(profile, &options).map_err(|e| Error::invalid("linux.seccomp", e.to_string()))?;
    if filter.uses_notify {
        // There is no other thread to take along but the helper that sends the listener, which has to stay out.
        filter.flags &= !TSYNC;
    }
    Ok(Some(filter))
}

/// The agent that answers `SCMP_ACT_NOTIFY`.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The socket it listens on.
    pub path: String,
    /// Passed on as it is.
    pub metadata: Option<String>,
}

/// Who gets the listener of a filter that notifies: listenerPath, or crun's annotation.
pub fn plan_listener(config: &Config<'_>, notifies: bool) -> Result<Option<Listener>> {
    let Some(profile) = config.linux.seccomp.as_ref().filter(|_| notifies) else {
        return Ok(None);
    };
    let annotation = config.annotations.get(&SECCOMP_RECEIVER.into());
    let path = profile.listener_path.as_deref().or(annotation.map(|text| &**text)).filter(|path| !path.is_empty());
    let Some(path) = path else {
        return Err(Error::invalid("linux.seccomp.listenerPath", "SCMP_ACT_NOTIFY is used, but no agent is named")
            .hint("name the socket of the agent, or use another action"));
    };
    Ok(Some(Listener { path: path.to_owned(), metadata: profile.listener_metadata.as_ref().map(|m| m.to_string()) }))
}

/// Without no_new_privs loading takes CAP_SYS_ADMIN (seccomp(2)), and it happens
/// last, so that no call of ours is judged by the container's profile but execve.
///
/// That same execve takes the capability away again: it computes the permitted set
/// anew from the bounding, inheritable and ambient ones (capabilities(7)), which
/// are the configured ones already.
pub fn keep_right_to_load(credentials: &mut Credentials) {
    credentials.sets.permitted |= 1 << CAP_SYS_ADMIN;
    credentials.sets.effective |= 1 << CAP_SYS_ADMIN;
}
