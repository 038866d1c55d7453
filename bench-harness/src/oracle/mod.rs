//! Judges what is read back: nothing acknowledged lost, nothing twice, everything in order and unchanged.
//!
//! Per partition it follows the offsets, and per run and producer the batch sequences, which each
//! producer wrote in order. A batch that comes late was missing before, so it is a reorder and no
//! duplicate; one that never comes is lost if it was acknowledged. Of a batch this very process has
//! sent it knows the CRC that every byte of it together must have; of any other it walks the records.

use std::collections::{BTreeMap, BTreeSet};

use millstream::record::{BatchError, BatchView, HEADER_SIZE, batches};
use serde::{Deserialize, Serialize};

use crate::batches::{Disorder, STAMP_BYTES, Stamp, Template, examine, read_stamp};
use crate::state::{Acked, Stream};

/// How closely batches are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Borders, offsets and sequences: what a client that trusts the broker would see.
    Framing,
    /// The CRC and every record's place, too.
    Bytes,
}

/// Everything that may be wrong, counted in batches unless it says records.
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
    /// Batches that came twice, or offsets that went back; and records twice in a batch.
    pub duplicates: u64,
    /// Batches that came after a later one of their producer; and records after a later one.
    pub reorders: u64,
    /// Batches whose borders, CRC or bytes are not what they were.
    pub corrupt: u64,
    /// Records that are missing in a batch that came.
    pub missing_records: u64,
    /// Batches that were acknowledged and never came.
    pub lost: u64,
}

impl Verdict {
    /// Whether nothing is wrong. Gaps alone are: a batch that was refused, and so never acknowledged,
    /// leaves one behind, and the producer has counted it as an error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults().iter().all(|(_, count)| *count == 0)
    }

    /// What must not be, by name.
    #[must_use]
    pub fn faults(&self) -> [(&'static str, u64); 6] {
        [
            ("acknowledged but lost", self.lost),
            ("duplicates", self.duplicates),
            ("reorders", self.reorders),
            ("corrupt", self.corrupt),
            ("records missing in a batch", self.missing_records),
            ("offset gaps", self.offset_gaps),
        ]
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
        self.missing_records += other.missing_records;
        self.lost += other.lost;
    }
}

/// The batches this process is sending, by which its own are recognised to the byte.
#[derive(Clone, Default)]
pub struct Known {
    /// The run that sends them.
    pub run: u64,
    /// They, by the number in the stamp.
    pub templates: Vec<Template>,
}

impl Known {
    fn template(&self, stamp: &Stamp) -> Option<&Template> {
        if stamp.run != self.run {
            return None;
        }
        self.templates.get(usize::try_from(stamp.template).ok()?)
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
    partition: i32,
    depth: Depth,
    next_offset: i64,
    producers: BTreeMap<(u64, u32), Sequences>,
    verdict: Verdict,
    findings: Vec<String>,
    /// Reading began in the middle, so each producer's first sequence is not 0.
    from_middle: bool,
}

impl PartitionOracle {
    /// Begins at `offset` of `partition`; `from_middle` if what was before it will not be read.
    #[must_use]
    pub fn new(depth: Depth, partition: i32, offset: i64, from_middle: bool) -> PartitionOracle {
        PartitionOracle {
            partition,
            depth,
            next_offset: offset,
            producers: BTreeMap::new(),
            verdict: Verdict::default(),
            findings: Vec::new(),
            from_middle,
        }
    }

    /// The next offset to fetch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Looks at the records of one fetch and tells of each new batch of ours and how many records it
    /// holds; returns the bytes and records of whole batches. A last batch that is cut off is the
    /// fetch's right and comes again.
    pub fn observe(
        &mut self,
        records: &[u8],
        known: &Known,
        mut seen: impl FnMut(&Stamp, u64),
    ) -> (u64, u64) {
        let (mut bytes, records_before) = (0, self.verdict.records);
        for batch in batches(records) {
            match batch {
                Ok(batch) => {
                    // A fetch may begin inside a batch, and gets all of it.
                    if self.verdict.batches == 0 && self.from_middle {
                        self.next_offset = self.next_offset.min(batch.header().base_offset().0);
                    }
                    bytes += batch.size() as u64;
                    self.observe_batch(&batch, known, &mut seen);
                }
                Err(BatchError::Truncated) => {}
                Err(error) => {
                    self.verdict.corrupt += 1;
                    self.find(format!(
                        "corrupt: a batch near offset {}: {error}",
                        self.next_offset
                    ));
                }
            }
        }
        (bytes, self.verdict.records - records_before)
    }

    fn observe_batch(
        &mut self,
        batch: &BatchView<'_>,
        known: &Known,
        seen: &mut impl FnMut(&Stamp, u64),
    ) {
        let header = batch.header();
        let records = u64::try_from(header.records_count()).unwrap_or(0);
        self.verdict.batches += 1;
        self.verdict.records += records;
        let base = header.base_offset().0;
        if base > self.next_offset {
            self.verdict.offset_gaps += 1;
            self.find(format!("offset gap: {base} follows, {} was next", self.next_offset));
        } else if base < self.next_offset {
            self.verdict.duplicates += 1;
            self.find(format!("duplicate: offset {base} again, {} was next", self.next_offset));
            return;
        }
        self.next_offset = header.next_offset().0;
        if self.depth == Depth::Bytes && !batch.crc_valid() {
            self.verdict.corrupt += 1;
            self.find(format!("corrupt: the batch at offset {base} does not agree with its CRC"));
            // Spoilt is not lost, if what it says of itself is what was expected.
            if let Some(stamp) = read_stamp(batch)
                && stamp.sequence == self.next_sequence(stamp.run, stamp.producer)
            {
                self.sequence(&stamp, base, stamp.run == known.run);
            }
            return;
        }
        let stamp = read_stamp(batch);
        if self.depth == Depth::Bytes && !self.contents(batch, stamp.as_ref(), known) {
            return;
        }
        let Some(stamp) = stamp else {
            self.verdict.foreign += 1;
            return;
        };
        self.sequence(&stamp, base, stamp.run == known.run);
        seen(&stamp, records);
    }

