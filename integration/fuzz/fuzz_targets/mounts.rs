//! A mount of the config, a line each: destination, type, source, options. Never a panic; a list of
//! options that is there twice sets the same attributes as once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use xebec::config::{check, parse_config};
use xebec::plan::step::Step;
use xebec_fuzz::plan_of;

/// The attributes of the planned mount, or why there is none.
fn attributes(destination: &str, kind: &str, source: &str, options: &[&str]) -> Result<String, String> {
    let config = json!({
        "ociVersion": "1.3.0",
        "process": {"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": destination, "type": kind, "source": source, "options": options}],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    })
    .to_string();
    let config = parse_config("config.json", &config).map_err(|error| error.to_string())?;
    if let Some(finding) = check(&config).0.first() {
        return Err(format!("{finding:?}"));
    }
    let plan = plan_of(&config).map_err(|error| error.to_string())?;
    let mount = plan.steps.iter().find_map(|step| match step {
        Step::Mount(mount) if mount.index == Some(0) => Some(mount),
        _ => None,
    });
    let mount = mount.ok_or("not among the steps")?;
    Ok(format!("{:?} {:?} {}", mount.attr, mount.recursive_attr, mount.late_readonly))
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (destination, kind, source) = (next(), next(), next());
    let options: Vec<&str> = lines.collect();
    let twice: Vec<&str> = options.iter().chain(&options).copied().collect();
    let once = attributes(destination, kind, source, &options);
    if once.is_ok() {
        assert_eq!(once, attributes(destination, kind, source, &twice), "{options:?}");
    }
});
