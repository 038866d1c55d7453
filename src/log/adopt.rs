//! A log made elsewhere, taken in as it is: `millstream log import`.
//!
//! Kafka's segment files hold what ours hold, so nothing of them changes. What a start needs to know of a
//! log (segments, leader epochs, idempotent producers, greatest timestamps) and the indexes are made by
//! walking the records once, with every check that a verification makes; nothing else of the old broker
//! is believed. Pure: whoever calls reads and writes files.

use std::collections::BTreeSet;

use super::check::SegmentCheck;
use super::compaction::CompactionCheckpoint;
use super::epochs::checkpoint_text;
use super::index::{Greatest, IndexedBatch, SegmentIndex, relative};
use super::producers::Producers;
use super::{LogCheckpoint, Place, SealedSegment};
use crate::record::{BatchView, Codec, records};
use crate::types::{LeaderEpoch, Offset};

/// Type of the control record that ends a transaction for nothing (Kafka's `ControlRecordType`).
const ABORT: i16 = 0;
/// Type of the control record that ends a transaction for good.
const COMMIT: i16 = 1;

/// A log while its segments are walked, oldest first.
#[derive(Debug)]
pub struct Adoption {
    index_interval_bytes: u64,
    sealed: Vec<SealedSegment>,
    seen: Seen,
    current: Option<Current>,
}

#[derive(Debug, Default)]
struct Seen {
    epochs: Vec<(LeaderEpoch, Offset)>,
    producers: Producers,
    greatest_producer_id: i64,
    /// Producers with a transaction that has not ended.
    open: BTreeSet<i64>,
    /// The first thing that this broker cannot serve.
    refused: Option<String>,
}

#[derive(Debug)]
struct Current {
    base: Offset,
    check: SegmentCheck,
    index: SegmentIndex,
}

/// What belongs beside a segment's records.
#[derive(Debug)]
pub struct AdoptedFiles {
    /// The bytes of `.index`.
    pub offsets: Vec<u8>,
    /// The bytes of `.timeindex`.
    pub times: Vec<u8>,
    /// The offset that follows the segment, and the bytes of the `.snapshot` named after it, if any
    /// producer is known.
    pub snapshot: Option<(Offset, Vec<u8>)>,
}

/// A log that may be taken in.
#[derive(Debug)]
pub struct Adopted {
    /// What a checkpoint says of it.
    pub checkpoint: LogCheckpoint,
    /// The text of `leader-epoch-checkpoint`.
    pub epochs: String,
    /// The greatest producer id in it; -1 if there is none.
    pub greatest_producer_id: i64,
}

impl Adopted {
    /// The offset that follows its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.checkpoint.drained.segment
    }

    /// Its greatest timestamp; -1 if there is none.
    #[must_use]
    pub fn greatest_timestamp(&self) -> i64 {
        self.checkpoint.sealed.iter().map(|segment| segment.greatest.0).max().unwrap_or(-1)
    }
}

impl Adoption {
    /// Before the first segment.
    #[must_use]
    pub fn new(index_interval_bytes: u64) -> Adoption {
        let seen = Seen { greatest_producer_id: -1, ..Seen::default() };
        Adoption { index_interval_bytes, sealed: Vec::new(), seen, current: None }
    }

    /// Begins a segment of `len` bytes.
    ///
    /// # Errors
    /// When it does not follow the segment before it.
    pub fn begin(&mut self, base: Offset, len: u64) -> Result<(), String> {
        if let Some(before) = self.sealed.last()
            && before.next_offset != base
        {
            return Err(format!(
                "it begins where offset {} follows: a segment is missing, or the log was compacted, \
                 which cannot be taken in yet; leave the partition out",
                before.next_offset
            ));
        }
        let check = SegmentCheck::new(base, len, false);
        self.current = Some(Current { base, check, index: SegmentIndex::empty() });
        Ok(())
    }

    /// Takes the next bytes of the segment.
    pub fn push(&mut self, bytes: &[u8]) {
        let Adoption { index_interval_bytes, seen, current: Some(current), .. } = self else {
            return;
        };
        let Current { base, check, index } = current;
        check.push(bytes, |position, batch| {
            let header = batch.header();
            let noted = IndexedBatch {
                relative_offset: relative(*base, header.last_offset()),
                position,
                len: batch.size() as u64,
                timestamp: header.max_timestamp(),
            };
            index.note(&noted, *index_interval_bytes);
            seen.note(batch);
        });
    }

