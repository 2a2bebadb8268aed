//! Curves where something grows: containers per second against how many at a time, time against mounts.

use std::fmt::Write;

use crate::results::{Results, Series};
use crate::statistics::{median, percentile};

use super::{colour, frame, label, line, time};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 590.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 380.0;

/// One contender's points: place on the x axis (0 to 1), p10, median, p90.
type Curve = (String, Vec<(f64, f64, f64, f64)>);

/// What a picture says beside its curves.
struct Words<'a> {
    title: &'a str,
    subtitle: &'a str,
    ticks: Vec<(f64, String)>,
    below: &'a str,
    unit: fn(f64) -> String,
}

pub fn parallel(results: &Results) -> Option<String> {
    let steps = [1, 2, 4, 8, 16];
    let last = (steps.len() - 1) as f64;
    let points: Vec<(f64, &Series)> = steps
        .iter()
        .enumerate()
        .filter_map(|(n, at_once)| {
            let case = format!("parallel_{at_once}");
            Some((n as f64 / last, results.series(&case, "containers per second")?))
        })
        .collect();
    let words = Words {
        title: "Containers per second",
        subtitle: "run with docker's profile, many at a time; median, bars p10 to p90, logarithmic",
        ticks: steps.iter().enumerate().map(|(n, at_once)| (n as f64 / last, at_once.to_string())).collect(),
        below: "containers at a time",
        unit: |value| format!("{value:.0}"),
    };
    draw(results, &points, &words)
}

pub fn mounts(results: &Results) -> Option<String> {
    let steps = [0.0, 500.0, 2000.0];
    let points: Vec<(f64, &Series)> = steps
        .iter()
        .filter_map(|more| Some((more / 2000.0, results.series(&format!("run_{more}_mounts"), "run")?)))
        .collect();
    let words = Words {
        title: "run on a host with many mounts",
        subtitle: "docker's profile; median, bars p10 to p90, logarithmic",
        ticks: steps.iter().map(|more| (more / 2000.0, more.to_string())).collect(),
        below: "mounts beyond the host's own",
        unit: time,
    };
    draw(results, &points, &words)
}

fn draw(results: &Results, points: &[(f64, &Series)], words: &Words<'_>) -> Option<String> {
    if points.len() < 2 {
        return None;
    }
    let curve = |name: &String| -> Curve {
        let values = points.iter().filter_map(|(x, series)| Some((*x, series.of(name)?)));
        let spread = |(x, values): (f64, &[f64])| (x, percentile(values, 0.1), median(values), percentile(values, 0.9));
        (name.clone(), values.map(spread).collect())
    };
    let curves: Vec<Curve> = results.contenders.iter().map(curve).filter(|(_, points)| !points.is_empty()).collect();
    let all = curves.iter().flat_map(|(_, points)| points);
    let (low, high) = all.fold((f64::INFINITY, 0.0f64), |(low, high), point| (low.min(point.1), high.max(point.3)));
    let (low, high) = (low * 0.8, high * 1.25);
    let y = |value: f64| BOTTOM - (value / low).ln() / (high / low).ln() * (BOTTOM - TOP);
    let x = |part: f64| LEFT + part * (RIGHT - LEFT);
    let mut body = String::new();
    grid(&mut body, words, (low, high), y, x);
    let mut ends = Vec::new();
    for (name, points) in &curves {
        let colour = colour(name, &results.contenders);
        let path: Vec<String> = points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.2))).collect();
        // Writing to a String cannot fail.
        writeln!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
            path.join(" ")
        )
        .ok();
        for (part, p10, middle, p90) in points {
            line(
                &mut body,
                (x(*part), y(*p10)),
                (x(*part), y(*p90)),
                &format!("stroke=\"{colour}\" stroke-width=\"1.5\""),
            );
            writeln!(body, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>", x(*part), y(*middle)).ok();
        }
        ends.extend(points.last().map(|point| (y(point.2), format!("{name}, {}", (words.unit)(point.2)))));
    }
    name_ends(&mut body, ends);
    Some(frame(WIDTH, HEIGHT, words.title, words.subtitle, &body))
}

fn grid(body: &mut String, words: &Words<'_>, (low, high): (f64, f64), y: impl Fn(f64) -> f64, x: impl Fn(f64) -> f64) {
    for value in (0..8).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power))) {
        if value >= low && value <= high {
            line(body, (LEFT, y(value)), (RIGHT, y(value)), "class=\"axis\"");
            label(body, "dim end", LEFT - 8.0, y(value) + 4.0, &(words.unit)(value));
        }
    }
    for (part, text) in &words.ticks {
        label(body, "dim mid", x(*part), BOTTOM + 20.0, text);
    }
    label(body, "dim mid", (LEFT + RIGHT) / 2.0, BOTTOM + 42.0, words.below);
}

/// The names where the curves end, moved apart where they would meet.
fn name_ends(body: &mut String, mut ends: Vec<(f64, String)>) {
    const APART: f64 = 16.0;
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = f64::NEG_INFINITY;
    for (y, text) in ends {
        let y = y.max(above + APART);
        label(body, "", RIGHT + 12.0, y + 4.0, &text);
        above = y;
    }
}
