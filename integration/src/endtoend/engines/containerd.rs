//! containerd with its own shim, containerd-shim-runc-v2, driven by `ctr`: the daemon's root, state and
//! socket are the session's own.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::call::{Call, Done, Live, eventually};
use crate::case::{Outcome, fail};
use crate::trial::{Trial, alive, has_controller, requires_controller, status_field};
use crate::{ensure, equal};

use super::image;
use super::session::{Daemon, LIMIT, Operations, Session, ends_with, expect_gone, perform, remove_cgroups};

const OPERATIONS: Operations<Containerd> = &[
    ("import the image", import),
    ("run in the foreground, with its exit status", run),
    ("run with a terminal", run_terminal),
    ("run with the native snapshotter", run_native),
    ("run confined: seccomp, read-only root, no capability", run_confined),
    ("run with a bind mount", run_mount),
    ("run with a memory limit", run_limited),
    ("a program that is not there", missing),
    ("run detached", run_detached),
    ("exec, with its exit status", exec),
    ("exec with a terminal", exec_terminal),
    ("pause and resume", pause),
    ("ps", ps),
    ("metrics", metrics),
    ("kill and delete", delete),
    ("events", events),
    ("20 containers at once", twenty),
    ("a shim killed with -9 leaves nothing", killed_shim),
];

/// How many containers run side by side.
const AT_ONCE: usize = 20;

pub fn test(t: &mut Trial) -> Outcome {
    let mut session = Session::begin(t, "containerd")?;
    let (daemon, socket) = start_daemon(&mut session, "")?;
    let mut engine = Containerd { session, socket };
    let done = perform(&mut engine, OPERATIONS);
    daemon.end()?;
    done.and_then(|()| remove_cgroups(&["default"]))
}

struct Containerd {
    session: Session,
    socket: PathBuf,
}

impl AsMut<Session> for Containerd {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// Starts a daemon with `plugins` added to its configuration, and waits until `ctr` gets an answer.
pub fn start_daemon(session: &mut Session, plugins: &str) -> Outcome<(Daemon, PathBuf)> {
    let home = session.home.clone();
    let socket = home.join("containerd.sock");
    let config = home.join("config.toml");
    let [root, state] = ["root", "state"].map(|name| home.join(name).display().to_string());
    let text = format!(
        "version = 2\nroot = \"{root}\"\nstate = \"{state}\"\n[grpc]\n  address = \"{}\"\n{plugins}",
        socket.display()
    );
    fs::write(&config, text)?;
    let mut daemon = Daemon::start(session.program(&["containerd", "--config", &config.display().to_string()]))?;
    daemon.wait_until(|| Ok(ctr(session, &socket, &["version"]).go()?.succeeded()))?;
    Ok((daemon, socket))
}

/// A call of containerd's own client.
pub fn ctr(session: &mut Session, socket: &Path, words: &[&str]) -> Call {
    let address = socket.display().to_string();
    session.program(&[&["ctr", "--address", &address, "--connect-timeout", "5s"], words].concat())
}

impl Containerd {
    fn ctr(&mut self, words: &[&str]) -> Outcome<Done> {
        ctr(&mut self.session, &self.socket, words).go()
    }

    /// The words of `ctr run` with the session's runtime, up to the image.
    fn run_words(&self, options: &[&str], id: &str, program: &[&str]) -> Vec<String> {
        let runtime = self.session.runtime.display().to_string();
        // ctr asks for 1024 shares unless it is told not to.
        let shares: &[&str] = if has_controller("cpu") { &[] } else { &["--cpu-shares", "0"] };
        let words = [&["run", "--runc-binary", &runtime], shares, options, &[image::NAME, id], program].concat();
        words.iter().map(|word| word.to_string()).collect()
    }

