//! config.md#process: terminal and consoleSize, --console-socket, --pidfd-socket, NOTIFY_SOCKET.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::call::Done;
use crate::case::{Group, Outcome};
use crate::console::{DescriptorSocket, read_until, type_in};
use crate::trial::Trial;
use crate::{ensure, equal};

const LIMIT: Duration = Duration::from_secs(5);

pub fn group() -> Group {
    let mut group = Group::new("terminal", "config.md#process");
    inside(&mut group);
    typing(&mut group);
    socket(&mut group);
    foreground(&mut group);
    resized(&mut group);
    exec(&mut group);
    outlived(&mut group);
    pidfds(&mut group);
    notify(&mut group);
    group
}

/// create with a terminal and a console socket; the master side.
fn create_with_terminal(t: &mut Trial, script: &str) -> Outcome<(fs::File, Done)> {
    t.set("/process/terminal", json!(true));
    t.sh(script);
    t.write_config()?;
    let socket = DescriptorSocket::listen(&t.scratch.join("console.sock"))?;
    let (id, bundle, path) = (t.id.clone(), t.bundle.display().to_string(), socket.path.display().to_string());
    let live = t.call(&["create", "--bundle", &bundle, "--console-socket", &path, &id]).spawn()?;
    let master = socket.receive(t.limit(LIMIT));
    let done = live.wait()?.ok()?;
    Ok((master?, done))
}

/// Runs a script on a terminal and returns all that it printed before END.
fn on_terminal(t: &mut Trial, script: &str) -> Outcome<String> {
    let (mut master, _) = create_with_terminal(t, &format!("{script}; echo E''ND"))?;
    t.start()?;
    let text = read_until(&mut master, "END", t.limit(LIMIT))?;
    Ok(text.replace("\r\n", "\n").split("END").next().unwrap_or_default().to_string())
}

