//! Workloads: what a run does, as a file with a name that says what it is for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::record::{BatchBuilder, HEADER_SIZE};
use serde::Deserialize;

use crate::engine::payload::{Keys, Lines, Payload, Source};
use crate::engine::plan::{Acks, FetchSpec, Plan, ProduceSpec, Range};
use crate::engine::schedule::{Pace, Rate, Shape};
use crate::error::{Doing, Error, Result};
use crate::oracle::Depth;
use crate::result::RunResult;
use crate::stats::Latencies;
use crate::units::{parse_bytes, parse_size};

/// The workloads this program carries, by name.
pub const SHIPPED: [(&str, &str); 7] = [
    ("activity-stream", include_str!("../workloads/activity-stream.toml")),
    ("service-logs", include_str!("../workloads/service-logs.toml")),
    ("thousand-partitions", include_str!("../workloads/thousand-partitions.toml")),
    ("single-records", include_str!("../workloads/single-records.toml")),
    ("fan-out", include_str!("../workloads/fan-out.toml")),
    ("durable", include_str!("../workloads/durable.toml")),
    ("millions", include_str!("../workloads/millions.toml")),
];

/// A workload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it is for, in a sentence.
    pub about: String,
    /// How many partitions the topic gets.
    pub partitions: i32,
    /// The producing side.
    pub produce: ProduceTable,
    /// The consuming sides.
    #[serde(default)]
    pub fetch: Vec<FetchTable>,
    /// A second topic, filled before the run, for readers of old data.
    pub cold: Option<ColdTable>,
    /// What is measured.
    pub measure: MeasureTable,
    /// What `--find-max` has to hold.
    pub objective: Objective,
}

/// The producing side, as written in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProduceTable {
    /// Connections; each is a producer of its own.
    pub connections: usize,
    /// Requests under way on each.
    pub in_flight: usize,
    /// `0`, `1` or `all`.
    pub acks: String,
    /// How much, as `100 MB/s`, `20000 records/s`, `500 requests/s`; or `max`.
    pub rate: String,
    /// When within the second.
    #[serde(default = "poisson")]
    pub shape: Shape,
    /// The size of a batch.
    pub batch: Option<String>,
    /// Or the records of one.
    pub batch_records: Option<usize>,
    /// The size of a value that does not compress ...
    pub record: Option<String>,
    /// ... or real lines: `access-log`, `metrics` or a file.
    pub lines: Option<String>,
    /// Which field of a line is its key.
    pub key_field: Option<usize>,
    /// Or keys drawn by Zipf's law.
    pub zipf: Option<ZipfTable>,
    /// A batch goes out after so many records of the whole stream, full or not.
    pub linger_records: Option<usize>,
}

fn poisson() -> Shape {
    Shape::Poisson
}

/// Keys drawn by Zipf's law.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZipfTable {
    /// Different keys.
    pub keys: usize,
    /// 0 is even, 1 is steep.
    pub exponent: f64,
}

/// A consuming side, as written in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchTable {
    /// What the report calls it.
    pub name: String,
    /// Reads the topic filled before the run, again and again, instead of what is produced.
    #[serde(default)]
    pub cold: bool,
    /// How many times everything is read independently.
    #[serde(default = "one")]
    pub copies: usize,
    /// Connections of each copy.
    #[serde(default = "one")]
    pub connections: usize,
    /// The most to ask for, of each partition.
    pub partition_bytes: Option<String>,
}

fn one() -> usize {
    1
}

/// The topic filled before the run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColdTable {
    /// How much: more than the broker keeps in memory.
    pub bytes: String,
    /// Its partitions.
    pub partitions: i32,
}

/// What is measured, as written in the file.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureTable {
    /// Left out of the figures.
    pub warm_up_s: f64,
    /// Measured.
    pub seconds: f64,
}

/// A bound on a percentile of a latency.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// `ack` or `end_to_end`, or another latency of the result.
    pub latency: String,
    /// `p50`, `p99`, `p99.9` or `max`.
    pub percentile: String,
    /// What it may be.
    pub at_most_ms: f64,
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Objective { latency, percentile, at_most_ms } = self;
        write!(f, "{percentile} of {latency} at most {at_most_ms} ms")
    }
}

impl Objective {
    /// The figure the bound is on.
    #[must_use]
    pub fn of(&self, latencies: &Latencies) -> f64 {
        let us = match self.percentile.as_str() {
            "p50" => latencies.p50_us,
            "p90" => latencies.p90_us,
            "p99" => latencies.p99_us,
            "p99.9" => latencies.p999_us,
            "p99.99" => latencies.p9999_us,
            _ => latencies.max_us,
        };
        us / 1e3
    }

