//! The old end of a log: log starts that move, by request or by retention, and the segments below them.
//!
//! A new log start is in the journal and flushed before anybody is told of it and before a file goes
//! (storage rule 17). A segment goes only when a durable checkpoint says that it is complete: before, a
//! recovery might want to drain into it again. The oldest goes first, and it leaves the log's own list
//! last, so that no checkpoint forgets files that are still there.

use std::io;
use std::rc::Rc;

use super::Store;
use crate::journal::format::EntryKind;
use crate::journal::{Append, Fenced};
use crate::log::RetentionRules;
use crate::log::segment::path as segment_path;
use crate::time::Timestamp;
use crate::types::{Durability, Offset, TopicPartition};

/// The files of a segment, by extension.
const EXTENSIONS: [&str; 5] = ["index", "timeindex", "txnindex", "snapshot", "log"];

/// Why records cannot be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteError {
    /// This core does not have the partition.
    UnknownPartition,
    /// Above the high watermark.
    OffsetOutOfRange,
    /// The core is fenced after a failed write or flush.
    Fenced,
}

/// A log start that moves, or does not have to.
#[derive(Clone, Copy, Debug)]
pub struct LogStartMove {
    partition: TopicPartition,
    log_start: Offset,
    sequence: Option<u64>,
}

impl From<Fenced> for DeleteError {
    fn from(_: Fenced) -> DeleteError {
        DeleteError::Fenced
    }
}

impl Store {
    /// Makes `before` (`None`: the high watermark) the first readable offset, unless the log starts later
    /// already. To be told of only when [`Store::finish_delete_records`] has returned.
    ///
    /// # Errors
    /// See [`DeleteError`].
    pub fn begin_delete_records(
        &self,
        id: TopicPartition,
        before: Option<Offset>,
    ) -> Result<LogStartMove, DeleteError> {
        if self.journal.failure().is_some() {
            return Err(DeleteError::Fenced);
        }
        let position = self.position(id).ok_or(DeleteError::UnknownPartition)?;
        let to = before.unwrap_or(position.high_watermark);
        if to > position.high_watermark {
            return Err(DeleteError::OffsetOutOfRange);
        }
        // Where it starts there or later already, that may not be flushed yet.
        let sequence = self.advance_log_start(id, to).or_else(|| {
            self.with(id, |p| p.log.is_log_start_unsaved().then_some(p.log_start_round)).flatten()
        });
        Ok(LogStartMove { partition: id, log_start: to.max(position.log_start), sequence })
    }

    /// Waits until the move is flushed; returns the log start. Segments wholly below it are removed in
    /// the background.
    ///
    /// # Errors
    /// When the core is fenced.
    pub async fn finish_delete_records(&self, begun: LogStartMove) -> Result<Offset, DeleteError> {
        if let Some(sequence) = begun.sequence {
            self.journal.reach(sequence, Durability::Flushed).await?;
            self.with(begun.partition, |p| p.log.log_start_saved(begun.log_start));
        }
        self.trim_in_background(begun.partition);
        Ok(begun.log_start)
    }

    /// Moves log starts as `rules` say of each partition (`retention.ms`, `retention.bytes`), and removes
    /// what is below them; returns how many log starts moved.
    ///
    /// # Errors
    /// When the core is fenced.
    pub async fn retain(
        &self,
        now: Timestamp,
        rules: impl Fn(TopicPartition) -> Option<RetentionRules>,
    ) -> Result<usize, Fenced> {
        let ids: Vec<TopicPartition> =
            self.state.borrow().partitions.iter().map(|(_, p)| p.id).collect();
        let mut moved = 0;
        for id in ids {
            let Some(rules) = rules(id) else { continue };
            let planned = self.with(id, |p| {
                let limit = p.high_watermark;
                let plan = p.log.plan_retention(now, &rules, limit);
                (plan.roll && p.log.roll(), plan.log_start)
            });
            let Some((rolled, log_start)) = planned else { continue };
            if rolled {
                self.want_seal(id);
            }
            if let Some(sequence) = self.advance_log_start(id, log_start) {
                self.journal.reach(sequence, Durability::Flushed).await?;
                self.with(id, |p| p.log.log_start_saved(log_start));
                moved += 1;
                tracing::info!(partition = %id, %log_start, "retention moved the log start");
            }
            self.trim_in_background(id);
        }
        Ok(moved)
    }

    /// Moves a log start; the round that holds the move, unless the log starts there or later already.
    fn advance_log_start(&self, id: TopicPartition, to: Offset) -> Option<u64> {
        if self.journal.failure().is_some() {
            return None;
        }
        let mut state = self.state.borrow_mut();
        let slot = state.by_id.get(&id).copied()?;
        let partition = state.partitions.get_mut(slot.0 as usize)?;
        if to <= partition.log.log_start() {
            return None;
        }
        partition.log.advance_log_start(to);
        let place = partition.log.end_place();
        let sequence = self.journal.append(Append {
            slot,
            kind: EntryKind::LogStart,
            class: Durability::Flushed,
            partition: id,
            segment: place.segment,
            position: place.position,
            base_offset: to,
            next_offset: partition.log.end(),
            leader_epoch: partition.epoch(self.settings.incarnation),
            bytes: bytes::Bytes::new(),
        });
        partition.log_start_round = sequence;
        Some(sequence)
    }

    /// Has the next pass complete the files of a segment that was closed without an append.
    pub(super) fn want_seal(&self, id: TopicPartition) {
        {
            let mut state = self.state.borrow_mut();
            if let Some(slot) = state.by_id.get(&id).copied() {
                state.to_seal.insert(slot);
            }
        }
        self.start_pass();
    }

    /// Removes the segments below the log start, unless that is under way.
    pub(super) fn trim_in_background(&self, id: TopicPartition) {
        let Some(store) = self.weak.upgrade() else { return };
        let begun = self.with(id, |p| {
            let wanted = !p.trimming && !p.compacting && p.log.first_removable().is_some();
            p.trimming |= wanted;
            wanted
        });
        if begun != Some(true) {
            return;
        }
        self.storage.spawn(Box::pin(async move {
            if let Err(error) = store.trim(id).await {
                // The next retention check tries again.
                tracing::error!(partition = %id, %error, "old segments cannot be removed");
            }
            store.with_removed(id, |p| p.trimming = false);
            store.idle.advance(store.idle.reached() + 1);
        }));
    }

    async fn trim(self: &Rc<Store>, id: TopicPartition) -> io::Result<()> {
        loop {
            let next = self
                .with(id, |p| p.log.first_removable().map(|base| (base, p.directory.clone())))
                .flatten();
            let Some((base, directory)) = next else { return Ok(()) };
            for extension in EXTENSIONS {
                let path = segment_path(&directory, base, extension);
                self.open_files.forget(&path).await?;
                match self.storage.remove(&path).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            match self.storage.flush_directory(&directory).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.with(id, |p| p.log.removed(base));
            self.count(|c| c.segments_removed += 1);
        }
    }
}
