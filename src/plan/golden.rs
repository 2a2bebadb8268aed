//! Golden plans: each `golden/NAME.json` gives the text in `golden/NAME.txt`, on a host that is made up.
//!
//! `XEBEC_BLESS=1 cargo test --lib golden` writes the texts anew, and the plan in docs/architecture.md;
//! read the difference before committing it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::cgroup::{Driver, Hierarchy, Layout};
use crate::config::{check, parse_config};
use crate::host::Host;

use super::{Request, plan};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/golden")
}

fn v2() -> Layout {
    Layout::V2 { mount: "/sys/fs/cgroup".into() }
}

fn hybrid() -> Layout {
    let hierarchy = |name: &str| Hierarchy {
        controllers: name.split(',').map(str::to_owned).collect(),
        mount: format!("/sys/fs/cgroup/{name}"),
    };
    let v1 = ["cpu,cpuacct", "devices", "freezer", "memory", "pids"].map(hierarchy);
    Layout::Hybrid { v1: v1.into(), v2: Some("/sys/fs/cgroup/unified".into()) }
}

/// Every fact is given, so that nothing of the machine gets into a text.
fn host(name: &str) -> Host {
    Host {
        capabilities: OnceCell::from(if name == "few-capabilities" { 1 << 10 } else { u64::MAX }),
        ids: OnceCell::from(if name == "few-capabilities" { (1000, 1000) } else { (0, 0) }),
        cgroups: OnceCell::from(if name.starts_with("hybrid") { hybrid() } else { v2() }),
        apparmor: OnceCell::from(name == "labels-and-limits"),
        selinux: OnceCell::from(name == "labels-and-limits"),
        mountns: OnceCell::from(name.starts_with("mountns")),
    }
}

fn request(name: &str) -> Request {
    Request {
        id: "golden".into(),
        bundle: "/bundle".into(),
        no_pivot: name == "no-pivot-no-keyring",
        no_new_keyring: name == "no-pivot-no-keyring",
        cgroup_driver: if name.starts_with("systemd") { Driver::Systemd } else { Driver::Cgroupfs },
        ..Request::default()
    }
}

/// The plan's text, or the one error line that stands in its place.
fn text_of(name: &str, json: &str) -> String {
    let config = parse_config(name, json).expect("a config of the right shape");
    let (findings, _) = check(&config);
    assert_eq!(findings, [], "{name} must pass the check");
    match plan(&config, &request(name), &host(name)) {
        Ok(plan) => plan.to_text(),
        Err(error) => format!("error: {error}\n"),
    }
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).expect("the golden directory");
    let stem = |path: PathBuf| (path.extension()? == "json").then(|| path.file_stem()?.to_str().map(str::to_owned))?;
    let mut names: Vec<String> = entries.filter_map(|entry| stem(entry.expect("an entry").path())).collect();
    names.sort();
    names
}

#[test]
fn every_golden_config_gives_its_text() {
    let names = names();
    assert!(names.len() >= 29, "golden configs are missing: {names:?}");
    let mut wrong = Vec::new();
    for name in names {
        let json = std::fs::read_to_string(directory().join(format!("{name}.json"))).expect("a config");
        let got = text_of(&name, &json);
        let expected = directory().join(format!("{name}.txt"));
        if std::env::var_os("XEBEC_BLESS").is_some() {
            std::fs::write(&expected, &got).expect("write the text");
        }
        let want = std::fs::read_to_string(&expected).unwrap_or_default();
        if got != want {
            let first = got.lines().zip(want.lines()).find(|(got, want)| got != want);
            wrong.push(format!("{name}: first difference (got, expected): {first:?}\n{got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// docs/architecture.md shows the plan of the default config as it prints.
#[test]
fn the_plan_in_the_architecture_page_is_the_golden_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = std::fs::read_to_string(&page).expect("the page");
    let golden = std::fs::read_to_string(directory().join("default.json")).expect("the config");
    let golden = text_of("default", &golden);
    let (before, rest) = text.split_once("```plan\n").expect("a block named plan");
    let (shown, after) = rest.split_once("```").expect("the end of the block");
    if std::env::var_os("XEBEC_BLESS").is_some() {
        std::fs::write(&page, format!("{before}```plan\n{golden}```{after}")).expect("write the page");
    } else {
        assert_eq!(shown, golden, "XEBEC_BLESS=1 writes it anew");
    }
}

/// The order that the security of a container rests on, whatever the config.
#[test]
fn in_every_golden_plan_the_steps_that_protect_come_in_order() {
    for name in names() {
        let json = std::fs::read_to_string(directory().join(format!("{name}.json"))).expect("a config");
        let text = text_of(&name, &json);
        if text.starts_with("error: ") {
            continue;
        }
        let at = |act: &str| text.lines().position(|line| line.contains(act));
        let before = |first: &str, second: &str| {
            if let (Some(a), Some(b)) = (at(first), at(second)) {
                assert!(a < b, "{name}: {first:?} comes after {second:?}:\n{text}");
            }
        };
        // CVE-2016-9962: nobody in a joined namespace may trace us.
        before("PR_SET_DUMPABLE 0", "setns mount");
        // Mount events must not reach the host.
        before("linux.rootfsPropagation", " on itself");
        // In the small mount namespace nothing of the host can be cloned any more.
        before(" rslave, and /dev/null", "setns; unshare mount");
        before("setns; unshare mount", "  new proc");
        // Masks are made while the host's /dev/null is still in reach (CVE-2025-31133).
        before("  mask /", "pivot_root");
        // /proc/self/fd leads to whatever is open (CVE-2024-21626).
        before("pivot_root", "close every handle of the host");
        before("close every handle of the host", "  chdir ");
        // The proof of the directory is worth something only as the user, below the final root (CVE-2024-21626).
        before("become ", "getcwd must lie below the root");
        before("report ready", "close all but stdio");
        before("close all but stdio", "execve [");
        before("seccomp filter", "execve [");
        assert_eq!(at("execve ["), Some(text.lines().filter(|l| !l.starts_with("warning: ")).count() - 1), "{text}");
    }
}
