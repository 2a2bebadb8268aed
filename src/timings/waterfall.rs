//! A recording as a picture: a bar for each step, parent above child, on one time axis. Needs nothing but itself,
//! and follows the page's light or dark.

use std::fmt::Write;

use super::{Span, Who};

const WIDTH: f64 = 1080.0;
const NAMES: f64 = 330.0;
const RIGHT: f64 = 1000.0;
const TOP: f64 = 76.0;
const ROW: f64 = 17.0;
/// Longer names are cut; the whole is in the tooltip.
const NAME_LENGTH: usize = 46;
const SHORT: usize = 18;

const STYLE: &str = "text{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:11px;fill:#24292f}.title{font-size:16px;\
font-weight:600}.who{font-weight:600;font-size:12px}.dim{fill:#6a737d}.axis{stroke:#d8dee4}.end{text-anchor:end}\
.mid{text-anchor:middle}.parent{fill:#0b84c5}.child{fill:#e08a00}@media(prefers-color-scheme:dark){text{fill:#e6edf3}\
.dim{fill:#9198a1}.axis{stroke:#3d444d}}";

pub fn draw(spans: &[Span]) -> String {
    let begin = spans.iter().map(|span| span.begin).min().unwrap_or(0);
    let end = spans.iter().map(|span| span.end).max().unwrap_or(begin).max(begin + 1);
    let us = |time: u64| (time - begin) as f64 / 1e3;
    let x = |time: u64| NAMES + us(time) / us(end) * (RIGHT - NAMES);
    let mut body = String::new();
    let mut y = TOP;
    for (who, name, class) in [(Who::Parent, "xebec", "parent"), (Who::Child, "the container's first process", "child")]
    {
        let mut own = spans.iter().filter(|span| span.who == who).peekable();
        if own.peek().is_none() {
            continue;
        }
        text(&mut body, "who", 16.0, y + 12.0, name);
        y += ROW + 5.0;
        for span in own {
            row(&mut body, span, class, y, x(span.begin), x(span.end));
            y += ROW;
        }
        y += 12.0;
    }
    let mut picture = String::new();
    let title = format!("{} from begin to end", time(us(end)));
    // Writing to a String cannot fail.
    writeln!(
        picture,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {0:.0}\" width=\"{WIDTH}\" height=\"{0:.0}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>",
        y + 12.0
    )
    .ok();
    text(&mut picture, "title", 16.0, 28.0, &title);
    axis(&mut picture, us(end), y);
    picture + &body + "</svg>\n"
}

fn row(body: &mut String, span: &Span, class: &str, y: f64, from: f64, to: f64) {
    let length = time(span.end.saturating_sub(span.begin) as f64 / 1e3);
    // Short items, such as `create`, have several steps: the act tells them apart.
    let act = span.item.len() < SHORT && !span.act.is_empty();
    let whole = if act { format!("{}: {}", span.item, span.act) } else { span.item.clone() };
    let cut: String = whole.chars().take(NAME_LENGTH).collect();
    let name = if cut.len() < whole.len() { cut + "…" } else { cut };
    // Writing to a String cannot fail.
    writeln!(body, "<g><title>{}: {length}</title>", escaped(format!("{} {}", span.item, span.act).trim_end())).ok();
    text(body, "end", NAMES - 8.0, y + 10.0, &name);
    writeln!(
        body,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"12\" rx=\"1\"/>",
        (to - from).max(1.0)
    )
    .ok();
    text(body, "dim", to + 5.0, y + 10.0, &length);
    writeln!(body, "</g>").ok();
}

/// Lines at round times, four to ten of them.
fn axis(body: &mut String, whole: f64, bottom: f64) {
    let mut step = 10f64.powf((whole / 4.0).log10().floor());
    while whole / step > 10.0 {
        step *= if (step.log10() - step.log10().round()).abs() < 1e-9 { 2.0 } else { 2.5 };
    }
    let mut at = 0.0;
    while at <= whole {
        let x = NAMES + at / whole * (RIGHT - NAMES);
        // Writing to a String cannot fail.
        writeln!(
            body,
            "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>",
            TOP - 10.0
        )
        .ok();
        text(body, "dim mid", x, TOP - 16.0, &time(at));
        at += step;
    }
}

fn text(body: &mut String, class: &str, x: f64, y: f64, words: &str) {
    // Writing to a String cannot fail.
    writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(words)).ok();
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn time(us: f64) -> String {
    match us {
        0.0 => "0".into(),
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1000.0 => format!("{us:.0} µs"),
        us => format!("{:.2} ms", us / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_config_cannot_break_the_picture() {
        let span = Span { who: Who::Child, item: "mounts[0] /<&\"".into(), act: String::new(), begin: 0, end: 10 };
        let picture = draw(&[span]);
        assert!(picture.contains("mounts[0] /&lt;&amp;&quot;"), "{picture}");
        assert!(!picture.contains("/<"), "{picture}");
    }

    #[test]
    fn a_recording_without_steps_is_still_a_picture() {
        assert!(draw(&[]).ends_with("</svg>\n"));
    }
}
