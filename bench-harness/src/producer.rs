//! Produces pre-encoded batches over many connections from one thread.
//!
//! Each connection is a producer of its own with its own partitions (as far as there are enough), so
//! that the order of everything it writes can be checked. A request is encoded once per partition;
//! sending it again changes its correlation id, the stamp and the CRC, and shares all that follows.

mod slots;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use millstream::protocol::messages::{ApiVersionsRequest, ProduceResponse};
use millstream::protocol::{ApiKey, ErrorCode, Version, decode_response};
use millstream::time::{Clock, Monotonic};

use crate::batches::{Stamp, Template};
use crate::driver::control::{Control, Topic, request_frame};
use crate::driver::wire::Wire;
use crate::environment::pin_to_core;
use crate::error::{Doing, Error, Result};
use crate::poll::Poll;
use crate::result::{Counts, Meter, RunResult};
use crate::state::{StateWriter, Stream};
use slots::{Slot, assign, slot};

/// How strong an acknowledgement is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Acks {
    /// None at all.
    #[value(name = "0")]
    None,
    /// Of the leader.
    #[value(name = "1")]
    Leader,
    /// Of all in-sync replicas; with Millstream, flushed.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// A produce run.
#[derive(Clone, Debug)]
pub struct ProduceSpec {
    /// Any broker of the cluster.
    pub bootstrap: String,
    /// The topic, created if it does not exist.
    pub topic: String,
    /// Partitions of a topic that has to be created; as many as connections by default.
    pub partitions: Option<i32>,
    /// Connections.
    pub connections: usize,
    /// Requests under way on each.
    pub in_flight: usize,
    /// The size of a batch; one goes in each request.
    pub batch_bytes: usize,
    /// The size of a record's value.
    pub record_bytes: usize,
    /// The acknowledgement asked for.
    pub acks: Acks,
    /// Stop after that much.
    pub bytes: Option<u64>,
    /// Stop after that long.
    pub duration: Option<Duration>,
    /// Where to keep what was acknowledged.
    pub state: Option<PathBuf>,
    /// The broker's process, to read its processor time.
    pub broker_pid: Option<u32>,
    /// The core for this thread.
    pub core: Option<usize>,
}

impl ProduceSpec {
    /// A run with the usual settings; `bytes` or `duration` is still to be set.
    #[must_use]
    pub fn new(bootstrap: &str, topic: &str) -> ProduceSpec {
        ProduceSpec {
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            partitions: None,
            connections: 16,
            in_flight: 4,
            batch_bytes: 64 << 10,
            record_bytes: 1024,
            acks: Acks::Leader,
            bytes: None,
            duration: None,
            state: None,
            broker_pid: None,
            core: None,
        }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("acks".to_owned(), self.acks.number().to_string()),
            ("batch_bytes".to_owned(), self.batch_bytes.to_string()),
            ("record_bytes".to_owned(), self.record_bytes.to_string()),
            ("connections".to_owned(), self.connections.to_string()),
            ("in_flight".to_owned(), self.in_flight.to_string()),
            ("topic".to_owned(), self.topic.clone()),
        ])
    }
}

/// Nothing is answered for so long only if the broker has stopped.
const STALLED: Duration = Duration::from_secs(30);
/// With so many refusals there is nothing to measure.
const ERRORS_MAX: u64 = 10_000;

struct Pending {
    correlation_id: i32,
    slot: usize,
    sequence: u64,
    started: Monotonic,
}

struct Connection {
    wire: Wire,
    slots: Vec<Slot>,
    turn: usize,
    correlation_id: i32,
    pending: VecDeque<Pending>,
    waits_for_room: bool,
    /// With `acks=0`: the request whose answer shows that all before it arrived has been sent.
    barrier_sent: bool,
    done: bool,
}

struct Run<'a> {
    spec: &'a ProduceSpec,
    template: Template,
    tail: Bytes,
    version: Version,
    begin: Monotonic,
    left: u64,
    counts: Counts,
    state: Option<StateWriter>,
}

