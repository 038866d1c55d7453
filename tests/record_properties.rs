//! Random records through builder, codecs and checks; damaged bytes; and the `kafka-protocol` crate as
//! a second opinion on the format. A failing case is saved and replayed by proptest.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use millstream::record::{
    Attributes, BatchBuilder, BatchError, BatchView, Codec, Producer, Validation, ValidationRules,
    batches, decompress, records, validate_produce,
};
use millstream::time::Timestamp;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Record {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

fn some_records() -> impl Strategy<Value = Vec<Record>> {
    let bytes = |max| proptest::option::of(proptest::collection::vec(any::<u8>(), 0..max));
    let header = ("[a-z]{0,5}", bytes(10));
    let record =
        (0..4_000_000_000_000i64, bytes(30), bytes(300), proptest::collection::vec(header, 0..3))
            .prop_map(|(timestamp, key, value, headers)| Record { timestamp, key, value, headers });
    proptest::collection::vec(record, 1..40)
}

fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(&Codec::ALL[..])
}

fn build(records: &[Record], codec: Codec) -> Result<Vec<u8>, BatchError> {
    let mut builder =
        BatchBuilder::new().codec(codec).producer(Producer { id: 9, epoch: 2, base_sequence: 77 });
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.record_with_headers(Timestamp(record.timestamp), key, value, &headers);
    }
    builder.build()
}

fn walk(batch: &[u8]) -> Result<Vec<Record>, Box<dyn std::error::Error>> {
    let batch = BatchView::parse(batch)?;
    let codec = batch.header().attributes().codec().ok_or("codec")?;
    let payload = decompress(codec, batch.payload(), 1 << 24)?;
    let mut walked = Vec::new();
    for record in records(&payload) {
        let record = record?;
        if usize::try_from(record.offset_delta) != Ok(walked.len()) {
            return Err("offset delta".into());
        }
        let headers = record.headers.map(|(name, value)| {
            Ok::<_, std::string::FromUtf8Error>((
                String::from_utf8(name.to_vec())?,
                value.map(<[u8]>::to_vec),
            ))
        });
        walked.push(Record {
            timestamp: batch.header().base_timestamp().0.wrapping_add(record.timestamp_delta),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect::<Result<_, _>>()?,
        });
    }
    Ok(walked)
}

/// Rules that accept every timestamp, and look into compressed batches.
fn rules() -> ValidationRules {
    let defaults = ValidationRules::kafka_defaults(Timestamp(0));
    ValidationRules { timestamp_after_ms_max: i64::MAX, validation: Validation::Full, ..defaults }
}

