//! A runtime in a container in a container: three deep.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::call::Done;
use crate::case::{Group, Outcome, skip};
use crate::options::View;
use crate::trial::Trial;
use crate::{bundle, ensure, equal};

const DEPTH: usize = 3;
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_ADMIN",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
    "CAP_BPF",
];

pub fn group() -> Group {
    let mut group = Group::new("nesting", "engine contract");
    group.add("three_deep_with_all_rights", |t| {
        nest(t, Inner::Privileged)?;
        equal!(run(t)?, "deep\n", "output of the innermost container");
        Ok(())
    });
    group.add("three_deep_in_user_namespaces", |t| {
        nest(t, Inner::UserNamespace)?;
        equal!(run(t)?, "deep\n", "output of the innermost container");
        Ok(())
    });
    let why = "the peers' errors name no cure; engine contract: the line is all that the user gets to see";
    group.add_beyond_peers(why, "a_masked_proc_is_explained", |t| {
        nest(t, Inner::UserNamespace)?;
        t.set("/linux/maskedPaths", json!(["/proc/interrupts"]));
        // Its /proc is mounted there already, and not yet masked: with `rbind` it would be in sight a second time.
        let mounts = t.config["mounts"].as_array_mut();
        for mount in mounts.into_iter().flatten().filter(|mount| mount["destination"] == "/nest-root") {
            mount["options"] = json!(["bind"]);
        }
        let error = refused(t)?;
        ensure!(error.contains("nothing is mounted over"), "the cause is not told: {error}");
        Ok(())
    });
    group.add_beyond_peers(why, "a_container_without_cap_sys_admin_is_explained", |t| {
        nest(t, Inner::Privileged)?;
        let capabilities: Vec<&str> = CAPABILITIES.iter().copied().filter(|name| *name != "CAP_SYS_ADMIN").collect();
        t.capabilities(&capabilities);
        let error = refused(t)?;
        ensure!(error.contains("CAP_SYS_ADMIN"), "what is missing is not told: {error}");
        Ok(())
    });
    group.add("cgroups_that_are_read_only_leave_no_container_behind", |t| {
        if t.view == View::Host {
            return skip("requires the private view of cgroup v2");
        }
        t.sh("true");
        // As an engine's container has it.
        remount_cgroups(MsFlags::MS_RDONLY)?;
        let done = t.run();
        remount_cgroups(MsFlags::empty())?;
        let done = done?;
        ensure!(done.succeeded() || done.stderr.contains("cgroup"), "the cause is not told: {}", done.stderr);
        t.expect_unknown()
    });
    group
}

fn remount_cgroups(flag: MsFlags) -> Outcome {
    let (none, flags) = (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flag);
    Ok(mount(none, "/sys/fs/cgroup", none, flags, none)?)
}

/// What the second runtime says, which the first one runs.
fn refused(t: &mut Trial) -> Outcome<String> {
    t.write_config()?;
    let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
    let done = t.call(&["run", "--bundle", &bundle, &id]).go()?.refused()?;
    Ok(done.stderr)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    /// Root with all capabilities, as the outermost.
    Privileged,
    /// Root of a user namespace: no capability of the outer container but CAP_SETUID, CAP_SETGID.
    UserNamespace,
}

/// Bundles for every level, each with the runtime and the next level's bundle inside.
fn nest(t: &mut Trial, inner: Inner) -> Outcome {
    let nest = t.scratch.join("nest");
    for level in 2..=DEPTH {
        let mut config = t.config.clone();
        config["root"]["path"] = json!("/nest-root");
        let path = format!("/level-{level}");
        config["linux"]["cgroupsPath"] = json!(path);
        furnish(&mut config, level, inner, Path::new("/nest"), Path::new("/nest-root"), Path::new("/runtime"));
        let directory = nest.join(level.to_string());
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("config.json"), serde_json::to_vec(&config)?)?;
    }
    let (rootfs, runtime) = (t.rootfs(), t.runtime.clone());
    furnish(&mut t.config, 1, inner, &nest, &rootfs, &runtime);
    Ok(())
}

fn furnish(config: &mut Value, level: usize, inner: Inner, nest: &Path, rootfs: &Path, runtime: &Path) {
    let mut bind = |destination: &str, source: &Path| {
        let mount = json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]});
        bundle::set(config, "/mounts/-", mount);
    };
    bind("/nest", nest);
    bind("/nest-root", rootfs);
    bind("/runtime", runtime);
    // A runtime that is not static finds its libraries where the host has them.
    for library in ["/usr", "/lib", "/lib64"] {
        if Path::new(library).exists() {
            bind(library, Path::new(library));
        }
    }
    bundle::set(config, "/mounts/-", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    bundle::set(config, "/linux/maskedPaths", json!([]));
    bundle::set(config, "/linux/readonlyPaths", json!([]));
    bundle::set(config, "/linux/resources", json!({"devices": [{"allow": true, "access": "rwm"}]}));
    for set in ["bounding", "effective", "permitted"] {
        bundle::set(config, &format!("/process/capabilities/{set}"), json!(CAPABILITIES));
    }
    let mounts = config["mounts"].as_array_mut();
    for mount in mounts.into_iter().flatten().filter(|mount| mount["destination"] == "/sys/fs/cgroup") {
        mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
    }
    if inner == Inner::UserNamespace {
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        if let Some(list) = namespaces.filter(|list| level > 1 && !list.iter().any(|n| n["type"] == "user")) {
            list.push(json!({"type": "user"}));
            // A line may not reach over two lines of the outer map.
            let line = |id: u32, size: u32| json!({"containerID": id, "hostID": id, "size": size});
            let own = json!([line(0, 1), line(1, 99)]);
            config["linux"]["uidMappings"] = own.clone();
            config["linux"]["gidMappings"] = own;
        }
        // Nothing is asked for, so that it may be missing.
        if level > 1 {
            bundle::remove(config, "/linux/cgroupsPath");
            bundle::remove(config, "/linux/resources");
        }
    }
    let next = format!("/nest/{}", level + 1);
    let id = format!("level-{}", level + 1);
    let args = match level {
        DEPTH => json!(["/bin/echo", "deep"]),
        _ => json!(["/runtime", "--root", "/tmp/root", "run", "--bundle", next, id]),
    };
    bundle::set(config, "/process/args", args);
}

fn run(t: &mut Trial) -> Outcome<String> {
    let out = go(t)?.ok()?.stdout;
    // Said by the runtime inside: it is a payload of ours.
    t.saw_payload();
    Ok(out)
}

fn go(t: &mut Trial) -> Outcome<Done> {
    t.write_config()?;
    let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
    t.call(&["run", "--bundle", &bundle, &id]).go()
}

/// A runtime with all rights in a container where `call` fails with `errno`; innermost it would print `deep`.
pub fn without_call(t: &mut Trial, call: &str, errno: i32) -> Outcome<Done> {
    nest(t, Inner::Privileged)?;
    let rule = json!({"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    t.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
    go(t)
}
