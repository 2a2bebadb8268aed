//! config.md#process: who the payload is and what it is given.

use serde_json::json;

use crate::case::Group;
use crate::equal;

pub fn group() -> Group {
    let mut group = Group::new("process", "config.md#process");
    group.add("exit_status_of_run_is_the_payloads", |t| {
        t.sh("exit 42");
        equal!(t.run()?.code, Some(42), "exit status of run");
        Ok(())
    });
    group.add("uid_and_gid_are_applied", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1001}));
        equal!(t.run_sh("id -u; id -g")?, "1000\n1001\n", "ids");
        Ok(())
    });
    group
}
