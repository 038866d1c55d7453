use super::*;

fn producer(epoch: i16, base_sequence: i32) -> Producer {
    Producer { id: 7, epoch, base_sequence }
}

/// Appends as a partition does: what is new gets the next offset.
struct Partition {
    producers: Producers,
    end: i64,
}

impl Partition {
    fn new() -> Partition {
        Partition { producers: Producers::default(), end: 0 }
    }

    fn send(&mut self, epoch: i16, sequence: i32, records: i32) -> Result<i64, ProducerError> {
        let producer = producer(epoch, sequence);
        match self.producers.check(producer, records - 1)? {
            Verdict::Duplicate(batch) => Ok(batch.base_offset().0),
            Verdict::New => {
                let base = self.end;
                self.end += i64::from(records);
                let batch = ProducerBatch {
                    last_sequence: sequence_plus(sequence, records - 1),
                    offset_delta: records - 1,
                    last_offset: Offset(self.end - 1),
                    timestamp: Timestamp(1_000 + base),
                    round: 3,
                };
                self.producers.append(producer, batch);
                Ok(base)
            }
        }
    }
}

#[test]
fn the_last_five_batches_are_known_again() {
    let mut partition = Partition::new();
    for sequence in 0..6 {
        assert_eq!(partition.send(0, sequence * 10, 10), Ok(i64::from(sequence) * 10));
    }
    for sequence in 1..6 {
        assert_eq!(partition.send(0, sequence * 10, 10), Ok(i64::from(sequence) * 10));
    }
    assert_eq!(partition.end, 60);
    // The first is forgotten, and another size is another batch.
    let refused = |sequence| Err(ProducerError::OutOfOrder { id: 7, epoch: 0, sequence, last: 59 });
    assert_eq!(partition.send(0, 0, 10), refused(0));
    assert_eq!(partition.send(0, 50, 9), refused(50));
    assert_eq!(partition.send(0, 61, 1), refused(61));
    assert_eq!(partition.send(0, 60, 1), Ok(60));
}

#[test]
fn an_unknown_producer_begins_where_it_likes() {
    let mut partition = Partition::new();
    assert_eq!(partition.send(3, 1234, 2), Ok(0));
    assert_eq!(partition.send(3, 1236, 1), Ok(2));
    assert_eq!(partition.send(3, 1234, 2), Ok(0));
}

#[test]
fn a_new_epoch_begins_at_0_and_fences_the_old_one() {
    let mut partition = Partition::new();
    assert_eq!(partition.send(1, 0, 5), Ok(0));
    let skipped = ProducerError::OutOfOrder { id: 7, epoch: 2, sequence: 5, last: -1 };
    assert_eq!(partition.send(2, 5, 1), Err(skipped));
    assert_eq!(partition.send(2, 0, 5), Ok(5));
    let old = ProducerError::OldEpoch { id: 7, epoch: 1, current: 2 };
    // Not even a duplicate is one any more.
    assert_eq!(partition.send(1, 0, 5), Err(old));
    assert_eq!(partition.send(1, 5, 1), Err(old));
    assert_eq!(partition.send(2, 0, 5), Ok(5));
}

#[test]
fn sequences_wrap_to_0() {
    let mut partition = Partition::new();
    assert_eq!(partition.send(0, i32::MAX - 1, 2), Ok(0));
    assert_eq!(partition.send(0, 0, 3), Ok(2));
    assert_eq!(partition.send(0, i32::MAX - 1, 2), Ok(0));

    // In the middle of a batch: MAX - 1, MAX, 0, 1.
    let mut partition = Partition::new();
    assert_eq!(partition.send(0, i32::MAX - 1, 4), Ok(0));
    assert_eq!(partition.send(0, 2, 1), Ok(4));
    assert_eq!(partition.send(0, i32::MAX - 1, 4), Ok(0));
    assert!(partition.send(0, 2, 2).is_err());
    let batch = ProducerBatch { last_sequence: 1, offset_delta: 3, ..Default::default() };
    assert_eq!(batch.first_sequence(), i32::MAX - 1);
}

#[test]
fn checkpoints_keep_everything_and_snapshots_the_last_batch() {
    let mut partition = Partition::new();
    for sequence in 0..7 {
        partition.send(4, sequence, 1).unwrap();
    }
    let again = Producers::from_checkpoint(&partition.producers.checkpoint());
    assert_eq!(again.checkpoint(), partition.producers.checkpoint());
    let known = again.check(producer(4, 2), 0).unwrap();
    assert!(matches!(known, Verdict::Duplicate(b) if b.base_offset().0 == 2 && b.round == 0));

    let bytes = partition.producers.snapshot();
    assert_eq!(bytes.len(), 10 + 46);
    let again = Producers::from_snapshot(&bytes).unwrap();
    assert_eq!(again.snapshot(), bytes);
    let known = again.check(producer(4, 6), 0).unwrap();
    assert!(matches!(known, Verdict::Duplicate(b) if b.base_offset().0 == 6));
    assert!(again.check(producer(4, 5), 0).is_err());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(Producers::from_snapshot(&bad).is_none(), "byte {at}");
        assert!(Producers::from_snapshot(&bytes[..at]).is_none(), "cut at {at}");
    }
}

#[test]
fn a_snapshot_has_kafkas_bytes() {
    let mut producers = Producers::default();
    let batch = ProducerBatch {
        last_sequence: 9,
        offset_delta: 4,
        last_offset: Offset(104),
        timestamp: Timestamp(1_700_000_000_000),
        round: 0,
    };
    producers.append(Producer { id: 0x1_0000_0001, epoch: 2, base_sequence: 5 }, batch);
    let hex: String = producers.snapshot().iter().map(|b| format!("{b:02x}")).collect();
    // Version 1, CRC, one entry: id, epoch, last sequence, last offset, delta, timestamp, -1, -1.
    assert_eq!(&hex[..4], "0001");
    assert_eq!(
        &hex[12..],
        "00000001000000010000000100020000000900000000000000680000000400000\
         18bcfe56800ffffffffffffffffffffffff"
    );
}

#[test]
fn producers_expire_by_their_records_time() {
    let mut partition = Partition::new();
    partition.send(0, 0, 1).unwrap();
    partition.producers.expire(Timestamp(1_999), 1_000);
    assert!(!partition.producers.is_empty());
    partition.producers.expire(Timestamp(2_000), 1_000);
    assert!(partition.producers.is_empty());
}

#[test]
fn the_longest_silent_make_room() {
    let mut producers = Producers::default();
    let max = i64::try_from(PRODUCERS_PER_PARTITION_MAX).unwrap();
    let mut forgotten = 0;
    for id in 0..max + 10 {
        let batch = ProducerBatch { last_offset: Offset(id), ..Default::default() };
        forgotten += producers.append(Producer { id, epoch: 0, base_sequence: 0 }, batch);
        assert!(producers.iter().count() <= PRODUCERS_PER_PARTITION_MAX);
    }
    assert!(forgotten > 0);
    let first = producers.iter().next().map(|(id, _)| id).unwrap();
    assert_eq!(first, i64::try_from(forgotten).unwrap());
}
