//! A segment's indexes in memory: by offset (Kafka's `.index`) and by time (Kafka's `.timeindex`).
//!
//! Every so many bytes of log both get an entry: the offset index a batch's last offset and its position,
//! the time index the greatest timestamp so far and the last offset of the first batch that has it,
//! unless that is the same as before.
//!
//! The entries go to the files with the drains, unflushed: until the segment is sealed the files are a
//! help, never a source of truth. After a restart what is in them is trusted as far as it can be true,
//! the rest is made again from the log, and before anything is written to them again they are cut to what
//! was trusted and flushed: otherwise entries of records that a power cut took would lie behind new ones.

use zerocopy::byteorder::big_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::BLOCK;
use crate::time::Timestamp;
use crate::types::Offset;

/// An entry of the offset index as it is in the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct OffsetEntry {
    pub(super) relative_offset: U32,
    pub(super) position: U32,
}

/// An entry of the time index as it is in the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct TimeEntry {
    pub(super) timestamp: I64,
    pub(super) relative_offset: U32,
}

pub(super) const OFFSET_ENTRY: usize = size_of::<OffsetEntry>();
pub(super) const TIME_ENTRY: usize = size_of::<TimeEntry>();

/// The least that a disk writes at once: an entry that lies in two of them may be half there.
const SECTOR: usize = 512;

/// The greatest timestamp of some batches, and the last offset of the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greatest {
    /// The timestamp; -1 when there is none.
    pub timestamp: Timestamp,
    /// The offset.
    pub offset: Offset,
}

impl Default for Greatest {
    fn default() -> Greatest {
        Greatest { timestamp: Timestamp(-1), offset: Offset(-1) }
    }
}

impl Greatest {
    /// Notes a batch that follows.
    pub fn note(&mut self, timestamp: Timestamp, last_offset: Offset) {
        if timestamp > self.timestamp {
            *self = Greatest { timestamp, offset: last_offset };
        }
    }

    /// Notes batches that follow.
    pub fn note_all(&mut self, later: Greatest) {
        self.note(later.timestamp, later.offset);
    }
}

/// A batch to be noted; its last offset is counted from the segment's base.
#[derive(Clone, Copy, Debug)]
pub struct IndexedBatch {
    /// The batch's last offset, from the segment's base.
    pub relative_offset: i64,
    /// Its position in the segment's file.
    pub position: u64,
    /// Its bytes.
    pub len: u64,
    /// Its greatest timestamp.
    pub timestamp: Timestamp,
}

/// The whole blocks of an index file that hold entries which are not written yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexWrite {
    /// Position in the file.
    pub position: u64,
    /// The bytes; zeros behind the last entry.
    pub bytes: Vec<u8>,
}

/// A segment's indexes.
#[derive(Debug)]
pub struct SegmentIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    /// Of all batches noted; the offset counted from the segment's base.
    greatest: Greatest,
    /// Whether every entry is in memory.
    complete: bool,
    /// Whether the files hold nothing behind what was written: see [`SegmentIndex::files_cut`].
    files_cut: bool,
    /// Bytes of the entries that are in the files.
    offsets_written: usize,
    times_written: usize,
    bytes_since: u64,
    /// Batches below this position have been noted.
    noted_to: u64,
}

impl SegmentIndex {
    /// The indexes of a new, empty segment.
    #[must_use]
    pub fn empty() -> SegmentIndex {
        // Files of the same name may be there: of records that a power cut took.
        SegmentIndex { complete: true, ..SegmentIndex::unloaded() }
    }

    /// The indexes of a segment found on disk: nothing is known of them yet.
    #[must_use]
    pub fn unloaded() -> SegmentIndex {
        SegmentIndex {
            offsets: Vec::new(),
            times: Vec::new(),
            greatest: Greatest::default(),
            complete: false,
            files_cut: false,
            offsets_written: 0,
            times_written: 0,
            bytes_since: 0,
            noted_to: 0,
        }
    }

    /// Takes what can be true of the files of a segment whose batches end at `limit`. Noting goes on at
    /// [`SegmentIndex::noted_to`], and makes exactly the entries that were lost.
    #[must_use]
    pub fn from_files(offsets: &[u8], times: &[u8], limit: u64) -> SegmentIndex {
        let mut index = SegmentIndex::unloaded();
        index.offsets = offset_entries(offsets, limit);
        index.times = time_entries(times);
        index.align();
        index
    }

