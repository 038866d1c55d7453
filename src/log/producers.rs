//! What a partition knows of its idempotent producers (KIP-98): the last five batches of each.
//!
//! Shard: part of a [`Log`](super::Log). Pure: no I/O, no clock. Units: sequences count records and wrap
//! to 0 behind `i32::MAX`; timestamps are those of the records, in milliseconds.
//! The rules are Kafka's `ProducerStateManager`, `ProducerAppendInfo` and `ProducerStateEntry`, for
//! batches that clients send outside of transactions. A producer that nothing is known of may begin with
//! any sequence (KIP-360): `UNKNOWN_PRODUCER_ID` is never an answer.
//! Invariants: the batches of a producer are of one epoch and in the order of their offsets.
//! It does not know: transactions; which batches are written, flushed or readable.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use zerocopy::byteorder::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::PRODUCERS_PER_PARTITION_MAX;
use crate::record::{BatchHeader, Producer};
use crate::time::Timestamp;
use crate::types::Offset;

/// Batches remembered of each producer: what a client may have in flight (`NUM_BATCHES_TO_RETAIN`).
const BATCHES: usize = 5;

/// Epoch and sequence of a producer of which nothing is known.
const NONE: i32 = -1;

/// A batch of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Records after its first.
    pub offset_delta: i32,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Its greatest timestamp.
    pub timestamp: Timestamp,
    /// The journal round that holds it; 0 if it was recovered, and so is flushed.
    pub round: u64,
}

impl ProducerBatch {
    /// Sequence of its first record.
    #[must_use]
    pub fn first_sequence(&self) -> i32 {
        sequence_minus(self.last_sequence, self.offset_delta)
    }

    /// Offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }
}

/// What a batch turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one.
    New,
    /// One that is in the log already.
    Duplicate(ProducerBatch),
}

