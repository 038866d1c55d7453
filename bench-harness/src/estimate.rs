//! What paired measurements say: the median of the ratios within pairs, how sure that is, and whether it
//! is enough for a verdict.

use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::stats::median_of_sorted;

/// The median of some ratios with bootstrap intervals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// The 99 % interval, by which verdicts are given.
    pub sure: (f64, f64),
    /// What it was made of.
    pub values: Vec<f64>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// More is better, as with throughput.
    Higher,
    /// Less is better, as with latency and processor time.
    Lower,
}

/// What a comparison came to, of the second side against the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The second is better.
    Better,
    /// The second is worse.
    Worse,
    /// Nothing that could not be chance.
    Undecided,
}

const RESAMPLES: usize = 4_000;
/// Fewer pairs decide nothing.
pub const PAIRS_MIN: usize = 6;
/// A smaller difference is none that matters, however sure.
const EFFECT_MIN: f64 = 0.005;

impl Estimate {
    /// Of these ratios; zeros if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Estimate {
        let values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        if values.is_empty() {
            return Estimate::default();
        }
        let mut random = Random::new(1);
        let mut sample = vec![0.0; values.len()];
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                sample.iter_mut().for_each(|v| *v = values[random.below(values.len())]);
                sample.sort_by(f64::total_cmp);
                median_of_sorted(&sample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |part: f64| medians[((part * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        Estimate {
            median: median_of_sorted(&sorted),
            low: at(0.025),
            high: at(0.975),
            sure: (at(0.005), at(0.995)),
            values,
        }
    }

    /// What the ratios of the second side to the first say.
    #[must_use]
    pub fn verdict(&self, better: Better) -> Verdict {
        let (low, high) = self.sure;
        let beyond =
            |edge: f64| (edge - 1.0).abs() > 0.0 && (self.median - 1.0).abs() >= EFFECT_MIN;
        if self.values.len() < PAIRS_MIN {
            Verdict::Undecided
        } else if low > 1.0 && beyond(low) {
            if better == Better::Higher { Verdict::Better } else { Verdict::Worse }
        } else if high < 1.0 && beyond(high) {
            if better == Better::Higher { Verdict::Worse } else { Verdict::Better }
        } else {
            Verdict::Undecided
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratios of pairs as a shared machine gives them: noise of 4 %, now and then a bad one, and a
    /// true ratio.
    fn pairs(truth: f64, count: usize, seed: u64) -> Estimate {
        let mut random = Random::new(seed);
        Estimate::of((0..count).map(|_| {
            let noise: f64 = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
            let bad = if random.below(12) == 0 { 1.0 - 0.3 * random.unit() } else { 1.0 };
            truth * (1.0 + 0.04 * noise) * bad
        }))
    }

    #[test]
    fn a_build_and_itself_are_undecided_nineteen_times_in_twenty() {
        for series in 0..10 {
            let undecided = (0..20)
                .filter(|i| {
                    pairs(1.0, 40, series * 20 + i).verdict(Better::Higher) == Verdict::Undecided
                })
                .count();
            assert!(undecided >= 19, "series {series}: {undecided}");
        }
    }

    #[test]
    fn three_per_cent_less_is_worse_with_the_pairs_of_ten_minutes() {
        // A pair of four-second blocks: ten minutes hold 75 of them.
        let worse = (0..20)
            .filter(|i| pairs(0.97, 75, 1000 + i).verdict(Better::Higher) == Verdict::Worse)
            .count();
        assert!(worse >= 18, "{worse}");
        let better = pairs(0.90, 75, 7).verdict(Better::Lower);
        assert_eq!(better, Verdict::Better);
    }

    #[test]
    fn few_pairs_and_small_differences_decide_nothing() {
        assert_eq!(Estimate::of([0.5; 5]).verdict(Better::Higher), Verdict::Undecided);
        assert_eq!(Estimate::of([0.5; 6]).verdict(Better::Higher), Verdict::Worse);
        assert_eq!(Estimate::of([0.998; 60]).verdict(Better::Higher), Verdict::Undecided);
        assert_eq!(Estimate::of([]).values.len(), 0);
    }

    #[test]
    fn the_interval_holds_the_median() {
        let estimate = pairs(0.8, 30, 3);
        assert!(estimate.sure.0 <= estimate.low && estimate.low <= estimate.median);
        assert!(estimate.median <= estimate.high && estimate.high <= estimate.sure.1);
        assert!((estimate.median - 0.8).abs() < 0.04);
    }
}
