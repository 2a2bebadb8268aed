//! The results for a terminal.

use crate::contender::FLOOR;
use crate::results::{Results, Series};
use crate::statistics::{Ratio, percentile};

/// The contender that ratios compare with: the first that is not the floor.
pub fn judged(results: &Results) -> Option<&str> {
    results.contenders.iter().map(String::as_str).find(|name| *name != FLOOR)
}

/// Against the floor how many times its time (or its rate) `first` has; against a peer how many times
/// faster `first` is. Greater is worse in the one, better in the other, as people say it.
pub fn ratio(series: &Series, first: &str, other: &str) -> Option<Ratio> {
    let (a, b) = (series.of(first)?, series.of(other)?);
    if series.rate || other == FLOOR { Ratio::paired(a, b) } else { Ratio::paired(b, a) }
}

pub fn print(results: &Results) {
    for (item, text) in &results.machine {
        println!("{item}: {text}");
    }
    for series in &results.series {
        print_series(results, series);
    }
    print_counts(results);
    print_sizes(results);
    for failure in &results.failures {
        println!("FAILED {} {}: {}", failure.case, failure.contender, failure.message);
    }
}

fn print_series(results: &Results, series: &Series) {
    let Some(first) = judged(results) else { return };
    let unit = if series.rate { "per second" } else { "us" };
    println!("\n{} ({}), {unit}", series.name(), series.title);
    println!("  {:<12} {:>6} {:>10} {:>10} {:>10}  {first} against it", "", "rounds", "p10", "median", "p90");
    for (name, values) in &series.samples {
        let at = |part| percentile(values, part);
        let against = match ratio(series, first, name) {
            Some(ratio) if name != first => ratio.to_string(),
            _ => String::new(),
        };
        println!("  {name:<12} {:>6} {:>10.0} {:>10.0} {:>10.0}  {against}", values.len(), at(0.1), at(0.5), at(0.9));
    }
}

fn print_counts(results: &Results) {
    let Some(one) = results.counts.first() else { return };
    println!("\ncounts, with docker's profile");
    print!("  {:<12} {:<8}", "", "");
    for (name, _) in one.values() {
        print!(" {name:>13}");
    }
    println!();
    for counts in &results.counts {
        print!("  {:<12} {:<8}", counts.contender, counts.verb);
        for (_, value) in counts.values() {
            print!(" {value:>13}");
        }
        println!();
    }
}

fn print_sizes(results: &Results) {
    for (name, kib) in &results.memory {
        println!("  {name:<12} runs under a memory limit of {kib} KiB");
    }
    for (name, bytes) in &results.sizes {
        println!("  {name:<12} its file has {bytes} bytes");
    }
}
