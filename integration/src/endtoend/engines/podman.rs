//! podman, which starts a conmon for each container and has no daemon: as root, and as an ordinary user.

use std::fs;
use std::path::PathBuf;

use crate::call::{Call, Done, eventually};
use crate::case::Outcome;
use crate::trial::{Trial, as_words, has_controller, requires_controller, status_field};
use crate::{ensure, equal};

use super::image;
use super::nested;
use super::session::{LIMIT, Operations, Session, ends_with, perform, remove_cgroups, unmount_storage};
use super::user::User;

const OPERATIONS: Operations<Podman> = &[
    ("load the image", load),
    ("run, with its exit status", run),
    ("run with a terminal", run_terminal),
    ("run detached", run_detached),
    ("exec, with its exit status", exec),
    ("exec with a terminal", exec_terminal),
    ("cp in and out", cp),
    ("top", top),
    ("stats", stats),
    ("pause and unpause", pause),
    ("healthcheck", healthcheck),
    ("stop", stop),
    ("start again", restart),
    ("kill", kill),
    ("a pod of two containers", pod),
    ("volumes", volumes),
    ("--init", init),
    ("--user", user),
    ("--cap-drop", cap_drop),
    ("--security-opt seccomp=PROFILE", seccomp),
    ("--read-only and --tmpfs", read_only),
    ("--memory", memory),
    ("update of the limits", update),
    ("exit status 125: podman itself fails", status_125),
    ("exit status 126: not executable", status_126),
    ("exit status 127: not there", status_127),
    ("rm --force", remove),
    ("xebec in a container with all rights", nested_privileged),
    ("xebec in a container with the usual rights", nested_usual),
];

pub fn as_root(t: &mut Trial) -> Outcome {
    let session = Session::begin(t, "podman")?;
    let home = session.home.clone();
    let mut engine = Podman { session, user: None, home };
    perform(&mut engine, OPERATIONS)?;
    engine.end()?;
    remove_cgroups(&["libpod_parent/conmon", "libpod_parent"])
}

pub fn rootless(t: &mut Trial) -> Outcome {
    let session = Session::begin(t, "podman, rootless")?;
    let user = User::make(&session)?;
    let home = user.home.clone();
    let mut engine = Podman { session, user: Some(user), home };
    perform(&mut engine, OPERATIONS)?;
    engine.end()?;
    engine.user.map_or(Ok(()), User::remove)
}

struct Podman {
    session: Session,
    /// Whom podman runs as, other than root.
    user: Option<User>,
    /// For podman's files.
    home: PathBuf,
}

impl AsMut<Session> for Podman {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Podman {
    fn words(&self, words: &[&str]) -> Vec<String> {
        let place = |name: &str| self.home.join(name).display().to_string();
        let mut all = self.user.as_ref().map(User::prefix).unwrap_or_default();
        all.extend(["podman", "--cgroup-manager=cgroupfs", "--events-backend=file"].map(String::from));
        for (option, name) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
            all.extend([option.to_string(), place(name)]);
        }
        all.extend(["--runtime".to_string(), self.session.runtime.display().to_string()]);
        all.extend(words.iter().map(|word| word.to_string()));
        all
    }

