//! What a probe costs where hundreds of them are due each second: `exec` into one container on a
//! schedule, and the share of the machine that it takes, for each given runtime.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Outcome, Stop};
use crate::trial::Trial;

use super::figures::{Contender, contenders, cpu_of_children};
use super::report;
use super::settings::Settings;

/// How many probes are due each second.
const RATE: u64 = 500;
/// How many may be under way at a time: a kubelet waits for none of the others.
const LANES: u64 = 16;

pub fn compare(t: &mut Trial) -> Outcome {
    let settings = Settings::inherited()?;
    let all = contenders(t, &settings, true, "/wait")?;
    report!("{RATE} probes a second for {} s, with the engines' seccomp profile", settings.seconds);
    report!("{:<12} {:>8} {:>10} {:>14} {:>14}", "runtime", "probes", "a second", "CPU us each", "CPUs taken");
    for contender in &all {
        contender.make_waiting().map_err(Stop::Fail)?;
        let probed = probe(contender, settings.seconds);
        contender.remove().map_err(Stop::Fail)?;
        let (count, elapsed, cpu) = probed.map_err(Stop::Fail)?;
        report!(
            "{:<12} {count:>8} {:>10.0} {:>14.0} {:>14.3}",
            contender.name,
            count as f64 / elapsed.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / count as f64,
            cpu.as_secs_f64() / elapsed.as_secs_f64()
        );
    }
    Ok(())
}

/// Probes until the time is over; how many, in what time, with how much of the processors' time.
///
/// A runtime that cannot keep up makes fewer: what is late is not made up for.
fn probe(contender: &Contender, seconds: u64) -> Result<(u64, Duration, Duration), String> {
    let (before, begun) = (cpu_of_children()?, Instant::now());
    let (next, failure) = (AtomicU64::new(0), Mutex::new(None));
    let made = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let due = Duration::from_micros(next.fetch_add(1, Ordering::Relaxed) * 1_000_000 / RATE);
                    if due >= Duration::from_secs(seconds) || begun.elapsed() >= Duration::from_secs(seconds) {
                        return;
                    }
                    thread::sleep(due.saturating_sub(begun.elapsed()));
                    match contender.exec() {
                        Ok(_) => drop(made.fetch_add(1, Ordering::Relaxed)),
                        Err(message) => {
                            if let Ok(mut failure) = failure.lock() {
                                failure.get_or_insert(message);
                            }
                            return;
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner() {
        Ok(None) => Ok((made.into_inner(), begun.elapsed(), cpu_of_children()?.saturating_sub(before))),
        Ok(Some(message)) => Err(format!("{}: {message}", contender.name)),
        Err(_) => Err("a lane has panicked".into()),
    }
}
