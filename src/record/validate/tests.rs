//! Every refusal, from a batch that is right but for one thing.

use super::*;
use crate::record::{Attributes, BatchBuilder, set_max_timestamp, stamp};
use crate::types::{LeaderEpoch, Offset};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn rules() -> ValidationRules {
    ValidationRules::kafka_defaults(NOW)
}

fn sample() -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.record(NOW, Some(b"key"), Some(b"value"));
    builder.record_with_headers(
        Timestamp(NOW.0 + 5),
        None,
        Some(b"x"),
        &[("h", Some(b"1")), ("n", None)],
    );
    builder.record(Timestamp(NOW.0 - 5), Some(b""), None);
    builder.build().unwrap()
}

/// A batch of one record with these bytes behind its attributes.
fn with_record(fields: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.record(NOW, None, None);
    let mut batch = builder.build().unwrap();
    batch.truncate(HEADER);
    batch.push(u8::try_from((fields.len() + 1) * 2).unwrap());
    batch.push(0);
    batch.extend_from_slice(fields);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    seal(batch)
}

const HEADER: usize = 61;

/// Corrects the CRC.
fn seal(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// The sample with other bytes at a place of its header, and the right CRC.
fn altered(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = sample();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(batch)
}

fn refusal(batch: &[u8]) -> (BatchError, i16) {
    let error = validate_produce(batch, &rules()).unwrap_err();
    assert!(!error.to_string().is_empty());
    (error, error.error_code())
}

fn record_fault(fields: &[u8]) -> RecordFault {
    match refusal(&with_record(fields)) {
        (BatchError::Record { index: 0, fault }, 87) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_right_batch_is_summed_up() {
    let batch = sample();
    let summary = validate_produce(&batch, &rules()).unwrap();
    let expected = BatchSummary {
        size: batch.len(),
        records_count: 3,
        last_offset_delta: 2,
        base_timestamp: NOW,
        max_timestamp: Timestamp(NOW.0 + 5),
        max_timestamp_declared: true,
        codec: Codec::None,
        producer: None,
    };
    assert_eq!(summary, expected);
}

#[test]
fn borders_and_header() {
    let batch = sample();
    assert_eq!(refusal(&[]), (BatchError::Empty, 87));
    assert_eq!(refusal(&batch[..batch.len() - 1]), (BatchError::Truncated, 87));
    assert_eq!(refusal(&[batch.as_slice(), &batch].concat()), (BatchError::MoreThanOne, 87));
    assert_eq!(
        refusal(&altered(8, &48i32.to_be_bytes())),
        (BatchError::BatchLength { length: 48 }, 2)
    );
    assert_eq!(
        refusal(&altered(8, &i32::MIN.to_be_bytes())),
        (BatchError::BatchLength { length: i32::MIN }, 2)
    );
    assert_eq!(refusal(&altered(16, &[1])), (BatchError::Magic { magic: 1 }, 87));
    assert_eq!(refusal(&altered(16, &[0xff])), (BatchError::Magic { magic: -1 }, 2));
    assert_eq!(
        refusal(&altered(0, &7i64.to_be_bytes())),
        (BatchError::BaseOffset { base_offset: 7 }, 87)
    );
    assert_eq!(refusal(&altered(22, &[5])), (BatchError::UnknownCodec { id: 5 }, -1));
    assert_eq!(refusal(&altered(22, &[0x20])), (BatchError::Control, 87));
    assert_eq!(refusal(&altered(22, &[0x10])), (BatchError::Transactional, 43));
    assert_eq!(refusal(&altered(22, &[0x08])), (BatchError::LogAppendTime, 32));
    for (last_offset_delta, records_count) in
        [(1, 3), (2, 2), (-1, 0), (-2, -1), (i32::MAX, i32::MIN)]
    {
        let mut batch = altered(23, &i32::to_be_bytes(last_offset_delta));
        batch[57..61].copy_from_slice(&records_count.to_be_bytes());
        assert_eq!(
            refusal(&seal(batch)),
            (BatchError::Count { records_count, last_offset_delta }, 87)
        );
    }
    assert_eq!(
        refusal(&altered(43, &9i64.to_be_bytes())),
        (BatchError::Sequence { base_sequence: -1 }, 87)
    );
    let mut damaged = batch.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(refusal(&damaged), (BatchError::Crc, 2));
}

#[test]
fn the_size_limit_counts_the_whole_batch() {
    let batch = sample();
    let limited = |message_bytes_max| ValidationRules { message_bytes_max, ..rules() };
    assert!(validate_produce(&batch, &limited(batch.len())).is_ok());
    let error = validate_produce(&batch, &limited(batch.len() - 1)).unwrap_err();
    assert_eq!(
        (error.error_code(), error),
        (10, BatchError::TooLarge { size: batch.len(), size_max: batch.len() - 1 })
    );
}

#[test]
fn records() {
    assert!(validate_produce(&with_record(&[0, 0, 1, 1, 0]), &rules()).is_ok());
    assert_eq!(record_fault(&[0, 2, 1, 1, 0]), RecordFault::OffsetDelta);
    assert_eq!(record_fault(&[0, 0, 3, 1, 0]), RecordFault::NegativeLength);
    assert_eq!(record_fault(&[0, 0, 20, 1, 0]), RecordFault::Truncated);
    assert_eq!(record_fault(&[0, 0, 1, 20, 0]), RecordFault::Truncated);
    assert_eq!(record_fault(&[0, 0, 1, 1, 1]), RecordFault::NegativeLength);
    assert_eq!(record_fault(&[0, 0, 1, 1, 2]), RecordFault::Truncated);
    assert_eq!(
        record_fault(&[0, 0, 1, 1, 2, 1, 1]),
        RecordFault::NegativeLength,
        "a header without a name"
    );
    assert_eq!(record_fault(&[0, 0, 1, 1, 0, 0]), RecordFault::TrailingBytes);
    assert_eq!(record_fault(&[0xff; 20]), RecordFault::VarintTooLong);

    let mut batch = altered(57, &2i32.to_be_bytes());
    batch[23..27].copy_from_slice(&1i32.to_be_bytes());
    assert_eq!(refusal(&seal(batch)), (BatchError::TrailingBytes, 87), "fewer records declared");
    let mut batch = altered(57, &4i32.to_be_bytes());
    batch[23..27].copy_from_slice(&3i32.to_be_bytes());
    let fault = RecordFault::Truncated;
    assert_eq!(
        refusal(&seal(batch)),
        (BatchError::Record { index: 3, fault }, 87),
        "more records declared"
    );
}

#[test]
fn a_compacted_topic_wants_keys() {
    let rules = ValidationRules { keys_required: true, ..rules() };
    let error = validate_produce(&sample(), &rules).unwrap_err();
    assert_eq!(error, BatchError::Record { index: 1, fault: RecordFault::NoKey });
    assert_eq!(error.record_index(), Some(1));

    // All that are at fault are named, compressed or not.
    for codec in [Codec::None, Codec::Zstd] {
        let mut builder = BatchBuilder::new().codec(codec);
        for n in 0..9 {
            let key: Option<&[u8]> = if n % 3 == 0 { None } else { Some(b"k") };
            builder.record(NOW, key, Some(b"v"));
        }
        let rules = ValidationRules { validation: Validation::Full, ..rules };
        let batch = builder.build().unwrap();
        assert_eq!(validate_produce(&batch, &rules).unwrap_err().record_index(), Some(0));
        let refused: Vec<i32> = refused_records(&batch, &rules).iter().map(|(n, _)| *n).collect();
        assert_eq!(refused, [0, 3, 6]);
    }
}

#[test]
fn timestamps() {
    let check = |timestamp, rules: &ValidationRules| {
        let mut builder = BatchBuilder::new();
        builder.record(Timestamp(timestamp), None, None);
        validate_produce(&builder.build().unwrap(), rules).map_err(|error| error.error_code())
    };
    let narrow =
        ValidationRules { timestamp_before_ms_max: 10, timestamp_after_ms_max: 20, ..rules() };
    for timestamp in [NOW.0 - 10, NOW.0, NOW.0 + 20, NO_TIMESTAMP] {
        assert!(check(timestamp, &narrow).is_ok(), "{timestamp}");
    }
    assert_eq!(check(NOW.0 - 11, &narrow), Err(32));
    assert_eq!(check(NOW.0 + 21, &narrow), Err(32));
    assert!(check(0, &rules()).is_ok(), "by default the past has no limit");
    assert_eq!(check(NOW.0 + 3_600_001, &rules()), Err(32));
    let append_time = ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..narrow };
    assert!(check(0, &append_time).is_ok());
}

#[test]
fn a_wrong_greatest_timestamp_is_noticed_and_corrected() {
    let mut batch = altered(35, &1i64.to_be_bytes());
    let summary = validate_produce(&batch, &rules()).unwrap();
    assert!(!summary.max_timestamp_declared);
    set_max_timestamp(&mut batch, TimestampType::CreateTime, summary.max_timestamp).unwrap();
    assert_eq!(batch, sample());
}

#[test]
fn append_time_and_place_keep_the_crc_valid() {
    let mut batch = sample();
    stamp(&mut batch, Offset(1 << 40), LeaderEpoch(7)).unwrap();
    set_max_timestamp(&mut batch, TimestampType::LogAppendTime, NOW).unwrap();
    let view = BatchView::parse(&batch).unwrap();
    assert!(view.crc_valid());
    assert_eq!(view.header().last_offset(), Offset((1 << 40) + 2));
    assert_eq!(view.header().partition_leader_epoch(), LeaderEpoch(7));
    assert_eq!(view.header().max_timestamp(), NOW);
    assert_eq!(
        view.header().attributes(),
        Attributes::default().with_timestamp_type(TimestampType::LogAppendTime)
    );
}