    /// Ends the segment: the files that belong beside it.
    ///
    /// # Errors
    /// When something in it is wrong, or cannot be served.
    pub fn end_segment(&mut self) -> Result<AdoptedFiles, String> {
        let Some(Current { base, check, mut index }) = self.current.take() else {
            return Err("no segment was begun".to_owned());
        };
        let summary = check.finish();
        if let Some(fault) = summary.faults.first() {
            return Err(format!(
                "{fault}; if that broker was not stopped cleanly, start it once more and stop it"
            ));
        }
        if let Some(refused) = self.seen.refused.take() {
            return Err(refused);
        }
        let Greatest { timestamp, offset } = summary.greatest;
        index.seal();
        self.sealed.push(SealedSegment {
            base,
            len: summary.bytes,
            next_offset: summary.next_offset,
            greatest: (timestamp.0, offset),
        });
        let producers = &self.seen.producers;
        let snapshot = (!producers.is_empty()).then(|| (summary.next_offset, producers.snapshot()));
        Ok(AdoptedFiles {
            offsets: index.offset_bytes().to_vec(),
            times: index.time_bytes().to_vec(),
            snapshot,
        })
    }

    /// Ends the log: `end` follows its last record if it has no segment with records, and `log_start` is
    /// where its readable records begin, if not with its first segment.
    ///
    /// # Errors
    /// When a transaction has not ended, or the log start lies behind the end.
    pub fn finish(self, end: Offset, log_start: Option<Offset>) -> Result<Adopted, String> {
        let Adoption { sealed, seen, .. } = self;
        if let Some(id) = seen.open.first() {
            return Err(format!(
                "a transaction of producer {id} has not ended; this version does not hide its records: \
                 end it in the old cluster first"
            ));
        }
        let end = sealed.last().map_or(end, |last| last.next_offset);
        let first = sealed.first().map_or(end, |first| first.base);
        let log_start = log_start.unwrap_or(first).max(first);
        if log_start > end {
            return Err(format!(
                "log-start-offset-checkpoint says {log_start}, and the log ends at {end}; start that \
                 broker once more and stop it cleanly"
            ));
        }
        let epochs = checkpoint_text(&seen.epochs, end);
        let checkpoint = LogCheckpoint {
            sealed,
            drained: Place { segment: end, position: 0 },
            tail: Some((0, end)),
            log_start,
            epochs: seen.epochs,
            producers: seen.producers.checkpoint(),
            producers_to: end,
            greatest: (-1, Offset(-1)),
            compaction: CompactionCheckpoint::default(),
        };
        Ok(Adopted { checkpoint, epochs, greatest_producer_id: seen.greatest_producer_id })
    }
}

impl Seen {
    fn note(&mut self, batch: &BatchView<'_>) {
        let header = batch.header();
        let epoch = header.partition_leader_epoch();
        match self.epochs.last() {
            _ if epoch.0 < 0 => {}
            Some((last, _)) if *last == epoch => {}
            Some((last, _)) if *last > epoch => self.refuse(format!(
                "offset {}: leader epoch {} follows {}; leave the partition out",
                header.base_offset(),
                epoch.0,
                last.0
            )),
            _ => self.epochs.push((epoch, header.base_offset())),
        }
        self.greatest_producer_id = self.greatest_producer_id.max(header.producer_id());
        let attributes = header.attributes();
        if attributes.is_control() {
            self.note_marker(batch);
            return;
        }
        if attributes.is_transactional() {
            self.open.insert(header.producer_id());
        }
        self.producers.append_header(header, header.base_offset(), 0);
    }

    /// A transaction marker. Transactions that were committed are records as any others.
    fn note_marker(&mut self, batch: &BatchView<'_>) {
        let header = batch.header();
        let key = (header.attributes().codec() == Some(Codec::None))
            .then(|| records(batch.payload()).next()?.ok()?.key)
            .flatten();
        let marker = key.and_then(|key| key.get(2..4)).map(|kind| match kind {
            [high, low] => i16::from_be_bytes([*high, *low]),
            _ => -1,
        });
        match marker {
            Some(COMMIT) => {
                self.open.remove(&header.producer_id());
            }
            Some(ABORT) => self.refuse(format!(
                "offset {}: a transaction was aborted; this version does not hide its records from \
                 consumers; leave the partition out",
                header.base_offset()
            )),
            _ => self.refuse(format!(
                "offset {}: a control record that is no transaction marker; leave the partition out",
                header.base_offset()
            )),
        }
    }

