//! The machine against a model: random logs, random keys, maps of any size.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::log::{LogSettings, Place};
use crate::record::{
    Attributes, BatchBuilder, BatchHeader, Codec, Producer, RecordView, batches, for_each_record,
};
use crate::types::LeaderEpoch;

const RETENTION_MS: i64 = 100;

fn log() -> Log {
    Log::new(LogSettings { segment_bytes: 1 << 20, segment_ms: i64::MAX, index_interval_bytes: 0 })
}

/// Offset, key, value of every record.
type Records = BTreeMap<Offset, (Vec<u8>, Option<Vec<u8>>)>;

fn records_of(bytes: &[u8]) -> Records {
    let mut found = Records::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        let base = batch.header().base_offset();
        let mut before = None;
        let mut count = 0;
        for_each_record(&batch, |record: &RecordView<'_>| {
            assert!(before.replace(record.offset_delta).is_none_or(|b| b < record.offset_delta));
            assert!(record.offset_delta <= batch.header().last_offset_delta());
            let key = record.key.unwrap_or_default().to_vec();
            let value = record.value.map(<[u8]>::to_vec);
            found.insert(base.plus(record.offset_delta.into()), (key, value));
            count += 1;
            true
        })
        .unwrap();
        assert_eq!(count, batch.header().records_count());
    }
    found
}

fn map(bytes: &[u8], start: Offset, end: Offset, map_bytes: usize) -> KeyMap {
    let mut keys = KeyMap::new(map_bytes, 0.9, end.0 - start.0, start);
    for batch in batches(bytes) {
        if !keys.note_batch(&batch.unwrap(), start).unwrap() {
            return keys;
        }
    }
    keys.note_end(end);
    keys
}

fn pass(bytes: &[u8], cleaner: &Cleaner) -> Vec<u8> {
    let mut out = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        match cleaner.clean(&batch).unwrap() {
            Retained::All => out.extend_from_slice(batch.bytes()),
            Retained::Rewritten(rewritten) => out.extend_from_slice(&rewritten),
            Retained::Nothing => {}
        }
    }
    out
}

/// Batches from `base` on with random keys.
fn random_batches(rng: &mut SmallRng, base: Offset, log: &mut Log) -> (Vec<u8>, Offset) {
    let (mut bytes, mut at) = (Vec::new(), base);
    for _ in 0..rng.random_range(1..20) {
        let codec = Codec::ALL[rng.random_range(0..Codec::ALL.len())];
        let mut builder = BatchBuilder::new().codec(codec).placed(at, LeaderEpoch(1));
        if rng.random_bool(0.3) {
            let id = rng.random_range(0..3);
            let known = log.producers().iter().find(|(known, _)| *known == id);
            let base_sequence = known.map_or(0, |(_, state)| state.last_sequence() + 1);
            builder = builder.producer(Producer { id, epoch: 0, base_sequence });
        }
        let count = rng.random_range(1..6);
        for _ in 0..count {
            let key = [b'k', rng.random_range(0..15)];
            let value = rng.random::<u64>().to_be_bytes();
            let value = (!rng.random_bool(0.2)).then_some(&value[..]);
            builder.record(Timestamp(at.0), Some(&key), value);
        }
        let batch = builder.build().unwrap();
        let header = *BatchHeader::read(&batch).unwrap();
        log.append(batch.len(), count, Timestamp(at.0), LeaderEpoch(1));
        log.note_producer(&header, at, 1);
        log.note_drained(&header);
        bytes.extend_from_slice(&batch);
        at = at.plus(count);
    }
    (bytes, at)
}