    /// Keeps as many entries of both as were there at one moment: each entry of the time index was made
    /// together with the first entry of the offset index that is not below it.
    fn align(&mut self) {
        let last = self.offsets.last().map_or(-1, |e| i64::from(e.relative_offset.get()));
        let below = |e: &TimeEntry| i64::from(e.relative_offset.get()) <= last;
        self.times.truncate(self.times.partition_point(below));
        let keep = self.times.last().map_or(0, |time| {
            let before = |e: &OffsetEntry| e.relative_offset.get() < time.relative_offset.get();
            self.offsets.partition_point(before) + 1
        });
        self.offsets.truncate(keep);
        self.greatest = self.times.last().map_or_else(Greatest::default, |e| Greatest {
            timestamp: Timestamp(e.timestamp.get()),
            offset: Offset(e.relative_offset.get().into()),
        });
        self.offsets_written = self.offsets.len() * OFFSET_ENTRY;
        self.times_written = self.times.len() * TIME_ENTRY;
        self.bytes_since = 0;
        self.noted_to = self.last().map_or(0, |(_, position)| position);
    }

    /// Drops the last block's worth of entries: they did not fit the log.
    pub fn distrust_last_block(&mut self) {
        const ENTRIES: usize = BLOCK / OFFSET_ENTRY;
        self.offsets.truncate(self.offsets.len().saturating_sub(1) / ENTRIES * ENTRIES);
        self.align();
    }

    /// Whether every entry is in memory.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Says that the entries are all there, after the log above the last one was walked.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Notes a batch; `interval` is `log.index.interval.bytes`.
    pub fn note(&mut self, batch: &IndexedBatch, interval: u64) {
        if batch.position < self.noted_to {
            return;
        }
        self.noted_to = batch.position + batch.len;
        self.greatest.note(batch.timestamp, Offset(batch.relative_offset));
        if self.bytes_since > interval {
            let (Ok(offset), Ok(place)) =
                (u32::try_from(batch.relative_offset), u32::try_from(batch.position))
            else {
                return;
            };
            self.offsets
                .push(OffsetEntry { relative_offset: offset.into(), position: place.into() });
            self.note_time();
            self.bytes_since = 0;
        }
        self.bytes_since += batch.len;
    }

    fn note_time(&mut self) {
        let Greatest { timestamp, offset } = self.greatest;
        let last = self.times.last().map_or(-1, |e| e.timestamp.get());
        if timestamp.0 > last
            && let Ok(offset) = u32::try_from(offset.0)
        {
            let (timestamp, relative_offset) = (timestamp.0.into(), offset.into());
            self.times.push(TimeEntry { timestamp, relative_offset });
        }
    }

    /// Notes that no batch follows: the time index ends with the greatest timestamp of all.
    pub fn seal(&mut self) {
        self.note_time();
    }

    /// A position at or before the batch that holds `relative_offset`, and below `limit`: the index knows
    /// batches that are not in the segment's file yet.
    #[must_use]
    pub fn position(&self, relative_offset: i64, limit: u64) -> u64 {
        let after = self.offsets.partition_point(|e| {
            i64::from(e.relative_offset.get()) <= relative_offset
                && u64::from(e.position.get()) < limit
        });
        after
            .checked_sub(1)
            .and_then(|i| self.offsets.get(i))
            .map_or(0, |e| e.position.get().into())
    }

    /// An offset, from the segment's base, before which all timestamps are below `timestamp`.
    #[must_use]
    pub fn offset_before(&self, timestamp: Timestamp) -> i64 {
        let after = self.times.partition_point(|e| e.timestamp.get() <= timestamp.0);
        let before = after.checked_sub(1).and_then(|i| self.times.get(i));
        before.map_or(0, |e| e.relative_offset.get().into())
    }

    /// The last entry of the offset index: relative offset and position.
    #[must_use]
    pub fn last(&self) -> Option<(i64, u64)> {
        self.offsets.last().map(|e| (e.relative_offset.get().into(), e.position.get().into()))
    }

    /// Where noting goes on: the position of the last entry's batch, or the segment's start.
    #[must_use]
    pub fn noted_to(&self) -> u64 {
        self.noted_to
    }

    /// What is to be written to the `.index` file, if `least` entries are not there yet.
    #[must_use]
    pub fn offsets_to_write(&self, least: usize) -> Option<IndexWrite> {
        to_write(self.offsets.as_bytes(), self.offsets_written, least * OFFSET_ENTRY)
    }

    /// What is to be written to the `.timeindex` file, if `least` entries are not there yet.
    #[must_use]
    pub fn times_to_write(&self, least: usize) -> Option<IndexWrite> {
        to_write(self.times.as_bytes(), self.times_written, least * TIME_ENTRY)
    }

    /// Notes that all entries of the offset index are in the file.
    pub fn offsets_written(&mut self) {
        self.offsets_written = self.offsets.len() * OFFSET_ENTRY;
    }

    /// Notes that all entries of the time index are in the file.
    pub fn times_written(&mut self) {
        self.times_written = self.times.len() * TIME_ENTRY;
    }

