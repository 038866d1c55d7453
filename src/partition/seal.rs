//! Moving everything out of the journal: `millstream log seal` (storage rule 20).
//!
//! Every active segment is closed and its files are completed, as a roll does it. Afterwards the
//! partitions' directories hold the whole log, in files of exact size.

use std::io;
use std::rc::Rc;

use super::Store;
use crate::journal::files::FileNumber;
use crate::journal::{Fenced, Slot};
use crate::types::{Offset, TopicPartition};

/// What a seal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Partitions that have records.
    pub partitions: u64,
    /// Partitions whose active segment was closed.
    pub closed: u64,
    /// Bytes written to segments.
    pub bytes: u64,
}

impl Store {
    /// Closes every active segment, drains all partitions, and returns when a durable checkpoint says so.
    /// Whoever calls has stopped the appends.
    ///
    /// # Errors
    /// When the disk failed before or during it.
    pub async fn seal(self: &Rc<Store>) -> io::Result<Sealed> {
        let fenced = |_: Fenced| io::Error::other(self.failure().unwrap_or_default());
        let before = self.counters().segment_write_bytes;
        let mut sealed = self.close_segments();
        let mut unfinished = usize::MAX;
        loop {
            // A pass that was under way already knows nothing of what is wanted here; two do.
            for _ in 0..2 {
                self.start_pass();
                self.passes.reach(self.passes.reached() + 1).await.map_err(fenced)?;
            }
            let left = self.seal_unfinished();
            if left == 0 {
                break;
            }
            if left >= unfinished {
                return Err(io::Error::other(format!(
                    "{left} partitions could not be completed; millstream log verify may say why"
                )));
            }
            unfinished = left;
        }
        // Remainders of drains on the way are in the current file: nobody needs them any more.
        self.journal.roll().await.map_err(fenced)?;
        self.save_checkpoint().await?;
        sealed.bytes = self.counters().segment_write_bytes - before;
        Ok(sealed)
    }

    /// Lets go of a partition that has had no record, so that a log made elsewhere can take its place. One
    /// that has is left alone.
    pub fn forget_empty(&self, id: TopicPartition) {
        let mut state = self.state.borrow_mut();
        let Some(slot) = state.by_id.get(&id).copied() else { return };
        let key = slot.0 as usize;
        let unused =
            |p: &super::Partition| p.log.end() == Offset::ZERO && p.dirty.is_none() && !p.draining;
        if state.partitions.get(key).is_some_and(unused) {
            state.partitions.remove(key);
            state.by_id.remove(&id);
        }
    }

    fn close_segments(&self) -> Sealed {
        let mut sealed = Sealed::default();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        for (_, partition) in &mut state.partitions {
            sealed.partitions += u64::from(partition.log.size() > 0);
            sealed.closed += u64::from(partition.log.roll());
        }
        self.want_unfinished(state);
        sealed
    }

    /// Has the next pass take every partition that is not complete; says how many these are.
    fn seal_unfinished(&self) -> usize {
        self.want_unfinished(&mut self.state.borrow_mut())
    }

    fn want_unfinished(&self, state: &mut super::State) -> usize {
        let mut unfinished = 0;
        for (key, partition) in &state.partitions {
            if partition.log.drained() != partition.log.end_place()
                || !partition.log.head().is_empty()
            {
                state.to_seal.insert(Slot(u32::try_from(key).unwrap_or(u32::MAX)));
                unfinished += 1;
            }
        }
        debug_assert!(unfinished > 0 || !state.dirty.contains_key(&FileNumber(0)));
        unfinished
    }
}
