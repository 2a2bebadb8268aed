//! Holes that OCI runtimes have had, each tried with what an image or a config can plant.
//!
//! A beginning: the races and the rest of the list need attackers of their own.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::case::{Group, Outcome, fail};
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("hostile", "engine contract");
    own_binary(&mut group);
    inherited_descriptors(&mut group);
    planted_links(&mut group);
    group
}

/// CVE-2019-5736: what a container reaches through /proc/PID/exe must not be the host's file, writable.
fn own_binary(group: &mut Group) {
    group.add("cve_2019_5736_the_executable_of_init_cannot_be_written", |t| {
        t.args(&["/bin/true"]);
        t.create()?;
        let exe = format!("/proc/{}/exe", t.pid()?);
        let path = CString::new(exe.as_str()).map_err(|e| std::io::Error::other(e.to_string()))?;
        let read_only = nix::sys::statvfs::statvfs(path.as_c_str())
            .map_err(std::io::Error::from)?
            .flags()
            .contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
        // A copy in memory has no name that could be opened for writing by the host's path.
        let copy = fs::read_link(&exe)?.to_string_lossy().contains("memfd:");
        ensure!(read_only || copy, "{exe} lies on a writable mount");
        Ok(())
    });
}

/// CVE-2024-21626: a working directory through a descriptor that the runtime has open.
///
/// Debian's runc 1.1.5 has the fix, so no runtime at hand fails these.
fn inherited_descriptors(group: &mut Group) {
    for number in 3..=12 {
        group.add(format!("cve_2024_21626_a_cwd_through_descriptor_{number}_does_not_lead_out"), move |t| {
            fs::write(t.scratch.join("host-only"), "")?;
            t.set("/process/cwd", json!(format!("/proc/self/fd/{number}")));
            let host = t.scratch.display().to_string();
            // From a directory of the host, enough dots lead to the host's root.
            t.sh(&format!("test -e ../../../../../../../../../..{host}/host-only && echo escaped; true"));
            let done = t.run_with(&[])?;
            ensure!(!done.stdout.contains("escaped"), "the payload sees the host's files");
            Ok(())
        });
    }
}

const DEV_LINK: &str = "engine contract: nothing of the host changes; Debian's runc 1.1.5 and crun 1.8.1 have the hole";

fn without_dev(t: &mut Trial) -> Outcome {
    let Some(mounts) = t.config.pointer("/mounts").and_then(|mounts| mounts.as_array()).cloned() else {
        return fail("the default bundle has no mounts");
    };
    let kept = mounts.into_iter().filter(|mount| !mount["destination"].as_str().unwrap_or("").starts_with("/dev"));
    t.set("/mounts", kept.collect());
    t.set("/root/readonly", json!(false));
    Ok(())
}

/// CVE-2026-41579, CVE-2025-31133 and their kin: links in the image where the runtime makes or looks for files.
fn planted_links(group: &mut Group) {
    for (name, relative) in [("absolute", false), ("relative", true)] {
        group.add_beyond_peers(
            DEV_LINK,
            format!("cve_2026_41579_a_dev_that_is_a_link_{name}_leads_to_nothing_of_the_host"),
            move |t| {
                without_dev(t)?;
                let decoy = t.scratch.join("decoy");
                fs::create_dir(&decoy)?;
                fs::write(decoy.join("ptmx"), "the host's")?;
                let dev = t.rootfs().join("dev");
                fs::remove_dir_all(&dev).or_else(|e| if dev.exists() { Err(e) } else { Ok(()) })?;
                let up = "../".repeat(12);
                let target = decoy.display().to_string();
                symlink(if relative { format!("{up}{}", target.trim_start_matches('/')) } else { target }, &dev)?;
                t.sh("true");
                // It may run, with its devices inside the root, or be refused.
                t.run_with(&[])?;
                let names: Vec<_> = fs::read_dir(&decoy)?.flatten().map(|entry| entry.file_name()).collect();
                equal!(names, ["ptmx"], "what lies in the host's directory");
                equal!(fs::read_to_string(decoy.join("ptmx"))?, "the host's", "the host's file");
                Ok(())
            },
        );
    }
    group.add("cve_2025_31133_a_dev_null_that_is_a_link_masks_nothing_else", |t| {
        without_dev(t)?;
        let decoy = t.scratch.join("knob");
        fs::write(&decoy, "as it was")?;
        t.mount("/out/knob", "bind", &decoy, &["bind"]);
        let dev = t.rootfs().join("dev");
        fs::create_dir_all(&dev)?;
        let null = dev.join("null");
        fs::remove_file(&null).or_else(|e| if null.exists() { Err(e) } else { Ok(()) })?;
        symlink("/out/knob", null)?;
        t.set("/linux/maskedPaths", json!(["/proc/keys"]));
        t.sh("echo written > /proc/keys; cat /proc/keys");
        let done = t.run_with(&[])?;
        ensure!(!done.stdout.contains("as it was"), "the mask is the file that the link names");
        equal!(fs::read_to_string(&decoy)?, "as it was", "the file that the link names");
        Ok(())
    });
}
