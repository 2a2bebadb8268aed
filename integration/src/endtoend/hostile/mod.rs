//! The whole class of attacks by an image: generated root file systems with something odd at every path that a
//! runtime touches, in every kind of container. Whatever becomes of the container, the host is as it was: its files,
//! mounts, settings, cgroups and processes, and the caller's descriptors. A refusal is one line, and soon.
//!
//! A failing case is told with its seed and number; `--seed S --filter NAME --call N` tries it alone.

mod config;
mod host;
mod image;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::call::Done;
use crate::case::{Case, Group, Outcome, Stop};
use crate::ensure;
use crate::mode::Mode;
use crate::trial::Trial;

use super::random::Random;
use super::report;
use super::settings::Settings;
use super::timed::ms;

use host::Host;
use image::Image;

/// What a call may take; one that hangs takes the limit of `call`.
const SOON: Duration = Duration::from_secs(5);

/// How many failures of one kind are told before it gives up.
const TOLD: usize = 10;

/// What the payload says first, so that its own failure is told from a refusal.
const RAN: &str = "payload-has-run";

/// How a container is made and used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Run,
    CreateAndStart,
    Exec,
    Terminal,
    ReadOnly,
    UserNamespace,
    Rootless,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Run, "run"),
    (Kind::CreateAndStart, "create_and_start"),
    (Kind::Exec, "exec"),
    (Kind::Terminal, "terminal"),
    (Kind::ReadOnly, "read_only"),
    (Kind::UserNamespace, "user_namespace"),
    (Kind::Rootless, "rootless"),
];

pub fn cases() -> Vec<Case> {
    let mut group = Group::new("images", "engine contract");
    for (kind, name) in KINDS {
        group.add(name, move |t| Gate::open(t, kind, name)?.try_all(t));
    }
    // The races of the suite, for longer.
    let races = crate::tests::all().into_iter().filter(|case| {
        case.name.starts_with("hostile.") && (case.name.contains("_exchanged_") || case.name.contains("_lookout_"))
    });
    group.cases.into_iter().chain(races).collect()
}

/// Who calls the runtime in the case of this name.
pub fn mode_of(name: &str) -> Mode {
    match name {
        "images.user_namespace" => Mode::UserNamespace,
        "images.rootless" => Mode::User,
        _ => Mode::Root,
    }
}

struct Gate {
    kind: Kind,
    name: &'static str,
    settings: Settings,
    /// The directory that holds the root file system and its surroundings.
    place: PathBuf,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    tried: usize,
    ran: usize,
    refused: usize,
    slowest: Duration,
    failures: Vec<String>,
}

impl Gate {
    fn open(t: &mut Trial, kind: Kind, name: &'static str) -> Outcome<Gate> {
        let settings = Settings::inherited()?;
        let place = t.bundle.clone();
        fs::create_dir_all(&t.root)?;
        t.give_to_caller(&t.root.clone())?;
        image::furnish_host(t)?;
        Ok(Gate { kind, name, settings, place, tally: Tally::default() })
    }

    fn try_all(mut self, t: &mut Trial) -> Outcome {
        let begun = Instant::now();
        let host = Host::watch(t)?;
        let numbers = match self.settings.call {
            Some(number) => number..number + 1,
            None => 0..self.settings.cases,
        };
        for number in numbers {
            self.tally.tried += 1;
            if let Err(stop) = self.try_one(t, &host, number) {
                let Stop::Fail(message) = stop else { return Err(stop) };
                let again = format!("--seed {} --filter images.{} --call {number}", self.settings.seed, self.name);
                self.tally.failures.push(format!("{again}: {message}"));
            }
            if self.tally.failures.len() >= TOLD {
                break;
            }
        }
        self.conclude(&host, begun.elapsed())
    }

