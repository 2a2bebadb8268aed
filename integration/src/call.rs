//! One call of the tested runtime: words in, exit status and outputs back, with a time limit.
//! stdout and stderr are files, because a created container keeps the runtime's streams open.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{Outcome, Stop, fail};
use crate::sys::await_end;

/// A call that is being put together.
#[derive(Debug)]
pub struct Call {
    pub command: Command,
    pub stdin: Option<Vec<u8>>,
    pub limit: Duration,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

/// A finished call.
#[derive(Clone, Debug)]
pub struct Done {
    pub words: String,
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// A call that is still running.
#[derive(Debug)]
pub struct Live {
    words: String,
    pub child: Child,
    started: Instant,
    limit: Duration,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

impl Call {
    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Call {
        self.stdin = Some(text.as_ref().to_vec());
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Call {
        self.command.env(key, value);
        self
    }

    pub fn cwd(mut self, directory: impl AsRef<std::path::Path>) -> Call {
        self.command.current_dir(directory);
        self
    }

    /// Starts the call and does not wait.
    pub fn spawn(mut self) -> Outcome<Live> {
        let words = render(&self.command);
        self.command.stdout(File::create(&self.stdout)?).stderr(File::create(&self.stderr)?);
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child =
            self.command.spawn().map_err(|error| Stop::Fail(format!("cannot start the runtime: {error}")))?;
        if let (Some(text), Some(mut pipe)) = (self.stdin, child.stdin.take()) {
            pipe.write_all(&text)?;
        }
        let Call { limit, stdout, stderr, .. } = self;
        Ok(Live { words, child, started: Instant::now(), limit, stdout, stderr })
    }

    /// Runs the call to its end; a call that outlives its limit is killed and fails the test.
    pub fn go(self) -> Outcome<Done> {
        self.spawn()?.wait()
    }
}

impl Live {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn wait(mut self) -> Outcome<Done> {
        let left = self.limit.saturating_sub(self.started.elapsed());
        let in_time = match self.child.try_wait()? {
            Some(_) => true,
            None => await_end(self.child.id(), left)?,
        };
        if !in_time {
            self.child.kill()?;
        }
        let status = Some(self.child.wait()?).filter(|_| in_time);
        let done = self.finish(status);
        eprintln!("{}", done.render());
        match status {
            Some(_) => Ok(done),
            None => fail(format!("`{}` did not end within {:?}: a hang", done.words, self.limit)),
        }
    }

    /// What is known of a call that ended with `status`, or without one: killed after its limit.
    pub fn finish(&self, status: Option<ExitStatus>) -> Done {
        Done {
            words: self.words.clone(),
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stdout: lossy(&self.stdout),
            stderr: lossy(&self.stderr),
            took: self.started.elapsed(),
        }
    }
}

impl Done {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Passes on a call that exited 0; fails the test with its stderr otherwise.
    pub fn ok(self) -> Outcome<Done> {
        if self.succeeded() {
            return Ok(self);
        }
        fail(format!("`{}` ended with {}: {}", self.words, self.ending(), self.stderr.trim()))
    }

    /// Passes on a call that exited with an error status of its own, neither 0 nor by a signal.
    pub fn refused(self) -> Outcome<Done> {
        if self.succeeded() {
            return fail(format!("`{}` succeeded; an error was due. stdout: {}", self.words, self.stdout.trim()));
        }
        if self.code.is_none() {
            return fail(format!("`{}` died by signal {:?}; an error was due", self.words, self.signal));
        }
        Ok(self)
    }

    pub fn ending(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status: killed after its time limit".into(),
        }
    }

    /// Lines of stdout, for payloads that print one fact a line.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    fn render(&self) -> String {
        let mut text = format!("$ {}\n# {} after {:?}", self.words, self.ending(), self.took);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text += &format!("\n# {name}: {}", shorten(stream).trim_end());
            }
        }
        text
    }
}

/// Keeps transcripts readable when a payload prints a table.
fn shorten(text: &str) -> String {
    const MOST: usize = 4000;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} bytes in all)", &text[..end], text.len()),
        None => text.to_string(),
    }
}

fn lossy(path: &PathBuf) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn render(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Asks until the answer is yes or the time is over; the last answer counts.
pub fn eventually(limit: Duration, mut ask: impl FnMut() -> Outcome<bool>) -> Outcome<bool> {
    let deadline = Instant::now() + limit;
    loop {
        if ask()? {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(Duration::from_millis(5));
    }
}
