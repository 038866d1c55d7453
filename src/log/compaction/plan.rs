//! Which segments a pass takes, and how their place is taken by others.
//!
//! ```text
//!   prepare           checkpoint durable          switch              saved
//!   old files count   new ones count, under       new ones count,     nothing is pending
//!                     a name of their own         in place
//! ```
//!
//! From `prepare` on the checkpoint tells of the new segments, and which of their files may not be in place
//! yet: a recovery puts them there.

use serde::{Deserialize, Serialize};

use super::super::index::{Greatest, SegmentIndex};
use super::super::segment::Segment;
use super::super::{Log, SealedSegment};
use crate::time::Timestamp;
use crate::types::Offset;

/// When a log is compacted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionRules {
    /// `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
}

/// A segment that a pass reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputSegment {
    /// Base offset.
    pub base: Offset,
    /// Bytes.
    pub len: u64,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// Time of its first batch, if it is known.
    pub began: Option<Timestamp>,
}

/// What may be compacted of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactionPlan {
    /// Oldest first.
    pub segments: Vec<InputSegment>,
    /// The dirty head: nothing from here on was compacted.
    pub first_dirty: Offset,
    /// The end of the last segment.
    pub end: Offset,
    /// Bytes of the dirty segments in all of them.
    pub ratio: f64,
    /// The rules, for [`CompactionPlan::is_due`].
    rules: CompactionRules,
}

impl CompactionPlan {
    /// The dirty segments.
    pub fn dirty(&self) -> impl Iterator<Item = &InputSegment> {
        self.segments.iter().filter(|segment| segment.next_offset > self.first_dirty)
    }

    /// The dirty segments whose first batch's time must be known for [`CompactionPlan::is_due`].
    pub fn unknown_times(&self) -> impl Iterator<Item = Offset> {
        let wanted = self.rules.max_lag_ms < i64::MAX && self.ratio <= self.rules.min_dirty_ratio;
        self.dirty().filter(move |s| wanted && s.began.is_none() && s.len > 0).map(|s| s.base)
    }

    /// Whether it is time.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        // Kafka wants strictly more, so that a log that is clean is not compacted at a ratio of 0.
        if self.ratio > self.rules.min_dirty_ratio {
            return true;
        }
        let times = self.dirty().filter_map(|s| s.began).filter(|began| began.0 > 0);
        let oldest = times.min().map_or(i64::MAX, |began| began.0);
        oldest < now.0.saturating_sub(self.rules.max_lag_ms.max(0))
    }
}

/// A segment in the place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The new one; it has the base offset of the first that it replaces.
    pub segment: SealedSegment,
    /// Base offsets of the others.
    pub gone: Vec<Offset>,
}

/// What a checkpoint says of a log's compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionCheckpoint {
    /// The dirty head.
    pub cleaned_to: Offset,
    /// Number of the last swap: the files that it brings have it in their names.
    pub number: u64,
    /// What of it may not be in place: base offsets of the new segments, each with those of segments whose
    /// files must go.
    pub pending: Vec<(Offset, Vec<Offset>)>,
}

/// A log's compaction, in memory.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct CompactionState {
    pub(in super::super) cleaned_to: Offset,
    number: u64,
    /// Number of the last swap that a durable checkpoint tells of.
    saved: u64,
    /// The last swap, until all files are in place.
    swaps: Vec<Swap>,
    /// The log's own list has the old segments still; the dirty head after the swap.
    prepared: Option<Offset>,
}

impl CompactionState {
    /// As recovery has it, which has put all files in place.
    pub(in super::super) fn recovered(checkpoint: &CompactionCheckpoint) -> CompactionState {
        let CompactionCheckpoint { cleaned_to, number, .. } = *checkpoint;
        CompactionState { cleaned_to, number, saved: number, ..CompactionState::default() }
    }

    /// What a checkpoint says of it, and of the sealed segments.
    pub(in super::super) fn checkpoint(
        &self,
        sealed: &mut Vec<SealedSegment>,
    ) -> CompactionCheckpoint {
        if self.prepared.is_some() {
            for swap in &self.swaps {
                sealed.retain(|s| !swap.gone.contains(&s.base));
                if let Some(place) = sealed.iter_mut().find(|s| s.base == swap.segment.base) {
                    *place = swap.segment;
                }
            }
        }
        CompactionCheckpoint {
            cleaned_to: self.prepared.unwrap_or(self.cleaned_to),
            number: self.number,
            pending: self.swaps.iter().map(|s| (s.segment.base, s.gone.clone())).collect(),
        }
    }
}

