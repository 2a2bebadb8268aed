//! config.md#posix-platform-hooks: six kinds; order, namespaces, state on stdin, failure, timeout.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::case::{Group, Outcome};
use crate::trial::Trial;
use crate::{ensure, equal};

const KINDS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Kinds that run in the runtime's mount namespace, or see its paths before the root switch.
const HOST_KINDS: &[&str] = &["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
pub const BEFORE_START: &[&str] = &["prestart", "createRuntime", "createContainer"];

pub fn group() -> Group {
    let mut group = Group::new("hooks", "config.md#posix-platform-hooks");
    called(&mut group);
    state_on_stdin(&mut group);
    pid_on_stdin(&mut group);
    ordered(&mut group);
    moments(&mut group);
    run_moments(&mut group);
    placed(&mut group);
    views(&mut group);
    arguments(&mut group);
    output(&mut group);
    group
}

pub fn snake(kind: &str) -> String {
    kind.chars().flat_map(|c| if c.is_uppercase() { vec!['_', c.to_ascii_lowercase()] } else { vec![c] }).collect()
}

/// A hook that reads its stdin and then runs a shell script. startContainer's path is looked up
/// inside the container.
pub fn hook(script: &str) -> Value {
    raw_hook(&format!("cat > /dev/null; {script}"))
}

fn raw_hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]})
}

/// Where a script of this kind can leave a file that the test can read.
pub fn place(t: &Trial, kind: &str) -> String {
    if kind == "startContainer" { "/out".into() } else { t.rootfs().join("out").display().to_string() }
}

pub fn whole_life(t: &mut Trial) -> Outcome {
    t.args(&["/bin/true"]);
    t.create_started()?;
    t.wait_for_status("stopped")?;
    t.delete()?;
    Ok(())
}

fn called(group: &mut Group) {
    for kind in KINDS {
        group.add(format!("{}_is_called", snake(kind)), move |t| {
            let place = place(t, kind);
            t.push(&format!("/hooks/{kind}"), hook(&format!("echo yes > {place}/called")));
            whole_life(t)?;
            equal!(fs::read_to_string(t.rootfs().join("out/called"))?, "yes\n", "what the hook wrote");
            Ok(())
        });
        group.add(format!("{}_hooks_are_called_in_the_listed_order", snake(kind)), move |t| {
            let place = place(t, kind);
            for word in ["one", "two", "three"] {
                t.push(&format!("/hooks/{kind}"), hook(&format!("echo {word} >> {place}/order")));
            }
            whole_life(t)?;
            equal!(fs::read_to_string(t.rootfs().join("out/order"))?, "one\ntwo\nthree\n", "order");
            Ok(())
        });
        group.add(format!("{}_that_does_not_read_stdin_is_no_error", snake(kind)), move |t| {
            let big: String = "x".repeat(200_000);
            t.set("/annotations", json!({"big": big}));
            t.push(&format!("/hooks/{kind}"), raw_hook("exec <&-; exit 0"));
            whole_life(t)
        });
    }
}

fn state_on_stdin(group: &mut Group) {
    group.citing("config.md#posix-platform-hooks");
    for kind in KINDS {
        group.add(format!("{}_gets_the_state_on_stdin", snake(kind)), move |t| {
            t.set("/annotations", json!({"com.example.key": "value"}));
            let place = place(t, kind);
            t.push(&format!("/hooks/{kind}"), raw_hook(&format!("cat > {place}/state")));
            whole_life(t)?;
            let state: Value = serde_json::from_str(&fs::read_to_string(t.rootfs().join("out/state"))?)?;
            equal!(state["id"], json!(t.id), "id");
            equal!(state["bundle"], json!(t.bundle), "bundle");
            equal!(state["annotations"]["com.example.key"], json!("value"), "annotation");
            ensure!(state["ociVersion"].is_string(), "ociVersion is missing: {state}");
            let allowed: &[&str] = match *kind {
                "poststart" => &["running", "stopped"],
                "poststop" => &["stopped"],
                "startContainer" => &["created", "creating"],
                _ => &["creating", "created"],
            };
            let status = state["status"].as_str().unwrap_or_default();
            ensure!(allowed.contains(&status), "status is {status:?}, allowed are {allowed:?}");
            Ok(())
        });
    }
}

fn pid_on_stdin(group: &mut Group) {
    group.citing("runtime.md#state");
    for kind in ["prestart", "createRuntime", "poststart"] {
        group.add(format!("{}_gets_the_pid_as_the_runtime_sees_it", snake(kind)), move |t| {
            t.args(&["/bin/sleep", "1000"]);
            let place = place(t, kind);
            t.push(&format!("/hooks/{kind}"), raw_hook(&format!("cat > {place}/state")));
            t.create_started()?;
            let state: Value = serde_json::from_str(&fs::read_to_string(t.rootfs().join("out/state"))?)?;
            equal!(state["pid"].as_i64(), Some(i64::from(t.pid()?)), "pid");
            Ok(())
        });
    }
}

