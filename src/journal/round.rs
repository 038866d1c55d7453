//! From appends to one aligned buffer: the only copy a produced byte sees between socket and disk.

use std::collections::VecDeque;

use bytes::Bytes;

use super::files::FileNumber;
use super::format::{self, Entry, EntryKind, RoundError, RoundHeader};
use crate::limits::{ROUND_BYTES_TARGET, ROUND_ENTRIES_MAX};
use crate::record::{batches, stamp};
use crate::storage::{Buffer, Storage};
use crate::types::{Durability, LeaderEpoch, Offset, TopicPartition};

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
    /// Its entries, grouped by partition.
    pub placed: Vec<Placed>,
}

pub(super) struct Encoded {
    pub(super) buffer: Buffer,
    pub(super) checksum: u32,
    pub(super) placed: Vec<Placed>,
}

/// Appends that wait for a round, already grouped as they will be submitted: an append knows its round
/// the moment it is made.
#[derive(Default)]
pub(super) struct Open {
    appends: VecDeque<Append>,
    groups: VecDeque<Group>,
    bytes: usize,
}

#[derive(Clone, Copy, Default)]
struct Group {
    count: usize,
    bytes: usize,
}

impl Open {
    pub(super) fn push(&mut self, append: Append) {
        let len = append.bytes.len();
        self.bytes += len;
        self.appends.push_back(append);
        match self.groups.back_mut() {
            Some(last)
                if last.count < ROUND_ENTRIES_MAX
                    && format::round_len(last.count + 1, last.bytes + len)
                        <= ROUND_BYTES_TARGET =>
            {
                last.count += 1;
                last.bytes += len;
            }
            _ => self.groups.push_back(Group { count: 1, bytes: len }),
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
        self.groups.front().map_or(0, |g| format::round_len(g.count, g.bytes))
    }

    pub(super) fn take(&mut self) -> Vec<Append> {
        let group = self.groups.pop_front().unwrap_or_default();
        self.bytes -= group.bytes;
        self.appends.drain(..group.count).collect()
    }
}

pub(super) fn encode(
    storage: &dyn Storage,
    salt: u32,
    header: &RoundHeader,
    mut appends: Vec<Append>,
) -> Result<Encoded, RoundError> {
    // Stable: appends of one partition keep their order.
    appends.sort_by_key(|a| a.slot);
    let mut placed: Vec<Placed> = Vec::with_capacity(appends.len());
    for append in &appends {
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
                    payload_offset: 0,
                    length: append.bytes.len(),
                },
            }),
        }
    }
    let mut at = format::HEADER_LEN + placed.len() * format::ENTRY_LEN;
    let payload: usize = appends.iter().map(|a| a.bytes.len()).sum();
    let mut buffer = storage.allocate(format::round_len(placed.len(), payload));
    let memory = buffer.bytes_mut();
    for p in &mut placed {
        p.entry.payload_offset = at;
        at += p.entry.length;
    }
    let mut at = format::HEADER_LEN + placed.len() * format::ENTRY_LEN;
    for append in &appends {
        let place = memory.get_mut(at..at + append.bytes.len()).ok_or(RoundError::BadLengths)?;
        place.copy_from_slice(&append.bytes);
        if append.kind == EntryKind::Data {
            stamp_batches(place, append.base_offset, append.leader_epoch)?;
        }
        at += append.bytes.len();
    }
    memory.get_mut(at..).ok_or(RoundError::BadLengths)?.fill(0);
    let entries: Vec<Entry> = placed.iter().map(|p| p.entry).collect();
    let checksum = format::finish_round(memory, salt, header, &entries)?;
    Ok(Encoded { buffer: buffer.freeze(), checksum, placed })
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
