//! Which segments a log lets go of, and when it begins a new one for that.

use super::Log;
use super::segment::Segment;
use crate::time::Timestamp;
use crate::types::Offset;

/// How long a log keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionRules {
    /// `retention.ms`; `None` for ever.
    pub ms: Option<i64>,
    /// `retention.bytes`; `None` without limit.
    pub bytes: Option<u64>,
}

/// What retention asks of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPlan {
    /// The new log start; the present one if nothing is to go.
    pub log_start: Offset,
    /// Whether even the active segment is to go, which must be closed first.
    pub roll: bool,
}

impl Log {
    /// What is to go by `rules`: whole segments from the oldest on, none with records at or above
    /// `limit`, the high watermark.
    #[must_use]
    pub fn plan_retention(
        &self,
        now: Timestamp,
        rules: &RetentionRules,
        limit: Offset,
    ) -> RetentionPlan {
        let mut plan = RetentionPlan { log_start: self.log_start, roll: false };
        let mut excess = rules.bytes.map_or(0, |max| self.size().saturating_sub(max));
        let last = self.segments.len().saturating_sub(1);
        for (index, segment) in self.segments.iter().enumerate() {
            // Compaction may leave nothing of a segment.
            let empty = segment.len == 0 && index < last;
            if (segment.len == 0 && !empty) || segment.next_offset > limit {
                break;
            }
            // Without a timestamp a batch has no age.
            let written = segment.greatest.timestamp.0;
            let expired =
                written >= 0 && rules.ms.is_some_and(|ms| now.0.saturating_sub(written) > ms);
            let oversize = excess > 0 && segment.len <= excess;
            let below = segment.next_offset <= self.log_start;
            if !(expired || oversize || empty || (below && index < last)) {
                break;
            }
            excess = excess.saturating_sub(segment.len);
            plan.log_start = plan.log_start.max(segment.next_offset);
            plan.roll = index == last;
        }
        plan
    }

    /// Closes the active segment; the next append begins another. False if it is empty.
    pub fn roll(&mut self) -> bool {
        if self.segments.back().is_none_or(|active| active.len == 0) {
            return false;
        }
        self.segments.push_back(Segment::new(self.end));
        true
    }

    /// Moves the log start up. Epochs that ended below it are forgotten; that of its first record begins
    /// there.
    pub fn advance_log_start(&mut self, to: Offset) {
        debug_assert!(to >= self.log_start && to <= self.end);
        self.log_start = to;
        let keep = self.epochs.partition_point(|(_, began)| *began <= to).saturating_sub(1);
        self.epochs.drain(..keep);
        if let Some((_, began)) = self.epochs.first_mut() {
            *began = (*began).max(to);
        }
    }

    /// Notes that journal or checkpoint say durably that the log starts at `log_start` at least.
    pub fn log_start_saved(&mut self, log_start: Offset) {
        self.log_start_saved = self.log_start_saved.max(log_start);
    }

    /// Whether a power cut could still undo the last move of the log start.
    #[must_use]
    pub fn is_log_start_unsaved(&self) -> bool {
        self.log_start > self.log_start_saved
    }

    /// Notes that a durable checkpoint says what is sealed up to `next_offset`.
    pub fn sealed_saved(&mut self, next_offset: Offset) {
        self.sealed_saved = self.sealed_saved.max(next_offset);
    }

    /// The oldest segment, if nobody needs it: below the durable log start, complete, and not the only one.
    #[must_use]
    pub fn first_removable(&self) -> Option<Offset> {
        let first = self.segments.front()?;
        let removable = self.segments.len() > 1
            && first.sealed
            && first.next_offset <= self.log_start_saved
            && first.next_offset <= self.sealed_saved;
        removable.then_some(first.base)
    }

    /// Forgets the oldest segment, whose files are gone.
    pub fn removed(&mut self, base: Offset) {
        if self.segments.front().is_some_and(|s| s.base == base) {
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Head, LogSettings, Place};
    use crate::types::LeaderEpoch;

    #[test]
    fn no_segment_goes_before_the_log_start_is_durable() {
        let settings =
            LogSettings { segment_bytes: 1000, segment_ms: i64::MAX, index_interval_bytes: 0 };
        let mut log = Log::new(settings);
        log.append(1000, 10, Timestamp(1), LeaderEpoch(0));
        log.append(1000, 10, Timestamp(1), LeaderEpoch(0));
        log.drained_to(Place { segment: Offset(0), position: 0 }, Head::None, Offset(0));
        log.sealed(Offset(0));
        log.sealed_saved(Offset(10));
        log.advance_log_start(Offset(15));
        assert!(log.is_log_start_unsaved());
        assert_eq!(log.first_removable(), None);
        log.log_start_saved(Offset(15));
        assert!(!log.is_log_start_unsaved());
        assert_eq!(log.first_removable(), Some(Offset(0)));
    }
}