    fn conclude(&self, host: &Host, took: Duration) -> Outcome {
        let Tally { tried, ran, refused, slowest, failures } = &self.tally;
        report!(
            "seed {}: {tried} images in {:.1} s: {ran} containers ran, {refused} calls were refused in one line, {} failures; \
             the slowest call {}; unchanged each time: {}",
            self.settings.seed,
            took.as_secs_f64(),
            failures.len(),
            ms(*slowest),
            host.describe(),
        );
        ensure!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
        ensure!(*ran > 0 || self.settings.call.is_some(), "not one container ran");
        Ok(())
    }

    /// One image, one container, and everything as it was before.
    fn try_one(&mut self, t: &mut Trial, host: &Host, number: u64) -> Outcome {
        let mut random = Random::new(self.settings.seed.wrapping_add(number << 20), self.name);
        t.switch_id(&format!("image-{number}"));
        let image = Image::make(&mut random, t)?;
        config::write(&mut random, t, self.kind)?;
        let before = host.look(t, &self.place)?;
        let ended = self.live(t, &mut random);
        let id = t.id.clone();
        let deleted = t.call(&["delete", "--force", &id]).go().and_then(Done::ok);
        let changes = host.changes(t, &self.place, &before)?;
        t.forget_id();
        let told = |stop: Stop| match stop {
            Stop::Fail(message) => {
                Stop::Fail(format!("{message}\n    image: {}\n    config: {}", image.story(), t.config))
            }
            other => other,
        };
        let checked = match changes.is_empty() {
            true => Ok(()),
            false => Err(Stop::Fail(format!("the host has changed: {}", changes.join("; ")))),
        };
        checked.and(deleted.map(drop)).and(ended).map_err(told)
    }

    fn live(&mut self, t: &mut Trial, random: &mut Random) -> Outcome {
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        match self.kind {
            Kind::CreateAndStart => {
                if self.judge(t.call(&["create", "--bundle", &bundle, &id]).go()?, false)? {
                    self.judge(t.call(&["start", &id]).go()?, false)?;
                    t.wait_for_end()?;
                    self.tally.ran += 1;
                }
            }
            Kind::Exec => {
                if self.judge(t.call(&["run", "--detach", "--bundle", &bundle, &id]).go()?, false)? {
                    for _ in 0..2 {
                        let words = config::exec_words(random, &id);
                        let done = t.call(&crate::trial::as_words(&words)).go()?;
                        // Its container may end first: who is killed with it has nothing to say.
                        let killed = done.code == Some(128 + 9) && done.stderr.is_empty();
                        if !killed || t.status()? != "stopped" {
                            self.judge(done, true)?;
                        }
                    }
                    self.tally.ran += 1;
                }
            }
            _ => {
                if self.judge(t.call(&["run", "--bundle", &bundle, &id]).go()?, true)? {
                    self.tally.ran += 1;
                }
            }
        }
        Ok(())
    }

    /// A call either did its work or was refused in one line; true for the first.
    fn judge(&mut self, done: Done, payload: bool) -> Outcome<bool> {
        self.tally.slowest = self.tally.slowest.max(done.took);
        ensure!(done.took < SOON, "`{}` took {:?}", done.words, done.took);
        ensure!(!done.stdout.contains("escaped"), "the payload sees the host's files: {}", done.stdout);
        ensure!(!done.stdout.contains("leaked"), "the payload has a descriptor of the runtime: {}", done.stdout);
        if done.succeeded() || payload && done.stdout.contains(RAN) {
            return Ok(true);
        }
        ensure!(done.code.is_some(), "`{}` died of signal {:?}", done.words, done.signal);
        // A program that is the runtime itself (/proc/self/exe) tells a terminal, which comes out on stdout.
        let said = if done.stderr.is_empty() { &done.stdout } else { &done.stderr };
        let errors: Vec<&str> = said.lines().filter(|line| !line.contains("warning")).collect();
        ensure!(errors.len() == 1, "{} and not one line: {said:?}", done.ending());
        ensure!(!errors[0].contains(|c: char| c.is_control()), "an error with control characters: {:?}", errors[0]);
        self.tally.refused += 1;
        Ok(false)
    }
}

/// A path of the root file system as the host sees it.
fn below(rootfs: &Path, place: &str) -> PathBuf {
    rootfs.join(place.trim_start_matches('/'))
}
