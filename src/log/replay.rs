//! A log put together again: what the checkpoint says, then the journal's entries in order.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use std::collections::VecDeque;

use super::index::OffsetIndex;
use super::segment::Segment;
use super::{Extent, Head, Log, LogCheckpoint, LogSettings, Place, Source};
use crate::journal::format::{Entry, EntryKind};
use crate::limits::BLOCK;
use crate::types::{LeaderEpoch, Offset};

/// Bytes of a log that are in a journal file of an earlier start.
#[derive(Clone, Debug)]
pub struct RecoveredExtent {
    segment: Offset,
    position: u64,
    len: usize,
    base_offset: Offset,
    next_offset: Offset,
    path: PathBuf,
    file_position: u64,
}

/// The last partial block, where an entry says it once more.
#[derive(Clone, Debug)]
pub struct RecoveredHead {
    path: PathBuf,
    file_position: u64,
    len: usize,
}

/// A log while it is replayed, and the form in which it travels to the shard that will own it.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Journals of starts before this one hold nothing that the checkpoint does not.
    from_generation: u64,
    /// Base, length, next offset, sealed; the last is active.
    segments: VecDeque<(Offset, u64, Offset, bool)>,
    log_start: Offset,
    end: Offset,
    /// Whether the bytes from `drained` on are known: false between a checkpoint that says "more is in
    /// the journal" and the entry that holds it.
    tail_known: bool,
    epochs: Vec<(LeaderEpoch, Offset)>,
    drained: Place,
    spilled: usize,
    head: Option<RecoveredHead>,
    head_next: Offset,
    extents: Vec<RecoveredExtent>,
}

impl Recovered {
    /// A log of which no checkpoint speaks: it starts in the journal, if at all.
    #[must_use]
    pub fn new() -> Recovered {
        Recovered {
            from_generation: 0,
            segments: VecDeque::from([(Offset::ZERO, 0, Offset::ZERO, false)]),
            log_start: Offset::ZERO,
            end: Offset::ZERO,
            tail_known: true,
            epochs: Vec::new(),
            drained: Place { segment: Offset::ZERO, position: 0 },
            spilled: 0,
            head: None,
            head_next: Offset::ZERO,
            extents: Vec::new(),
        }
    }

    /// A log as a checkpoint describes it; what journals of starts before `from_generation` say of it is
    /// in the checkpoint.
    #[must_use]
    pub fn from_checkpoint(checkpoint: LogCheckpoint, from_generation: u64) -> Recovered {
        let mut segments: VecDeque<_> =
            checkpoint.sealed.iter().map(|(base, len, next)| (*base, *len, *next, true)).collect();
        let (spilled, end, tail_known) = match checkpoint.tail {
            Some((len, end)) => (len as usize, end, true),
            None => (0, checkpoint.drained.segment, false),
        };
        let place = checkpoint.drained;
        segments.push_back((place.segment, place.position + spilled as u64, end, false));
        Recovered {
            from_generation,
            segments,
            log_start: checkpoint.log_start,
            end,
            tail_known,
            epochs: checkpoint.epochs,
            drained: place,
            spilled,
            head: None,
            head_next: end,
            extents: Vec::new(),
        }
    }

    /// Replays one entry of a journal of start `generation`, whose bytes are at `file_position` of `path`.
    ///
    /// # Errors
    /// Says why the entry cannot follow what is known: the journal is not what it should be.
    pub fn replay(
        &mut self,
        generation: u64,
        entry: &Entry,
        path: &Path,
        file_position: u64,
    ) -> Result<(), String> {
        if generation < self.from_generation {
            return Ok(());
        }
        match entry.kind {
            EntryKind::Remainder => {
                self.replay_remainder(entry, path, file_position);
                Ok(())
            }
            EntryKind::Data => self.replay_data(entry, path, file_position),
        }
    }

