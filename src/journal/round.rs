//! From appends to one aligned buffer: the only copy a produced byte sees between socket and disk.

use std::collections::VecDeque;

use bytes::Bytes;

use super::files::FileNumber;
use super::format::{self, Entry, EntryKind, RoundError, RoundHeader};
use crate::limits::{ROUND_BYTES_TARGET, ROUND_COPY_BYTES_MIN, ROUND_ENTRIES_MAX};
use crate::record::{batches, stamp};
use crate::storage::{Buffer, BufferMut, Storage, align_up};
use crate::types::{Durability, LeaderEpoch, Offset, TopicPartition};

/// Payload of a round whose appends are copied as they come, unless a single append is larger.
const FILLED_PAYLOAD_MAX: usize = ROUND_BYTES_TARGET
    - format::HEADER_LEN
    - format::ENTRY_LEN * (ROUND_BYTES_TARGET / ROUND_COPY_BYTES_MIN);

/// Directory entries that such a round has room for at least.
const FILLED_ENTRIES_MIN: usize = 4;

/// The owner's own number of a partition, so that rounds find it without a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Bytes for the next round.
#[derive(Clone, Debug)]
pub struct Append {
    /// The partition, as its owner numbers it.
    pub slot: Slot,
    /// Whole batches, or a remainder.
    pub kind: EntryKind,
    /// What was asked for.
    pub class: Durability,
    /// The partition.
    pub partition: TopicPartition,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Position in the segment's file.
    pub position: u64,
    /// Offset given to the first record (for a remainder, the log's end).
    pub base_offset: Offset,
    /// Log end after these bytes.
    pub next_offset: Offset,
    /// Epoch to stamp.
    pub leader_epoch: LeaderEpoch,
    /// The bytes as they came; stamped while they are copied.
    pub bytes: Bytes,
}

/// An entry with the partition it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The partition, as its owner numbers it.
    pub slot: Slot,
    /// Where its bytes are.
    pub entry: Entry,
}

/// A submitted round: in memory, and being written or written.
#[derive(Debug)]
pub struct Round {
    /// Its place in the chain.
    pub sequence: u64,
    /// The journal file it is in.
    pub file: FileNumber,
    /// Position in that file.
    pub position: u64,
    /// Its bytes.
    pub buffer: Buffer,
    /// Bytes of memory that it holds: of a round that was expected to become larger, more than its length.
    pub memory: usize,
    /// Its entries; those of one partition in order.
    pub placed: Vec<Placed>,
}

pub(super) struct Encoded {
    pub(super) buffer: Buffer,
    pub(super) memory: usize,
    pub(super) checksum: u32,
    pub(super) placed: Vec<Placed>,
}

/// Appends that wait for a round, already grouped as they will be submitted: an append knows its round
/// the moment it is made.
pub(super) struct Open {
    groups: VecDeque<Group>,
    bytes: usize,
    /// Appends from this size on are copied at once.
    copy_bytes_min: usize,
    /// Payload of the last round that was filled as it came: what the next is expected to take.
    filled_before: usize,
}

/// The appends of one round to be.
enum Group {
    /// Small appends are kept and sorted by partition when the round is closed: few entries, long runs.
    Kept { appends: Vec<Append>, bytes: usize },
    /// Large ones are copied into the round at once, while they are in the core's cache, and their own
    /// memory is free again.
    Filled(Filling),
}

struct Filling {
    buffer: BufferMut,
    placed: Vec<Placed>,
    entries_max: usize,
    /// Where the payload starts, behind room for all entries.
    start: usize,
    /// Where the payload ends so far.
    at: usize,
    capacity: usize,
    bytes: usize,
}

impl Open {
    pub(super) fn new(copy_bytes_min: usize) -> Open {
        Open { groups: VecDeque::new(), bytes: 0, copy_bytes_min, filled_before: 0 }
    }

