//! One call of a runtime, timed without a polling loop and bounded all the same: waits for the end of
//! file on stderr, which comes when the last process that holds it has ended, then reaps.
//! For calls that leave no process behind; `call` serves the others.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A call that ended with status 0 and said nothing, with its time; otherwise what went wrong.
pub fn quiet(command: &mut Command, limit: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start: {error}"))?;
    let Some(mut stderr) = child.stderr.take() else {
        return Err("no pipe for stderr".into());
    };
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = (begun + limit).saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => {
                // Both fail only when the process is gone meanwhile, and late is late.
                drop(child.kill().and_then(|()| child.wait()));
                return Err(format!("no end after {limit:?}: a hang; stderr: {}", text(&said)));
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(format!("poll: {errno}")),
        }
        match stderr.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => said.extend_from_slice(&chunk[..length]),
            Err(error) => return Err(format!("stderr: {error}")),
        }
    }
    let status = child.wait().map_err(|error| format!("wait: {error}"))?;
    let took = begun.elapsed();
    if status.success() && said.is_empty() {
        return Ok(took);
    }
    Err(format!("{status}; stderr: {}", text(&said)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_string()
}

/// A value below which `part` of the sorted times lie; `part` is between 0 and 1.
pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * part).round() as usize).copied().unwrap_or_default()
}

/// As milliseconds with two decimals.
pub fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
