//! Log starts that move, and what a crash may do to them.

use std::cell::RefCell;
use std::rc::Rc;

use millstream::log::RetentionRules;
use millstream::storage::Storage;
use millstream::time::Timestamp;
use millstream::types::{Offset, TopicId, TopicPartition, Uuid};

use super::{Broker, Model, PARTITIONS, Run, partition};

/// A partition's log start: as it was acknowledged, and as it was asked for at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LogStart {
    acked: Offset,
    asked: Offset,
}

impl Run {
    /// DeleteRecords of a partition to some offset that may be read.
    pub(super) fn delete_records(&self, broker: &Broker) {
        let index = self.sim.choose(PARTITIONS);
        let Some(topic) = self.model.borrow().topic else { return };
        let id = partition(topic, index);
        let store = Rc::clone(broker.owner(index));
        let Some(position) = store.position(id) else { return };
        let to = Offset(self.sim.choose(position.high_watermark.0 as u64 + 1) as i64);
        let Ok(begun) = store.begin_delete_records(id, Some(to)) else { return };
        note(&self.model, broker);
        let model = Rc::clone(&self.model);
        self.sim.spawn(Box::pin(async move {
            if let Ok(log_start) = store.finish_delete_records(begun).await {
                let mut model = model.borrow_mut();
                let known = model.log_starts.entry(id).or_default();
                known.acked = known.acked.max(log_start);
                model.log_starts_moved += 1;
            }
        }));
    }

    /// Retention by size on one core.
    pub(super) fn retain(&self, broker: &Broker) {
        let index = self.sim.choose(PARTITIONS);
        let store = Rc::clone(broker.owner(index));
        // Nothing is kept now and then: even the active segment goes.
        let bytes = if self.sim.choose(3) == 0 { 0 } else { self.sim.choose(40_000) };
        self.sim.spawn(Box::pin(async move {
            let rules = |_| Some(RetentionRules { ms: None, bytes: Some(bytes) });
            // Fenced: what was moved is in doubt, as after a crash.
            let _ = store.retain(Timestamp(0), rules).await;
        }));
    }
}

/// Notes how far log starts may have moved; before every crash.
pub(super) fn note(model: &RefCell<Model>, broker: &Broker) {
    let mut model = model.borrow_mut();
    // Also of a topic that is being deleted: the crash may undo that.
    for (topic, index) in (1..=model.topics_made).flat_map(|t| (0..PARTITIONS).map(move |i| (t, i)))
    {
        let id = partition(TopicId(Uuid::from_u128(topic)), index);
        if let Some(position) = broker.owner(index).position(id) {
            let known = model.log_starts.entry(id).or_default();
            known.asked = known.asked.max(position.log_start);
        }
    }
}

/// After a start: a log start that was acknowledged is not lower, and none is higher than was asked for.
pub(super) fn check(model: &mut Model, id: TopicPartition, log_start: Offset) {
    let known = model.log_starts.entry(id).or_default();
    assert!(
        known.acked <= log_start && log_start <= known.asked,
        "{id}: the log starts at {log_start}, known are {known:?}"
    );
    // What a recovery found is durable from now on.
    *known = LogStart { acked: log_start, asked: log_start };
}
