//! Latencies and rates of a run. Histograms are merged, percentiles never averaged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Latencies from 1 us to an hour with three digits.
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
        self.inner.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Histogram) {
        // Both have the bounds of `new`.
        self.inner.add(&other.inner).ok();
    }

    /// The percentiles that are reported.
    #[must_use]
    pub fn summary(&self) -> Latencies {
        let at = |quantile| self.inner.value_at_quantile(quantile) as f64 / 1e3;
        Latencies {
            count: self.inner.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.inner.max() as f64 / 1e3,
        }
    }
}

/// Percentiles of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// How many there were.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// One in ten takes longer.
    pub p90_us: f64,
    /// One in a hundred takes longer.
    pub p99_us: f64,
    /// One in a thousand takes longer.
    pub p999_us: f64,
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
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Spread { median, min: *min, max: *max }
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
    }
}
