//! Fetches over many connections from one thread and lets the oracle look at everything.
//!
//! A reader is a set of partitions that share one request; a connection carries several readers, each
//! with one request under way, since where a partition goes on is known only from its last answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use millstream::protocol::messages::fetch::{FetchPartition, FetchTopic};
use millstream::protocol::messages::{FetchRequest, FetchResponse};
use millstream::protocol::{ApiKey, ErrorCode, Records, Version, decode_response};
use millstream::time::{Clock, Monotonic};

use crate::driver::control::{Control, Topic, check, offset_ranges, request_frame};
use crate::driver::wire::Wire;
use crate::environment::pin_to_core;
use crate::error::{Doing, Error, Result};
use crate::oracle::{Depth, PartitionOracle, Verdict};
use crate::poll::Poll;
use crate::result::{Counts, Meter, RunResult};
use crate::state::State;

/// What to read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From the log's start to where it ended when the run began.
    Whole,
    /// From its end when the run began, on and on.
    Tail,
    /// From the log's start, and on and on.
    WholeThenTail,
    /// From the log's start to where it ended, again and again: what the broker has in memory, if the
    /// log is small enough.
    Repeat,
}

/// A fetch run.
#[derive(Clone, Debug)]
pub struct FetchSpec {
    /// Any broker of the cluster.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// What to read.
    pub range: Range,
    /// Connections.
    pub connections: usize,
    /// Readers on each connection, so requests under way; with [`Range::Repeat`] they read the same
    /// partitions independently if there are more of them than partitions.
    pub in_flight: usize,
    /// The most to ask for, of each partition.
    pub partition_bytes: usize,
    /// How long the broker may wait for data.
    pub wait: Duration,
    /// How closely to look.
    pub depth: Depth,
    /// Stop after that much.
    pub bytes: Option<u64>,
    /// Stop after that long.
    pub duration: Option<Duration>,
    /// What must be there.
    pub acked: Option<State>,
    /// The broker's process, to read its processor time.
    pub broker_pid: Option<u32>,
    /// The core for this thread.
    pub core: Option<usize>,
}

impl FetchSpec {
    /// A run with the usual settings.
    #[must_use]
    pub fn new(bootstrap: &str, topic: &str, range: Range) -> FetchSpec {
        FetchSpec {
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            range,
            connections: 4,
            in_flight: 1,
            partition_bytes: 1 << 20,
            wait: Duration::from_millis(500),
            depth: Depth::Framing,
            bytes: None,
            duration: None,
            acked: None,
            broker_pid: None,
            core: None,
        }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("topic".to_owned(), self.topic.clone()),
            ("range".to_owned(), format!("{:?}", self.range)),
            ("connections".to_owned(), self.connections.to_string()),
            ("in_flight".to_owned(), self.in_flight.to_string()),
            ("partition_bytes".to_owned(), self.partition_bytes.to_string()),
            ("depth".to_owned(), format!("{:?}", self.depth)),
        ])
    }
}

/// Nothing is answered, or nothing comes though it should, for so long only if the broker has stopped.
const STALLED: Duration = Duration::from_secs(30);
const ERRORS_MAX: u64 = 1_000;

struct Cursor {
    partition: i32,
    first: i64,
    /// Where to stop or begin again; none to go on for ever.
    end: Option<i64>,
    oracle: PartitionOracle,
    done: bool,
}

struct Reader {
    cursors: Vec<Cursor>,
}

struct Pending {
    correlation_id: i32,
    reader: usize,
    started: Monotonic,
}

struct Connection {
    wire: Wire,
    readers: Vec<Reader>,
    correlation_id: i32,
    pending: VecDeque<Pending>,
    /// Readers without a request under way.
    idle: Vec<usize>,
    waits_for_room: bool,
    done: bool,
}

struct Run<'a> {
    spec: &'a FetchSpec,
    topic: Topic,
    version: Version,
    begin: Monotonic,
    progress: Monotonic,
    counts: Counts,
    verdict: Verdict,
}

