//! PARSE: a bundle's config.json to a [`Config`], with all findings at once.
//!
//! Makes no system call besides reading the bundle; knows nothing of the host.

mod bundle;
pub mod check;
mod finding;
pub mod mount_options;
mod shape;
mod text;
mod types;
pub mod words;

pub use bundle::Bundle;
pub(crate) use bundle::read_text;
pub use check::check;
pub use finding::{Finding, Findings, Warning};
pub use text::Text;
pub use types::*;

use serde::Deserialize;

use crate::error::{Error, Result};
use shape::Shape;

/// The newest runtime-spec version whose properties are all known here.
pub const OCI_VERSION: &str = "1.3.0";

/// Reads a whole config.json. `name` is what errors call the file.
///
/// # Errors
/// Every place at which the text is not of the specification's shape.
pub fn parse_config<'a>(name: &str, text: &'a str) -> Result<Config<'a>> {
    parse(name, text, &shape::CONFIG).map(by_its_version)
}

/// Gives a value the meaning it has in the config's own version: before 1.3.0 a pids limit of 0 was the
/// default, "no limit" (podman still writes it for `--pids-limit=-1`); since then it is a limit.
fn by_its_version(mut config: Config<'_>) -> Config<'_> {
    if matches!(check::semver(&config.oci_version), Some((1, 0..=2)))
        && let Some(pids) = config.linux.resources.as_mut().and_then(|resources| resources.pids.as_mut())
        && pids.limit == Some(0)
    {
        pids.limit = Some(-1);
    }
    config
}

/// Reads a process.json: what `exec --process` takes.
///
/// # Errors
/// As [`parse_config`].
pub fn parse_process<'a>(name: &str, text: &'a str) -> Result<Process<'a>> {
    parse(name, text, &shape::PROCESS)
}

/// Reads a resources.json: what `update --resources` takes.
///
/// # Errors
/// As [`parse_config`].
pub fn parse_resources<'a>(name: &str, text: &'a str) -> Result<Resources<'a>> {
    parse(name, text, &shape::RESOURCES)
}

/// The fast path stops at the first fault; only then is the text read again to
/// collect all of them.
fn parse<'a, T: Deserialize<'a>>(name: &str, text: &'a str, shape: &'static Shape) -> Result<T> {
    serde_json::from_str(text).map_err(|first| {
        let findings = shape::compare(text, shape);
        if findings.is_empty() { Error::invalid(name, first.to_string()) } else { Findings(&findings).error(name) }
    })
}

#[cfg(test)]
mod version_tests {
    use super::*;

    #[test]
    fn a_pids_limit_of_zero_is_a_limit_since_1_3_0() {
        for (version, limit) in [("1.0.2-dev", -1), ("1.2.1", -1), ("1.3.0", 0), ("1.4.0", 0), ("2.0.0", 0)] {
            let text = format!(r#"{{"ociVersion":"{version}","linux":{{"resources":{{"pids":{{"limit":0}}}}}}}}"#);
            let config = parse_config("config.json", &text).expect("a config");
            let pids = config.linux.resources.and_then(|resources| resources.pids).expect("pids");
            assert_eq!(pids.limit, Some(limit), "{version}");
        }
    }
}

#[cfg(test)]
mod timing_tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    /// Prints microseconds for each engine's config: first call in this process
    /// (cold) and median of many. Run it alone, in release, several times:
    /// `cargo test --release --lib -- --ignored --exact config::timing_tests::parse_time --nocapture`
    #[test]
    #[ignore = "a measurement: prints figures, judges nothing"]
    fn parse_time() {
        let docker = include_str!("testdata/engines/docker-27.json");
        let ctr = include_str!("testdata/engines/containerd-ctr.json");
        for (name, text) in [("docker-27", docker), ("docker-27 again", docker), ("containerd-ctr", ctr)] {
            let begin = Instant::now();
            let config = parse_config("c", black_box(text)).expect("config");
            let parsed = begin.elapsed();
            let judged = black_box(check(&config));
            let all = begin.elapsed();
            assert_eq!(judged.0, []);
            let mut warm: Vec<_> = (0..1001)
                .map(|_| {
                    let begin = Instant::now();
                    let config = parse_config("c", black_box(text)).expect("config");
                    let parsed = begin.elapsed();
                    black_box(check(&config));
                    (parsed, begin.elapsed())
                })
                .collect();
            warm.sort();
            let us = |time: std::time::Duration| time.as_secs_f64() * 1e6;
            println!(
                "{name}: {} bytes: first parse {:.1} us, with check {:.1}; median parse {:.1}, with check {:.1}",
                text.len(),
                us(parsed),
                us(all),
                us(warm[500].0),
                us(warm[500].1)
            );
        }
    }
}