/// Produces as told.
///
/// # Errors
/// If the run cannot begin. What goes wrong later is part of the result.
pub fn run(spec: &ProduceSpec) -> Result<RunResult> {
    if let Some(core) = spec.core {
        pin_to_core(core)?;
    }
    if spec.bytes.is_none() && spec.duration.is_none() {
        return Err(Error::Usage("say how much to produce, or how long".to_owned()));
    }
    let created = spec.partitions.unwrap_or(i32::try_from(spec.connections).unwrap_or(i32::MAX));
    let mut control = Control::connect(&spec.bootstrap)?;
    let topic = control.topic(&spec.topic, Some(created))?;
    let template = Template::new(spec.batch_bytes, spec.record_bytes, Clock::timestamp())?;
    let id = run_id();
    let version = control.versions().of(ApiKey::Produce)?;
    let mut connections = connect(spec, &topic, &template, version, id)?;
    let state =
        spec.state.as_ref().map(|path| StateWriter::open(path, id, &spec.topic)).transpose()?;
    let meter = Meter::start(spec.broker_pid)?;
    let mut run = Run {
        spec,
        tail: template.tail(),
        left: spec.bytes.map_or(u64::MAX, |bytes| bytes.div_ceil(template.bytes().len() as u64)),
        template,
        version,
        begin: meter.begin(),
        counts: Counts::default(),
        state,
    };
    run.drive(&mut connections)?;
    if let Some(state) = &mut run.state {
        state.flush(Clock::monotonic())?;
    }
    meter.stop("produce", spec.settings(), run.counts)
}

/// A number that no other run has, without asking anyone.
fn run_id() -> u64 {
    let wall = u64::try_from(Clock::timestamp().0).unwrap_or(0);
    (wall << 20) ^ u64::from(std::process::id()) ^ (Clock::monotonic().0 << 44)
}

fn connect(
    spec: &ProduceSpec,
    topic: &Topic,
    template: &Template,
    version: Version,
    run: u64,
) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for (producer, (leader, partitions)) in (0_u32..).zip(assign(topic, spec.connections)?) {
        let slot =
            |partition| slot(spec, topic, template, version, Stream { run, partition, producer });
        connections.push(Connection {
            wire: Wire::connect(&leader)?,
            slots: partitions.into_iter().map(slot).collect::<Result<Vec<Slot>>>()?,
            turn: 0,
            correlation_id: 0,
            pending: VecDeque::new(),
            waits_for_room: true,
            barrier_sent: false,
            done: false,
        });
    }
    Ok(connections)
}

