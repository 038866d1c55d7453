//! Where a broker stands on this machine: its rates as parts of the machine's limits, taken in turns.
//!
//! `quick` measures what fits into two minutes, `scale` the rest of the table in the documentation.
//! Every pair is the limit (or the lighter load) and the broker right after each other, the order
//! changing from pair to pair, on the same two cores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::broker::{Broker, BrokerSpec};
use crate::driver::control::Control;
use crate::engine;
use crate::engine::payload::Payload;
use crate::engine::plan::{Acks, FetchSpec, Plan, ProduceSpec, Range};
use crate::engine::schedule::{Pace, Rate, Shape};
use crate::environment::pin_to_core;
use crate::error::{Error, Result};
use crate::estimate::Estimate;
use crate::limits::{self, LimitKind, LimitResult, LimitSpec, ProduceSink};
use crate::oracle::Depth;
use crate::result::RunResult;

/// What is measured and how long.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The broker.
    pub broker: BrokerSpec,
    /// The generator's core.
    pub client_core: usize,
    /// This binary, for the limits' measured side.
    pub harness: PathBuf,
    /// Pairs of each ratio.
    pub pairs: usize,
    /// What a run of produce or ingest moves.
    pub bytes: u64,
    /// What is fetched again and again from the broker's memory.
    pub tail_bytes: u64,
    /// What the cold topic gets: more than the broker keeps in memory.
    pub cold_bytes: u64,
    /// The limits' prepared file.
    pub file_bytes: u64,
    /// The length of a run that has no amount.
    pub seconds: f64,
}

/// What was found so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// Ratios by their keys.
    pub ratios: BTreeMap<String, Vec<f64>>,
    /// The limits' runs.
    pub limits: Vec<LimitResult>,
    /// The broker's runs, with what they were.
    pub runs: Vec<(String, RunResult)>,
    /// Whether every run was clean; what was not.
    pub faults: Vec<String>,
}

impl Found {
    /// The ratios with their intervals.
    #[must_use]
    pub fn estimates(&self) -> BTreeMap<String, Estimate> {
        let ratios = self.ratios.iter().filter(|(_, values)| !values.is_empty());
        ratios.map(|(key, values)| (key.clone(), Estimate::of(values.iter().copied()))).collect()
    }
}

/// A running broker and a prepared file, and what is measured with them.
pub struct Bench {
    spec: Spec,
    broker: Broker,
    file: PathBuf,
    found: Found,
    topics: u64,
}

/// Hears of each step as it begins and as it ends.
pub type Told<'a> = &'a mut dyn FnMut(&str);

impl Bench {
    /// Starts the broker and prepares the file.
    ///
    /// # Errors
    /// If either cannot be.
    pub fn start(spec: &Spec) -> Result<Bench> {
        let file = limits::prepare_file(&spec.broker.directory, spec.file_bytes)?;
        let mut broker = Broker::start(&spec.broker)?;
        pin_to_core(spec.client_core)?;
        broker.wait_until_quiet()?;
        broker.pause()?;
        Ok(Bench { spec: spec.clone(), broker, file, found: Found::default(), topics: 0 })
    }

    /// Ends everything; what was found.
    ///
    /// # Errors
    /// If the broker does not end cleanly.
    pub fn finish(self) -> Result<Found> {
        std::fs::remove_file(&self.file).ok();
        self.broker.stop()?;
        Ok(self.found)
    }

    /// The ratios that fit into two minutes.
    ///
    /// # Errors
    /// If a run cannot begin.
    pub fn quick(&mut self, told: Told<'_>) -> Result<()> {
        self.limits(told)?;
        self.against_ingest("produce_1m", 1 << 20, 16, 16, 4, told)?;
        self.against_ingest("produce_64k_100p", 64 << 10, 100, 16, 4, told)?;
        self.tail_fetch("fetch_tail_64k", 64 << 10, told)?;
        self.single_record(told)?;
        self.end_to_end(told)
    }