    /// Takes an append.
    ///
    /// # Errors
    /// When the bytes are no whole batches, which is a defect of the caller and fences the core.
    pub(super) fn push(&mut self, storage: &dyn Storage, append: Append) -> Result<(), RoundError> {
        let len = append.bytes.len();
        self.bytes += len;
        match self.groups.back_mut() {
            Some(Group::Kept { appends, bytes })
                if appends.len() < ROUND_ENTRIES_MAX
                    && format::round_len(appends.len() + 1, *bytes + len) <= ROUND_BYTES_TARGET =>
            {
                *bytes += len;
                appends.push(append);
                Ok(())
            }
            Some(Group::Filled(filling)) if filling.has_room(&append) => filling.push(&append),
            _ if len >= self.copy_bytes_min => {
                let payload = len.max((2 * self.filled_before).min(FILLED_PAYLOAD_MAX));
                let mut filling = Filling::new(storage, payload);
                let pushed = filling.push(&append);
                self.groups.push_back(Group::Filled(filling));
                pushed
            }
            _ => {
                self.groups.push_back(Group::Kept { appends: vec![append], bytes: len });
                Ok(())
            }
        }
    }

    /// Rounds that these appends will make.
    pub(super) fn rounds(&self) -> u64 {
        self.groups.len() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes on disk of the next round, at most.
    pub(super) fn next_len(&self) -> usize {
        match self.groups.front() {
            None => 0,
            Some(Group::Kept { appends, bytes }) => format::round_len(appends.len(), *bytes),
            Some(Group::Filled(filling)) => align_up(filling.at),
        }
    }

    /// Closes the next round.
    ///
    /// # Errors
    /// When its parts do not fit together, which is a defect and fences the core.
    pub(super) fn close(
        &mut self,
        storage: &dyn Storage,
        salt: u32,
        header: &RoundHeader,
    ) -> Result<Encoded, RoundError> {
        match self.groups.pop_front() {
            Some(Group::Kept { appends, bytes }) => {
                self.bytes -= bytes;
                encode(storage, salt, header, appends)
            }
            Some(Group::Filled(filling)) => {
                self.bytes -= filling.bytes;
                self.filled_before = filling.bytes;
                filling.close(salt, header)
            }
            None => Err(RoundError::BadLengths),
        }
    }
}

impl Filling {
    fn new(storage: &dyn Storage, payload: usize) -> Filling {
        let entries_max = (payload / ROUND_COPY_BYTES_MIN).max(FILLED_ENTRIES_MIN);
        let start = format::HEADER_LEN + entries_max * format::ENTRY_LEN;
        let capacity = align_up(start + payload);
        Filling {
            buffer: storage.allocate(capacity),
            placed: Vec::with_capacity(entries_max),
            entries_max,
            start,
            at: start,
            capacity,
            bytes: 0,
        }
    }

    fn has_room(&self, append: &Append) -> bool {
        let continues = self
            .placed
            .last()
            .is_some_and(|last| last.slot == append.slot && continues(&last.entry, append));
        (continues || self.placed.len() < self.entries_max)
            && self.at + append.bytes.len() <= self.capacity
    }

    fn push(&mut self, append: &Append) -> Result<(), RoundError> {
        let end = self.at + append.bytes.len();
        let place = self.buffer.bytes_mut().get_mut(self.at..end).ok_or(RoundError::BadLengths)?;
        copy_in(place, append)?;
        add_entry(&mut self.placed, append, self.at);
        self.bytes += append.bytes.len();
        self.at = end;
        Ok(())
    }

