//! Writing a busy partition's blocks ahead of the pass that drains them.
//!
//! A pass would copy and write a whole cycle's bytes at once, long after they left the core's cache, and
//! everybody would wait for it when the ring is full meanwhile. Blocks written here are not flushed and
//! nothing counts on them: the pass flushes the file as if it had written them itself, and until its
//! checkpoint recovery takes the same bytes from the journal.

use std::io;
use std::rc::Rc;

use super::Store;
use super::drain::{Begun, Piece};
use crate::journal::Round;
use crate::limits::WRITES_BEHIND_AT_ONCE;
use crate::log::segment::path as segment_path;
use crate::log::{AheadPlan, Place, Source};
use crate::storage::{Open, align_down, is_full};
use crate::types::TopicPartition;

impl Store {
    /// Notes rounds that are written, and starts to write behind what has become enough.
    pub(super) fn note_behind(&self, rounds: &[Rc<Round>]) {
        let threshold = self.settings.drain_write_bytes;
        {
            let mut guard = self.state.borrow_mut();
            let state = &mut *guard;
            for placed in rounds.iter().flat_map(|round| &round.placed) {
                let Some(partition) = state.partitions.get_mut(placed.slot.0 as usize) else {
                    continue;
                };
                let before = partition.behind_bytes;
                partition.behind_bytes += placed.entry.length;
                if before < threshold && partition.behind_bytes >= threshold {
                    state.behind.push_back(placed.slot);
                }
            }
        }
        self.write_behind();
    }

    /// Starts as many writes as may be under way.
    fn write_behind(&self) {
        let Some(store) = self.weak.upgrade() else { return };
        loop {
            let slot = {
                let mut state = self.state.borrow_mut();
                if state.writing_behind >= WRITES_BEHIND_AT_ONCE
                    || state.stopping
                    || self.journal.failure().is_some()
                {
                    return;
                }
                let Some(slot) = state.behind.pop_front() else { return };
                if let Some(partition) = state.partitions.get_mut(slot.0 as usize) {
                    partition.behind_bytes = 0;
                }
                slot
            };
            // With a drain at work on it, its bytes are being written just now.
            let Begun::Yes(id) = self.begin_work(slot) else { continue };
            self.state.borrow_mut().writing_behind += 1;
            let store = Rc::clone(&store);
            self.storage.spawn(Box::pin(async move {
                let result = store.write_ahead(id).await;
                store.state.borrow_mut().writing_behind -= 1;
                store.release_work(slot);
                match result {
                    Ok(()) => store.write_behind(),
                    // The pass will find it so, too, and wait.
                    Err(error) if is_full(&error) => {}
                    Err(error) => store.journal.fence(&error),
                }
            }));
        }
    }

    async fn write_ahead(&self, id: TopicPartition) -> io::Result<()> {
        let written = self.journal.written();
        let planned = self
            .with(id, |p| {
                let drained = p.log.drained();
                let from = match p.ahead {
                    Some(ahead) if ahead.segment == drained.segment => ahead.max(drained),
                    _ => drained,
                };
                let plan = p.log.plan_ahead(written, from.position)?;
                Some((from, plan, p.directory.clone()))
            })
            .flatten();
        let Some((from, plan, directory)) = planned else { return Ok(()) };
        let to = align_down(plan.to);
        if to <= from.position {
            return Ok(());
        }
        self.make_directory(id, &directory).await?;
        let path = segment_path(&directory, from.segment, "log");
        let file = self.storage.open(&path, Open::Create).await?;
        let done = self.write_blocks(&file, from.position..to, &pieces(plan)).await;
        file.close().await?;
        done?;
        self.with(id, |p| p.ahead = Some(Place { segment: from.segment, position: to }));
        Ok(())
    }
}

fn pieces(plan: AheadPlan) -> Vec<Piece> {
    let head_end = plan.head_at + plan.head.len() as u64;
    let mut pieces = Vec::with_capacity(plan.extents.len() + 1);
    if !plan.head.is_empty() {
        pieces.push(Piece::owned(plan.head_at..head_end, plan.head));
    }
    for extent in &plan.extents {
        if let Source::Ring { buffer, start, .. } = &extent.source {
            pieces.push(Piece::shared(extent.position..extent.end(), buffer, *start));
        }
    }
    pieces
}
