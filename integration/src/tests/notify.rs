//! sd_notify(3) across the container's border, as engines know it from runc: a caller with
//! $NOTIFY_SOCKET gets READY=1 when the container says it.
//!
//! The tests speak for the container: its socket is reached through /proc/PID/root.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use crate::call::eventually;
use crate::case::{Group, Outcome, fail};
use crate::ensure;
use crate::trial::Trial;

pub fn group() -> Group {
    let mut group = Group::new("notify", "engine contract");
    told(&mut group);
    silent(&mut group);
    filled(&mut group);
    group
}

/// A container that may mount can write where its socket lies, which is a directory of the runtime's.
fn filled(group: &mut Group) {
    group.add("what_a_container_leaves_beside_its_socket_does_not_outlive_it", |t| {
        t.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
        t.remove("/linux/seccomp");
        let script =
            "mount -o remount,bind,rw /run/notify; cd /run/notify && mkdir -p a/b/c && touch a/b/file && chmod 0 a/b";
        t.sh(&format!("{script}; echo done > /out/done; sleep 1000"));
        t.write_config()?;
        let (id, bundle, host) = (t.id.clone(), t.bundle.display().to_string(), host(t));
        let _manager = listen(t)?;
        t.call(&["create", "--bundle", &bundle, &id]).env("NOTIFY_SOCKET", &host).go()?.ok()?;
        let mut start = t.call(&["start", &id]).env("NOTIFY_SOCKET", &host).spawn()?;
        let done = t.wait_for_file(t.rootfs().join("out/done"));
        let deleted = t.call(&["delete", "--force", &id]).go();
        start.child.kill()?;
        start.child.wait()?;
        done?;
        deleted?.ok()?;
        t.expect_unknown()
    });
}

fn host(t: &Trial) -> PathBuf {
    t.scratch.join("notify.sock")
}

/// The service manager.
fn listen(t: &Trial) -> Outcome<UnixDatagram> {
    let socket = UnixDatagram::bind(host(t))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket)
}

/// create and start with $NOTIFY_SOCKET; `start` is left waiting.
fn start(t: &mut Trial) -> Outcome<(crate::call::Live, i32)> {
    t.write_config()?;
    let bundle = t.bundle.display().to_string();
    let id = t.id.clone();
    let host = host(t);
    t.call(&["create", "--bundle", &bundle, &id]).env("NOTIFY_SOCKET", &host).go()?.ok()?;
    let pid = t.pid()?;
    Ok((t.call(&["start", &id]).env("NOTIFY_SOCKET", &host).spawn()?, pid))
}

fn say(pid: i32, message: &str) -> Outcome {
    let inside = format!("/proc/{pid}/root/run/notify/notify.sock");
    let socket = UnixDatagram::unbound()?;
    let said = eventually(Duration::from_secs(5), || Ok(socket.send_to(message.as_bytes(), &inside).is_ok()))?;
    if said { Ok(()) } else { fail(format!("nobody listens on {inside}")) }
}

/// All that the manager hears until `wanted` is among it.
fn hear(manager: &UnixDatagram, wanted: &[&str]) -> Outcome<String> {
    let mut heard = String::new();
    let mut buffer = [0u8; 4096];
    while !wanted.iter().all(|line| heard.lines().any(|there| there == *line)) {
        match manager.recv(&mut buffer) {
            Ok(len) => heard = format!("{heard}{}\n", String::from_utf8_lossy(&buffer[..len])),
            Err(error) => return fail(format!("{error}; the manager has heard {heard:?}, not {wanted:?}")),
        }
    }
    Ok(heard)
}

/// Lets `start` end and deletes the container.
fn finish(t: &mut Trial, manager: UnixDatagram, start: crate::call::Live) -> Outcome {
    // The runtime may wait until the manager has read a barrier too (sd_notify_barrier(3)); a closed
    // socket answers it.
    drop(manager);
    start.wait()?.ok()?;
    t.kill("KILL")?;
    t.wait_for_end()?;
    t.delete().map(drop)
}

fn told(group: &mut Group) {
    group.add("start_waits_for_ready_and_names_init", |t| {
        let manager = listen(t)?;
        t.args(&["/bin/sleep", "1000"]);
        let (start, pid) = start(t)?;
        t.wait_for_status("running")?;
        manager.set_nonblocking(true)?;
        let early = manager.recv(&mut [0u8; 64]);
        ensure!(early.is_err(), "the manager was told something before the container was ready");
        manager.set_nonblocking(false)?;
        say(pid, "READY=1")?;
        hear(&manager, &["READY=1", &format!("MAINPID={pid}")])?;
        finish(t, manager, start)
    });
    let why = "engine contract, sd_notify(3): a message holds any number of lines; runc 1.1.5 does not find READY=1 behind another";
    group.add_beyond_peers(why, "other_words_do_not_reach_the_manager", |t| {
        let manager = listen(t)?;
        t.args(&["/bin/sleep", "1000"]);
        let (start, pid) = start(t)?;
        t.wait_for_status("running")?;
        say(pid, "STOPPING=1\nREADY=1\nMAINPID=1")?;
        let heard = hear(&manager, &["READY=1", &format!("MAINPID={pid}")])?;
        let steered = heard.lines().any(|line| line == "STOPPING=1" || line == "MAINPID=1");
        ensure!(!steered, "the container may not steer the unit: {heard:?}");
        finish(t, manager, start)
    });
    group.add("the_container_knows_where_to_say_it", |t| {
        let _manager = listen(t)?;
        t.sh("echo $NOTIFY_SOCKET >/out/env; test -S $NOTIFY_SOCKET && echo yes >>/out/env");
        let (start, _) = start(t)?;
        start.wait()?.ok()?;
        let said = std::fs::read_to_string(t.rootfs().join("out/env"))?;
        ensure!(said == "/run/notify/notify.sock\nyes\n", "the container sees {said:?}");
        t.wait_for_end()?;
        t.delete().map(drop)
    });
}

fn silent(group: &mut Group) {
    group.add("start_returns_when_the_container_ends_without_a_word", |t| {
        let manager = listen(t)?;
        t.args(&["/bin/true"]);
        let (start, _) = start(t)?;
        start.wait()?.ok()?;
        manager.set_nonblocking(true)?;
        ensure!(manager.recv(&mut [0u8; 64]).is_err(), "the manager was told that a dead container is ready");
        t.wait_for_end()?;
        t.delete().map(drop)
    });
    group.add("without_the_variable_there_is_no_socket", |t| {
        let seen = t.run_sh("echo \"[$NOTIFY_SOCKET]\"; ls /run/notify 2>&1 || true")?;
        ensure!(seen.starts_with("[]\n") && !seen.contains("notify.sock"), "the container sees {seen:?}");
        Ok(())
    });
}