/// Fetches as told.
///
/// # Errors
/// If the run cannot begin. What goes wrong later is part of the result.
pub fn run(spec: &FetchSpec) -> Result<RunResult> {
    if let Some(core) = spec.core {
        pin_to_core(core)?;
    }
    let endless = spec.bytes.is_none() && spec.duration.is_none();
    if endless && spec.range != Range::Whole {
        return Err(Error::Usage("say how much to fetch, or how long".to_owned()));
    }
    let mut control = Control::connect(&spec.bootstrap)?;
    let topic = control.topic(&spec.topic, None)?;
    let version = control.versions().of(ApiKey::Fetch)?;
    let ranges = offset_ranges(&topic)?;
    let mut connections = connect(spec, &topic, &ranges)?;
    let meter = Meter::start(spec.broker_pid)?;
    let mut run = Run {
        spec,
        topic,
        version,
        begin: meter.begin(),
        progress: meter.begin(),
        counts: Counts::default(),
        verdict: Verdict::default(),
    };
    run.drive(&mut connections)?;
    let partitions = run.topic.leaders.len();
    let (counts, mut verdict) = (run.counts, run.verdict);
    let mut result = meter.stop("fetch", spec.settings(), counts)?;
    for cursor in connections.into_iter().flat_map(|c| c.readers).flat_map(|r| r.cursors) {
        let acked = spec.acked.as_ref().map(|state| state.of_partition(cursor.partition));
        verdict.add(&cursor.oracle.finish(&acked.unwrap_or_default()));
    }
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    for (stream, acked) in spec.acked.iter().flat_map(|state| &state.streams) {
        // A topic that has come back with fewer partitions has lost the others.
        if stream.partition >= partitions {
            verdict.lost += acked.end - acked.failed.range(..acked.end).count() as u64;
        }
    }
    result.records = verdict.records;
    result.verdict = Some(verdict);
    Ok(result)
}

fn connect(spec: &FetchSpec, topic: &Topic, ranges: &[(i64, i64)]) -> Result<Vec<Connection>> {
    // Partitions by leader, dealt out to readers of one leader, and these to connections.
    let mut by_leader: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (partition, leader) in (0..).zip(&topic.leaders) {
        by_leader.entry(leader).or_default().push(partition);
    }
    let per_leader = (spec.connections / by_leader.len().max(1)).max(1);
    let mut connections = Vec::new();
    for (leader, partitions) in by_leader {
        for c in 0..per_leader {
            let readers = per_leader * spec.in_flight.max(1);
            let mut mine = Vec::new();
            for r in (c..readers).step_by(per_leader) {
                let mut own: Vec<i32> =
                    partitions.iter().copied().skip(r).step_by(readers).collect();
                if own.is_empty() && spec.range == Range::Repeat {
                    own.push(partitions[r % partitions.len()]);
                }
                let cursors: Vec<Cursor> =
                    own.into_iter().map(|p| cursor(spec, p, ranges)).collect();
                if !cursors.is_empty() {
                    mine.push(Reader { cursors });
                }
            }
            if mine.is_empty() {
                continue;
            }
            connections.push(Connection {
                wire: Wire::connect(leader)?,
                idle: (0..mine.len()).rev().collect(),
                readers: mine,
                correlation_id: 0,
                pending: VecDeque::new(),
                waits_for_room: true,
                done: false,
            });
        }
    }
    Ok(connections)
}