    fn call(&mut self, words: &[&str]) -> Call {
        let words = self.words(words);
        self.session.program(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn podman(&mut self, words: &[&str]) -> Outcome<Done> {
        self.call(words).go()
    }

    /// The words of `run`, with what it needs on a restricted machine.
    fn run_words<'w>(&self, words: &[&'w str]) -> Vec<&'w str> {
        let mut all = vec!["run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=10000:10000"];
        if !has_controller("pids") {
            all.push("--pids-limit=-1");
        }
        all.extend(words);
        all
    }

    fn run(&mut self, words: &[&str]) -> Outcome<Done> {
        let words = self.run_words(&[&["--network=none"], words].concat());
        self.podman(&words)
    }

    /// The pod has the network.
    fn run_in_pod(&mut self, words: &[&str]) -> Outcome<Done> {
        let words = self.run_words(words);
        self.podman(&words)
    }

    fn in_terminal(&mut self, words: &[&str]) -> Outcome<Done> {
        let line = self.words(words).iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        self.session.program(&["script", "-qefc", &line, "/dev/null"]).go()?.ok()
    }

    /// Removes what is left of the containers, and what keeps a user's namespace.
    fn end(&mut self) -> Outcome {
        self.podman(&["pod", "rm", "--all", "--force", "--time", "0"])?;
        self.podman(&["rm", "--all", "--force", "--time", "0"])?;
        if self.user.is_some() {
            self.podman(&["system", "migrate"])?;
        }
        unmount_storage(&self.home.join("root/overlay"))
    }

    fn status(&mut self, name: &str) -> Outcome<String> {
        let done = self.podman(&["inspect", "--format", "{{.State.Status}}", name])?.ok()?;
        Ok(done.stdout.trim().to_string())
    }

    fn expect_status(&mut self, name: &str, wanted: &str) -> Outcome {
        let mut last = String::new();
        let reached = eventually(LIMIT, || {
            last = self.status(name)?;
            Ok(last == wanted)
        })?;
        ensure!(reached, "{name} never became {wanted}; it is {last}");
        Ok(())
    }
}

fn load(engine: &mut Podman) -> Outcome {
    let archive = engine.session.image.display().to_string();
    engine.podman(&["load", "--input", &archive])?.ok()?;
    engine.podman(&["image", "exists", image::NAME])?.ok()?;
    Ok(())
}

