//! The bundles: the config that `xebec spec` writes, for a payload without terminal, in the shape of a case;
//! and for the floor the same without JSON. All contenders get the same.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xebec_integration::endtoend::{payload, profile};
use xebec_seccomp::Profile;

use crate::cases::Shape;

/// First host id of the containers in user namespaces.
pub const HOST_ID: u32 = 100_000;

/// One container to be: where its config is, and what the floor is told instead.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub dir: PathBuf,
    pub id: String,
    pub rootfs: PathBuf,
    /// Its cgroup, below the v2 view of the sandbox.
    pub cgroup: PathBuf,
    pub shape: Shape,
    /// Its program: `/exit` or `/wait`.
    pub program: &'static str,
    pub filter: PathBuf,
    pub netns: PathBuf,
}

/// What all bundles share: the root file system, the compiled filter, the namespace to join.
#[derive(Debug)]
pub struct Kit {
    pub work: PathBuf,
    pub rootfs: PathBuf,
    filter: PathBuf,
    pub netns: PathBuf,
    seccomp: Value,
}

impl Kit {
    pub fn make(work: &Path) -> Result<Kit, String> {
        let rootfs = work.join("rootfs");
        for directory in ["proc", "dev", "sys"] {
            fs::create_dir_all(rootfs.join(directory)).map_err(|error| format!("{}: {error}", rootfs.display()))?;
        }
        payload::install(&rootfs).map_err(|error| format!("the payload: {error}"))?;
        let seccomp = engines_profile()?;
        let filter = work.join("filter.bpf");
        fs::write(&filter, compiled(&seccomp)?).map_err(|error| format!("{}: {error}", filter.display()))?;
        Ok(Kit { work: work.to_path_buf(), rootfs, filter, netns: work.join("netns"), seccomp })
    }

    pub fn bundle(&self, id: &str, shape: Shape, program: &'static str) -> Result<Bundle, String> {
        self.bundle_in("/bench", id, shape, program)
    }

    /// The same with its cgroup below `parent`.
    pub fn bundle_in(&self, parent: &str, id: &str, shape: Shape, program: &'static str) -> Result<Bundle, String> {
        let cgroup_path = format!("{parent}/{id}");
        let bundle = Bundle {
            dir: self.work.join(format!("bundle-{id}")),
            id: id.into(),
            rootfs: self.rootfs.clone(),
            cgroup: PathBuf::from(format!("/sys/fs/cgroup{cgroup_path}")),
            shape,
            program,
            filter: self.filter.clone(),
            netns: self.netns.clone(),
        };
        let config = self.config(shape, &cgroup_path, program)?;
        let written = fs::create_dir_all(&bundle.dir)
            .and_then(|()| fs::write(bundle.dir.join("config.json"), config.to_string()));
        written.map_err(|error| format!("{}: {error}", bundle.dir.display()))?;
        Ok(bundle)
    }

    fn config(&self, shape: Shape, cgroup_path: &str, program: &str) -> Result<Value, String> {
        let text = xebec::spec::default_config(None);
        let mut config: Value = serde_json::from_str(&text).map_err(|error| format!("the default config: {error}"))?;
        // crun 1.8.1 accepts nothing newer.
        config["ociVersion"] = json!("1.0.2");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!([program]);
        config["root"]["path"] = json!(self.rootfs);
        config["linux"]["cgroupsPath"] = json!(cgroup_path);
        let linux = config["linux"].as_object_mut().ok_or("the default config has no linux")?;
        linux.remove("seccomp");
        if shape.seccomp {
            linux.insert("seccomp".into(), self.seccomp.clone());
        }
        let namespaces = linux["namespaces"].as_array_mut().ok_or("the default config has no namespaces")?;
        if shape.host_cgroup {
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
        }
        if shape.joined_network {
            namespaces.retain(|namespace| namespace["type"] != "network");
            namespaces.push(json!({"type": "network", "path": self.netns}));
        }
        if shape.user_namespace {
            namespaces.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": HOST_ID, "size": 65536}]);
            linux.insert("uidMappings".into(), map.clone());
            linux.insert("gidMappings".into(), map);
        }
        Ok(config)
    }
}

/// For the capabilities of the default config.
fn engines_profile() -> Result<Value, String> {
    profile::seccomp(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]).map_err(|error| error.to_string())
}

/// As an array of struct sock_filter.
fn compiled(seccomp: &Value) -> Result<Vec<u8>, String> {
    let text = seccomp.to_string();
    let profile: Profile<'_> = serde_json::from_str(&text).map_err(|error| format!("the profile: {error}"))?;
    let filter = xebec_seccomp::compile(&profile, &xebec_seccomp::Options::default())
        .map_err(|error| format!("the profile: {error:?}"))?;
    let mut bytes = Vec::with_capacity(filter.program.len() * 8);
    for instruction in &filter.program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_profile_decides_as_before() {
        let bytes = compiled(&engines_profile().expect("the profile is JSON")).expect("compiles");
        assert_eq!(bytes.len() % 8, 0);
        assert!(bytes.len() / 8 > 100, "{} instructions", bytes.len() / 8);
        assert!(bytes.len() / 8 <= 4096, "the floor has no room for it");
    }
}