    fn close(mut self, salt: u32, header: &RoundHeader) -> Result<Encoded, RoundError> {
        let len = align_up(self.at);
        let memory = self.buffer.bytes_mut().get_mut(..len).ok_or(RoundError::BadLengths)?;
        let directory_end = format::HEADER_LEN + self.placed.len() * format::ENTRY_LEN;
        // Both hold whatever was in the memory before.
        for unused in [directory_end..self.start, self.at..len] {
            memory.get_mut(unused).ok_or(RoundError::BadLengths)?.fill(0);
        }
        let entries: Vec<Entry> = self.placed.iter().map(|p| p.entry).collect();
        let checksum = format::finish_round(memory, salt, header, &entries)?;
        let buffer = self.buffer.freeze_to(len);
        Ok(Encoded { buffer, memory: self.capacity, checksum, placed: self.placed })
    }
}

fn encode(
    storage: &dyn Storage,
    salt: u32,
    header: &RoundHeader,
    mut appends: Vec<Append>,
) -> Result<Encoded, RoundError> {
    // Stable: appends of one partition keep their order.
    appends.sort_by_key(|a| a.slot);
    let mut placed: Vec<Placed> = Vec::with_capacity(appends.len());
    for append in &appends {
        add_entry(&mut placed, append, 0);
    }
    let mut at = format::HEADER_LEN + placed.len() * format::ENTRY_LEN;
    for p in &mut placed {
        p.entry.payload_offset = at;
        at += p.entry.length;
    }
    let payload: usize = appends.iter().map(|a| a.bytes.len()).sum();
    let mut buffer = storage.allocate(format::round_len(placed.len(), payload));
    let memory = buffer.bytes_mut();
    let mut at = format::HEADER_LEN + placed.len() * format::ENTRY_LEN;
    for append in &appends {
        let end = at + append.bytes.len();
        copy_in(memory.get_mut(at..end).ok_or(RoundError::BadLengths)?, append)?;
        at = end;
    }
    memory.get_mut(at..).ok_or(RoundError::BadLengths)?.fill(0);
    let entries: Vec<Entry> = placed.iter().map(|p| p.entry).collect();
    let checksum = format::finish_round(memory, salt, header, &entries)?;
    let buffer = buffer.freeze();
    Ok(Encoded { memory: buffer.len(), buffer, checksum, placed })
}

/// Notes an append in the directory: in the last entry if it continues that, else in one of its own.
fn add_entry(placed: &mut Vec<Placed>, append: &Append, payload_offset: usize) {
    match placed.last_mut() {
        Some(last) if last.slot == append.slot && continues(&last.entry, append) => {
            last.entry.class = last.entry.class.max(append.class);
            last.entry.next_offset = append.next_offset;
            last.entry.length += append.bytes.len();
        }
        _ => placed.push(Placed {
            slot: append.slot,
            entry: Entry {
                kind: append.kind,
                class: append.class,
                partition: append.partition,
                segment: append.segment,
                position: append.position,
                base_offset: append.base_offset,
                next_offset: append.next_offset,
                leader_epoch: append.leader_epoch,
                payload_offset,
                length: append.bytes.len(),
            },
        }),
    }
}

fn copy_in(place: &mut [u8], append: &Append) -> Result<(), RoundError> {
    place.copy_from_slice(&append.bytes);
    match append.kind {
        EntryKind::Data => stamp_batches(place, append.base_offset, append.leader_epoch),
        EntryKind::Remainder | EntryKind::LogStart => Ok(()),
    }
}

fn continues(last: &Entry, append: &Append) -> bool {
    last.kind == EntryKind::Data
        && append.kind == EntryKind::Data
        && last.segment == append.segment
        && last.leader_epoch == append.leader_epoch
        && last.position + last.length as u64 == append.position
}

fn stamp_batches(
    bytes: &mut [u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<(), RoundError> {
    let mut rest = bytes;
    let mut offset = base_offset;
    while !rest.is_empty() {
        let (len, records) = {
            let batch = batches(rest).next().and_then(Result::ok).ok_or(RoundError::BadLengths)?;
            (batch.size(), i64::from(batch.header().last_offset_delta()) + 1)
        };
        let (batch, after) = rest.split_at_mut(len);
        stamp(batch, offset, leader_epoch).map_err(|_| RoundError::BadLengths)?;
        offset = offset.plus(records);
        rest = after;
    }
    Ok(())
}