fn ordered(group: &mut Group) {
    group.citing("config.md#summary");
    group.add("create_calls_its_kinds_in_order", |t| {
        for kind in BEFORE_START.iter().rev() {
            let place = place(t, kind);
            t.push(&format!("/hooks/{kind}"), hook(&format!("echo {kind} >> {place}/order")));
        }
        t.create()?;
        equal!(
            fs::read_to_string(t.rootfs().join("out/order"))?,
            "prestart\ncreateRuntime\ncreateContainer\n",
            "order"
        );
        Ok(())
    });
    let why = "runc 1.1.5 calls poststart in create, crun 1.8.1 before startContainer; config.md#summary: `After the user-specified process is executed`";
    group.add_beyond_peers(why, "all_kinds_come_in_the_order_of_the_lifecycle", |t| {
        for kind in KINDS {
            let place = place(t, kind);
            t.push(&format!("/hooks/{kind}"), hook(&format!("echo {kind} >> {place}/order")));
        }
        t.sh("echo payload >> /out/order");
        t.create()?;
        let after_create = fs::read_to_string(t.rootfs().join("out/order"))?;
        equal!(after_create, "prestart\ncreateRuntime\ncreateContainer\n", "order after create");
        t.start()?;
        t.wait_for_status("stopped")?;
        let after_start = fs::read_to_string(t.rootfs().join("out/order"))?;
        let lines: Vec<&str> = after_start.lines().skip(3).collect();
        equal!(lines.first(), Some(&"startContainer"), "first after start");
        // The payload and poststart run at the same time.
        ensure!(lines.contains(&"payload") && lines.contains(&"poststart"), "{after_start}");
        t.delete()?;
        ensure!(fs::read_to_string(t.rootfs().join("out/order"))?.ends_with("poststop\n"), "poststop is not last");
        Ok(())
    });
}

fn moments(group: &mut Group) {
    group.add("start_container_comes_before_the_payload", |t| {
        t.push("/hooks/startContainer", hook("usleep 50000; echo hook >> /out/order"));
        t.sh("echo payload >> /out/order");
        t.create_started()?;
        t.wait_for_status("stopped")?;
        equal!(fs::read_to_string(t.rootfs().join("out/order"))?, "hook\npayload\n", "order");
        Ok(())
    });
    group.add("poststart_ends_before_start_returns", |t| {
        let place = place(t, "poststart");
        t.push("/hooks/poststart", hook(&format!("sleep 0.1; echo done > {place}/done")));
        t.sleeper()?;
        ensure!(t.rootfs().join("out/done").exists(), "start returned before the hook ended");
        Ok(())
    });
    group.add("poststop_runs_on_delete_force_too", |t| {
        let place = place(t, "poststop");
        t.push("/hooks/poststop", hook(&format!("echo done > {place}/done")));
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        ensure!(t.rootfs().join("out/done").exists(), "the hook was not called");
        Ok(())
    });
}

fn run_moments(group: &mut Group) {
    group.add("run_calls_all_kinds", |t| {
        for kind in KINDS {
            let place = place(t, kind);
            t.push(&format!("/hooks/{kind}"), hook(&format!("echo {kind} >> {place}/order")));
        }
        t.args(&["/bin/true"]);
        t.run()?.ok()?;
        let order = fs::read_to_string(t.rootfs().join("out/order"))?;
        for kind in KINDS {
            ensure!(order.contains(kind), "{kind} is missing from {order}");
        }
        Ok(())
    });
}

fn placed(group: &mut Group) {
    group.citing("config.md#summary");
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        group.add(format!("{}_runs_in_the_runtime_namespaces", snake(kind)), move |t| {
            let place = place(t, kind);
            t.push(
                &format!("/hooks/{kind}"),
                hook(&format!("for n in mnt net uts pid; do readlink /proc/self/ns/$n; done > {place}/ns")),
            );
            whole_life(t)?;
            let own: Result<Vec<String>, std::io::Error> = ["mnt", "net", "uts", "pid"]
                .iter()
                .map(|name| Ok(fs::read_link(format!("/proc/self/ns/{name}"))?.display().to_string()))
                .collect();
            let found = fs::read_to_string(t.rootfs().join("out/ns"))?;
            equal!(found.lines().map(String::from).collect::<Vec<_>>(), own?, "namespaces of the hook");
            Ok(())
        });
    }
    for kind in ["createContainer", "startContainer"] {
        group.add(format!("{}_runs_in_the_containers_namespaces", snake(kind)), move |t| {
            let place = place(t, kind);
            t.push(
                &format!("/hooks/{kind}"),
                hook(&format!("for n in mnt net uts; do readlink /proc/self/ns/$n; done > {place}/ns")),
            );
            let payload = t.run_sh("for n in mnt net uts; do readlink /proc/self/ns/$n; done")?;
            equal!(fs::read_to_string(t.rootfs().join("out/ns"))?, payload, "namespaces of the hook");
            Ok(())
        });
    }
}

