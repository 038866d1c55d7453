//! What the files of sealed segments must hold, and what look-ups by time must find.

use std::rc::Rc;

use millstream::log::SealedSegment;
use millstream::log::index::{IndexedBatch, SegmentIndex};
use millstream::log::producers::Producers;
use millstream::log::segment::path;
use millstream::partition::{Store, TimeQuery};
use millstream::record::batches;
use millstream::storage::sim::SimStorage;
use millstream::storage::{Storage, read_file};
use millstream::time::Timestamp;
use millstream::types::{Offset, TopicPartition};

use super::compaction::plain_records;

/// Checks the indexes and snapshots of every sealed segment of a partition against its log.
pub(crate) async fn check_sealed(
    sim: &SimStorage,
    store: &Store,
    id: TopicPartition,
    interval: u64,
    snapshots: bool,
) {
    let storage: &dyn Storage = sim;
    let Some((directory, sealed)) = store.sealed_segments(id) else { return };
    let mut producers = Producers::default();
    if let Some(first) = sealed.first().filter(|first| first.base > Offset::ZERO) {
        // What was before it is gone.
        let known = read_file(storage, &path(&directory, first.base, "snapshot")).await;
        producers = known.ok().and_then(|b| Producers::from_snapshot(&b)).unwrap_or_default();
    }
    for SealedSegment { base, .. } in sealed {
        let file = |extension: &str| path(&directory, base, extension);
        let log = match read_file(storage, &file("log")).await {
            Ok(log) => log,
            Err(error) => panic!("{id}: {}: {error}", file("log").display()),
        };
        let mut index = SegmentIndex::empty();
        let (mut position, mut end) = (0, base);
        for batch in batches(&log) {
            let Ok(batch) = batch else { panic!("{id}: segment {base} is torn at {position}") };
            let header = batch.header();
            let noted = IndexedBatch {
                relative_offset: header.last_offset().0 - base.0,
                position,
                len: batch.size() as u64,
                timestamp: header.max_timestamp(),
            };
            index.note(&noted, interval);
            producers.append_header(header, header.base_offset(), 0);
            position += batch.size() as u64;
            end = header.next_offset();
        }
        index.seal();
        for (extension, expected) in
            [("index", index.offset_bytes()), ("timeindex", index.time_bytes())]
        {
            let found = read_file(storage, &file(extension)).await.unwrap_or_default();
            assert!(found == expected, "{id}: {} is not exact", file(extension).display());
        }
        if !snapshots {
            // Compaction removes batches of producers, and merges segments.
            continue;
        }
        let snapshot = read_file(storage, &path(&directory, end, "snapshot")).await.ok();
        let expected = (!producers.is_empty()).then(|| producers.snapshot());
        assert!(snapshot == expected, "{id}: the snapshot at {end} is not exact");
    }
}

/// The timestamps of records as they are read, by offset.
#[derive(Default)]
pub(crate) struct Times(Vec<(Offset, i64)>);

impl Times {
    /// Notes the records of read bytes.
    pub(crate) fn note(&mut self, bytes: &[u8], log_start: Offset) {
        for batch in batches(bytes).flatten() {
            for (delta, (_, _, timestamp)) in plain_records(&batch) {
                let offset = batch.header().base_offset().plus(i64::from(delta));
                if offset >= log_start {
                    self.0.push((offset, timestamp));
                }
            }
        }
    }

    /// Looks up some times, and the greatest.
    pub(crate) async fn check(&self, sim: &SimStorage, store: &Rc<Store>, id: TopicPartition) {
        for _ in 0..3 {
            let last = self.0.last().map_or(0, |(_, timestamp)| *timestamp);
            let wanted = sim.choose(last as u64 + 40) as i64;
            let first = self.0.iter().find(|(_, timestamp)| *timestamp >= wanted).copied();
            self.compare(store, id, TimeQuery::At(Timestamp(wanted)), first).await;
        }
        let mut greatest = None;
        for (offset, timestamp) in &self.0 {
            if greatest.is_none_or(|(_, known)| *timestamp > known) {
                greatest = Some((*offset, *timestamp));
            }
        }
        self.compare(store, id, TimeQuery::Greatest, greatest).await;
    }

    async fn compare(
        &self,
        store: &Store,
        id: TopicPartition,
        query: TimeQuery,
        expected: Option<(Offset, i64)>,
    ) {
        match store.offset_at(id, query).await {
            Ok(found) => {
                let found = found.map(|found| (found.offset, found.timestamp.0));
                assert_eq!(found, expected, "{id}: {query:?}");
            }
            Err(error) => panic!("{id}: {query:?}: {error:?}"),
        }
    }
}
