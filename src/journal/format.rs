//! The bytes of a round (`docs/storage-format.md` draws them).
//!
//! A round is one aligned write: header, directory (one entry per partition and segment), payload
//! grouped by entry, zeros up to a whole block. The checksum in the header covers the header, the
//! directory and the first [`BATCH_HEAD`] bytes of every record batch, which end with the batch's own
//! CRC: batch CRCs cover the rest, so no byte is summed twice. It is seeded with the salt of the
//! journal generation, which never leaves the data directory, so a record that looks like a round is
//! not one (storage rule 3).

use zerocopy::byteorder::big_endian::{I32, I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::{BLOCK, ROUND_ENTRIES_MAX};
use crate::record::{BatchHeader, batches};
use crate::types::{Durability, LeaderEpoch, Offset, TopicId, TopicPartition, Uuid};

/// First bytes of every round.
const MAGIC: [u8; 8] = *b"MSROUND1";

/// How much of each batch the round's checksum covers: up to and with the batch's CRC field.
pub const BATCH_HEAD: usize = 21;

/// Size of a round's header.
pub const HEADER_LEN: usize = size_of::<RawHeader>();

/// Size of a directory entry.
pub const ENTRY_LEN: usize = size_of::<RawEntry>();

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    checksum: U32,
    previous_checksum: U32,
    core: U16,
    version: U16,
    entry_count: U32,
    generation: U64,
    sequence: U64,
    written_sequence: U64,
    flushed_sequence: U64,
    round_len: U32,
    reserved: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    kind: u8,
    class: u8,
    reserved: U16,
    partition: I32,
    topic: [u8; 16],
    segment: I64,
    position: U64,
    base_offset: I64,
    next_offset: I64,
    leader_epoch: I32,
    payload_offset: U32,
    length: U32,
    /// CRC-32C of the payload for kinds whose payload is not whole batches; else zero.
    payload_checksum: U32,
}

/// Names one chain of rounds: one core in one start of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    /// The start: raised durably in the metadata log at every start, before the first append.
    pub generation: u64,
    /// The core that wrote it.
    pub core: u16,
}

/// What a round says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundHeader {
    /// The chain it belongs to.
    pub chain: Chain,
    /// Its place in the chain, from 1.
    pub sequence: u64,
    /// Longest completed prefix when this round was submitted.
    pub written: u64,
    /// Longest flushed prefix when this round was submitted.
    pub flushed: u64,
    /// Checksum of the round before it; 0 for the first.
    pub previous_checksum: u32,
    /// Its own checksum.
    pub checksum: u32,
    /// Directory entries.
    pub entry_count: usize,
    /// Bytes on disk, whole blocks.
    pub round_len: usize,
}

/// What an entry is. The numbers are on disk; those not written today are reserved for what storage
/// section 2 names, and a journal that holds one is refused rather than misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Whole record batches.
    Data,
    /// Bytes already journaled, again: the last partial block of a drained segment (rule 13).
    Remainder,
    /// No bytes: the partition's log starts at the entry's base offset from now on (rule 17).
    LogStart,
}

impl EntryKind {
    const DATA: u8 = 1;
    const REMAINDER: u8 = 2;
    const LOG_START: u8 = 5;
    // 3 extent, 4 truncate, 6 spill, 7 partition drop: reserved.

    fn number(self) -> u8 {
        match self {
            EntryKind::Data => Self::DATA,
            EntryKind::Remainder => Self::REMAINDER,
            EntryKind::LogStart => Self::LOG_START,
        }
    }

    fn from_number(number: u8) -> Option<EntryKind> {
        match number {
            Self::DATA => Some(EntryKind::Data),
            Self::REMAINDER => Some(EntryKind::Remainder),
            Self::LOG_START => Some(EntryKind::LogStart),
            _ => None,
        }
    }
}

/// Physical redo for one partition: these bytes, at this place of this segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The strongest class asked for by an append in it.
    pub class: Durability,
    /// Whose bytes.
    pub partition: TopicPartition,
    /// Base offset of the segment, which names its file.
    pub segment: Offset,
    /// Position of the first byte in the segment's file.
    pub position: u64,
    /// Offset of the first record in the bytes (for a remainder, of the log's end).
    pub base_offset: Offset,
    /// The log's end offset after the bytes.
    pub next_offset: Offset,
    /// Leader epoch stamped into the batches.
    pub leader_epoch: LeaderEpoch,
    /// Where the bytes are in the round.
    pub payload_offset: usize,
    /// Number of bytes.
    pub length: usize,
}

