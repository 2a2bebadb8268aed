//! SCMP_ACT_NOTIFY with a real agent (config-linux.md#containerprocessstate): what the agent is sent, what
//! its answers do, and what a runtime does when it is slow, dies or is not there.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{self as net, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use serde_json::{Value, json};

use super::exec::exec;
use super::seccomp_calls::{filter, getppid, install, lseek, run_calls};
use crate::agent::{Agent, Answer, Heard, Manner};
use crate::call::{Done, eventually};
use crate::case::{Group, Outcome, fail};
use crate::trial::Trial;
use crate::{ensure, equal};

const METADATA: &str = "MKNOD=/dev/null,/dev/net/tun;BPF_MAP_TYPES=hash,array \"\\\u{e9}";

pub fn group() -> Group {
    let mut group = Group::new("seccomp_notify", "config-linux.md#containerprocessstate");
    sent(&mut group);
    group.citing("config-linux.md#seccomp");
    answers(&mut group);
    slow(&mut group);
    absent(&mut group);
    ends(&mut group);
    execve(&mut group);
    everything(&mut group);
    tasks(&mut group);
    flags(&mut group);
    thieves(&mut group);
    group
}

/// Who gets a listener decides about the container's calls: nobody but the agent may.
fn thieves(group: &mut Group) {
    group.citing("engine contract");
    group.add("no_socket_in_the_runtimes_directory_is_open_to_other_users", |t| {
        notify(t, &["getppid"]);
        let _agent = agent(t, Manner::new(Answer::Value(7)))?;
        t.sh("true");
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        t.call_after("umask 0", &["create", "--bundle", &bundle, &id]).go()?.ok()?;
        for entry in fs::read_dir(t.root.join(&id))? {
            let meta = fs::symlink_metadata(entry?.path())?;
            ensure!(!meta.file_type().is_socket() || meta.mode() & 0o077 == 0, "a socket with mode {:o}", meta.mode());
        }
        Ok(())
    });
}

fn socket(t: &Trial) -> PathBuf {
    t.scratch.join("agent.sock")
}

/// These calls wait for the agent.
fn notify(t: &mut Trial, names: &[&str]) {
    filter(t, json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]));
    let path = socket(t);
    t.set("/linux/seccomp/listenerPath", json!(path));
    t.set("/linux/seccomp/listenerMetadata", json!(METADATA));
}

/// Every call does.
fn notify_all(t: &mut Trial) {
    notify(t, &["getppid"]);
    t.set("/linux/seccomp/syscalls", json!([]));
    t.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_NOTIFY"));
}

fn agent(t: &Trial, manner: Manner) -> Outcome<Agent> {
    Agent::listen(&socket(t), manner)
}

/// One descriptor, named, in the first message, one JSON value, and the connection closed.
fn check_form(heard: &Heard) -> Outcome<Value> {
    let state = match &heard.state {
        Ok(state) => state.clone(),
        Err(error) => return crate::case::fail(format!("what was sent is not one JSON value: {error}")),
    };
    equal!(heard.descriptors, [0], "messages that brought descriptors");
    equal!(state["fds"], json!(["seccompFd"]), "fds");
    ensure!(state["ociVersion"].is_string(), "ociVersion is {}", state["ociVersion"]);
    equal!(state["metadata"], json!(METADATA), "metadata");
    Ok(state)
}

/// The state of the container within it (runtime.md#state).
fn check_state(t: &Trial, state: &Value, pid: i32, status: &[&str]) -> Outcome {
    let inner = &state["state"];
    equal!(inner["id"], json!(t.id), "state.id");
    equal!(inner["bundle"], json!(t.bundle), "state.bundle");
    equal!(inner["pid"], json!(pid), "state.pid");
    equal!(inner["annotations"], json!({"org.example.key": "value"}), "state.annotations");
    ensure!(inner["ociVersion"].is_string(), "state.ociVersion is {}", inner["ociVersion"]);
    let said = inner["status"].as_str().unwrap_or_default();
    ensure!(status.contains(&said), "state.status is {said:?}, none of {status:?}");
    Ok(())
}

