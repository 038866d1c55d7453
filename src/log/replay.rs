//! A log put together again: what the checkpoint says, then the journal's entries in order.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use std::collections::VecDeque;

use super::compaction::{CompactionCheckpoint, CompactionState};
use super::index::{Greatest, SegmentIndex};
use super::producers::Producers;
use super::segment::Segment;
use super::{Extent, Head, Log, LogCheckpoint, LogSettings, Place, SealedSegment, Source};
use crate::journal::format::{Entry, EntryKind};
use crate::limits::BLOCK;
use crate::record::batches;
use crate::time::Timestamp;
use crate::types::{LeaderEpoch, Offset};

/// Bytes of a log that are in a journal file of an earlier start.
#[derive(Clone, Debug)]
pub struct RecoveredExtent {
    segment: Offset,
    position: u64,
    len: usize,
    base_offset: Offset,
    next_offset: Offset,
    greatest: Greatest,
    path: PathBuf,
    file_position: u64,
}

/// The last partial block, where an entry says it once more.
#[derive(Clone, Debug)]
pub struct RecoveredHead {
    path: PathBuf,
    file_position: u64,
    len: usize,
    next_offset: Offset,
}

/// A log while it is replayed, and the form in which it travels to the shard that will own it.
///
/// Data entries arrive in order. Remainders do not: a drain journals what it read some time after it
/// read it, so one may come after data that follows it. What holds the bytes between `drained` and the
/// first data entry is therefore decided at the end.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Journals of starts before this one hold nothing that the checkpoint does not.
    from_generation: u64,
    sealed: Vec<SealedSegment>,
    log_start: Offset,
    epochs: Vec<(LeaderEpoch, Offset)>,
    drained: Place,
    /// Bytes after `drained` that the segment's last block holds, and the offset after them.
    tail: Option<(usize, Offset)>,
    /// The longest remainder at `drained`.
    remainder: Option<RecoveredHead>,
    extents: Vec<RecoveredExtent>,
    /// The idempotent producers as of the last batch replayed.
    producers: Producers,
    /// The same as of `producers_to`, from the checkpoint.
    drained_producers: Producers,
    producers_to: Offset,
    /// Of the segment that is being drained, below `producers_to`.
    greatest: Greatest,
    compaction: CompactionCheckpoint,
}

/// What holds the bytes from `drained` to the first extent.
enum Start {
    /// Nothing is there, or the first extent reaches back far enough.
    Extent,
    /// The segment's last block.
    Disk(usize, Offset),
    /// A remainder entry.
    Journal(RecoveredHead),
}

impl Recovered {
    /// A log of which no checkpoint speaks: it starts in the journal, if at all.
    #[must_use]
    pub fn new() -> Recovered {
        Recovered {
            from_generation: 0,
            sealed: Vec::new(),
            log_start: Offset::ZERO,
            epochs: Vec::new(),
            drained: Place { segment: Offset::ZERO, position: 0 },
            tail: Some((0, Offset::ZERO)),
            remainder: None,
            extents: Vec::new(),
            producers: Producers::default(),
            drained_producers: Producers::default(),
            producers_to: Offset::ZERO,
            greatest: Greatest::default(),
            compaction: CompactionCheckpoint::default(),
        }
    }

    /// A log as a checkpoint describes it; what journals of starts before `from_generation` say of it is
    /// in the checkpoint.
    #[must_use]
    pub fn from_checkpoint(checkpoint: LogCheckpoint, from_generation: u64) -> Recovered {
        Recovered {
            from_generation,
            sealed: checkpoint.sealed,
            log_start: checkpoint.log_start,
            epochs: checkpoint.epochs,
            drained: checkpoint.drained,
            tail: checkpoint.tail.map(|(len, next)| (len as usize, next)),
            remainder: None,
            extents: Vec::new(),
            producers: Producers::from_checkpoint(&checkpoint.producers),
            drained_producers: Producers::from_checkpoint(&checkpoint.producers),
            producers_to: checkpoint.producers_to,
            greatest: greatest(checkpoint.greatest),
            compaction: checkpoint.compaction,
        }
    }

    /// What the checkpoint says of the log's compaction.
    #[must_use]
    pub fn compaction(&self) -> &CompactionCheckpoint {
        &self.compaction
    }