/// Why bytes are not a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundError {
    /// No header here: the end of what was written.
    NoHeader,
    /// The header's own lengths do not hold together.
    BadLengths,
    /// The checksum over header, directory and batch heads is wrong.
    BadChecksum,
    /// The checksum is right, and a batch's own CRC (or a remainder's) is wrong: a torn body.
    BadBody,
    /// An entry of a kind this version does not know.
    UnknownKind(u8),
}

fn class_number(class: Durability) -> u8 {
    match class {
        Durability::Received => 0,
        Durability::Written => 1,
        Durability::Flushed => 2,
    }
}

fn class_from_number(number: u8) -> Option<Durability> {
    match number {
        0 => Some(Durability::Received),
        1 => Some(Durability::Written),
        2 => Some(Durability::Flushed),
        _ => None,
    }
}

/// Reads a header; its checksum is not checked yet.
///
/// # Errors
/// [`RoundError::NoHeader`] when there is none, [`RoundError::BadLengths`] when it cannot be true.
pub fn read_header(bytes: &[u8]) -> Result<RoundHeader, RoundError> {
    let (raw, _) = RawHeader::ref_from_prefix(bytes).map_err(|_| RoundError::NoHeader)?;
    if raw.magic != MAGIC || raw.version.get() != 1 {
        return Err(RoundError::NoHeader);
    }
    let entry_count = raw.entry_count.get() as usize;
    let round_len = raw.round_len.get() as usize;
    let directory_end = entry_count
        .checked_mul(ENTRY_LEN)
        .and_then(|n| n.checked_add(HEADER_LEN))
        .ok_or(RoundError::BadLengths)?;
    if entry_count > ROUND_ENTRIES_MAX
        || round_len == 0
        || !round_len.is_multiple_of(BLOCK)
        || directory_end > round_len
    {
        return Err(RoundError::BadLengths);
    }
    Ok(RoundHeader {
        chain: Chain { generation: raw.generation.get(), core: raw.core.get() },
        sequence: raw.sequence.get(),
        written: raw.written_sequence.get(),
        flushed: raw.flushed_sequence.get(),
        previous_checksum: raw.previous_checksum.get(),
        checksum: raw.checksum.get(),
        entry_count,
        round_len,
    })
}

/// Reads and checks a whole round: lengths, checksum, and every body.
///
/// # Errors
/// The first thing that is wrong. [`RoundError::BadBody`] means that header and directory are right.
pub fn read_round(bytes: &[u8], salt: u32) -> Result<(RoundHeader, Vec<Entry>), RoundError> {
    let header = read_header(bytes)?;
    let round = bytes.get(..header.round_len).ok_or(RoundError::BadLengths)?;
    let directory_end = HEADER_LEN + header.entry_count * ENTRY_LEN;
    let directory = round.get(HEADER_LEN..directory_end).ok_or(RoundError::BadLengths)?;
    let mut entries = Vec::with_capacity(header.entry_count);
    let mut unknown = None;
    let mut checksums = Vec::with_capacity(header.entry_count);
    for chunk in directory.chunks_exact(ENTRY_LEN) {
        let raw = RawEntry::ref_from_bytes(chunk).map_err(|_| RoundError::BadLengths)?;
        let Some(kind) = EntryKind::from_number(raw.kind) else {
            unknown = Some(raw.kind);
            continue;
        };
        let entry = Entry {
            kind,
            class: class_from_number(raw.class).ok_or(RoundError::BadLengths)?,
            partition: TopicPartition {
                topic: TopicId(Uuid::from_bytes(raw.topic)),
                partition: raw.partition.get(),
            },
            segment: Offset(raw.segment.get()),
            position: raw.position.get(),
            base_offset: Offset(raw.base_offset.get()),
            next_offset: Offset(raw.next_offset.get()),
            leader_epoch: LeaderEpoch(raw.leader_epoch.get()),
            payload_offset: raw.payload_offset.get() as usize,
            length: raw.length.get() as usize,
        };
        entries.push(entry);
        checksums.push(raw.payload_checksum.get());
    }
    let sum = checksum(round, salt, directory_end, &entries).ok_or(RoundError::BadChecksum)?;
    if sum != header.checksum {
        return Err(RoundError::BadChecksum);
    }
    if let Some(kind) = unknown {
        return Err(RoundError::UnknownKind(kind));
    }
    for (entry, payload_checksum) in entries.iter().zip(checksums) {
        let payload = payload(round, entry).ok_or(RoundError::BadLengths)?;
        let good = match entry.kind {
            EntryKind::Data => batches(payload).all(|b| b.is_ok_and(|b| b.crc_valid())),
            EntryKind::Remainder | EntryKind::LogStart => {
                crc32c::crc32c(payload) == payload_checksum
            }
        };
        if !good {
            return Err(RoundError::BadBody);
        }
    }
    Ok((header, entries))
}

