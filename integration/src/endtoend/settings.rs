//! What a demonstration was asked for: its command line, and how that reaches the sandboxed copy.
//! Parses and prints; starts nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::case::{Case, Outcome, Stop};
use crate::options::{self, View};
use crate::peers;

/// The environment variable that carries [`Settings`] into the sandbox.
pub const VARIABLE: &str = "XEBEC_DEMONSTRATION";

pub const USAGE: &str = "usage: xebec-integration servers --runtime PATH [--debian DIRECTORY]
       xebec-integration stress --runtime PATH [--runs N] [--parallel ROUNDS] [--execs N] [--kills N] [--seed N]
                                   [--alive N] [--overlaps N] [--clash SECONDS]
       xebec-integration figures --runtime [NAME=]PATH… [--rounds N] [--seconds N]
       xebec-integration engines --runtime [NAME=]PATH… [--table FILE]
       xebec-integration faults --runtime PATH [--each N] [--call N] [--seed N]
       xebec-integration hostile --runtime PATH [--cases N] [--races N] [--call N] [--seed N]
each with [--filter SUBSTRING]… [--cgroup-view v2|host] [--jobs N] [--mountns] [--verbose]";

#[derive(Clone, Debug)]
pub struct Settings {
    /// The name printed for a runtime, and its path.
    pub runtimes: Vec<(String, PathBuf)>,
    /// How many `run`s one after the other.
    pub runs: u64,
    /// How many rounds of [`super::stress::AT_ONCE`] `run`s at once.
    pub parallel: u64,
    /// How many `exec`s into one container.
    pub execs: u64,
    /// How long each runtime is probed.
    pub seconds: u64,
    /// How many kills of each kind.
    pub kills: u64,
    /// How many containers are alive at a time.
    pub alive: u64,
    /// How many calls each of those makes that create and delete the same ids.
    pub overlaps: u64,
    /// How many seconds every verb meets every verb.
    pub clash: u64,
    /// How many faults each system call meets, of those there are for it.
    pub each: u64,
    /// The one system call to disturb, or the one case to try, counted from 0; all of them without it.
    pub call: Option<u64>,
    /// How many generated root file systems each kind of container gets.
    pub cases: u64,
    /// How many containers a race takes.
    pub races: u64,
    /// How many interleaved measurements of each figure.
    pub rounds: u64,
    /// Where the random moments come from.
    pub seed: u64,
    /// Where root file systems are kept between runs.
    pub debian: PathBuf,
    /// What makes crun run here, see `peers`.
    pub preload: Option<PathBuf>,
    /// Where the sandboxed copies write down what the engines did.
    pub records: PathBuf,
    /// Where the table of engines and operations goes.
    pub table: Option<PathBuf>,
    pub filters: Vec<String>,
    /// How many cases are at work at a time.
    pub jobs: u64,
    pub view: View,
    /// Containers are made from an empty mount namespace.
    pub mountns: bool,
    pub verbose: bool,
}

