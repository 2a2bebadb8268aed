//! Two runs side by side: what got slower. Each run is first divided by its own floor, round by round, for two
//! runs never meet the same machine.

use crate::contender::FLOOR;
use crate::results::{Results, Series};
use crate::statistics::{Ratio, median, percentile};
use crate::table::judged;

/// Smaller changes are not told, however clear.
const NOTABLE: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Slower,
    Faster,
    None,
}

/// Prints the changes of the first runtime; true where something got slower.
pub fn print(old: &Results, new: &Results) -> bool {
    let (Some(before), Some(now)) = (judged(old), judged(new)) else { return false };
    println!("\n{now} now, against {before} then (each as a multiple of its own run's floor, where there is one)");
    println!("  {:<36} {:>18} {:>18}", "", "then", "now");
    let mut slower = false;
    for series in &new.series {
        let Some(other) = old.series(&series.case, &series.what) else { continue };
        let (Some(then), Some(value)) = (level(other, before), level(series, now)) else { continue };
        let change = judge(then, value, series.rate);
        slower |= change == Change::Slower;
        let word = match change {
            Change::Slower => "SLOWER",
            Change::Faster => "faster",
            Change::None => "",
        };
        println!("  {:<36} {:>18} {:>18} {word}", series.name(), text(then), text(value));
    }
    slower
}

fn text(level: Ratio) -> String {
    format!("{:.2} ± {:.2}", level.value, (level.high - level.low) / 2.0)
}

/// Beyond doubt only: the intervals must not meet.
fn judge(then: Ratio, now: Ratio, rate: bool) -> Change {
    let more = now.low > then.high && now.value > then.value * (1.0 + NOTABLE);
    let less = now.high < then.low && now.value < then.value * (1.0 - NOTABLE);
    match (more, less) {
        (true, _) if !rate => Change::Slower,
        (_, true) if rate => Change::Slower,
        (false, false) => Change::None,
        _ => Change::Faster,
    }
}

/// In floors; in microseconds or containers per second where there is no floor.
fn level(series: &Series, name: &str) -> Option<Ratio> {
    let values = series.of(name)?;
    match series.of(FLOOR) {
        Some(floor) if name != FLOOR => Ratio::paired(values, floor),
        _ => Some(Ratio { value: median(values), low: percentile(values, 0.25), high: percentile(values, 0.75) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(value: f64) -> Ratio {
        Ratio { value, low: value - 0.02, high: value + 0.02 }
    }

    #[test]
    fn only_what_is_beyond_doubt_is_told() {
        assert_eq!(judge(around(1.5), around(1.52), false), Change::None);
        assert_eq!(judge(around(1.5), around(1.7), false), Change::Slower);
        assert_eq!(judge(around(1.7), around(1.5), false), Change::Faster);
        assert_eq!(judge(around(1.7), around(1.5), true), Change::Slower);
        let wide = Ratio { value: 1.7, low: 1.4, high: 2.0 };
        assert_eq!(judge(around(1.5), wide, false), Change::None);
    }
}
