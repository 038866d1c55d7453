//! Latencies and rates of a run. Histograms are merged, percentiles never averaged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Latencies from 1 us to an hour with three digits, counted in nanoseconds.
#[derive(Clone)]
pub struct Histogram {
    inner: hdrhistogram::Histogram<u64>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Histogram {
        let bounded = hdrhistogram::Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3);
        // These bounds are valid; a histogram without bounds is the same with more memory.
        let inner = bounded.or_else(|_| hdrhistogram::Histogram::new(3));
        match inner {
            Ok(inner) => Histogram { inner },
            Err(error) => unreachable!("constant bounds: {error}"),
        }
    }

    /// Counts one latency; those beyond an hour count as an hour.
    pub fn record(&mut self, latency: Duration) {
        self.record_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    /// Counts a latency so many times.
    pub fn record_ns(&mut self, latency_ns: u64, times: u64) {
        self.inner.saturating_record_n(latency_ns, times);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Histogram) {
        // Both have the bounds of `new`.
        self.inner.add(&other.inner).ok();
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// How many are longer.
    #[must_use]
    pub fn count_above(&self, latency: Duration) -> u64 {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.inner.len() - self.inner.count_between(0, ns)
    }

    /// The histogram as the library has it, for its file formats.
    #[must_use]
    pub fn inner(&self) -> &hdrhistogram::Histogram<u64> {
        &self.inner
    }

    /// The percentiles that are reported.
    #[must_use]
    pub fn summary(&self) -> Latencies {
        let at = |quantile| self.inner.value_at_quantile(quantile) as f64 / 1e3;
        Latencies {
            count: self.inner.len(),
            mean_us: self.inner.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: self.inner.max() as f64 / 1e3,
        }
    }

    /// The whole distribution: percentiles with the latencies at them, closer together the nearer
    /// they are to 1, up to the greatest.
    #[must_use]
    pub fn curve(&self) -> Vec<CurvePoint> {
        if self.is_empty() {
            return Vec::new();
        }
        let points = self.inner.iter_quantiles(8).map(|step| CurvePoint {
            quantile: step.quantile_iterated_to(),
            us: step.value_iterated_to() as f64 / 1e3,
        });
        points.collect()
    }
}

/// One point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The part that takes no longer, from 0 to 1.
    pub quantile: f64,
    /// The latency in microseconds.
    pub us: f64,
}

/// Percentiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// How many there were.
    pub count: u64,
    /// The mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// One in ten takes longer.
    pub p90_us: f64,
    /// One in a hundred takes longer.
    pub p99_us: f64,
    /// One in a thousand takes longer.
    pub p999_us: f64,
    /// One in ten thousand takes longer.
    pub p9999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Median, least and greatest of some figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The one in the middle (of two, their mean).
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these values; zeros if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return Spread::default();
        };
        Spread { median: median_of_sorted(&values), min: *min, max: *max }
    }
}

/// The middle of sorted values, of two their mean; 0 if there are none.
#[must_use]
pub fn median_of_sorted(values: &[f64]) -> f64 {
    match values.len() {
        0 => 0.0,
        n => f64::midpoint(values[(n - 1) / 2], values[n / 2]),
    }
}

/// A straight line through values at equal distances.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    /// The change from the first to the last on the line, as a part of the mean.
    pub drift: f64,
    /// The slope in units of its own uncertainty; beyond 3 it is hardly chance.
    pub t: f64,
    /// The standard deviation as a part of the mean.
    pub variation: f64,
}

impl Trend {
    /// Of these values; zeros if there are less than four or their mean is zero.
    #[must_use]
    pub fn of(values: &[f64]) -> Trend {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        if values.len() < 4 || mean == 0.0 {
            return Trend::default();
        }
        let middle = (n - 1.0) / 2.0;
        let at = |i: usize| i as f64 - middle;
        let sxx: f64 = (0..values.len()).map(|i| at(i).powi(2)).sum();
        let sxy: f64 = values.iter().enumerate().map(|(i, v)| at(i) * (v - mean)).sum();
        let slope = sxy / sxx;
        let squares = |f: &dyn Fn(usize) -> f64| -> f64 {
            values.iter().enumerate().map(|(i, v)| (v - f(i)).powi(2)).sum()
        };
        let residual = squares(&|i| mean + slope * at(i)) / (n - 2.0);
        let error = (residual / sxx).sqrt();
        Trend {
            drift: slope * (n - 1.0) / mean,
            t: if error > 0.0 { slope / error } else { 0.0 },
            variation: (squares(&|_| mean) / (n - 1.0)).sqrt() / mean.abs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_takes_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median.to_bits(), 2.5_f64.to_bits());
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn merged_histograms_keep_every_count() {
        let (mut a, mut b) = (Histogram::new(), Histogram::new());
        for us in 1..=100 {
            a.record(Duration::from_micros(us));
            b.record(Duration::from_micros(us + 100));
        }
        a.merge(&b);
        let summary = a.summary();
        assert_eq!(summary.count, 200);
        assert!((summary.p50_us - 100.0).abs() < 0.6, "{summary:?}");
        assert!((summary.max_us - 200.0).abs() < 0.6, "{summary:?}");
        assert_eq!(a.count_above(Duration::from_micros(150)), 50);
    }

    #[test]
    fn the_curve_rises_to_the_greatest() {
        let mut histogram = Histogram::new();
        (1..=10_000).for_each(|us| histogram.record_ns(us * 1000, 1));
        let curve = histogram.curve();
        assert!(curve.is_sorted_by(|a, b| a.quantile <= b.quantile && a.us <= b.us));
        let last = curve.last().unwrap();
        assert!((last.quantile - 1.0).abs() < 1e-9 && (last.us - 10_000.0).abs() < 10.0);
        assert!(curve.len() > 40 && Histogram::new().curve().is_empty());
    }

    #[test]
    fn a_trend_is_told_from_noise() {
        let wave = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let flat: Vec<f64> = (0..40).map(|i| 100.0 + wave(i)).collect();
        let falling: Vec<f64> = (0..40).map(|i| 100.0 - i as f64 + wave(i)).collect();
        assert!(Trend::of(&flat).t.abs() < 1.0 && Trend::of(&flat).variation < 0.02);
        let falling = Trend::of(&falling);
        assert!(falling.t < -20.0 && (falling.drift + 0.48).abs() < 0.02, "{falling:?}");
        assert_eq!(Trend::of(&[1.0, 2.0]), Trend::default());
    }
}