fn sent(group: &mut Group) {
    group.add("create_and_start_send_the_state_and_one_descriptor", |t| {
        notify(t, &["getppid"]);
        t.set("/annotations", json!({"org.example.key": "value"}));
        let agent = agent(t, Manner::new(Answer::Value(7)))?;
        t.sleeper()?;
        let pid = t.pid()?;
        let heard = agent.heard(1)?;
        let state = check_form(&heard[0])?;
        equal!(state["pid"], json!(pid), "pid");
        // creating where the filter is loaded in `create`, created where `start` loads it.
        check_state(t, &state, pid, &["creating", "created"])
    });
    group.add("run_sends_the_state_and_one_descriptor", |t| {
        notify(t, &["getppid"]);
        t.set("/annotations", json!({"org.example.key": "value"}));
        let agent = agent(t, Manner::new(Answer::Value(7)))?;
        install(t)?;
        t.args(&["/calls", &getppid(), &libc::SYS_getpid.to_string()]);
        let done = t.run()?.ok()?;
        equal!(done.lines(), ["7", "1"], "getppid by the agent's answer, and getpid");
        let state = check_form(&agent.heard(1)?[0])?;
        let pid = state["pid"].as_i64().unwrap_or_default() as i32;
        ensure!(pid > 1, "pid is {pid}, as the container sees it");
        check_state(t, &state, pid, &["creating", "created"])
    });
    let why = "config-linux.md#seccomp: the connection \"MUST be closed after sending a seccomp state\"; both peers keep it for as long as `run` lasts";
    group.add_beyond_peers(why, "the_connection_is_closed", |t| {
        notify(t, &["getppid"]);
        let agent = agent(t, Manner::new(Answer::Value(7)))?;
        t.args(&["/bin/sleep", "1000"]);
        let run = t.spawn_run(&[])?;
        let closed = agent.heard(1)?[0].closed;
        t.wait_for_status("running")?;
        t.kill("KILL")?.ok()?;
        run.wait()?;
        ensure!(closed, "the connection was left open");
        Ok(())
    });
    group.add("exec_sends_the_new_process_and_the_containers_state", |t| {
        notify(t, &["getppid"]);
        t.set("/annotations", json!({"org.example.key": "value"}));
        let agent = agent(t, Manner::new(Answer::Value(7)))?;
        install(t)?;
        t.sleeper()?;
        let file = t.scratch.join("pid");
        let options = ["--pid-file", &*file.display().to_string()];
        equal!(exec(t, &options, &["/calls", &getppid()])?.ok()?.stdout, "7\n", "getppid");
        let pid: i32 = std::fs::read_to_string(&file)?.trim().parse()?;
        // The agent may come to the second connection first.
        let states = agent.heard(2)?.iter().map(check_form).collect::<Outcome<Vec<_>>>()?;
        let Some(state) = states.into_iter().find(|state| state["pid"] == json!(pid)) else {
            return fail(format!("no state with pid {pid} was sent"));
        };
        let init = t.pid()?;
        check_state(t, &state, init, &["running"])
    });
    group.add("the_program_has_no_descriptor_of_it", |t| {
        notify(t, &["getppid"]);
        let _agent = agent(t, Manner::new(Answer::Continue))?;
        equal!(t.run_sh("ls /proc/self/fd")?, "0\n1\n2\n3\n", "open descriptors; 3 is the directory being listed");
        Ok(())
    });
    group.citing("engine contract");
    group.add("crun_s_annotation_names_the_agent_where_the_config_names_none", |t| {
        notify(t, &["getppid"]);
        let path = socket(t);
        t.remove("/linux/seccomp/listenerPath");
        t.remove("/linux/seccomp/listenerMetadata");
        t.set("/annotations", json!({"run.oci.seccomp.receiver": path}));
        let agent = agent(t, Manner::new(Answer::Value(7)))?;
        equal!(run_calls(t, &[getppid()])?.ok()?.stdout, "7\n", "getppid by the agent's answer");
        equal!(agent.heard(1)?[0].descriptors, [0], "messages that brought descriptors");
        Ok(())
    });
    group.citing("config-linux.md#containerprocessstate");
    group.add("a_path_without_notify_is_ignored", |t| {
        filter(t, json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]));
        t.set("/linux/seccomp/listenerPath", json!("/no/such/agent"));
        equal!(run_calls(t, &[getppid()])?.ok()?.stdout, "-1\n", "getppid");
        Ok(())
    });
    let why =
        "config-linux.md#seccomp: listenerMetadata \"MUST NOT be set if listenerPath is not set\"; neither peer looks";
    group.add_beyond_peers(why, "metadata_without_a_path_is_refused", |t| {
        filter(t, json!([{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]));
        t.set("/linux/seccomp/listenerMetadata", json!("x"));
        t.run_refused().map(drop)
    });
}

