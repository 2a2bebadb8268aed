//! Single values of the command line, read alike by both parsers. Pure functions.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::args::{LogTarget, Rootless, User};

/// clap's reader of a path that is not empty.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|word| parse_path(&word))
}

pub fn parse_path(word: &OsStr) -> Result<PathBuf, String> {
    if word.is_empty() { Err("a path cannot be empty".into()) } else { Ok(PathBuf::from(word)) }
}

/// clap's reader of `--log`.
pub fn log_target() -> impl TypedValueParser<Value = LogTarget> {
    OsStringValueParser::new().try_map(|word: OsString| parse_log_target(&word))
}

pub fn parse_log_target(word: &OsStr) -> Result<LogTarget, String> {
    let identifier = |rest: &str| if rest.is_empty() { "xebec".to_string() } else { rest.to_string() };
    match word.to_str() {
        Some(text) if text.starts_with("journald:") => Ok(LogTarget::Journald(identifier(&text[9..]))),
        Some(text) if text.starts_with("syslog:") => Ok(LogTarget::Syslog(identifier(&text[7..]))),
        Some(text) if text.starts_with("file:") => parse_path(OsStr::new(&text[5..])).map(LogTarget::File),
        _ => parse_path(word).map(LogTarget::File),
    }
}

/// The words that Go's flag package takes for booleans, since callers are Go programs.
pub fn boolean(word: &str) -> Result<bool, String> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

pub fn rootless(word: &str) -> Result<Rootless, String> {
    match word {
        "auto" => Ok(Rootless::Auto),
        _ => match boolean(word) {
            Ok(true) => Ok(Rootless::Yes),
            Ok(false) => Ok(Rootless::No),
            Err(_) => Err("expected true, false or auto".into()),
        },
    }
}

/// clap's reader of a whole number within `T`'s range.
pub fn number<T>() -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: std::fmt::Display,
{
    clap::builder::StringValueParser::new()
        .try_map(|word| word.parse::<T>().map_err(|error| format!("{error}: expected a whole number")))
}

/// A user or group id; the last 32-bit value is no id but the kernel's "leave it".
pub fn id(word: &str) -> Result<u32, String> {
    // u32::from_str would also take a plus sign.
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    match word.parse() {
        Ok(id) if digits && id != u32::MAX => Ok(id),
        _ => Err("expected a numeric id below 4294967295".into()),
    }
}

pub fn user(word: &str) -> Result<User, String> {
    match word.split_once(':') {
        Some((uid, gid)) => Ok(User { uid: id(uid)?, gid: Some(id(gid)?) }),
        None => Ok(User { uid: id(word)?, gid: None }),
    }
}

/// A count of descriptors: more than a process may ever have open is a mistake.
pub fn preserve_fds(word: &str) -> Result<u32, String> {
    // 1073741816 is the kernel's ceiling of fs.nr_open.
    match word.parse() {
        Ok(count) if count <= 1_073_741_816 => Ok(count),
        _ => Err("expected a count of descriptors".into()),
    }
}

/// A signal's number (0 to 64) from its name, with or without SIG, or its number.
pub fn signal(word: &str) -> Result<i32, String> {
    let unknown = || format!("unknown signal {word:?}");
    if let Ok(number) = word.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(offset, '+').ok_or_else(unknown).map(|offset| RTMIN + offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(offset, '-').ok_or_else(unknown).map(|offset| RTMAX - offset);
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number).ok_or_else(unknown)
}

/// glibc's numbers, which the programs in containers go by; musl, which this program is
/// built with, has its RTMIN one higher.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The offset after RTMIN or RTMAX: nothing, or `sign` and a number that stays in range.
fn real_time(offset: &str, sign: char) -> Option<i32> {
    if offset.is_empty() {
        return Some(0);
    }
    let digits = offset.strip_prefix(sign).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|offset| (0..=RTMAX - RTMIN).contains(offset))
}

const SIGNALS: [(&str, i32); 35] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    ("UNUSED", libc::SIGSYS),
];

