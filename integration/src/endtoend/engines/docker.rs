//! dockerd with the runtime added by `--add-runtime`, as a machine would have it beside the default one.
//! Without a bridge and firewall rules: containers of these tests have no network.

use std::fs;

use crate::call::{Done, eventually};
use crate::case::{Outcome, fail};
use crate::trial::{Trial, as_words, requires_controller, status_field};
use crate::{ensure, equal};

use super::image;
use super::nested;
use super::session::{Daemon, LIMIT, Operations, Session, ends_with, expect_gone, perform, remove_cgroups};

const OPERATIONS: Operations<Docker> = &[
    ("load the image", load),
    ("run, with its exit status", run),
    ("run with a terminal", run_terminal),
    ("run confined: default profile, read-only root, no capability", run_confined),
    ("run with --init, --user, --tmpfs and a volume", run_options),
    ("run detached", run_detached),
    ("exec, with its exit status", exec),
    ("top", top),
    ("pause and unpause", pause),
    ("update", update),
    ("run with a memory limit", memory),
    ("healthcheck", healthcheck),
    ("stop", stop),
    ("restart", restart),
    ("kill and rm", remove),
    ("restart policy on-failure", on_failure),
    ("restart policy always", always),
    ("exit status 125: docker itself fails", status_125),
    ("exit status 126: not executable", status_126),
    ("exit status 127: not there", status_127),
    ("xebec in a container with all rights", nested_privileged),
    ("xebec in a container with the usual rights", nested_usual),
];

pub fn test(t: &mut Trial) -> Outcome {
    let mut session = Session::begin(t, "docker")?;
    let socket = format!("unix://{}/docker.sock", session.home.display());
    let daemon = start_daemon(&mut session, &socket)?;
    let mut engine = Docker { session, socket };
    let done = perform(&mut engine, OPERATIONS);
    let names = engine.docker(&["ps", "--all", "--quiet"])?.stdout;
    for name in names.lines() {
        engine.docker(&["rm", "--force", name])?;
    }
    daemon.end()?;
    done.and_then(|()| remove_cgroups(&["docker"]))
}

fn start_daemon(session: &mut Session, socket: &str) -> Outcome<Daemon> {
    let place = |name: &str| session.home.join(name).display().to_string();
    let mut words: Vec<String> = ["dockerd", "--host", socket, "--bridge=none"].map(String::from).to_vec();
    words.extend(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"].map(String::from));
    for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "docker.pid")] {
        words.extend([option.to_string(), place(name)]);
    }
    words.extend(["--exec-opt".to_string(), "native.cgroupdriver=cgroupfs".into()]);
    words.extend(["--add-runtime".to_string(), format!("tested={}", session.runtime.display())]);
    let call = session.program(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let mut daemon = Daemon::start(call)?;
    daemon.wait_until(|| Ok(session.program(&["docker", "--host", socket, "version"]).go()?.succeeded()))?;
    Ok(daemon)
}

struct Docker {
    session: Session,
    socket: String,
}

impl AsMut<Session> for Docker {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Docker {
    fn docker(&mut self, words: &[&str]) -> Outcome<Done> {
        self.session.program(&[&["docker", "--host", &self.socket], words].concat()).go()
    }

    fn run(&mut self, words: &[&str]) -> Outcome<Done> {
        self.docker(&[&["run", "--runtime", "tested", "--network", "none"], words].concat())
    }

    fn inspect(&mut self, name: &str, what: &str) -> Outcome<String> {
        let done = self.docker(&["inspect", "--format", &format!("{{{{{what}}}}}"), name])?.ok()?;
        Ok(done.stdout.trim().to_string())
    }

