//! The broker beside the limit, in turns on the same core in the same minutes.
//!
//! Each pair is one run of each; the order changes from pair to pair (limit, broker, broker, limit ...)
//! so that a machine that gets faster or slower favours neither. What counts is the ratio within a pair.
//! The broker is started anew for each of its runs and has ended before the limit's begins: its
//! background work never shares the core with the limit.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::broker::{Broker, BrokerSpec};
use crate::engine;
use crate::engine::payload::Payload;
use crate::engine::plan::{FetchSpec, Plan, ProduceSpec, Range};
use crate::environment::{Environment, MachineTicks, pin_to_core};
use crate::error::{Error, Result};
use crate::limits::{self, LimitKind, LimitResult, LimitSpec};
use crate::oracle::Depth;
use crate::result::RunResult;
use crate::state::State;
use crate::stats::Spread;

/// What the broker does and which limit that has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// Produce with `acks=1` against receive, CRC, direct write and acknowledgement.
    Produce,
    /// Fetch of what the broker has in memory against memory to socket.
    TailFetch,
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct AgainstSpec {
    /// The broker. Its directory is also where the limit writes.
    pub broker: BrokerSpec,
    /// The core of the load side.
    pub client_core: usize,
    /// What is compared, with the batch (frame, answer) size.
    pub cases: Vec<(Against, usize)>,
    /// Pairs of each.
    pub pairs: usize,
    /// What each run moves: with produce several times what the broker keeps in memory, so that the
    /// work it puts off is part of the run.
    pub bytes: u64,
    /// What is fetched again and again: less than the broker keeps in memory.
    pub tail_bytes: u64,
    /// Produced before each measured produce, so that neither memory nor files are fresh.
    pub warm_up_bytes: u64,
    /// Partitions the broker's load goes to; as many as connections by default.
    pub partitions: Option<i32>,
    /// Connections, on both sides.
    pub connections: usize,
    /// Requests under way on each.
    pub in_flight: usize,
    /// The size of a record's value.
    pub record_bytes: usize,
    /// The size of the limit's prepared file.
    pub file_bytes: u64,
    /// Read everything back after each produce and check it.
    pub verify: bool,
    /// This binary, for the limit's measured side.
    pub harness: PathBuf,
}

/// One run of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// The limit's run.
    pub limit: LimitResult,
    /// The broker's.
    pub broker: RunResult,
    /// Whether the broker was idle before its run.
    pub broker_was_quiet: bool,
}

impl Pair {
    /// The broker's rate as a part of the limit's.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.broker.gb_per_s() / self.limit.gb_per_s().max(1e-9)
    }
}

/// All pairs of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What was compared.
    pub against: Against,
    /// The size of a batch, frame or answer.
    pub frame_bytes: usize,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

impl Case {
    /// The ratios of rates.
    #[must_use]
    pub fn ratio(&self) -> Spread {
        Spread::of(self.pairs.iter().map(Pair::ratio))
    }

    /// CPU-seconds per GB of the limit and of the broker.
    #[must_use]
    pub fn cpu_seconds_per_gb(&self) -> (Spread, Spread) {
        let limit = self.pairs.iter().map(|p| p.limit.server_cpu.seconds_per_gb(p.limit.bytes));
        let broker = self.pairs.iter().filter_map(|p| p.broker.broker_seconds_per_gb());
        (Spread::of(limit), Spread::of(broker))
    }

    /// How busy the generator was in the broker's runs, as a part of its core.
    #[must_use]
    pub fn generator_busy(&self) -> Spread {
        let busy = |p: &Pair| p.broker.generator_busy;
        Spread::of(self.pairs.iter().map(busy))
    }
}

/// All cases.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Always `compare-limits`.
    pub command: String,
    /// Where it was done.
    pub environment: Environment,
    /// Per cent of the machine's time that a hypervisor took.
    pub steal_percent: f64,
    /// What was compared.
    pub cases: Vec<Case>,
}

/// Compares as told; `progress` hears of each pair as it is done.
///
/// # Errors
/// If a side cannot be run, or the broker's run was not clean: a rate at which data is lost is none.
pub fn run(
    spec: &AgainstSpec,
    mut progress: impl FnMut(Against, usize, &Pair),
) -> Result<Comparison> {
    let directory = &spec.broker.directory;
    let file = limits::prepare_file(directory, spec.file_bytes)?;
    let ticks = MachineTicks::now();
    let outcome = spec.cases.iter().map(|(against, frame_bytes)| {
        let mut pairs = Vec::new();
        for i in 0..spec.pairs {
            let pair = pair(spec, *against, *frame_bytes, &file, i % 2 == 0)?;
            progress(*against, *frame_bytes, &pair);
            pairs.push(pair);
        }
        Ok(Case { against: *against, frame_bytes: *frame_bytes, pairs })
    });
    let cases = outcome.collect::<Result<Vec<Case>>>();
    std::fs::remove_file(&file).ok();
    Ok(Comparison {
        command: "compare-limits".to_owned(),
        environment: Environment::here(Some(directory)),
        steal_percent: MachineTicks::now().steal_percent_since(ticks),
        cases: cases?,
    })
}

