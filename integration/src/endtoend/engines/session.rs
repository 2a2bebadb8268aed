//! One engine with one runtime, in a sandbox of their own: what every engine needs (the runtime under
//! its name, the image, a place for the engine's files), calls with a limit, and the record of operations.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::call::{Call, Done, Live, eventually};
use crate::case::{Outcome, Stop, fail};
use crate::endtoend::settings::Settings;
use crate::ensure;
use crate::trial::{Trial, alive};

use super::image;
use super::table::Row;

/// How long one call of an engine may take; containers themselves take milliseconds.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Session {
    engine: &'static str,
    /// The runtime's name in the table.
    column: String,
    /// The runtime as the engine is given it.
    pub runtime: PathBuf,
    /// For the engine's files.
    pub home: PathBuf,
    pub image: PathBuf,
    records: PathBuf,
    calls: usize,
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What one engine can be asked for, in order: later operations may use what earlier ones have made.
pub type Operations<E> = &'static [(&'static str, fn(&mut E) -> Outcome)];

impl Session {
    pub fn begin(trial: &Trial, engine: &'static str) -> Outcome<Session> {
        let settings = Settings::inherited()?;
        let column = settings.runtimes.iter().find(|(_, path)| *path == trial.runtime).map(|(name, _)| name.clone());
        let column = column.unwrap_or_default();
        let home = trial.scratch.join("engine");
        fs::create_dir(&home)?;
        let runtime = install_runtime(trial, &settings, &home)?;
        let image = home.join("busybox.tar");
        image::make(&home.join("image"), &image)?;
        let session = Session { engine, column, runtime, home, image, records: settings.records, calls: 0 };
        session.run("ip", &["link", "set", "lo", "up"])?;
        Ok(session)
    }

    /// Writes down what became of one operation. The engine goes on whatever came of it.
    pub fn record(&self, operation: &str, outcome: Outcome) -> Outcome {
        let row = Row::new(self.engine, operation, &self.column, outcome);
        eprintln!("{}{}", crate::endtoend::REPORT, row.line());
        let mut file = OpenOptions::new().append(true).create(true).open(&self.records)?;
        Ok(writeln!(file, "{}", row.to_json())?)
    }

    /// A call of any program, with a clean environment.
    pub fn program(&mut self, words: &[&str]) -> Call {
        self.calls += 1;
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().env("PATH", PATH).env("HOME", &self.home).current_dir("/");
        let file = |kind: &str| self.home.join(format!("{}.{kind}", self.calls));
        Call { command, stdin: None, limit: LIMIT, stdout: file("stdout"), stderr: file("stderr") }
    }

    /// A tool of the machine that has to succeed.
    pub fn run(&self, program: &str, words: &[&str]) -> Outcome<String> {
        let output = Command::new(program).args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        ensure!(output.status.success(), "{program} {}: {}: {said}", words.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The runtime under its own name in a directory that ordinary users can read, as it is installed;
/// engines know a runtime by the name of its file. What needs a preload library gets a script around it.
fn install_runtime(trial: &Trial, settings: &Settings, home: &Path) -> Outcome<PathBuf> {
    let name = trial.runtime.file_name().unwrap_or_default();
    let directory = home.join("bin");
    fs::create_dir(&directory)?;
    let Some(preload) = settings.preload_for(&trial.runtime) else {
        let installed = directory.join(name);
        fs::copy(&trial.runtime, &installed)?;
        return Ok(installed);
    };
    let library = directory.join("preload.so");
    fs::copy(&preload, &library)?;
    let script = directory.join(name);
    let text = format!("#!/bin/sh\nLD_PRELOAD={} exec {} \"$@\"\n", library.display(), trial.runtime.display());
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Does every operation and records it.
pub fn perform<E: AsMut<Session>>(engine: &mut E, operations: Operations<E>) -> Outcome {
    for (name, body) in operations {
        let outcome = body(engine);
        engine.as_mut().record(name, outcome)?;
    }
    Ok(())
}

/// A call that has to exit with this status.
pub fn ends_with(done: Done, code: i32) -> Outcome<Done> {
    ensure!(
        done.code == Some(code),
        "`{}` ended with {}, not {code}: {}",
        done.words,
        done.ending(),
        done.stderr.trim()
    );
    Ok(done)
}

/// A daemon of an engine: started, waited for, and ended by SIGTERM.
pub struct Daemon {
    live: Live,
}

impl Daemon {
    pub fn start(mut call: Call) -> Outcome<Daemon> {
        call.limit = Duration::from_secs(600);
        Ok(Daemon { live: call.spawn()? })
    }

    /// Waits until the daemon answers.
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> Outcome<bool>) -> Outcome {
        let child = &mut self.live.child;
        let up = eventually(LIMIT, || match child.try_wait()? {
            Some(status) => fail(format!("the daemon ended with {status}")),
            None => ready(),
        });
        match up {
            Ok(true) => Ok(()),
            Ok(false) => fail(format!("the daemon does not answer: {}", self.said())),
            Err(Stop::Fail(message)) => fail(format!("{message}: {}", self.said())),
            Err(stop) => Err(stop),
        }
    }

    pub fn said(&self) -> String {
        let text = fs::read_to_string(&self.live.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    pub fn end(mut self) -> Outcome {
        let pid = self.live.pid();
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let child = &mut self.live.child;
        let ended = eventually(LIMIT, || Ok(child.try_wait()?.is_some()))?;
        ensure!(ended, "the daemon does not end after SIGTERM");
        Ok(())
    }
}

/// Waits until no such process lives.
pub fn expect_gone(pid: i32) -> Outcome {
    let gone = eventually(LIMIT, || Ok(!alive(pid)))?;
    ensure!(gone, "process {pid} lives on");
    Ok(())
}

/// Removes the cgroups that an engine makes for all its containers and keeps; they have to be empty.
pub fn remove_cgroups(paths: &[&str]) -> Outcome {
    for path in paths {
        let path = Path::new("/sys/fs/cgroup").join(path);
        if path.exists() {
            // An engine's own processes may be about to end.
            let removed = eventually(Duration::from_secs(5), || Ok(fs::remove_dir(&path).is_ok()))?;
            ensure!(removed, "{} cannot be removed", path.display());
        }
    }
    Ok(())
}

/// podman and buildah make their storage's directory a mount point of its own, and keep it; those that
/// run at the same time can do it on top of each other.
pub fn unmount_storage(directory: &Path) -> Outcome {
    loop {
        match umount2(directory, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return fail(format!("umount {}: {errno}", directory.display())),
        }
    }
}