    /// Whether a run holds it: valid, at its rate, and within the bound.
    #[must_use]
    pub fn holds(&self, result: &RunResult) -> bool {
        let latencies = result.latency(&self.latency);
        result.is_valid()
            && result.rate_held
            && latencies.count > 0
            && self.of(&latencies) <= self.at_most_ms
    }
}

/// What a person may change about a workload.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Another rate, or `max`.
    pub rate: Option<String>,
    /// Another shape.
    pub shape: Option<Shape>,
    /// Another length of the measured part.
    pub seconds: Option<f64>,
    /// Another length of the warm-up.
    pub warm_up_s: Option<f64>,
    /// Another acknowledgement.
    pub acks: Option<String>,
}

impl Workload {
    /// A shipped workload by its name, or one from a file.
    ///
    /// # Errors
    /// If there is none of that name, or the file is no workload.
    pub fn load(name: &str) -> Result<Workload> {
        if let Some((name, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Workload::parse(name, text);
        }
        let path = Path::new(name);
        if !path.exists() {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            return Err(Error::Usage(format!(
                "{name} is neither a file nor one of {}",
                names.join(", ")
            )));
        }
        let text = std::fs::read_to_string(path).doing(path.display())?;
        let stem = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        Workload::parse(&stem, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Workload> {
        let workload: Workload =
            toml::from_str(text).map_err(|e| Error::Usage(format!("workload {name}: {e}")))?;
        let workload = Workload { name: name.to_owned(), ..workload };
        // Whatever is wrong is said before anything is started.
        workload.plan("").map(|_| workload)
    }

    /// With a person's changes.
    #[must_use]
    pub fn changed(mut self, changes: &Changes) -> Workload {
        if let Some(rate) = &changes.rate {
            self.produce.rate.clone_from(rate);
        }
        if let Some(acks) = &changes.acks {
            self.produce.acks.clone_from(acks);
        }
        self.produce.shape = changes.shape.unwrap_or(self.produce.shape);
        self.measure.seconds = changes.seconds.unwrap_or(self.measure.seconds);
        self.measure.warm_up_s = changes.warm_up_s.unwrap_or(self.measure.warm_up_s);
        self
    }

    /// The topic it writes.
    #[must_use]
    pub fn topic(&self) -> String {
        format!("bench-{}", self.name)
    }

    /// What is to be done before the run, if anything: the cold topic is filled.
    ///
    /// # Errors
    /// If the workload says something impossible.
    pub fn fill(&self, bootstrap: &str) -> Result<Option<Plan>> {
        let Some(cold) = &self.cold else {
            return Ok(None);
        };
        let produce = ProduceSpec {
            partitions: Some(cold.partitions),
            connections: 4,
            bytes: Some(parse_bytes(&cold.bytes).map_err(|e| self.wrong(&e))?),
            payload: Payload::Filler { batch_bytes: 256 << 10, record_bytes: 1024 },
            ..ProduceSpec::new(&self.cold_topic())
        };
        Ok(Some(Plan { produce: Some(produce), ..Plan::new("fill", bootstrap) }))
    }

    fn cold_topic(&self) -> String {
        format!("{}-cold", self.topic())
    }

    /// The run.
    ///
    /// # Errors
    /// If the workload says something impossible.
    pub fn plan(&self, bootstrap: &str) -> Result<Plan> {
        let table = &self.produce;
        let acks = match table.acks.as_str() {
            "0" => Acks::None,
            "1" => Acks::Leader,
            "all" => Acks::All,
            other => return Err(self.wrong(&format!("acks = {other:?} is not 0, 1 or all"))),
        };
        let pace = if table.rate == "max" {
            Pace::Closed
        } else {
            let rate: Rate = table.rate.parse().map_err(|e: String| self.wrong(&e))?;
            Pace::Open { rate, shape: table.shape }
        };
        let produce = ProduceSpec {
            partitions: Some(self.partitions),
            connections: table.connections,
            in_flight: table.in_flight,
            payload: self.payload()?,
            acks,
            pace,
            ..ProduceSpec::new(&self.topic())
        };
        let fetch = self.fetch.iter().map(|table| self.fetch_spec(table)).collect::<Result<_>>()?;
        let seconds = |s: f64| {
            Duration::try_from_secs_f64(s).map_err(|e| self.wrong(&format!("{s} seconds: {e}")))
        };
        let duration = seconds(self.measure.seconds)?;
        Ok(Plan {
            produce: Some(produce),
            fetch,
            warm_up: seconds(self.measure.warm_up_s)?,
            duration: Some(duration),
            // Not more than a few hundred parts, and not less than ten.
            interval: (duration / 300).max(Duration::from_secs(1)).min(duration / 10),
            ..Plan::new(&self.name, bootstrap)
        })
    }

    fn payload(&self) -> Result<Payload> {
        let table = &self.produce;
        let size = |text: &Option<String>, what: &str| match text {
            Some(text) => parse_size(text).map_err(|e| self.wrong(&e)),
            None => Err(self.wrong(&format!("{what} is missing"))),
        };
        match (&table.lines, &table.record) {
            (Some(source), None) => Ok(Payload::Lines(Lines {
                source: match source.as_str() {
                    "access-log" => Source::AccessLog,
                    "metrics" => Source::Metrics,
                    path => Source::File(PathBuf::from(path)),
                },
                keys: match (table.key_field, table.zipf) {
                    (None, None) => Keys::None,
                    (Some(field), None) => Keys::Field(field),
                    (None, Some(ZipfTable { keys, exponent })) => {
                        Keys::Zipf { count: keys, exponent }
                    }
                    (Some(_), Some(_)) => {
                        return Err(self.wrong("keys are either a field or drawn"));
                    }
                },
                batch_bytes: size(&table.batch, "batch")?,
                linger_records: table.linger_records,
                tape_bytes: TAPE_BYTES,
            })),
            (None, Some(_)) => {
                let record_bytes = size(&table.record, "record")?;
                let batch_bytes = match table.batch_records {
                    Some(records) => {
                        let one = BatchBuilder::record_size_max(None, Some(&vec![0; record_bytes]));
                        HEADER_SIZE + records * one
                    }
                    None => size(&table.batch, "batch")?,
                };
                Ok(Payload::Filler { batch_bytes, record_bytes })
            }
            _ => Err(self.wrong("give either lines or the size of a record")),
        }
    }

    fn fetch_spec(&self, table: &FetchTable) -> Result<FetchSpec> {
        if table.cold && self.cold.is_none() {
            return Err(self.wrong("a cold reader needs a [cold] topic"));
        }
        let (topic, range) = if table.cold {
            (self.cold_topic(), Range::Repeat)
        } else {
            (self.topic(), Range::Tail)
        };
        let bytes = table.partition_bytes.as_deref().map(parse_size).transpose();
        let bytes = bytes.map_err(|e| self.wrong(&e))?;
        let spec = FetchSpec::new(&topic, range);
        Ok(FetchSpec {
            name: table.name.clone(),
            copies: table.copies,
            connections: table.connections,
            partition_bytes: bytes.unwrap_or(spec.partition_bytes),
            depth: Depth::Bytes,
            ..spec
        })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::Usage(format!("workload {}: {what}", self.name))
    }
}

/// Lines are encoded up to here and then sent again.
const TAPE_BYTES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_workloads_are_sound_and_say_what_they_are_for() {
        for (name, _) in SHIPPED {
            let workload = Workload::load(name).unwrap();
            let plan = workload.plan("localhost:1").unwrap();
            assert!(workload.about.len() > 20, "{name}");
            let open = plan.produce.unwrap().pace.is_open();
            assert_eq!(open, name != "millions", "{name}: open loops but for the greatest rate");
            assert!(!plan.fetch.is_empty(), "{name} reads what it writes");
            assert_eq!(workload.fill("").unwrap().is_some(), workload.cold.is_some());
        }
    }

    #[test]
    fn a_single_record_is_one() {
        let plan = Workload::load("single-records").unwrap().plan("").unwrap();
        let Payload::Filler { batch_bytes, record_bytes } = plan.produce.unwrap().payload else {
            panic!("filler");
        };
        let now = millstream::time::Timestamp(1);
        let template = crate::batches::Template::new(batch_bytes, record_bytes, now).unwrap();
        assert_eq!(template.records(), 1);
    }

    #[test]
    fn mistakes_are_named() {
        let (name, text) = SHIPPED[0];
        for (from, to, says) in [
            ("acks = \"1\"", "acks = \"2\"", "not 0, 1 or all"),
            ("\npartitions", "\npartitons", "unknown field"),
            ("MB/s", "MB", "is no rate"),
        ] {
            let wrong = text.replacen(from, to, 1);
            let error = Workload::parse(name, &wrong).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let missing = Workload::load("no-such-workload").unwrap_err().to_string();
        assert!(missing.contains("activity-stream"), "{missing}");
    }

    #[test]
    fn changes_are_made() {
        let changes = Changes {
            rate: Some("max".to_owned()),
            seconds: Some(2.0),
            acks: Some("all".to_owned()),
            ..Changes::default()
        };
        let plan = Workload::load("durable").unwrap().changed(&changes).plan("").unwrap();
        assert_eq!(plan.duration, Some(Duration::from_secs(2)));
        assert!(!plan.produce.unwrap().pace.is_open());
    }
}
