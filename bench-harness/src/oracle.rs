//! Judges what is read back: nothing acknowledged lost, nothing twice, everything in order and unchanged.
//!
//! Per partition it follows the offsets, and per run and producer the batch sequences, which each
//! producer wrote in order. A batch that comes late was missing before, so it is a reorder and no
//! duplicate; one that never comes is lost if it was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use millstream::record::{BatchError, BatchView, batches};
use serde::{Deserialize, Serialize};

use crate::batches::{read_stamp, records_in_place};
use crate::state::{Acked, Stream};

/// How closely batches are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Borders, offsets and sequences: what a client that trusts the broker would see.
    Framing,
    /// The CRC and every record's place, too.
    Bytes,
}

/// Everything that may be wrong, counted in batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Batches seen.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Batches without a stamp of ours, whose order cannot be judged.
    pub foreign: u64,
    /// Offsets that were skipped.
    pub offset_gaps: u64,
    /// Sequences that never came, acknowledged or not, with a later one of their producer present.
    pub gaps: u64,
    /// Batches that came twice, or offsets that went back.
    pub duplicates: u64,
    /// Batches that came after a later one of their producer.
    pub reorders: u64,
    /// Batches whose borders, CRC or records are not what they were.
    pub corrupt: u64,
    /// Batches that were acknowledged and never came.
    pub lost: u64,
}

impl Verdict {
    /// Whether nothing is wrong. Gaps alone are: a batch that was refused, and so never acknowledged,
    /// leaves one behind, and the producer has counted it as an error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.offset_gaps == 0
            && self.duplicates == 0
            && self.reorders == 0
            && self.corrupt == 0
            && self.lost == 0
    }

    /// The sum of two verdicts over different partitions.
    pub fn add(&mut self, other: &Verdict) {
        self.batches += other.batches;
        self.records += other.records;
        self.foreign += other.foreign;
        self.offset_gaps += other.offset_gaps;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.reorders += other.reorders;
        self.corrupt += other.corrupt;
        self.lost += other.lost;
    }
}

/// What one producer of one run has written to the partition, as far as seen.
#[derive(Default)]
struct Sequences {
    next: u64,
    missing: BTreeSet<u64>,
}

/// Follows one partition from one offset on.
pub struct PartitionOracle {
    depth: Depth,
    next_offset: i64,
    producers: BTreeMap<(u64, u32), Sequences>,
    verdict: Verdict,
    /// Reading began in the middle, so each producer's first sequence is not 0.
    from_middle: bool,
}

impl PartitionOracle {
    /// Begins at `offset`; `from_middle` if what was before it will not be read.
    #[must_use]
    pub fn new(depth: Depth, offset: i64, from_middle: bool) -> PartitionOracle {
        PartitionOracle {
            depth,
            next_offset: offset,
            producers: BTreeMap::new(),
            verdict: Verdict::default(),
            from_middle,
        }
    }

    /// The next offset to fetch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Looks at the records of one fetch; returns the bytes of whole batches that were new. A last
    /// batch that is cut off is the fetch's right and comes again.
    pub fn observe(&mut self, records: &[u8]) -> u64 {
        let mut bytes = 0;
        for batch in batches(records) {
            match batch {
                Ok(batch) => {
                    // A fetch may begin inside a batch, and gets all of it.
                    if self.verdict.batches == 0 && self.from_middle {
                        self.next_offset = self.next_offset.min(batch.header().base_offset().0);
                    }
                    bytes += batch.size() as u64;
                    self.observe_batch(&batch);
                }
                Err(BatchError::Truncated) => {}
                Err(_) => self.verdict.corrupt += 1,
            }
        }
        bytes
    }

    fn observe_batch(&mut self, batch: &BatchView<'_>) {
        let header = batch.header();
        self.verdict.batches += 1;
        self.verdict.records += u64::try_from(header.records_count()).unwrap_or(0);
        let base = header.base_offset().0;
        if base > self.next_offset {
            self.verdict.offset_gaps += 1;
        } else if base < self.next_offset {
            self.verdict.duplicates += 1;
            return;
        }
        self.next_offset = header.next_offset().0;
        if self.depth == Depth::Bytes && !batch.crc_valid() {
            self.verdict.corrupt += 1;
            return;
        }
        let Some(stamp) = read_stamp(batch) else {
            self.verdict.foreign += 1;
            return;
        };
        if self.depth == Depth::Bytes && !records_in_place(batch) {
            self.verdict.corrupt += 1;
            return;
        }
        let first = if self.from_middle { stamp.sequence } else { 0 };
        let fresh = || Sequences { next: first, missing: BTreeSet::new() };
        let sequences = self.producers.entry((stamp.run, stamp.producer)).or_insert_with(fresh);
        if stamp.sequence >= sequences.next {
            // A stamp of foreign bytes may be any number: the gap is counted, and stored in bounds.
            let skipped = stamp.sequence - sequences.next;
            self.verdict.gaps += skipped;
            sequences.missing.extend((sequences.next..stamp.sequence).take(MISSING_MAX));
            sequences.next = stamp.sequence.saturating_add(1);
        } else if sequences.missing.remove(&stamp.sequence) {
            self.verdict.gaps -= 1;
            self.verdict.reorders += 1;
        } else {
            self.verdict.duplicates += 1;
        }
    }

    /// The verdict, with what was acknowledged on this partition and never came counted as lost.
    #[must_use]
    pub fn finish(self, acked: &BTreeMap<Stream, Acked>) -> Verdict {
        let mut verdict = self.verdict;
        for (stream, acked) in acked {
            let seen = self.producers.get(&(stream.run, stream.producer));
            let next = seen.map_or(0, |s| s.next);
            let absent = |sequence: &u64| {
                *sequence >= next || seen.is_some_and(|s| s.missing.contains(sequence))
            };
            let missing = seen.map_or(0, |s| s.missing.range(..acked.end).count() as u64);
            let refused =
                acked.failed.iter().filter(|s| **s < acked.end && absent(s)).count() as u64;
            verdict.lost += missing + acked.end.saturating_sub(next) - refused;
        }
        verdict
    }
}

/// Sequences of one producer that are remembered as missing at most.
const MISSING_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
