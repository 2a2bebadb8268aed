//! Real servers in containers, asked from outside over a veth pair, ended by `kill ID TERM`, and
//! started again under the same id. What each server is made of stands in one table entry below.

mod clients;
mod engine;
mod network;
mod recorded;
pub mod rootfs;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::call::{Live, eventually};
use crate::case::{Case, Group, Outcome, Stop, fail};
use crate::trial::{Trial, as_words};
use crate::{ensure, equal};

use super::report;
use super::settings::Settings;
use super::stress::expect_empty;
use super::timed::ms;

/// How long a server may take to answer, and to end.
const LIMIT: Duration = Duration::from_secs(30);

/// What makes one server.
#[derive(Clone, Copy)]
struct Server {
    name: &'static str,
    /// Runs from the Debian root file system, otherwise from busybox's.
    debian: bool,
    /// Its user, looked up in the root file system.
    user: &'static str,
    /// Where the kept directory is seen in the container.
    data: &'static str,
    args: &'static [&'static str],
    /// Run once in a container of its own before the first start.
    setup: Option<&'static [&'static str]>,
    /// Changes to the kept directory from outside, before the first start.
    seed: fn(&Path) -> Outcome,
    port: u16,
    /// A question whose answer says that it is up.
    ready: fn(SocketAddr) -> Outcome,
    /// Asks, and compares the answers: round `n` finds what earlier rounds have left.
    ask: fn(SocketAddr, usize) -> Outcome,
    /// Its last word after SIGTERM.
    farewell: &'static str,
}

pub fn cases() -> Vec<Case> {
    let mut group = Group::new("servers", "engine contract");
    for server in [BUSYBOX, NGINX, REDIS, POSTGRESQL] {
        group.add(server.name, move |t| serve(t, &server));
    }
    for server in [NGINX, REDIS] {
        group.add(format!("{}_under_its_recorded_profile", server.name), move |t| recorded::serve(t, &server));
    }
    group.cases
}

const BUSYBOX: Server = Server {
    name: "busybox_httpd",
    debian: false,
    user: "root",
    data: "/mnt",
    // PID 1 gets only the signals it has a handler for, and busybox's httpd has none.
    args: &[
        "/bin/sh",
        "-c",
        "trap 'kill $!; echo farewell; exit 0' TERM; /bin/busybox httpd -f -p 80 -h /mnt & wait $!",
    ],
    setup: None,
    seed: write_page,
    port: 80,
    ready: |address| clients::http_get(address, "/page.html").map(drop),
    ask: ask_page,
    farewell: "farewell",
};

const NGINX: Server = Server {
    name: "nginx",
    debian: true,
    user: "root",
    data: "/var/www/html",
    args: &["/usr/sbin/nginx", "-g", "daemon off; error_log stderr notice;"],
    setup: None,
    seed: write_page,
    port: 80,
    ready: |address| clients::http_get(address, "/page.html").map(drop),
    ask: ask_page,
    farewell: "notice] 1#1: exit",
};

const REDIS: Server = Server {
    name: "redis",
    debian: true,
    user: "redis",
    data: "/data",
    args: &[
        "/usr/bin/redis-server",
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--dir",
        "/data",
        "--save",
        "3600 1",
    ],
    setup: None,
    seed: |_| Ok(()),
    port: 6379,
    ready: |address| {
        equal!(clients::redis(address, &["PING"])?, "PONG", "PING");
        Ok(())
    },
    ask: |address, round| {
        let count = clients::redis(address, &["INCR", "rounds"])?;
        equal!(count, round.to_string(), "a counter that is saved at the end");
        equal!(clients::redis(address, &["SET", "key", "some words"])?, "OK", "SET");
        equal!(clients::redis(address, &["GET", "key"])?, "some words", "GET");
        Ok(())
    },
    farewell: "Redis is now ready to exit, bye bye...",
};

const POSTGRESQL: Server = Server {
    name: "postgresql",
    debian: true,
    user: "postgres",
    data: "/data",
    args: &[
        "/usr/lib/postgresql/15/bin/postgres",
        "-D",
        "/data/main",
        "-c",
        "listen_addresses=*",
        "-c",
        "unix_socket_directories=/tmp",
        "-c",
        "hba_file=/data/hba",
    ],
    setup: Some(&["/usr/lib/postgresql/15/bin/initdb", "--locale=C", "--encoding=UTF8", "--auth=trust", "/data/main"]),
    seed: |data| Ok(fs::write(data.join("hba"), format!("host all all {} trust\n", network::NETWORK))?),
    port: 5432,
    ready: |address| {
        equal!(clients::postgres(address, "SELECT 40 + 2")?, ["42"], "SELECT");
        Ok(())
    },
    ask: |address, round| {
        clients::postgres(address, "CREATE TABLE IF NOT EXISTS rounds (number int)")?;
        clients::postgres(address, &format!("INSERT INTO rounds VALUES ({round})"))?;
        let rows = clients::postgres(address, "SELECT number FROM rounds ORDER BY number")?;
        let expected: Vec<String> = (1..=round).map(|number| number.to_string()).collect();
        equal!(rows, expected, "the rows of this round and the earlier ones");
        Ok(())
    },
    farewell: "database system is shut down",
};

