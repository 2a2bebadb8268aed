//! The engines' default seccomp profile as `linux.seccomp`: podman and docker keep it in a format of
//! their own, in which capabilities and architectures select rules; and what stands in a profile. Pure.

use serde_json::{Value, json};

use crate::case::Outcome;
use crate::ensure;

/// Kept once in this repository; its origin is written beside it.
const PROFILE: &str = include_str!("../../../seccomp/testdata/containers-common.json");

/// The engines' name of this machine's architecture, and libseccomp's.
const ARCHITECTURE: (&str, &str) =
    if cfg!(target_arch = "aarch64") { ("arm64", "SCMP_ARCH_AARCH64") } else { ("amd64", "SCMP_ARCH_X86_64") };

/// What an engine writes into the configuration of a program with these capabilities.
pub fn seccomp(capabilities: &[&str]) -> Result<Value, serde_json::Error> {
    let profile: Value = serde_json::from_str(PROFILE)?;
    let own = profile["archMap"].as_array().into_iter().flatten().find(|entry| entry["architecture"] == ARCHITECTURE.1);
    let mut architectures = vec![json!(ARCHITECTURE.1)];
    architectures.extend(own.and_then(|entry| entry["subArchitectures"].as_array()).into_iter().flatten().cloned());
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let selected = rules.filter(|rule| selects(rule, capabilities)).map(|rule| {
        let mut kept = json!({"names": rule["names"], "action": rule["action"]});
        if rule["args"].as_array().is_some_and(|args| !args.is_empty()) {
            kept["args"] = rule["args"].clone();
        }
        if !rule["errnoRet"].is_null() {
            kept["errnoRet"] = rule["errnoRet"].clone();
        }
        kept
    });
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": architectures,
        "syscalls": selected.collect::<Vec<_>>(),
    }))
}

/// The system calls that a profile names.
pub fn names(profile: &Value) -> Vec<&str> {
    let rules = profile["syscalls"].as_array().map_or(&[][..], Vec::as_slice);
    rules.iter().flat_map(|rule| rule["names"].as_array().into_iter().flatten()).filter_map(Value::as_str).collect()
}

/// The profile without one call, which it must have had.
pub fn without(profile: &Value, call: &str) -> Outcome<Value> {
    ensure!(names(profile).contains(&call), "{call} is not in the profile: {profile}");
    let mut profile = profile.clone();
    for rule in profile["syscalls"].as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|name| name != call);
        }
    }
    Ok(profile)
}

/// All capabilities under `includes` are held, none under `excludes`, and the architecture is listed.
fn selects(rule: &Value, capabilities: &[&str]) -> bool {
    let listed = |side: &str, kind: &str| rule[side][kind].as_array().cloned().unwrap_or_default();
    let held = |name: &Value| name.as_str().is_some_and(|name| capabilities.contains(&name));
    let arches = listed("includes", "arches");
    listed("includes", "caps").iter().all(held)
        && !listed("excludes", "caps").iter().any(held)
        && (arches.is_empty() || arches.iter().any(|arch| arch == ARCHITECTURE.0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn capabilities_select_rules() {
        let rule_of = |capabilities: &[&str]| {
            let seccomp = super::seccomp(capabilities).expect("the profile is JSON");
            let rules = seccomp["syscalls"].as_array().cloned().unwrap_or_default();
            let found = rules
                .iter()
                .find(|rule| rule["names"].as_array().is_some_and(|names| names.iter().any(|name| name == "chroot")));
            found.map(|rule| rule["action"].clone()).expect("a rule for chroot")
        };
        assert_eq!(rule_of(&[]), "SCMP_ACT_ERRNO");
        assert_eq!(rule_of(&["CAP_SYS_CHROOT"]), "SCMP_ACT_ALLOW");
    }
}