    fn expect(&mut self, name: &str, what: &str, wanted: &str) -> Outcome {
        let mut last = String::new();
        let reached = eventually(LIMIT, || {
            last = self.inspect(name, what)?;
            Ok(last == wanted)
        })?;
        ensure!(reached, "{what} of {name} never became {wanted}; it is {last}");
        Ok(())
    }
}

fn load(engine: &mut Docker) -> Outcome {
    let archive = engine.session.image.display().to_string();
    engine.docker(&["load", "--input", &archive])?.ok()?;
    engine.docker(&["image", "inspect", image::NAME])?.ok()?;
    Ok(())
}

fn run(engine: &mut Docker) -> Outcome {
    let done = engine.run(&["--rm", image::NAME, "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    let done = ends_with(done, 7)?;
    equal!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"), "its output");
    Ok(())
}

fn run_terminal(engine: &mut Docker) -> Outcome {
    let line = format!(
        "docker --host {} run --runtime tested --network none --rm --tty --interactive {} tty",
        engine.socket,
        image::NAME
    );
    let said = engine.session.program(&["script", "-qefc", &line, "/dev/null"]).go()?.ok()?.stdout;
    ensure!(said.contains("/dev/pts/0"), "the terminal says: {said}");
    Ok(())
}

fn run_confined(engine: &mut Docker) -> Outcome {
    let script = "touch /no 2>&1; cat /proc/self/status; unshare -U true 2>&1";
    let words = ["--rm", "--read-only", "--cap-drop", "all", image::NAME, "sh", "-c", script];
    let said = engine.run(&words)?.stdout;
    ensure!(said.contains("Read-only file system"), "the root is writable: {said}");
    equal!(status_field(&said, "Seccomp")?, "2", "the seccomp mode");
    equal!(status_field(&said, "CapEff")?, "0000000000000000", "its capabilities");
    ensure!(said.contains("Operation not permitted"), "unshare is not refused: {said}");
    Ok(())
}

fn run_options(engine: &mut Docker) -> Outcome {
    let script = "cat /proc/1/comm; id -u; mount | grep -c 'on /mnt type tmpfs'; echo kept >/data/file; cat /data/file";
    engine.docker(&["volume", "create", "kept"])?.ok()?;
    // A new volume belongs to root.
    engine.run(&["--rm", "--volume", "kept:/data", image::NAME, "chmod", "777", "/data"])?.ok()?;
    let options = ["--rm", "--init", "--user", "1000", "--tmpfs", "/mnt", "--volume", "kept:/data"];
    let done = engine.run(&[&options[..], &[image::NAME, "sh", "-c", script]].concat())?.ok()?;
    equal!(done.stdout, "docker-init\n1000\n1\nkept\n", "what it sees");
    Ok(())
}

fn run_detached(engine: &mut Docker) -> Outcome {
    let health = ["--health-cmd", "test -e /healthy", "--health-interval", "1s", "--health-retries", "1"];
    let program = [image::NAME, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
    engine.run(&[&["--detach", "--name", "long"], &health[..], &program].concat())?.ok()?;
    engine.expect("long", ".State.Status", "running")
}

fn exec(engine: &mut Docker) -> Outcome {
    let done = ends_with(engine.docker(&["exec", "long", "sh", "-c", "echo from exec; exit 9"])?, 9)?;
    equal!(done.stdout, "from exec\n", "its output");
    // docker 20.10 says 126 for both.
    ends_with(engine.docker(&["exec", "long", "/no/such/program"])?, 126)?;
    ends_with(engine.docker(&["exec", "long", "/etc/passwd"])?, 126)?;
    Ok(())
}

fn top(engine: &mut Docker) -> Outcome {
    let done = engine.docker(&["top", "long", "-o", "pid,comm"])?.ok()?;
    ensure!(done.stdout.lines().any(|line| line.ends_with(" sh")), "top says: {}", done.stdout);
    Ok(())
}

fn pause(engine: &mut Docker) -> Outcome {
    engine.docker(&["pause", "long"])?.ok()?;
    engine.expect("long", ".State.Status", "paused")?;
    engine.docker(&["unpause", "long"])?.ok()?;
    engine.expect("long", ".State.Status", "running")
}

fn update(engine: &mut Docker) -> Outcome {
    engine.docker(&["update", "--restart", "no", "long"])?.ok()?;
    requires_controller("memory")?;
    engine.docker(&["update", "--memory", "64m", "--memory-swap", "64m", "long"])?.ok()?;
    let done = engine.docker(&["exec", "long", "cat", "/sys/fs/cgroup/memory.max"])?.ok()?;
    equal!(done.stdout.trim(), (64 << 20).to_string(), "memory.max");
    Ok(())
}

fn memory(engine: &mut Docker) -> Outcome {
    requires_controller("memory")?;
    let done = engine.run(&["--rm", "--memory", "32m", image::NAME, "cat", "/sys/fs/cgroup/memory.max"])?.ok()?;
    equal!(done.stdout.trim(), (32 << 20).to_string(), "memory.max");
    Ok(())
}

fn healthcheck(engine: &mut Docker) -> Outcome {
    engine.expect("long", ".State.Health.Status", "unhealthy")?;
    engine.docker(&["exec", "long", "touch", "/healthy"])?.ok()?;
    engine.expect("long", ".State.Health.Status", "healthy")
}

fn stop(engine: &mut Docker) -> Outcome {
    engine.docker(&["stop", "--time", "20", "long"])?.ok()?;
    equal!(engine.inspect("long", ".State.ExitCode")?, "3", "the status that the program chose");
    Ok(())
}

fn restart(engine: &mut Docker) -> Outcome {
    engine.docker(&["start", "long"])?.ok()?;
    let first = engine.inspect("long", ".State.Pid")?;
    engine.docker(&["restart", "--time", "20", "long"])?.ok()?;
    ensure!(engine.inspect("long", ".State.Pid")? != first, "the process is the same");
    engine.expect("long", ".State.Status", "running")
}

fn remove(engine: &mut Docker) -> Outcome {
    let pid = engine.inspect("long", ".State.Pid")?.parse()?;
    engine.docker(&["kill", "--signal", "KILL", "long"])?.ok()?;
    expect_gone(pid)?;
    engine.expect("long", ".State.ExitCode", "137")?;
    engine.docker(&["rm", "--force", "long"])?.ok()?;
    engine.docker(&["inspect", "long"])?.refused()?;
    Ok(())
}

fn on_failure(engine: &mut Docker) -> Outcome {
    engine.run(&["--detach", "--name", "failing", "--restart", "on-failure:2", image::NAME, "false"])?.ok()?;
    engine.expect("failing", ".RestartCount", "2")?;
    engine.expect("failing", ".State.Status", "exited")?;
    engine.docker(&["rm", "failing"])?.ok()?;
    Ok(())
}

fn always(engine: &mut Docker) -> Outcome {
    engine.run(&["--detach", "--name", "stubborn", "--restart", "always", image::NAME])?.ok()?;
    let first: i32 = engine.inspect("stubborn", ".State.Pid")?.parse()?;
    // docker leaves alone what `docker kill` has killed; this looks like a crash.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)?;
    engine.expect("stubborn", ".RestartCount", "1")?;
    engine.expect("stubborn", ".State.Status", "running")?;
    let second: i32 = engine.inspect("stubborn", ".State.Pid")?.parse()?;
    if second == first || !fs::exists(format!("/proc/{second}"))? {
        return fail(format!("after process {first} came {second}"));
    }
    engine.docker(&["rm", "--force", "stubborn"])?.ok()?;
    Ok(())
}

fn status_125(engine: &mut Docker) -> Outcome {
    ends_with(engine.run(&["--rm", "--no-such-option", image::NAME])?, 125)?;
    Ok(())
}

fn status_126(engine: &mut Docker) -> Outcome {
    ends_with(engine.run(&["--rm", image::NAME, "/etc/passwd"])?, 126)?;
    Ok(())
}

fn status_127(engine: &mut Docker) -> Outcome {
    ends_with(engine.run(&["--rm", image::NAME, "/no/such/program"])?, 127)?;
    ends_with(engine.run(&["--rm", image::NAME, "no-such-program"])?, 127)?;
    Ok(())
}

fn nested(engine: &mut Docker, rights: &[&str], bundle: &str) -> Outcome {
    let words = nested::words(&engine.session, rights, bundle)?;
    nested::judge(engine.run(&as_words(&words))?)
}

fn nested_privileged(engine: &mut Docker) -> Outcome {
    nested(engine, &["--privileged"], "privileged")
}

/// A new procfs takes one that nothing hides parts of; the engines' profile lets nobody make namespaces.
fn nested_usual(engine: &mut Docker) -> Outcome {
    nested(engine, &["--security-opt", "systempaths=unconfined", "--security-opt", "seccomp=unconfined"], "usual")
}