fn inside(group: &mut Group) {
    group.add("the_standard_streams_are_a_terminal", |t| {
        equal!(on_terminal(t, "for n in 0 1 2; do test -t $n && echo $n; done")?, "0\n1\n2\n", "terminals");
        Ok(())
    });
    group.add("the_terminal_is_of_the_containers_devpts", |t| {
        let text = on_terminal(t, "tty; ls /dev/pts")?;
        ensure!(text.starts_with("/dev/pts/0\n") || text.starts_with("/dev/console\n"), "{text}");
        ensure!(text.lines().any(|line| line.split_whitespace().any(|word| word == "0")), "no /dev/pts/0: {text}");
        Ok(())
    });
    group.add("dev_tty_is_the_controlling_terminal", |t| {
        equal!(on_terminal(t, "echo through > /dev/tty")?, "through\n", "output");
        Ok(())
    });
    group.citing("config-linux.md#default-devices");
    group.add("dev_console_is_the_terminal", |t| {
        equal!(on_terminal(t, "test -c /dev/console && echo through > /dev/console")?, "through\n", "output");
        Ok(())
    });
    group.citing("config.md#process");
    group.add("console_size_is_applied", |t| {
        t.set("/process/consoleSize", json!({"height": 37, "width": 117}));
        equal!(on_terminal(t, "stty size")?, "37 117\n", "rows and columns");
        Ok(())
    });
    group.add("console_size_without_a_terminal_is_ignored", |t| {
        t.set("/process/consoleSize", json!({"height": 37, "width": 117}));
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    group.add("what_is_typed_reaches_the_payload", |t| {
        let (mut master, _) = create_with_terminal(t, "read line; echo got-$line")?;
        t.start()?;
        type_in(&mut master, "words\n")?;
        read_until(&mut master, "got-words", t.limit(LIMIT))?;
        Ok(())
    });
}

fn typing(group: &mut Group) {
    group.add("control_c_is_an_interrupt", |t| {
        let (mut master, _) =
            create_with_terminal(t, "trap 'echo inter''rupted; exit' 2; echo rea''dy; while :; do usleep 2000; done")?;
        t.start()?;
        read_until(&mut master, "ready", t.limit(LIMIT))?;
        type_in(&mut master, "\u{3}")?;
        read_until(&mut master, "interrupted", t.limit(LIMIT))?;
        Ok(())
    });
    group.add("the_terminal_belongs_to_the_user", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        equal!(on_terminal(t, "stat -L -c %u /proc/self/fd/0")?, "1000\n", "owner");
        Ok(())
    });
    group.add("a_terminal_works_in_a_user_namespace", |t| {
        t.use_user_namespace()?;
        equal!(on_terminal(t, "test -t 0 && echo yes")?, "yes\n", "output");
        Ok(())
    });
}

fn socket(group: &mut Group) {
    group.citing("engine contract");
    group.add("the_master_outlives_create", |t| {
        let (mut master, done) = create_with_terminal(t, "echo la''ter")?;
        ensure!(done.stdout.is_empty(), "create printed {}", done.stdout);
        t.start()?;
        read_until(&mut master, "later", t.limit(LIMIT))?;
        Ok(())
    });
    group.add("a_terminal_without_a_socket_is_refused_by_create", |t| {
        t.set("/process/terminal", json!(true));
        t.create_with(&[])?.refused()?;
        t.expect_unknown()
    });
    group.add("a_console_socket_that_does_not_exist_is_refused", |t| {
        t.set("/process/terminal", json!(true));
        t.create_with(&["--console-socket", "/no/such/socket"])?.refused()?;
        t.expect_unknown()
    });
    group.add("run_detached_uses_the_socket_too", |t| {
        t.set("/process/terminal", json!(true));
        t.sh("echo on-ter''minal; sleep 1000");
        t.write_config()?;
        let socket = DescriptorSocket::listen(&t.scratch.join("console.sock"))?;
        let path = socket.path.display().to_string();
        let live = t.spawn_run(&["-d", "--console-socket", &path])?;
        let master = socket.receive(t.limit(LIMIT));
        live.wait()?.ok()?;
        read_until(&mut master?, "on-terminal", t.limit(LIMIT))?;
        Ok(())
    });
}

fn foreground(group: &mut Group) {
    group.add("run_in_the_foreground_copies_its_own_terminal", |t| {
        t.set("/process/terminal", json!(true));
        t.sh("tty; echo on-ter''minal");
        t.write_config()?;
        let pair = nix::pty::openpty(None, None)?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        let mut command = t.call(&["run", "--bundle", &bundle, &id]).command;
        let side = || -> Outcome<Stdio> { Ok(Stdio::from(pair.slave.try_clone()?)) };
        let mut child = command.stdin(side()?).stdout(side()?).stderr(side()?).spawn()?;
        let mut master = fs::File::from(pair.master);
        let text = read_until(&mut master, "on-terminal", t.limit(LIMIT));
        let ended = crate::call::eventually(t.limit(LIMIT), || Ok(child.try_wait()?.is_some()))?;
        if !ended {
            child.kill()?;
            child.wait()?;
        }
        let text = text?;
        ensure!(text.contains("/dev/pts/") || text.contains("/dev/console"), "{text}");
        ensure!(ended, "run did not end with its payload");
        Ok(())
    });
}

/// A terminal's window changes while the runtime copies: SIGWINCH tells it, as the kernel does from the caller's terminal.
fn resized(group: &mut Group) {
    for verb in ["run", "exec"] {
        group.add(format!("a_new_window_size_reaches_what_{verb}_serves"), move |t| {
            let script =
                "echo up > /out/up; while test \"$(stty size)\" != '33 77'; do usleep 20000; done; echo see''n";
            let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
            let words = match verb {
                "run" => {
                    t.set("/process/terminal", json!(true));
                    t.sh(script);
                    t.write_config()?;
                    vec!["run", "--bundle", &bundle, &id]
                }
                _ => {
                    t.sleeper()?;
                    vec!["exec", "--tty", &id, "/bin/sh", "-c", script]
                }
            };
            let size = |rows, columns| nix::pty::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let pair = nix::pty::openpty(&size(24, 80), None)?;
            let mut command = t.call(&words).command;
            let side = || -> Outcome<Stdio> { Ok(Stdio::from(pair.slave.try_clone()?)) };
            let mut child = command.stdin(side()?).stdout(side()?).stderr(side()?).spawn()?;
            t.wait_for_file(t.rootfs().join("out/up"))?;
            crate::sys::set_window_size(pair.master.as_fd(), &size(33, 77))?;
            kill(Pid::from_raw(child.id() as i32), Signal::SIGWINCH)?;
            let mut master = fs::File::from(pair.master);
            let text = read_until(&mut master, "seen", t.limit(LIMIT));
            if !crate::call::eventually(t.limit(LIMIT), || Ok(child.try_wait()?.is_some()))? {
                child.kill()?;
                child.wait()?;
            }
            text.map(drop)
        });
    }
}

fn exec(group: &mut Group) {
    group.citing("engine contract");
    for flag in ["--tty", "-t"] {
        group.add(format!("exec_{}_gives_a_terminal", flag.trim_start_matches('-')), move |t| {
            t.sleeper()?;
            let socket = DescriptorSocket::listen(&t.scratch.join("console.sock"))?;
            let (id, path) = (t.id.clone(), socket.path.display().to_string());
            let live = t
                .call(&[
                    "exec",
                    flag,
                    "-d",
                    "--console-socket",
                    &path,
                    &id,
                    "/bin/sh",
                    "-c",
                    "test -t 0 && echo on-ter''minal; sleep 999",
                ])
                .spawn()?;
            let master = socket.receive(t.limit(LIMIT));
            live.wait()?.ok()?;
            read_until(&mut master?, "on-terminal", t.limit(LIMIT))?;
            Ok(())
        });
    }
    group.add("exec_with_terminal_in_the_process_file", |t| {
        t.sleeper()?;
        let mut process = t.config["process"].clone();
        process["terminal"] = json!(true);
        process["consoleSize"] = json!({"height": 41, "width": 99});
        process["args"] = json!(["/bin/sh", "-c", "stty size; sleep 999"]);
        let file = t.scratch.join("process.json");
        fs::write(&file, serde_json::to_vec(&process)?)?;
        let socket = DescriptorSocket::listen(&t.scratch.join("console.sock"))?;
        let (id, path, file) = (t.id.clone(), socket.path.display().to_string(), file.display().to_string());
        let live = t.call(&["exec", "--detach", "--process", &file, "--console-socket", &path, &id]).spawn()?;
        let master = socket.receive(t.limit(LIMIT));
        live.wait()?.ok()?;
        read_until(&mut master?, "41 99", t.limit(LIMIT))?;
        Ok(())
    });
}

/// What a program has left behind on its terminal does not keep the runtime.
fn outlived(group: &mut Group) {
    group.add("exec_ends_with_its_program_whoever_goes_on_writing_to_the_terminal", |t| {
        t.sleeper()?;
        let pair = nix::pty::openpty(None, None)?;
        let id = t.id.clone();
        let script = "trap '' HUP; yes & yes & yes & usleep 300000; exit 5";
        let mut command = t.call(&["exec", "--tty", &id, "/bin/sh", "-c", script]).command;
        let side = || -> Outcome<Stdio> { Ok(Stdio::from(pair.slave.try_clone()?)) };
        let mut child = command.stdin(side()?).stdout(side()?).stderr(side()?).spawn()?;
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut master = fs::File::from(pair.master);
        let mut status = None;
        let mut seen = 0;
        // Slower than they write, so that there is always more.
        crate::call::eventually(t.limit(4 * LIMIT), || {
            seen += master.read(&mut [0u8; 1024]).unwrap_or(0);
            status = child.try_wait()?;
            Ok(status.is_some())
        })?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        ensure!(seen > 0, "nobody has written to the terminal");
        equal!(status.and_then(|status| status.code()), Some(5), "exit status of exec");
        Ok(())
    });
}

fn pidfds(group: &mut Group) {
    group.citing("engine contract");
    let why = "--pidfd-socket came with runc 1.2; engine contract: a pidfd of the process over SCM_RIGHTS";
    group.add_beyond_peers(why, "create_sends_a_pidfd", |t| {
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let socket = DescriptorSocket::listen(&t.scratch.join("pidfd.sock"))?;
        let (id, bundle, path) = (t.id.clone(), t.bundle.display().to_string(), socket.path.display().to_string());
        let live = t.call(&["create", "--bundle", &bundle, "--pidfd-socket", &path, &id]).spawn()?;
        let pidfd = socket.receive(t.limit(LIMIT));
        live.wait()?.ok()?;
        pidfd_is_of(&pidfd?, t.pid()?)
    });
    group.add_beyond_peers(why, "exec_sends_a_pidfd", |t| {
        t.sleeper()?;
        let socket = DescriptorSocket::listen(&t.scratch.join("pidfd.sock"))?;
        let (id, path, file) = (t.id.clone(), socket.path.display().to_string(), t.scratch.join("pid"));
        let pid_file = file.display().to_string();
        let live = t
            .call(&["exec", "-d", "--pid-file", &pid_file, "--pidfd-socket", &path, &id, "/bin/sleep", "999"])
            .spawn()?;
        let pidfd = socket.receive(t.limit(LIMIT));
        live.wait()?.ok()?;
        let pid = fs::read_to_string(file)?.parse()?;
        pidfd_is_of(&pidfd?, pid)?;
        Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?)
    });
}

