//! The generator: producers and consumers of one run on one thread that never waits for anything but
//! its own schedule and its sockets.
//!
//! A run has three parts: the warm-up, the measured part, and the drain, in which nothing new is sent
//! and everything acknowledged has to come back to the consumers. Latencies belong to the part in which
//! their request was meant to be sent, whenever it ends.

mod consumer;
mod judge;
mod load;
pub mod payload;
pub mod plan;
mod producer;
mod recorder;
pub mod schedule;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use millstream::protocol::ApiKey;
use millstream::time::{Clock, Monotonic};

use crate::driver::control::{Control, offset_ranges, wait_until_served};
use crate::driver::lean::flexible;
use crate::environment::{Environment, MachineTicks, pin_to_core};
use crate::error::{Doing, Error, Result};
use crate::oracle::{Known, Verdict};
use crate::poll::Poll;
use crate::resources::{Reading, Resources};
use crate::result::{Moved, RunResult, SCHEMA};
use crate::state::{Acked, StateWriter, Stream};
use consumer::{Consumer, FetchSide};
use load::{Load, LoadSpec};
use plan::Plan;
use producer::{ProduceSide, Producer};
use recorder::Recorder;
use schedule::{Pace, Schedule};

/// Nothing is answered, or nothing comes though it should, for so long only if the broker has stopped.
const STALLED: Duration = Duration::from_secs(30);
/// After the producers' end nothing new comes for so long: what is missing will not come.
const DRAINED: Duration = Duration::from_secs(5);
/// With so many refusals there is nothing to measure.
const ERRORS_MAX: u64 = 10_000;
/// Requests waiting to be sent: a broker that is so far behind will not catch up.
const BACKLOG_MAX: usize = 2_000_000;
/// So long before a request is due the thread stops sleeping: waking up takes that long.
const SPIN_NS: u64 = 60_000;
/// Files and ends are looked at so often.
const TICK_NS: u64 = 20_000_000;

/// How a run stands; told once for each interval.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the beginning.
    pub at: Duration,
    /// Until the end of the measured part, if that is fixed.
    pub whole: Option<Duration>,
    /// `warm-up`, `measured` or `drain`.
    pub part: &'static str,
    /// The length of the interval.
    pub interval: Duration,
    /// Produced in the interval.
    pub produced: Moved,
    /// Fetched in the interval.
    pub fetched: Moved,
    /// Requests that wait to be sent.
    pub backlog: u64,
    /// Answers with an error so far.
    pub errors: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    WarmUp,
    Measured,
    Drain,
}

/// Readings at the beginning of the measured part.
struct Meter {
    begin: Monotonic,
    broker: Option<Reading>,
    generator: Reading,
    machine: MachineTicks,
    idle_ns: u64,
}

/// What was read at its end.
struct Measured {
    elapsed: Duration,
    produced: Moved,
    fetched: Moved,
    broker: Option<Resources>,
    generator: Resources,
    steal_percent: f64,
    busy: f64,
    backlog: u64,
}

struct Engine<'a> {
    plan: &'a Plan,
    produce: Option<ProduceSide>,
    producers: Vec<Producer>,
    fetch: Vec<FetchSide>,
    consumers: Vec<Consumer>,
    /// By token: whether room to send is waited for.
    blocked: Vec<bool>,
    poll: Poll,
    schedule: Option<Schedule>,
    /// Of the schedule's requests, the next.
    next_request: usize,
    recorder: Recorder,
    part: Part,
    begin: Monotonic,
    window: (u64, u64),
    meter: Option<Meter>,
    measured: Option<Measured>,
    interval_begin: Monotonic,
    told: (Moved, Moved),
    next_tick: u64,
    last_answer: Monotonic,
    broken: Option<String>,
}

