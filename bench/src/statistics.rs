//! Percentiles, and the ratio of two series with its spread. Pure, and the same for the same samples.

/// How often the rounds are drawn anew (bootstrap).
const DRAWS: usize = 1000;

/// Below this share of `values` (0 to 1) lies the answer.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
}

pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The median over rounds of `a / b`, and between which values it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// Of the same round each: what disturbs a round disturbs both. `None` without rounds in common.
    pub fn paired(a: &[f64], b: &[f64]) -> Option<Ratio> {
        let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
        if ratios.is_empty() {
            return None;
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let medians: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let drawn: Vec<f64> = ratios.iter().map(|_| ratios[random.below(ratios.len())]).collect();
                median(&drawn)
            })
            .collect();
        Some(Ratio { value: median(&ratios), low: percentile(&medians, 0.025), high: percentile(&medians, 0.975) })
    }

    /// Of two series that were not taken together: the medians' ratio.
    pub fn unpaired(a: &[f64], b: &[f64]) -> Option<Ratio> {
        if a.is_empty() || b.is_empty() {
            return None;
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut drawn = |values: &[f64]| {
            let drawn: Vec<f64> = values.iter().map(|_| values[random.below(values.len())]).collect();
            median(&drawn)
        };
        let ratios: Vec<f64> = (0..DRAWS).map(|_| drawn(a) / drawn(b)).collect();
        Some(Ratio { value: median(a) / median(b), low: percentile(&ratios, 0.025), high: percentile(&ratios, 0.975) })
    }

    /// False where the spread is wider than the distance from 1: such a ratio says nothing.
    pub fn is_clear(&self) -> bool {
        self.high - self.low <= (self.value - 1.0).abs()
    }
}

impl std::fmt::Display for Ratio {
    /// The ratio, or `unclear` where its spread is wider than its distance from 1.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.is_clear() {
            return f.pad("unclear");
        }
        f.pad(&format!("{:.2} ± {:.2}", self.value, (self.high - self.low) / 2.0))
    }
}

/// xorshift64: the draws need no better, and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&values, 0.1), median(&values), percentile(&values, 0.9)), (10.0, 50.0, 90.0));
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn disturbances_that_meet_both_cancel_out() {
        let load: Vec<f64> = (0..200).map(|n| if n % 7 == 0 { 9.0 } else { 1.0 }).collect();
        let fast: Vec<f64> = load.iter().map(|load| 100.0 * load).collect();
        let slow: Vec<f64> = load.iter().map(|load| 300.0 * load).collect();
        let ratio = Ratio::paired(&slow, &fast).expect("rounds in common");
        assert_eq!((ratio.value, ratio.low, ratio.high), (3.0, 3.0, 3.0));
        assert_eq!(ratio.to_string(), "3.00 ± 0.00");
    }

    #[test]
    fn a_ratio_lost_in_noise_is_not_printed() {
        let mut random = Random(1);
        let noise = |random: &mut Random| (0..30).map(|_| 50.0 + random.below(100) as f64).collect::<Vec<_>>();
        let (a, b) = (noise(&mut random), noise(&mut random));
        let ratio = Ratio::paired(&a, &b).expect("rounds in common");
        assert!(!ratio.is_clear(), "{ratio:?}");
        assert_eq!(ratio.to_string(), "unclear");
        assert_eq!((Ratio::paired(&[], &a), Ratio::unpaired(&[], &a)), (None, None));
        let twice = Ratio::unpaired(&[200.0; 9], &[100.0; 5]).expect("values");
        assert_eq!((twice.value, twice.low, twice.high), (2.0, 2.0, 2.0));
    }
}