    /// Replays one entry of a journal of start `generation`, whose bytes, `payload`, are at
    /// `file_position` of `path`.
    ///
    /// # Errors
    /// Says why the entry cannot follow what is known: the journal is not what it should be.
    pub fn replay(
        &mut self,
        generation: u64,
        entry: &Entry,
        path: &Path,
        file_position: u64,
        payload: &[u8],
    ) -> Result<(), String> {
        if generation < self.from_generation {
            return Ok(());
        }
        match entry.kind {
            EntryKind::Remainder => {
                let here = entry.segment == self.drained.segment
                    && entry.position == self.drained.position;
                if here && self.remainder.as_ref().is_none_or(|known| known.len <= entry.length) {
                    self.remainder = Some(RecoveredHead {
                        path: path.to_owned(),
                        file_position,
                        len: entry.length,
                        next_offset: entry.next_offset,
                    });
                }
                Ok(())
            }
            EntryKind::LogStart => {
                self.log_start = self.log_start.max(entry.base_offset);
                Ok(())
            }
            EntryKind::Data => self.replay_data(entry, path, file_position, payload),
        }
    }

    fn replay_data(
        &mut self,
        entry: &Entry,
        path: &Path,
        file_position: u64,
        payload: &[u8],
    ) -> Result<(), String> {
        let place = Place { segment: entry.segment, position: entry.position };
        let end = Place { position: entry.position + entry.length as u64, ..place };
        let known = self.known_end();
        if end <= known {
            return Ok(());
        }
        let follows = match self.extents.last() {
            Some(last) => {
                entry.base_offset == last.next_offset
                    && (place == known || (place.segment > known.segment && place.position == 0))
            }
            // Whole batches, of which a part may be drained; or what follows a remainder to come.
            None if place.segment == known.segment => {
                place.position < self.drained.position + BLOCK as u64
            }
            None => place.position == 0,
        };
        // What a journal of a start before the last one had after the entries known so far was drained
        // and its file filled again, while the last start did not get to say so in a checkpoint of its
        // own: then a remainder holds it, or `finish` finds it missing.
        let after_remainder = place.segment == self.drained.segment
            && place.position < self.drained.position + BLOCK as u64;
        if !follows && after_remainder && place > known {
            self.extents.clear();
        } else if !follows {
            return Err(format!(
                "an entry at position {} of segment {} (offset {}) does not follow the log, which \
                 ends at position {} of segment {}",
                place.position, place.segment, entry.base_offset, known.position, known.segment
            ));
        }
        if self.epochs.last().is_none_or(|(last, _)| *last < entry.leader_epoch) {
            // The checkpoint may know of appends that a power cut took.
            self.epochs.retain(|(_, began)| *began < entry.base_offset);
            self.epochs.push((entry.leader_epoch, entry.base_offset));
        }
        let mut greatest = Greatest::default();
        for batch in batches(payload).flatten() {
            let header = batch.header();
            greatest.note(header.max_timestamp(), header.last_offset());
            if header.base_offset() >= self.producers_to {
                self.producers.append_header(header, header.base_offset(), 0);
            }
        }
        self.extents.push(RecoveredExtent {
            segment: entry.segment,
            position: entry.position,
            len: entry.length,
            base_offset: entry.base_offset,
            next_offset: entry.next_offset,
            greatest,
            path: path.to_owned(),
            file_position,
        });
        Ok(())
    }

    /// Entries that end below are known already.
    fn known_end(&self) -> Place {
        match self.extents.last() {
            Some(last) => {
                Place { segment: last.segment, position: last.position + last.len as u64 }
            }
            None => {
                let tail = self.tail.map_or(0, |(len, _)| len as u64);
                Place { position: self.drained.position + tail, ..self.drained }
            }
        }
    }

    fn start(&self) -> Option<Start> {
        let Some(first) = self.extents.first() else {
            let tail = self.tail.map_or(0, |(len, _)| len);
            return match (&self.remainder, self.tail) {
                (Some(remainder), _) if remainder.len >= tail => {
                    Some(Start::Journal(remainder.clone()))
                }
                (_, Some((len, next))) => Some(Start::Disk(len, next)),
                (_, None) => None,
            };
        };
        if first.segment != self.drained.segment {
            // The segment ends where the next one begins.
            let fits = |next: Offset| next == first.base_offset;
            return match (&self.remainder, self.tail) {
                (Some(remainder), _) if fits(remainder.next_offset) => {
                    Some(Start::Journal(remainder.clone()))
                }
                (_, Some((len, next))) if fits(next) => Some(Start::Disk(len, next)),
                _ => None,
            };
        }
        let gap = usize::try_from(first.position.saturating_sub(self.drained.position)).ok()?;
        if gap == 0 {
            return Some(Start::Extent);
        }
        match (&self.remainder, self.tail) {
            (Some(remainder), _) if remainder.len >= gap => {
                let next_offset = first.base_offset;
                Some(Start::Journal(RecoveredHead { len: gap, next_offset, ..remainder.clone() }))
            }
            (_, Some((len, next))) if len == gap => Some(Start::Disk(len, next)),
            _ => None,
        }
    }

