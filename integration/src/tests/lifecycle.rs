//! create, start, state, kill, delete: what follows what.

use serde_json::json;

use crate::case::Group;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("lifecycle", "runtime.md#create");
    group.add("create_does_not_run_the_payload", |t| {
        t.sh("touch /out/ran");
        t.create()?;
        equal!(t.status()?, "created", "status after create");
        ensure!(!t.rootfs().join("out/ran").exists(), "the payload ran before start");
        Ok(())
    });
    group.citing("runtime.md#start");
    group.add("start_runs_the_payload", |t| {
        t.sh("echo yes > /out/ran");
        t.create_started()?;
        t.wait_for_file(t.rootfs().join("out/ran"))?;
        t.wait_for_status("stopped")
    });
    group.citing("runtime.md#state");
    group.add("a_started_container_is_running", |t| {
        t.sleeper()?;
        equal!(t.status()?, "running", "status after start");
        Ok(())
    });
    group.citing("runtime.md#delete");
    group.add("a_running_container_cannot_be_deleted", |t| {
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["delete", &id]).go()?.refused()?;
        equal!(t.status()?, "running", "status after the refused delete");
        Ok(())
    });
    group.add("a_deleted_id_can_be_used_again", |t| {
        t.args(&["/bin/true"]);
        for _ in 0..2 {
            t.create_started()?;
            t.wait_for_status("stopped")?;
            t.delete()?;
        }
        Ok(())
    });
    group.citing("runtime.md#create");
    group.add("a_failed_create_leaves_nothing", |t| {
        t.set("/root/path", json!("no-such-directory"));
        t.run_refused()?;
        Ok(())
    });
    group
}
