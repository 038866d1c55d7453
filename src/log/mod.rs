//! One partition's log: its segments, what of it is drained, and where the rest is.
//!
//! Shard: owned by the partition's owner. No I/O: it says what to write and where to read.
//! Units: offsets count records; positions count bytes in a segment's file.
//!
//! ```text
//!   segments   | sealed | sealed | ...        | oldest unsealed, then closed ones, then active |
//!   positions                     0 ... drained ... head end ............................. len
//!                                 in the file |  < 4 KiB  |  extents (ring, or journal files)
//! ```
//!
//! Invariants: log start <= end; `drained` is a whole number of blocks and everything below it is in
//! flushed segment files; head and extents together hold everything from `drained` to the end, and the
//! extents may reach further back (they are the tail cache).
//! It does not know: high watermarks, acknowledgements, other partitions.

pub mod adopt;
pub mod check;
pub mod compaction;
pub mod epochs;
pub mod index;
pub mod producers;
mod replay;
mod retention;
pub mod segment;

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::compaction::{CompactionCheckpoint, CompactionState};
use self::index::{Greatest, relative};
use self::producers::{ProducerCheckpoint, ProducerError, Producers, Verdict};
pub use self::replay::{Recovered, RecoveredExtent, RecoveredHead};
pub use self::retention::{RetentionPlan, RetentionRules};
use self::segment::Segment;
use crate::journal::Round;
use crate::journal::files::FileNumber;
use crate::journal::format::Entry;
use crate::record::{BatchHeader, batches};
use crate::storage::Buffer;
use crate::time::Timestamp;
use crate::types::{LeaderEpoch, Offset};

/// A place in a log's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Position in its file.
    pub position: u64,
}

/// Where bytes that may not be in a segment yet can be read.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a round that is in memory.
    Ring {
        /// The round's buffer.
        buffer: Buffer,
        /// Where in it.
        start: usize,
        /// The round.
        sequence: u64,
        /// The journal file that holds it.
        file: FileNumber,
    },
    /// In a journal file of an earlier start.
    Journal {
        /// The file.
        path: Rc<Path>,
        /// Where in it.
        position: u64,
    },
}

/// A run of whole batches of one segment, contiguous in one source.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Position in the segment's file.
    pub position: u64,
    /// Bytes.
    pub len: usize,
    /// First offset.
    pub base_offset: Offset,
    /// Offset after the last.
    pub next_offset: Offset,
    /// Where the bytes are.
    pub source: Source,
}

impl Extent {
    /// Position after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + self.len as u64
    }
}

/// The bytes from `drained` to the next extent: less than a block, seldom at a batch's start.
#[derive(Clone, Debug, Default)]
pub enum Head {
    /// There are none.
    #[default]
    None,
    /// In memory, and in the journal.
    Memory(Bytes),
    /// In a journal file of an earlier start.
    Journal {
        /// The file.
        path: Rc<Path>,
        /// Where in it.
        position: u64,
        /// Bytes.
        len: usize,
    },
    /// Spilled: in the segment's last block, which is padded with zeros.
    Disk(usize),
}

