//! Compacted partitions: what a pass may take away, whatever crash came in between.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use millstream::config::TopicConfigs;
use millstream::partition::{CompactionSettings, ReadRequest, Store};
use millstream::record::{BatchView, batches, decompress, records};
use millstream::storage::Storage;
use millstream::storage::sim::SimStorage;
use millstream::time::Timestamp;
use millstream::types::{LeaderEpoch, Offset, TopicPartition};

use super::{Broker, INDEX_INTERVAL, Model, PARTITIONS, Run, STEPS_MAX, partition, segment_bytes};

/// Keys of each compacted partition.
pub(super) const KEYS: u64 = 12;

/// Whether a partition is compacted.
pub(super) fn is_compacted(index: u64) -> bool {
    index % 2 == 1
}

pub(super) fn is_compacted_id(id: TopicPartition) -> bool {
    is_compacted(u64::from(id.partition.unsigned_abs()))
}

/// What the topic's configs say of a partition.
pub(super) fn configure(store: &Store, id: TopicPartition, index: u64) {
    if !is_compacted(index) {
        return;
    }
    store.configure(
        id,
        &Rc::new(TopicConfigs {
            cleanup_compact: true,
            segment_bytes: segment_bytes(index),
            index_interval_bytes: INDEX_INTERVAL,
            min_cleanable_dirty_ratio: 0.0,
            delete_retention_ms: 300,
            ..TopicConfigs::default()
        }),
    );
}

/// A record: key, value, timestamp.
pub(super) type Plain = (Option<Bytes>, Option<Bytes>, i64);

/// The records of a batch, by their offset's distance from the base.
pub(super) fn plain_records(batch: &BatchView<'_>) -> Vec<(i32, Plain)> {
    let header = batch.header();
    let Some(codec) = header.attributes().codec() else { return Vec::new() };
    if header.records_count() == 0 {
        return Vec::new();
    }
    let payload = decompress(codec, batch.payload(), 1 << 20).unwrap_or_default();
    let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    records(&payload)
        .flatten()
        .map(|record| {
            let timestamp = header.base_timestamp().0 + record.timestamp_delta;
            (record.offset_delta, (copy(record.key), copy(record.value), timestamp))
        })
        .collect()
}

