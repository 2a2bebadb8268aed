//! What the first `exec` in a container has worked out for those that follow: its config
//! without the parts that only `create` reads, and the compiled seccomp filter.
//!
//! Kept as the file `exec` of the container's directory. It is a cache: made from the stored
//! config.json, which never changes, and of no use to another version of xebec. One write
//! under no name and one link(2) make it, so it is there whole or not at all.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, unlinkat};
use xebec_seccomp::Filter;
use xebec_seccomp::bpf::Instruction;

use crate::config::{Config, parse_config};
use crate::error::Result;
use crate::plan::plan_seccomp;
use crate::state::Container;

const NAME: &str = "exec";
/// The commit counts where it is known: two builds of one version may compile a profile differently.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " ");
const COMMIT: &str = match option_env!("XEBEC_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Parts of config.json that say nothing about a further process. Everything else is kept,
/// so that what is read one day cannot be missing.
const OF_CREATE: [&str; 11] = [
    "/mounts",
    "/hooks",
    "/linux/resources",
    "/linux/devices",
    "/linux/maskedPaths",
    "/linux/readonlyPaths",
    "/linux/sysctl",
    "/linux/netDevices",
    "/linux/intelRdt",
    "/linux/seccomp/architectures",
    "/linux/seccomp/syscalls",
];

/// The config as `exec` needs it, and its filter.
#[derive(Debug)]
pub struct Prepared {
    text: String,
    filter: Option<Filter>,
}

impl Prepared {
    /// What an earlier `exec` has left; `None` where there is nothing, or another version's.
    pub fn read(container: &Container) -> Result<Option<Prepared>> {
        Ok(container.read(NAME)?.and_then(Prepared::from_bytes))
    }

    /// Works it out of the whole config, which `create` has accepted.
    pub fn make(whole: &str) -> Result<Prepared> {
        let config = parse_config("config.json", whole)?;
        // What create has warned of already.
        let filter = plan_seccomp(&config)?;
        Ok(Prepared { text: without_parts_of_create(whole).unwrap_or_else(|| whole.to_owned()), filter })
    }

    /// The config, whose seccomp profile has no rules any more: they are in the filter.
    pub fn config(&self) -> Result<Config<'_>> {
        parse_config("config.json", &self.text)
    }

    /// The compiled profile.
    pub fn take_filter(&mut self) -> Option<Filter> {
        self.filter.take()
    }

    /// Leaves it to the next `exec`. Where it cannot be written, that one works it out again.
    pub fn keep(&self, container: &Container) -> std::result::Result<(), rustix::io::Errno> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(container.dir(), c".", flags, Mode::from_raw_mode(0o600))?;
        let bytes = self.to_bytes();
        if rustix::io::write(&file, &bytes)? < bytes.len() {
            return Err(rustix::io::Errno::NOSPC);
        }
        let path = format!("/proc/self/fd/{}", crate::sys::process::number(file.as_fd()));
        match linkat(CWD, &path, container.dir(), NAME, AtFlags::SYMLINK_FOLLOW) {
            // Another version's, or one that came at the same time as ours.
            Err(rustix::io::Errno::EXIST) => {
                unlinkat(container.dir(), NAME, AtFlags::empty())?;
                linkat(CWD, &path, container.dir(), NAME, AtFlags::SYMLINK_FOLLOW)
            }
            other => other,
        }
    }

    /// One line that says how much follows, then the config, then the program.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = header(self.text.len(), self.filter.as_ref()).into_bytes();
        bytes.extend_from_slice(self.text.as_bytes());
        for instruction in self.filter.iter().flat_map(|filter| &filter.program) {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: Vec<u8>) -> Option<Prepared> {
        let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
        let (line, rest) = bytes.split_at(end);
        let numbers = std::str::from_utf8(line).ok()?.strip_prefix(VERSION)?.strip_prefix(COMMIT)?.trim();
        let mut numbers = numbers.split(' ').map(str::parse::<usize>);
        let mut next = || numbers.next()?.ok();
        let (text_len, program_len, flags, notify) = (next()?, next()?, next()?, next()?);
        if rest.len() != text_len.checked_add(program_len.checked_mul(8)?)? {
            return None;
        }
        let (text, program) = rest.split_at(text_len);
        let filter = (program_len > 0).then(|| Filter {
            program: program.chunks_exact(8).map(instruction).collect(),
            flags: flags as u32,
            uses_notify: notify == 1,
            warnings: Vec::new(),
        });
        Some(Prepared { text: std::str::from_utf8(text).ok()?.to_owned(), filter })
    }
}

