//! Whether a segment is what it should be: its batches, in order, and what its indexes say of them.
//!
//! Pure: bytes come from whoever reads the files, in pieces of any size. Memory is one batch and the
//! indexes. It does not know: whether what it finds wrong matters to whoever asks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use zerocopy::FromBytes;

use super::index::{Greatest, OFFSET_ENTRY, OffsetEntry, TIME_ENTRY, TimeEntry, relative};
use super::segment::Segment;
use super::{Head, Log, Source};
use crate::record::{BatchError, BatchHeader, BatchView};
use crate::time::Timestamp;
use crate::types::{LeaderEpoch, Offset};

/// What is wrong in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentFault {
    /// What is at a position is no batch; nothing behind it can be read.
    NoBatch {
        /// Position in the file.
        position: u64,
        /// What is wrong with it.
        error: BatchError,
    },
    /// A batch's CRC is not that of its bytes.
    Crc {
        /// Position in the file.
        position: u64,
        /// The batch's first offset.
        base_offset: Offset,
    },
    /// A batch does not begin at the offset that follows the batch before it.
    Gap {
        /// Position in the file.
        position: u64,
        /// The batch's first offset.
        base_offset: Offset,
        /// The offset that should follow.
        expected: Offset,
    },
    /// A batch says other counts of records in two of its fields.
    Count {
        /// Position in the file.
        position: u64,
        /// Records it says it has.
        records: i32,
        /// Distance of its last offset from its first.
        last_offset_delta: i32,
    },
    /// A batch's leader epoch is below that of the batch before it.
    Epoch {
        /// Position in the file.
        position: u64,
        /// The batch's epoch.
        epoch: LeaderEpoch,
        /// The epoch before it.
        before: LeaderEpoch,
    },
    /// The last batch is not whole.
    Torn {
        /// Position in the file.
        position: u64,
        /// Bytes from there to the end.
        bytes: u64,
    },
    /// An entry of the offset index does not name a batch.
    OffsetEntry {
        /// Its number, from 0.
        entry: usize,
        /// The offset it names.
        offset: Offset,
        /// The position it names.
        position: u64,
    },
    /// An entry of the time index does not say the greatest timestamp so far and who has it.
    TimeEntry {
        /// Its number, from 0.
        entry: usize,
        /// The timestamp it names.
        timestamp: Timestamp,
        /// The offset it names.
        offset: Offset,
    },
    /// The time index does not end with the segment's greatest timestamp.
    TimeEnd {
        /// That timestamp.
        greatest: Timestamp,
    },
    /// An index file is no whole number of entries.
    IndexSize {
        /// Its extension.
        extension: &'static str,
        /// Its bytes.
        bytes: usize,
    },
}

impl SegmentFault {
    /// Whether it is in an index, and not in the records.
    #[must_use]
    pub fn in_index(&self) -> bool {
        match self {
            SegmentFault::OffsetEntry { .. }
            | SegmentFault::TimeEntry { .. }
            | SegmentFault::TimeEnd { .. }
            | SegmentFault::IndexSize { .. } => true,
            SegmentFault::NoBatch { .. }
            | SegmentFault::Crc { .. }
            | SegmentFault::Gap { .. }
            | SegmentFault::Count { .. }
            | SegmentFault::Epoch { .. }
            | SegmentFault::Torn { .. } => false,
        }
    }
}

impl fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentFault::NoBatch { position, error } => {
                write!(f, "position {position}: no batch: {error}")
            }
            SegmentFault::Crc { position, base_offset } => {
                write!(
                    f,
                    "position {position}: the CRC of the batch at offset {base_offset} is wrong"
                )
            }
            SegmentFault::Gap { position, base_offset, expected } => write!(
                f,
                "position {position}: a batch begins at offset {base_offset} where {expected} follows"
            ),
            SegmentFault::Count { position, records, last_offset_delta } => write!(
                f,
                "position {position}: a batch of {records} records has a last offset delta of \
                 {last_offset_delta}"
            ),
            SegmentFault::Epoch { position, epoch, before } => write!(
                f,
                "position {position}: a batch has leader epoch {} behind one of {}",
                epoch.0, before.0
            ),
            SegmentFault::Torn { position, bytes } => {
                write!(f, "position {position}: {bytes} bytes at the end are no whole batch")
            }
            SegmentFault::OffsetEntry { entry, offset, position } => write!(
                f,
                "entry {entry} of the .index file names offset {offset} at position {position}, where \
                 no batch ends with it"
            ),
            SegmentFault::TimeEntry { entry, timestamp, offset } => write!(
                f,
                "entry {entry} of the .timeindex file names timestamp {} at offset {offset}, which is \
                 not the greatest there",
                timestamp.0
            ),
            SegmentFault::TimeEnd { greatest } => write!(
                f,
                "the .timeindex file does not end with the segment's greatest timestamp, {}",
                greatest.0
            ),
            SegmentFault::IndexSize { extension, bytes } => {
                write!(f, "the .{extension} file has {bytes} bytes, which are no whole entries")
            }
        }
    }
}