    /// The lengths to which `.index` and `.timeindex` must be cut before anything is written to them.
    #[must_use]
    pub fn files_to_cut(&self) -> Option<(u64, u64)> {
        let whole = |len: usize| (len - len % BLOCK) as u64;
        (!self.files_cut).then(|| (whole(self.offsets_written), whole(self.times_written)))
    }

    /// Notes that the files were cut so, and flushed.
    pub fn files_cut(&mut self) {
        self.offsets_written -= self.offsets_written % BLOCK;
        self.times_written -= self.times_written % BLOCK;
        self.files_cut = true;
    }

    /// All entries as the bytes of the `.index` file.
    #[must_use]
    pub fn offset_bytes(&self) -> &[u8] {
        self.offsets.as_bytes()
    }

    /// All entries as the bytes of the `.timeindex` file.
    #[must_use]
    pub fn time_bytes(&self) -> &[u8] {
        self.times.as_bytes()
    }

    /// Whether these are all entries of files of `offsets` and `times` bytes.
    #[must_use]
    pub fn is_whole(&self, offsets: usize, times: usize) -> bool {
        self.offsets.len() * OFFSET_ENTRY == offsets && self.times.len() * TIME_ENTRY == times
    }

    /// Takes the files of a sealed segment, if each is well-formed.
    #[must_use]
    pub fn from_sealed_files(offsets: &[u8], times: &[u8], limit: u64) -> Option<SegmentIndex> {
        let mut index = SegmentIndex::unloaded();
        index.offsets = offset_entries(offsets, limit);
        index.times = time_entries(times);
        index.is_whole(offsets.len(), times.len()).then_some(index)
    }

    /// Frees the memory of a sealed segment's indexes; their files have everything.
    pub fn unload(&mut self) {
        *self = SegmentIndex::unloaded();
    }
}

fn offset_entries(bytes: &[u8], limit: u64) -> Vec<OffsetEntry> {
    let mut entries: Vec<OffsetEntry> = Vec::new();
    for chunk in bytes.chunks_exact(OFFSET_ENTRY) {
        let Ok(entry) = OffsetEntry::read_from_bytes(chunk) else { break };
        let grows = entries.last().is_none_or(|last| {
            entry.position.get() > last.position.get()
                && entry.relative_offset.get() > last.relative_offset.get()
        });
        if entry.position.get() == 0 || !grows || u64::from(entry.position.get()) >= limit {
            break;
        }
        entries.push(entry);
    }
    entries
}

fn time_entries(bytes: &[u8]) -> Vec<TimeEntry> {
    let mut entries: Vec<TimeEntry> = Vec::new();
    for chunk in bytes.chunks_exact(TIME_ENTRY) {
        let Ok(entry) = TimeEntry::read_from_bytes(chunk) else { break };
        let grows = entries.last().is_none_or(|last| {
            entry.timestamp.get() > last.timestamp.get()
                && entry.relative_offset.get() > last.relative_offset.get()
        });
        // Nothing was written here. A first record at the epoch makes such an entry, too; then the index is
        // made again from the log.
        let zeros = chunk.iter().all(|byte| *byte == 0);
        if zeros || !grows || entry.timestamp.get() < 0 {
            break;
        }
        entries.push(entry);
    }
    let start = entries.len().saturating_sub(1) * TIME_ENTRY;
    let torn = start / SECTOR != (start + TIME_ENTRY - 1) / SECTOR;
    if torn && entries.len() * TIME_ENTRY < bytes.len() {
        entries.pop();
    }
    entries
}

fn to_write(bytes: &[u8], written: usize, least: usize) -> Option<IndexWrite> {
    if bytes.len() < written + least.max(1) {
        return None;
    }
    let start = written - written % BLOCK;
    let mut bytes = bytes.get(start..)?.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Some(IndexWrite { position: start as u64, bytes })
}

