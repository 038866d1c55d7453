//! What a load run reports, and the clock and processor readings around it.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::time::{Clock, Monotonic};
use serde::{Deserialize, Serialize};

use crate::environment::{CpuTime, Environment, MachineTicks};
use crate::error::Result;
use crate::oracle::Verdict;
use crate::stats::{Histogram, Latencies};

/// One load run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// `produce`, `fetch` or `verify`.
    pub command: String,
    /// What the run was told, for whoever repeats it.
    pub settings: BTreeMap<String, String>,
    /// Where it ran.
    pub environment: Environment,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Bytes of record batches moved (with `acks=0` sent, otherwise acknowledged or received).
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Requests answered (with `acks=0` sent).
    pub requests: u64,
    /// Answers with an error, by the error's name.
    pub errors: BTreeMap<String, u64>,
    /// What ended the run before its time.
    pub broken: Option<String>,
    /// From handing a request to the socket to having its answer.
    pub latency: Latencies,
    /// Processor time of the broker, if its process was named.
    pub broker_cpu: Option<CpuTime>,
    /// Processor time of the generator.
    pub generator_cpu: CpuTime,
    /// Per cent of the machine's time that a hypervisor took.
    pub steal_percent: f64,
    /// What the oracle found, if it looked.
    pub verdict: Option<Verdict>,
}

impl RunResult {
    /// 10^9 bytes per second.
    #[must_use]
    pub fn gb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Whether it ran to its end without an error and nothing read was wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.broken.is_none() && self.verdict.is_none_or(|v| v.is_clean())
    }
}

/// Counts during a run.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) requests: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) broken: Option<String>,
    pub(crate) latency: Histogram,
}

impl Counts {
    pub(crate) fn error(&mut self, name: String) {
        *self.errors.entry(name).or_default() += 1;
    }

    pub(crate) fn errors_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Readings at the start of a run.
pub(crate) struct Meter {
    broker_pid: Option<u32>,
    begin: Monotonic,
    broker: Option<CpuTime>,
    generator: CpuTime,
    machine: MachineTicks,
}

impl Meter {
    pub(crate) fn start(broker_pid: Option<u32>) -> Result<Meter> {
        Ok(Meter {
            broker_pid,
            broker: broker_pid.map(CpuTime::of_process).transpose()?,
            generator: CpuTime::of_self()?,
            machine: MachineTicks::now(),
            begin: Clock::monotonic(),
        })
    }

    pub(crate) fn begin(&self) -> Monotonic {
        self.begin
    }

    /// Ends the run now. A broker that has died meanwhile has no processor time.
    pub(crate) fn stop(
        self,
        command: &str,
        settings: BTreeMap<String, String>,
        counts: Counts,
    ) -> Result<RunResult> {
        let elapsed = Clock::monotonic().since(self.begin);
        let broker = self.broker_pid.and_then(|pid| CpuTime::of_process(pid).ok());
        Ok(RunResult {
            command: command.to_owned(),
            settings,
            environment: Environment::here(None),
            elapsed,
            bytes: counts.bytes,
            records: counts.records,
            requests: counts.requests,
            errors: counts.errors,
            broken: counts.broken,
            latency: counts.latency.summary(),
            broker_cpu: broker.zip(self.broker).map(|(after, before)| after.since(before)),
            generator_cpu: CpuTime::of_self()?.since(self.generator),
            steal_percent: MachineTicks::now().steal_percent_since(self.machine),
            verdict: None,
        })
    }
}