fn views(group: &mut Group) {
    group.add("create_container_still_sees_the_runtimes_paths", |t| {
        let place = place(t, "createContainer");
        t.push("/hooks/createContainer", hook(&format!("ls -d {0} > {place}/seen", t.bundle.display())));
        whole_life(t)?;
        ensure!(fs::read_to_string(t.rootfs().join("out/seen"))?.contains("bundle"), "the bundle was not visible");
        Ok(())
    });
    group.add("start_container_sees_the_new_root", |t| {
        t.push("/hooks/startContainer", hook("ls / > /out/seen"));
        whole_life(t)?;
        ensure!(
            fs::read_to_string(t.rootfs().join("out/seen"))?.lines().any(|line| line == "out"),
            "the root is another"
        );
        Ok(())
    });
    group.add("create_runtime_can_configure_the_network_namespace", |t| {
        let place = place(t, "createRuntime");
        let script = format!(
            "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -cd 0-9); readlink /proc/$pid/ns/net > {place}/net"
        );
        t.push("/hooks/createRuntime", raw_hook(&script));
        let inside = t.run_sh("readlink /proc/self/ns/net")?;
        equal!(fs::read_to_string(t.rootfs().join("out/net"))?, inside, "network namespace of the pid in the state");
        Ok(())
    });
}

fn arguments(group: &mut Group) {
    for kind in HOST_KINDS {
        group.add(format!("{}_gets_its_arguments_and_environment", snake(kind)), move |t| {
            let script = t.scratch.join("hook");
            let place = place(t, kind);
            fs::write(&script, format!("#!/bin/sh\necho \"$1|$2|$A|$B|$LEAK\" > {place}/words\n"))?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
            t.push(
                &format!("/hooks/{kind}"),
                json!({"path": script, "args": ["zero", "one arg", "two"], "env": ["A=a b", "B="]}),
            );
            whole_life(t)?;
            equal!(fs::read_to_string(t.rootfs().join("out/words"))?, "one arg|two|a b||\n", "words");
            Ok(())
        });
    }
    group.add("a_hook_without_arguments_and_environment_runs", |t| {
        let script = t.scratch.join("hook");
        let place = place(t, "createRuntime");
        fs::write(&script, format!("#!/bin/sh\necho $# > {place}/count\n"))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        t.push("/hooks/createRuntime", json!({"path": script}));
        whole_life(t)?;
        equal!(fs::read_to_string(t.rootfs().join("out/count"))?, "0\n", "count of arguments");
        Ok(())
    });
    group.add("empty_hook_lists_are_fine", |t| {
        for kind in KINDS {
            t.set(&format!("/hooks/{kind}"), json!([]));
        }
        whole_life(t)
    });
}

fn lacks_output() -> Outcome {
    crate::case::skip("requires run.oci.hooks.stdout, which this runtime lacks")
}

/// crun's annotations for where hooks write to.
fn output(group: &mut Group) {
    group.citing("engine contract");
    for kind in KINDS {
        group.add(format!("output_of_{}_is_appended_where_crun_s_annotations_say", snake(kind)), move |t| {
            let [out, err] = ["out", "err"].map(|name| t.scratch.join(format!("hooks.{name}")));
            fs::write(&out, "before\n")?;
            t.give_to_caller(&out)?;
            t.set("/annotations", json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err}));
            for word in ["one", "two"] {
                t.push(&format!("/hooks/{kind}"), hook(&format!("echo {word}; echo {word} failed >&2")));
            }
            whole_life(t)?;
            let said = fs::read_to_string(&out)?;
            if said == "before\n" {
                return lacks_output();
            }
            equal!(said, "before\none\ntwo\n", "what stdout got");
            equal!(fs::read_to_string(&err)?, "one failed\ntwo failed\n", "what stderr got");
            Ok(())
        });
    }
    group.add("files_of_hooks_do_not_reach_the_payload", |t| {
        let out = t.scratch.join("hooks.out");
        t.set("/annotations", json!({"run.oci.hooks.stdout": out}));
        t.push("/hooks/startContainer", hook("echo started"));
        equal!(t.run_sh("ls /proc/self/fd")?, "0\n1\n2\n3\n", "open descriptors; 3 is the directory being listed");
        if !out.exists() {
            return lacks_output();
        }
        equal!(fs::read_to_string(&out)?, "started\n", "what the hook wrote");
        Ok(())
    });
    const LOST: &str = "engine contract: what a config asks for is there or an error; runc ignores the annotation, crun 1.8.1 opens it late";
    for (name, path) in [("that_cannot_be_made", "/no/such/directory/log"), ("that_is_relative", "log")] {
        group.add_beyond_peers(LOST, format!("a_file_for_hooks_{name}_is_refused"), move |t| {
            t.set("/annotations", json!({"run.oci.hooks.stderr": path}));
            t.push("/hooks/createContainer", hook("true"));
            let done = t.run_refused()?;
            ensure!(done.stderr.contains("run.oci.hooks.stderr"), "the annotation is not named: {}", done.stderr);
            Ok(())
        });
    }
}