fn pair(
    spec: &AgainstSpec,
    against: Against,
    frame_bytes: usize,
    file: &Path,
    limit_first: bool,
) -> Result<Pair> {
    let limit = || {
        let kind = match against {
            Against::Produce => LimitKind::Ingest,
            Against::TailFetch => LimitKind::MemoryToSocket,
        };
        let limit = LimitSpec {
            in_flight: spec.in_flight,
            server_core: Some(spec.broker.core),
            client_core: Some(spec.client_core),
            file: Some(file.to_owned()),
            memory_bytes: usize::try_from(spec.tail_bytes).unwrap_or(usize::MAX).max(frame_bytes),
            ..LimitSpec::new(kind, frame_bytes, spec.connections, spec.bytes)
        };
        limits::run(&limit, &spec.harness)
    };
    let broker = || match against {
        Against::Produce => produce(spec, frame_bytes),
        Against::TailFetch => tail_fetch(spec, frame_bytes),
    };
    let (limit, (broker, broker_was_quiet)) = if limit_first {
        let limit = limit()?;
        (limit, broker()?)
    } else {
        let broker = broker()?;
        (limit()?, broker)
    };
    Ok(Pair { limit, broker, broker_was_quiet })
}

fn produce_plan(
    spec: &AgainstSpec,
    broker: &Broker,
    frame_bytes: usize,
    bytes: u64,
    state: Option<PathBuf>,
) -> Plan {
    let produce = ProduceSpec {
        connections: spec.connections,
        in_flight: spec.in_flight,
        partitions: spec.partitions,
        payload: Payload::Filler { batch_bytes: frame_bytes, record_bytes: spec.record_bytes },
        bytes: Some(bytes),
        state,
        ..ProduceSpec::new(TOPIC)
    };
    plan(spec, broker, Plan::produce(broker.address(), produce))
}

fn plan(spec: &AgainstSpec, broker: &Broker, plan: Plan) -> Plan {
    Plan { broker_pid: Some(broker.pid()), core: Some(spec.client_core), ..plan }
}

fn produce(spec: &AgainstSpec, frame_bytes: usize) -> Result<(RunResult, bool)> {
    let broker = Broker::start(&spec.broker)?;
    pin_to_core(spec.client_core)?;
    let state = spec.broker.directory.join(format!("acked-{}", std::process::id()));
    let state = spec.verify.then_some(state);
    if spec.warm_up_bytes > 0 {
        let bytes = spec.warm_up_bytes;
        clean(engine::run(
            &produce_plan(spec, &broker, frame_bytes, bytes, state.clone()),
            &mut |_| (),
        )?)?;
    }
    let quiet = broker.wait_until_quiet()?;
    let told = produce_plan(spec, &broker, frame_bytes, spec.bytes, state.clone());
    let result = clean(engine::run(&told, &mut |_| ())?)?;
    if let Some(state) = state {
        let acked = State::read(&state);
        std::fs::remove_file(&state).ok();
        let fetch = FetchSpec { acked: Some(acked?), ..FetchSpec::new(TOPIC, Range::Whole) };
        let whole = plan(spec, &broker, Plan::fetch(broker.address(), fetch));
        clean(engine::run(&whole, &mut |_| ())?)?;
    }
    broker.stop()?;
    Ok((result, quiet))
}

/// Produce and fetch would share the generator's core, so the data is produced first, little enough to
/// stay in the broker's memory, and then fetched again and again.
fn tail_fetch(spec: &AgainstSpec, frame_bytes: usize) -> Result<(RunResult, bool)> {
    let broker = Broker::start(&spec.broker)?;
    pin_to_core(spec.client_core)?;
    let fill = produce_plan(spec, &broker, frame_bytes, spec.tail_bytes, None);
    clean(engine::run(&fill, &mut |_| ())?)?;
    let quiet = broker.wait_until_quiet()?;
    let fetch = FetchSpec {
        connections: spec.connections,
        in_flight: spec.in_flight,
        partition_bytes: frame_bytes,
        bytes: Some(spec.bytes),
        // As the limit's load side, which only counts: what is measured is the broker.
        depth: Depth::Framing,
        ..FetchSpec::new(TOPIC, Range::Repeat)
    };
    let again = plan(spec, &broker, Plan::fetch(broker.address(), fetch));
    let result = clean(engine::run(&again, &mut |_| ())?)?;
    broker.stop()?;
    Ok((result, quiet))
}

const TOPIC: &str = "compare";

fn clean(result: RunResult) -> Result<RunResult> {
    if result.is_clean() {
        Ok(result)
    } else {
        Err(Error::Peer(format!(
            "{} was not clean: {:?} {:?} {:?} {:?}",
            result.command, result.broken, result.errors, result.verdict, result.findings
        )))
    }
}
