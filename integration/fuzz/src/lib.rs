//! What several targets share.

/// The command line is the program's, not the library's.
#[allow(dead_code, unreachable_pub, missing_debug_implementations)]
#[path = "../../../src/cli/mod.rs"]
pub mod cli;

/// What the program's first instructions have seen; here there are none.
fn is_on_read_only_mount() -> bool {
    false
}

use std::cell::OnceCell;
use std::fmt::Debug;

use xebec::cgroup::{Hierarchy, Layout};
use xebec::host::Host;
use xebec::plan::{Plan, Request, plan};

/// A JSON text with the letters and digits of its strings written as escapes: it means the same, but
/// nothing of it can be borrowed.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 6);
    let mut letters = text.chars();
    let mut inside = false;
    while let Some(letter) = letters.next() {
        match letter {
            '"' => inside = !inside,
            '\\' if inside => {
                out.push(letter);
                let kind = letters.next();
                out.extend(kind);
                if kind == Some('u') {
                    out.extend(letters.by_ref().take(4));
                }
                continue;
            }
            letter if inside && letter.is_ascii_alphanumeric() => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
                continue;
            }
            _ => {}
        }
        out.push(letter);
    }
    out
}

/// Borrowed and owned strings make the same value.
pub fn assert_same<A: Debug, B: Debug>(read: &A, again: &B) {
    let (read, again) = (format!("{read:?}"), format!("{again:?}"));
    assert!(read == again, "read as {read}\nand then as {again}");
}

/// A host that has everything, so that what is found does not depend on the machine.
fn host() -> Host {
    let hierarchy = |name: &str| Hierarchy {
        controllers: name.split(',').map(str::to_owned).collect(),
        mount: format!("/sys/fs/cgroup/{name}"),
    };
    let v1 = ["cpu,cpuacct", "blkio", "cpuset", "devices", "freezer", "memory", "net_cls,net_prio", "rdma"];
    Host {
        capabilities: OnceCell::from(u64::MAX),
        ids: OnceCell::from((0, 0)),
        cgroups: OnceCell::from(Layout::Hybrid {
            v1: v1.map(hierarchy).into(),
            v2: Some("/sys/fs/cgroup/unified".into()),
        }),
        apparmor: OnceCell::from(true),
        selinux: OnceCell::from(true),
        mountns: OnceCell::from(true),
    }
}

/// The plan of `create` for a config that has passed its checks.
pub fn plan_of(config: &xebec::config::Config<'_>) -> xebec::Result<Plan> {
    thread_local!(static HOST: Host = host());
    let request = Request { id: "fuzzed".into(), bundle: "/bundle".into(), ..Request::default() };
    HOST.with(|host| plan(config, &request, host))
}
