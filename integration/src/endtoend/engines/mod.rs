//! Container engines from Debian, each with each of the given runtimes: every operation is recorded, and
//! the record becomes a table. The first runtime is judged by it: it has to do what the machine lets any
//! runtime do. The others are there to show what that is.

mod buildah;
mod containerd;
mod cri;
mod docker;
mod gadget;
mod image;
mod nested;
mod podman;
mod rpc;
mod session;
mod table;
mod user;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::case::{Case, Group};
use crate::peers;
use crate::runner::Verdict;

use super::run_one;
use super::settings::Settings;
use table::Row;

/// What is recorded of a session's end: no process, mount or cgroup may be left, and nothing may have
/// stopped the engine.
const CLEAN_END: &str = "nothing is left";

pub fn cases() -> Vec<Case> {
    let mut group = Group::new("engines", "engine contract");
    group.add("containerd", containerd::test);
    group.add("cri", cri::test);
    group.add("podman", podman::as_root);
    group.add("podman_rootless", podman::rootless);
    group.add("buildah", buildah::as_root);
    group.add("buildah_rootless", buildah::rootless);
    group.add("docker", docker::test);
    group.add("runc_by_name", gadget::test);
    group.cases
}

/// Runs every engine with every runtime, prints the totals, and writes the table where one is asked for.
pub fn run_in(work: &Path, cases: &[Case], settings: &mut Settings) -> Result<ExitCode, String> {
    let paths: Vec<_> = settings.runtimes.iter().map(|(_, path)| path.clone()).collect();
    settings.preload = peers::prepare_preload(&paths, work)?;
    settings.records = work.join("records");
    let mut rows = Vec::new();
    let mut number = 0;
    for case in cases.iter().filter(|case| settings.selects(case)) {
        for (name, runtime) in settings.runtimes.clone() {
            println!("{} with {name}", case.name);
            number += 1;
            let begun = Instant::now();
            let (verdict, message, transcript) =
                run_one(case, &runtime, number, settings, &mut |line| println!("{line}"));
            let written = take_records(&settings.records)?;
            let engine = written.first().map_or(case.name.clone(), |row| row.engine.clone());
            let failed = verdict == Verdict::Fail || written.iter().any(|row| row.verdict == Verdict::Fail);
            rows.extend(written);
            rows.push(Row { engine, operation: CLEAN_END.into(), runtime: name, verdict, message });
            println!("  {:.1} s", begun.elapsed().as_secs_f64());
            if failed && settings.verbose {
                transcript.lines().for_each(|line| println!("    {line}"));
            }
        }
    }
    finish(&rows, settings)
}

/// The rows that a session has written; the file goes, so that the next session begins its own.
fn take_records(path: &Path) -> Result<Vec<Row>, String> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().filter_map(Row::from_json).collect())
}

fn finish(rows: &[Row], settings: &Settings) -> Result<ExitCode, String> {
    let names: Vec<String> = settings.runtimes.iter().map(|(name, _)| name.clone()).collect();
    if let Some(path) = &settings.table {
        fs::write(path, table::markdown(rows, &names)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for row in rows.iter().filter(|row| row.verdict == Verdict::Fail) {
        println!("{}: {}", row.runtime, row.line());
    }
    let judged: Vec<&Row> = rows.iter().filter(|row| row.runtime == names[0]).collect();
    let count = |verdict: Verdict| judged.iter().filter(|row| row.verdict == verdict).count();
    let (passed, failed) = (count(Verdict::Pass), count(Verdict::Fail));
    println!("# of {}; the others are for comparison", names[0]);
    println!("{passed} passed, {failed} failed, {} skipped", count(Verdict::Skip));
    Ok(ExitCode::from(u8::from(failed > 0 || passed == 0)))
}