    /// The ratios that take longer.
    ///
    /// # Errors
    /// If a run cannot begin.
    pub fn scale(&mut self, told: Told<'_>) -> Result<()> {
        self.against_ingest("produce_64k_1p", 64 << 10, 1, 16, 4, told)?;
        self.against_ingest("produce_64k_1c", 64 << 10, 1, 1, 5, told)?;
        self.tail_fetch("fetch_tail_1m", 1 << 20, told)?;
        self.durable("durable_1", 1, told)?;
        self.durable("durable_1000", 1000, told)?;
        self.cold(told)?;
        self.cold_beside_tail(told)?;
        self.ten_thousand_partitions(told)
    }

    /// What the generator can drive, against what the broker takes, at several batch sizes.
    ///
    /// # Errors
    /// If a run cannot begin.
    pub fn headrooms(&mut self, told: Told<'_>) -> Result<()> {
        for (key, bytes) in
            [("headroom_1m", 1 << 20), ("headroom_16k", 16 << 10), ("headroom_4k", 4 << 10)]
        {
            self.headroom(key, bytes, told)?;
        }
        Ok(())
    }

    fn pairs(
        &mut self,
        key: &str,
        told: Told<'_>,
        mut below: impl FnMut(&mut Bench) -> Result<f64>,
        mut above: impl FnMut(&mut Bench) -> Result<f64>,
    ) -> Result<()> {
        for i in 0..self.spec.pairs {
            let (over, under) = if i % 2 == 0 {
                let under = below(self)?;
                (above(self)?, under)
            } else {
                let over = above(self)?;
                (over, below(self)?)
            };
            if under > 0.0 {
                told(&format!("{key}: {:.3}", over / under));
                self.found.ratios.entry(key.to_owned()).or_default().push(over / under);
            }
        }
        Ok(())
    }

    // The machine's side.

    fn limit(&mut self, kind: LimitKind, shape: &Frames, bytes: u64) -> Result<LimitResult> {
        let spec = LimitSpec {
            in_flight: shape.in_flight,
            server_core: Some(self.spec.broker.core),
            client_core: Some(self.spec.client_core),
            file: Some(self.file.clone()),
            memory_bytes: usize::try_from(self.spec.tail_bytes).unwrap_or(usize::MAX),
            ..LimitSpec::new(kind, shape.bytes, shape.connections, bytes)
        };
        let result = limits::run(&spec, &self.spec.harness)?;
        self.found.limits.push(result.clone());
        Ok(result)
    }

    /// Each limit once, for the page; the ratios measure those they need again.
    fn limits(&mut self, told: Told<'_>) -> Result<()> {
        let shape = Frames { bytes: 64 << 10, connections: 16, in_flight: 4 };
        for kind in LimitKind::ALL {
            let result = self.limit(kind, &shape, self.spec.bytes / 2)?;
            let (unit, figure) = kind.figure();
            told(&format!("limit {kind:?}: {:.2} {unit}", figure(&result)));
        }
        Ok(())
    }

    // The broker's side.

    /// A run against the broker, which is paused before and after.
    fn run(&mut self, name: &str, plan: Plan) -> Result<RunResult> {
        self.broker.go_on()?;
        let plan = Plan {
            name: name.to_owned(),
            bootstrap: self.broker.address().to_owned(),
            broker_pid: Some(self.broker.pid()),
            core: Some(self.spec.client_core),
            data_dir: Some(self.spec.broker.directory.clone()),
            ..plan
        };
        let result = engine::run(&plan, &mut |_| ())?;
        self.broker.pause()?;
        if !result.is_clean() {
            self.found.faults.push(format!(
                "{name}: {:?} {:?} {:?} {:?}",
                result.broken, result.errors, result.verdict, result.findings
            ));
        }
        Ok(result)
    }

    fn keep(&mut self, name: &str, result: RunResult) {
        self.found.runs.retain(|(kept, _)| kept != name);
        self.found.runs.push((name.to_owned(), result));
    }

    fn fresh_topic(&mut self) -> String {
        self.topics += 1;
        format!("bench-{}", self.topics)
    }

    fn delete(&mut self, topic: &str) -> Result<()> {
        self.broker.go_on()?;
        Control::connect(self.broker.address())?.delete(topic)?;
        self.broker.wait_until_quiet()?;
        self.broker.pause()
    }