fn write_page(data: &Path) -> Outcome {
    Ok(fs::write(data.join("page.html"), "<p>from outside</p>\n".repeat(2000))?)
}

fn ask_page(address: SocketAddr, _round: usize) -> Outcome {
    let body = clients::http_get(address, "/page.html")?;
    ensure!(body == "<p>from outside</p>\n".repeat(2000), "the page has {} bytes", body.len());
    ensure!(clients::http_get(address, "/absent").is_err(), "a page that is not there is found");
    Ok(())
}

/// How a container is started and which network namespace it gets.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// create and start; joins a namespace that was there before, as Kubernetes has it.
    Joined,
    /// create, wiring of the new namespace, start, as docker has it.
    New,
    /// `run` in the foreground, joined.
    Foreground,
    /// `seccomp record`, joined; adds to what an earlier round has recorded.
    Recorded,
    /// `run` in the foreground, joined, under the recorded profile.
    Replayed,
}

/// A server's container that has been started.
struct Running {
    /// `run` in the foreground; without it the container's process is ours to reap.
    foreground: Option<Live>,
    pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
}

fn serve(t: &mut Trial, server: &Server) -> Outcome {
    let (user, data) = prepare(t, server)?;
    for (round, way) in [Way::Joined, Way::New, Way::Foreground].into_iter().enumerate() {
        one_round(t, server, user, &data, way, round + 1).map_err(|stop| in_round(stop, way))?;
    }
    clear(t, server)
}

/// The server's root file system, its user, and the directory that it keeps.
fn prepare(t: &mut Trial, server: &Server) -> Outcome<((u32, u32), PathBuf)> {
    set_child_subreaper(true)?;
    let settings = Settings::inherited()?;
    let data = t.scratch.join("data");
    fs::create_dir(&data)?;
    if server.debian {
        overlay(t, &settings.debian)?;
    }
    let (uid, gid) = user_of(&t.rootfs(), server.user)?;
    chown(&data, Some(uid), Some(gid))?;
    if let Some(setup) = server.setup {
        configure(t, server, setup, (uid, gid), None, &data)?;
        t.run()?.ok()?;
    }
    (server.seed)(&data)?;
    Ok(((uid, gid), data))
}

/// Nothing is left of any round.
fn clear(t: &Trial, server: &Server) -> Outcome {
    if server.debian {
        umount2(&t.rootfs(), MntFlags::empty())?;
    }
    expect_empty(&t.root)
}

fn in_round(stop: Stop, way: Way) -> Stop {
    match stop {
        Stop::Fail(message) => Stop::Fail(format!("{way:?}: {message}")),
        skip => skip,
    }
}