/// `offset` as counted from a segment's base.
#[must_use]
pub fn relative(base: Offset, offset: Offset) -> i64 {
    offset.0.saturating_sub(base.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(number: u64, len: u64, timestamp: i64) -> IndexedBatch {
        IndexedBatch {
            relative_offset: number as i64 * 10 + 9,
            position: number * len,
            len,
            timestamp: Timestamp(timestamp),
        }
    }

    /// Timestamps that rise, fall and stand still.
    fn timestamp(number: u64) -> i64 {
        1_000 + number as i64 - (number % 7) as i64 * 3
    }

    fn index(batches: u64) -> SegmentIndex {
        let mut index = SegmentIndex::empty();
        for number in 0..batches {
            index.note(&batch(number, 3000, timestamp(number)), 4096);
        }
        index
    }

    #[test]
    fn looks_up_the_batch_at_or_before() {
        let index = index(1000);
        // Every second batch has an entry, the first never.
        assert_eq!(index.position(5, u64::MAX), 0);
        assert_eq!(index.position(29, u64::MAX), 6000);
        assert_eq!(index.position(48, u64::MAX), 6000);
        assert_eq!(index.position(48, 6000), 0);
        assert_eq!(index.offset_before(Timestamp(999)), 0);
        for wanted in 1_000..2_000 {
            let first = (0..1000).find(|n| timestamp(*n) >= wanted);
            let start = index.offset_before(Timestamp(wanted));
            assert!(first.is_none_or(|n| start <= batch(n, 3000, 0).relative_offset), "{wanted}");
        }
        assert!(index.offset_before(Timestamp(1_500)) > 4_000);
    }

    #[test]
    fn what_a_crash_leaves_of_the_files_is_continued_exactly() {
        let whole = index(2000);
        let (offsets, times) = (whole.offset_bytes(), whole.time_bytes());
        for seed in 0..200_u64 {
            // Either file ends with any sector, behind it zeros to a whole block, and one may be missing.
            let cut = |bytes: &[u8], seed: u64| {
                let end = (seed * 7919) as usize % bytes.len() / SECTOR * SECTOR;
                let mut bytes = bytes[..end].to_vec();
                bytes.resize(end.next_multiple_of(BLOCK), 0);
                if seed.is_multiple_of(3) && bytes.len() > SECTOR {
                    let sector = (seed * 31) as usize % (bytes.len() / SECTOR) * SECTOR;
                    bytes[sector..sector + SECTOR].fill(0);
                }
                bytes
            };
            let limit = 2000 * 3000 - seed * 3000;
            let (a, b) = (cut(offsets, seed + 1), cut(times, seed * 3 + 2));
            let mut again = SegmentIndex::from_files(&a, &b, limit);
            if seed.is_multiple_of(5) {
                again.distrust_last_block();
            }
            let (to_offsets, to_times) = again.files_to_cut().unwrap();
            assert!(to_offsets <= a.len() as u64 && to_times <= b.len() as u64);
            let trusted = again.offset_bytes().len();
            assert!(again.offset_bytes() == &offsets[..trusted], "seed {seed}");
            for number in again.noted_to() / 3000..2000 {
                again.note(&batch(number, 3000, timestamp(number)), 4096);
            }
            assert!(again.offset_bytes() == offsets, "seed {seed}");
            assert!(again.time_bytes() == times, "seed {seed}");
        }
    }

    #[test]
    fn nonsense_in_a_file_ends_the_index() {
        let index = index(100);
        let with_nonsense = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.extend_from_slice(&[0; 96]);
            bytes.extend_from_slice(&[0xff; 96]);
            bytes
        };
        let (offsets, times) =
            (with_nonsense(index.offset_bytes()), with_nonsense(index.time_bytes()));
        let again = SegmentIndex::from_files(&offsets, &times, u64::MAX);
        assert!(again.offsets.len() + 5 > index.offsets.len());
        assert_eq!(again.offset_bytes(), &index.offset_bytes()[..again.offset_bytes().len()]);
        assert!(SegmentIndex::from_sealed_files(&offsets, &times, u64::MAX).is_none());
        let (offsets, times) = (index.offset_bytes(), index.time_bytes());
        assert!(SegmentIndex::from_sealed_files(offsets, times, u64::MAX).is_some());
    }

    #[test]
    fn blocks_are_written_again_until_they_are_full() {
        let mut index = index(400);
        let count = index.offsets.len();
        assert!(index.offsets_to_write(count + 1).is_none());
        let write = index.offsets_to_write(count).unwrap();
        assert_eq!((write.position, write.bytes.len()), (0, BLOCK));
        assert_eq!(&write.bytes[..count * OFFSET_ENTRY], index.offset_bytes());
        index.offsets_written();
        assert!(index.offsets_to_write(1).is_none());
        for number in 400..2400 {
            index.note(&batch(number, 3000, timestamp(number)), 4096);
        }
        let write = index.offsets_to_write(1).unwrap();
        assert_eq!((write.position, write.bytes.len()), (0, 3 * BLOCK));
        index.offsets_written();
        index.note(&batch(2400, 9000, 0), 4096);
        index.note(&batch(2401, 9000, 0), 4096);
        let write = index.offsets_to_write(1).unwrap();
        assert_eq!((write.position, write.bytes.len()), (2 * BLOCK as u64, BLOCK));
    }

    #[test]
    fn a_sealed_index_ends_with_the_greatest_timestamp() {
        let mut index = SegmentIndex::empty();
        index.note(&batch(0, 100, 7), 4096);
        index.note(&batch(1, 100, 9), 4096);
        index.note(&batch(2, 100, 9), 4096);
        assert!(index.time_bytes().is_empty());
        index.seal();
        let mut expected = 9_i64.to_be_bytes().to_vec();
        expected.extend_from_slice(&19_u32.to_be_bytes());
        assert_eq!(index.time_bytes(), expected);
    }
}