proptest! {
    #[test]
    fn what_is_built_is_read(expected in some_records(), codec in codec()) {
        let batch = build(&expected, codec)?;
        let summary = validate_produce(&batch, &rules())?;
        prop_assert!(summary.max_timestamp_declared);
        prop_assert_eq!(Some(summary.max_timestamp.0), expected.iter().map(|record| record.timestamp).max());
        prop_assert_eq!(usize::try_from(summary.records_count)?, expected.len());
        prop_assert_eq!(summary.codec, codec);
        prop_assert_eq!(walk(&batch).map_err(|e| TestCaseError::fail(e.to_string()))?, expected);
    }

    #[test]
    fn a_cut_batch_is_refused(records in some_records(), codec in codec()) {
        let batch = build(&records, codec)?;
        for length in 0..batch.len() {
            let cut = batch.get(..length).unwrap_or_default();
            prop_assert!(validate_produce(cut, &rules()).is_err());
            prop_assert!(batches(cut).all(|batch| batch.is_err()));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed(records in some_records(), codec in codec(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut batch = build(&records, codec)?;
        let at = at.index(batch.len());
        batch[at] ^= flip;
        // Only the leader epoch means nothing in a produce request.
        prop_assert_eq!(validate_produce(&batch, &rules()).is_ok(), (12..16).contains(&at));
    }

    #[test]
    fn a_forged_batch_never_panics(
        records in some_records(),
        codec in codec(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut batch = build(&records, codec)?;
        for (at, byte) in changes {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        let crc = crc32c::crc32c(batch.get(21..).unwrap_or_default());
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        // Whatever passes must be readable to the end.
        if let Ok(summary) = validate_produce(&batch, &rules()) {
            let view = BatchView::parse(&batch)?;
            let payload = decompress(summary.codec, view.payload(), 1 << 27)
                .map_err(|e| TestCaseError::fail(e.to_string()))?;
            let read = millstream::record::records(&payload).filter(Result::is_ok).count();
            prop_assert_eq!(read, usize::try_from(summary.records_count)?);
        }
        let _ = walk(&batch);
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(validate_produce(&noise, &rules()).is_err());
        let _ = batches(&noise).count() + records(&noise).count();
    }

    #[test]
    fn the_oracle_reads_what_we_build(expected in some_records(), codec in codec()) {
        let mut batch = Bytes::from(build(&expected, codec)?);
        let set = oracle::RecordBatchDecoder::decode(&mut batch).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(batch.is_empty());
        for record in &set.records {
            prop_assert_eq!((record.producer_id, record.producer_epoch), (9, 2));
        }
        let read: Vec<Record> = set.records.into_iter().map(from_oracle).collect();
        prop_assert_eq!(read, unique_headers(expected));
    }

    #[test]
    fn we_read_what_the_oracle_builds(expected in some_records(), codec in codec()) {
        let expected = unique_headers(expected);
        let records: Vec<_> = expected.iter().zip(0..).map(|(record, index)| to_oracle(record, index)).collect();
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(codec) };
        let mut batch = BytesMut::new();
        oracle::RecordBatchEncoder::encode(&mut batch, &records, &options)
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        validate_produce(&batch, &rules())?;
        prop_assert_eq!(walk(&batch).map_err(|e| TestCaseError::fail(e.to_string()))?, expected);
    }
}

#[test]
fn batches_follow_one_another() -> Result<(), Box<dyn std::error::Error>> {
    let mut one = BatchBuilder::new().attributes(Attributes::default().transactional().control());
    one.record(Timestamp(1), Some(b"k"), None);
    let one = one.build()?;
    let log = [one.as_slice(), &one, one.get(..30).unwrap_or_default()].concat();
    let mut walk = batches(&log);
    for _ in 0..2 {
        let batch = walk.next().ok_or("a batch")??;
        assert!(batch.crc_valid() && batch.header().attributes().is_control());
    }
    assert_eq!(walk.next().map(|batch| batch.err()), Some(Some(BatchError::Truncated)));
    assert_eq!(walk.position(), 2 * one.len());
    assert!(walk.next().is_none());
    Ok(())
}

fn oracle_codec(codec: Codec) -> oracle::Compression {
    match codec {
        Codec::None => oracle::Compression::None,
        Codec::Gzip => oracle::Compression::Gzip,
        Codec::Snappy => oracle::Compression::Snappy,
        Codec::Lz4 => oracle::Compression::Lz4,
        Codec::Zstd => oracle::Compression::Zstd,
    }
}

/// The oracle keeps headers in a map: of two with one name, the last value at the first place.
fn unique_headers(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        let map: IndexMap<_, _> = record.headers.drain(..).collect();
        record.headers.extend(map);
    }
    records
}

fn from_oracle(record: oracle::Record) -> Record {
    let headers = record
        .headers
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.map(|v| v.to_vec())));
    Record {
        timestamp: record.timestamp,
        key: record.key.map(|key| key.to_vec()),
        value: record.value.map(|value| value.to_vec()),
        headers: headers.collect(),
    }
}

fn to_oracle(record: &Record, index: i32) -> oracle::Record {
    let header = |(name, value): &(String, Option<Vec<u8>>)| {
        (StrBytes::from_string(name.clone()), value.clone().map(Bytes::from))
    };
    oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 9,
        producer_epoch: 2,
        timestamp_type: oracle::TimestampType::Creation,
        offset: i64::from(index),
        sequence: 77 + index,
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: record.headers.iter().map(header).collect(),
    }
}
