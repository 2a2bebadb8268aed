//! What the tests of cgroups share: a copy of the test inside private namespaces, and a cgroup made there.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use xebec::cgroup::{Cgroup, CgroupPlan, Layout, Options, Record, plan_cgroup, probe_layout};
use xebec::config::Config;

const INNER: &str = "XEBEC_TEST_INSIDE";

/// Runs `body` inside fresh namespaces, after the shell commands of `prepare`. The
/// outer process only starts the inner one and looks at its end.
pub fn inside(test: &str, prepare: &str, body: impl FnOnce()) {
    if std::env::var_os(INNER).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIP {test}: needs root");
    }
    let script = format!("set -e; {prepare} exec \"$0\" --exact {test} --nocapture --include-ignored");
    let output = Command::new("unshare")
        .args(["-m", "-C", "-p", "-f", "--kill-child", "--mount-proc", "--propagation", "private", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(INNER, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprint!("{err}");
    assert!(output.status.success(), "{:?}\n{out}", output.status);
    assert!(out.contains("1 passed"), "the inner test did not run: {out}");
}

pub fn name(what: &str) -> String {
    // Unique among concurrent runs on one host: the PID namespace's inode.
    let ns = fs::read_link("/proc/self/ns/pid").unwrap();
    let digits: String = ns.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    format!("xebec-test-{digits}-{what}")
}

pub fn config(linux: &str) -> Config<'_> {
    serde_json::from_str(linux).unwrap()
}

pub fn plan(what: &str, layout: &Layout, resources: &str) -> xebec::Result<CgroupPlan> {
    let text = format!(r#"{{"ociVersion":"1.3.0","linux":{{"resources":{resources}}}}}"#);
    plan_cgroup(&name(what), &config(&text), layout, &Options::default())
}

pub fn layout() -> Layout {
    probe_layout().unwrap()
}

/// Removes the cgroup whatever happens to the test.
pub struct Removed(pub Record);

impl Drop for Removed {
    fn drop(&mut self) {
        let killed = self.0.kill_all(Signal::KILL);
        let removed = self.0.remove();
        if !std::thread::panicking() {
            killed.and(removed).unwrap();
        }
    }
}

pub fn made(plan: &CgroupPlan) -> (Cgroup<'_>, Removed) {
    let claim = plan.claim().unwrap();
    let removed = Removed(plan.record());
    let cgroup = claim.create().unwrap();
    cgroup.apply().unwrap();
    (cgroup, removed)
}

/// Where version 1 has controllers.
pub fn hybrid(test: &str, body: impl FnOnce(&Layout)) {
    inside(test, "", || match layout() {
        Layout::V2 { .. } => eprintln!("SKIP {test}: not a hybrid host"),
        layout => body(&layout),
    });
}
