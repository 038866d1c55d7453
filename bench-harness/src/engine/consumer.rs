//! One consuming connection and the oracles of its partitions.
//!
//! A reader is a set of partitions that share one request; a connection carries several readers, each
//! with one request under way, since where a partition goes on is known only from its last answer. The
//! request is encoded once, and then only its offsets change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream::protocol::Version;
use millstream::protocol::messages::FetchRequest;
use millstream::protocol::messages::fetch::{FetchPartition, FetchTopic};
use millstream::time::{Clock, Monotonic};

use super::plan::{FetchSpec, Range};
use super::producer::error_name;
use super::recorder::Recorder;
use crate::driver::control::{Topic, request_frame};
use crate::driver::lean;
use crate::driver::wire::Wire;
use crate::error::{Error, Result};
use crate::oracle::{Known, PartitionOracle, Verdict};
use crate::result::Moved;
use crate::state::{Acked, Stream};

/// The most one answer is asked to hold.
const FETCH_BYTES_MAX: usize = 50 << 20;
/// Stands for an offset in an encoded request until its place is found.
const OFFSET_MARK: i64 = 0x4D69_6C6C_0000_0000;

/// What all connections of one consuming side share.
pub(super) struct FetchSide {
    pub(super) spec: FetchSpec,
    pub(super) topic: Topic,
    pub(super) version: Version,
    pub(super) known: Arc<Known>,
    /// Read so far, warm-up included.
    pub(super) moved: Moved,
    /// What was found on ranges that have been read to their end and begun again.
    pub(super) verdict: Verdict,
    pub(super) findings: Vec<String>,
    /// Something came at that moment.
    pub(super) progress: Monotonic,
    /// Nothing more is asked for.
    pub(super) stopped: bool,
    /// The producers have ended: the sequences that each of them must have reached, by partition.
    pub(super) targets: Option<BTreeMap<i32, Vec<(u32, u64)>>>,
}

struct Cursor {
    partition: i32,
    first: i64,
    /// Where to stop or begin again; none to go on for ever.
    end: Option<i64>,
    oracle: PartitionOracle,
    done: bool,
}

#[derive(Default)]
struct Reader {
    /// In the order of their partitions.
    cursors: Vec<Cursor>,
    /// The encoded request, and for each cursor it asks for the place of its offset.
    frame: Vec<u8>,
    offsets: Vec<(usize, usize)>,
    stale: bool,
}

struct Pending {
    correlation_id: i32,
    reader: usize,
    asked: Monotonic,
}

/// One connection.
pub(super) struct Consumer {
    pub(super) wire: Wire,
    /// Which of the consuming sides it belongs to.
    pub(super) side: usize,
    readers: Vec<Reader>,
    correlation_id: i32,
    pending: VecDeque<Pending>,
    /// Readers without a request under way.
    idle: Vec<usize>,
    pub(super) done: bool,
}

impl FetchSide {
    /// The connections of this side: partitions by leader, dealt out to readers of one leader, and
    /// these to connections.
    pub(super) fn consumers(&self, side: usize, ranges: &[(i64, i64)]) -> Result<Vec<Consumer>> {
        let mut by_leader: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (partition, leader) in (0..).zip(&self.topic.leaders) {
            by_leader.entry(leader).or_default().push(partition);
        }
        let per_leader = (self.spec.connections / by_leader.len().max(1)).max(1);
        let readers = per_leader * self.spec.in_flight.max(1);
        let mut consumers = Vec::new();
        for _ in 0..self.spec.copies.max(1) {
            for (leader, partitions) in &by_leader {
                for c in 0..per_leader {
                    let dealt = (c..readers).step_by(per_leader);
                    let own = dealt.map(|r| self.reader(partitions, r, readers, ranges));
                    let own: Vec<Reader> = own.filter(|r| !r.cursors.is_empty()).collect();
                    if own.is_empty() {
                        continue;
                    }
                    consumers.push(Consumer {
                        wire: Wire::connect(leader)?,
                        side,
                        idle: (0..own.len()).rev().collect(),
                        readers: own,
                        correlation_id: 0,
                        pending: VecDeque::new(),
                        done: false,
                    });
                }
            }
        }
        Ok(consumers)
    }

