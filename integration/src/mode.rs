//! Who calls the runtime, and with whose ids its containers run. The suite is the same for all; what
//! cannot be had with fewer rights is in `differences`.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use serde_json::{Value, json};

/// The ordinary user of [`Mode::User`], and its group.
pub const USER: u32 = 4242;
/// The first of the [`SUBORDINATE_COUNT`] ids that are the user's to map.
pub const SUBORDINATE: u32 = 100_000;
pub const SUBORDINATE_COUNT: u32 = 65_536;
/// What pam_systemd(8) gives a user at login.
pub const RUNTIME_DIR: &str = "/run/user/4242";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Root calls, and containers have root's ids unless a test says otherwise.
    Root,
    /// Root calls, and every container has a user namespace.
    UserNamespace,
    /// An ordinary user calls; every container has a user namespace with that user's subordinate ids.
    User,
}

impl Mode {
    pub fn word(self) -> &'static str {
        match self {
            Mode::Root => "root",
            Mode::UserNamespace => "userns",
            Mode::User => "user",
        }
    }

    pub fn parse(word: &str) -> Option<Mode> {
        [Mode::Root, Mode::UserNamespace, Mode::User].into_iter().find(|mode| mode.word() == word)
    }

    /// The host's id of an id inside a container that has [`Mode::maps`].
    pub fn host_id(self, inside: u32) -> u32 {
        match (self, inside) {
            (Mode::User, 0) => USER,
            (Mode::User, inside) => SUBORDINATE + inside - 1,
            (_, inside) => SUBORDINATE + inside,
        }
    }

    /// uidMappings and gidMappings of a container's user namespace.
    pub fn maps(self) -> Value {
        let entry =
            |inside: u32, size: u32| json!({"containerID": inside, "hostID": self.host_id(inside), "size": size});
        match self {
            Mode::User => json!([entry(0, 1), entry(1, SUBORDINATE_COUNT)]),
            _ => json!([entry(0, SUBORDINATE_COUNT)]),
        }
    }

    /// Gives a configuration a user namespace, where the mode asks for one and the test has not said how.
    pub fn adapt(self, config: &mut Value) {
        let Some(namespaces) = config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut) else { return };
        if self == Mode::Root || namespaces.iter().any(|entry| entry["type"] == "user") {
            return;
        }
        namespaces.push(json!({"type": "user"}));
        for mappings in ["uidMappings", "gidMappings"] {
            if config["linux"].get(mappings).is_none() {
                config["linux"][mappings] = self.maps();
            }
        }
    }

    /// Makes a tree belong to the container's ids, as an engine's storage does. Ids that are mapped already stay.
    /// A mount of something else is left alone: it may be the host's.
    pub fn hand_over(self, top: &Path) -> io::Result<()> {
        if self == Mode::Root {
            return Ok(());
        }
        hand_over(self, top, fs::symlink_metadata(top)?.dev())
    }
}

fn hand_over(mode: Mode, path: &Path, device: u64) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.dev() != device {
        return Ok(());
    }
    let shift = |id: u32| if id < SUBORDINATE && id != USER { mode.host_id(id) } else { id };
    let (uid, gid) = (shift(meta.uid()), shift(meta.gid()));
    if (uid, gid) != (meta.uid(), meta.gid()) {
        lchown(path, Some(uid), Some(gid))?;
        // chown(2) takes set-user-ID bits away.
        if !meta.is_symlink() && meta.mode() & 0o6000 != 0 {
            fs::set_permissions(path, meta.permissions())?;
        }
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            match hand_over(mode, &entry?.path(), device) {
                // A container that runs meanwhile may take its own files away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// Files of /etc that name the made-up user: (file, lines appended).
pub fn etc_lines() -> [(&'static str, String); 4] {
    let subordinate = format!("trial-user:{SUBORDINATE}:{SUBORDINATE_COUNT}\n");
    [
        ("passwd", format!("trial-user:x:{USER}:{USER}::/home:/bin/sh\n")),
        ("group", format!("trial-user:x:{USER}:\n")),
        ("subuid", subordinate.clone()),
        ("subgid", subordinate),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_gets_a_user_namespace_once() {
        let plain = json!({"linux": {"namespaces": []}});
        let mut config = plain.clone();
        Mode::Root.adapt(&mut config);
        assert_eq!(config, plain);
        Mode::User.adapt(&mut config);
        let once = config.clone();
        assert_eq!(once["linux"]["uidMappings"][1], json!({"containerID": 1, "hostID": 100_000, "size": 65_536}));
        Mode::User.adapt(&mut config);
        assert_eq!(config, once);
    }

    #[test]
    fn maps_and_single_ids_agree() {
        assert_eq!((Mode::User.host_id(0), Mode::User.host_id(1)), (USER, SUBORDINATE));
        assert_eq!(Mode::UserNamespace.host_id(1000), 101_000);
        assert_eq!(Mode::UserNamespace.maps()[0]["hostID"], json!(SUBORDINATE));
    }
}
