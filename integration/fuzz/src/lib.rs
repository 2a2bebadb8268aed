//! What several targets share.

use std::fmt::Debug;

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

/// The plan of `create` for a config that has passed its checks.
pub fn plan_of(config: &xebec::config::Config<'_>) -> xebec::Result<Plan> {
    thread_local!(static HOST: Host = Host::default());
    let request = Request {
        id: "fuzzed".into(),
        bundle: "/bundle".into(),
        no_pivot: false,
        no_new_keyring: false,
        rootless: false,
        notify: None,
        cgroup_disabled: false,
    };
    HOST.with(|host| plan(config, &request, host))
}
