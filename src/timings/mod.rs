//! Where the time of create, run or exec goes: every step of parent and child with its begin and length, on
//! one clock. For people; nothing decides by it.
//!
//! The parent's steps are marks that follow each other: one ends where the next begins. The child's are
//! the plan's, in memory that both share ([`Stamps`]). Without a recording a step costs one comparison.

mod trace;
mod waterfall;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::sys::stamps::{Stamps, now};

const ITEM: &str = "--timings";

/// One recording, and the file that it goes to.
#[derive(Debug)]
pub struct Timings {
    path: PathBuf,
    file: File,
    marks: Mutex<Vec<(u64, &'static str)>>,
    child: OnceLock<ChildSteps>,
}

#[derive(Debug)]
struct ChildSteps {
    stamps: Arc<Stamps>,
    /// Config item and act of each step of the plan.
    words: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Parent,
    Child,
}

/// One step, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    who: Who,
    /// What it is about, and what is done.
    item: String,
    act: String,
    begin: u64,
    end: u64,
}

impl Timings {
    /// Begins a recording that goes to `path`: a picture when that ends in `.svg`, otherwise Chrome's trace format.
    ///
    /// `earlier` is when the process began that has started this one anew for the protection of its binary.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn begin(path: &Path, earlier: Option<u64>) -> Result<Timings> {
        let file = File::create(path).map_err(|error| failed("open", path, &error))?;
        let mut marks = Vec::with_capacity(32);
        marks.extend(earlier.map(|time| (time, "protection of the xebec binary, second start")));
        marks.push((now(), "command line, bundle"));
        Ok(Timings { path: path.to_owned(), file, marks: Mutex::new(marks), child: OnceLock::new() })
    }

    /// The parent's next step begins.
    pub fn mark(&self, what: &'static str) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).push((now(), what));
    }

    /// Makes room for the child's times; the child of a second try has the room of the first.
    pub(crate) fn watch(&self, plan: &Plan) -> Result<Arc<Stamps>> {
        if self.child.get().is_none() {
            let stamps = Stamps::new(plan.steps.len()).map_err(|errno| Error::sys(ITEM, "mmap", errno))?;
            let words = plan.steps.iter().map(|step| (step.item(plan), step.act(plan))).collect();
            // Nobody else sets it: this process makes its children one after the other.
            self.child.set(ChildSteps { stamps: Arc::new(stamps), words }).ok();
        }
        self.child.get().map(|child| Arc::clone(&child.stamps)).ok_or_else(|| Error::sys(ITEM, "mmap", Errno::NOMEM))
    }

    /// Ends the recording and writes it out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&self) -> Result<()> {
        let spans = self.spans(now());
        let picture = self.path.extension().is_some_and(|extension| extension == "svg");
        let text = if picture { waterfall::draw(&spans) } else { trace::write(&spans) };
        (&self.file).write_all(text.as_bytes()).map_err(|error| failed("write", &self.path, &error))
    }

    fn spans(&self, end: u64) -> Vec<Span> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = marks.iter().skip(1).map(|(time, _)| *time).chain([end]);
        let mut spans: Vec<Span> = marks
            .iter()
            .zip(ends)
            .map(|((begin, what), end)| Span {
                who: Who::Parent,
                item: (*what).to_owned(),
                act: String::new(),
                begin: *begin,
                end,
            })
            .collect();
        let Some(child) = self.child.get() else { return spans };
        let begun: Vec<(u64, &(String, String))> =
            child.words.iter().enumerate().filter_map(|(n, words)| Some((child.stamps.get(n)?, words))).collect();
        for (n, (begin, (item, act))) in begun.iter().enumerate() {
            // The last one ends unseen, in execve or in the wait for start: with what the parent does next.
            let next = begun.get(n + 1).map(|(time, _)| *time);
            let parents_next = marks.iter().map(|(time, _)| *time).find(|time| time > begin);
            let end = next.or(parents_next).unwrap_or(end);
            spans.push(Span { who: Who::Child, item: item.clone(), act: act.clone(), begin: *begin, end });
        }
        spans
    }
}

fn failed(call: &str, path: &Path, error: &std::io::Error) -> Error {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    Error::sys(ITEM, format!("{call}({:?})", path.display()), errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> (tempfile::TempDir, Timings) {
        let directory = tempfile::tempdir().expect("a directory");
        let timings = Timings::begin(&directory.path().join("t.json"), Some(5)).expect("a file");
        (directory, timings)
    }

    #[test]
    fn steps_of_the_parent_follow_each_other() {
        let (_directory, timings) = recording();
        timings.mark("plan");
        timings.mark("clone3");
        let spans = timings.spans(now());
        assert_eq!(spans.len(), 4);
        assert_eq!(spans[0].begin, 5);
        for pair in spans.windows(2) {
            assert_eq!(pair[0].end, pair[1].begin);
        }
    }

    #[test]
    fn only_steps_that_began_are_shown_and_the_last_ends_with_the_parents_next() {
        let (_directory, timings) = recording();
        let words = ["a", "b", "c"].map(|item| (item.to_owned(), String::new())).to_vec();
        let stamps = Stamps::new(3).expect("memory");
        stamps.set(0);
        stamps.set(1);
        timings.child.set(ChildSteps { stamps: stamps.into(), words }).expect("not set");
        timings.mark("the program runs");
        let spans = timings.spans(now());
        let child: Vec<&Span> = spans.iter().filter(|span| span.who == Who::Child).collect();
        assert_eq!(child.iter().map(|span| span.item.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(child[0].end, child[1].begin);
        assert_eq!(child[1].end, spans[2].begin);
    }
}
