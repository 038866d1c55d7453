//! Batches dropped, doubled, exchanged and changed, and what the oracle says.

use millstream::record::stamp as place;
use millstream::time::Timestamp;
use millstream::types::{LeaderEpoch, Offset};

use super::*;
use crate::batches::{Stamp, Template};

const RUN: u64 = 42;

fn template() -> Template {
    Template::new(600, 100, Timestamp(1_700_000_000_000)).unwrap()
}

/// A partition that received these sequences of producer 0, one behind the other.
fn partition(sequences: &[u64]) -> Vec<Vec<u8>> {
    let template = template();
    let records = i64::from(template.records());
    let batch = |(i, sequence): (usize, &u64)| {
        let mut bytes =
            template.stamped(Stamp { run: RUN, sequence: *sequence, ..Stamp::default() });
        place(&mut bytes, Offset(i as i64 * records), LeaderEpoch(0)).unwrap();
        bytes
    };
    sequences.iter().enumerate().map(batch).collect()
}

fn acked(end: u64, failed: &[u64]) -> BTreeMap<Stream, Acked> {
    let stream = Stream { run: RUN, partition: 0, producer: 0 };
    BTreeMap::from([(stream, Acked { end, failed: failed.iter().copied().collect() })])
}

fn judge(batches: &[Vec<u8>], acked: &BTreeMap<Stream, Acked>) -> Verdict {
    let mut oracle = PartitionOracle::new(Depth::Bytes, 0, 0, false);
    oracle.observe(&batches.concat(), &Known::default(), |_, _| ());
    let (verdict, findings) = oracle.finish(acked);
    assert_eq!(verdict.is_clean() && verdict.gaps == 0, findings.is_empty(), "{findings:?}");
    verdict
}

#[test]
fn all_in_order_is_clean() {
    let verdict = judge(&partition(&[0, 1, 2, 3]), &acked(4, &[]));
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.batches, verdict.gaps), (4, 0));
    assert_eq!(verdict.records, 4 * u64::from(template().records()));
}

#[test]
fn a_fetch_that_ends_inside_a_batch_is_clean() {
    let bytes = partition(&[0, 1]).concat();
    let mut oracle = PartitionOracle::new(Depth::Bytes, 0, 0, false);
    oracle.observe(&bytes[..bytes.len() - 1], &Known::default(), |_, _| ());
    assert_eq!(oracle.next_offset(), i64::from(template().records()));
    assert!(oracle.finish(&acked(1, &[])).0.is_clean());
}

#[test]
fn an_acknowledged_batch_that_is_absent_is_lost() {
    // At the end, in the middle, and all of them.
    assert_eq!(judge(&partition(&[0, 1]), &acked(4, &[])).lost, 2);
    let middle = judge(&partition(&[0, 2, 3]), &acked(4, &[]));
    assert_eq!((middle.lost, middle.gaps), (1, 1));
    assert_eq!(judge(&[], &acked(3, &[])).lost, 3);
}

#[test]
fn a_batch_never_acknowledged_may_be_absent_or_present() {
    assert!(judge(&partition(&[0, 1, 2, 3, 4]), &acked(3, &[])).is_clean());
    assert!(judge(&partition(&[0, 1, 3]), &acked(4, &[2])).is_clean());
    assert!(judge(&partition(&[0, 1, 2, 3]), &acked(4, &[2])).is_clean());
    assert!(judge(&partition(&[0, 1]), &acked(4, &[2, 3])).is_clean());
}

#[test]
fn a_batch_that_comes_twice_is_a_duplicate() {
    let verdict = judge(&partition(&[0, 1, 1, 2]), &acked(3, &[]));
    assert_eq!((verdict.duplicates, verdict.reorders, verdict.lost), (1, 0, 0));
    let mut again = partition(&[0, 1]);
    again.push(again[1].clone());
    assert_eq!(judge(&again, &acked(2, &[])).duplicates, 1, "offsets that go back");
}

#[test]
fn exchanged_batches_are_a_reorder() {
    let verdict = judge(&partition(&[0, 2, 1, 3]), &acked(4, &[]));
    assert_eq!((verdict.reorders, verdict.duplicates, verdict.gaps, verdict.lost), (1, 0, 0, 0));
    assert!(!verdict.is_clean());
}

#[test]
fn changed_bytes_are_corrupt() {
    let mut batches = partition(&[0, 1, 2]);
    *batches[1].last_mut().unwrap() ^= 1;
    let verdict = judge(&batches, &BTreeMap::new());
    assert_eq!((verdict.corrupt, verdict.batches), (1, 3));
    // A length that no longer leads to the next batch.
    let mut batches = partition(&[0, 1, 2]);
    batches[1][11] ^= 0x40;
    assert!(
        judge(&batches, &BTreeMap::new()).corrupt > 0 || judge(&batches, &acked(3, &[])).lost > 0
    );
}

#[test]
fn skipped_offsets_are_counted() {
    let mut batches = partition(&[0, 1, 2]);
    batches.remove(1);
    assert_eq!(judge(&batches, &BTreeMap::new()).offset_gaps, 1);
}

#[test]
fn reading_from_the_middle_expects_nothing_before() {
    let batches = partition(&[0, 1, 2, 3]);
    let records = i64::from(template().records());
    let mut oracle = PartitionOracle::new(Depth::Framing, 0, 2 * records + 1, true);
    oracle.observe(&batches[2..].concat(), &Known::default(), |_, _| ());
    let (verdict, _) = oracle.finish(&BTreeMap::new());
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.batches, verdict.gaps), (2, 0));
}

#[test]
fn bytes_changed_under_a_right_crc_are_corrupt_where_the_sender_looks() {
    let sender = Known { run: RUN, templates: vec![template()] };
    let mut batches = partition(&[0, 1, 2]);
    *batches[1].last_mut().unwrap() ^= 1;
    // A broker that rewrites the batch gets its CRC right.
    let crc = crc32c::crc32c(&batches[1][21..]);
    batches[1][17..21].copy_from_slice(&crc.to_be_bytes());
    let judge = |known: &Known| {
        let mut oracle = PartitionOracle::new(Depth::Bytes, 0, 0, false);
        let mut told = 0;
        oracle.observe(&batches.concat(), known, |_, _| told += 1);
        (oracle.finish(&BTreeMap::new()).0.corrupt, told)
    };
    assert_eq!(judge(&sender), (1, 2));
    assert_eq!(judge(&Known::default()), (0, 3), "another process cannot know");
}

#[test]
fn a_header_rewritten_with_its_crc_is_clean() {
    let sender = Known { run: RUN, templates: vec![template()] };
    let mut batches = partition(&[0, 1]);
    for batch in &mut batches {
        // Log append time: attributes and the greatest timestamp.
        batch[22] |= 8;
        batch[35..43].copy_from_slice(&5_i64.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let mut oracle = PartitionOracle::new(Depth::Bytes, 0, 0, false);
    oracle.observe(&batches.concat(), &sender, |_, _| ());
    assert!(oracle.finish(&BTreeMap::new()).0.is_clean());
}