/// A segment's batches as they pass by.
#[derive(Debug)]
pub struct SegmentCheck {
    base: Offset,
    /// Bytes that it should have.
    len: u64,
    /// Whether offsets may be missing, as compaction leaves them.
    gaps: bool,
    expected: Offset,
    position: u64,
    rest: Vec<u8>,
    stopped: bool,
    greatest: Greatest,
    epoch: LeaderEpoch,
    batches: u64,
    records: u64,
    offsets: Vec<OffsetEntry>,
    offsets_seen: usize,
    times: Option<Vec<TimeEntry>>,
    times_seen: usize,
    faults: Vec<SegmentFault>,
}

impl SegmentCheck {
    /// The check of a segment of `len` bytes, before its first.
    #[must_use]
    pub fn new(base: Offset, len: u64, gaps: bool) -> SegmentCheck {
        SegmentCheck {
            base,
            len,
            gaps,
            expected: base,
            position: 0,
            rest: Vec::new(),
            stopped: false,
            greatest: Greatest::default(),
            epoch: LeaderEpoch(-1),
            batches: 0,
            records: 0,
            offsets: Vec::new(),
            offsets_seen: 0,
            times: None,
            times_seen: 0,
            faults: Vec::new(),
        }
    }

    /// Has the bytes of its two index files checked as well, as they are when it is sealed.
    pub fn with_indexes(&mut self, offsets: &[u8], times: &[u8]) {
        if !offsets.len().is_multiple_of(OFFSET_ENTRY) {
            let fault = SegmentFault::IndexSize { extension: "index", bytes: offsets.len() };
            self.faults.push(fault);
        }
        if !times.len().is_multiple_of(TIME_ENTRY) {
            let fault = SegmentFault::IndexSize { extension: "timeindex", bytes: times.len() };
            self.faults.push(fault);
        }
        self.offsets = offsets
            .chunks_exact(OFFSET_ENTRY)
            .filter_map(|entry| OffsetEntry::read_from_bytes(entry).ok())
            .collect();
        let times = times
            .chunks_exact(TIME_ENTRY)
            .filter_map(|entry| TimeEntry::read_from_bytes(entry).ok())
            .collect();
        self.times = Some(times);
    }

