//! Kernels, or filters around the runtime, that lack one feature: every verb either does what it promises, the
//! safe way, or refuses with one line that names the feature. Which of them refuse is a table in
//! docs/kernel-features.md, and the runtime is held to it.

use std::str::FromStr;

use nix::errno::Errno;
use syscalls::Sysno;

use crate::case::{Outcome, Stop, fail};
use crate::ensure;
use crate::trial::Trial;

use super::super::report;
use super::Bench;
use super::tracer::{Traced, Trouble};

const DOCUMENT: &str = include_str!("../../../../docs/kernel-features.md");
const HEADING: &str = "## Held to, feature by feature";

/// One row of the table.
struct Feature {
    name: &'static str,
    /// The verbs that cannot do without it.
    refusing: Vec<&'static str>,
    /// They can on a kernel that does not know it (ENOSYS), as there is nothing to protect then.
    only_if_denied: bool,
}

fn features() -> Outcome<Vec<Feature>> {
    let (_, section) = DOCUMENT.split_once(HEADING).ok_or_else(|| Stop::Fail(format!("no {HEADING}")))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut features = Vec::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _since, refusing, _how] = cells[..] else {
            return fail(format!("four cells are due in {row}"));
        };
        let (refusing, only_if_denied) = match refusing.strip_prefix("EPERM: ") {
            Some(verbs) => (verbs, true),
            None => (refusing, false),
        };
        let refusing = refusing.split(", ").filter(|verb| *verb != "none").collect();
        features.push(Feature { name: name.trim_matches('`'), refusing, only_if_denied });
    }
    ensure!(features.len() > 10, "{} rows below {HEADING}", features.len());
    Ok(features)
}

impl Feature {
    /// The ways in which it can be missing.
    fn troubles(&self) -> Vec<Trouble> {
        match Sysno::from_str(self.name) {
            Ok(call) => [Errno::ENOSYS, Errno::EPERM].map(|errno| Trouble::NoCall(call, errno)).into(),
            Err(()) => vec![Trouble::NoFile(self.name)],
        }
    }
}

/// One verb on each of these kernels.
pub fn without_each(mut bench: Bench, t: &mut Trial) -> Outcome {
    let (mut did_it, mut said_no, mut failures) = (0, 0, Vec::new());
    for feature in features()? {
        for trouble in feature.troubles() {
            match meet(&mut bench, t, &feature, trouble) {
                Ok(true) => did_it += 1,
                Ok(false) => said_no += 1,
                Err(Stop::Fail(message)) => failures.push(format!("{} with {trouble:?}: {message}", bench.verb)),
                Err(stop) => return Err(stop),
            }
        }
    }
    let survived = did_it + said_no;
    report!(
        "{survived} of {} kernels: {did_it} times it did what it promises, {said_no} times it refused and named the \
         feature",
        survived + failures.len()
    );
    ensure!(failures.is_empty(), "{} kernels:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// Did it do what it promises? A refusal, where one is due, is told from a failure here.
fn meet(bench: &mut Bench, t: &mut Trial, feature: &Feature, trouble: Trouble) -> Outcome<bool> {
    let Traced { done, hit, .. } = bench.attempt(t, Some(trouble))?;
    let looked_for = hit.is_some() || bench.verb != "force" || !matches!(trouble, Trouble::NoFile(_));
    ensure!(looked_for, "nobody looked for {}", feature.name);
    let unknown = matches!(trouble, Trouble::NoCall(_, Errno::ENOSYS));
    let due = feature.refusing.contains(&bench.verb) && !(feature.only_if_denied && unknown);
    ensure!(done.succeeded() != due, "{} where the document says otherwise: {}", done.ending(), done.stderr.trim());
    ensure!(!due || done.stderr.contains(feature.name), "does not name {}: {}", feature.name, done.stderr.trim());
    Ok(!due)
}
