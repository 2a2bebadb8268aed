//! `linux.seccomp` to a compiled filter, and to the right to load it.

use xebec_seccomp::{Filter, Options, compile};

use crate::config::Config;
use crate::error::{Error, Result};

use super::step::Credentials;

/// SECCOMP_FILTER_FLAG_SPEC_ALLOW: runc's and crun's choice where a profile has no flags.
const SPEC_ALLOW: u32 = 4;
const CAP_SYS_ADMIN: u32 = 21;

/// Compiles the profile; names that no architecture knows are warnings, or with
/// the annotation run.oci.seccomp_fail_unknown_syscall errors.
pub fn plan_seccomp(config: &Config<'_>, warnings: &mut Vec<String>) -> Result<Option<Filter>> {
    let Some(profile) = &config.linux.seccomp else { return Ok(None) };
    let annotation = "run.oci.seccomp_fail_unknown_syscall".into();
    let fail_unknown = config.annotations.get(&annotation).is_some_and(|value| &**value == "1" || &**value == "true");
    let options = Options { absent_flags: SPEC_ALLOW, fail_unknown, ..Options::default() };
    let filter = compile(profile, &options).map_err(|e| Error::invalid("linux.seccomp", e.to_string()))?;
    if filter.uses_notify {
        return Err(Error::invalid("linux.seccomp", "SCMP_ACT_NOTIFY is not in this release")
            .hint("use another action, such as SCMP_ACT_ERRNO"));
    }
    warnings.extend(filter.warnings.iter().map(|warning| format!("linux.seccomp{warning}")));
    Ok(Some(filter))
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