/// `run` of getppid under an agent of this manner: what getppid returned, and what was asked.
fn asked(t: &mut Trial, manner: Manner) -> Outcome<(Done, Agent)> {
    notify(t, &["getppid"]);
    let agent = agent(t, manner)?;
    let done = run_calls(t, &[getppid(), getppid()])?;
    Ok((done, agent))
}

fn answers(group: &mut Group) {
    for (name, answer, expected) in [
        ("continue_makes_the_call", Answer::Continue, "0\n0\n"),
        ("an_errno_is_returned", Answer::Errno(77), "-77\n-77\n"),
        ("a_value_is_returned", Answer::Value(123_456), "123456\n123456\n"),
    ] {
        group.add(name, move |t| {
            let (done, agent) = asked(t, Manner::new(answer))?;
            equal!(done.ok()?.stdout, expected, "what getppid returns");
            equal!(agent.calls(), [libc::SYS_getppid, libc::SYS_getppid], "calls that the agent was asked about");
            Ok(())
        });
    }
    group.add("only_what_the_conditions_match_is_asked", |t| {
        notify(t, &[]);
        t.set(
            "/linux/seccomp/syscalls",
            json!([{"names": ["lseek"], "action": "SCMP_ACT_NOTIFY",
            "args": [{"index": 1, "value": 1u64 << 32, "op": "SCMP_CMP_EQ"}]}]),
        );
        let agent = agent(t, Manner::new(Answer::Errno(77)))?;
        let done = run_calls(t, &[lseek(",0"), lseek(",0x100000000"), lseek(",1")])?.ok()?;
        equal!(done.lines(), ["-9", "-77", "-9"], "what lseek returns");
        equal!(agent.calls(), [libc::SYS_lseek], "calls that the agent was asked about");
        Ok(())
    });
    group.add("a_filter_without_no_new_privileges_can_notify", |t| {
        t.set("/process/noNewPrivileges", json!(false));
        let (done, _agent) = asked(t, Manner::new(Answer::Value(7)))?;
        equal!(done.ok()?.stdout, "7\n7\n", "what getppid returns");
        Ok(())
    });
    group.add("a_container_with_a_user_namespace_can_notify", |t| {
        t.use_user_namespace()?;
        let (done, _agent) = asked(t, Manner::new(Answer::Value(7)))?;
        equal!(done.ok()?.stdout, "7\n7\n", "what getppid returns");
        Ok(())
    });
    group.add("another_user_can_be_notified_about", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let (done, _agent) = asked(t, Manner::new(Answer::Value(7)))?;
        equal!(done.ok()?.stdout, "7\n7\n", "what getppid returns");
        Ok(())
    });
}

