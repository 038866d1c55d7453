//! What compaction keeps of a log, and which segments it may touch.
//!
//! Pure: no I/O, no clock. The rules are those of Kafka's `LogCleaner`, `Cleaner` and
//! `LogCleanerManager`. A pass reads the dirty part of a log, which begins at the **dirty head**, into a
//! [`KeyMap`]; then it goes through the whole log below the pass's end and keeps, of each key, the last
//! record, and the tombstones whose time has not come.
//!
//! It differs from Kafka in this: transactional batches are neither mapped nor cleaned, since nothing knows
//! yet which of them were aborted. The broker takes none so far.
//!
//! Invariants: only sealed segments that a durable checkpoint lists are touched; no record at or above the
//! end of a pass goes; the last batch of what may be cleaned, and the last batch of every producer, stay,
//! if need be without records.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

pub(super) use self::plan::CompactionState;
pub use self::plan::{CompactionCheckpoint, CompactionPlan, CompactionRules, InputSegment, Swap};
use super::Log;
use crate::record::{BatchError, BatchView, Retained, empty_batch, for_each_record, retain};
use crate::time::Timestamp;
use crate::types::Offset;

/// A key's hash, and the offset of its last record plus one: 0 is a free slot.
type Slot = [u64; 3];

/// The last offset of every key in the dirty part of a log, in bounded memory.
///
/// Keys are known by 128 bits of a hash whose own key is random: nobody can choose two keys that are taken
/// for one. Kafka's `SkimpyOffsetMap` keeps an MD5 in as many bytes.
pub struct KeyMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
    hashers: [RandomState; 2],
    next: Offset,
}

impl KeyMap {
    /// A map of at most `bytes_max` bytes, and no more than `records` records need, for records from
    /// `start` on.
    #[must_use]
    pub fn new(bytes_max: usize, load_factor: f64, records: i64, start: Offset) -> KeyMap {
        let affordable = bytes_max / size_of::<Slot>();
        let load = if load_factor > 0.0 { load_factor.min(0.99) } else { 0.9 };
        let wanted = usize::try_from(records).unwrap_or(0).saturating_mul(2).saturating_add(2);
        let slots = affordable.min(wanted).max(2);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a number of slots, which is far below 2^52"
        )]
        let used_max = (slots as f64 * load) as usize;
        KeyMap {
            slots: vec![[0; 3]; slots],
            used: 0,
            used_max: used_max.clamp(1, slots - 1),
            hashers: [RandomState::new(), RandomState::new()],
            next: start,
        }
    }

    /// The offset after the last record that the map knows: the end of the pass.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Keys in the map.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let [first, second] = &self.hashers;
        [first.hash_one(key), second.hash_one(key)]
    }

    /// The slot of a hash, or the free one where it would go. There always is a free one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len() as u64;
        let mut at = usize::try_from(hash[0] % count.max(1)).unwrap_or(0);
        loop {
            match self.slots.get(at) {
                Some([_, _, 0]) => return at,
                Some([first, second, _]) if [*first, *second] == hash => return at,
                Some(_) => at += 1,
                None => at = 0,
            }
        }
    }

    /// Notes a record; false if its key is new and there is no room for it.
    fn insert(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let at = self.find(hash);
        let full = self.used >= self.used_max;
        let Some(slot) = self.slots.get_mut(at) else { return false };
        if slot[2] == 0 {
            if full {
                return false;
            }
            self.used += 1;
        }
        *slot = [hash[0], hash[1], offset.0.unsigned_abs() + 1];
        true
    }

    /// The last offset of a key.
    fn last_of(&self, key: &[u8]) -> Option<Offset> {
        let at = self.find(self.hash(key));
        let found = self.slots.get(at)?[2].checked_sub(1)?;
        i64::try_from(found).ok().map(Offset)
    }

    /// Notes the records of a batch from `start` on; false when the map is full, which ends the pass at
    /// [`KeyMap::next`].
    ///
    /// # Errors
    /// When the batch cannot be read.
    pub fn note_batch(&mut self, batch: &BatchView<'_>, start: Offset) -> Result<bool, BatchError> {
        let header = batch.header();
        let mut full = false;
        if is_compactable(batch) && header.next_offset() > start {
            let base = header.base_offset();
            for_each_record(batch, |record| {
                let offset = base.plus(i64::from(record.offset_delta));
                if offset < start {
                    return true;
                }
                full = record.key.is_some_and(|key| !self.insert(key, offset));
                if !full {
                    self.next = self.next.max(offset.plus(1));
                }
                !full
            })?;
        }
        if !full {
            self.note_end(header.next_offset());
        }
        Ok(!full)
    }

    /// Notes that there are no records below `next` but those that were noted.
    pub fn note_end(&mut self, next: Offset) {
        self.next = self.next.max(next);
    }
}

