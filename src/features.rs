//! What `xebec features` prints: the features structure (features.md).
//!
//! Says what xebec was built to do, whatever the host can. The lists are the
//! tables that the config is judged and planned by; where the seccomp compiler
//! has no list, a test holds ours against its judgement. Makes no system call.

use serde_json::{Value, json};

use crate::config::OCI_VERSION;
use crate::config::mount_options::MOUNT_OPTIONS;
use crate::config::words::{self, Words};

/// The oldest `ociVersion` that is accepted.
const OCI_VERSION_MIN: &str = "1.0.0";

/// `linux.seccomp.syscalls[].action`.
const SECCOMP_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// `linux.seccomp.syscalls[].args[].op`.
const SECCOMP_OPERATORS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// `linux.seccomp.architectures` with a system call table.
fn seccomp_archs() -> Vec<&'static str> {
    let mut names: Vec<&str> = xebec_seccomp::Arch::ALL.iter().map(|arch| arch.spec_name()).collect();
    names.sort_unstable();
    names
}

/// `linux.seccomp.flags`; the kernel's support is not asked for, as the specification says.
const SECCOMP_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The features structure as JSON text, with a final newline.
#[must_use]
pub fn features_json() -> String {
    let features = json!({
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION,
        "hooks": words::HOOKS,
        "mountOptions": MOUNT_OPTIONS.iter().map(|option| option.name).collect::<Vec<_>>(),
        "linux": linux(),
        "annotations": {
            "io.github.xebec-containers.xebec.version": env!("CARGO_PKG_VERSION"),
        },
        "potentiallyUnsafeConfigAnnotations": words::ANNOTATIONS,
    });
    format!("{features:#}\n")
}

fn linux() -> Value {
    json!({
        "namespaces": names(words::NAMESPACES),
        "capabilities": words::capability_names(),
        "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        "seccomp": {
            "enabled": true,
            "actions": SECCOMP_ACTIONS,
            "operators": SECCOMP_OPERATORS,
            "archs": seccomp_archs(),
            "knownFlags": SECCOMP_FLAGS,
            "supportedFlags": SECCOMP_FLAGS,
        },
        "apparmor": { "enabled": true },
        "selinux": { "enabled": true },
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": { "modes": names(words::MEMORY_POLICY_MODES), "flags": names(words::MEMORY_POLICY_FLAGS) },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    })
}

fn names<T>(words: &'static Words<T>) -> Vec<&'static str> {
    words.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{check, parse_config};

    fn texts(value: &Value) -> Vec<&str> {
        value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a string")).collect()
    }

    /// Every word that is printed is one that the compiler takes, and takes only such words.
    #[test]
    fn the_seccomp_compiler_takes_the_words_that_are_listed() {
        let faults = |action: &str, op: &str, flag: &str| {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","flags":["{flag}"],"listenerPath":"/s","syscalls":[
                    {{"names":["read"],"action":"{action}","args":[{{"index":0,"value":1,"op":"{op}"}}]}}]}}"#
            );
            serde_json::from_str::<xebec_seccomp::Profile<'_>>(&text).expect("a profile").check().len()
        };
        for action in SECCOMP_ACTIONS {
            for op in SECCOMP_OPERATORS {
                for flag in SECCOMP_FLAGS {
                    assert_eq!(faults(action, op, flag), 0, "{action} {op} {flag}");
                }
            }
        }
        assert_eq!(faults("SCMP_ACT_NONE", "SCMP_CMP_NONE", "SECCOMP_FILTER_FLAG_NONE"), 3);
        assert!(seccomp_archs().contains(&"SCMP_ARCH_X86_64"));
    }

    #[test]
    fn the_text_is_one_json_object_that_the_ecosystems_type_reads() {
        let text = features_json();
        let features: oci_spec::runtime::Features = serde_json::from_str(&text).expect("features");
        assert_eq!(features.oci_version_min(), "1.0.0");
        assert_eq!(features.oci_version_max(), "1.3.0");
        assert!(text.ends_with("}\n"));
    }

    /// Kubernetes asks for `rro` (recursive read-only mounts), and for `user`
    /// with idmap (user namespaces).
    #[test]
    fn what_kubernetes_asks_for_is_there() {
        let features: Value = serde_json::from_str(&features_json()).expect("json");
        assert!(texts(&features["mountOptions"]).contains(&"rro"));
        assert!(texts(&features["linux"]["namespaces"]).contains(&"user"));
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }

    /// features.md: the runtime MUST accept and recognise what it lists.
    #[test]
    fn whatever_is_listed_is_accepted_in_a_config() {
        let features: Value = serde_json::from_str(&features_json()).expect("json");
        let namespaces: Vec<_> = texts(&features["linux"]["namespaces"]);
        let namespaces: Vec<_> = namespaces.iter().map(|kind| json!({"type": kind, "path": "/ns"})).collect();
        for version in ["ociVersionMin", "ociVersionMax"] {
            let mut config = json!({
                "ociVersion": features[version], "root": {"path": "r"}, "hooks": {},
                "process": {"cwd": "/", "args": ["sh"]},
                "linux": {"namespaces": namespaces},
            });
            config["process"]["capabilities"]["bounding"] = features["linux"]["capabilities"].clone();
            for hook in texts(&features["hooks"]) {
                config["hooks"][hook] = json!([{"path": "/bin/true"}]);
            }
            for mode in texts(&features["linux"]["memoryPolicy"]["modes"]) {
                let nodes = if matches!(mode, "MPOL_DEFAULT" | "MPOL_LOCAL") { "" } else { "0" };
                config["linux"]["memoryPolicy"] = json!({"mode": mode, "nodes": nodes});
                let text = config.to_string();
                let config = parse_config("c", &text).expect("config");
                assert_eq!(check(&config), (vec![], vec![]), "{text}");
            }
        }
    }
}
