//! runtime.md#lifecycle: hooks that fail, and hooks that take too long.

use std::time::Duration;

use serde_json::json;

use super::hooks::{BEFORE_START, hook, place, snake, whole_life};
use crate::case::Group;
use crate::ensure;

const START_RETURNS_FIRST: &str =
    "both peers' start returns before the hook ends; runtime.md#lifecycle, steps 7 and 9: `MUST generate an error`";

pub fn group() -> Group {
    let mut group = Group::new("hook_failures", "runtime.md#lifecycle");
    failing(&mut group);
    failing_late(&mut group);
    timed(&mut group);
    group
}

fn failing(group: &mut Group) {
    group.citing("runtime.md#lifecycle");
    for kind in BEFORE_START {
        group.add(format!("a_failing_{}_fails_create_and_leaves_nothing", snake(kind)), move |t| {
            t.push(&format!("/hooks/{kind}"), hook("exit 3"));
            t.create_with(&[])?.refused()?;
            t.expect_unknown()
        });
        group.add(format!("a_missing_{}_program_fails_create", snake(kind)), move |t| {
            t.push(&format!("/hooks/{kind}"), json!({"path": "/no/such/hook"}));
            t.create_with(&[])?.refused()?;
            t.expect_unknown()
        });
    }
    group.add("a_failing_hook_stops_the_hooks_after_it", |t| {
        let place = place(t, "createRuntime");
        t.push("/hooks/createRuntime", hook("exit 1"));
        t.push("/hooks/createRuntime", hook(&format!("echo yes > {place}/second")));
        t.create_with(&[])?.refused()?;
        ensure!(!t.rootfs().join("out/second").exists(), "the second hook ran");
        Ok(())
    });
    group.add("after_a_failing_start_container_the_payload_does_not_run", |t| {
        t.push("/hooks/startContainer", hook("exit 3"));
        t.sh("echo yes > /out/ran");
        t.create()?;
        let id = t.id.clone();
        t.call(&["start", &id]).go()?;
        // Step 12 of the lifecycle: a runtime may already have destroyed it.
        t.wait_for_end()?;
        ensure!(!t.rootfs().join("out/ran").exists(), "the payload ran");
        Ok(())
    });
    group.add_beyond_peers(START_RETURNS_FIRST, "a_failing_start_container_is_reported_by_start", |t| {
        t.push("/hooks/startContainer", hook("exit 3"));
        t.create()?;
        let id = t.id.clone();
        t.call(&["start", &id]).go()?.refused()?;
        Ok(())
    });
}

fn failing_late(group: &mut Group) {
    group.add_beyond_peers(START_RETURNS_FIRST, "a_failing_poststart_is_reported_by_start", |t| {
        t.push("/hooks/poststart", hook("exit 3"));
        t.args(&["/bin/sleep", "1000"]);
        t.create()?;
        let id = t.id.clone();
        t.call(&["start", &id]).go()?.refused()?;
        Ok(())
    });
    group.add("a_failing_poststop_is_only_a_warning", |t| {
        let place = place(t, "poststop");
        t.push("/hooks/poststop", hook("exit 3"));
        t.push("/hooks/poststop", hook(&format!("echo yes > {place}/second")));
        whole_life(t)?;
        t.expect_unknown()?;
        ensure!(t.rootfs().join("out/second").exists(), "the remaining hook was not called");
        Ok(())
    });
    group.citing("engine contract");
    group.add("the_error_of_a_failing_hook_says_what_the_hook_printed", |t| {
        t.push("/hooks/createRuntime", hook("echo tell-tale >&2; exit 3"));
        let done = t.create_with(&[])?.refused()?;
        ensure!(done.stderr.contains("tell-tale"), "stderr: {}", done.stderr);
        Ok(())
    });
}

fn timed(group: &mut Group) {
    group.citing("config.md#posix-platform-hooks");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        group.add(format!("a_{}_beyond_its_timeout_is_aborted", snake(kind)), move |t| {
            let mut slow = hook("exec sleep 100");
            slow["timeout"] = json!(1);
            t.push(&format!("/hooks/{kind}"), slow);
            let done = t.create_with(&[])?.refused()?;
            ensure!(done.took < t.limit(Duration::from_secs(8)), "create took {:?}", done.took);
            Ok(())
        });
        group.add(format!("a_{}_within_its_timeout_is_fine", snake(kind)), move |t| {
            let mut quick = hook("sleep 0.05");
            quick["timeout"] = json!(10);
            t.push(&format!("/hooks/{kind}"), quick);
            whole_life(t)
        });
    }
}