/// Whether a batch's records are mapped and cleaned: see the module's own words.
fn is_compactable(batch: &BatchView<'_>) -> bool {
    let attributes = batch.header().attributes();
    !attributes.is_control() && !attributes.is_transactional()
}

/// What a pass keeps.
pub struct Cleaner {
    keys: KeyMap,
    now: Timestamp,
    horizon: Timestamp,
    /// The end of what could be cleaned: the batch before it stays.
    limit: Offset,
    /// Of each producer the last offsets of the batches that say where its sequence stands.
    producers: BTreeMap<i64, [Offset; 2]>,
}

impl Cleaner {
    /// A pass over `log` with what the dirty part holds, `keys`, at `now`. `limit` is the plan's end.
    #[must_use]
    pub fn new(
        log: &Log,
        keys: KeyMap,
        limit: Offset,
        now: Timestamp,
        delete_retention_ms: i64,
    ) -> Cleaner {
        let mut producers: BTreeMap<i64, [Offset; 2]> = BTreeMap::new();
        for (id, state) in log.drained_producers().iter() {
            producers.insert(id, [state.last_offset(); 2]);
        }
        for (id, state) in log.producers().iter() {
            producers.entry(id).or_insert([state.last_offset(); 2])[1] = state.last_offset();
        }
        let horizon = Timestamp(now.0.saturating_add(delete_retention_ms.max(0)));
        Cleaner { keys, now, horizon, limit, producers }
    }

    /// The offset at which the log is dirty after the pass.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.keys.next()
    }

    /// What is left of a batch.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn clean(&self, batch: &BatchView<'_>) -> Result<Retained, BatchError> {
        let header = batch.header();
        if header.base_offset() >= self.end() {
            return Ok(Retained::All);
        }
        if !is_compactable(batch) {
            return if batch.crc_valid() { Ok(Retained::All) } else { Err(BatchError::Crc) };
        }
        // Of a batch with a horizon, the base timestamp is that.
        let horizon = header.attributes().has_delete_horizon().then(|| header.base_timestamp());
        let tombstones_go = horizon.is_some_and(|horizon| horizon <= self.now);
        let base = header.base_offset();
        let retained = retain(batch, self.horizon, |record| {
            let offset = base.plus(i64::from(record.offset_delta));
            if offset >= self.end() {
                return true;
            }
            // Without a key: from before the topic was compacted.
            let Some(key) = record.key else { return false };
            let last = self.keys.last_of(key).is_none_or(|last| offset >= last);
            last && (record.value.is_some() || !tombstones_go)
        })?;
        let empty = retained == Retained::Nothing
            || (retained == Retained::All && header.records_count() == 0);
        if !empty {
            return Ok(retained);
        }
        if !self.stays_empty(batch) {
            return Ok(Retained::Nothing);
        }
        match header.records_count() {
            0 => Ok(Retained::All),
            _ => empty_batch(batch).map(Retained::Rewritten),
        }
    }

    /// Whether a batch stays though none of its records does.
    fn stays_empty(&self, batch: &BatchView<'_>) -> bool {
        let header = batch.header();
        let last = header.last_offset();
        let of_producer = header.producer().and_then(|p| self.producers.get(&p.id));
        header.next_offset() == self.limit || of_producer.is_some_and(|kept| kept.contains(&last))
    }
}