    fn produce(&mut self, name: &str, spec: ProduceSpec) -> Result<RunResult> {
        let topic = self.fresh_topic();
        let plan = Plan::produce("", ProduceSpec { topic: topic.clone(), ..spec });
        let result = self.run(name, plan)?;
        self.delete(&topic)?;
        Ok(result)
    }

    fn against_ingest(
        &mut self,
        key: &str,
        frame_bytes: usize,
        partitions: i32,
        connections: usize,
        in_flight: usize,
        told: Told<'_>,
    ) -> Result<()> {
        let shape = Frames { bytes: frame_bytes, connections, in_flight };
        let spec = ProduceSpec {
            partitions: Some(partitions),
            connections,
            in_flight,
            payload: Payload::Filler { batch_bytes: frame_bytes, record_bytes: 1000 },
            bytes: Some(self.spec.bytes),
            ..ProduceSpec::new("")
        };
        self.pairs(
            key,
            told,
            |bench| Ok(bench.limit(LimitKind::Ingest, &shape, bench.spec.bytes)?.gb_per_s()),
            |bench| {
                let result = bench.produce(key, spec.clone())?;
                let rate = result.gb_per_s();
                bench.keep(key, result);
                Ok(rate)
            },
        )
    }

    /// Produce and fetch would share the generator's core, so the data is produced first, little enough
    /// to stay in the broker's memory, and then fetched again and again.
    fn tail_fetch(&mut self, key: &str, frame_bytes: usize, told: Told<'_>) -> Result<()> {
        let topic = self.fresh_topic();
        let fill = ProduceSpec {
            payload: Payload::Filler { batch_bytes: frame_bytes, record_bytes: 1000 },
            bytes: Some(self.spec.tail_bytes),
            ..ProduceSpec::new(&topic)
        };
        self.run("fill", Plan::produce("", fill))?;
        let fetch = FetchSpec {
            connections: 16,
            in_flight: 4,
            partition_bytes: frame_bytes,
            bytes: Some(self.spec.bytes),
            // As the limit's load side, which only counts.
            depth: Depth::Framing,
            ..FetchSpec::new(&topic, Range::Repeat)
        };
        let shape = Frames { bytes: frame_bytes, connections: 16, in_flight: 4 };
        self.pairs(
            key,
            told,
            |bench| {
                Ok(bench.limit(LimitKind::MemoryToSocket, &shape, bench.spec.bytes)?.gb_per_s())
            },
            |bench| {
                let result = bench.run(key, Plan::fetch("", fetch.clone()))?;
                let rate = result.gb_per_s();
                bench.keep(key, result);
                Ok(rate)
            },
        )?;
        self.delete(&topic)
    }

    fn single_record(&mut self, told: Told<'_>) -> Result<()> {
        let key = "single_record";
        let payload = Payload::Filler { batch_bytes: SINGLE_BYTES, record_bytes: 1024 };
        let spec = ProduceSpec {
            partitions: Some(16),
            connections: 64,
            in_flight: 1,
            payload,
            ..ProduceSpec::new("")
        };
        // As many frames as take about a run's time at 100,000 a second.
        let frames = (self.spec.seconds * 100_000.0) as u64;
        // The request's frame: the batch behind a head of about 80 bytes.
        let shape = Frames { bytes: SINGLE_BYTES + 80, connections: 64, in_flight: 1 };
        let duration = Duration::try_from_secs_f64(self.spec.seconds).ok();
        self.pairs(
            key,
            told,
            |bench| {
                let bytes = frames * shape.bytes as u64;
                let result = bench.limit(LimitKind::Echo, &shape, bytes)?;
                Ok(result.answers as f64 / result.elapsed.as_secs_f64().max(1e-9))
            },
            |bench| {
                let topic = bench.fresh_topic();
                let produce = ProduceSpec { topic: topic.clone(), ..spec.clone() };
                let result = bench.run(key, Plan { duration, ..Plan::produce("", produce) })?;
                let rate = result.produced.requests as f64 / result.elapsed.as_secs_f64().max(1e-9);
                bench.keep(key, result);
                bench.delete(&topic)?;
                Ok(rate)
            },
        )
    }

