//! For each thing timed a panel: on the left a bar for each contender's median, from zero; on the right where
//! its times lie, on a scale on which equal factors are equal lengths.

use std::fmt::Write;

use crate::results::Series;
use crate::statistics::{median, percentile};

use super::{colour, frame, label, line, time};

const WIDTH: f64 = 960.0;
const TOP: f64 = 72.0;
const ROW: f64 = 24.0;
const HEAD: f64 = 30.0;
/// Between panels.
const GAP: f64 = 22.0;
const NAMES_END: f64 = 84.0;
const BARS: (f64, f64) = (92.0, 460.0);
const SPREAD: (f64, f64) = (580.0, 940.0);
/// Slices of a distribution.
const BINS: usize = 90;

pub fn draw(title: &str, all: &[&Series]) -> String {
    let order: Vec<String> = all.iter().flat_map(|series| &series.samples).fold(Vec::new(), |mut known, (name, _)| {
        if !known.contains(name) {
            known.push(name.clone());
        }
        known
    });
    let range = range(all);
    let mut body = String::new();
    let mut y = TOP;
    for series in all {
        panel(&mut body, series, &order, range, y);
        y += HEAD + ROW * series.samples.len() as f64 + GAP;
    }
    scale(&mut body, range, y);
    frame(WIDTH, y + 34.0, title, "left: median, whiskers p10 to p90; right: all rounds, logarithmic", &body)
}

/// The times that the right half shows: all but the rarest.
fn range(all: &[&Series]) -> (f64, f64) {
    let values = all.iter().flat_map(|series| &series.samples);
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), (_, values)| {
        (low.min(percentile(values, 0.005)), high.max(percentile(values, 0.98)))
    });
    (low * 0.85, high * 1.15)
}

fn place((low, high): (f64, f64), value: f64) -> f64 {
    let part = (value / low).ln() / (high / low).ln();
    SPREAD.0 + part.clamp(0.0, 1.0) * (SPREAD.1 - SPREAD.0)
}

fn panel(body: &mut String, series: &Series, order: &[String], range: (f64, f64), top: f64) {
    let name = if series.case.starts_with(&series.what) {
        series.title.clone()
    } else {
        format!("{}, {}", series.what, series.title)
    };
    let name = if series.what == "lifecycle" { format!("together, {name}") } else { name };
    label(body, "case", 16.0, top + 14.0, &name);
    let longest = series.samples.iter().map(|(_, values)| percentile(values, 0.9)).fold(0.0, f64::max);
    let length = |value: f64| (value / longest * (BARS.1 - BARS.0)).min(BARS.1 - BARS.0);
    for (row, (name, values)) in series.samples.iter().enumerate() {
        let y = top + HEAD + ROW * row as f64;
        let colour = colour(name, order);
        label(body, "end", NAMES_END, y + 12.0, name);
        let middle = median(values);
        // Writing to a String cannot fail.
        writeln!(
            body,
            "<rect x=\"{}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>",
            BARS.0,
            length(middle)
        )
        .ok();
        let (from, to) = (BARS.0 + length(percentile(values, 0.1)), BARS.0 + length(percentile(values, 0.9)));
        line(
            body,
            (from, y + 8.0),
            (to, y + 8.0),
            "stroke=\"currentColor\" class=\"axis\" style=\"stroke:#57606a;stroke-width:1.5\"",
        );
        label(body, "", to.max(BARS.0 + length(middle)) + 8.0, y + 12.0, &time(middle));
        distribution(body, values, range, y + 18.0, colour);
    }
}

/// A ridge whose height is the share of rounds, smoothed, the highest point ROW - 2.
fn distribution(body: &mut String, values: &[f64], range: (f64, f64), base: f64, colour: &str) {
    let mut bins = [0.0f64; BINS];
    let width = (SPREAD.1 - SPREAD.0) / BINS as f64;
    for value in values {
        let at = ((place(range, *value) - SPREAD.0) / width).min(BINS as f64 - 1.0) as usize;
        for (distance, share) in [(0isize, 0.4), (-1, 0.24), (1, 0.24), (-2, 0.06), (2, 0.06)] {
            if let Some(bin) = at.checked_add_signed(distance).and_then(|at| bins.get_mut(at)) {
                *bin += share;
            }
        }
    }
    let highest = bins.iter().copied().fold(0.0, f64::max);
    let points: Vec<String> = bins
        .iter()
        .enumerate()
        .map(|(n, bin)| {
            let (x, y) = (SPREAD.0 + width * (n as f64 + 0.5), base - bin / highest * (ROW - 3.0));
            format!("{x:.1},{y:.1}")
        })
        .collect();
    line(body, (SPREAD.0, base), (SPREAD.1, base), "class=\"axis\"");
    // Writing to a String cannot fail.
    writeln!(
        body,
        "<polygon points=\"{},{base} {} {},{base}\" fill=\"{colour}\" fill-opacity=\"0.75\"/>",
        SPREAD.0,
        points.join(" "),
        SPREAD.1
    )
    .ok();
}

/// Ticks at 1, 2 and 5 times the powers of ten.
fn scale(body: &mut String, range: (f64, f64), y: f64) {
    line(body, (SPREAD.0, y), (SPREAD.1, y), "class=\"axis\"");
    let mut last = f64::NEG_INFINITY;
    for value in (0..8).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power))) {
        if value < range.0 || value > range.1 {
            continue;
        }
        let x = place(range, value);
        line(body, (x, y), (x, y + 5.0), "class=\"axis\"");
        if x - last > 46.0 {
            let short = if value < 1000.0 { format!("{value} µs") } else { format!("{} ms", value / 1e3) };
            label(body, "dim mid", x, y + 20.0, &short);
            last = x;
        }
    }
}
