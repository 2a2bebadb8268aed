//! /proc and /sys as the image would have them: links, forgeries, and other files bound over theirs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::case::{Group, Outcome};
use crate::trial::Trial;
use crate::{ensure, equal};

use super::{Decoy, clear, without_mounts_at};

pub fn add(group: &mut Group) {
    links(group);
    labels(group);
    sysctls(group);
}

/// CVE-2019-19921, CVE-2023-27561: /proc is a link, so that what is written below it goes elsewhere.
fn links(group: &mut Group) {
    for top in ["proc", "sys"] {
        for (name, target) in [("absolute", "/forged"), ("relative", "forged"), ("chained", "first/../../../../second")]
        {
            let name = format!("cve_2019_19921_a_{top}_that_is_a_link_{name}_is_never_passed_off_as_one");
            group.add(name, move |t| {
                let rootfs = t.rootfs();
                without_mounts_at(t, "/sys/fs")?;
                clear(&rootfs.join(top))?;
                for directory in ["forged/self/attr", "forged/sys", "first"] {
                    fs::create_dir_all(rootfs.join(directory))?;
                }
                symlink("forged", rootfs.join("second"))?;
                symlink(target, rootfs.join(top))?;
                t.remove("/linux/maskedPaths");
                t.remove("/linux/readonlyPaths");
                t.run_refused()?;
                Ok(())
            });
        }
    }
}

/// CVE-2019-16884: the image's own /proc takes the label, and the process has none.
fn labels(group: &mut Group) {
    for verb in ["create", "exec"] {
        let name = format!("cve_2019_16884_a_label_is_applied_or_refused_where_proc_is_forged_on_{verb}");
        group.add(name, move |t| {
            let forged = ["proc/self/attr/exec", "proc/self/attr/apparmor/exec", "proc/thread-self/attr/exec"];
            without_mounts_at(t, "/proc")?;
            for file in forged {
                let path = t.rootfs().join(file);
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
                fs::write(path, "forged")?;
            }
            t.remove("/linux/maskedPaths");
            t.remove("/linux/readonlyPaths");
            t.mount("/real", "proc", "proc", &[]);
            // No such profile is loaded anywhere: a runtime that succeeds has written it to a forgery.
            let profile = "xebec-no-such-profile";
            let done = match verb {
                "create" => {
                    t.set("/process/apparmorProfile", json!(profile));
                    t.sh("echo ran");
                    t.run_with(&[])?
                }
                _ => {
                    t.args(&["/bin/sleep", "1000"]);
                    if !t.create_with(&[])?.succeeded() {
                        return crate::case::skip("requires a runtime that needs no /proc in the container");
                    }
                    t.start()?;
                    let id = t.id.clone();
                    t.call(&["exec", "--apparmor", profile, &id, "/bin/echo", "ran"]).go()?
                }
            };
            ensure!(!done.succeeded() && !done.stdout.contains("ran"), "it ran without its profile");
            for file in forged {
                equal!(fs::read_to_string(t.rootfs().join(file))?, "forged", "{file} of the image");
            }
            Ok(())
        });
    }
}

/// CVE-2025-52881, CVE-2025-62596: a setting is written to whatever lies at its path.
fn sysctls(group: &mut Group) {
    group.add("cve_2025_52881_a_sysctl_is_not_written_to_a_proc_of_the_image", |t| {
        without_mounts_at(t, "/proc")?;
        let forged = t.rootfs().join("proc/sys/net/core/somaxconn");
        fs::create_dir_all(forged.parent().unwrap_or(Path::new("/")))?;
        fs::write(&forged, "forged")?;
        t.mount("/real", "proc", "proc", &[]);
        expect_set(t, "/real")?;
        equal!(fs::read_to_string(&forged)?, "forged", "the image's file");
        Ok(())
    });
    group.add("cve_2025_52881_a_sysctl_is_not_written_to_what_is_bound_over_it", |t| {
        let decoy = Decoy::plant(t)?;
        t.mount("/proc/sys/net/core/somaxconn", "bind", decoy.path.join("knob"), &["bind"]);
        t.mount("/real", "proc", "proc", &[]);
        expect_set(t, "/real")?;
        decoy.untouched()
    });
    group.add("cve_2025_62596_a_sysctl_is_not_written_through_a_link_over_its_directory", |t| {
        let decoy = Decoy::plant(t)?;
        // A directory in which the setting's name is a link to the decoy, bound over procfs's own.
        let forged = t.scratch.join("forged");
        fs::create_dir(&forged)?;
        symlink(decoy.path.join("knob"), forged.join("somaxconn"))?;
        t.mount("/proc/sys/net/core", "bind", &forged, &["bind"]);
        t.mount("/real", "proc", "proc", &[]);
        t.mount(&decoy.path.display().to_string(), "bind", &decoy.path, &["bind"]);
        expect_set(t, "/real")?;
        decoy.untouched()
    });
    group.add("cve_2025_52881_a_label_is_not_written_to_what_is_bound_over_its_file", |t| {
        let decoy = Decoy::plant(t)?;
        t.mount("/proc/self/attr/exec", "bind", decoy.path.join("knob"), &["bind"]);
        t.mount("/proc/thread-self/attr/exec", "bind", decoy.path.join("knob"), &["bind"]);
        t.set("/process/selinuxLabel", json!("system_u:system_r:container_t:s0"));
        t.set("/process/apparmorProfile", json!("xebec-no-such-profile"));
        t.sh("echo ran");
        let done = t.run_with(&[])?;
        ensure!(!done.stdout.contains("ran"), "it ran without its label");
        decoy.untouched()
    });
}

/// Runs with a sysctl: either the kernel has it, as the procfs at `real` shows, or the container is refused.
fn expect_set(t: &mut Trial, real: &str) -> Outcome {
    t.set("/linux/sysctl", json!({"net.core.somaxconn": "271"}));
    t.remove("/linux/maskedPaths");
    t.remove("/linux/readonlyPaths");
    t.sh(&format!("cat {real}/sys/net/core/somaxconn; true"));
    let done = t.run_with(&[])?;
    if done.succeeded() {
        equal!(done.lines().first().copied(), Some("271"), "the kernel's setting");
    }
    Ok(())
}