    /// A remainder counts when it begins where the checkpoint's drain ended. It may come after data that
    /// follows it: a drain journals what it read some time after it read it.
    fn replay_remainder(&mut self, entry: &Entry, path: &Path, file_position: u64) {
        let Place { segment, position } = self.drained;
        if entry.segment != segment || entry.position != position {
            return;
        }
        let Some(drained) = self.segments.iter_mut().find(|s| s.0 == segment) else { return };
        let end = position + entry.length as u64;
        // The head ends where the first extent begins.
        let (len, head_next) = match self.extents.first() {
            None if end >= drained.1 => (entry.length, entry.next_offset),
            Some(first) if first.segment == segment => {
                let gap = first.position.saturating_sub(position);
                if gap == 0 || gap > entry.length as u64 {
                    return;
                }
                (usize::try_from(gap).unwrap_or(entry.length), first.base_offset)
            }
            Some(first) if first.base_offset == entry.next_offset => {
                (entry.length, entry.next_offset)
            }
            _ => return,
        };
        self.head = Some(RecoveredHead { path: path.to_owned(), file_position, len });
        self.head_next = head_next;
        self.tail_known = true;
        drained.1 = drained.1.max(end);
        drained.2 = drained.2.max(entry.next_offset);
        self.end = self.end.max(entry.next_offset);
    }

    fn replay_data(
        &mut self,
        entry: &Entry,
        path: &Path,
        file_position: u64,
    ) -> Result<(), String> {
        let Some((base, len, _, _)) = self.segments.back().copied() else {
            return Err("a log without segments".into());
        };
        let end = entry.position + entry.length as u64;
        if entry.segment < base || (entry.segment == base && end <= len) {
            return Ok(());
        }
        // Until the remainder turns up, what follows it may begin within a block of what is drained.
        let unknown = !self.tail_known && self.extents.is_empty();
        if entry.segment > base {
            if entry.position != 0 || (!unknown && entry.base_offset != self.end) {
                return Err(format!(
                    "a segment starts at offset {} but the log ends at {}",
                    entry.segment, self.end
                ));
            }
            self.segments.push_back((entry.segment, 0, entry.segment, false));
        } else {
            // An entry may begin below what is known: whole batches, of which a part is drained.
            let above = if unknown {
                entry.position >= len + BLOCK as u64
            } else {
                entry.position > len || entry.base_offset > self.end
            };
            if above {
                return Err(format!(
                    "an entry at position {} (offset {}) starts above the log's end at position {len} \
                     (offset {})",
                    entry.position, entry.base_offset, self.end
                ));
            }
            self.tail_known |= unknown && entry.position <= len;
        }
        if let Some(active) = self.segments.back_mut() {
            active.1 = end;
            active.2 = entry.next_offset;
        }
        self.end = entry.next_offset;
        if self.epochs.last().is_none_or(|(last, _)| *last < entry.leader_epoch) {
            self.epochs.push((entry.leader_epoch, entry.base_offset));
        }
        self.extents.push(RecoveredExtent {
            segment: entry.segment,
            position: entry.position,
            len: entry.length,
            base_offset: entry.base_offset,
            next_offset: entry.next_offset,
            path: path.to_owned(),
            file_position,
        });
        Ok(())
    }

    /// Ends the replay.
    ///
    /// # Errors
    /// When the checkpoint says that the journal holds the log's end, and it does not.
    pub fn finish(&self) -> Result<(), String> {
        if self.tail_known {
            Ok(())
        } else {
            Err(format!(
                "the journal that holds the end of the log is missing (drained to position {} of \
                 segment {})",
                self.drained.position, self.drained.segment
            ))
        }
    }

    /// The next offset to assign.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Whether journal files of earlier starts are needed for it.
    #[must_use]
    pub fn needs_journal(&self) -> bool {
        self.head.is_some() || !self.extents.is_empty()
    }

    /// The log, on the shard that owns it from now on.
    #[must_use]
    pub fn into_log(self, settings: LogSettings) -> Log {
        let active = self.segments.len().saturating_sub(1);
        let segments = self
            .segments
            .iter()
            .enumerate()
            .map(|(i, (base, len, next_offset, sealed))| Segment {
                base: *base,
                len: *len,
                next_offset: *next_offset,
                sealed: *sealed,
                index: if *len == 0 && i == active {
                    OffsetIndex::empty()
                } else {
                    OffsetIndex::unloaded()
                },
            })
            .collect();
        let head = match (self.head, self.spilled) {
            (Some(head), _) => Head::Journal {
                path: Rc::from(head.path),
                position: head.file_position,
                len: head.len,
            },
            (None, 0) => Head::None,
            (None, len) => Head::Disk(len),
        };
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
        Log {
            settings,
            segments,
            log_start: self.log_start,
            end: self.end,
            epochs: self.epochs,
            drained: self.drained,
            head,
            head_next: self.head_next,
            extents,
        }
    }
}

impl Default for Recovered {
    fn default() -> Recovered {
        Recovered::new()
    }
}