    fn reader(
        &self,
        partitions: &[i32],
        number: usize,
        readers: usize,
        ranges: &[(i64, i64)],
    ) -> Reader {
        let mut own: Vec<i32> = partitions.iter().copied().skip(number).step_by(readers).collect();
        if own.is_empty() && self.spec.range == Range::Repeat {
            own.push(partitions[number % partitions.len()]);
        }
        let cursors = own.into_iter().map(|p| self.cursor(p, ranges)).collect();
        Reader { cursors, stale: true, ..Reader::default() }
    }

    fn cursor(&self, partition: i32, ranges: &[(i64, i64)]) -> Cursor {
        let range = usize::try_from(partition).ok().and_then(|p| ranges.get(p));
        let (earliest, latest) = range.copied().unwrap_or_default();
        let (first, end) = match self.spec.range {
            Range::Whole | Range::Repeat => (earliest, Some(latest)),
            Range::WholeThenTail => (earliest, None),
            Range::Tail => (latest, None),
        };
        Cursor {
            partition,
            first,
            end,
            oracle: self.oracle(partition, first),
            done: end.is_some_and(|end| end <= first),
        }
    }

    fn oracle(&self, partition: i32, first: i64) -> PartitionOracle {
        PartitionOracle::new(self.spec.depth, partition, first, first > 0)
    }

    fn is_over(&self) -> bool {
        self.stopped || self.spec.bytes.is_some_and(|bytes| self.moved.bytes >= bytes)
    }

    /// Whether a follower has everything that was acknowledged.
    fn reached(&self, cursor: &Cursor) -> bool {
        let Some(targets) = &self.targets else {
            return false;
        };
        let targets = targets.get(&cursor.partition).map_or(&[][..], Vec::as_slice);
        let run = self.known.run;
        targets.iter().all(|(producer, end)| cursor.oracle.next_sequence(run, *producer) >= *end)
    }
}

impl Consumer {
    /// Takes the answers that have arrived.
    pub(super) fn receive(&mut self, side: &mut FetchSide, recorder: &mut Recorder) -> Result<()> {
        let Consumer { wire, readers, pending, idle, .. } = self;
        let open = wire.receive(|frame| {
            let request = pending.pop_front();
            let request =
                request.ok_or_else(|| Error::Peer("more answers than requests".to_owned()))?;
            idle.push(request.reader);
            answer(side, recorder, &request, &mut readers[request.reader], frame)
        })?;
        if open { Ok(()) } else { Err(Error::Peer("the broker closed a connection".to_owned())) }
    }

    /// Asks for more with every reader that has no request under way; whether it waits for room in the
    /// socket.
    pub(super) fn send(&mut self, side: &mut FetchSide) -> Result<bool> {
        while !side.is_over()
            && let Some(reader) = self.idle.pop()
        {
            self.ask(side, reader)?;
        }
        let blocked = self.wire.flush()?;
        self.done = self.pending.is_empty();
        Ok(blocked)
    }

    /// Looks once more which partitions are read to their end.
    pub(super) fn settle(&mut self, side: &FetchSide) {
        for reader in &mut self.readers {
            for cursor in &mut reader.cursors {
                cursor.done = cursor.done || side.reached(cursor);
            }
        }
    }

    /// Whether every partition is read to its end.
    pub(super) fn has_all(&self) -> bool {
        self.readers.iter().flat_map(|r| &r.cursors).all(|c| c.done)
    }

    /// Asks for the reader's partitions that are not read to their end.
    fn ask(&mut self, side: &FetchSide, number: usize) -> Result<()> {
        let reader = &mut self.readers[number];
        if reader.stale {
            reader.encode(side)?;
        }
        if reader.offsets.is_empty() {
            return Ok(());
        }
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        // Length 4 bytes, API key 2, version 2, then the correlation id.
        reader.frame[8..12].copy_from_slice(&self.correlation_id.to_be_bytes());
        for (cursor, at) in &reader.offsets {
            let offset = reader.cursors[*cursor].oracle.next_offset().to_be_bytes();
            reader.frame[*at..*at + 8].copy_from_slice(&offset);
        }
        self.wire.queue_copy(&reader.frame);
        self.pending.push_back(Pending {
            correlation_id: self.correlation_id,
            reader: number,
            asked: Clock::monotonic(),
        });
        Ok(())
    }

    /// The verdict on everything this connection has read.
    pub(super) fn finish(
        self,
        acked: impl Fn(i32) -> BTreeMap<Stream, Acked>,
    ) -> (Verdict, Vec<String>) {
        let mut sum = (Verdict::default(), Vec::new());
        for cursor in self.readers.into_iter().flat_map(|r| r.cursors) {
            let (verdict, findings) = cursor.oracle.finish(&acked(cursor.partition));
            sum.0.add(&verdict);
            sum.1.extend(findings);
        }
        sum
    }
}