fn slow(group: &mut Group) {
    group.add("an_agent_that_accepts_late_is_waited_for", |t| {
        let manner = Manner { accept_after: Duration::from_secs(2), ..Manner::new(Answer::Value(7)) };
        let (done, agent) = asked(t, manner)?;
        equal!(done.ok()?.stdout, "7\n7\n", "what getppid returns");
        check_form(&agent.heard(1)?[0]).map(drop)
    });
    group.add("a_long_state_reaches_a_slow_agent_whole", |t| {
        let manner = Manner { accept_after: Duration::from_secs(1), ..Manner::new(Answer::Value(7)) };
        notify(t, &["getppid"]);
        // More than a socket's buffer holds.
        let long = "x".repeat(600_000);
        t.set("/annotations", json!({"org.example.long": long}));
        let agent = agent(t, manner)?;
        equal!(run_calls(t, &[getppid()])?.ok()?.stdout, "7\n", "getppid");
        let state = check_form(&agent.heard(1)?[0])?;
        equal!(state["state"]["annotations"]["org.example.long"], json!(long), "annotation");
        Ok(())
    });
    group.add("an_agent_that_answers_late_is_waited_for", |t| {
        let manner = Manner { answer_after: Duration::from_secs(1), ..Manner::new(Answer::Value(7)) };
        let (done, _agent) = asked(t, manner)?;
        equal!(done.ok()?.stdout, "7\n7\n", "what getppid returns");
        Ok(())
    });
    group.add("a_slow_agent_holds_up_no_other_verb", |t| {
        notify(t, &["getppid"]);
        install(t)?;
        let _agent = agent(t, Manner::new(Answer::Silence))?;
        t.args(&["/calls", &getppid()]);
        t.create_started()?;
        t.wait_for_status("running")?;
        t.kill("KILL")?.ok()?;
        t.wait_for_end()?;
        t.delete().map(drop)
    });
    group.add("a_container_that_waits_for_its_agent_can_be_deleted", |t| {
        notify(t, &["execve"]);
        let agent = agent(t, Manner::new(Answer::Silence))?;
        t.create()?;
        let id = t.id.clone();
        let start = t.call(&["start", &id]).spawn()?;
        let limit = t.limit(Duration::from_secs(5));
        ensure!(eventually(limit, || Ok(!agent.calls().is_empty()))?, "the agent was never asked");
        let began = std::time::Instant::now();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        let took = began.elapsed();
        ensure!(took < limit, "delete --force took {took:?}");
        // Whether start had done its work is each runtime's own view; it has to end.
        start.wait().map(drop)
    });
}

fn absent(group: &mut Group) {
    group.add("run_without_an_agent_is_refused_and_leaves_nothing", |t| {
        notify(t, &["getppid"]);
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("agent.sock"), "the refusal does not name the socket: {}", done.stderr);
        Ok(())
    });
    group.add("create_or_start_without_an_agent_is_refused", |t| {
        notify(t, &["getppid"]);
        t.sh("echo > /out/ran");
        let done = t.create_with(&[])?;
        let id = t.id.clone();
        let done = if done.succeeded() { t.call(&["start", &id]).go()? } else { done };
        let done = done.refused()?;
        ensure!(done.stderr.contains("agent.sock"), "the refusal does not name the socket: {}", done.stderr);
        ensure!(!t.rootfs().join("out/ran").exists(), "the program ran without its agent");
        Ok(())
    });
    group.add("exec_without_an_agent_is_refused_and_the_container_goes_on", |t| {
        notify(t, &["getppid"]);
        let mut agent = agent(t, Manner::new(Answer::Continue))?;
        t.sleeper()?;
        agent.end()?;
        let done = exec(t, &[], &["/bin/sh", "-c", "echo > /out/ran"])?.refused()?;
        ensure!(done.stderr.contains("agent.sock"), "the refusal does not name the socket: {}", done.stderr);
        ensure!(!t.rootfs().join("out/ran").exists(), "the program ran without its agent");
        equal!(t.status()?, "running", "status of the container");
        Ok(())
    });
    group.add("a_socket_that_nobody_listens_on_is_refused", |t| {
        notify(t, &["getppid"]);
        drop(UnixListener::bind(socket(t))?);
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("agent.sock"), "the refusal does not name the socket: {}", done.stderr);
        Ok(())
    });
    // crun waits for ever.
    group.add("an_agent_that_never_accepts_is_an_error_after_a_while", |t| {
        notify(t, &["getppid"]);
        let (_listener, waiting) = crowded(t)?;
        ensure!(!waiting.is_empty(), "the socket took no connection");
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("agent.sock"), "the refusal does not name the socket: {}", done.stderr);
        Ok(())
    });
}

