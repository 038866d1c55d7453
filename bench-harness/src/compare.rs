//! Two brokers side by side: interleaved blocks on the same core in the same minutes, and what their
//! ratios say.
//!
//! Both brokers run all the time and stay warm; the one that is not measured is paused. Blocks come in
//! the order A B B A, so that a machine that gets faster or slower favours neither, and each has a topic
//! of its own that is deleted afterwards. Before each block what the one before has left for the
//! kernel to write is written. A pair with a block that a hypervisor disturbed, or whose generator was late, is
//! void and repeated.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream::time::Clock;
use serde::{Deserialize, Serialize};

use crate::broker::{Broker, BrokerSpec};
use crate::driver::control::Control;
use crate::engine::plan::Plan;
use crate::environment::{Environment, pin_to_core};
use crate::error::{Doing, Error, Result};
use crate::estimate::{Better, Estimate, Verdict};
use crate::result::{Distribution, Moved, RunResult, SCHEMA};
use crate::stats::Histogram;
use crate::{engine, resources::Resources};

/// More of the machine's time taken by a hypervisor makes a block void.
const STEAL_PERCENT_MAX: f64 = 1.0;
/// After its pause a broker has so long to notice.
const SETTLE: Duration = Duration::from_millis(300);

/// What is compared.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Bytes produced (or fetched) a second.
    Throughput,
    /// CPU-seconds of the broker for each GB.
    CpuPerGb,
    /// The median from the intended time to the acknowledgement.
    AckP50,
    /// Its 99th percentile.
    AckP99,
    /// Its 99.9th percentile.
    AckP999,
    /// The median from the intended time to the consumer.
    EndToEndP50,
    /// Its 99th percentile.
    EndToEndP99,
    /// Its 99.9th percentile.
    EndToEndP999,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 8] = [
        Metric::Throughput,
        Metric::CpuPerGb,
        Metric::AckP50,
        Metric::AckP99,
        Metric::AckP999,
        Metric::EndToEndP50,
        Metric::EndToEndP99,
        Metric::EndToEndP999,
    ];

    /// Which way is better.
    #[must_use]
    pub fn better(self) -> Better {
        if self == Metric::Throughput { Better::Higher } else { Better::Lower }
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Metric::Throughput => "throughput",
            Metric::CpuPerGb => "broker CPU-seconds per GB",
            Metric::AckP50 => "p50 to the acknowledgement",
            Metric::AckP99 => "p99 to the acknowledgement",
            Metric::AckP999 => "p99.9 to the acknowledgement",
            Metric::EndToEndP50 => "p50 end to end",
            Metric::EndToEndP99 => "p99 end to end",
            Metric::EndToEndP999 => "p99.9 end to end",
        }
    }

    /// Of one block; none if it was not measured.
    #[must_use]
    pub fn of(self, result: &RunResult) -> Option<f64> {
        let latency = |name: &str| Some(result.latency(name)).filter(|l| l.count > 0);
        let value = match self {
            Metric::Throughput => result.gb_per_s(),
            Metric::CpuPerGb => result.broker_seconds_per_gb()?,
            Metric::AckP50 => latency("ack")?.p50_us,
            Metric::AckP99 => latency("ack")?.p99_us,
            Metric::AckP999 => latency("ack")?.p999_us,
            Metric::EndToEndP50 => latency("end_to_end")?.p50_us,
            Metric::EndToEndP99 => latency("end_to_end")?.p99_us,
            Metric::EndToEndP999 => latency("end_to_end")?.p999_us,
        };
        (value > 0.0).then_some(value)
    }
}

/// A comparison.
#[derive(Clone, Debug)]
pub struct CompareSpec {
    /// The two brokers; the second is judged against the first.
    pub sides: [BrokerSpec; 2],
    /// The generator's core.
    pub client_core: usize,
    /// The load of a block, without the broker and the topic's number; its duration is a block's.
    pub plan: Plan,
    /// Load on each broker before the first pair.
    pub warm_up: Duration,
    /// Pairs that are not void.
    pub pairs: usize,
    /// No new pair begins after so long.
    pub time: Option<Duration>,
    /// Takes this part of the second broker's core away during its blocks: a slowdown of a known size,
    /// to see whether it is found.
    pub handicap: f64,
}

/// How it goes: told after each block.
pub struct Block<'a> {
    /// 0 or 1.
    pub side: usize,
    /// Pairs done before this block.
    pub pairs: usize,
    /// The block.
    pub result: &'a RunResult,
    /// Why it does not count.
    pub void: Option<&'a str>,
}