/// Why a producer's batch may not be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerError {
    /// `INVALID_PRODUCER_EPOCH`: a newer incarnation of the producer has written here.
    OldEpoch {
        /// The producer.
        id: i64,
        /// The batch's epoch.
        epoch: i16,
        /// The last epoch seen.
        current: i16,
    },
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`: a batch before this one is missing.
    OutOfOrder {
        /// The producer.
        id: i64,
        /// The batch's epoch.
        epoch: i16,
        /// The batch's first sequence.
        sequence: i32,
        /// The sequence it should follow; -1 at the start of an epoch.
        last: i32,
    },
}

impl fmt::Display for ProducerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProducerError::OldEpoch { id, epoch, current } => write!(
                f,
                "producer {id} has epoch {epoch} and was last seen here with epoch {current}"
            ),
            ProducerError::OutOfOrder { id, epoch, sequence, last } => write!(
                f,
                "producer {id}, epoch {epoch}: sequence {sequence} does not follow {last}"
            ),
        }
    }
}

/// `sequence` and `delta` records on, as sequences wrap.
#[must_use]
pub fn sequence_plus(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_add(delta) & i32::MAX
}

fn sequence_minus(sequence: i32, delta: i32) -> i32 {
    sequence.wrapping_sub(delta) & i32::MAX
}

/// One producer.
#[derive(Clone, Debug)]
pub struct ProducerState {
    epoch: i16,
    last_timestamp: Timestamp,
    count: usize,
    batches: [ProducerBatch; BATCHES],
}

impl ProducerState {
    fn new(epoch: i16, last_timestamp: Timestamp) -> ProducerState {
        ProducerState { epoch, last_timestamp, count: 0, batches: Default::default() }
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// The greatest timestamp of its last batch.
    #[must_use]
    pub fn last_timestamp(&self) -> Timestamp {
        self.last_timestamp
    }

    /// Its last sequence; -1 if no batch is known.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        self.last().map_or(NONE, |batch| batch.last_sequence)
    }

    /// The batches known of it, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[ProducerBatch] {
        self.batches.get(..self.count).unwrap_or(&[])
    }

    fn last(&self) -> Option<&ProducerBatch> {
        self.batches().last()
    }

    /// Offset of its last record; -1 if no batch is known.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.last().map_or(Offset(-1), |batch| batch.last_offset)
    }

    fn add(&mut self, epoch: i16, batch: ProducerBatch) {
        if self.epoch != epoch {
            self.count = 0;
            self.epoch = epoch;
        }
        if self.count == BATCHES {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        if let Some(place) = self.batches.get_mut(self.count) {
            *place = batch;
            self.count += 1;
        }
        self.last_timestamp = batch.timestamp;
    }

    fn check(&self, producer: Producer, offset_delta: i32) -> Result<Verdict, ProducerError> {
        let Producer { id, epoch, base_sequence } = producer;
        let last_sequence = sequence_plus(base_sequence, offset_delta);
        if epoch == self.epoch {
            let same = |known: &&ProducerBatch| {
                known.first_sequence() == base_sequence && known.last_sequence == last_sequence
            };
            if let Some(known) = self.batches().iter().find(same) {
                return Ok(Verdict::Duplicate(*known));
            }
        }
        if epoch < self.epoch {
            return Err(ProducerError::OldEpoch { id, epoch, current: self.epoch });
        }
        // A new epoch begins at 0.
        let last = if epoch == self.epoch { self.last_sequence() } else { NONE };
        let follows = base_sequence == sequence_plus(last, 1);
        // An epoch of -1 stands for a producer of which nothing is known.
        if follows || i32::from(self.epoch) == NONE {
            Ok(Verdict::New)
        } else {
            Err(ProducerError::OutOfOrder { id, epoch, sequence: base_sequence, last })
        }
    }
}

/// A producer as a checkpoint holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerCheckpoint {
    id: i64,
    epoch: i16,
    last_timestamp: i64,
    /// Last sequence, offset delta, last offset, timestamp.
    batches: Vec<(i32, i32, Offset, i64)>,
}

/// All producers of a partition. Takes no memory while there are none.
#[derive(Clone, Debug, Default)]
pub struct Producers(BTreeMap<i64, Box<ProducerState>>);

impl Producers {
    /// Says what a batch of a client is: `offset_delta` is one less than its records.
    ///
    /// # Errors
    /// When it may not be appended.
    pub fn check(&self, producer: Producer, offset_delta: i32) -> Result<Verdict, ProducerError> {
        match self.0.get(&producer.id) {
            Some(state) => state.check(producer, offset_delta),
            None => Ok(Verdict::New),
        }
    }

    /// Notes a batch that is in the log. Returns how many producers were forgotten for it: past
    /// [`PRODUCERS_PER_PARTITION_MAX`], those that have not written for longest.
    pub fn append(&mut self, producer: Producer, batch: ProducerBatch) -> usize {
        let forgotten = if self.0.contains_key(&producer.id) { 0 } else { self.make_room() };
        let fresh = || Box::new(ProducerState::new(producer.epoch, batch.timestamp));
        self.0.entry(producer.id).or_insert_with(fresh).add(producer.epoch, batch);
        forgotten
    }

    /// Notes a batch by its header; `round` holds it.
    pub fn append_header(
        &mut self,
        header: &BatchHeader,
        base_offset: Offset,
        round: u64,
    ) -> usize {
        let Some(producer) = header.producer() else { return 0 };
        let offset_delta = header.last_offset_delta();
        let batch = ProducerBatch {
            last_sequence: sequence_plus(producer.base_sequence, offset_delta),
            offset_delta,
            last_offset: base_offset.plus(i64::from(offset_delta)),
            timestamp: header.max_timestamp(),
            round,
        };
        self.append(producer, batch)
    }

    /// Forgets an eighth of the producers at once when there are as many as may be, so that finding the
    /// oldest costs little per append.
    fn make_room(&mut self) -> usize {
        if self.0.len() < PRODUCERS_PER_PARTITION_MAX {
            return 0;
        }
        let mut offsets: Vec<Offset> = self.0.values().map(|state| state.last_offset()).collect();
        let nth = PRODUCERS_PER_PARTITION_MAX / 8;
        let (_, last, _) = offsets.select_nth_unstable(nth.min(self.0.len() - 1));
        let last = *last;
        let before = self.0.len();
        self.0.retain(|_, state| state.last_offset() > last);
        before - self.0.len()
    }

    /// Forgets the producers whose last batch is `after_ms` old or older. By the timestamps of records,
    /// as Kafka does.
    pub fn expire(&mut self, now: Timestamp, after_ms: i64) {
        self.0.retain(|_, state| now.0.saturating_sub(state.last_timestamp.0) < after_ms);
    }

    /// Every producer with its id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.0.iter().map(|(id, state)| (*id, &**state))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a checkpoint says of them.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<ProducerCheckpoint> {
        let batch =
            |b: &ProducerBatch| (b.last_sequence, b.offset_delta, b.last_offset, b.timestamp.0);
        self.iter()
            .map(|(id, state)| ProducerCheckpoint {
                id,
                epoch: state.epoch,
                last_timestamp: state.last_timestamp.0,
                batches: state.batches().iter().map(batch).collect(),
            })
            .collect()
    }

    /// The producers of a checkpoint.
    #[must_use]
    pub fn from_checkpoint(checkpoint: &[ProducerCheckpoint]) -> Producers {
        let mut producers = Producers::default();
        for known in checkpoint {
            let mut state = ProducerState::new(known.epoch, Timestamp::default());
            for (last_sequence, offset_delta, last_offset, timestamp) in &known.batches {
                let batch = ProducerBatch {
                    last_sequence: *last_sequence,
                    offset_delta: *offset_delta,
                    last_offset: *last_offset,
                    timestamp: Timestamp(*timestamp),
                    round: 0,
                };
                state.add(known.epoch, batch);
            }
            state.last_timestamp = Timestamp(known.last_timestamp);
            producers.0.insert(known.id, Box::new(state));
        }
        producers
    }
}

/// Kafka's `ProducerSnapshot.json`, version 1.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SnapshotHeader {
    version: I16,
    /// CRC-32C of everything behind it.
    crc: U32,
    count: I32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SnapshotEntry {
    producer_id: I64,
    epoch: I16,
    last_sequence: I32,
    last_offset: I64,
    offset_delta: I32,
    timestamp: I64,
    coordinator_epoch: I32,
    current_txn_first_offset: I64,
}

const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_CRC_END: usize = 6;

impl Producers {
    /// The bytes of a `.snapshot` file: of each producer its last batch.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let count = i32::try_from(self.0.len()).unwrap_or(i32::MAX);
        let header = SnapshotHeader {
            version: SNAPSHOT_VERSION.into(),
            crc: U32::ZERO,
            count: count.into(),
        };
        let mut bytes = header.as_bytes().to_vec();
        for (id, state) in self.iter() {
            let last = state.last();
            let entry = SnapshotEntry {
                producer_id: id.into(),
                epoch: state.epoch.into(),
                last_sequence: state.last_sequence().into(),
                last_offset: state.last_offset().0.into(),
                offset_delta: last.map_or(0, |batch| batch.offset_delta).into(),
                timestamp: state.last_timestamp.0.into(),
                coordinator_epoch: NONE.into(),
                current_txn_first_offset: i64::from(NONE).into(),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        let crc = crc32c::crc32c(bytes.get(SNAPSHOT_CRC_END..).unwrap_or_default());
        if let Ok((header, _)) = SnapshotHeader::mut_from_prefix(&mut bytes) {
            header.crc = crc.into();
        }
        bytes
    }

    /// The producers of a `.snapshot` file; `None` if it is not a whole one.
    #[must_use]
    pub fn from_snapshot(bytes: &[u8]) -> Option<Producers> {
        let (header, entries) = SnapshotHeader::ref_from_prefix(bytes).ok()?;
        let crc = crc32c::crc32c(bytes.get(SNAPSHOT_CRC_END..)?);
        let count = usize::try_from(header.count.get()).ok()?;
        let fits = entries.len() == count.checked_mul(size_of::<SnapshotEntry>())?;
        if header.version.get() != SNAPSHOT_VERSION || header.crc.get() != crc || !fits {
            return None;
        }
        let mut producers = Producers::default();
        for chunk in entries.chunks_exact(size_of::<SnapshotEntry>()) {
            let entry = SnapshotEntry::ref_from_bytes(chunk).ok()?;
            let timestamp = Timestamp(entry.timestamp.get());
            let mut state = ProducerState::new(entry.epoch.get(), timestamp);
            if entry.last_offset.get() >= 0 {
                let batch = ProducerBatch {
                    last_sequence: entry.last_sequence.get(),
                    offset_delta: entry.offset_delta.get(),
                    last_offset: Offset(entry.last_offset.get()),
                    timestamp,
                    round: 0,
                };
                state.add(entry.epoch.get(), batch);
            }
            producers.0.insert(entry.producer_id.get(), Box::new(state));
        }
        Some(producers)
    }
}

#[cfg(test)]
mod tests;
