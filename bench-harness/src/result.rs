//! What a load run reports. The schema is versioned: a reader of the JSON looks at `schema` first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::oracle::Verdict;
use crate::resources::Resources;
use crate::stats::{CurvePoint, Histogram, Latencies};

/// The version of everything this program writes as JSON.
pub const SCHEMA: u32 = 2;

/// One load run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// The version of this format.
    pub schema: u32,
    /// `produce`, `fetch`, `verify` or the workload's name.
    pub command: String,
    /// What the run was told, for whoever repeats it.
    pub settings: BTreeMap<String, String>,
    /// The command line that repeats it.
    pub repeat: String,
    /// Where it ran.
    pub environment: Environment,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// The length of the measured part.
    pub elapsed: Duration,
    /// What was produced meanwhile (with `acks=0` sent, otherwise acknowledged).
    pub produced: Moved,
    /// What was fetched meanwhile.
    pub fetched: Moved,
    /// Requests a second that were scheduled, in an open loop.
    pub offered_per_s: Option<f64>,
    /// Whether the broker kept up with them; true in a closed loop.
    pub rate_held: bool,
    /// Answers with an error, by the error's name.
    pub errors: BTreeMap<String, u64>,
    /// What ended the run before its time.
    pub broken: Option<String>,
    /// Why the run says nothing about the broker; empty if it does.
    pub void: Vec<String>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
    /// Latencies by name: `lateness`, `queued`, `service`, `ack`, `ack_records`, `end_to_end`,
    /// `end_to_end_records`, `fetch`.
    pub latencies: BTreeMap<String, Distribution>,
    /// The run second by second, warm-up included.
    pub intervals: Vec<Interval>,
    /// What the broker used, if its process was named.
    pub broker: Option<Resources>,
    /// What the generator used.
    pub generator: Resources,
    /// The part of the time the generator had something to do.
    pub generator_busy: f64,
    /// Per cent of the machine's time that a hypervisor took.
    pub steal_percent: f64,
    /// What the oracle found, if something was read.
    pub verdict: Option<Verdict>,
    /// The first things found wrong, in words.
    pub findings: Vec<String>,
    /// The histograms themselves.
    #[serde(skip)]
    pub histograms: Histograms,
}

/// Requests, records and bytes of record batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Bytes of record batches.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Requests answered (with `acks=0` sent).
    pub requests: u64,
}

impl Moved {
    /// Adds what else has moved.
    pub fn add(&mut self, other: Moved) {
        self.bytes += other.bytes;
        self.records += other.records;
        self.requests += other.requests;
    }

    /// What has been added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Moved) -> Moved {
        Moved {
            bytes: self.bytes - earlier.bytes,
            records: self.records - earlier.records,
            requests: self.requests - earlier.requests,
        }
    }
}

/// A latency's percentiles and its whole distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The percentiles.
    pub summary: Latencies,
    /// The distribution.
    pub curve: Vec<CurvePoint>,
}

/// A second, or another part of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it began, in seconds from the beginning.
    pub at_s: f64,
    /// How long it was.
    pub length_s: f64,
    /// Whether it belongs to the measured part.
    pub measured: bool,
    /// Produced meanwhile.
    pub produced: Moved,
    /// Fetched meanwhile.
    pub fetched: Moved,
    /// Requests waiting to be sent at its end.
    pub backlog: u64,
    /// Acknowledgements received meanwhile, from the intended time.
    pub ack: Latencies,
    /// Batches consumed meanwhile, from the intended time.
    pub end_to_end: Latencies,
}

/// Histograms by name, and those of the intervals.
#[derive(Clone, Default)]
pub struct Histograms {
    /// As in [`RunResult::latencies`].
    pub by_name: BTreeMap<String, Histogram>,
    /// Of each interval: its begin and length in seconds, acknowledgements, end to end.
    pub intervals: Vec<(f64, f64, Histogram, Histogram)>,
}

impl std::fmt::Debug for Histograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} histograms", self.by_name.len() + 2 * self.intervals.len())
    }
}

impl RunResult {
    /// What the run is about: produced if anything was, fetched otherwise.
    #[must_use]
    pub fn moved(&self) -> Moved {
        if self.produced.requests > 0 { self.produced } else { self.fetched }
    }

    /// 10^9 bytes per second, of what the run is about.
    #[must_use]
    pub fn gb_per_s(&self) -> f64 {
        self.moved().bytes as f64 / 1e9 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// CPU-seconds of the broker for each 10^9 bytes, if its process was named.
    #[must_use]
    pub fn broker_seconds_per_gb(&self) -> Option<f64> {
        Some(self.broker?.cpu.seconds_per_gb(self.moved().bytes))
    }

    /// The percentiles of a latency; zeros if it was not measured.
    #[must_use]
    pub fn latency(&self, name: &str) -> Latencies {
        self.latencies.get(name).map(|d| d.summary).unwrap_or_default()
    }

    /// Whether it ran to its end without an error and nothing read was wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.broken.is_none() && self.verdict.is_none_or(|v| v.is_clean())
    }

    /// Whether its figures may be used: it is clean, and the generator did its part.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.is_clean() && self.void.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn empty() -> RunResult {
        RunResult {
            schema: SCHEMA,
            command: "test".to_owned(),
            settings: BTreeMap::new(),
            repeat: String::new(),
            environment: Environment::here(None),
            began_ms: 1_700_000_000_000,
            elapsed: Duration::from_secs(2),
            produced: Moved::default(),
            fetched: Moved::default(),
            offered_per_s: None,
            rate_held: true,
            errors: BTreeMap::new(),
            broken: None,
            void: Vec::new(),
            notes: Vec::new(),
            latencies: BTreeMap::new(),
            intervals: Vec::new(),
            broker: None,
            generator: Resources::default(),
            generator_busy: 0.0,
            steal_percent: 0.0,
            verdict: None,
            findings: Vec::new(),
            histograms: Histograms::default(),
        }
    }

    #[test]
    fn a_result_is_read_back_as_it_was_written() {
        let mut result = empty();
        result.produced = Moved { bytes: 2_000_000_000, records: 10, requests: 1 };
        result.latencies.insert("ack".to_owned(), Distribution::default());
        let text = serde_json::to_string(&result).unwrap();
        let read: RunResult = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!((read.gb_per_s() - 1.0).abs() < 1e-9 && read.is_valid());
        assert!(text.starts_with("{\"schema\":2,"));
    }
}