    fn refuse(&mut self, why: String) {
        self.refused.get_or_insert(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attributes, BatchBuilder, Producer};
    use crate::time::Timestamp;

    struct Input {
        epoch: i32,
        producer: i64,
        attributes: Attributes,
        key: &'static [u8],
    }

    const PLAIN: Input =
        Input { epoch: 0, producer: -1, attributes: Attributes(0), key: b"some key" };

    fn batch(offset: i64, input: &Input) -> Vec<u8> {
        let mut builder = BatchBuilder::new()
            .attributes(input.attributes)
            .placed(Offset(offset), LeaderEpoch(input.epoch));
        if input.producer >= 0 {
            builder = builder.producer(Producer { id: input.producer, epoch: 0, base_sequence: 0 });
        }
        builder.record(Timestamp(1000 + offset), Some(input.key), Some(b"value"));
        builder.build().unwrap()
    }

    /// Segments of batches of one record each, from offset 7 on.
    fn adopt(segments: &[&[Input]]) -> Result<Adopted, String> {
        let mut adoption = Adoption::new(0);
        let mut offset = 7;
        for segment in segments {
            let base = Offset(offset);
            let mut bytes = Vec::new();
            for input in *segment {
                bytes.extend_from_slice(&batch(offset, input));
                offset += 1;
            }
            adoption.begin(base, bytes.len() as u64)?;
            adoption.push(&bytes);
            adoption.end_segment()?;
        }
        adoption.finish(Offset(7), None)
    }

    #[test]
    fn a_log_is_described_by_its_records() {
        let of = |epoch, producer| Input { epoch, producer, ..PLAIN };
        let log = [&[of(3, -1), of(3, 40)][..], &[of(5, 41), of(5, 42)][..]];
        let adopted = adopt(&log).unwrap();
        assert_eq!((adopted.end(), adopted.checkpoint.log_start), (Offset(11), Offset(7)));
        assert_eq!(adopted.epochs, "0\n2\n3 7\n5 9\n");
        assert_eq!(adopted.greatest_producer_id, 42);
        assert_eq!(adopted.greatest_timestamp(), 1010);
        let ends: Vec<_> = adopted.checkpoint.sealed.iter().map(|s| s.next_offset.0).collect();
        assert_eq!(ends, [9, 11]);
        let producers = Producers::from_checkpoint(&adopted.checkpoint.producers);
        let ids: Vec<i64> = producers.iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [40, 41, 42]);
    }

    #[test]
    fn a_log_without_records_keeps_its_end() {
        let adopted = Adoption::new(0).finish(Offset(99), None).unwrap();
        assert_eq!((adopted.end(), adopted.checkpoint.log_start), (Offset(99), Offset(99)));
        assert!(Adoption::new(0).finish(Offset(99), Some(Offset(100))).is_err());
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let transactional =
            || Input { producer: 40, attributes: Attributes(0).transactional(), ..PLAIN };
        let marker = |key| Input {
            producer: 40,
            attributes: Attributes(0).transactional().control(),
            key,
            ..PLAIN
        };
        const COMMITTED: &[u8] = &[0, 0, 0, 1];
        const ABORTED: &[u8] = &[0, 0, 0, 0];
        const OTHER: &[u8] = &[0, 0, 0, 2];
        assert!(adopt(&[&[transactional(), marker(COMMITTED)]]).is_ok());
        let says = |segments: &[&[Input]], word: &str| {
            let why = adopt(segments).err().unwrap_or_default();
            assert!(why.contains(word), "{why}");
        };
        says(&[&[transactional()], &[PLAIN]], "has not ended");
        says(&[&[transactional(), marker(ABORTED)]], "was aborted");
        says(&[&[marker(OTHER)]], "no transaction marker");
        let newer = || Input { epoch: 4, ..PLAIN };
        says(&[&[newer()], &[PLAIN]], "leader epoch 0 follows 4");
        let mut adoption = Adoption::new(0);
        let bytes = batch(0, &PLAIN);
        adoption.begin(Offset(0), bytes.len() as u64).unwrap();
        adoption.push(&bytes);
        adoption.end_segment().unwrap();
        let gap = adoption.begin(Offset(5), 100).unwrap_err();
        assert!(gap.contains("offset 1 follows"), "{gap}");
    }
}
