//! Millstream against Apache Kafka: the ratios of one run that anybody can repeat.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::time::Clock;

use crate::broker::{Broker, BrokerSpec};
use crate::compare::{Arena, Block, CompareSpec, Comparison, Metric};
use crate::engine;
use crate::engine::payload::Payload;
use crate::engine::plan::{FetchSpec, Plan, ProduceSpec, Range};
use crate::engine::schedule::{Pace, Rate, Shape};
use crate::environment::pin_to_core;
use crate::error::{Error, Result};
use crate::estimate::Estimate;
use crate::resources::Reading;

/// What the comparison came to.
pub struct VersusKafka {
    /// By their keys in the documentation.
    pub ratios: BTreeMap<String, Estimate>,
    /// The comparisons with their names.
    pub comparisons: Vec<(String, Comparison)>,
    /// What could not be compared, and why.
    pub failures: Vec<String>,
}

/// 1 KB records on 16 partitions, as fast as the answers allow.
fn produce(batch_bytes: usize) -> ProduceSpec {
    ProduceSpec {
        partitions: Some(16),
        payload: Payload::Filler { batch_bytes, record_bytes: 1000 },
        ..ProduceSpec::new("")
    }
}

/// Compares: `spec.sides` are Kafka and Millstream, `spec.plan` gives the length of a block and its
/// warm-up; `starts` times both are started for the ratios of start and memory.
///
/// # Errors
/// If one of the brokers cannot be started. A comparison that fails leaves the others as they are.
pub fn versus_kafka(
    spec: &CompareSpec,
    starts: usize,
    told: &mut dyn FnMut(&str, &Block<'_>),
) -> Result<VersusKafka> {
    let mut ratios = BTreeMap::new();
    let (start, memory) = starts_of(spec, starts)?;
    ratios.insert("kafka_start".to_owned(), start);
    ratios.insert("kafka_memory".to_owned(), memory);
    let mut found = VersusKafka { ratios, comparisons: Vec::new(), failures: Vec::new() };
    for (key, name, bytes) in [
        ("kafka_cpu_16k", "produce 16 KiB", 16 << 10),
        ("kafka_cpu_64k", "produce 64 KiB", 64 << 10),
    ] {
        let plan = Plan { produce: Some(produce(bytes)), fetch: Vec::new(), ..spec.plan.clone() };
        let comparison = one(&CompareSpec { plan, ..spec.clone() }, name, told);
        found.add(name, key, Metric::CpuPerGb, comparison);
    }
    let name = "end to end at half of Kafka's rate";
    let comparison = end_to_end(spec, name, told);
    found.add(name, "kafka_p99", Metric::EndToEndP99, comparison);
    Ok(found)
}

impl VersusKafka {
    fn add(&mut self, name: &str, key: &str, metric: Metric, comparison: Result<Comparison>) {
        match comparison {
            Ok(comparison) => {
                if let Some(ratio) = comparison.ratios.get(&metric) {
                    self.ratios.insert(key.to_owned(), ratio.estimate.clone());
                }
                self.comparisons.push((name.to_owned(), comparison));
            }
            Err(error) => self.failures.push(format!("{name}: {error}")),
        }
    }
}

fn one(
    spec: &CompareSpec,
    name: &str,
    told: &mut dyn FnMut(&str, &Block<'_>),
) -> Result<Comparison> {
    let mut arena = Arena::start(spec)?;
    let comparison = arena.compare(&mut |block| told(name, block))?;
    arena.stop()?;
    Ok(comparison)
}

/// Kafka's best rate with a consumer beside, and then both brokers at half of it.
fn end_to_end(
    spec: &CompareSpec,
    name: &str,
    told: &mut dyn FnMut(&str, &Block<'_>),
) -> Result<Comparison> {
    let fetch = vec![FetchSpec::new("", Range::Tail)];
    let plan = |pace| Plan {
        produce: Some(ProduceSpec { pace, ..produce(16 << 10) }),
        fetch: fetch.clone(),
        ..spec.plan.clone()
    };
    let mut arena = Arena::start(&CompareSpec { plan: plan(Pace::Closed), ..spec.clone() })?;
    let warm = Plan {
        warm_up: spec.warm_up,
        duration: Some(spec.plan.duration.unwrap_or_default().max(Duration::from_secs(5))),
        ..plan(Pace::Closed)
    };
    let best = arena.block(0, &warm)?;
    let rate = best.produced.requests as f64 / best.elapsed.as_secs_f64().max(1e-9);
    if rate < 2.0 {
        return Err(Error::Peer("Kafka took next to nothing".to_owned()));
    }
    let half = Pace::Open { rate: Rate::Requests(rate / 2.0), shape: Shape::Poisson };
    // Both get their warm-up once more, at the rate of the blocks.
    arena.set_plan(plan(half));
    let mut comparison = arena.compare(&mut |block| told(name, block))?;
    arena.stop()?;
    comparison.notes.push(format!(
        "Kafka's best rate with a consumer beside was {rate:.0} requests/s of 16 KiB; both were measured at half of it"
    ));
    Ok(comparison)
}

/// From a start to the first acknowledged record, and the memory of the idle broker after it.
fn starts_of(spec: &CompareSpec, starts: usize) -> Result<(Estimate, Estimate)> {
    let (mut start, mut memory) = (Vec::new(), Vec::new());
    for i in 0..starts {
        let order = if i % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut found = [(0.0, 0.0); 2];
        for side in order {
            found[side] = start_once(&spec.sides[side], spec.client_core)?;
        }
        start.push(found[1].0 / found[0].0);
        memory.push(found[1].1 / found[0].1);
    }
    Ok((Estimate::of(start), Estimate::of(memory)))
}

fn start_once(spec: &BrokerSpec, client_core: usize) -> Result<(f64, f64)> {
    let begin = Clock::monotonic();
    let broker = Broker::start(spec)?;
    pin_to_core(client_core)?;
    let first = ProduceSpec {
        partitions: Some(1),
        connections: 1,
        in_flight: 1,
        payload: Payload::Filler { batch_bytes: 1200, record_bytes: 1000 },
        bytes: Some(1),
        ..ProduceSpec::new("first")
    };
    let produced = engine::run(&Plan::produce(broker.address(), first), &mut |_| ())?;
    let seconds = Clock::monotonic().since(begin).as_secs_f64();
    if !produced.is_clean() || produced.produced.requests != 1 {
        return Err(Error::Peer(format!("the first record was not acknowledged: {produced:?}")));
    }
    broker.wait_until_quiet()?;
    let memory = Reading::of(broker.pid())?.used_since().unwrap_or_default().memory_bytes;
    broker.stop()?;
    Ok((seconds, memory as f64))
}