/// Runs the plan; `progress` hears of every interval.
///
/// # Errors
/// If the run cannot begin. What goes wrong later is part of the result.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(&Progress)) -> Result<RunResult> {
    let endless_fetch = |f: &plan::FetchSpec| f.bytes.is_none() && f.range != plan::Range::Whole;
    let endless = match &plan.produce {
        Some(produce) => produce.bytes.is_none(),
        None => plan.fetch.is_empty() || plan.fetch.iter().all(endless_fetch),
    };
    if endless && plan.duration.is_none() {
        return Err(Error::Usage("say how much to move, or how long".to_owned()));
    }
    if let Some(core) = plan.core {
        pin_to_core(core)?;
    }
    // Sleeps end when they should, not up to 50 us later.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).doing("setting the timer slack")?;
    let mut engine = Engine::new(plan)?;
    engine.drive(progress)?;
    engine.finish()
}

/// A number that no other run has, without asking anyone.
fn run_id() -> u64 {
    let wall = u64::try_from(Clock::timestamp().0).unwrap_or(0);
    (wall << 20) ^ u64::from(std::process::id()) ^ (Clock::monotonic().0 << 44)
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Plan) -> Result<Engine<'a>> {
        let mut control = Control::connect(&plan.bootstrap)?;
        let id = run_id();
        let mut produce = None;
        if let Some(spec) = &plan.produce {
            let connections = i32::try_from(spec.connections).unwrap_or(i32::MAX);
            let topic = control.topic(&spec.topic, Some(spec.partitions.unwrap_or(connections)))?;
            wait_until_served(&topic)?;
            let version = control.versions().of(ApiKey::Produce)?;
            let version = flexible(ApiKey::Produce, version)?;
            let load = Load::new(&LoadSpec {
                topic: &topic,
                connections: spec.connections,
                payload: &spec.payload,
                acks: spec.acks.number(),
                version,
                run: id,
            })?;
            let batches = |bytes: u64| (bytes as f64 / load.batch_bytes).ceil() as u64;
            let left = spec.bytes.map_or(u64::MAX, batches);
            let state = spec.state.as_ref();
            let state = state.map(|path| StateWriter::open(path, id, &spec.topic)).transpose()?;
            let spec = spec.clone();
            produce = Some(ProduceSide { spec, version, load, left, stopped: false, state });
        }
        let known = produce
            .as_ref()
            .map_or_else(|| Arc::new(Known::default()), |side| Arc::clone(&side.load.known));
        let (mut fetch, mut consumers) = (Vec::new(), Vec::new());
        for (number, spec) in plan.fetch.iter().enumerate() {
            let topic = control.topic(&spec.topic, None)?;
            let version = flexible(ApiKey::Fetch, control.versions().of(ApiKey::Fetch)?)?;
            let ranges = offset_ranges(&topic)?;
            let side = FetchSide {
                spec: spec.clone(),
                topic,
                version,
                known: Arc::clone(&known),
                moved: Moved::default(),
                verdict: Verdict::default(),
                findings: Vec::new(),
                progress: Clock::monotonic(),
                stopped: false,
                targets: None,
            };
            consumers.extend(side.consumers(number, &ranges)?);
            fetch.push(side);
        }
        let producers = produce.as_ref().map(ProduceSide::producers).transpose()?;
        let producers = producers.unwrap_or_default();
        let poll = Poll::new().doing("epoll")?;
        let wires = producers.iter().map(|p| &p.wire).chain(consumers.iter().map(|c| &c.wire));
        for (token, wire) in wires.enumerate() {
            poll.add(wire, token, true).doing("epoll")?;
        }
        let begin = Clock::monotonic();
        let from = begin.plus(plan.warm_up).0;
        let until = plan.duration.map_or(u64::MAX, |d| begin.plus(plan.warm_up + d).0);
        let length = plan.warm_up + plan.duration.unwrap_or_default();
        let schedule = match produce.as_ref().map(|side| (side.spec.pace, &side.load)) {
            Some((Pace::Open { rate, shape }, load)) => {
                let requests_per_s = rate.requests(load.batch_bytes, load.batch_records);
                Some(Schedule::new(shape, requests_per_s, length, id)?)
            }
            _ => None,
        };
        Ok(Engine {
            plan,
            produce,
            fetch,
            blocked: vec![true; producers.len() + consumers.len()],
            producers,
            consumers,
            poll,
            schedule,
            next_request: 0,
            recorder: Recorder::new(begin, (from, until)),
            part: Part::WarmUp,
            begin,
            window: (from, until),
            meter: None,
            measured: None,
            interval_begin: begin,
            told: (Moved::default(), Moved::default()),
            next_tick: begin.0,
            last_answer: begin,
            broken: None,
        })
    }

    fn drive(&mut self, progress: &mut dyn FnMut(&Progress)) -> Result<()> {
        let mut ready = Vec::new();
        let mut due = Vec::new();
        let mut now = Clock::monotonic();
        loop {
            self.take_up(now, &mut due)?;
            if now.0 >= self.next_tick || self.part == Part::Drain || self.is_time(now) {
                self.next_tick = now.0 + TICK_NS;
                if self.tick(now, progress)? {
                    return Ok(());
                }
            }
            let timeout = self.timeout(now);
            self.poll.wait(Some(timeout), &mut ready).doing("epoll")?;
            let woken = Clock::monotonic();
            if ready.is_empty() || !timeout.is_zero() {
                self.recorder.idle_ns += woken.0.saturating_sub(now.0);
            }
            now = woken;
            for event in &ready {
                if event.readable {
                    self.last_answer = now;
                }
                self.turn(event.token, event.readable)?;
            }
            if !ready.is_empty() {
                now = Clock::monotonic();
            }
        }
    }

    /// Whether a part of the run ends now.
    fn is_time(&self, now: Monotonic) -> bool {
        match self.part {
            Part::WarmUp => now.0 >= self.window.0,
            Part::Measured => now.0 >= self.window.1 || self.is_exhausted(),
            Part::Drain => true,
        }
    }

    fn is_exhausted(&self) -> bool {
        if self.producers.is_empty() {
            self.consumers.iter().all(|c| c.done)
        } else {
            self.producers.iter().all(|p| p.done)
        }
    }

    /// Hands the requests that are due to their connections, and lets these send.
    fn take_up(&mut self, now: Monotonic, due: &mut Vec<usize>) -> Result<()> {
        let (Some(schedule), Some(side)) = (&mut self.schedule, &mut self.produce) else {
            return Ok(());
        };
        while !side.is_over() && self.begin.0 + schedule.peek() <= now.0 {
            let intended = self.begin.0 + schedule.take();
            if intended >= self.window.1 {
                break;
            }
            let number = self.next_request % side.load.requests.len();
            self.next_request += 1;
            side.left = side.left.saturating_sub(1);
            self.recorder.taken_up(intended, now);
            let owner = side.load.owners[number];
            self.producers[owner].arrive(u32::try_from(number).unwrap_or(u32::MAX), intended);
            if due.last() != Some(&owner) {
                due.push(owner);
            }
        }
        for owner in due.drain(..) {
            self.turn(owner, false)?;
        }
        Ok(())
    }

    fn timeout(&mut self, now: Monotonic) -> Duration {
        let mut until = self.next_tick;
        if self.part != Part::Drain {
            until =
                until.min(if self.part == Part::WarmUp { self.window.0 } else { self.window.1 });
            if let (Some(schedule), Some(side)) = (&mut self.schedule, &self.produce)
                && !side.is_over()
            {
                until = until.min((self.begin.0 + schedule.peek()).saturating_sub(SPIN_NS));
            }
        }
        Duration::from_nanos(until.saturating_sub(now.0))
    }

    /// One connection takes what has arrived and sends what it may.
    fn turn(&mut self, token: usize, readable: bool) -> Result<()> {
        let (outcome, done) = if let Some(producer) = self.producers.get_mut(token) {
            let Some(side) = &mut self.produce else { return Ok(()) };
            if producer.done {
                return Ok(());
            }
            let mut outcome =
                if readable { producer.receive(side, &mut self.recorder) } else { Ok(()) };
            let sent = outcome.and_then(|()| producer.send(side, &mut self.recorder));
            outcome = sent.as_ref().map(|_| ()).map_err(|e| Error::Peer(e.to_string()));
            if outcome.is_err() {
                producer.done = true;
            }
            (sent, producer.done)
        } else {
            let Some(consumer) = self.consumers.get_mut(token - self.producers.len()) else {
                return Ok(());
            };
            if consumer.done {
                return Ok(());
            }
            let side = &mut self.fetch[consumer.side];
            let received =
                if readable { consumer.receive(side, &mut self.recorder) } else { Ok(()) };
            let sent = received.and_then(|()| consumer.send(side));
            if sent.is_err() {
                consumer.done = true;
            }
            (sent, consumer.done)
        };
        let wire = match self.producers.get(token) {
            Some(producer) => &producer.wire,
            None => &self.consumers[token - self.producers.len()].wire,
        };
        match outcome {
            _ if done => {
                self.poll.remove(wire).doing("epoll")?;
                if let Err(error) = outcome {
                    self.broken.get_or_insert(error.to_string());
                }
            }
            Ok(blocked) if blocked != self.blocked[token] => {
                self.blocked[token] = blocked;
                self.poll.modify(wire, token, blocked).doing("epoll")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What happens rarely; true at the end of the run.
    fn tick(&mut self, now: Monotonic, progress: &mut dyn FnMut(&Progress)) -> Result<bool> {
        if let Some(state) = self.produce.as_mut().and_then(|side| side.state.as_mut()) {
            state.tick(now)?;
        }
        if self.part == Part::WarmUp && now.0 >= self.window.0 {
            self.end_interval(now, progress);
            self.begin_measured(now)?;
        }
        if self.part == Part::Measured && (now.0 >= self.window.1 || self.is_exhausted()) {
            self.end_interval(now, progress);
            self.end_measured(now)?;
        }
        if now.since(self.interval_begin) >= self.plan.interval {
            self.end_interval(now, progress);
        }
        self.look_for_trouble(now);
        if self.broken.is_some() && self.part != Part::Drain {
            if self.part == Part::WarmUp {
                self.begin_measured(now)?;
            }
            self.end_measured(now)?;
        }
        if self.part == Part::Drain && self.is_drained(now) {
            self.end_interval(now, progress);
            return Ok(true);
        }
        Ok(false)
    }

    fn backlog(&self) -> u64 {
        self.producers.iter().map(|p| p.backlog() as u64).sum()
    }

    fn end_interval(&mut self, now: Monotonic, progress: &mut dyn FnMut(&Progress)) {
        let length = now.since(self.interval_begin);
        if length.is_zero() {
            return;
        }
        let backlog = self.backlog();
        let measured = self.part == Part::Measured;
        self.recorder.end_interval(now, measured, backlog);
        self.interval_begin = now;
        let moved = (self.recorder.produced, self.recorder.fetched);
        progress(&Progress {
            at: now.since(self.begin),
            whole: self.plan.duration.map(|d| d + self.plan.warm_up),
            part: match self.part {
                Part::WarmUp => "warm-up",
                Part::Measured => "measured",
                Part::Drain => "drain",
            },
            interval: length,
            produced: moved.0.since(self.told.0),
            fetched: moved.1.since(self.told.1),
            backlog,
            errors: self.recorder.errors_count(),
        });
        self.told = moved;
    }

    fn begin_measured(&mut self, now: Monotonic) -> Result<()> {
        self.part = Part::Measured;
        self.recorder.begin_measured();
        self.meter = Some(Meter {
            broker: self.plan.broker_pid.map(Reading::of).transpose()?,
            generator: Reading::of(std::process::id())?,
            machine: MachineTicks::now(),
            idle_ns: self.recorder.idle_ns,
            begin: now,
        });
        Ok(())
    }

    fn end_measured(&mut self, now: Monotonic) -> Result<()> {
        self.part = Part::Drain;
        let meter = self.meter.take().ok_or_else(|| Error::Peer("no measured part".to_owned()))?;
        self.recorder.end_window(now);
        let (produced, fetched) = self.recorder.measured();
        let elapsed = now.since(meter.begin);
        let idle = self.recorder.idle_ns - meter.idle_ns;
        self.measured = Some(Measured {
            elapsed,
            produced,
            fetched,
            // A broker that has died meanwhile has used nothing that can be read.
            broker: meter.broker.and_then(|reading| reading.used_since()),
            generator: meter.generator.used_since().unwrap_or_default(),
            steal_percent: MachineTicks::now().steal_percent_since(meter.machine),
            busy: (1.0 - idle as f64 / 1e9 / elapsed.as_secs_f64().max(1e-9)).clamp(0.0, 1.0),
            backlog: self.backlog(),
        });
        if let Some(side) = &mut self.produce {
            side.stopped = true;
        }
        for side in &mut self.fetch {
            // Followers go on until they have what was acknowledged.
            side.stopped = !side.spec.range.follows() || self.produce.is_none();
            side.progress = now;
        }
        for token in 0..self.producers.len() {
            self.turn(token, false)?;
        }
        Ok(())
    }

    fn look_for_trouble(&mut self, now: Monotonic) {
        let waits = self.producers.iter().any(|p| !p.done) && self.schedule.is_none()
            || self.consumers.iter().any(|c| !c.done && !self.fetch[c.side].spec.range.follows());
        let trouble = if waits && now.since(self.last_answer) > STALLED {
            Some(format!("no answer for {} s", STALLED.as_secs()))
        } else if self.recorder.errors_count() > ERRORS_MAX {
            Some("too many errors".to_owned())
        } else if self.producers.iter().map(Producer::backlog).sum::<usize>() > BACKLOG_MAX {
            Some(format!("more than {BACKLOG_MAX} requests wait to be sent"))
        } else {
            let stuck = |c: &&Consumer| {
                let side = &self.fetch[c.side];
                !c.done && !side.spec.range.follows() && now.since(side.progress) > STALLED
            };
            let stuck = self.consumers.iter().find(stuck);
            stuck.map(|_| "records that the log has do not come".to_owned())
        };
        if let Some(trouble) = trouble {
            self.broken.get_or_insert(trouble);
        }
    }

    /// Whether everything sent is answered, and everything answered has come back.
    fn is_drained(&mut self, now: Monotonic) -> bool {
        let silent = now.since(self.last_answer) > STALLED;
        if self.broken.is_some() || silent {
            if silent {
                self.broken.get_or_insert(format!("no answer for {} s", STALLED.as_secs()));
            }
            return true;
        }
        let Some(side) = &self.produce else {
            return true;
        };
        if !self.producers.iter().all(|p| p.done) {
            return false;
        }
        if self.fetch.iter().any(|side| side.targets.is_none()) {
            let mut targets: BTreeMap<i32, Vec<(u32, u64)>> = BTreeMap::new();
            for (stream, acked) in side.acked() {
                // What was refused may never come.
                let end = (0..acked.end).rev().find(|s| !acked.failed.contains(s));
                let end = end.map_or(0, |last| last + 1);
                targets.entry(stream.partition).or_default().push((stream.producer, end));
            }
            for side in &mut self.fetch {
                let same = self.plan.produce.as_ref().is_some_and(|p| p.topic == side.spec.topic);
                side.targets = Some(if same { targets.clone() } else { BTreeMap::new() });
                side.progress = now;
            }
            for consumer in &mut self.consumers {
                consumer.settle(&self.fetch[consumer.side]);
            }
        }
        self.consumers.iter().all(|consumer| {
            let side = &self.fetch[consumer.side];
            let given_up = now.since(side.progress) > DRAINED;
            consumer.done || !side.spec.range.follows() || consumer.has_all() || given_up
        })
    }

    fn finish(mut self) -> Result<RunResult> {
        if let Some(state) = self.produce.as_mut().and_then(|side| side.state.as_mut()) {
            state.flush(Clock::monotonic())?;
        }
        let measured = self.measured.take();
        let measured = measured.ok_or_else(|| Error::Peer("nothing was measured".to_owned()))?;
        let scheduled = self.recorder.scheduled;
        let (verdict, findings) = self.judge_what_was_read();
        let plan = self.plan;
        let burst = match plan.produce.as_ref().map(|p| p.pace) {
            Some(Pace::Open { shape: schedule::Shape::Bursts { requests }, .. }) => requests,
            _ => 0,
        };
        let allowance = 0.005 * scheduled as f64 + f64::from(burst) + 1.0;
        let recorded = self.recorder.finish();
        let mut result = RunResult {
            schema: SCHEMA,
            command: plan.name.clone(),
            settings: plan.all_settings(),
            repeat: plan.repeat.clone(),
            environment: Environment::here(plan.data_dir.as_deref()),
            began_ms: Clock::timestamp().0
                - i64::try_from(Clock::monotonic().since(self.begin).as_millis()).unwrap_or(0),
            elapsed: measured.elapsed,
            produced: measured.produced,
            fetched: measured.fetched,
            offered_per_s: self
                .schedule
                .is_some()
                .then(|| scheduled as f64 / measured.elapsed.as_secs_f64().max(1e-9)),
            rate_held: self.schedule.is_none() || measured.backlog as f64 <= allowance,
            errors: recorded.errors,
            broken: self.broken,
            void: Vec::new(),
            notes: Vec::new(),
            latencies: recorded.latencies,
            intervals: recorded.intervals,
            broker: measured.broker,
            generator: measured.generator,
            generator_busy: measured.busy,
            steal_percent: measured.steal_percent,
            verdict,
            findings,
            histograms: recorded.histograms,
        };
        judge::judge(&mut result, measured.backlog);
        Ok(result)
    }

    /// The verdict on everything read, against what was acknowledged: by this run for followers of its
    /// topic, by earlier ones where a state file says so.
    fn judge_what_was_read(&mut self) -> (Option<Verdict>, Vec<String>) {
        if self.fetch.is_empty() {
            return (None, Vec::new());
        }
        let own: BTreeMap<Stream, Acked> =
            self.produce.as_ref().map(ProduceSide::acked).unwrap_or_default();
        let mut own_by_partition: BTreeMap<i32, BTreeMap<Stream, Acked>> = BTreeMap::new();
        for (stream, acked) in own {
            own_by_partition.entry(stream.partition).or_default().insert(stream, acked);
        }
        let (mut verdict, mut findings) = (Verdict::default(), Vec::new());
        for side in &mut self.fetch {
            verdict.add(&side.verdict);
            findings.append(&mut side.findings);
            let partitions = i32::try_from(side.topic.leaders.len()).unwrap_or(i32::MAX);
            for (stream, acked) in side.spec.acked.iter().flat_map(|state| &state.streams) {
                // A topic that has come back with fewer partitions has lost the others.
                if stream.partition >= partitions {
                    verdict.lost += acked.end - acked.failed.range(..acked.end).count() as u64;
                }
            }
        }
        for consumer in std::mem::take(&mut self.consumers) {
            let side = &self.fetch[consumer.side];
            let written = self.plan.produce.as_ref();
            let own_topic = written.is_some_and(|p| p.topic == side.spec.topic);
            let (sum, found) = consumer.finish(|partition| match &side.spec.acked {
                Some(state) => state.of_partition(partition),
                None if own_topic && side.spec.range.follows() => {
                    own_by_partition.get(&partition).cloned().unwrap_or_default()
                }
                None => BTreeMap::new(),
            });
            verdict.add(&sum);
            findings.extend(found);
        }
        findings.truncate(FINDINGS_MAX);
        (Some(verdict), findings)
    }
}

/// Findings in words that a result keeps.
const FINDINGS_MAX: usize = 50;