/// Bytes: a whole or decimal number with an optional suffix b, k, m, g, t, p (powers of
/// 1024, `kb` and `kib` too), or -1 for no limit.
pub fn bytes(word: &str) -> Result<i64, String> {
    let wrong = || "expected bytes, such as 64m, or -1".to_string();
    if word == "-1" {
        return Ok(-1);
    }
    let split = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, suffix) = word.split_at(split);
    let suffix = suffix.trim_start().to_ascii_lowercase();
    let unit = suffix.strip_suffix("ib").or(suffix.strip_suffix('b')).unwrap_or(&suffix);
    let power = match unit {
        "" if suffix != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let factor = 1024i64.pow(power);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    // Decimals such as 1.5g are exact enough in a double; beyond 2^53 they are not taken.
    match number.parse::<f64>() {
        Ok(decimal) if decimal * factor as f64 <= 9_007_199_254_740_992.0 => Ok((decimal * factor as f64) as i64),
        _ => Err(wrong()),
    }
}

/// A duration as Go writes it (`1m30s`, `500ms`, `1.5h`), above zero.
pub fn interval(word: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration above zero, such as 5s or 1m30s".to_string();
    let mut nanoseconds = 0f64;
    let mut rest = word;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| digits + at);
        let scale = match &rest[digits..unit_end] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(wrong()),
        };
        nanoseconds += rest[..digits].parse::<f64>().map_err(|_| wrong())? * scale;
        rest = &rest[unit_end..];
    }
    // i64::MAX nanoseconds, Go's ceiling, is 292 years.
    if nanoseconds >= 1.0 && nanoseconds < i64::MAX as f64 {
        Ok(Duration::from_nanos(nanoseconds as u64))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_with_or_without_sig_in_either_case_and_by_number() {
        for word in ["TERM", "SIGTERM", "term", "sigterm", "SigTerm", "15"] {
            assert_eq!(signal(word), Ok(15), "{word}");
        }
        assert_eq!(signal("0"), Ok(0));
        assert_eq!(signal("rtmin+3"), Ok(37));
        assert_eq!(signal("SIGRTMIN"), Ok(34));
        assert_eq!(signal("SIGRTMAX-4"), Ok(60));
        for word in ["", "SIG", "65", "-1", "RTMIN-1", "RTMIN+31", "RTMIN++1", "RTMAX+1", "TERMINATE", "9 "] {
            assert!(signal(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn bytes_take_binary_suffixes_and_minus_one() {
        for (word, value) in [
            ("0", 0),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("7b", 7),
            ("-1", -1),
        ] {
            assert_eq!(bytes(word), Ok(value), "{word}");
        }
        for word in ["", "m", "-2", "1x", "1ib", "9223372036854775807k", "1.2.3", "."] {
            assert!(bytes(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(interval("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(interval("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(interval("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        for word in ["", "0s", "5", "s", "5 s", "-1s", "5x", "1e9s"] {
            assert!(interval(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn users_are_numeric_and_never_the_kernels_leave_it() {
        assert_eq!(user("0"), Ok(User { uid: 0, gid: None }));
        assert_eq!(user("1000:5"), Ok(User { uid: 1000, gid: Some(5) }));
        for word in ["", ":", "1:", "root", "4294967295", "1:4294967295", "1:2:3", "-1", "+1", "1:+1"] {
            assert!(user(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn log_targets_are_files_unless_they_say_otherwise() {
        let of = |word: &str| parse_log_target(OsStr::new(word));
        assert_eq!(of("/var/log/x"), Ok(LogTarget::File("/var/log/x".into())));
        assert_eq!(of("file:/x"), Ok(LogTarget::File("/x".into())));
        assert_eq!(of("journald:pod"), Ok(LogTarget::Journald("pod".into())));
        assert_eq!(of("syslog:"), Ok(LogTarget::Syslog("xebec".into())));
        assert!(of("").is_err());
    }
}