/// A writable copy of the kept root file system, as an engine's snapshotter makes it.
fn overlay(t: &Trial, debian: &Path) -> Outcome {
    let (upper, work) = (t.scratch.join("upper"), t.scratch.join("work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    let options = format!("lowerdir={},upperdir={},workdir={}", debian.display(), upper.display(), work.display());
    let kind = Some("overlay");
    mount(kind, &t.rootfs(), kind, MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}

/// Numeric user and group of a name in the root file system's passwd(5).
fn user_of(rootfs: &Path, name: &str) -> Outcome<(u32, u32)> {
    let table = fs::read_to_string(rootfs.join("etc/passwd"))?;
    let found = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
    for fields in found {
        if let [user, _, uid, gid, ..] = fields[..]
            && user == name
        {
            return Ok((uid.parse()?, gid.parse()?));
        }
    }
    fail(format!("no user {name} in the root file system"))
}

fn configure(
    t: &mut Trial,
    server: &Server,
    args: &[&str],
    (uid, gid): (u32, u32),
    network: Option<&Path>,
    data: &Path,
) -> Outcome {
    t.config = engine::configuration(&engine::Container {
        args: args.iter().map(|word| word.to_string()).collect(),
        uid,
        gid,
        cgroup: format!("{}/{}", t.cgroup_base(), t.id),
        network,
        volumes: vec![(data, server.data)],
    })?;
    Ok(())
}

fn one_round(t: &mut Trial, server: &Server, user: (u32, u32), data: &Path, way: Way, round: usize) -> Outcome {
    let kept = match way {
        Way::New => None,
        Way::Joined | Way::Foreground | Way::Recorded | Way::Replayed => {
            Some(network::make_namespace(&t.scratch.join("netns"))?)
        }
    };
    if let Some(kept) = &kept {
        network::connect(kept)?;
    }
    configure(t, server, server.args, user, kept.as_deref(), data)?;
    if matches!(way, Way::Replayed) {
        t.set("/linux/seccomp", recorded::profile(t)?);
    }
    t.write_config()?;
    let begun = Instant::now();
    let mut running = start(t, way)?;
    let address = SocketAddr::from((network::SERVER, server.port));
    wait_ready(server, address, &running)?;
    let up = begun.elapsed();
    (server.ask)(address, round)?;
    equal!(t.status()?, "running", "the status while it serves");
    let begun = Instant::now();
    t.kill("TERM")?.ok()?;
    expect_clean_end(t, server, &mut running)?;
    let down = begun.elapsed();
    network::disconnect()?;
    if let Some(kept) = &kept {
        network::remove_namespace(kept)?;
    }
    report!("{way:?}: answers after {}, ended cleanly {} after TERM", ms(up), ms(down));
    Ok(())
}

fn start(t: &mut Trial, way: Way) -> Outcome<Running> {
    let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
    let pid_file = t.scratch.join("init.pid");
    // A foreground run writes it when it is ready: not one of an earlier round.
    if pid_file.exists() {
        fs::remove_file(&pid_file)?;
    }
    let pid_option = pid_file.display().to_string();
    let mut words = match way {
        Way::Joined | Way::New => vec!["create".to_owned()],
        Way::Foreground | Way::Replayed => vec!["run".to_owned()],
        Way::Recorded => recorded::words(t),
    };
    words.extend(["--bundle", &bundle, "--pid-file", &pid_option, &id].map(str::to_owned));
    let call = t.call(&as_words(&words));
    let waits = !matches!(way, Way::Joined | Way::New);
    let (stdout, stderr) = (call.stdout.clone(), call.stderr.clone());
    let mut foreground = None;
    if waits {
        let mut call = call;
        call.limit = LIMIT * 3;
        foreground = Some(call.spawn()?);
        t.wait_for_file(&pid_file)?;
    } else {
        call.go()?.ok()?;
    }
    let pid = Pid::from_raw(fs::read_to_string(&pid_file)?.trim().parse()?);
    if !waits {
        if matches!(way, Way::New) {
            network::connect(Path::new(&format!("/proc/{pid}/ns/net")))?;
        }
        t.start()?;
    }
    Ok(Running { foreground, pid, stdout, stderr })
}

fn wait_ready(server: &Server, address: SocketAddr, running: &Running) -> Outcome {
    let mut last = String::new();
    let ready = eventually(LIMIT, || match (server.ready)(address) {
        Ok(()) => Ok(true),
        Err(Stop::Fail(message)) => {
            last = message;
            Ok(false)
        }
        Err(stop) => Err(stop),
    })?;
    ensure!(ready, "no answer: {last}; it says: {}", said(running));
    Ok(())
}

/// Everything the server has written.
fn said(running: &Running) -> String {
    [&running.stdout, &running.stderr].map(|path| fs::read_to_string(path).unwrap_or_default()).join("")
}

/// The server ends with status 0 and its last word, and nothing knows the container any more.
fn expect_clean_end(t: &mut Trial, server: &Server, running: &mut Running) -> Outcome {
    match running.foreground.take() {
        Some(live) => {
            live.wait()?.ok()?;
        }
        None => {
            let status = reap(running.pid)?;
            let exited = WaitStatus::Exited(running.pid, 0);
            ensure!(status == exited, "it ended with {status:?} and says: {}", said(running));
            t.wait_for_status("stopped")?;
            t.delete()?;
        }
    }
    let log = said(running);
    ensure!(log.contains(server.farewell), "no clean end in its log: {log}");
    t.expect_unknown()
}

fn reap(pid: Pid) -> Outcome<WaitStatus> {
    let mut status = WaitStatus::StillAlive;
    eventually(LIMIT, || {
        status = waitpid(pid, Some(WaitPidFlag::WNOHANG))?;
        Ok(status != WaitStatus::StillAlive)
    })?;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn a_server_that_is_not_root_holds_no_capability() {
        let container = super::engine::Container {
            args: vec!["/bin/true".into()],
            uid: 1,
            gid: 1,
            cgroup: "/x".into(),
            network: None,
            volumes: Vec::new(),
        };
        let config: Value = super::engine::configuration(&container).expect("the profile is JSON");
        assert_eq!(config["process"]["capabilities"]["effective"], json!([]));
    }
}