#[test]
fn random_logs_against_a_model() {
    let (mut full, mut tombstones_gone) = (0, 0);
    for seed in 0..400 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut log = log();
        let (mut bytes, mut end) = (Vec::new(), Offset::ZERO);
        let mut sent = Records::new();
        let mut dirty = Offset::ZERO;
        // Tombstones, by the time at which a pass that had not cleaned them yet first kept them.
        let mut seen: BTreeMap<Offset, i64> = BTreeMap::new();
        let mut now = 1_000;
        for _ in 0..8 {
            let (more, next) = random_batches(&mut rng, end, &mut log);
            sent.extend(records_of(&more));
            bytes.extend_from_slice(&more);
            end = next;
            now += rng.random_range(0..90);
            let map_bytes = if rng.random_bool(0.5) { 24 * 6 } else { 1 << 16 };
            let keys = map(&bytes, dirty, end, map_bytes);
            assert!(keys.next() > dirty && keys.bytes() <= map_bytes, "seed {seed}");
            let limit = end;
            let cleaner = Cleaner::new(&log, keys, limit, Timestamp(now), RETENTION_MS);
            full += usize::from(cleaner.end() < end);
            bytes = pass(&bytes, &cleaner);
            dirty = cleaner.end();

            let found = records_of(&bytes);
            let mut last = BTreeMap::new();
            for (offset, (key, _)) in sent.range(..dirty) {
                last.insert(key.clone(), *offset);
            }
            for (offset, (key, value)) in &sent {
                let is_last = last.get(key) == Some(offset);
                let wanted = match (found.get(offset), value) {
                    (Some(kept), _) => {
                        assert_eq!(kept, &(key.clone(), value.clone()), "seed {seed}: {offset}");
                        *offset >= dirty || is_last
                    }
                    (None, Some(_)) => *offset < dirty && !is_last,
                    (None, None) => {
                        let young = seen.get(offset).is_none_or(|at| at + RETENTION_MS > now);
                        tombstones_gone += usize::from(is_last);
                        *offset < dirty && !(is_last && young)
                    }
                };
                assert!(wanted, "seed {seed}: offset {offset}, dirty from {dirty}");
                if value.is_none() && found.contains_key(offset) {
                    // A batch with tombstones gets its horizon when any part of it is first cleaned.
                    seen.entry(*offset).or_insert(now);
                }
            }
            assert!(found.keys().all(|offset| sent.contains_key(offset)), "seed {seed}");
            // The log's end, and every producer's last sequence, are still told.
            let headers: Vec<_> = batches(&bytes).map(|b| *b.unwrap().header()).collect();
            assert_eq!(headers.last().unwrap().next_offset(), end, "seed {seed}");
            let mut offsets = BTreeSet::new();
            for header in &headers {
                assert!(offsets.last().is_none_or(|before| *before <= header.base_offset()));
                offsets.insert(header.next_offset());
            }
            for (id, state) in log.producers().iter() {
                let told = headers.iter().any(|header| {
                    header.producer().is_some_and(|p| {
                        p.id == id
                            && p.base_sequence + header.last_offset_delta() == state.last_sequence()
                    })
                });
                assert!(told, "seed {seed}: producer {id}");
            }
        }
    }
    assert!(full > 100 && tombstones_gone > 100, "{full} {tombstones_gone}");
}

#[test]
fn control_batches_stay_and_keyless_records_go() {
    let mut control = BatchBuilder::new()
        .attributes(Attributes::default().control())
        .placed(Offset(0), LeaderEpoch(0));
    control.record(Timestamp(1), Some(&[0, 0, 0, 1]), Some(&[0; 6]));
    let mut bytes = control.build().unwrap();
    let mut keyless = BatchBuilder::new().placed(Offset(1), LeaderEpoch(0));
    keyless.record(Timestamp(1), None, Some(b"from before"));
    bytes.extend_from_slice(&keyless.build().unwrap());
    let mut keyed = BatchBuilder::new().placed(Offset(2), LeaderEpoch(0));
    keyed.record(Timestamp(1), Some(b"k"), Some(b"v"));
    bytes.extend_from_slice(&keyed.build().unwrap());
    let keys = map(&bytes, Offset::ZERO, Offset(3), 1 << 10);
    let cleaner = Cleaner::new(&log(), keys, Offset(3), Timestamp(0), 0);
    let left = records_of(&pass(&bytes, &cleaner));
    assert_eq!(left.keys().copied().collect::<Vec<_>>(), [Offset(0), Offset(2)]);
}