fn header(text_len: usize, filter: Option<&Filter>) -> String {
    let (len, flags, notify) = filter.map_or((0, 0, 0), |f| (f.program.len(), f.flags, u8::from(f.uses_notify)));
    format!("{VERSION}{COMMIT} {text_len} {len} {flags} {notify}\n")
}

fn instruction(bytes: &[u8]) -> Instruction {
    Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}

fn without_parts_of_create(whole: &str) -> Option<String> {
    let mut config: serde_json::Value = serde_json::from_str(whole).ok()?;
    for pointer in OF_CREATE {
        let (parent, key) = pointer.rsplit_once('/')?;
        if let Some(object) = config.pointer_mut(parent).and_then(serde_json::Value::as_object_mut) {
            object.remove(key);
        }
    }
    Some(config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::plan::exec::{Entry, plan_exec};
    use crate::plan::plan_namespaces;

    const CONFIGS: [&str; 4] = [
        include_str!("../config/testdata/engines/docker-27.json"),
        include_str!("../config/testdata/engines/containerd-ctr.json"),
        include_str!("../config/testdata/engines/containerd-cri-userns.json"),
        include_str!("../config/testdata/engines/podman-rootless.json"),
    ];

    fn plan_of(config: &Config<'_>, filter: Option<Filter>) -> String {
        let host = Host::default();
        host.capabilities.set(u64::MAX).expect("unset");
        let entry = Entry {
            joined_user_by_parent: false,
            id: "c",
            namespaces: 0,
            become_root: false,
            chroot: false,
            placed_late: false,
            no_new_keyring: false,
        };
        let namespaces = plan_namespaces(config).expect("namespaces");
        let plan = plan_exec(config, filter, &namespaces, &entry, &host).expect("a plan").plan;
        format!("{:?} {:?} {:?} {:?}", plan.steps, plan.exec, plan.seccomp, plan.listener)
    }

    #[test]
    fn what_is_kept_gives_the_plan_of_the_whole_config() {
        for whole in CONFIGS {
            // AppArmor and SELinux are facts of a host.
            let whole = whole.replace("apparmorProfile", "unused").replace("selinuxLabel", "unused2");
            let config = parse_config("c", &whole).expect("a config");
            let mut filter = plan_seccomp(&config).expect("a filter");
            if let Some(filter) = &mut filter {
                filter.warnings.clear();
            }
            let made = Prepared::make(&whole).expect("prepared");
            let mut read = Prepared::from_bytes(made.to_bytes()).expect("readable");
            assert!(read.text.len() < whole.len() / 2, "{} of {}", read.text.len(), whole.len());
            let filter_read = read.take_filter();
            assert_eq!(plan_of(&read.config().expect("a config"), filter_read), plan_of(&config, filter));
        }
    }

    #[test]
    fn half_a_file_and_another_versions_are_none() {
        let bytes = Prepared::make(CONFIGS[0]).expect("prepared").to_bytes();
        for len in [0, 1, 20, bytes.len() / 2, bytes.len() - 1] {
            assert!(Prepared::from_bytes(bytes[..len].to_vec()).is_none(), "{len}");
        }
        let other = [b"0", &bytes[..]].concat();
        assert!(Prepared::from_bytes(other).is_none());
    }
}