    /// Latency at a rate far below what the broker can take, with a consumer; nothing is divided.
    fn end_to_end(&mut self, told: Told<'_>) -> Result<()> {
        let topic = self.fresh_topic();
        let pace = Pace::Open { rate: Rate::Bytes(20e6), shape: Shape::Poisson };
        let produce = ProduceSpec {
            payload: Payload::Filler { batch_bytes: 16 << 10, record_bytes: 1000 },
            pace,
            ..ProduceSpec::new(&topic)
        };
        let seconds = Duration::try_from_secs_f64(self.spec.seconds * 3.0).unwrap_or_default();
        let plan = Plan {
            fetch: vec![FetchSpec::new(&topic, Range::Tail)],
            warm_up: seconds / 4,
            duration: Some(seconds),
            interval: seconds / 20,
            ..Plan::produce("", produce)
        };
        let result = self.run("end to end, 20 MB/s", plan)?;
        let l = result.latency("end_to_end");
        told(&format!("end to end: p50 {:.0} us, p99 {:.0} us", l.p50_us, l.p99_us));
        self.keep("end to end, 20 MB/s", result);
        self.delete(&topic)
    }

    /// acks=all against acks=1, with 4 MiB in flight.
    fn durable(&mut self, key: &str, partitions: i32, told: Told<'_>) -> Result<()> {
        let spec = |acks| ProduceSpec {
            partitions: Some(partitions),
            connections: 16,
            in_flight: 4,
            acks,
            payload: Payload::Filler { batch_bytes: 64 << 10, record_bytes: 1000 },
            bytes: Some(self.spec.bytes),
            ..ProduceSpec::new("")
        };
        let (written, flushed) = (spec(Acks::Leader), spec(Acks::All));
        self.pairs(
            key,
            told,
            |bench| Ok(bench.produce("acks=1", written.clone())?.gb_per_s()),
            |bench| {
                let result = bench.produce(key, flushed.clone())?;
                let rate = result.gb_per_s();
                bench.keep(key, result);
                Ok(rate)
            },
        )
    }

    /// A topic that does not fit into the broker's memory, read from its beginning.
    fn fill_cold(&mut self) -> Result<String> {
        let topic = self.fresh_topic();
        let fill = ProduceSpec {
            partitions: Some(4),
            connections: 4,
            payload: Payload::Filler { batch_bytes: 256 << 10, record_bytes: 1000 },
            bytes: Some(self.spec.cold_bytes),
            ..ProduceSpec::new(&topic)
        };
        self.run("fill", Plan::produce("", fill))?;
        self.broker.go_on()?;
        self.broker.wait_until_quiet()?;
        self.broker.pause()?;
        Ok(topic)
    }

    fn cold(&mut self, told: Told<'_>) -> Result<()> {
        let key = "fetch_cold";
        let topic = self.fill_cold()?;
        let shape = Frames { bytes: 1 << 20, connections: 4, in_flight: 1 };
        let fetch = FetchSpec {
            connections: 4,
            bytes: Some(self.spec.cold_bytes / 2),
            depth: Depth::Framing,
            ..FetchSpec::new(&topic, Range::Repeat)
        };
        self.pairs(
            key,
            told,
            |bench| {
                let bytes = bench.spec.file_bytes.min(bench.spec.cold_bytes) / 2;
                let file = bench.limit(LimitKind::SendFile, &shape, bytes)?.gb_per_s();
                let direct = bench.limit(LimitKind::DirectReadToSocket, &shape, bytes)?.gb_per_s();
                Ok(file.max(direct))
            },
            |bench| {
                bench.forget_files()?;
                let result = bench.run(key, Plan::fetch("", fetch.clone()))?;
                let rate = result.gb_per_s();
                bench.keep(key, result);
                Ok(rate)
            },
        )?;
        self.delete(&topic)
    }