/// A batch as it was sent, from what the model keeps of it.
fn sent_batch(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(&(content.len() as i32 + 4).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(content);
    bytes
}

/// Checks a batch of a compacted partition: every record in it was sent so, at that offset.
pub(super) fn check_batch(
    model: &mut Model,
    id: TopicPartition,
    batch: &BatchView<'_>,
) -> Result<(), String> {
    let header = batch.header();
    let base = header.base_offset();
    let sent = model.sent.get(&id).and_then(|log| log.iter().find(|s| s.base == base));
    let Some(sent) = sent else { return Err(format!("{id}: no batch was sent at {base}")) };
    let bytes = sent_batch(&sent.content);
    let original = BatchView::parse(&bytes).map_err(|e| format!("{id}: the model's: {e:?}"))?;
    let fits = sent.next == header.next_offset()
        && original.header().producer() == header.producer()
        && original.header().last_offset_delta() == header.last_offset_delta();
    if !fits {
        return Err(format!("{id}: the batch at {base} stands for something else"));
    }
    let before: BTreeMap<i32, Plain> = plain_records(&original).into_iter().collect();
    let found = plain_records(batch);
    if found.len() != header.records_count() as usize {
        return Err(format!("{id}: the batch at {base} has {} records", found.len()));
    }
    for (delta, record) in found {
        if before.get(&delta) != Some(&record) {
            return Err(format!("{id}: the record at {base} + {delta} was never sent so"));
        }
        let key = (id, base.plus(i64::from(delta)), header.partition_leader_epoch());
        let known = model.served_records.insert(key, record.clone());
        if known.is_some_and(|known| known != record) {
            return Err(format!("{id}: two contents at {key:?}"));
        }
    }
    Ok(())
}

/// What a whole compacted log holds.
#[derive(Default)]
pub(super) struct Found {
    records: BTreeMap<Offset, Plain>,
    /// Last sequences that batches stand for, by producer id and epoch.
    sequences: BTreeMap<(i64, i16), Vec<i32>>,
}

impl Found {
    pub(super) fn note(&mut self, bytes: &[u8], log_start: Offset) {
        for batch in batches(bytes).flatten() {
            let header = batch.header();
            for (delta, record) in plain_records(&batch) {
                let offset = header.base_offset().plus(i64::from(delta));
                if offset >= log_start {
                    self.records.insert(offset, record);
                }
            }
            if let Some(producer) = header.producer() {
                let last = producer.base_sequence.wrapping_add(header.last_offset_delta());
                let known = self.sequences.entry((producer.id, producer.epoch)).or_default();
                known.push(last & i32::MAX);
            }
        }
    }

    /// Below the dirty head every key is there once, with its last value; nothing else is missing.
    pub(super) fn check(&self, model: &Model, store: &Store, id: TopicPartition) {
        let Some(cleaned_to) = store.cleaned_to(id) else { panic!("{id} is gone") };
        let Some(position) = store.position(id) else { panic!("{id} is gone") };
        let mut sent: BTreeMap<Offset, Plain> = BTreeMap::new();
        for batch in model.sent.get(&id).into_iter().flatten() {
            let bytes = sent_batch(&batch.content);
            let Ok(view) = BatchView::parse(&bytes) else { panic!("{id}: the model's batch") };
            for (delta, record) in plain_records(&view) {
                sent.insert(batch.base.plus(i64::from(delta)), record);
            }
        }
        let mut last: BTreeMap<&Option<Bytes>, Offset> = BTreeMap::new();
        for (offset, (key, _, _)) in sent.range(..cleaned_to) {
            last.insert(key, *offset);
        }
        for (offset, (key, value, _)) in sent.range(position.log_start..position.end) {
            if self.records.contains_key(offset) {
                let older = *offset < cleaned_to && last.get(key) != Some(offset);
                assert!(!older, "{id}: {offset} is below {cleaned_to} and not the last of {key:?}");
                continue;
            }
            assert!(*offset < cleaned_to, "{id}: {offset} is gone, compacted to {cleaned_to}");
            let superseded = last.get(key).is_some_and(|last| last > offset);
            assert!(
                superseded || value.is_none(),
                "{id}: {offset}, the last of {key:?} below {cleaned_to}, is gone"
            );
        }
        if position.log_start == Offset::ZERO {
            for producer in store.producers(id).unwrap_or_default() {
                let known = self.sequences.get(&(producer.id, producer.epoch));
                assert!(
                    known.is_some_and(|known| known.contains(&producer.last_sequence)),
                    "{id}: no batch says that producer {} is at {}",
                    producer.id,
                    producer.last_sequence
                );
            }
        }
    }
}

fn yields(_: u64) -> Pin<Box<dyn Future<Output = bool>>> {
    Box::pin(async {
        futures_lite::future::yield_now().await;
        false
    })
}

impl Run {
    /// A compaction on one core, with a map of any size.
    pub(super) fn compact(&self, broker: &Broker) {
        let store = Rc::clone(broker.owner(self.sim.choose(PARTITIONS)));
        let now = Timestamp(self.sim.choose(2_000) as i64);
        let map_bytes = if self.sim.choose(3) == 0 { 24 * 7 } else { 24 * 4096 };
        let model = Rc::clone(&self.model);
        self.sim.spawn(Box::pin(async move {
            let settings = CompactionSettings { map_bytes, load_factor: 0.9 };
            if store.compact(now, settings, &yields).await == Ok(true) {
                model.borrow_mut().compactions += 1;
            }
        }));
    }
}

/// Left alone, compaction comes to an end, and leaves the last value of every key.
pub(super) fn settle(
    sim: &SimStorage,
    broker: &Rc<Broker>,
    model: &Rc<RefCell<Model>>,
) -> Result<(), String> {
    let undisturbed = Rc::new(Cell::new(true));
    let (stores, told) = (broker.stores.clone(), Rc::clone(&undisturbed));
    let ended = sim.block_on(STEPS_MAX, async move {
        for store in stores {
            // A pass covers as much as the map has room for; each gets somewhere.
            for _ in 0..1000 {
                let settings = CompactionSettings { map_bytes: 24 * 64, load_factor: 0.9 };
                match store.compact(Timestamp(1_000_000), settings, &yields).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => told.set(false),
                }
            }
        }
    });
    ended.ok_or("compaction does not end")?;
    let Some(topic) = model.borrow().topic else { return Ok(()) };
    if !undisturbed.get() {
        return Ok(());
    }
    for index in (0..PARTITIONS).filter(|index| is_compacted(*index)) {
        let id = partition(topic, index);
        let (store, model) = (Rc::clone(broker.owner(index)), Rc::clone(model));
        let read = sim.block_on(STEPS_MAX, async move {
            let Some(position) = store.position(id) else { return Ok(()) };
            let mut found = Found::default();
            let mut offset = position.log_start;
            while offset < position.high_watermark {
                let request = ReadRequest { partition: id, offset, max_bytes: 20_000 };
                let read = store.read(&request).await;
                for slice in read.iter().flat_map(|outcome| &outcome.slices) {
                    found.note(slice.bytes(), position.log_start);
                }
                offset = super::take_served(&mut model.borrow_mut(), id, offset, read)?;
            }
            if position.high_watermark == position.end {
                found.check(&model.borrow(), &store, id);
            }
            Ok::<(), String>(())
        });
        read.ok_or("a compacted log cannot be read to its end")??;
    }
    Ok(())
}

/// Records served of compacted partitions.
pub(super) type ServedRecords = BTreeMap<(TopicPartition, Offset, LeaderEpoch), Plain>;