/// Turns the words after the demonstration's name into [`Settings`].
pub fn parse(words: &[String]) -> Result<Settings, String> {
    let mut settings = Settings {
        runtimes: Vec::new(),
        runs: 2000,
        parallel: 200,
        execs: 10_000,
        seconds: 10,
        kills: 50,
        alive: 1000,
        overlaps: 100,
        clash: 600,
        each: 6,
        call: None,
        cases: 500,
        races: 300,
        rounds: 300,
        seed: clock_seed(),
        debian: PathBuf::from("target/rootfs"),
        preload: None,
        records: PathBuf::new(),
        table: None,
        filters: Vec::new(),
        jobs: 1,
        view: View::V2,
        mountns: false,
        verbose: false,
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--verbose" {
            settings.verbose = true;
            continue;
        }
        if word == "--mountns" {
            settings.mountns = true;
            continue;
        }
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_string())),
            None => (word.as_str(), None),
        };
        let value = inline.or_else(|| rest.next().cloned()).ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{flag} {value}: {error}"));
        match flag {
            "--runtime" => settings.runtimes.push(runtime(&value)?),
            "--runs" => settings.runs = number()?,
            "--parallel" => settings.parallel = number()?,
            "--execs" => settings.execs = number()?,
            "--seconds" => settings.seconds = number()?,
            "--kills" => settings.kills = number()?,
            "--alive" => settings.alive = number()?,
            "--overlaps" => settings.overlaps = number()?,
            "--clash" => settings.clash = number()?,
            "--each" => settings.each = number()?,
            "--cases" => settings.cases = number()?,
            "--races" => settings.races = number()?,
            "--call" => settings.call = Some(number()?),
            "--rounds" => settings.rounds = number()?,
            "--seed" => settings.seed = number()?,
            "--debian" => settings.debian = PathBuf::from(&value),
            "--table" => settings.table = Some(PathBuf::from(&value)),
            "--jobs" => settings.jobs = number()?,
            "--filter" => settings.filters.push(value),
            "--cgroup-view" => settings.view = options::parse_view(&value)?,
            _ => return Err(format!("unknown argument {word}\n{USAGE}")),
        }
    }
    if settings.runtimes.is_empty() {
        return Err(format!("no --runtime given\n{USAGE}"));
    }
    Ok(settings)
}

/// `PATH` or `NAME=PATH`.
fn runtime(word: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = match word.split_once('=') {
        Some((name, path)) => (Some(name), path),
        None => (None, word),
    };
    let path = options::find_program(path)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Ok((name.unwrap_or(&file).to_string(), path))
}

fn clock_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_millis() as u64)
}

impl Settings {
    /// As text for [`VARIABLE`].
    pub fn to_text(&self) -> String {
        let runtimes: Vec<Value> = self.runtimes.iter().map(|(name, path)| json!([name, path])).collect();
        json!({
            "runtimes": runtimes, "runs": self.runs, "parallel": self.parallel, "kills": self.kills,
            "each": self.each, "call": self.call, "alive": self.alive, "overlaps": self.overlaps,
            "clash": self.clash, "cases": self.cases, "races": self.races,
            "execs": self.execs, "seconds": self.seconds,
            "rounds": self.rounds, "seed": self.seed, "debian": self.debian, "preload": self.preload,
            "records": self.records,
        })
        .to_string()
    }

    /// Whether the filters let this case through.
    pub fn selects(&self, case: &Case) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| case.name.contains(part))
    }

    /// The preload library that this runtime needs here.
    pub fn preload_for(&self, runtime: &Path) -> Option<PathBuf> {
        self.preload.clone().filter(|_| peers::is_crun(runtime))
    }

    /// The settings of the demonstration this sandboxed copy belongs to.
    pub fn inherited() -> Outcome<Settings> {
        let text =
            std::env::var(VARIABLE).map_err(|error| Stop::Fail(format!("{VARIABLE} in the sandbox: {error}")))?;
        let value: Value = serde_json::from_str(&text)?;
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        let runtimes = value["runtimes"].as_array().into_iter().flatten();
        Ok(Settings {
            runtimes: runtimes.filter_map(|pair| Some((pair[0].as_str()?.into(), pair[1].as_str()?.into()))).collect(),
            runs: number("runs"),
            parallel: number("parallel"),
            execs: number("execs"),
            seconds: number("seconds"),
            kills: number("kills"),
            alive: number("alive"),
            overlaps: number("overlaps"),
            clash: number("clash"),
            each: number("each"),
            call: value["call"].as_u64(),
            cases: number("cases"),
            races: number("races"),
            rounds: number("rounds"),
            seed: number("seed"),
            debian: Path::new(value["debian"].as_str().unwrap_or_default()).into(),
            preload: value["preload"].as_str().map(PathBuf::from),
            records: Path::new(value["records"].as_str().unwrap_or_default()).into(),
            table: None,
            filters: Vec::new(),
            jobs: 1,
            view: View::V2,
            mountns: false,
            verbose: false,
        })
    }
}
