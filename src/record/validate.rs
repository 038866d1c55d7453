//! What a broker checks of the records that a producer sends for one partition.
//!
//! The behaviour is Kafka's: `ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords`
//! and `LogValidator`, for format 2, with `record.validation=framing`. It differs on purpose:
//! - Compressed records are not looked at: only the header's count, offsets and timestamps are.
//! - An uncompressed record's offset delta must be its index, and a null length must be -1.
//! - A broken tail behind the batch is refused, not dropped.
//! - Append time set by a producer is refused whatever the time.
//!
//! One pass for the CRC, one over the framing while the bytes are hot; nothing is allocated.

use super::batch::BatchView;
use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, Codec, Producer, TimestampType};
use super::varint::Reader;
use crate::time::Timestamp;

/// What a topic accepts, and the time.
#[derive(Clone, Copy, Debug)]
pub struct ValidationRules {
    /// The greatest size of a whole batch: the topic's `max.message.bytes`.
    pub message_bytes_max: usize,
    /// The topic's `message.timestamp.type`. With append time, timestamps are not checked.
    pub timestamp_type: TimestampType,
    /// The topic's `message.timestamp.before.max.ms`.
    pub timestamp_before_ms_max: i64,
    /// The topic's `message.timestamp.after.max.ms`.
    pub timestamp_after_ms_max: i64,
    /// The time of the append.
    pub now: Timestamp,
    /// Whether every record needs a key: the topic is compacted. Not checked of compressed records.
    pub keys_required: bool,
    /// Whether zstd is allowed: not before version 7 of Produce (KIP-110).
    pub zstd_allowed: bool,
}

impl ValidationRules {
    /// The rules of a topic with Kafka 4's defaults.
    #[must_use]
    pub fn kafka_defaults(now: Timestamp) -> ValidationRules {
        ValidationRules {
            message_bytes_max: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: 3_600_000,
            now,
            keys_required: false,
            zstd_allowed: true,
        }
    }
}

/// What an append needs to know of a valid batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSummary {
    /// The whole batch's size.
    pub size: usize,
    /// The number of records, at least one.
    pub records_count: i32,
    /// The distance from the first to the last offset.
    pub last_offset_delta: i32,
    /// What the timestamp deltas start from.
    pub base_timestamp: Timestamp,
    /// The greatest timestamp: counted, or declared if the records are compressed.
    pub max_timestamp: Timestamp,
    /// Whether the header declares this `max_timestamp`. If not, Kafka corrects it, by
    /// [`set_max_timestamp`](super::set_max_timestamp), for the time index and consumers rely on it.
    pub max_timestamp_declared: bool,
    /// The codec.
    pub codec: Codec,
    /// The idempotent producer, if it is one.
    pub producer: Option<Producer>,
}

/// Checks the records of one partition in a Produce request: one whole batch, acceptable to a topic.
///
/// # Errors
/// The first cause found, in Kafka's order.
pub fn validate_produce(bytes: &[u8], rules: &ValidationRules) -> Result<BatchSummary, BatchError> {
    let batch = only_batch(bytes)?;
    let header = batch.header();
    let attributes = header.attributes();
    if attributes.codec() == Some(Codec::Zstd) && !rules.zstd_allowed {
        return Err(BatchError::CodecNotAllowed { codec: Codec::Zstd });
    }
    if header.base_offset().0 != 0 {
        return Err(BatchError::BaseOffset {
            base_offset: header.base_offset().0,
        });
    }
    if batch.size() > rules.message_bytes_max {
        return Err(BatchError::TooLarge {
            size: batch.size(),
            size_max: rules.message_bytes_max,
        });
    }
    if !batch.crc_valid() {
        return Err(BatchError::Crc);
    }
    let codec = attributes.codec().ok_or(BatchError::UnknownCodec {
        id: attributes.codec_id(),
    })?;
    check_header(header)?;

    let times = Times::new(rules);
    let max_timestamp = if codec == Codec::None {
        check_records(&batch, &times, rules.keys_required)?
    } else {
        check_declared_times(header, &times)?
    };
    Ok(BatchSummary {
        size: batch.size(),
        records_count: header.records_count(),
        last_offset_delta: header.last_offset_delta(),
        base_timestamp: header.base_timestamp(),
        max_timestamp: Timestamp(max_timestamp),
        max_timestamp_declared: header.max_timestamp().0 == max_timestamp,
        codec,
        producer: header.producer(),
    })
}

/// The batch that `bytes` must consist of.
fn only_batch(bytes: &[u8]) -> Result<BatchView<'_>, BatchError> {
    if bytes.is_empty() {
        return Err(BatchError::Empty);
    }
    let batch = BatchView::parse(bytes)?;
    if batch.size() < bytes.len() {
        return Err(BatchError::MoreThanOne);
    }
    Ok(batch)
}