/// A socket, and the connections to it that nobody accepts: the kernel makes the next one wait.
fn crowded(t: &Trial) -> Outcome<(OwnedFd, Vec<OwnedFd>)> {
    let address = UnixAddr::new(&socket(t))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let new_socket = || net::socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let listener = new_socket()?;
    net::bind(listener.as_raw_fd(), &address)?;
    net::listen(&listener, Backlog::new(4)?)?;
    let mut all = Vec::new();
    loop {
        let next = new_socket()?;
        match net::connect(next.as_raw_fd(), &address) {
            Ok(()) => all.push(next),
            Err(nix::Error::EAGAIN) => return Ok((listener, all)),
            Err(error) => return Err(error.into()),
        }
    }
}

fn ends(group: &mut Group) {
    group.add("an_agent_that_dies_leaves_enosys", |t| {
        let manner = Manner { die_after: Some(1), ..Manner::new(Answer::Value(7)) };
        let (done, _agent) = asked(t, manner)?;
        equal!(done.ok()?.stdout, "7\n-38\n", "getppid with and without the agent");
        Ok(())
    });
    group.add("an_agent_that_dies_at_once_leaves_enosys", |t| {
        let manner = Manner { die_after: Some(0), ..Manner::new(Answer::Value(7)) };
        let (done, _agent) = asked(t, manner)?;
        equal!(done.ok()?.stdout, "-38\n-38\n", "getppid without the agent");
        Ok(())
    });
    group.add("an_agent_that_dies_leaves_a_container_that_can_be_deleted", |t| {
        notify(t, &["getppid"]);
        let mut agent = agent(t, Manner::new(Answer::Value(7)))?;
        t.sleeper()?;
        agent.end()?;
        equal!(t.status()?, "running", "status");
        t.kill("KILL")?.ok()?;
        t.wait_for_end()?;
        t.delete().map(drop)
    });
}

fn execve(group: &mut Group) {
    group.add("execve_can_be_notified", |t| {
        notify(t, &["execve"]);
        let agent = agent(t, Manner::new(Answer::Continue))?;
        equal!(run_calls(t, &[libc::SYS_getpid.to_string()])?.ok()?.stdout, "1\n", "getpid");
        ensure!(agent.calls().contains(&libc::SYS_execve), "the agent was not asked about execve: {:?}", agent.calls());
        Ok(())
    });
    group.add("execve_of_exec_can_be_notified", |t| {
        notify(t, &["execve"]);
        let manner = Manner { answer_after: Duration::from_millis(300), ..Manner::new(Answer::Continue) };
        let agent = agent(t, manner)?;
        t.sleeper()?;
        equal!(exec(t, &[], &["/bin/echo", "there"])?.ok()?.stdout, "there\n", "output");
        equal!(agent.heard(2)?.len(), 2, "connections");
        Ok(())
    });
    group.add("an_execve_that_the_agent_refuses_is_an_error_that_says_so", |t| {
        notify(t, &["execve"]);
        let _agent = agent(t, Manner::new(Answer::Errno(libc::EACCES)))?;
        let done = t.run_refused()?;
        ensure!(done.stderr.to_lowercase().contains("permission denied"), "{}", done.stderr);
        Ok(())
    });
}

