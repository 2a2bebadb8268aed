//! Plots as SVG, for light and dark pages: bars with distributions for each kind of call, curves where
//! something grows. Text and numbers only; drawn from the results and nothing else.

mod curves;
mod panels;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::contender::FLOOR;
use crate::results::{Results, Series};

/// Colours told apart by people who see no red or green, on white and on black.
const COLOURS: [&str; 6] = ["#0b84c5", "#e08a00", "#c0518f", "#2a9d74", "#8a6fd1", "#b0a000"];
const FLOOR_COLOUR: &str = "#8c8c8c";

/// Cases of one picture, by the beginning of their names.
const PICTURES: [(&str, &str, &[&str]); 4] = [
    (
        "run",
        "run: a container from start to end",
        &["run", "run_seccomp", "run_joined_network", "run_host_cgroup", "run_user_namespace", "run_readonly_binary"],
    ),
    ("lifecycle", "create, start and delete", &["lifecycle_seccomp"]),
    (
        "exec",
        "exec: one more process in a container",
        &["exec", "exec_seccomp", "exec_joined_network", "exec_host_cgroup", "exec_user_namespace"],
    ),
    ("attend", "state, kill and features", &["attend", "features"]),
];

/// Writes the pictures for which there are results.
pub fn write(results: &Results, directory: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(failed)?;
    for (name, title, cases) in PICTURES {
        let series: Vec<&Series> =
            cases.iter().flat_map(|case| results.series.iter().filter(move |series| series.case == *case)).collect();
        if !series.is_empty() {
            fs::write(directory.join(format!("{name}.svg")), panels::draw(title, &series)).map_err(failed)?;
        }
    }
    for (name, picture) in [("parallel", curves::parallel(results)), ("mounts", curves::mounts(results))] {
        if let Some(picture) = picture {
            fs::write(directory.join(format!("{name}.svg")), picture).map_err(failed)?;
        }
    }
    Ok(())
}

fn colour(name: &str, order: &[String]) -> &'static str {
    if name == FLOOR {
        return FLOOR_COLOUR;
    }
    let place = order.iter().filter(|one| *one != FLOOR).position(|one| one == name).unwrap_or(0);
    COLOURS[place % COLOURS.len()]
}

/// The picture around what is drawn: a title, and colours that follow the page.
fn frame(width: f64, height: f64, title: &str, subtitle: &str, body: &str) -> String {
    let style = "text{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:12px;fill:#24292f}.title{font-size:16px;\
        font-weight:600}.dim{fill:#6a737d}.axis{stroke:#d0d7de;stroke-width:1}.case{font-weight:600}.end{text-anchor:end}\
        .mid{text-anchor:middle}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}.axis{stroke:#3d444d}}";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{0}\">\n<style>{style}</style>\n<text class=\"title\" x=\"16\" y=\"28\">{0}</text>\n\
         <text class=\"dim\" x=\"16\" y=\"48\">{1}</text>\n{body}</svg>\n",
        escaped(title),
        escaped(subtitle)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn label(body: &mut String, class: &str, x: f64, y: f64, text: &str) {
    // Writing to a String cannot fail.
    writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text)).ok();
}

fn line(body: &mut String, from: (f64, f64), to: (f64, f64), attributes: &str) {
    // Writing to a String cannot fail.
    writeln!(
        body,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {attributes}/>",
        from.0, from.1, to.0, to.1
    )
    .ok();
}

/// Microseconds as people read them.
fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 9950.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.1} ms", us / 1e3),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_short() {
        assert_eq!(["980 µs", "1.39 ms", "31.3 ms"].map(str::to_string), [980.2, 1387.0, 31_300.0].map(super::time));
    }

    #[test]
    fn names_cannot_break_the_picture() {
        assert_eq!(super::escaped("a<b>&\"c\""), "a&lt;b>&amp;&quot;c&quot;");
    }
}