/// The checks that need the header only.
fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    let (records_count, last_offset_delta) = (header.records_count(), header.last_offset_delta());
    if records_count <= 0 || last_offset_delta != records_count - 1 {
        return Err(BatchError::Count {
            records_count,
            last_offset_delta,
        });
    }
    let attributes = header.attributes();
    if attributes.is_control() {
        return Err(BatchError::Control);
    }
    if attributes.is_transactional() {
        return Err(BatchError::Transactional);
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::LogAppendTime);
    }
    match header.producer() {
        Some(Producer { base_sequence, .. }) if base_sequence < 0 => {
            Err(BatchError::Sequence { base_sequence })
        }
        _ => Ok(()),
    }
}

/// The accepted timestamps.
struct Times {
    earliest: i64,
    latest: i64,
}

/// The timestamp of a record without one; always accepted.
const NO_TIMESTAMP: i64 = -1;

impl Times {
    fn new(rules: &ValidationRules) -> Times {
        match rules.timestamp_type {
            TimestampType::CreateTime => Times {
                earliest: rules.now.0.saturating_sub(rules.timestamp_before_ms_max),
                latest: rules.now.0.saturating_add(rules.timestamp_after_ms_max),
            },
            TimestampType::LogAppendTime => Times {
                earliest: i64::MIN,
                latest: i64::MAX,
            },
        }
    }

    #[inline(always)]
    fn accept(&self, timestamp: i64) -> bool {
        (self.earliest <= timestamp && timestamp <= self.latest) || timestamp == NO_TIMESTAMP
    }
}

/// What can be said of compressed records' timestamps: the first record's is the base timestamp, and
/// none is greater than the greatest. Gives the greatest.
fn check_declared_times(header: &BatchHeader, times: &Times) -> Result<i64, BatchError> {
    let declared = [header.base_timestamp().0, header.max_timestamp().0];
    match declared
        .into_iter()
        .find(|timestamp| !times.accept(*timestamp))
    {
        Some(timestamp) => Err(BatchError::Timestamp {
            timestamp,
            index: None,
        }),
        None => Ok(header.max_timestamp().0),
    }
}

/// Walks uncompressed records. Gives their greatest timestamp.
fn check_records(
    batch: &BatchView<'_>,
    times: &Times,
    keys_required: bool,
) -> Result<i64, BatchError> {
    let base_timestamp = batch.header().base_timestamp().0;
    let mut records = Reader {
        rest: batch.payload(),
    };
    let mut greatest = NO_TIMESTAMP;
    for index in 0..batch.header().records_count() {
        let (delta, has_key) = check_record(&mut records, index)
            .map_err(|fault| BatchError::Record { index, fault })?;
        if keys_required && !has_key {
            return Err(BatchError::Record {
                index,
                fault: RecordFault::NoKey,
            });
        }
        let timestamp = base_timestamp.wrapping_add(delta);
        if !times.accept(timestamp) {
            return Err(BatchError::Timestamp {
                timestamp,
                index: Some(index),
            });
        }
        greatest = greatest.max(timestamp);
    }
    if records.rest.is_empty() {
        Ok(greatest)
    } else {
        Err(BatchError::TrailingBytes)
    }
}

/// Checks one record's framing and that its offset delta is `index`. Gives its timestamp delta, and
/// whether it has a key.
#[inline(always)]
fn check_record(records: &mut Reader<'_>, index: i32) -> Result<(i64, bool), RecordFault> {
    let size = usize::try_from(records.varint()?).map_err(|_| RecordFault::NegativeLength)?;
    let mut record = Reader {
        rest: records.take(size)?,
    };
    let _attributes = record.byte()?;
    let timestamp_delta = record.varlong()?;
    if record.varint()? != index {
        return Err(RecordFault::OffsetDelta);
    }
    let has_key = record.nullable()?.is_some();
    let _value = record.nullable()?;
    let headers_count = record.varint()?;
    if headers_count != 0 {
        check_headers(&mut record, headers_count)?;
    }
    if record.rest.is_empty() {
        Ok((timestamp_delta, has_key))
    } else {
        Err(RecordFault::TrailingBytes)
    }
}

fn check_headers(record: &mut Reader<'_>, headers_count: i32) -> Result<(), RecordFault> {
    if headers_count < 0 {
        return Err(RecordFault::NegativeLength);
    }
    for _ in 0..headers_count {
        let _key = record.nullable()?.ok_or(RecordFault::NegativeLength)?;
        let _value = record.nullable()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
