//! Why the kernel makes no user namespace, or none for this caller: the errno alone does not say which knob it was.

use rustix::io::Errno;

use crate::error::Error;

/// A knob of /proc/sys, the value that forbids user namespaces, and what to do.
const KNOBS: &[(&str, &str, &str)] = &[
    (
        "user/max_user_namespaces",
        "0",
        "user namespaces are disabled: sysctl user.max_user_namespaces=15000 allows them",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are disabled for ordinary users: sysctl kernel.unprivileged_userns_clone=1 allows them",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces to programs with a profile: sysctl kernel.apparmor_restrict_unprivileged_userns=0 lifts it",
    ),
];

/// Adds the cure to the error of a clone3 that was to make the namespaces `kinds`.
pub fn explain(error: Error, kinds: &[&str]) -> Error {
    explain_with(error, kinds, |knob| std::fs::read_to_string(format!("/proc/sys/{knob}")).ok())
}

fn explain_with(error: Error, kinds: &[&str], read: impl Fn(&str) -> Option<String>) -> Error {
    let new_user = kinds.contains(&"user");
    match error.errno() {
        Some(Errno::PERM) if !new_user => error.hint(
            "without CAP_SYS_ADMIN a container needs a user namespace: add {\"type\": \"user\"} to linux.namespaces, see xebec spec --rootless",
        ),
        Some(Errno::PERM | Errno::NOSPC) if new_user => {
            let is_set = |(knob, value, _): &&(&str, &str, &str)| read(knob).is_some_and(|text| text.trim() == *value);
            match KNOBS.iter().find(is_set) {
                Some((.., cure)) => error.hint(*cure),
                None if error.errno() == Some(Errno::NOSPC) => {
                    error.hint("a limit in /proc/sys/user/max_*_namespaces is reached, or they nest deeper than 32")
                }
                None => error.hint("a caller in a chroot, or whose ids are not mapped, may not make user namespaces"),
            }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(errno: Errno, kinds: &[&str], knob: &str, value: &str) -> String {
        let error = Error::sys("linux.namespaces", "clone3(new user)", errno);
        explain_with(error, kinds, |name| (name == knob).then(|| format!("{value}\n"))).to_string()
    }

    #[test]
    fn the_knob_that_forbids_it_is_named() {
        for (knob, value) in [
            ("user/max_user_namespaces", "0"),
            ("kernel/unprivileged_userns_clone", "0"),
            ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ] {
            let sysctl = format!("sysctl {}=", knob.replace('/', "."));
            for errno in [Errno::PERM, Errno::NOSPC] {
                assert!(said(errno, &["user", "pid"], knob, value).contains(&sysctl), "{knob}");
            }
        }
    }

    #[test]
    fn other_causes_are_told_apart() {
        assert!(said(Errno::PERM, &["pid"], "", "").contains("spec --rootless"));
        assert!(said(Errno::NOSPC, &["user"], "user/max_user_namespaces", "9").contains("deeper than 32"));
        assert!(said(Errno::PERM, &["user"], "user/max_user_namespaces", "9").contains("chroot"));
    }
}