    /// Checks, after the last entry, that nothing is missing.
    ///
    /// # Errors
    /// When the checkpoint says that the journal holds the log's end, and it does not.
    pub fn finish(&self) -> Result<(), String> {
        match self.start() {
            Some(_) => Ok(()),
            None => Err(format!(
                "the journal that holds the end of the log is missing (drained to position {} of \
                 segment {})",
                self.drained.position, self.drained.segment
            )),
        }
    }

    /// Whether it never had a record.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        let start = Place { segment: Offset::ZERO, position: 0 };
        self.extents.is_empty()
            && self.sealed.is_empty()
            && self.drained == start
            && self.tail.is_some_and(|(len, _)| len == 0)
            && self.log_start == Offset::ZERO
    }

    /// Whether journal files of earlier starts are needed for it.
    #[must_use]
    pub fn needs_journal(&self) -> bool {
        !self.extents.is_empty() || matches!(self.start(), Some(Start::Journal(_)))
    }

    /// The log, on the shard that owns it from now on.
    #[must_use]
    pub fn into_log(self, settings: LogSettings) -> Log {
        let (head, head_next) = match self.start() {
            Some(Start::Journal(head)) => (
                Head::Journal {
                    path: Rc::from(head.path),
                    position: head.file_position,
                    len: head.len,
                },
                head.next_offset,
            ),
            Some(Start::Disk(0, next)) => (Head::None, next),
            Some(Start::Disk(len, next)) => (Head::Disk(len), next),
            Some(Start::Extent) | None => {
                (Head::None, self.extents.first().map_or(Offset::ZERO, |e| e.base_offset))
            }
        };
        let sealed_saved = self.sealed.last().map_or(Offset::ZERO, |s| s.next_offset);
        let mut segments: VecDeque<Segment> = self
            .sealed
            .iter()
            .map(|s| segment(s.base, s.len, s.next_offset, true, greatest(s.greatest)))
            .collect();
        let Place { segment: base, position } = self.drained;
        let len = position + head.len() as u64;
        segments.push_back(segment(base, len, head_next, false, self.greatest));
        for extent in &self.extents {
            let end = extent.position + extent.len as u64;
            match segments.back_mut() {
                Some(last) if last.base == extent.segment => {
                    last.len = last.len.max(end);
                    last.next_offset = extent.next_offset;
                    last.greatest.note_all(extent.greatest);
                }
                _ => {
                    let next = extent.next_offset;
                    segments.push_back(segment(extent.segment, end, next, false, extent.greatest));
                }
            }
        }
        let end = self.extents.last().map_or(head_next, |e| e.next_offset);
        // As in a replay: an epoch that began with lost records did not begin there.
        let mut epochs = self.epochs;
        epochs.retain(|(_, began)| *began < end);
        let extents = self
            .extents
            .into_iter()
            .map(|e| Extent {
                segment: e.segment,
                position: e.position,
                len: e.len,
                base_offset: e.base_offset,
                next_offset: e.next_offset,
                source: Source::Journal { path: Rc::from(e.path), position: e.file_position },
            })
            .collect();
        let mut log = Log {
            settings,
            segments,
            log_start: self.log_start.min(end),
            log_start_saved: self.log_start.min(end),
            sealed_saved,
            end,
            epochs,
            drained: self.drained,
            head,
            head_next,
            extents,
            producers: self.producers,
            drained_producers: self.drained_producers,
            drained_producers_to: self.producers_to,
            drained_greatest: self.greatest,
            compaction: CompactionState::recovered(&self.compaction),
        };
        log.advance_log_start(self.log_start.min(end));
        log
    }
}

fn greatest((timestamp, offset): (i64, Offset)) -> Greatest {
    Greatest { timestamp: Timestamp(timestamp), offset }
}

fn segment(
    base: Offset,
    len: u64,
    next_offset: Offset,
    sealed: bool,
    greatest: Greatest,
) -> Segment {
    let index = if len == 0 { SegmentIndex::empty() } else { SegmentIndex::unloaded() };
    Segment { base, len, next_offset, sealed, began: None, greatest, index }
}

impl Default for Recovered {
    fn default() -> Recovered {
        Recovered::new()
    }
}