    /// Takes the next bytes of the file, and shows every whole batch with its position to `visit`.
    pub fn push(&mut self, bytes: &[u8], mut visit: impl FnMut(u64, &BatchView<'_>)) {
        if self.stopped {
            return;
        }
        let mut joined = std::mem::take(&mut self.rest);
        joined.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(left) = joined.get(at..).filter(|left| !left.is_empty()) {
            match BatchView::parse(left) {
                Ok(batch) => {
                    self.batch(&batch);
                    visit(self.position, &batch);
                    at += batch.size();
                    self.position += batch.size() as u64;
                }
                Err(BatchError::Truncated) if self.may_be_whole(left) => break,
                Err(BatchError::Truncated) => {
                    self.stopped = true;
                    return;
                }
                Err(error) => {
                    self.faults.push(SegmentFault::NoBatch { position: self.position, error });
                    self.stopped = true;
                    return;
                }
            }
        }
        joined.drain(..at);
        self.rest = joined;
    }

    /// Whether the bytes to come may make a batch of what is left: a damaged length is not to take memory.
    fn may_be_whole(&self, left: &[u8]) -> bool {
        BatchHeader::read(left)
            .and_then(BatchHeader::size)
            .is_none_or(|size| self.position + size as u64 <= self.len)
    }

    fn batch(&mut self, batch: &BatchView<'_>) {
        let position = self.position;
        let header = batch.header();
        let base_offset = header.base_offset();
        if !batch.crc_valid() {
            self.faults.push(SegmentFault::Crc { position, base_offset });
        }
        let expected = self.expected;
        if base_offset < expected || (base_offset > expected && !self.gaps) {
            self.faults.push(SegmentFault::Gap { position, base_offset, expected });
        }
        let (records, last_offset_delta) = (header.records_count(), header.last_offset_delta());
        let counted = i64::from(records) == i64::from(last_offset_delta) + 1;
        if last_offset_delta < 0 || records < 0 || (!counted && !self.gaps) {
            self.faults.push(SegmentFault::Count { position, records, last_offset_delta });
        }
        let (epoch, before) = (header.partition_leader_epoch(), self.epoch);
        if epoch < before {
            self.faults.push(SegmentFault::Epoch { position, epoch, before });
        }
        self.epoch = self.epoch.max(epoch);
        self.expected = header.next_offset().max(expected);
        self.greatest.note(header.max_timestamp(), header.last_offset());
        self.batches += 1;
        self.records += u64::try_from(records).unwrap_or(0);
        self.check_indexes(header);
    }

    fn check_indexes(&mut self, header: &BatchHeader) {
        let last = relative(self.base, header.last_offset());
        while let Some(entry) = self.offsets.get(self.offsets_seen) {
            let (offset, position) =
                (i64::from(entry.relative_offset.get()), u64::from(entry.position.get()));
            if offset > last {
                break;
            }
            if offset < last || position != self.position {
                self.faults.push(SegmentFault::OffsetEntry {
                    entry: self.offsets_seen,
                    offset: self.base.plus(offset),
                    position,
                });
            }
            self.offsets_seen += 1;
        }
        while let Some(entry) = self.times.as_ref().and_then(|t| t.get(self.times_seen)) {
            let offset = i64::from(entry.relative_offset.get());
            if offset > last {
                break;
            }
            let named = Greatest {
                timestamp: Timestamp(entry.timestamp.get()),
                offset: self.base.plus(offset),
            };
            if named != self.greatest {
                self.faults.push(SegmentFault::TimeEntry {
                    entry: self.times_seen,
                    timestamp: named.timestamp,
                    offset: named.offset,
                });
            }
            self.times_seen += 1;
        }
    }

    /// Ends the check: what the segment holds, and all that is wrong with it.
    #[must_use]
    pub fn finish(mut self) -> SegmentSummary {
        let named = self.faults.iter().any(|f| matches!(f, SegmentFault::NoBatch { .. }));
        if self.position < self.len && !named {
            let (position, bytes) = (self.position, self.len - self.position);
            self.faults.push(SegmentFault::Torn { position, bytes });
        }
        if self.position == self.len {
            for (entry, named) in self.offsets.iter().enumerate().skip(self.offsets_seen) {
                self.faults.push(SegmentFault::OffsetEntry {
                    entry,
                    offset: self.base.plus(named.relative_offset.get().into()),
                    position: named.position.get().into(),
                });
            }
            let times = self.times.as_deref().unwrap_or_default();
            for (entry, named) in times.iter().enumerate().skip(self.times_seen) {
                self.faults.push(SegmentFault::TimeEntry {
                    entry,
                    timestamp: Timestamp(named.timestamp.get()),
                    offset: self.base.plus(named.relative_offset.get().into()),
                });
            }
            let ends = times.last().map_or(-1, |last| last.timestamp.get());
            if self.times.is_some() && ends < self.greatest.timestamp.0 {
                self.faults.push(SegmentFault::TimeEnd { greatest: self.greatest.timestamp });
            }
        }
        SegmentSummary {
            batches: self.batches,
            records: self.records,
            bytes: self.position,
            next_offset: self.expected,
            greatest: self.greatest,
            faults: self.faults,
        }
    }
}

/// What a segment holds.
#[derive(Clone, Debug)]
pub struct SegmentSummary {
    /// Whole batches.
    pub batches: u64,
    /// Records, as the batches count them.
    pub records: u64,
    /// Bytes of the whole batches.
    pub bytes: u64,
    /// The offset that follows the last batch.
    pub next_offset: Offset,
    /// The greatest timestamp.
    pub greatest: Greatest,
    /// Everything that is wrong, in order of discovery.
    pub faults: Vec<SegmentFault>,
}

/// Where bytes of a segment are.
#[derive(Clone, Debug)]
pub enum Part {
    /// In its own file, from the start on.
    File {
        /// How many.
        len: u64,
    },
    /// In a journal file of an earlier start.
    Journal {
        /// The file.
        path: Rc<Path>,
        /// Where in it.
        position: u64,
        /// How many.
        len: u64,
    },
}

/// A segment that holds readable records, and where.
#[derive(Clone, Debug)]
pub struct SegmentParts {
    /// Offset of its first record.
    pub base: Offset,
    /// Its bytes.
    pub len: u64,
    /// The offset that follows its last record.
    pub next_offset: Offset,
    /// Its greatest timestamp.
    pub greatest: Greatest,
    /// Whether its files are complete.
    pub sealed: bool,
    /// Its bytes, in order.
    pub parts: Vec<Part>,
}

impl Log {
    /// The segments with readable records of a log that was recovered and has had no append since.
    #[must_use]
    pub fn segment_parts(&self) -> Vec<SegmentParts> {
        self.readable_segments()
            .filter(|segment| segment.len > 0)
            .map(|segment| SegmentParts {
                base: segment.base,
                len: segment.len,
                next_offset: segment.next_offset,
                greatest: segment.greatest,
                sealed: segment.sealed,
                parts: self.parts_of(segment),
            })
            .collect()
    }