impl Log {
    /// The dirty head: below it segments may have gaps between their batches.
    #[must_use]
    pub fn cleaned_to(&self) -> Offset {
        self.compaction.cleaned_to
    }

    /// What may be compacted: sealed segments that a durable checkpoint lists, below `limit` (the high
    /// watermark), whose records are old enough. `None` if nothing of that is dirty.
    #[must_use]
    pub fn plan_compaction(
        &self,
        now: Timestamp,
        rules: &CompactionRules,
        limit: Offset,
    ) -> Option<CompactionPlan> {
        let first_dirty = self.compaction.cleaned_to.max(self.log_start);
        let mut segments = Vec::new();
        let (mut clean, mut dirty) = (0_u64, 0_u64);
        for segment in self.segments.iter().filter(|s| s.next_offset > self.log_start) {
            let stays = !segment.sealed
                || segment.next_offset > self.sealed_saved
                || segment.next_offset > limit;
            let is_dirty = segment.next_offset > first_dirty;
            let young = rules.min_lag_ms > 0
                && is_dirty
                && segment.greatest.timestamp.0 > now.0.saturating_sub(rules.min_lag_ms);
            if stays || young {
                break;
            }
            *(if is_dirty { &mut dirty } else { &mut clean }) += segment.len;
            segments.push(InputSegment {
                base: segment.base,
                len: segment.len,
                next_offset: segment.next_offset,
                began: segment.began,
            });
        }
        let end = segments.last()?.next_offset;
        if dirty == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
        let ratio = dirty as f64 / (clean + dirty) as f64;
        Some(CompactionPlan { segments, first_dirty, end, ratio, rules: *rules })
    }

    /// Whether a segment is closed and not sealed: it could be compacted soon, if it were drained.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        self.segments.iter().rev().nth(1).is_some_and(|last_closed| !last_closed.sealed)
    }

    /// The number of the next swap.
    #[must_use]
    pub fn next_swap(&self) -> u64 {
        self.compaction.number + 1
    }

    /// From now on checkpoints tell of `swaps`, whose files are durable under names of their own.
    pub fn prepare_swap(&mut self, swaps: Vec<Swap>, cleaned_to: Offset) {
        debug_assert!(self.compaction.swaps.is_empty());
        self.compaction.number += 1;
        self.compaction.swaps = swaps;
        self.compaction.prepared = Some(cleaned_to);
    }

    /// Notes that a durable checkpoint tells of swap `number`.
    pub fn swap_saved(&mut self, number: u64) {
        self.compaction.saved = self.compaction.saved.max(number);
    }

    /// Whether a durable checkpoint tells of the last swap.
    #[must_use]
    pub fn is_swap_saved(&self) -> bool {
        self.compaction.saved == self.compaction.number
    }

    /// The prepared segments take their place: their files have. What memory and journals hold of them
    /// is not read any more.
    pub fn switch(&mut self) {
        let Some(cleaned_to) = self.compaction.prepared.take() else { return };
        self.compaction.cleaned_to = cleaned_to;
        for swap in &self.compaction.swaps {
            self.segments.retain(|s| !swap.gone.contains(&s.base));
            let new = &swap.segment;
            if let Some(place) = self.segments.iter_mut().find(|s| s.base == new.base) {
                let (timestamp, offset) = new.greatest;
                *place = Segment {
                    base: new.base,
                    len: new.len,
                    next_offset: new.next_offset,
                    sealed: true,
                    began: place.began,
                    greatest: Greatest { timestamp: Timestamp(timestamp), offset },
                    index: SegmentIndex::unloaded(),
                };
            }
            let last = swap.gone.last().copied().unwrap_or(new.base);
            while self.extents.front().is_some_and(|front| front.segment <= last) {
                self.extents.pop_front();
            }
        }
    }

    /// Notes that everything the last swap brought is in place, and what it replaced is gone.
    pub fn swap_done(&mut self) {
        self.compaction.swaps.clear();
    }

    /// Moves the dirty head after a pass that changed nothing.
    pub fn cleaned(&mut self, to: Offset) {
        self.compaction.cleaned_to = self.compaction.cleaned_to.max(to);
    }

    /// The last swap, while its files may not be in place.
    #[must_use]
    pub fn swaps(&self) -> &[Swap] {
        &self.compaction.swaps
    }

    /// The segment that follows the one with this base offset.
    #[must_use]
    pub fn segment_after(&self, base: Offset) -> Option<Offset> {
        let after = self.segments.partition_point(|s| s.base <= base);
        self.segments.get(after).map(|s| s.base)
    }
}