/// What one side has done in all its blocks that count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Side {
    /// What a report calls it.
    pub name: String,
    /// As it was started.
    pub configuration: BTreeMap<String, String>,
    /// From its start until it answered.
    pub start: Duration,
    /// Its memory before the first load.
    pub idle_memory_bytes: u64,
    /// The latencies of all its blocks, merged.
    pub latencies: BTreeMap<String, Distribution>,
    /// What it used in all.
    pub used: Resources,
    /// What it moved in all.
    pub produced: Moved,
    /// What was read of it in all.
    pub fetched: Moved,
    /// The length of its blocks together.
    pub elapsed: Duration,
}

/// A comparison's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// The version of this format.
    pub schema: u32,
    /// Where it was done.
    pub environment: Environment,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// The command line that repeats it.
    pub repeat: String,
    /// What the blocks did.
    pub settings: BTreeMap<String, String>,
    /// The two sides.
    pub sides: [Side; 2],
    /// The second side over the first.
    pub ratios: BTreeMap<Metric, Ratio>,
    /// Pairs that were void, by the reason.
    pub void: BTreeMap<String, u64>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A metric's ratio and what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// The ratio.
    pub estimate: Estimate,
    /// The verdict.
    pub verdict: Verdict,
}

/// Two running brokers of which at most one is not paused.
pub struct Arena {
    spec: CompareSpec,
    brokers: [Broker; 2],
    sides: [Side; 2],
    histograms: [BTreeMap<String, Histogram>; 2],
    topics: u64,
}

impl Arena {
    /// Starts both brokers and reads what they need idle.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start(spec: &CompareSpec) -> Result<Arena> {
        let mut sides = [Side::default(), Side::default()];
        let mut started = Vec::new();
        for (side, broker) in sides.iter_mut().zip(&spec.sides) {
            let mut running = Broker::start(broker)?;
            pin_to_core(spec.client_core)?;
            running.wait_until_quiet()?;
            side.name = broker.name();
            side.configuration = running.configuration().clone();
            side.start = running.answered_after();
            let reading = crate::resources::Reading::of(running.pid())?;
            side.idle_memory_bytes = reading.used_since().unwrap_or_default().memory_bytes;
            running.pause()?;
            started.push(running);
        }
        if sides[0].name == sides[1].name {
            sides
                .iter_mut()
                .zip(["A", "B"])
                .for_each(|(s, letter)| s.name += &format!(" ({letter})"));
        }
        let brokers: [Broker; 2] =
            started.try_into().map_err(|_| Error::Peer("two brokers".to_owned()))?;
        let histograms = [BTreeMap::new(), BTreeMap::new()];
        Ok(Arena { spec: spec.clone(), brokers, sides, histograms, topics: 0 })
    }

    /// Another load for the blocks to come.
    pub fn set_plan(&mut self, plan: Plan) {
        self.spec.plan = plan;
    }

    /// One block: the plan against one side, whose broker is paused before and after.
    ///
    /// # Errors
    /// If it cannot be run, or what it read was not clean.
    pub fn block(&mut self, side: usize, plan: &Plan) -> Result<RunResult> {
        let broker = &mut self.brokers[side];
        broker.go_on()?;
        sync(broker)?;
        crate::pause(SETTLE);
        self.topics += 1;
        let topic = format!("compare-{}", self.topics);
        let mut plan = Plan {
            bootstrap: broker.address().to_owned(),
            broker_pid: Some(broker.pid()),
            core: Some(self.spec.client_core),
            data_dir: Some(broker.data().to_owned()),
            ..plan.clone()
        };
        if let Some(produce) = &mut plan.produce {
            produce.topic.clone_from(&topic);
        }
        for fetch in &mut plan.fetch {
            fetch.topic.clone_from(&topic);
        }
        // A topic must be there before its followers.
        let partitions = plan.produce.as_ref().and_then(|p| p.partitions);
        let mut control = Control::connect(broker.address())?;
        control.topic(&topic, Some(partitions.unwrap_or(16)))?;
        let slow = (side == 1 && self.spec.handicap > 0.0)
            .then(|| Thief::start(self.spec.sides[1].core, self.spec.handicap));
        let result = engine::run(&plan, &mut |_| ());
        drop(slow);
        let result = result?;
        if !result.is_clean() {
            return Err(Error::Peer(format!(
                "{}: a block was not clean: {:?} {:?} {:?}",
                self.sides[side].name, result.broken, result.errors, result.findings
            )));
        }
        control.delete(&topic)?;
        self.brokers[side].pause()?;
        Ok(result)
    }

    fn add(&mut self, side: usize, result: &RunResult) {
        let (sum, histograms) = (&mut self.sides[side], &mut self.histograms[side]);
        for (name, histogram) in &result.histograms.by_name {
            histograms.entry(name.clone()).or_default().merge(histogram);
        }
        if let Some(used) = result.broker {
            sum.used.add(&used);
        }
        sum.produced.add(result.produced);
        sum.fetched.add(result.fetched);
        sum.elapsed += result.elapsed;
    }

    /// The blocks of the spec's plan, and what they say.
    ///
    /// # Errors
    /// As [`Arena::block`]; and if so many pairs were void that there is nothing to say.
    pub fn compare(&mut self, told: &mut dyn FnMut(&Block<'_>)) -> Result<Comparison> {
        let spec = self.spec.clone();
        let began_ms = Clock::timestamp().0;
        let begin = Clock::monotonic();
        if !spec.warm_up.is_zero() {
            let warm =
                Plan { warm_up: Duration::ZERO, duration: Some(spec.warm_up), ..spec.plan.clone() };
            for side in 0..2 {
                self.block(side, &warm)?;
            }
        }
        let mut ratios: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        let mut void: BTreeMap<String, u64> = BTreeMap::new();
        let mut settings = BTreeMap::new();
        let (mut pairs, mut tried) = (0, 0);
        // Not more than half of the pairs may be void.
        while pairs < spec.pairs && tried < spec.pairs * 2 {
            if spec.time.is_some_and(|time| Clock::monotonic().since(begin) > time) {
                break;
            }
            let order = if tried % 2 == 0 { [0, 1] } else { [1, 0] };
            tried += 1;
            let mut results: [Option<RunResult>; 2] = [None, None];
            let mut why = None;
            for side in order {
                let result = self.block(side, &spec.plan)?;
                let reason = void_because(&result);
                told(&Block { side, pairs, result: &result, void: reason });
                why = why.or(reason);
                settings.clone_from(&result.settings);
                results[side] = Some(result);
            }
            if let Some(why) = why {
                *void.entry(why.to_owned()).or_default() += 1;
                continue;
            }
            if let [Some(first), Some(second)] = &results {
                pairs += 1;
                for metric in Metric::ALL {
                    if let (Some(first), Some(second)) = (metric.of(first), metric.of(second)) {
                        ratios.entry(metric).or_default().push(second / first);
                    }
                }
                self.add(0, first);
                self.add(1, second);
            }
        }
        if pairs == 0 {
            return Err(Error::Peer(format!("every pair was void: {void:?}")));
        }
        for (side, histograms) in self.sides.iter_mut().zip(&self.histograms) {
            let line = |h: &Histogram| Distribution { summary: h.summary(), curve: h.curve() };
            side.latencies = histograms.iter().map(|(n, h)| (n.clone(), line(h))).collect();
        }
        let judge = |(metric, values): (Metric, Vec<f64>)| {
            let estimate = Estimate::of(values);
            (metric, Ratio { verdict: estimate.verdict(metric.better()), estimate })
        };
        let mut notes = vec![format!("{pairs} pairs of blocks")];
        if pairs < spec.pairs {
            notes.push(format!("{} pairs were asked for", spec.pairs));
        }
        if spec.handicap > 0.0 {
            notes.push(format!(
                "B is handicapped: {:.1} % of its core are taken away",
                spec.handicap * 100.0
            ));
        }
        Ok(Comparison {
            schema: SCHEMA,
            environment: Environment::here(Some(self.brokers[0].data())),
            began_ms,
            repeat: spec.plan.repeat.clone(),
            settings,
            sides: self.sides.clone(),
            ratios: ratios.into_iter().map(judge).collect(),
            void,
            notes,
        })
    }

    /// Ends both brokers.
    ///
    /// # Errors
    /// If one does not end cleanly.
    pub fn stop(self) -> Result<()> {
        let [first, second] = self.brokers;
        first.stop().and(second.stop())
    }
}