impl Head {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Head::None => 0,
            Head::Memory(bytes) => bytes.len(),
            Head::Journal { len, .. } | Head::Disk(len) => *len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a log grows.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`: time between the first batch of a segment and one that begins another.
    pub segment_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
}

/// Where an append goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendPlan {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Position in its file.
    pub position: u64,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Log end after it.
    pub next_offset: Offset,
    /// Epoch to stamp.
    pub leader_epoch: LeaderEpoch,
}

/// What a checkpoint says of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSegment {
    /// Base offset.
    pub base: Offset,
    /// Bytes.
    pub len: u64,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// Greatest timestamp, -1 if there is none, and the last offset of the first batch that has it.
    pub greatest: (i64, Offset),
}

/// What a checkpoint says of a log (storage section 1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCheckpoint {
    /// Sealed segments, oldest first.
    pub sealed: Vec<SealedSegment>,
    /// Everything below is in flushed segment files.
    pub drained: Place,
    /// When the bytes right after `drained` are in the segment too (spilled, or none): how many, and the
    /// offset after them. Else the journal holds them.
    pub tail: Option<(u32, Offset)>,
    /// First readable offset.
    pub log_start: Offset,
    /// Leader epochs and the offset each began at.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The idempotent producers as of `producers_to`.
    pub producers: Vec<ProducerCheckpoint>,
    /// The offset after what is drained and the bytes right after it: the journal holds all batches from
    /// here on.
    pub producers_to: Offset,
    /// The greatest timestamp below `producers_to` in the segment that is being drained, as in
    /// [`SealedSegment`].
    pub greatest: (i64, Offset),
    /// How far it is compacted.
    pub compaction: CompactionCheckpoint,
}

/// A partition's log.
#[derive(Debug)]
pub struct Log {
    settings: LogSettings,
    /// Oldest first; the last is active.
    segments: VecDeque<Segment>,
    log_start: Offset,
    /// The log start that a power cut cannot undo: files below it may go.
    log_start_saved: Offset,
    /// Sealed segments up to this offset are sealed in a durable checkpoint, too.
    sealed_saved: Offset,
    end: Offset,
    epochs: Vec<(LeaderEpoch, Offset)>,
    drained: Place,
    head: Head,
    head_next: Offset,
    extents: VecDeque<Extent>,
    /// As of the log's end: what appends are checked against.
    producers: Producers,
    /// As of `drained_producers_to`. A checkpoint may not speak of batches that a power cut can still
    /// take, and a snapshot speaks of a segment's end.
    drained_producers: Producers,
    /// The offset after the last batch that a drain has noted. Not below `head_next` but after a restart,
    /// when the journal still has more than it must.
    drained_producers_to: Offset,
    /// The same for the greatest timestamp of the segment that is being drained.
    drained_greatest: Greatest,
    compaction: CompactionState,
}

/// What the next drain of a log takes.
#[derive(Debug)]
pub struct DrainPlan {
    /// From here on, in this segment.
    pub from: Place,
    /// Up to this position.
    pub to: u64,
    /// Offset after the last byte, where a batch ends at `to`.
    pub next_offset: Offset,
    /// Whether the segment ends at `to`, for good.
    pub last: bool,
    /// The bytes from `from.position` to the first extent.
    pub head: Head,
    /// The extents that hold the rest.
    pub extents: Vec<Extent>,
}

/// What can be written ahead of the next drain.
#[derive(Debug)]
pub struct AheadPlan {
    /// Where the head is.
    pub head_at: u64,
    /// The partial block before the extents of the drain.
    pub head: Bytes,
    /// The extents that hold the bytes.
    pub extents: Vec<Extent>,
    /// Where they end.
    pub to: u64,
}

impl Log {
    /// The log of a new partition.
    #[must_use]
    pub fn new(settings: LogSettings) -> Log {
        let first = Segment::new(Offset::ZERO);
        Log {
            settings,
            segments: VecDeque::from([first]),
            log_start: Offset::ZERO,
            log_start_saved: Offset::ZERO,
            sealed_saved: Offset::ZERO,
            end: Offset::ZERO,
            epochs: Vec::new(),
            drained: Place { segment: Offset::ZERO, position: 0 },
            head: Head::None,
            head_next: Offset::ZERO,
            extents: VecDeque::new(),
            producers: Producers::default(),
            drained_producers: Producers::default(),
            drained_producers_to: Offset::ZERO,
            drained_greatest: Greatest::default(),
            compaction: CompactionState::default(),
        }
    }

    /// Has the log grow by other settings from now on.
    pub fn configure(&mut self, settings: LogSettings) {
        self.settings = settings;
    }

    /// Log bytes per entry of the offset index.
    #[must_use]
    pub fn index_interval_bytes(&self) -> u64 {
        self.settings.index_interval_bytes
    }

    /// Says what a batch is to its producer's sequence; one without a producer is always new.
    ///
    /// # Errors
    /// When it may not be appended.
    pub fn check_producer(&self, batch: &BatchHeader) -> Result<Verdict, ProducerError> {
        match batch.producer() {
            Some(producer) => self.producers.check(producer, batch.last_offset_delta()),
            None => Ok(Verdict::New),
        }
    }

    /// Notes the producer of a batch that was just appended at `base_offset`, into the journal's `round`.
    /// Returns how many other producers were forgotten for it.
    pub fn note_producer(&mut self, batch: &BatchHeader, base_offset: Offset, round: u64) -> usize {
        self.producers.append_header(batch, base_offset, round)
    }

    /// Notes the producer of a batch that is about to be drained.
    pub fn note_drained(&mut self, batch: &BatchHeader) {
        if batch.base_offset() >= self.drained_producers_to {
            self.drained_producers.append_header(batch, batch.base_offset(), 0);
            self.drained_greatest.note(batch.max_timestamp(), batch.last_offset());
            self.drained_producers_to = batch.next_offset();
        }
    }

    /// The idempotent producers, as of the log's end.
    #[must_use]
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The idempotent producers as of what is drained.
    #[must_use]
    pub fn drained_producers(&self) -> &Producers {
        &self.drained_producers
    }

    /// Forgets producers that have not written for `after_ms`.
    pub fn expire_producers(&mut self, now: Timestamp, after_ms: i64) {
        self.producers.expire(now, after_ms);
        self.drained_producers.expire(now, after_ms);
    }

    /// Assigns place and offsets to `len` bytes with `records` records, of which `timestamp` is the
    /// greatest, rolling if they do not fit.
    pub fn append(
        &mut self,
        len: usize,
        records: i64,
        timestamp: Timestamp,
        epoch: LeaderEpoch,
    ) -> AppendPlan {
        let base_offset = self.end;
        let next_offset = base_offset.plus(records);
        let bytes = len as u64;
        let full = self.segments.back().is_none_or(|active| {
            active.len > 0
                && (active.len + bytes > self.settings.segment_bytes
                    || active.age_at(timestamp) > self.settings.segment_ms
                    || relative(active.base, next_offset) > i64::from(i32::MAX))
        });
        if full {
            self.segments.push_back(Segment::new(base_offset));
        }
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, base_offset));
        }
        let (mut segment, mut position) = (base_offset, 0);
        if let Some(active) = self.segments.back_mut() {
            (segment, position) = (active.base, active.len);
            active.len += bytes;
            active.next_offset = next_offset;
            active.greatest.note(timestamp, next_offset.plus(-1));
            active.began.get_or_insert(timestamp);
        }
        self.end = next_offset;
        AppendPlan { segment, position, base_offset, next_offset, leader_epoch: epoch }
    }

    /// Notes where an entry of this log now is in memory.
    pub fn placed(&mut self, round: &Round, entry: &Entry) {
        self.extents.push_back(Extent {
            segment: entry.segment,
            position: entry.position,
            len: entry.length,
            base_offset: entry.base_offset,
            next_offset: entry.next_offset,
            source: Source::Ring {
                buffer: round.buffer.clone(),
                start: entry.payload_offset,
                sequence: round.sequence,
                file: round.file,
            },
        });
    }

    /// Forgets the extents in rounds up to `sequence`, whose memory is needed and which are drained.
    pub fn released(&mut self, sequence: u64) {
        while let Some(front) = self.extents.front() {
            let gone = match &front.source {
                Source::Ring { sequence: of, .. } => *of <= sequence,
                Source::Journal { .. } => self.is_drained(front),
            };
            if !gone {
                break;
            }
            self.extents.pop_front();
        }
    }

    /// Forgets recovered extents that are drained: their journal files are about to go.
    pub fn forget_drained_recovered(&mut self) {
        while let Some(front) = self.extents.front() {
            if !matches!(front.source, Source::Journal { .. }) || !self.is_drained(front) {
                break;
            }
            self.extents.pop_front();
        }
    }

    fn is_drained(&self, extent: &Extent) -> bool {
        let end = Place { segment: extent.segment, position: extent.end() };
        // What the head holds is not in a segment, but it is in the journal once more.
        let head_end = self.drained.position + self.head.len() as u64;
        end.segment < self.drained.segment
            || (end.segment == self.drained.segment && end.position <= head_end)
    }

    /// First readable offset.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The next offset to assign.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The epoch of the last append.
    #[must_use]
    pub fn last_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last().map(|(epoch, _)| *epoch)
    }

    /// The leader epochs and the offset each began at.
    #[must_use]
    pub fn epochs(&self) -> &[(LeaderEpoch, Offset)] {
        &self.epochs
    }

    /// Everything below is in segment files.
    #[must_use]
    pub fn drained(&self) -> Place {
        self.drained
    }

    /// The bytes after [`Log::drained`] that no extent holds.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The offset after the head (or, without one, after [`Log::drained`]).
    #[must_use]
    pub fn head_next_offset(&self) -> Offset {
        self.head_next
    }

    /// Where the log ends now, with what is on its way to the journal.
    #[must_use]
    pub fn end_place(&self) -> Place {
        self.segments
            .back()
            .map_or(self.drained, |active| Place { segment: active.base, position: active.len })
    }

    /// The extents, oldest first.
    #[must_use]
    pub fn extents(&self) -> &VecDeque<Extent> {
        &self.extents
    }

    /// The extents that may hold `offset` and what follows it, if memory or journals reach back so far.
    pub fn extents_from(&self, offset: Offset) -> Option<impl Iterator<Item = &Extent>> {
        if self.extents.front().is_none_or(|front| offset < front.base_offset) {
            return None;
        }
        let at = self.extents.partition_point(|e| e.next_offset <= offset);
        Some(self.extents.range(at..))
    }

    /// The segment that holds `offset`.
    #[must_use]
    pub fn segment_of(&self, offset: Offset) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        self.segments.get(after.checked_sub(1)?)
    }

    /// The first segment that may have a readable record of `timestamp` or later.
    #[must_use]
    pub fn segment_at(&self, timestamp: Timestamp) -> Option<&Segment> {
        self.readable_segments().find(|s| s.greatest.timestamp >= timestamp)
    }

    /// The greatest timestamp of the segments that have readable records. It may be that of a record
    /// below the log start.
    #[must_use]
    pub fn greatest(&self) -> Greatest {
        let mut greatest = Greatest::default();
        for segment in self.readable_segments() {
            greatest.note_all(segment.greatest);
        }
        greatest
    }

    /// The segments with a record at or above the log start; the files of others may be gone.
    fn readable_segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.next_offset > self.log_start)
    }

    /// A segment by its base offset.
    pub fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|s| s.base == base)
    }

    /// Log bytes over all segments.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// How many bytes of a segment are in its file: the whole of a sealed one, else up to `drained` and
    /// what was spilled after it.
    #[must_use]
    pub fn file_limit(&self, segment: &Segment) -> u64 {
        if segment.base < self.drained.segment {
            return segment.len;
        }
        let spilled = match self.head {
            Head::Disk(len) => len as u64,
            _ => 0,
        };
        if segment.base == self.drained.segment { self.drained.position + spilled } else { 0 }
    }

    /// What a drain should take: bytes of written rounds only. `None` if there is nothing to do.
    #[must_use]
    pub fn plan_drain(&self, written: u64, max_bytes: u64) -> Option<DrainPlan> {
        let at = self.segments.partition_point(|s| s.base < self.drained.segment);
        let segment = self.segments.get(at)?;
        let closed = at + 1 < self.segments.len();
        let head_end = self.drained.position + self.head.len() as u64;
        let mut extents = Vec::new();
        let mut to = head_end;
        let mut next_offset = self.head_next;
        let mut all = true;
        for extent in self.extents.iter().filter(|e| e.segment == segment.base) {
            if extent.end() <= to {
                continue;
            }
            let ready = match extent.source {
                Source::Ring { sequence, .. } => sequence <= written,
                Source::Journal { .. } => true,
            };
            if !ready || (extent.end() - self.drained.position > max_bytes && !extents.is_empty()) {
                all = false;
                break;
            }
            to = extent.end();
            next_offset = extent.next_offset;
            extents.push(extent.clone());
        }
        let last = closed && all && to == segment.len;
        if extents.is_empty() && !last && matches!(self.head, Head::None | Head::Disk(_)) {
            return None;
        }
        Some(DrainPlan {
            from: self.drained,
            to,
            next_offset,
            last,
            head: self.head.clone(),
            extents,
        })
    }

    /// What can be written of the segment that is being drained, from `position` on, before the drain:
    /// bytes of written rounds that are in the ring. `None` if not all of them from there on are.
    #[must_use]
    pub fn plan_ahead(&self, written: u64, position: u64) -> Option<AheadPlan> {
        let segment = self.drained.segment;
        let head = match &self.head {
            Head::None => Bytes::new(),
            Head::Memory(bytes) => bytes.clone(),
            // The segment's last block is the only copy, or these bytes have to be read first.
            Head::Journal { .. } | Head::Disk(_) => return None,
        };
        let first = self.extents.partition_point(|e| (e.segment, e.end()) <= (segment, position));
        let (mut to, mut extents) = (position, Vec::new());
        let mut follows = position.max(self.drained.position + head.len() as u64);
        for extent in self.extents.range(first..) {
            match extent.source {
                Source::Ring { sequence, .. }
                    if extent.segment == segment
                        && extent.position <= follows
                        && sequence <= written => {}
                _ => break,
            }
            to = extent.end();
            follows = to;
            extents.push(extent.clone());
        }
        Some(AheadPlan { head_at: self.drained.position, head, extents, to })
    }

    /// Notes that everything below `place` is in flushed segment files, and where the bytes after it are.
    ///
    /// `next_offset` is the offset after the head.
    pub fn drained_to(&mut self, place: Place, head: Head, next_offset: Offset) {
        debug_assert!(place >= self.drained);
        self.drained = place;
        self.head = head;
        self.head_next = next_offset;
    }

    /// Notes that the oldest unsealed segment's files are complete; the next one is to be drained.
    pub fn sealed(&mut self, base: Offset) {
        let mut next = None;
        let mut segments = self.segments.iter_mut();
        while let Some(segment) = segments.next() {
            if segment.base == base {
                segment.sealed = true;
                segment.index.unload();
                next = segments.next().map(|s| s.base);
            }
        }
        if let Some(segment) = next {
            self.drained = Place { segment, position: 0 };
            self.head = Head::None;
            self.head_next = segment;
            self.drained_greatest = Greatest::default();
        }
    }

    /// The first extent that a drain has not finished.
    #[must_use]
    pub fn first_undrained(&self) -> Option<&Extent> {
        self.extents.iter().find(|e| !self.is_drained(e))
    }

    /// What a checkpoint says of this log now.
    #[must_use]
    pub fn checkpoint(&self) -> LogCheckpoint {
        let tail = match self.head {
            Head::None => Some((0, self.head_next)),
            Head::Disk(len) => Some((u32::try_from(len).unwrap_or(0), self.head_next)),
            Head::Memory(_) | Head::Journal { .. } => None,
        };
        let sealed = self.segments.iter().filter(|s| s.sealed);
        let mut sealed: Vec<SealedSegment> = sealed
            .map(|s| SealedSegment {
                base: s.base,
                len: s.len,
                next_offset: s.next_offset,
                greatest: (s.greatest.timestamp.0, s.greatest.offset),
            })
            .collect();
        let compaction = self.compaction.checkpoint(&mut sealed);
        LogCheckpoint {
            sealed,
            compaction,
            drained: self.drained,
            tail,
            log_start: self.log_start,
            epochs: self.epochs.clone(),
            producers: self.drained_producers.checkpoint(),
            producers_to: self.drained_producers_to,
            greatest: (self.drained_greatest.timestamp.0, self.drained_greatest.offset),
        }
    }
}

/// The position in `bytes` of the batch that holds `offset`, and where the last whole batch below
/// `limit` (an offset) ends; `bytes` starts at a batch. Batches after `max_bytes` are left out, except
/// the first.
#[must_use]
pub fn select(bytes: &[u8], offset: Offset, limit: Offset, max_bytes: usize) -> Selection {
    let mut selection = Selection::default();
    let mut at = 0;
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break };
        let end = at + batch.size();
        if batch.header().next_offset() > offset {
            let start = *selection.start.get_or_insert(at);
            if batch.header().next_offset() > limit
                || (end - start > max_bytes && selection.end > start)
            {
                selection.stopped = true;
                return selection;
            }
            selection.end = end;
            selection.next_offset = batch.header().next_offset();
        }
        at = end;
    }
    selection.walked = at;
    selection
}

/// What [`select`] found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection {
    /// Start of the batch that holds the offset.
    pub start: Option<usize>,
    /// End of the last batch taken; nothing was taken while it is not above the start.
    pub end: usize,
    /// Offset after the last batch taken.
    pub next_offset: Offset,
    /// Whether a batch was left out for a limit.
    pub stopped: bool,
    /// Where the last whole batch ends, when nothing stopped the walk.
    pub walked: usize,
}
