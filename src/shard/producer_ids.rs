//! Producer ids: a shard takes blocks of them from the metadata log, flushed there before one is used.

use std::cell::{Cell, RefCell};

use super::message::{ControlFailure, ControlOutcome};
use crate::journal::Waits;
use crate::metadata::ProducerIds;

/// A shard's block of producer ids.
#[derive(Default)]
pub(super) struct ProducerIdBlocks {
    block: RefCell<ProducerIds>,
    asking: Cell<bool>,
    /// Counts answers, so that many who find the block empty ask for one new block.
    asked: Waits,
}

impl ProducerIdBlocks {
    /// The next id; `ask` asks for a block.
    pub(super) async fn next<A>(&self, ask: impl Fn() -> A) -> Result<i64, ControlFailure>
    where
        A: Future<Output = Result<Vec<ControlOutcome>, ControlFailure>>,
    {
        loop {
            if let Some(id) = self.block.borrow_mut().take() {
                return Ok(id);
            }
            if self.asking.get() {
                let answered = self.asked.reach(self.asked.reached() + 1).await;
                answered.map_err(|_| ControlFailure("the core is fenced".into()))?;
                continue;
            }
            self.asking.set(true);
            let answer = ask().await;
            self.asking.set(false);
            let block = answer.and_then(|outcomes| match outcomes.into_iter().next() {
                Some(ControlOutcome::ProducerIds(block)) => Ok(block),
                _ => Err(ControlFailure("no producer ids are left".into())),
            });
            // Whoever waited looks again: for the new block, or to hear the failure for itself.
            if let Ok(block) = &block {
                *self.block.borrow_mut() = block.clone();
            }
            self.asked.advance(self.asked.reached() + 1);
            block?;
        }
    }
}
