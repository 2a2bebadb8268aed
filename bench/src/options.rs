//! bench's command line. Parses words; opens and runs nothing but the search for a runtime.

use std::path::PathBuf;

use xebec_integration::options::find_program;

pub const USAGE: &str =
    "usage: xebec-bench --runtime [NAME=]PATH [--runtime …]… [--case SUBSTRING]… [--rounds N] [--seconds N]
         [--no-floor] [--no-counts] [--json FILE] [--svg DIR] [--markdown FILE] [--compare OLD.json]
       xebec-bench --gate LIMITS.json --runtime [NAME=]PATH   (counts against limits; --write sets them)
       xebec-bench --read FILE.json [--svg DIR] [--markdown FILE] [--compare OLD.json]
       xebec-bench --order FILE.ld --runtime PATH   (its functions in the order reached; PATH with symbols, in minutes)
       xebec-bench --list
The first runtime is the one that ratios compare with.";

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name printed for a runtime, and its path.
    pub runtimes: Vec<(String, PathBuf)>,
    /// Only cases whose name contains one of these.
    pub cases: Vec<String>,
    pub rounds: usize,
    /// A case ends after this long, with as many rounds as it has got.
    pub seconds: u64,
    pub floor: bool,
    pub counts: bool,
    pub json: Option<PathBuf>,
    pub svg: Option<PathBuf>,
    pub markdown: Option<PathBuf>,
    pub compare: Option<PathBuf>,
    pub gate: Option<PathBuf>,
    pub write: bool,
    pub order: Option<PathBuf>,
    pub read: Option<PathBuf>,
    pub list: bool,
}

pub fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options { rounds: 200, seconds: 60, floor: true, counts: true, ..Options::default() };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_string())),
            None => (word.as_str(), None),
        };
        match flag {
            "--no-floor" => options.floor = false,
            "--no-counts" => options.counts = false,
            "--write" => options.write = true,
            "--list" => options.list = true,
            "--help" | "-h" => return Err(USAGE.into()),
            _ => {
                let value = inline.or_else(|| rest.next().cloned());
                let value = value.ok_or_else(|| format!("{flag} needs a value\n{USAGE}"))?;
                set(&mut options, flag, value)?;
            }
        }
    }
    if options.runtimes.is_empty() && options.read.is_none() && !options.list {
        return Err(format!("no --runtime was given\n{USAGE}"));
    }
    Ok(options)
}

fn set(options: &mut Options, flag: &str, value: String) -> Result<(), String> {
    let number = || match value.parse() {
        Ok(0) | Err(_) => Err(format!("{flag} {value}: not a number above 0")),
        Ok(number) => Ok(number),
    };
    let path = || Some(PathBuf::from(&value));
    match flag {
        "--runtime" => options.runtimes.push(runtime(&value)?),
        "--case" => options.cases.push(value),
        "--rounds" => options.rounds = number()?,
        "--seconds" => options.seconds = number()? as u64,
        "--json" => options.json = path(),
        "--svg" => options.svg = path(),
        "--markdown" => options.markdown = path(),
        "--compare" => options.compare = path(),
        "--gate" => options.gate = path(),
        // Written from inside the sandbox.
        "--order" => options.order = Some(std::path::absolute(&value).map_err(|error| format!("{value}: {error}"))?),
        "--read" => options.read = path(),
        _ => return Err(format!("{flag}: unknown\n{USAGE}")),
    }
    Ok(())
}

/// `PATH` or `NAME=PATH`, absolute: the sandbox works elsewhere.
fn runtime(word: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = match word.split_once('=') {
        Some((name, path)) => (Some(name), path),
        None => (None, word),
    };
    let path = find_program(path)?;
    let path = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Ok((name.unwrap_or(&file).to_string(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn a_runtime_has_the_given_name_or_its_files() {
        let options = parse(&words("--runtime mine=/bin/sh --runtime=/bin/sh --rounds 7")).expect("parses");
        let names: Vec<_> = options.runtimes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[0], "mine");
        assert_eq!(options.runtimes[0].1, options.runtimes[1].1);
        assert_eq!(options.rounds, 7);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in ["--rounds 0 --list", "--runtime", "--colour red --list", "--json x"] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