impl Reader {
    /// Encodes the request for what is not read to its end, and finds the places of the offsets.
    fn encode(&mut self, side: &FetchSide) -> Result<()> {
        self.stale = false;
        self.offsets.clear();
        let wanted: Vec<usize> =
            (0..self.cursors.len()).filter(|i| !self.cursors[*i].done).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let spec = &side.spec;
        let partition = |index: &usize| FetchPartition {
            partition: self.cursors[*index].partition,
            fetch_offset: OFFSET_MARK + *index as i64,
            partition_max_bytes: i32::try_from(spec.partition_bytes).unwrap_or(i32::MAX),
            ..Default::default()
        };
        let most = spec.partition_bytes.saturating_mul(wanted.len());
        let most = most.min(FETCH_BYTES_MAX.max(spec.partition_bytes));
        let request = FetchRequest {
            max_wait_ms: i32::try_from(spec.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: i32::try_from(most).unwrap_or(i32::MAX),
            topics: vec![FetchTopic {
                topic: side.topic.name.clone().into(),
                topic_id: side.topic.id,
                partitions: wanted.iter().map(partition).collect(),
            }],
            ..Default::default()
        };
        self.frame = request_frame(0, side.version, &request)?.to_vec();
        let mut at = 0;
        for index in wanted {
            let mark = (OFFSET_MARK + index as i64).to_be_bytes();
            let found = self.frame[at..].windows(8).position(|w| w == mark);
            let found =
                found.ok_or_else(|| Error::Peer("a Fetch without its offset".to_owned()))?;
            at += found;
            self.offsets.push((index, at));
        }
        Ok(())
    }
}

fn answer(
    side: &mut FetchSide,
    recorder: &mut Recorder,
    request: &Pending,
    reader: &mut Reader,
    frame: &[u8],
) -> Result<()> {
    let now = Clock::monotonic();
    let mut failure = None;
    let whole = lean::fetched(side.version, frame, |data| {
        let cursor = reader.cursors.binary_search_by_key(&data.partition, |c| c.partition);
        let Ok(cursor) = cursor else {
            failure = Some("a Fetch response for another partition");
            return;
        };
        let cursor = &mut reader.cursors[cursor];
        if data.error_code != 0 {
            recorder.error(error_name(data.error_code));
            return;
        }
        let follows = side.spec.range.follows();
        let known = Arc::clone(&side.known);
        let (bytes, records) = cursor.oracle.observe(data.records, &known, |stamp, count| {
            if follows && stamp.run == known.run {
                recorder.consumed(stamp.intended_ns, count, now);
            }
        });
        if bytes > 0 {
            recorder.fetched.bytes += bytes;
            recorder.fetched.records += records;
            side.moved.bytes += bytes;
            side.moved.records += records;
            side.progress = now;
        }
        if cursor.end.is_some_and(|end| cursor.oracle.next_offset() >= end) {
            reader.stale |= end_of_range(side, cursor);
        }
        if side.targets.is_some() && !cursor.done && side.reached(cursor) {
            cursor.done = true;
            reader.stale = true;
        }
    });
    let whole =
        whole.ok_or_else(|| Error::Peer("a Fetch response that cannot be read".to_owned()))?;
    if whole.correlation_id != request.correlation_id {
        return Err(Error::Peer("answers in another order than the requests".to_owned()));
    }
    if let Some(failure) = failure {
        return Err(Error::Peer(failure.to_owned()));
    }
    if whole.error_code != 0 {
        return Err(Error::Peer(format!("Fetch: {}", error_name(whole.error_code))));
    }
    side.moved.requests += 1;
    if side.spec.range.follows() {
        recorder.fetched.requests += 1;
    } else {
        recorder.fetched(request.asked, now);
    }
    Ok(())
}

/// The cursor has come to its end: whether it stops there.
fn end_of_range(side: &mut FetchSide, cursor: &mut Cursor) -> bool {
    if side.spec.range == Range::Repeat {
        let fresh = side.oracle(cursor.partition, cursor.first);
        let read = std::mem::replace(&mut cursor.oracle, fresh);
        let (verdict, findings) = read.finish(&BTreeMap::new());
        side.verdict.add(&verdict);
        side.findings.extend(findings);
        false
    } else {
        cursor.done = true;
        true
    }
}