fn run(engine: &mut Podman) -> Outcome {
    let done = engine.run(&["--rm", image::NAME, "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    let done = ends_with(done, 7)?;
    equal!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"), "its output");
    Ok(())
}

fn run_terminal(engine: &mut Podman) -> Outcome {
    let words = engine.run_words(&[
        "--network=none",
        "--rm",
        "--tty",
        image::NAME,
        "sh",
        "-c",
        "tty; test -t 0 && echo is one",
    ]);
    let said = engine.in_terminal(&words)?.stdout;
    ensure!(said.contains("/dev/pts/0") && said.contains("is one"), "the terminal says: {said}");
    Ok(())
}

fn run_detached(engine: &mut Podman) -> Outcome {
    let health = ["--health-cmd", "test -e /healthy", "--health-interval", "disable"];
    let words = [
        &["--detach", "--name", "long"],
        &health[..],
        &[image::NAME, "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"],
    ];
    engine.run(&words.concat())?.ok()?;
    engine.expect_status("long", "running")
}

fn exec(engine: &mut Podman) -> Outcome {
    let done = ends_with(engine.podman(&["exec", "long", "sh", "-c", "echo from exec; exit 9"])?, 9)?;
    equal!(done.stdout, "from exec\n", "its output");
    ends_with(engine.podman(&["exec", "long", "/no/such/program"])?, 127)?;
    Ok(())
}

fn exec_terminal(engine: &mut Podman) -> Outcome {
    let said = engine.in_terminal(&["exec", "--tty", "long", "tty"])?.stdout;
    ensure!(said.contains("/dev/pts/"), "the terminal says: {said}");
    Ok(())
}

fn cp(engine: &mut Podman) -> Outcome {
    let [into, back] = ["into", "back"].map(|name| engine.home.join(name));
    fs::write(&into, "there and back\n")?;
    engine.podman(&["cp", &into.display().to_string(), "long:/tmp/copied"])?.ok()?;
    equal!(engine.podman(&["exec", "long", "cat", "/tmp/copied"])?.ok()?.stdout, "there and back\n", "the copy inside");
    engine.podman(&["cp", "long:/tmp/copied", &back.display().to_string()])?.ok()?;
    equal!(fs::read_to_string(&back)?, "there and back\n", "the copy of the copy");
    Ok(())
}

fn top(engine: &mut Podman) -> Outcome {
    let done = engine.podman(&["top", "long", "pid", "comm"])?.ok()?;
    ensure!(done.stdout.lines().any(|line| line.split_whitespace().eq(["1", "sh"])), "top says: {}", done.stdout);
    Ok(())
}

fn stats(engine: &mut Podman) -> Outcome {
    let done = engine.podman(&["stats", "--no-stream", "--format", "{{.Name}}", "long"])?.ok()?;
    equal!(done.stdout.trim(), "long", "whose figures");
    Ok(())
}

fn pause(engine: &mut Podman) -> Outcome {
    engine.podman(&["pause", "long"])?.ok()?;
    equal!(engine.status("long")?, "paused", "the status");
    engine.podman(&["unpause", "long"])?.ok()?;
    equal!(engine.status("long")?, "running", "the status");
    Ok(())
}

fn healthcheck(engine: &mut Podman) -> Outcome {
    ends_with(engine.podman(&["healthcheck", "run", "long"])?, 1)?;
    engine.podman(&["exec", "long", "touch", "/healthy"])?.ok()?;
    engine.podman(&["healthcheck", "run", "long"])?.ok()?;
    Ok(())
}

fn stop(engine: &mut Podman) -> Outcome {
    engine.podman(&["stop", "--time", "20", "long"])?.ok()?;
    engine.expect_status("long", "exited")?;
    let code = engine.podman(&["inspect", "--format", "{{.State.ExitCode}}", "long"])?.ok()?.stdout;
    equal!(code.trim(), "3", "the status that the program chose");
    Ok(())
}

fn restart(engine: &mut Podman) -> Outcome {
    engine.podman(&["start", "long"])?.ok()?;
    engine.expect_status("long", "running")
}

fn kill(engine: &mut Podman) -> Outcome {
    engine.podman(&["kill", "--signal", "KILL", "long"])?.ok()?;
    let code = engine.podman(&["wait", "long"])?.ok()?.stdout;
    equal!(code.trim(), "137", "the exit status");
    Ok(())
}

fn pod(engine: &mut Podman) -> Outcome {
    // podman 4.3 gives the pod's own cgroup a device filter that lets nothing through: no shared parent.
    let pod = ["pod", "create", "--name", "pair", "--network=none", "--share-parent=false"];
    let infra = ["--infra-image", image::NAME, "--infra-command", "/bin/sleep 1000"];
    engine.podman(&[&pod[..], &infra].concat())?.ok()?;
    let serve = "while :; do echo from the server | nc -l -p 8080; done";
    let ask = "for try in $(seq 100); do nc 127.0.0.1 8080 </dev/null && exit 0; sleep 0.1; done; exit 1";
    engine.run_in_pod(&["--detach", "--pod", "pair", "--name", "server", image::NAME, "sh", "-c", serve])?.ok()?;
    let done = engine.run_in_pod(&["--rm", "--pod", "pair", image::NAME, "sh", "-c", ask])?.ok()?;
    equal!(done.stdout, "from the server\n", "what the neighbour hears");
    engine.podman(&["pod", "stop", "--time", "0", "pair"])?.ok()?;
    engine.podman(&["pod", "rm", "--force", "pair"])?.ok()?;
    Ok(())
}

fn volumes(engine: &mut Podman) -> Outcome {
    engine.podman(&["volume", "create", "kept"])?.ok()?;
    engine.run(&["--rm", "--volume", "kept:/data", image::NAME, "sh", "-c", "echo kept >/data/file"])?.ok()?;
    let done = engine.run(&[
        "--rm",
        "--volume",
        "kept:/data:ro",
        image::NAME,
        "sh",
        "-c",
        "cat /data/file; touch /data/no 2>/dev/null || echo ro",
    ])?;
    equal!(done.ok()?.stdout, "kept\nro\n", "what is in the volume");
    let shared = engine.home.join("shared");
    fs::create_dir(&shared)?;
    fs::write(shared.join("file"), "bound\n")?;
    let bind = format!("{}:/data", shared.display());
    equal!(
        engine.run(&["--rm", "--volume", &bind, image::NAME, "cat", "/data/file"])?.ok()?.stdout,
        "bound\n",
        "the bind mount"
    );
    Ok(())
}

fn init(engine: &mut Podman) -> Outcome {
    let done =
        engine.run(&["--rm", "--init", "--init-path", "/usr/bin/tini-static", image::NAME, "cat", "/proc/1/comm"])?;
    equal!(done.ok()?.stdout, "podman-init\n", "the container's process 1");
    Ok(())
}

fn user(engine: &mut Podman) -> Outcome {
    let done = engine.run(&["--rm", "--user", "1000:1000", image::NAME, "id"])?.ok()?;
    ensure!(done.stdout.contains("uid=1000(test) gid=1000(test)"), "id says: {}", done.stdout);
    Ok(())
}

fn cap_drop(engine: &mut Podman) -> Outcome {
    let done =
        engine.run(&["--rm", "--cap-drop", "all", "--cap-add", "chown", image::NAME, "cat", "/proc/self/status"])?;
    equal!(status_field(&done.ok()?.stdout, "CapEff")?, "0000000000000001", "the capabilities");
    Ok(())
}

fn seccomp(engine: &mut Podman) -> Outcome {
    let profile = engine.home.join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    fs::write(&profile, text)?;
    let option = format!("seccomp={}", profile.display());
    let script = "grep Seccomp: /proc/self/status; mkdir /x 2>&1";
    let done = ends_with(engine.run(&["--rm", "--security-opt", &option, image::NAME, "sh", "-c", script])?, 1)?;
    equal!(status_field(&done.stdout, "Seccomp")?, "2", "the seccomp mode");
    ensure!(done.stdout.contains("Operation not permitted"), "mkdir says: {}", done.stdout);
    Ok(())
}

fn read_only(engine: &mut Podman) -> Outcome {
    let script = "touch /no 2>&1; touch /mnt/yes && mount | grep 'on /mnt'";
    let done =
        engine.run(&["--rm", "--read-only", "--tmpfs", "/mnt:size=1m", image::NAME, "sh", "-c", script])?.ok()?;
    ensure!(done.stdout.contains("Read-only file system"), "the root is writable: {}", done.stdout);
    ensure!(done.stdout.contains("size=1024k"), "the tmpfs is: {}", done.stdout);
    Ok(())
}

fn memory(engine: &mut Podman) -> Outcome {
    requires_controller("memory")?;
    let done = engine.run(&["--rm", "--memory", "32m", image::NAME, "cat", "/sys/fs/cgroup/memory.max"])?.ok()?;
    equal!(done.stdout.trim(), (32 << 20).to_string(), "memory.max");
    Ok(())
}

fn update(engine: &mut Podman) -> Outcome {
    requires_controller("memory")?;
    let words = engine.run_words(&["--network=none", "--detach", "--name", "limited", image::NAME]);
    engine.podman(&words)?.ok()?;
    engine.podman(&["update", "--memory", "32m", "limited"])?.ok()?;
    let done = engine.podman(&["exec", "limited", "cat", "/sys/fs/cgroup/memory.max"])?.ok()?;
    equal!(done.stdout.trim(), (32 << 20).to_string(), "memory.max");
    Ok(())
}

fn status_125(engine: &mut Podman) -> Outcome {
    ends_with(engine.run(&["--rm", "--no-such-option", image::NAME])?, 125)?;
    Ok(())
}

fn status_126(engine: &mut Podman) -> Outcome {
    ends_with(engine.run(&["--rm", image::NAME, "/etc/passwd"])?, 126)?;
    Ok(())
}

fn status_127(engine: &mut Podman) -> Outcome {
    ends_with(engine.run(&["--rm", image::NAME, "/no/such/program"])?, 127)?;
    ends_with(engine.run(&["--rm", image::NAME, "no-such-program"])?, 127)?;
    Ok(())
}

fn remove(engine: &mut Podman) -> Outcome {
    engine.run(&["--detach", "--name", "doomed", image::NAME])?.ok()?;
    engine.podman(&["rm", "--force", "--time", "0", "doomed"])?.ok()?;
    ends_with(engine.podman(&["container", "exists", "doomed"])?, 1)?;
    Ok(())
}

fn nested(engine: &mut Podman, rights: &[&str], bundle: &str) -> Outcome {
    let words = nested::words(&engine.session, rights, bundle)?;
    nested::judge(engine.run(&as_words(&words))?)
}

fn nested_privileged(engine: &mut Podman) -> Outcome {
    nested(engine, &["--privileged"], "privileged")
}

/// A new procfs takes one that nothing hides parts of; the engines' profile lets nobody make namespaces.
fn nested_usual(engine: &mut Podman) -> Outcome {
    nested(engine, &["--security-opt", "unmask=ALL", "--security-opt", "seccomp=unconfined"], "usual")
}
