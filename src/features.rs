//! What `xebec features` prints: the features structure (features.md).
//!
//! Says what xebec was built to do, whatever the host can. The lists are the
//! tables that the config is judged and planned by. Makes no system call.

use serde_json::{Value, json};

use crate::config::OCI_VERSION;
use crate::config::mount_options::MOUNT_OPTIONS;
use crate::config::words::{self, Words};

/// The oldest `ociVersion` that is accepted.
const OCI_VERSION_MIN: &str = "1.0.0";

/// `linux.seccomp.architectures` with a system call table.
fn seccomp_archs() -> Vec<&'static str> {
    let mut names: Vec<&str> = xebec_seccomp::Arch::ALL.iter().map(|arch| arch.spec_name()).collect();
    names.sort_unstable();
    names
}

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
    // The kernel's support is not asked for, as the specification says.
    let flags: Vec<&str> = xebec_seccomp::flag_names().collect();
    json!({
        "namespaces": names(words::NAMESPACES),
        "capabilities": words::capability_names(),
        "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        "seccomp": {
            "enabled": true,
            "actions": xebec_seccomp::Action::names().collect::<Vec<_>>(),
            "operators": xebec_seccomp::operator_names().collect::<Vec<_>>(),
            "archs": seccomp_archs(),
            "knownFlags": flags,
            "supportedFlags": flags,
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