fn cursor(spec: &FetchSpec, partition: i32, ranges: &[(i64, i64)]) -> Cursor {
    let (earliest, latest) =
        usize::try_from(partition).ok().and_then(|p| ranges.get(p)).copied().unwrap_or_default();
    let (first, end) = match spec.range {
        Range::Whole | Range::Repeat => (earliest, Some(latest)),
        Range::WholeThenTail => (earliest, None),
        Range::Tail => (latest, None),
    };
    Cursor {
        partition,
        first,
        end,
        oracle: PartitionOracle::new(spec.depth, first, first > 0),
        done: end.is_some_and(|end| end <= first),
    }
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
                if let Err(error) = self.turn(connection, event.readable) {
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
            let waiting = self.spec.range == Range::Tail || self.spec.range == Range::WholeThenTail;
            if !waiting && Clock::monotonic().since(self.progress) > STALLED {
                self.counts.broken = Some("records that the log has do not come".to_owned());
                return Ok(());
            }
            if self.counts.errors_count() > ERRORS_MAX {
                self.counts.broken = Some("too many errors".to_owned());
                return Ok(());
            }
        }
        Ok(())
    }

    fn turn(&mut self, connection: &mut Connection, readable: bool) -> Result<()> {
        if readable {
            let Connection { wire, readers, pending, idle, .. } = connection;
            let open = wire.receive(|frame| {
                let request = pending.pop_front();
                let request =
                    request.ok_or_else(|| Error::Peer("more answers than requests".to_owned()))?;
                idle.push(request.reader);
                self.answer(&request, &mut readers[request.reader], frame)
            })?;
            if !open {
                return Err(Error::Peer("the broker closed a connection".to_owned()));
            }
        }
        while !self.is_over()
            && let Some(reader) = connection.idle.pop()
        {
            self.queue(connection, reader)?;
        }
        connection.wire.flush()?;
        connection.done = connection.pending.is_empty();
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.spec.bytes.is_some_and(|bytes| self.counts.bytes >= bytes)
            || self.spec.duration.is_some_and(|d| Clock::monotonic().since(self.begin) >= d)
    }

    /// Asks for the reader's partitions that are not read to their end.
    fn queue(&mut self, connection: &mut Connection, reader: usize) -> Result<()> {
        let partitions: Vec<FetchPartition> = connection.readers[reader]
            .cursors
            .iter()
            .filter(|cursor| !cursor.done)
            .map(|cursor| FetchPartition {
                partition: cursor.partition,
                fetch_offset: cursor.oracle.next_offset(),
                partition_max_bytes: i32::try_from(self.spec.partition_bytes).unwrap_or(i32::MAX),
                ..Default::default()
            })
            .collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let most = self
            .spec
            .partition_bytes
            .saturating_mul(partitions.len())
            .min(FETCH_BYTES_MAX.max(self.spec.partition_bytes));
        let request = FetchRequest {
            max_wait_ms: i32::try_from(self.spec.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: i32::try_from(most).unwrap_or(i32::MAX),
            topics: vec![FetchTopic {
                topic: self.topic.name.clone().into(),
                topic_id: self.topic.id,
                partitions,
            }],
            ..Default::default()
        };
        connection.correlation_id = connection.correlation_id.wrapping_add(1) & i32::MAX;
        let correlation_id = connection.correlation_id;
        connection.wire.queue(request_frame(correlation_id, self.version, &request)?);
        connection.pending.push_back(Pending {
            correlation_id,
            reader,
            started: Clock::monotonic(),
        });
        Ok(())
    }

    fn answer(&mut self, request: &Pending, reader: &mut Reader, frame: Bytes) -> Result<()> {
        let (header, response) = decode_response::<FetchResponse>(self.version, frame)
            .map_err(|e| Error::Peer(format!("Fetch response: {e}")))?;
        if header.correlation_id != request.correlation_id {
            return Err(Error::Peer("answers in another order than the requests".to_owned()));
        }
        check(response.error_code, "Fetch")?;
        let now = Clock::monotonic();
        self.counts.latency.record(now.since(request.started));
        self.counts.requests += 1;
        for data in response.responses.iter().flat_map(|t| &t.partitions) {
            let cursor = reader.cursors.iter_mut().find(|c| c.partition == data.partition_index);
            let cursor = cursor
                .ok_or_else(|| Error::Peer("a Fetch response for another partition".to_owned()))?;
            if data.error_code != ErrorCode::None {
                self.counts.error(format!("{:?}", data.error_code));
                continue;
            }
            let records = data.records.as_ref().and_then(Records::as_inline);
            let bytes = records.map_or(0, |records| cursor.oracle.observe(records));
            if bytes > 0 {
                self.counts.bytes += bytes;
                self.progress = now;
            }
            if cursor.end.is_some_and(|end| cursor.oracle.next_offset() >= end) {
                self.end_of_range(cursor);
            }
        }
        Ok(())
    }

    fn end_of_range(&mut self, cursor: &mut Cursor) {
        if self.spec.range == Range::Repeat {
            let fresh = PartitionOracle::new(self.spec.depth, cursor.first, cursor.first > 0);
            let read = std::mem::replace(&mut cursor.oracle, fresh);
            self.verdict.add(&read.finish(&BTreeMap::new()));
        } else {
            cursor.done = true;
        }
    }
}

/// The most one answer is asked to hold.
const FETCH_BYTES_MAX: usize = 50 << 20;