    fn run(&mut self, options: &[&str], id: &str, program: &[&str]) -> Outcome<Done> {
        let words = self.run_words(options, id, program);
        self.ctr(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same below a terminal of its own, which script(1) makes.
    fn in_terminal(&mut self, words: &[String]) -> Outcome<Done> {
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let line = format!("ctr --address {} {line}", self.socket.display());
        self.session.program(&["script", "-qefc", &line, "/dev/null"]).go()?.ok()
    }

    /// What `ctr tasks ls` says of a container: pid and status.
    fn task(&mut self, id: &str) -> Outcome<Option<(i32, String)>> {
        let table = self.ctr(&["tasks", "ls"])?.ok()?.stdout;
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        for row in fields {
            if let [name, pid, status] = row[..]
                && name == id
            {
                return Ok(Some((pid.parse()?, status.to_string())));
            }
        }
        Ok(None)
    }

    fn expect_status(&mut self, id: &str, wanted: &str) -> Outcome {
        let mut last = None;
        let reached = eventually(LIMIT, || {
            last = self.task(id)?;
            Ok(last.as_ref().is_some_and(|(_, status)| status == wanted))
        })?;
        ensure!(reached, "{id} never became {wanted}; it is {last:?}");
        Ok(())
    }
}

fn import(engine: &mut Containerd) -> Outcome {
    let archive = engine.session.image.display().to_string();
    engine.ctr(&["images", "import", &archive])?.ok()?;
    let names = engine.ctr(&["images", "ls", "-q"])?.ok()?.stdout;
    ensure!(names.lines().any(|name| name == image::NAME), "the image is called {names}");
    Ok(())
}

fn run(engine: &mut Containerd) -> Outcome {
    let done = engine.run(&["--rm"], "fore", &["sh", "-c", "echo out; echo err >&2; exit 7"])?;
    let done = ends_with(done, 7)?;
    equal!((done.stdout.as_str(), done.stderr.contains("err")), ("out\n", true), "its output");
    Ok(())
}

fn run_terminal(engine: &mut Containerd) -> Outcome {
    let words = engine.run_words(&["--rm", "--tty"], "tty", &["sh", "-c", "tty; test -t 0 && echo is one"]);
    let said = engine.in_terminal(&words)?.stdout;
    ensure!(said.contains("/dev/pts/0") && said.contains("is one"), "the terminal says: {said}");
    Ok(())
}

fn run_native(engine: &mut Containerd) -> Outcome {
    let done = engine.run(&["--rm", "--snapshotter", "native"], "native", &["echo", "native"])?.ok()?;
    equal!(done.stdout, "native\n", "its output");
    Ok(())
}

fn run_confined(engine: &mut Containerd) -> Outcome {
    let mut options = vec!["--rm", "--seccomp", "--read-only"];
    // What containerd gives by default, as far as a payload could notice it.
    for name in [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ] {
        options.extend(["--cap-drop", name]);
    }
    let script = "touch /no 2>&1; cat /proc/self/status; unshare -U true 2>&1";
    let said = engine.run(&options, "confined", &["sh", "-c", script])?.stdout;
    ensure!(said.contains("Read-only file system"), "the root is writable: {said}");
    equal!(status_field(&said, "Seccomp")?, "2", "the seccomp mode");
    equal!(status_field(&said, "CapEff")?, "0000000000000000", "its capabilities");
    ensure!(said.contains("Operation not permitted"), "unshare is not refused: {said}");
    Ok(())
}

fn run_mount(engine: &mut Containerd) -> Outcome {
    let file = engine.session.home.join("shared");
    fs::write(&file, "from outside\n")?;
    let mount = format!("type=bind,src={},dst=/mnt/shared,options=rbind:ro", file.display());
    let script = "cat /mnt/shared; ! echo x 2>/dev/null >/mnt/shared";
    let done = engine.run(&["--rm", "--mount", &mount], "mount", &["sh", "-c", script])?.ok()?;
    equal!(done.stdout, "from outside\n", "the file's text");
    Ok(())
}

fn run_limited(engine: &mut Containerd) -> Outcome {
    requires_controller("memory")?;
    let limit = (32 << 20).to_string();
    let script = "cat /sys/fs/cgroup/memory.max";
    let done = engine.run(&["--rm", "--memory-limit", &limit], "limited", &["sh", "-c", script])?.ok()?;
    equal!(done.stdout.trim(), limit, "memory.max");
    Ok(())
}

fn missing(engine: &mut Containerd) -> Outcome {
    let done = engine.run(&["--rm"], "missing", &["/no/such/program"])?.refused()?;
    ensure!(done.stderr.to_lowercase().contains("no such file"), "the message is: {}", done.stderr);
    equal!(engine.task("missing")?, None, "the task afterwards");
    Ok(())
}

fn run_detached(engine: &mut Containerd) -> Outcome {
    engine.run(&["--detach"], "detached", &["sleep", "1000"])?.ok()?;
    engine.expect_status("detached", "RUNNING")
}

fn exec(engine: &mut Containerd) -> Outcome {
    let words = ["tasks", "exec", "--exec-id", "e1", "detached", "sh", "-c", "echo from exec; exit 9"];
    let done = ends_with(engine.ctr(&words)?, 9)?;
    equal!(done.stdout, "from exec\n", "its output");
    Ok(())
}

fn exec_terminal(engine: &mut Containerd) -> Outcome {
    let words = ["tasks", "exec", "--tty", "--exec-id", "e2", "detached", "tty"].map(String::from);
    let said = engine.in_terminal(&words)?.stdout;
    ensure!(said.contains("/dev/pts/"), "the terminal says: {said}");
    Ok(())
}

fn pause(engine: &mut Containerd) -> Outcome {
    engine.ctr(&["tasks", "pause", "detached"])?.ok()?;
    engine.expect_status("detached", "PAUSED")?;
    engine.ctr(&["tasks", "resume", "detached"])?.ok()?;
    engine.expect_status("detached", "RUNNING")
}

fn ps(engine: &mut Containerd) -> Outcome {
    let Some((pid, _)) = engine.task("detached")? else {
        return fail("no such task");
    };
    let table = engine.ctr(&["tasks", "ps", "detached"])?.ok()?.stdout;
    let found = table.lines().skip(1).any(|line| line.split_whitespace().next() == Some(&pid.to_string()));
    ensure!(found, "{pid} is not in: {table}");
    Ok(())
}

fn metrics(engine: &mut Containerd) -> Outcome {
    let done = engine.ctr(&["tasks", "metrics", "detached"])?.ok()?;
    ensure!(done.stdout.contains("cpu.usage_usec"), "the metrics are: {}", done.stdout);
    Ok(())
}

fn delete(engine: &mut Containerd) -> Outcome {
    let Some((pid, _)) = engine.task("detached")? else {
        return fail("no such task");
    };
    engine.ctr(&["tasks", "kill", "--signal", "KILL", "detached"])?.ok()?;
    expect_gone(pid)?;
    engine.expect_status("detached", "STOPPED")?;
    let said = engine.ctr(&["tasks", "delete", "detached"])?.ok()?.stderr;
    ensure!(said.contains("exit code 137"), "of the exit status it says: {said}");
    engine.ctr(&["containers", "delete", "detached"])?.ok()?;
    equal!(engine.task("detached")?, None, "the task afterwards");
    Ok(())
}

fn events(engine: &mut Containerd) -> Outcome {
    let mut listener: Live = ctr(&mut engine.session, &engine.socket, &["events"]).spawn()?;
    let text = listener.stdout.clone();
    let mut rounds = 0;
    // The listener does not say when it listens: containers run until it has heard of one.
    let heard = eventually(LIMIT, || {
        rounds += 1;
        engine.run(&["--rm"], &format!("event-{rounds}"), &["true"])?.ok()?;
        let said = fs::read_to_string(&text)?;
        Ok(["create", "start", "exit", "delete"].iter().all(|what| said.contains(&format!("/tasks/{what}"))))
    });
    listener.child.kill()?;
    listener.child.wait()?;
    ensure!(heard?, "after {rounds} containers the events are: {}", fs::read_to_string(&text)?);
    Ok(())
}

fn twenty(engine: &mut Containerd) -> Outcome {
    let mut running = Vec::new();
    for number in 0..AT_ONCE {
        let said = format!("container {number}");
        let words = engine.run_words(&["--rm"], &format!("many-{number}"), &["echo", &said]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        running.push((said, ctr(&mut engine.session, &engine.socket, &words).spawn()?));
    }
    for (said, live) in running {
        equal!(live.wait()?.ok()?.stdout.trim_end(), said, "the output");
    }
    Ok(())
}

fn killed_shim(engine: &mut Containerd) -> Outcome {
    engine.run(&["--detach"], "orphan", &["sleep", "1000"])?.ok()?;
    let Some((pid, _)) = engine.task("orphan")? else {
        return fail("no such task");
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let shim: i32 = status_field(&status, "PPid")?.parse()?;
    let name = fs::read_to_string(format!("/proc/{shim}/comm"))?;
    ensure!(name.starts_with("containerd-shim"), "the container's parent is {name}");
    kill(Pid::from_raw(shim), Signal::SIGKILL)?;
    expect_gone(pid)?;
    let forgotten = eventually(LIMIT, || Ok(engine.task("orphan")?.is_none()))?;
    ensure!(forgotten, "containerd still knows the task");
    let state = Path::new("/run/containerd/runc/default/orphan");
    let cgroup = Path::new("/sys/fs/cgroup/default/orphan");
    let gone = eventually(LIMIT, || Ok(!state.exists() && !cgroup.exists() && !alive(shim)))?;
    ensure!(gone, "left: state {}, cgroup {}, shim {}", state.exists(), cgroup.exists(), alive(shim));
    engine.ctr(&["containers", "delete", "orphan"])?.ok()?;
    Ok(())
}
