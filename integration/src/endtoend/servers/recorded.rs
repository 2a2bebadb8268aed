//! A server's own profile: recorded over its start, its answers and its end, and then in force.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::case::{Outcome, skip};
use crate::endtoend::profile::{names, without};
use crate::endtoend::report;
use crate::ensure;
use crate::trial::Trial;

use super::{Server, Way, clear, configure, in_round, network, one_round, prepare};

/// The second recorded round finds what the first has kept, which takes other calls.
const ROUNDS: [Way; 4] = [Way::Recorded, Way::Recorded, Way::Replayed, Way::Replayed];

/// Without it no server can be reached, and each notices.
const NEEDED: &str = "bind";

pub fn serve(t: &mut Trial, server: &Server) -> Outcome {
    if !t.call(&["seccomp", "--help"]).go()?.stdout.contains("record") {
        return skip("requires the verb `seccomp`, which this runtime lacks");
    }
    let (user, data) = prepare(t, server)?;
    for (round, way) in ROUNDS.into_iter().enumerate() {
        one_round(t, server, user, &data, way, round + 1).map_err(|stop| in_round(stop, way))?;
        if matches!(way, Way::Recorded) {
            report!(
                "{} calls recorded by round {}: {}",
                names(&profile(t)?).len(),
                round + 1,
                names(&profile(t)?).join(" ")
            );
        }
    }
    fails_without(t, server, user, &data)?;
    clear(t, server)
}

/// One call less, and the server gives up.
fn fails_without(t: &mut Trial, server: &Server, user: (u32, u32), data: &std::path::Path) -> Outcome {
    let kept = network::make_namespace(&t.scratch.join("netns"))?;
    configure(t, server, server.args, user, Some(&kept), data)?;
    t.write_config()?;
    let (engines, own) = (t.bundle.display().to_string(), path(t).display().to_string());
    report!("{} instructions; the engine's default profile has {}", shown(t, &own)?, shown(t, &engines)?);
    let less = without(&profile(t)?, NEEDED)?;
    t.set("/linux/seccomp", less);
    let done = t.run()?;
    ensure!(!done.succeeded(), "{} ran without {NEEDED}", server.name);
    network::remove_namespace(&kept)
}

fn path(t: &Trial) -> PathBuf {
    t.scratch.join("recorded.json")
}

pub fn profile(t: &Trial) -> Outcome<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(path(t))?)?)
}

/// The verb that records, and adds to what is there.
pub fn words(t: &Trial) -> Vec<String> {
    let path = path(t);
    let mut words: Vec<String> = ["seccomp", "record", "--output"].map(str::to_owned).to_vec();
    words.push(path.display().to_string());
    if path.exists() {
        words.extend(["--merge".to_owned(), path.display().to_string()]);
    }
    words
}

/// `show` ends with the program, an instruction a line.
fn shown(t: &mut Trial, path: &str) -> Outcome<usize> {
    let shown = t.call(&["seccomp", "show", path]).go()?.ok()?.stdout;
    Ok(shown.rsplit("\n\n").next().map_or(0, |program| program.lines().count()))
}