fn everything(group: &mut Group) {
    // runc refuses both, because calls of its own come under the filter; crun does not.
    group.add("notify_may_be_the_default", |t| {
        notify_all(t);
        let agent = agent(t, Manner::new(Answer::Continue))?;
        equal!(run_calls(t, &[getppid(), lseek("")])?.ok()?.stdout, "0\n-9\n", "getppid and lseek");
        for call in [libc::SYS_execve, libc::SYS_getppid, libc::SYS_lseek, libc::SYS_write, libc::SYS_exit_group] {
            ensure!(agent.calls().contains(&call), "call {call} is not among {:?}", agent.calls());
        }
        Ok(())
    });
    group.add("write_can_be_notified", |t| {
        notify(t, &["write"]);
        let agent = agent(t, Manner::new(Answer::Continue))?;
        equal!(run_calls(t, &[getppid()])?.ok()?.stdout, "0\n", "getppid");
        equal!(agent.calls(), [libc::SYS_write], "calls that the agent was asked about");
        Ok(())
    });
    group.add("all_calls_of_create_start_and_exec_can_be_notified", |t| {
        notify_all(t);
        let agent = agent(t, Manner::new(Answer::Continue))?;
        t.sleeper()?;
        equal!(exec(t, &[], &["/bin/echo", "there"])?.ok()?.stdout, "there\n", "output");
        equal!(agent.heard(2)?.len(), 2, "connections");
        Ok(())
    });
}

fn tasks(group: &mut Group) {
    let limit = |t: &mut Trial, most: u32| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        t.set("/process/rlimits", json!([{"type": "RLIMIT_NPROC", "soft": most, "hard": most}]));
    };
    // A runtime may need a second task for a moment, to send the listener from.
    group.add("a_user_with_two_processes_can_be_notified_about", move |t| {
        limit(t, 2);
        let (done, _agent) = asked(t, Manner::new(Answer::Value(7)))?;
        equal!(done.ok()?.stdout, "7\n7\n", "getppid");
        Ok(())
    });
    group.add("a_user_with_one_process_is_notified_about_or_runs_nothing", move |t| {
        limit(t, 1);
        t.sh("echo > /out/ran");
        notify(t, &["getppid"]);
        let agent = agent(t, Manner::new(Answer::Continue))?;
        let done = t.run()?;
        let ran = t.rootfs().join("out/ran").exists();
        ensure!(ran == done.succeeded(), "the program ran: {ran}, and run says: {}", done.stderr);
        ensure!(!ran || agent.heard(1).is_ok(), "the program ran without its agent");
        Ok(())
    });
}

fn flags(group: &mut Group) {
    group.add("without_a_flag_a_signal_ends_the_wait", |t| {
        notify(t, &["getppid"]);
        let agent = agent(t, Manner::new(Answer::Interrupt))?;
        let done = run_calls(t, &[format!("usr1:{}", getppid())])?.ok()?;
        equal!(done.stdout, "-4\n", "getppid");
        let limit = t.limit(Duration::from_secs(5));
        ensure!(eventually(limit, || Ok(!agent.waited().is_empty()))?, "the agent did not look");
        equal!(agent.waited(), [false], "whether the call waits on");
        Ok(())
    });
    let why = "config-linux.md#seccomp: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is newer than both peers";
    group.add_beyond_peers(why, "with_wait_killable_recv_a_signal_waits", |t| {
        notify(t, &["getppid"]);
        t.set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]));
        let agent = agent(t, Manner::new(Answer::Interrupt))?;
        equal!(run_calls(t, &[format!("usr1:{}", getppid())])?.ok()?.stdout, "0\n", "getppid");
        equal!(agent.waited(), [true], "whether the call waits on");
        Ok(())
    });
    let why = "config-linux.md#seccomp lists SECCOMP_FILTER_FLAG_TSYNC and SCMP_ACT_NOTIFY without an exception; the kernel takes the pair only with TSYNC_ESRCH, which neither peer adds";
    group.add_beyond_peers(why, "tsync_and_notify_go_together", |t| {
        notify(t, &["getppid"]);
        t.set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_TSYNC"]));
        let _agent = agent(t, Manner::new(Answer::Value(7)))?;
        equal!(run_calls(t, &[getppid()])?.ok()?.stdout, "7\n", "getppid");
        Ok(())
    });
}