    fn parts_of(&self, segment: &Segment) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut at = self.file_limit(segment);
        if at > 0 {
            parts.push(Part::File { len: at });
        }
        if segment.base == self.drained.segment
            && let Head::Journal { path, position, len } = &self.head
        {
            let len = *len as u64;
            parts.push(Part::Journal { path: Rc::clone(path), position: *position, len });
            at += len;
        }
        for extent in self.extents.iter().filter(|e| e.segment == segment.base) {
            if extent.end() <= at {
                continue;
            }
            let Source::Journal { path, position } = &extent.source else { continue };
            let known = at.saturating_sub(extent.position);
            parts.push(Part::Journal {
                path: Rc::clone(path),
                position: position + known,
                len: extent.len as u64 - known,
            });
            at = extent.end();
        }
        parts
    }
}

/// Reads Kafka's `leader-epoch-checkpoint`; `None` if it is not a whole one.
#[must_use]
pub fn read_epochs(text: &str) -> Option<BTreeMap<LeaderEpoch, Offset>> {
    let mut lines = text.lines();
    let version: i32 = lines.next()?.trim().parse().ok()?;
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut epochs = BTreeMap::new();
    for line in lines {
        let (epoch, began) = line.split_once(' ')?;
        epochs.insert(LeaderEpoch(epoch.parse().ok()?), Offset(began.trim().parse().ok()?));
    }
    (version == 0 && epochs.len() == count).then_some(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::index::{IndexedBatch, SegmentIndex};
    use crate::record::BatchBuilder;

    /// Batches of one record each from offset 5 on, with timestamps as given, and where each begins.
    fn segment(timestamps: &[i64]) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut positions) = (Vec::new(), Vec::new());
        for (index, timestamp) in (0..).zip(timestamps) {
            let mut builder = BatchBuilder::new().placed(Offset(5 + index), LeaderEpoch(0));
            builder.record(Timestamp(*timestamp), Some(b"key"), Some(b"value"));
            positions.push(bytes.len() as u64);
            bytes.extend_from_slice(&builder.build().unwrap());
        }
        (bytes, positions)
    }

    fn indexes(bytes: &[u8], timestamps: &[i64]) -> SegmentIndex {
        let mut index = SegmentIndex::empty();
        let len = (bytes.len() / timestamps.len()) as u64;
        for (number, timestamp) in (0..).zip(timestamps) {
            let batch = IndexedBatch {
                relative_offset: number,
                position: number as u64 * len,
                len,
                timestamp: Timestamp(*timestamp),
            };
            index.note(&batch, 0);
        }
        index.seal();
        index
    }

    fn faults(bytes: &[u8], indexes: Option<(&[u8], &[u8])>) -> Vec<SegmentFault> {
        let mut check = SegmentCheck::new(Offset(5), bytes.len() as u64, false);
        if let Some((offsets, times)) = indexes {
            check.with_indexes(offsets, times);
        }
        // In pieces that end inside batches and headers.
        for piece in bytes.chunks(37) {
            check.push(piece, |_, _| {});
        }
        check.finish().faults
    }

    const TIMES: [i64; 5] = [100, 300, 200, 400, 400];

    #[test]
    fn a_whole_segment_with_its_indexes_has_no_fault() {
        let (bytes, _) = segment(&TIMES);
        let index = indexes(&bytes, &TIMES);
        assert!(!index.offset_bytes().is_empty() && !index.time_bytes().is_empty());
        let found = faults(&bytes, Some((index.offset_bytes(), index.time_bytes())));
        assert_eq!(found, []);
        let mut check = SegmentCheck::new(Offset(5), bytes.len() as u64, false);
        let mut seen = Vec::new();
        check.push(&bytes, |position, batch| seen.push((position, batch.header().base_offset())));
        let summary = check.finish();
        assert_eq!((summary.batches, summary.records), (5, 5));
        assert_eq!((summary.next_offset, summary.bytes), (Offset(10), bytes.len() as u64));
        assert_eq!(summary.greatest, Greatest { timestamp: Timestamp(400), offset: Offset(8) });
        assert_eq!(seen.last().map(|(_, offset)| *offset), Some(Offset(9)));
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let (bytes, positions) = segment(&TIMES);
        let second = usize::try_from(positions[1]).unwrap();
        let third = usize::try_from(positions[2]).unwrap();
        for at in second..third {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(!faults(&damaged, None).is_empty(), "byte {at}");
        }
    }

    #[test]
    fn what_does_not_follow_is_named() {
        let (bytes, positions) = segment(&TIMES);
        let cut = |from: usize, to: usize| {
            let (from, to) = (positions[from], positions[to]);
            let mut cut = bytes.clone();
            cut.drain(usize::try_from(from).unwrap()..usize::try_from(to).unwrap());
            cut
        };
        let gap = SegmentFault::Gap {
            position: positions[1],
            base_offset: Offset(7),
            expected: Offset(6),
        };
        assert_eq!(faults(&cut(1, 2), None), [gap]);
        let torn = SegmentFault::Torn { position: positions[4], bytes: 70 };
        let short = usize::try_from(positions[4]).unwrap() + 70;
        assert_eq!(faults(&bytes[..short], None), [torn]);
        let mut tail = bytes.clone();
        tail.extend_from_slice(&[0; 100]);
        assert!(matches!(
            faults(&tail, None).as_slice(),
            [SegmentFault::NoBatch { error: BatchError::Magic { magic: 0 }, .. }]
        ));
        // With gaps allowed, as in a compacted segment.
        let holed = cut(1, 2);
        let mut check = SegmentCheck::new(Offset(5), holed.len() as u64, true);
        check.push(&holed, |_, _| {});
        assert_eq!(check.finish().faults, []);
    }

    #[test]
    fn index_entries_that_name_no_batch_are_found() {
        let (bytes, _) = segment(&TIMES);
        let index = indexes(&bytes, &TIMES);
        let (offsets, times) = (index.offset_bytes().to_vec(), index.time_bytes().to_vec());
        for at in 0..offsets.len() {
            let mut damaged = offsets.clone();
            damaged[at] ^= 1;
            let found = faults(&bytes, Some((&damaged, &times)));
            assert!(!found.is_empty() && found.iter().all(SegmentFault::in_index), "byte {at}");
        }
        for at in 0..times.len() {
            let mut damaged = times.clone();
            damaged[at] ^= 1;
            let found = faults(&bytes, Some((&offsets, &damaged)));
            assert!(!found.is_empty() && found.iter().all(SegmentFault::in_index), "byte {at}");
        }
        let found = faults(&bytes, Some((&offsets, &times[..times.len() - TIME_ENTRY])));
        assert_eq!(found, [SegmentFault::TimeEnd { greatest: Timestamp(400) }]);
        let found = faults(&bytes, Some((&offsets[..7], &times)));
        assert_eq!(found, [SegmentFault::IndexSize { extension: "index", bytes: 7 }]);
    }

    #[test]
    fn the_epoch_file_is_read_as_written() {
        let epochs = [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(10))];
        let text = crate::log::epochs::checkpoint_text(&epochs, Offset(99));
        assert_eq!(read_epochs(&text), Some(BTreeMap::from(epochs)));
        assert_eq!(read_epochs("0\n2\n1 0\n"), None);
        assert_eq!(read_epochs("1\n0\n"), None);
        assert_eq!(read_epochs(""), None);
    }
}
