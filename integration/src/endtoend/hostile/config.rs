//! Configurations that lead a runtime to the odd places of an image.

use serde_json::{Value, json};

use crate::case::Outcome;
use crate::trial::Trial;

use super::super::random::Random;
use super::image::{HOST, NAMES, PLACES};
use super::{Kind, RAN};

/// What a payload looks for: files of the host, and descriptors where the container has a procfs of its own.
fn script(own_proc: bool) -> String {
    let dots = "../".repeat(12);
    let mut script = format!("echo {RAN}; ");
    for path in [
        format!("{HOST}/decoy/knob"),
        format!("{dots}run/xbt/host/decoy/knob"),
        format!("/proc/self/cwd/{dots}run/xbt/host/decoy/knob"),
    ] {
        script += &format!("test -f {path} && echo escaped; ");
    }
    if own_proc {
        script +=
            "for n in 3 4 5 6 7 8 9 10 11 12; do test -L /proc/$$/fd/$n && test $n != 10 && echo leaked $n; done; ";
    }
    script + "true"
}

/// Writes config.json for this image.
pub fn write(random: &mut Random, t: &mut Trial, kind: Kind) -> Outcome {
    t.reset_config()?;
    let own_proc = mounts(random, t);
    process(random, t, kind, own_proc);
    places(random, t);
    t.set("/root/readonly", json!(kind == Kind::ReadOnly || kind != Kind::Run && random.chance(20)));
    if random.chance(10) {
        t.set("/linux/sysctl", json!({"net.core.somaxconn": "271"}));
    }
    if random.chance(10) {
        t.set(
            "/linux/rootfsPropagation",
            json!(random.pick(&["private", "slave", "rprivate", "rslave", "unbindable"])),
        );
    }
    std::fs::write(t.bundle.join("config.json"), serde_json::to_vec(&t.adapted(&t.config))?)?;
    Ok(t.mode.hand_over(&t.bundle.join("config.json"))?)
}

/// Some of the usual mounts, and some at odd places. Says whether /proc is surely the container's procfs.
fn mounts(random: &mut Random, t: &mut Trial) -> bool {
    let mut own_proc = true;
    let mut kept: Vec<Value> = Vec::new();
    let drop_dev = random.chance(40);
    for mount in t.config["mounts"].as_array().cloned().unwrap_or_default() {
        let destination = mount["destination"].as_str().unwrap_or_default();
        let gone = match destination {
            "/proc" => random.chance(20),
            "/dev" | "/dev/pts" | "/dev/shm" | "/dev/mqueue" => drop_dev,
            _ => random.chance(30),
        };
        own_proc &= !(gone && destination == "/proc");
        if !gone {
            kept.push(mount);
        }
    }
    for _ in 0..random.number(3) {
        let destination = match random.number(8) {
            0 => format!("/vol/{}", random.pick(NAMES)),
            1 => format!("/vol/a/../{}/../made", random.pick(NAMES)),
            2 => format!("{}/{}", random.pick(PLACES), random.pick(NAMES)),
            3 => format!("{}/made/deep", random.pick(PLACES)),
            4 => random.pick(PLACES)[1..].to_string(),
            _ => random.pick(PLACES).to_string(),
        };
        // What is mounted over /proc or what leads to it makes it somebody else's.
        own_proc = false;
        let (kind, source, options): (&str, String, &[&str]) = match random.number(8) {
            0 => ("bind", format!("{HOST}/source/file"), &["bind"]),
            1 => ("bind", format!("{HOST}/source/file"), &["bind", "ro"]),
            2 => ("bind", format!("{HOST}/source"), &["rbind", "ro"]),
            3 => ("bind", format!("{HOST}/source/directory"), &["rbind", "rro", "nosuid"]),
            4 => ("tmpfs", "tmpfs".into(), &["tmpcopyup", "size=1m"]),
            5 => ("tmpfs", "tmpfs".into(), &["ro"]),
            6 => ("proc", "proc".into(), &[]),
            _ => ("tmpfs", "tmpfs".into(), &[]),
        };
        kept.push(json!({"destination": destination, "type": kind, "source": source, "options": options}));
    }
    t.set("/mounts", json!(kept));
    own_proc
}

fn process(random: &mut Random, t: &mut Trial, kind: Kind, own_proc: bool) {
    let lasting = kind == Kind::Exec;
    let script = script(own_proc) + if lasting { "; exec sleep 1000" } else { "" };
    let args = match random.number(12) {
        0 if !lasting => json!(["program", "-c", script]),
        1 if !lasting => json!(["/bin/program", "-c", script]),
        2 if !lasting => json!([random.pick(PLACES), "-c", script]),
        _ => json!(["/bin/sh", "-c", script]),
    };
    t.set("/process/args", args);
    t.set("/process/terminal", json!(kind == Kind::Terminal));
    if random.chance(30) {
        t.set("/process/cwd", json!(random.pick(PLACES)));
    }
    if random.chance(10) {
        t.set("/process/cwd", json!(format!("/proc/self/fd/{}", random.number(24))));
    }
    if random.chance(30) {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    }
    // HOME is looked for in the image.
    t.set("/process/env", json!(["PATH=/bin:/usr/bin:/vol/a"]));
}

fn places(random: &mut Random, t: &mut Trial) {
    for list in ["/linux/maskedPaths", "/linux/readonlyPaths"] {
        if random.chance(50) {
            t.set(list, json!([]));
        }
        for _ in 0..random.number(3) {
            t.push(list, json!(random.pick(PLACES)));
        }
    }
    for _ in 0..random.number(2) {
        let (path, uid) = (random.pick(PLACES), random.number(2) * 1000);
        let device = match random.number(3) {
            0 => json!({"path": path, "type": "p", "fileMode": 438, "uid": uid, "gid": uid}),
            1 => json!({"path": path, "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": uid, "gid": uid}),
            _ => json!({"path": "/vol/a/made/node", "type": "c", "major": 1, "minor": 3, "uid": uid, "gid": uid}),
        };
        t.push("/linux/devices", device);
    }
}

/// One `exec` into the container.
pub fn exec_words(random: &mut Random, id: &str) -> Vec<String> {
    let mut words = vec!["exec".to_string()];
    if random.chance(40) {
        let cwd = match random.number(2) {
            0 => random.pick(PLACES).to_string(),
            _ => format!("/proc/self/fd/{}", random.number(24)),
        };
        words.extend(["--cwd".to_string(), cwd]);
    }
    if random.chance(30) {
        words.extend(["--user".to_string(), "1000:1000".to_string()]);
    }
    if random.chance(20) {
        words.push("--tty".to_string());
    }
    words.push(id.to_string());
    // Always with a script: on a terminal, a shell without one would wait for somebody to type.
    let program = match random.number(8) {
        0 => random.pick(PLACES),
        1 => "program",
        _ => "/bin/sh",
    };
    words.extend([program.to_string(), "-c".to_string(), script(false)]);
    words
}
