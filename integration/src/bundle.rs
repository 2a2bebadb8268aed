//! The bundle every test starts from: oci-spec's default configuration and a busybox root.
//! Tests change the configuration as JSON, because oci-spec's types refuse some valid 1.3.0 values.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

pub const BUSYBOX: &str = "/bin/busybox";

/// Applets that payloads use. A fixed list: linking all 270 costs more than a container start.
const APPLETS: &[&str] = &[
    "sh",
    "ash",
    "awk",
    "basename",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "getopt",
    "grep",
    "head",
    "hostname",
    "id",
    "ifconfig",
    "ionice",
    "ip",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mkfifo",
    "mknod",
    "mount",
    "mv",
    "nice",
    "nproc",
    "nc",
    "od",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "renice",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setpriv",
    "setsid",
    "sleep",
    "sort",
    "stat",
    "stty",
    "su",
    "sync",
    "sysctl",
    "tail",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "tty",
    "umount",
    "uname",
    "uniq",
    "unshare",
    "usleep",
    "wc",
    "which",
    "whoami",
    "xargs",
    "yes",
    "chrt",
    "taskset",
    "dnsdomainname",
    "mountpoint",
    "cmp",
    "[",
    "sha256sum",
];

/// Lays out a small root file system: busybox, its links, and the usual empty directories.
pub fn make_rootfs(rootfs: &Path) -> io::Result<()> {
    for directory in
        ["bin", "dev", "etc", "home", "lib", "mnt", "out", "proc", "root", "sys", "tmp", "usr/bin", "var/tmp"]
    {
        fs::create_dir_all(rootfs.join(directory))?;
    }
    for open in ["tmp", "var/tmp", "out"] {
        fs::set_permissions(rootfs.join(open), fs::Permissions::from_mode(0o1777))?;
    }
    fs::copy(BUSYBOX, rootfs.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\ntest:x:1000:1000:test:/home:/bin/sh\n")?;
    fs::write(rootfs.join("etc/group"), "root:x:0:\ntest:x:1000:\n")
}

/// The default configuration as JSON: oci-spec's, made writable, with a hostname of ours and
/// ociVersion 1.0.2, the newest that crun 1.8.1 accepts.
pub fn default_config(cgroups_path: &str) -> Result<Value, serde_json::Error> {
    let mut config = serde_json::to_value(Spec::default())?;
    config["ociVersion"] = json!("1.0.2");
    config["root"]["readonly"] = json!(false);
    config["hostname"] = json!("trial");
    config["process"]["args"] = json!(["/bin/true"]);
    config["linux"]["cgroupsPath"] = json!(cgroups_path);
    config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    Ok(config)
}

/// Writes `value` at a JSON pointer, making objects on the way; `-` appends to an array.
pub fn set(config: &mut Value, pointer: &str, value: Value) {
    let mut place = config;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        if place.is_null() {
            *place = if token == "-" { json!([]) } else { json!({}) };
        }
        place = match place {
            Value::Array(items) => {
                let index = token.parse().unwrap_or(items.len());
                while items.len() <= index {
                    items.push(Value::Null);
                }
                &mut items[index]
            }
            other => &mut other[token.as_str()],
        };
    }
    *place = value;
}

/// Removes what a JSON pointer names; absent is fine.
pub fn remove(config: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        return;
    };
    match config.pointer_mut(parent) {
        Some(Value::Object(members)) => {
            members.remove(last);
        }
        Some(Value::Array(items)) => {
            if let Ok(index) = last.parse::<usize>() {
                items.remove(index);
            }
        }
        _ => {}
    }
}

/// Where `new` differs from `old`: one `pointer: value` a place, for transcripts.
pub fn differences(old: &Value, new: &Value, pointer: &str) -> Vec<String> {
    match (old, new) {
        _ if old == new => Vec::new(),
        (Value::Object(before), Value::Object(after)) => {
            let gone = before.keys().filter(|key| !after.contains_key(*key));
            let gone = gone.map(|key| format!("{pointer}/{key}: removed"));
            let changed = after.iter().flat_map(|(key, value)| {
                let absent = Value::Null;
                let earlier = before.get(key).unwrap_or(&absent);
                differences(earlier, value, &format!("{pointer}/{key}"))
            });
            gone.chain(changed).collect()
        }
        (Value::Array(before), Value::Array(after)) if after.starts_with(before) => {
            let added = after[before.len()..].iter();
            added.map(|value| format!("{pointer}/-: {value}")).collect()
        }
        _ => vec![format!("{pointer}: {new}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_makes_what_is_missing_and_appends() {
        let mut config = json!({"list": [1]});
        set(&mut config, "/a/b/-", json!("x"));
        set(&mut config, "/list/-", json!(2));
        set(&mut config, "/list/0", json!(0));
        assert_eq!(config, json!({"a": {"b": ["x"]}, "list": [0, 2]}));
    }

    #[test]
    fn remove_takes_members_and_items() {
        let mut config = json!({"a": {"b": 1}, "list": [1, 2]});
        remove(&mut config, "/a/b");
        remove(&mut config, "/list/0");
        remove(&mut config, "/not/there");
        assert_eq!(config, json!({"a": {}, "list": [2]}));
    }

    #[test]
    fn differences_name_places() {
        let old = json!({"a": 1, "b": {"c": [1]}, "d": 0});
        let new = json!({"a": 2, "b": {"c": [1, 2]}});
        assert_eq!(differences(&old, &new, ""), ["/d: removed", "/a: 2", "/b/c/-: 2"]);
    }
}
