//! The suite's own command line. Parses words; opens and runs nothing.

use std::path::PathBuf;

use crate::mode::Mode;

/// Which cgroup hierarchy the tested runtime sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A private mount of cgroup2 at /sys/fs/cgroup, its root a cgroup of the test's own.
    V2,
    /// The host's own mounts, whatever they are; containers go below one named cgroup.
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Tap,
    Json,
    Table,
}

/// One column of the results: a runtime, and who calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    pub program: PathBuf,
    pub mode: Mode,
}

/// What one invocation was asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    pub runtimes: Vec<Tested>,
    pub filters: Vec<String>,
    pub format: Format,
    pub jobs: usize,
    pub list: bool,
    pub view: View,
    /// Name of the runtime (the first one given) whose failures decide the exit status.
    pub judge: Option<String>,
    /// Let the runtime pin an empty mount namespace in each sandbox first.
    pub mountns: bool,
    /// Factor on every time limit: emulated machines are slow.
    pub time_scale: u32,
    /// Tell each test's verdict on stderr when it ends: what is known when the suite is killed.
    pub progress: bool,
    /// Keep the transcript of passed tests too.
    pub verbose: bool,
}

pub const USAGE: &str = "usage: xebec-integration --runtime PATH [--userns|--as-user] [--runtime PATH…]… [--filter SUBSTRING]… \
[--format tap|json|table] [--jobs N] [--cgroup-view v2|host] [--mountns] [--judge NAME] [--time-scale N] [--progress] [--verbose] [--list]
       xebec-integration servers|stress|figures|engines|faults|hostile …";

/// Turns the words after the program's name into [`Options`].
pub fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        runtimes: Vec::new(),
        filters: Vec::new(),
        format: Format::Tap,
        jobs: std::thread::available_parallelism().map_or(1, |count| count.get()),
        list: false,
        view: View::V2,
        judge: None,
        mountns: false,
        time_scale: 1,
        progress: false,
        verbose: false,
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Some(value.to_string())),
            _ => (word.as_str(), None),
        };
        let mut value =
            || inline.clone().or_else(|| rest.next().cloned()).ok_or_else(|| format!("{flag} needs a value\n{USAGE}"));
        match flag {
            "--runtime" => options.runtimes.push(Tested { program: find_program(&value()?)?, mode: Mode::Root }),
            "--userns" => set_mode(&mut options, Mode::UserNamespace)?,
            "--as-user" => set_mode(&mut options, Mode::User)?,
            "--filter" => options.filters.push(value()?),
            "--format" => options.format = parse_format(&value()?)?,
            "--jobs" => options.jobs = parse_number(flag, &value()?)? as usize,
            "--cgroup-view" => options.view = parse_view(&value()?)?,
            "--judge" => options.judge = Some(value()?),
            "--time-scale" => options.time_scale = parse_number(flag, &value()?)?,
            "--mountns" => options.mountns = true,
            "--list" => options.list = true,
            "--progress" => options.progress = true,
            "--verbose" => options.verbose = true,
            _ => return Err(format!("unknown argument {word}\n{USAGE}")),
        }
    }
    if options.runtimes.is_empty() && !options.list {
        return Err(format!("no --runtime given\n{USAGE}"));
    }
    Ok(options)
}

/// A mode is that of the runtime named last.
fn set_mode(options: &mut Options, mode: Mode) -> Result<(), String> {
    let tested = options.runtimes.last_mut().ok_or_else(|| format!("a --runtime must come first\n{USAGE}"))?;
    tested.mode = mode;
    Ok(())
}

fn parse_format(word: &str) -> Result<Format, String> {
    match word {
        "tap" => Ok(Format::Tap),
        "json" => Ok(Format::Json),
        "table" => Ok(Format::Table),
        _ => Err(format!("--format is tap, json or table, not {word}")),
    }
}

pub fn parse_view(word: &str) -> Result<View, String> {
    match word {
        "v2" => Ok(View::V2),
        "host" => Ok(View::Host),
        _ => Err(format!("--cgroup-view is v2 or host, not {word}")),
    }
}

fn parse_number(flag: &str, word: &str) -> Result<u32, String> {
    match word.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{flag} needs a number above zero, not {word}")),
    }
}

/// A runtime is given as a path or as a name to look up in PATH.
pub fn find_program(word: &str) -> Result<PathBuf, String> {
    if word.contains('/') {
        return std::fs::canonicalize(word).map_err(|error| format!("{word}: {error}"));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .map(|directory| PathBuf::from(directory).join(word))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("{word}: not found in PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Options, String> {
        parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn values_come_apart_or_with_an_equals_sign() {
        let options = parse_words(&["--runtime", "sh", "--format=json", "--jobs", "3", "--filter=a", "--filter", "b"]);
        let options = options.expect("valid words");
        assert_eq!((options.format, options.jobs, options.filters.len()), (Format::Json, 3, 2));
        assert!(options.runtimes[0].program.ends_with("sh"));
    }

    #[test]
    fn a_mode_is_that_of_the_runtime_before_it() {
        let options = parse_words(&["--runtime", "sh", "--runtime", "sh", "--userns", "--runtime", "sh", "--as-user"]);
        let modes: Vec<Mode> = options.expect("valid words").runtimes.iter().map(|tested| tested.mode).collect();
        assert_eq!(modes, [Mode::Root, Mode::UserNamespace, Mode::User]);
        assert!(parse_words(&["--userns", "--runtime", "sh"]).is_err());
    }

    #[test]
    fn mistakes_are_refused() {
        for words in
            [[].as_slice(), &["--jobs", "0", "--list"], &["--format"], &["--surprise"], &["--runtime", "/no/such"]]
        {
            assert!(parse_words(words).is_err(), "{words:?}");
        }
    }
}