fn void_because(result: &RunResult) -> Option<&'static str> {
    if result.steal_percent > STEAL_PERCENT_MAX {
        Some("a hypervisor took more than 1 % of the time")
    } else if !result.void.is_empty() {
        Some("the generator was late or saturated")
    } else if result.produced.requests + result.fetched.requests == 0 {
        Some("nothing moved")
    } else {
        None
    }
}

/// Has everything written that the kernel still holds back for the filesystem of that broker.
fn sync(broker: &Broker) -> Result<()> {
    let directory = std::fs::File::open(broker.data()).doing(broker.data().display())?;
    rustix::fs::syncfs(directory.as_fd()).doing("writing out what the block before has left")
}

/// A thread that takes a part of a core away from whoever runs there.
struct Thief {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Thief {
    const PERIOD: Duration = Duration::from_millis(5);

    fn start(core: usize, part: f64) -> Thief {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            if pin_to_core(core).is_err() {
                return;
            }
            let busy = Thief::PERIOD.mul_f64(part.clamp(0.0, 1.0));
            while !seen.load(Ordering::Relaxed) {
                let begin = Clock::monotonic();
                while Clock::monotonic().since(begin) < busy {
                    std::hint::spin_loop();
                }
                crate::pause(Thief::PERIOD.saturating_sub(busy));
            }
        });
        Thief { stop, thread: Some(thread) }
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