    /// Whether the batch holds what it should, or at least is not ours to judge.
    fn contents(&mut self, batch: &BatchView<'_>, stamp: Option<&Stamp>, known: &Known) -> bool {
        let template = stamp.and_then(|stamp| Some((stamp, known.template(stamp)?)));
        if let Some((stamp, template)) = template
            && batch.header().crc() == template.crc(*stamp)
        {
            return true;
        }
        let disorder = examine(batch);
        if stamp.is_none() && disorder.corrupt > 0 {
            return true;
        }
        if disorder == Disorder::default() {
            // Another CRC is right if only the header was rewritten, as with log append time.
            let changed = template.is_some_and(|(_, t)| !same_records(batch, t));
            if changed {
                self.verdict.corrupt += 1;
                let base = batch.header().base_offset().0;
                self.find(format!(
                    "corrupt: the batch at offset {base} holds other bytes than were sent, under a CRC that agrees with them"
                ));
            }
            return !changed;
        }
        self.verdict.missing_records += disorder.gaps;
        self.verdict.duplicates += disorder.duplicates;
        self.verdict.reorders += disorder.reorders;
        self.verdict.corrupt += disorder.corrupt;
        let base = batch.header().base_offset().0;
        for (name, count) in [
            ("missing", disorder.gaps),
            ("duplicate", disorder.duplicates),
            ("reordered", disorder.reorders),
            ("corrupt", disorder.corrupt),
        ] {
            if count > 0 {
                self.find(format!("{name}: {count} records in the batch at offset {base}"));
            }
        }
        // Its sequence still counts: the batch as such is there.
        true
    }

    /// A run of this very process began after its readers did, so its first batch is number 0 wherever
    /// reading began.
    fn sequence(&mut self, stamp: &Stamp, base: i64, own: bool) {
        let first = if self.from_middle && !own { stamp.sequence } else { 0 };
        let fresh = || Sequences { next: first, missing: BTreeSet::new() };
        let sequences = self.producers.entry((stamp.run, stamp.producer)).or_insert_with(fresh);
        if stamp.sequence >= sequences.next {
            // A stamp of foreign bytes may be any number: the gap is counted, and stored in bounds.
            let skipped = stamp.sequence - sequences.next;
            self.verdict.gaps += skipped;
            sequences.missing.extend((sequences.next..stamp.sequence).take(MISSING_MAX));
            sequences.next = stamp.sequence.saturating_add(1);
            if skipped > 0 {
                self.find(format!(
                    "gap: {skipped} batches of producer {} before its number {} at offset {base}",
                    stamp.producer, stamp.sequence
                ));
            }
        } else if sequences.missing.remove(&stamp.sequence) {
            self.verdict.gaps -= 1;
            self.verdict.reorders += 1;
            self.find(format!(
                "reorder: number {} of producer {} at offset {base} after later ones",
                stamp.sequence, stamp.producer
            ));
        } else {
            self.verdict.duplicates += 1;
            self.find(format!(
                "duplicate: number {} of producer {} again at offset {base}",
                stamp.sequence, stamp.producer
            ));
        }
    }

    fn find(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(format!("partition {}: {what}", self.partition));
        }
    }

    /// The next sequence expected of a producer; 0 if nothing of it was seen.
    #[must_use]
    pub fn next_sequence(&self, run: u64, producer: u32) -> u64 {
        self.producers.get(&(run, producer)).map_or(0, |s| s.next)
    }

    /// The verdict, with what was acknowledged on this partition and never came counted as lost, and
    /// the first findings in words.
    #[must_use]
    pub fn finish(mut self, acked: &BTreeMap<Stream, Acked>) -> (Verdict, Vec<String>) {
        for (stream, acked) in acked {
            let seen = self.producers.get(&(stream.run, stream.producer));
            let next = seen.map_or(0, |s| s.next);
            let absent = |sequence: &u64| {
                *sequence >= next || seen.is_some_and(|s| s.missing.contains(sequence))
            };
            let missing = seen.map_or(0, |s| s.missing.range(..acked.end).count() as u64);
            let refused =
                acked.failed.iter().filter(|s| **s < acked.end && absent(s)).count() as u64;
            let lost = missing + acked.end.saturating_sub(next) - refused;
            self.verdict.lost += lost;
            if lost > 0 {
                self.find(format!(
                    "lost: {lost} batches of producer {} that were acknowledged",
                    stream.producer
                ));
            }
        }
        (self.verdict, self.findings)
    }
}

/// Sequences of one producer that are remembered as missing at most.
const MISSING_MAX: usize = 1 << 20;
/// Findings of one partition that are put into words.
const FINDINGS_MAX: usize = 8;

/// Whether the records of a batch are the template's, whatever its stamp.
fn same_records(batch: &BatchView<'_>, template: &Template) -> bool {
    let (got, sent) = (batch.payload(), &template.bytes()[HEADER_SIZE..]);
    let stamp_ends = template.head_bytes() - HEADER_SIZE;
    let stamp_at = stamp_ends - STAMP_BYTES;
    got.len() == sent.len()
        && got[..stamp_at] == sent[..stamp_at]
        && got[stamp_ends..] == sent[stamp_ends..]
}

#[cfg(test)]
mod tests;