fn notify(group: &mut Group) {
    group.add("a_notify_socket_is_passed_in", |t| {
        let path = t.scratch.join("notify.sock");
        let receiver = UnixDatagram::bind(&path)?;
        receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
        t.sh("test -S \"$NOTIFY_SOCKET\" && echo socket > /out/seen");
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        t.call(&["create", "--bundle", &bundle, &id]).env("NOTIFY_SOCKET", &path).go()?.ok()?;
        let live = t.call(&["start", &id]).env("NOTIFY_SOCKET", &path).spawn()?;
        equal!(t.wait_for_file(t.rootfs().join("out/seen"))?, "socket\n", "what NOTIFY_SOCKET names");
        // A payload that says nothing keeps a runtime that relays READY=1 waiting: end it.
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?;
        let mut live = live;
        live.child.kill()?;
        live.child.wait()?;
        Ok(())
    });
}

/// /proc/self/fdinfo/FD of a pidfd has a line `Pid:`, see pidfd_open(2).
fn pidfd_is_of(pidfd: &fs::File, pid: i32) -> Outcome {
    use std::os::fd::AsRawFd;
    let mut text = String::new();
    fs::File::open(format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd()))?.read_to_string(&mut text)?;
    let found = text.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    equal!(found, Some(pid.to_string().as_str()), "pid behind the descriptor");
    Ok(())
}