    /// Asks the kernel to forget what it keeps of the broker's files.
    fn forget_files(&self) -> Result<()> {
        fn forget(directory: &Path) {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    forget(&path);
                } else if let Ok(file) = std::fs::File::open(&path) {
                    // A file that stays in memory makes the broker look better, not the limit.
                    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).ok();
                }
            }
        }
        forget(self.broker.data());
        Ok(())
    }

    /// The p99.9 of a tail reader with another beside that reads old data, against without.
    fn cold_beside_tail(&mut self, told: Told<'_>) -> Result<()> {
        let key = "cold_beside_tail";
        let cold = self.fill_cold()?;
        let seconds = Duration::try_from_secs_f64(self.spec.seconds * 2.0).unwrap_or_default();
        let measured = |bench: &mut Bench, with_cold: bool| {
            let topic = bench.fresh_topic();
            let pace = Pace::Open { rate: Rate::Bytes(20e6), shape: Shape::Poisson };
            let produce = ProduceSpec {
                payload: Payload::Filler { batch_bytes: 16 << 10, record_bytes: 1000 },
                pace,
                ..ProduceSpec::new(&topic)
            };
            let mut fetch = vec![FetchSpec::new(&topic, Range::Tail)];
            if with_cold {
                let range = Range::Repeat;
                fetch.push(FetchSpec { connections: 1, ..FetchSpec::new(&cold, range) });
            }
            let plan = Plan {
                fetch,
                warm_up: seconds / 4,
                duration: Some(seconds),
                interval: seconds / 10,
                ..Plan::produce("", produce)
            };
            let name = if with_cold { "tail with a cold reader" } else { "tail alone" };
            let result = bench.run(name, plan)?;
            let p999 = result.latency("end_to_end").p999_us;
            bench.keep(name, result);
            bench.delete(&topic)?;
            Ok(p999)
        };
        self.pairs(key, told, |bench| measured(bench, false), |bench| measured(bench, true))?;
        self.delete(&cold)
    }

    /// The rate over 10,000 partitions against that over 10, in batches of 16 KiB.
    fn ten_thousand_partitions(&mut self, told: Told<'_>) -> Result<()> {
        let spec = |partitions| ProduceSpec {
            partitions: Some(partitions),
            connections: 16,
            in_flight: 5,
            payload: Payload::Filler { batch_bytes: 16 << 10, record_bytes: 1000 },
            bytes: Some(self.spec.bytes),
            ..ProduceSpec::new("")
        };
        let (few, many) = (spec(10), spec(10_000));
        self.pairs(
            "partitions_10k",
            told,
            |bench| Ok(bench.produce("10 partitions", few.clone())?.gb_per_s()),
            |bench| {
                let result = bench.produce("10,000 partitions", many.clone())?;
                let rate = result.gb_per_s();
                bench.keep("10,000 partitions", result);
                Ok(rate)
            },
        )
    }

    /// The same requests to a broker that throws everything away, on the broker's core.
    fn headroom(&mut self, key: &str, batch_bytes: usize, told: Told<'_>) -> Result<()> {
        let spec = ProduceSpec {
            partitions: Some(16),
            connections: 16,
            in_flight: 5,
            payload: Payload::Filler { batch_bytes, record_bytes: 1000 },
            bytes: Some(self.spec.bytes),
            ..ProduceSpec::new("")
        };
        self.pairs(
            key,
            told,
            |bench| Ok(bench.produce("broker", spec.clone())?.gb_per_s()),
            |bench| {
                let sink = ProduceSink::start(Some(bench.spec.broker.core), &bench.spec.harness)?;
                let produce = ProduceSpec { topic: "sink".to_owned(), ..spec.clone() };
                let plan = Plan {
                    broker_pid: Some(sink.pid()),
                    core: Some(bench.spec.client_core),
                    ..Plan::produce(&sink.address(), produce)
                };
                let result = engine::run(&plan, &mut |_| ())?;
                sink.stop()?;
                if !result.is_clean() {
                    return Err(Error::Peer(format!("the sink was not clean: {result:?}")));
                }
                let rate = result.gb_per_s();
                bench.keep(&format!("{key}: sink"), result);
                Ok(rate)
            },
        )
    }
}

/// The frames of a limit.
struct Frames {
    bytes: usize,
    connections: usize,
    in_flight: usize,
}

/// A batch with one record of 1 KiB.
const SINGLE_BYTES: usize = 1110;