impl Run<'_> {
    fn drive(&mut self, connections: &mut [Connection]) -> Result<()> {
        let mut poll = Poll::new().doing("epoll")?;
        for (token, connection) in connections.iter().enumerate() {
            poll.add(&connection.wire, token, true).doing("epoll")?;
        }
        let mut ready = Vec::new();
        while !connections.iter().all(|c| c.done) {
            poll.wait(Some(STALLED), &mut ready).doing("epoll")?;
            if ready.is_empty() {
                self.counts.broken = Some(format!("no answer for {} s", STALLED.as_secs()));
                return Ok(());
            }
            for event in &ready {
                let connection = &mut connections[event.token];
                if connection.done {
                    continue;
                }
                let outcome = self.turn(connection, event.readable);
                if let Err(error) = &outcome {
                    self.counts.broken.get_or_insert(error.to_string());
                    connection.done = true;
                }
                if connection.done {
                    poll.remove(&connection.wire).doing("epoll")?;
                    continue;
                }
                let blocked = !connection.wire.is_flushed();
                if blocked != connection.waits_for_room {
                    connection.waits_for_room = blocked;
                    poll.modify(&connection.wire, event.token, blocked).doing("epoll")?;
                }
            }
            if let Some(state) = &mut self.state {
                state.tick(Clock::monotonic())?;
            }
            if self.counts.errors_count() > ERRORS_MAX {
                self.counts.broken = Some("too many errors".to_owned());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes what has arrived and sends what the window allows.
    fn turn(&mut self, connection: &mut Connection, readable: bool) -> Result<()> {
        if readable {
            let Connection { wire, slots, pending, done, .. } = connection;
            let open = wire.receive(|frame| {
                match pending.pop_front() {
                    Some(request) => self.answer(&request, slots, frame),
                    // The barrier of `acks=0`.
                    None if self.spec.acks == Acks::None => {
                        *done = true;
                        Ok(())
                    }
                    None => Err(Error::Peer("more answers than requests".to_owned())),
                }
            })?;
            if !open && !connection.done {
                return Err(Error::Peer("the broker closed a connection".to_owned()));
            }
        }
        self.send(connection)
    }

    fn send(&mut self, connection: &mut Connection) -> Result<()> {
        loop {
            while !self.is_over() && Run::has_window(self.spec, connection) {
                self.queue(connection);
            }
            if connection.wire.flush()? || self.spec.acks != Acks::None || self.is_over() {
                break;
            }
        }
        if self.is_over() && connection.wire.is_flushed() {
            if self.spec.acks == Acks::None && !connection.barrier_sent {
                let version = ApiKey::ApiVersions.version(0);
                let version = version.ok_or_else(|| Error::Peer("ApiVersions 0".to_owned()))?;
                connection.wire.queue(request_frame(
                    i32::MAX,
                    version,
                    &ApiVersionsRequest::default(),
                )?);
                connection.wire.flush()?;
                connection.barrier_sent = true;
            } else if self.spec.acks != Acks::None && connection.pending.is_empty() {
                connection.done = true;
            }
        }
        Ok(())
    }

    fn has_window(spec: &ProduceSpec, connection: &Connection) -> bool {
        if spec.acks == Acks::None {
            connection.wire.is_flushed()
        } else {
            connection.pending.len() < spec.in_flight.max(1)
        }
    }

    fn is_over(&self) -> bool {
        self.left == 0
            || self.spec.duration.is_some_and(|d| Clock::monotonic().since(self.begin) >= d)
    }

    fn queue(&mut self, connection: &mut Connection) {
        let index = connection.turn % connection.slots.len();
        connection.turn += 1;
        connection.correlation_id = connection.correlation_id.wrapping_add(1) & i32::MAX;
        let slot = &mut connection.slots[index];
        let sequence = slot.next_sequence;
        slot.next_sequence += 1;
        let stamp = Stamp { run: slot.stream.run, producer: slot.stream.producer, sequence };
        // Length 4 bytes, API key 2, version 2, then the correlation id.
        slot.head[8..12].copy_from_slice(&connection.correlation_id.to_be_bytes());
        self.template.stamp(&mut slot.head[slot.batch_at..], stamp);
        connection.wire.queue(Bytes::copy_from_slice(&slot.head));
        connection.wire.queue(self.tail.clone());
        connection.wire.queue(slot.suffix.clone());
        self.left = self.left.saturating_sub(1);
        if self.spec.acks == Acks::None {
            self.count_batch();
        } else {
            let correlation_id = connection.correlation_id;
            connection.pending.push_back(Pending {
                correlation_id,
                slot: index,
                sequence,
                started: Clock::monotonic(),
            });
        }
    }

    fn answer(&mut self, request: &Pending, slots: &mut [Slot], frame: Bytes) -> Result<()> {
        let (header, response) = decode_response::<ProduceResponse>(self.version, frame)
            .map_err(|e| Error::Peer(format!("Produce response: {e}")))?;
        if header.correlation_id != request.correlation_id {
            return Err(Error::Peer("answers in another order than the requests".to_owned()));
        }
        let partition = response.responses.iter().flat_map(|t| &t.partition_responses).next();
        let partition = partition
            .ok_or_else(|| Error::Peer("a Produce response without partitions".to_owned()))?;
        let slot = &mut slots[request.slot];
        if partition.index != slot.stream.partition {
            return Err(Error::Peer("a Produce response for another partition".to_owned()));
        }
        self.counts.latency.record(Clock::monotonic().since(request.started));
        slot.answered += 1;
        if partition.error_code == ErrorCode::None {
            self.count_batch();
        } else {
            self.counts.error(format!("{:?}", partition.error_code));
            if let Some(state) = &mut self.state {
                state.failed(slot.stream, request.sequence);
            }
        }
        if let Some(state) = &mut self.state {
            state.acked(slot.stream, slot.answered);
        }
        Ok(())
    }

    fn count_batch(&mut self) {
        self.counts.requests += 1;
        self.counts.bytes += self.template.bytes().len() as u64;
        self.counts.records += u64::from(self.template.records());
    }
}