/// The bytes of an entry.
#[must_use]
pub fn payload<'a>(round: &'a [u8], entry: &Entry) -> Option<&'a [u8]> {
    round.get(entry.payload_offset..entry.payload_offset.checked_add(entry.length)?)
}

fn checksum(round: &[u8], salt: u32, directory_end: usize, entries: &[Entry]) -> Option<u32> {
    // The magic and the checksum itself are left out.
    let mut sum = crc32c::crc32c_append(salt, round.get(12..directory_end)?);
    for entry in entries.iter().filter(|e| e.kind == EntryKind::Data) {
        let bytes = payload(round, entry)?;
        let mut at = 0;
        while at < bytes.len() {
            let head = bytes.get(at..at + BATCH_HEAD)?;
            sum = crc32c::crc32c_append(sum, head);
            at = at.checked_add(BatchHeader::read(bytes.get(at..)?)?.size()?)?;
        }
    }
    Some(sum)
}

/// The bytes a round of `entries` entries and `payload` bytes takes on disk.
#[must_use]
pub fn round_len(entries: usize, payload: usize) -> usize {
    (HEADER_LEN + entries * ENTRY_LEN + payload).next_multiple_of(BLOCK)
}

/// Writes directory, header and checksum into `round`, whose payload is in place. Returns the checksum.
///
/// # Errors
/// [`RoundError::BadLengths`] when entries and payload do not fit together, which is a defect of the
/// caller and fences the core.
pub fn finish_round(
    round: &mut [u8],
    salt: u32,
    header: &RoundHeader,
    entries: &[Entry],
) -> Result<u32, RoundError> {
    let small = |n: usize| u32::try_from(n).map_err(|_| RoundError::BadLengths);
    let directory_end = HEADER_LEN + entries.len() * ENTRY_LEN;
    for (index, entry) in entries.iter().enumerate() {
        let bytes = payload(round, entry).ok_or(RoundError::BadLengths)?;
        let payload_checksum = match entry.kind {
            EntryKind::Data => 0,
            EntryKind::Remainder | EntryKind::LogStart => crc32c::crc32c(bytes),
        };
        let raw = RawEntry {
            kind: entry.kind.number(),
            class: class_number(entry.class),
            reserved: U16::ZERO,
            partition: entry.partition.partition.into(),
            topic: entry.partition.topic.0.into_bytes(),
            segment: entry.segment.0.into(),
            position: entry.position.into(),
            base_offset: entry.base_offset.0.into(),
            next_offset: entry.next_offset.0.into(),
            leader_epoch: entry.leader_epoch.0.into(),
            payload_offset: small(entry.payload_offset)?.into(),
            length: small(entry.length)?.into(),
            payload_checksum: payload_checksum.into(),
        };
        let at = HEADER_LEN + index * ENTRY_LEN;
        round
            .get_mut(at..at + ENTRY_LEN)
            .ok_or(RoundError::BadLengths)?
            .copy_from_slice(raw.as_bytes());
    }
    let mut raw = RawHeader {
        magic: MAGIC,
        checksum: U32::ZERO,
        previous_checksum: header.previous_checksum.into(),
        core: header.chain.core.into(),
        version: U16::new(1),
        entry_count: small(entries.len())?.into(),
        generation: header.chain.generation.into(),
        sequence: header.sequence.into(),
        written_sequence: header.written.into(),
        flushed_sequence: header.flushed.into(),
        round_len: small(round.len())?.into(),
        reserved: U32::ZERO,
    };
    let place = round.get_mut(..HEADER_LEN).ok_or(RoundError::BadLengths)?;
    place.copy_from_slice(raw.as_bytes());
    let sum = checksum(round, salt, directory_end, entries).ok_or(RoundError::BadLengths)?;
    raw.checksum = sum.into();
    let place = round.get_mut(..HEADER_LEN).ok_or(RoundError::BadLengths)?;
    place.copy_from_slice(raw.as_bytes());
    Ok(sum)
}