/// A log of sealed segments of one batch each, whose greatest timestamps are `times`, and an active one.
fn segmented(times: &[i64]) -> Log {
    let mut log = log();
    for time in times {
        log.append(1000, 10, Timestamp(*time), LeaderEpoch(0));
        assert!(log.roll());
    }
    for base in 0..times.len() {
        log.drained_to(
            Place { segment: Offset(base as i64 * 10), position: 0 },
            crate::log::Head::None,
            Offset(base as i64 * 10),
        );
        log.sealed(Offset(base as i64 * 10));
    }
    log.append(1000, 10, Timestamp(0), LeaderEpoch(0));
    log.sealed_saved(Offset(times.len() as i64 * 10));
    log
}

const RULES: CompactionRules =
    CompactionRules { min_dirty_ratio: 0.5, min_lag_ms: 0, max_lag_ms: i64::MAX };

#[test]
fn what_may_be_compacted_and_when() {
    let now = Timestamp(1_000);
    let mut log = segmented(&[100, 200, 950, 300]);
    let all = Offset(50);
    let end = |log: &Log, rules: CompactionRules, limit| {
        log.plan_compaction(now, &rules, limit).map(|plan| (plan.first_dirty.0, plan.end.0))
    };
    // Not the active segment, nothing above the watermark, nothing that is too young or behind it.
    assert_eq!(end(&log, RULES, all), Some((0, 40)));
    assert_eq!(end(&log, RULES, Offset(35)), Some((0, 30)));
    assert_eq!(end(&log, RULES, Offset(5)), None);
    let lag = CompactionRules { min_lag_ms: 100, ..RULES };
    assert_eq!(end(&log, lag, all), Some((0, 20)));
    // The dirty ratio: 4 of 4 segments, then 1 of 4.
    assert!(log.plan_compaction(now, &RULES, all).unwrap().is_due(now));
    log.cleaned(Offset(30));
    let plan = log.plan_compaction(now, &RULES, all).unwrap();
    assert_eq!((plan.first_dirty, plan.dirty().count()), (Offset(30), 1));
    assert!((plan.ratio - 0.25).abs() < 1e-9 && !plan.is_due(now));
    // Whatever the ratio, when its first record is older than the greatest lag.
    let late = CompactionRules { max_lag_ms: 600, ..RULES };
    let plan = log.plan_compaction(now, &late, all).unwrap();
    assert_eq!(plan.unknown_times().count(), 0);
    assert!(plan.is_due(now) && !plan.is_due(Timestamp(900)));
    log.cleaned(Offset(40));
    assert_eq!(end(&log, CompactionRules { min_dirty_ratio: 0.0, ..RULES }, all), None);
    log.advance_log_start(Offset(35));
    assert_eq!(end(&log, RULES, all), None);
}

#[test]
fn a_swap_shows_in_the_checkpoint_before_it_is_made() {
    let mut log = segmented(&[1, 2, 3]);
    let before = log.checkpoint();
    assert!(before.compaction.pending.is_empty() && before.sealed.len() == 3);
    let segment = crate::log::SealedSegment {
        base: Offset(0),
        len: 700,
        next_offset: Offset(20),
        greatest: (2, Offset(19)),
    };
    assert_eq!(log.next_swap(), 1);
    log.prepare_swap(vec![Swap { segment, gone: vec![Offset(10)] }], Offset(20));
    assert_eq!((log.cleaned_to(), log.size()), (Offset::ZERO, 4000));
    let prepared = log.checkpoint();
    let bases: Vec<_> = prepared.sealed.iter().map(|s| (s.base.0, s.len)).collect();
    assert_eq!(bases, [(0, 700), (20, 1000)]);
    let expected = CompactionCheckpoint {
        cleaned_to: Offset(20),
        number: 1,
        pending: vec![(Offset(0), vec![Offset(10)])],
    };
    assert_eq!(prepared.compaction, expected);
    assert!(!log.is_swap_saved());
    log.swap_saved(1);
    assert!(log.is_swap_saved());
    log.switch();
    assert_eq!((log.cleaned_to(), log.size()), (Offset(20), 2700));
    assert_eq!(log.segment_of(Offset(15)).map(|s| s.base), Some(Offset(0)));
    assert_eq!(log.segment_after(Offset(0)), Some(Offset(20)));
    assert_eq!(log.checkpoint(), prepared);
    log.swap_done();
    assert_eq!(log.checkpoint().compaction.pending, []);
    assert_eq!(log.checkpoint().sealed, prepared.sealed);
}
