//! The one place where errors and warnings are written: stderr and `--log`.
//!
//! A failed command writes exactly one error record to `--log` and one line to stderr.
//! containerd shows the last error record of the log to the user as the whole cause; engines
//! without the log read stderr; so both always get it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use xebec::Error;

use super::args::{Global, Level, LogFormat, LogTarget};

const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

/// Where this command's messages go.
#[derive(Debug)]
pub struct Log {
    target: Option<LogTarget>,
    format: LogFormat,
    level: Level,
}

impl Log {
    /// Opens nothing: a log is opened for its first record, and most commands have none.
    pub fn new(global: &Global) -> Log {
        let target = match &global.log {
            // Later the working directory may be another.
            Some(LogTarget::File(path)) => Some(LogTarget::File(absolute(path))),
            other => other.clone(),
        };
        Log { target, format: global.log_format, level: global.level() }
    }

    /// Tells why the command failed: once in the log, once on stderr.
    pub fn fail(&self, error: &Error) {
        let message = error.to_string();
        if self.target.is_some() {
            self.record(Level::Error, &message);
            to_stderr(&format!("xebec: {message}\n"));
        } else {
            self.record(Level::Error, &message);
        }
    }

    /// Tells what could not be had and is no error.
    pub fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            self.record(Level::Warning, warning);
        }
    }

    /// Writes one message to the log, or to stderr when there is none.
    pub fn record(&self, level: Level, message: &str) {
        if level > self.level {
            return;
        }
        let written = match &self.target {
            Some(LogTarget::File(path)) => append(path, &line(self.format, level, message, SystemTime::now())),
            Some(LogTarget::Journald(name)) => datagram(JOURNAL, &journal_entry(name, level, message)),
            Some(LogTarget::Syslog(name)) => datagram(SYSLOG, syslog_line(name, level, message).as_bytes()),
            None => {
                to_stderr(&stderr_line(self.format, level, message));
                Ok(())
            }
        };
        if let Err(error) = written {
            to_stderr(&format!("xebec: --log: {error}\n"));
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A message for stderr, which is a person's unless JSON was asked for.
fn stderr_line(format: LogFormat, level: Level, message: &str) -> String {
    match (format, level) {
        (LogFormat::Json, _) => line(format, level, message, SystemTime::now()),
        (LogFormat::Text, Level::Error) => format!("xebec: {message}\n"),
        (LogFormat::Text, _) => format!("xebec: {}: {message}\n", name(level)),
    }
}

fn to_stderr(text: &str) {
    // With stderr gone there is nowhere left to say so; the exit status still tells.
    std::io::stderr().write_all(text.as_bytes()).ok();
}

/// One record in one write, so that records of concurrent commands do not mix (O_APPEND).
fn append(path: &Path, record: &str) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
    file.write_all(record.as_bytes())
}

fn datagram(socket: &str, record: &[u8]) -> std::io::Result<()> {
    UnixDatagram::unbound()?.send_to(record, socket).map(drop)
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

/// syslog(3)'s severity.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// A record as logrus writes it, which is what callers' parsers expect.
fn line(format: LogFormat, level: Level, message: &str, now: SystemTime) -> String {
    let time = rfc3339(now);
    let (name, message) = (name(level), quoted(message));
    match format {
        LogFormat::Json => format!("{{\"level\":\"{name}\",\"msg\":{message},\"time\":\"{time}\"}}\n"),
        LogFormat::Text => format!("time=\"{time}\" level={name} msg={message}\n"),
    }
}

fn quoted(message: &str) -> String {
    serde_json::Value::from(message).to_string()
}

/// The journal's native protocol: a value with line breaks carries its length.
fn journal_entry(identifier: &str, level: Level, message: &str) -> Vec<u8> {
    let mut entry = format!("PRIORITY={}\nSYSLOG_IDENTIFIER={}\n", severity(level), identifier.replace('\n', " "));
    if !message.contains('\n') {
        entry += &format!("MESSAGE={message}\n");
        return entry.into_bytes();
    }
    entry += "MESSAGE\n";
    let mut entry = entry.into_bytes();
    entry.extend((message.len() as u64).to_le_bytes());
    entry.extend(message.as_bytes());
    entry.push(b'\n');
    entry
}

/// RFC 3164 without its time, which the receiver adds; facility 3 is daemon.
fn syslog_line(identifier: &str, level: Level, message: &str) -> String {
    let priority = 3 * 8 + severity(level);
    format!("<{priority}>{identifier}[{}]: {}", std::process::id(), message.replace('\n', " "))
}

/// UTC in RFC 3339, to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year; an era is the
    // 400 years (146097 days) after which the calendar repeats.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// A fresh directory under the system's temporary one, removed when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("xebec-log-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("make a scratch directory");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).expect("remove the scratch directory");
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(951_827_696)), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(at(4_107_542_399)), "2100-02-28T23:59:59Z");
        assert_eq!(rfc3339(at(4_107_542_400)), "2100-03-01T00:00:00Z");
        assert_eq!(rfc3339(at(1_735_689_599)), "2024-12-31T23:59:59Z");
    }

    #[test]
    fn records_have_the_shape_of_logrus() {
        assert_eq!(
            line(LogFormat::Json, Level::Error, "open(\"/x\"): no\tfile", at(0)),
            "{\"level\":\"error\",\"msg\":\"open(\\\"/x\\\"): no\\tfile\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(
            line(LogFormat::Text, Level::Warning, "a b", at(0)),
            "time=\"1970-01-01T00:00:00Z\" level=warning msg=\"a b\"\n"
        );
    }

    #[test]
    fn a_failure_is_one_error_record_and_the_log_is_appended_to() {
        let scratch = Scratch::new("append");
        let path = scratch.0.join("log.json");
        std::fs::write(&path, "before\n").expect("write the log's first line");
        let log = Log::new(&Global {
            log: Some(LogTarget::File(path.clone())),
            log_format: LogFormat::Json,
            ..Global::default()
        });
        log.record(Level::Debug, "below the level");
        log.fail(&Error::invalid("bundle", "not there"));
        let text = std::fs::read_to_string(&path).expect("read the log");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0], "before");
        let record: serde_json::Value = serde_json::from_str(lines[1]).expect("a JSON record");
        assert_eq!((&record["level"], &record["msg"]), (&"error".into(), &"bundle: not there".into()));
    }

    #[test]
    fn the_level_decides_what_is_recorded() {
        for (debug, level, expected) in [
            (false, None, Level::Warning),
            (true, None, Level::Debug),
            (true, Some(Level::Error), Level::Error),
            (false, Some(Level::Info), Level::Info),
        ] {
            assert_eq!(Log::new(&Global { debug, log_level: level, ..Global::default() }).level, expected);
        }
    }

    #[test]
    fn journal_entries_carry_the_length_of_a_value_with_line_breaks() {
        assert_eq!(
            journal_entry("x", Level::Error, "one line"),
            b"PRIORITY=3\nSYSLOG_IDENTIFIER=x\nMESSAGE=one line\n"
        );
        assert_eq!(
            journal_entry("x", Level::Warning, "a\nb"),
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=x\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"
        );
    }

    #[test]
    fn a_datagram_target_gets_one_record() {
        let scratch = Scratch::new("datagram");
        let socket = scratch.0.join("socket");
        let receiver = UnixDatagram::bind(&socket).expect("bind a socket");
        let sent = syslog_line("tag", Level::Error, "broken\nlines");
        datagram(socket.to_str().expect("a plain path"), sent.as_bytes()).expect("send");
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).expect("receive");
        let expected = format!("<27>tag[{}]: broken lines", std::process::id());
        assert_eq!(std::str::from_utf8(&buffer[..length]), Ok(expected.as_str()));
    }
}
