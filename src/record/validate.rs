//! What a broker checks of the records that a producer sends for one partition.
//!
//! The behaviour is Kafka's: `ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords`
//! and `LogValidator`, for format 2. It differs on purpose:
//! - Compressed records are not looked at unless `record.validation` is `full`.
//! - A record's offset delta must be its index, and a null length must be -1.
//! - A broken tail behind the batch is refused, not dropped.
//! - Append time set by a producer is refused whatever the time.
//!
//! One pass for the CRC, one over the framing while the bytes are hot. Only `full` allocates.

use super::batch::BatchView;
use super::compression::decompress;
use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, Codec, Producer, TimestampType};
use super::records::RecordView;
use super::varint::Reader;
use crate::limits::DECOMPRESSED_BYTES_MAX;
use crate::time::Timestamp;

/// How closely records are checked: `record.validation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Compressed records are not looked at: only the header's count, offsets and timestamps are.
    #[default]
    Framing,
    /// Compressed records are decompressed and checked as uncompressed ones.
    Full,
}

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
    /// Whether every record needs a key: the topic is compacted, and so wants [`Validation::Full`].
    pub keys_required: bool,
    /// How closely compressed records are looked at.
    pub validation: Validation,
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
            validation: Validation::Framing,
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
    /// The greatest timestamp: counted if the records were looked at, else declared.
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
        return Err(BatchError::BaseOffset { base_offset: header.base_offset().0 });
    }
    if batch.size() > rules.message_bytes_max {
        return Err(BatchError::TooLarge { size: batch.size(), size_max: rules.message_bytes_max });
    }
    if !batch.crc_valid() {
        return Err(BatchError::Crc);
    }
    let codec = attributes.codec().ok_or(BatchError::UnknownCodec { id: attributes.codec_id() })?;
    check_header(header)?;

    let times = Times::new(rules);
    let check = |payload: &[u8]| check_records(header, payload, &times, rules.keys_required);
    let max_timestamp = match (codec, rules.validation) {
        (Codec::None, _) => check(batch.payload())?,
        (_, Validation::Framing) => check_declared_times(header, &times)?,
        (_, Validation::Full) => {
            let payload = decompress(codec, batch.payload(), DECOMPRESSED_BYTES_MAX)
                .map_err(|_| BatchError::Compression { codec })?;
            check(&payload)?
        }
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

/// Every record of a refused batch that is itself at fault, with its index and why. A client takes the
/// others for innocent (KIP-467), so all must be named, as in Kafka (`LogValidator`). Empty where the
/// batch as a whole is at fault.
#[must_use]
pub fn refused_records(bytes: &[u8], rules: &ValidationRules) -> Vec<(i32, BatchError)> {
    let mut refused = Vec::new();
    let Ok(batch) = only_batch(bytes) else { return refused };
    let header = batch.header();
    let payload = match header.attributes().codec() {
        Some(codec) => decompress(codec, batch.payload(), DECOMPRESSED_BYTES_MAX),
        None => return refused,
    };
    let Ok(payload) = payload else { return refused };
    let times = Times::new(rules);
    let mut records = Reader { rest: &payload };
    for index in 0..header.records_count() {
        let record = match RecordView::read(&mut records) {
            Ok(record) => record,
            Err(fault) => {
                refused.push((index, BatchError::Record { index, fault }));
                break;
            }
        };
        let timestamp = header.base_timestamp().0.wrapping_add(record.timestamp_delta);
        if record.offset_delta != index {
            let fault = RecordFault::OffsetDelta;
            refused.push((index, BatchError::Record { index, fault }));
        } else if rules.keys_required && record.key.is_none() {
            let fault = RecordFault::NoKey;
            refused.push((index, BatchError::Record { index, fault }));
        } else if !times.accept(timestamp) {
            refused.push((index, BatchError::Timestamp { timestamp, index: Some(index) }));
        }
    }
    refused
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
        return Err(BatchError::Count { records_count, last_offset_delta });
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
            TimestampType::LogAppendTime => Times { earliest: i64::MIN, latest: i64::MAX },
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
    match declared.into_iter().find(|timestamp| !times.accept(*timestamp)) {
        Some(timestamp) => Err(BatchError::Timestamp { timestamp, index: None }),
        None => Ok(header.max_timestamp().0),
    }
}

/// Walks the records. Gives their greatest timestamp.
fn check_records(
    header: &BatchHeader,
    payload: &[u8],
    times: &Times,
    keys_required: bool,
) -> Result<i64, BatchError> {
    let base_timestamp = header.base_timestamp().0;
    let mut records = Reader { rest: payload };
    let mut greatest = NO_TIMESTAMP;
    for index in 0..header.records_count() {
        let at = |fault| BatchError::Record { index, fault };
        let record = RecordView::read(&mut records).map_err(at)?;
        if record.offset_delta != index {
            return Err(at(RecordFault::OffsetDelta));
        }
        if keys_required && record.key.is_none() {
            return Err(at(RecordFault::NoKey));
        }
        let timestamp = base_timestamp.wrapping_add(record.timestamp_delta);
        if !times.accept(timestamp) {
            return Err(BatchError::Timestamp { timestamp, index: Some(index) });
        }
        greatest = greatest.max(timestamp);
    }
    if records.rest.is_empty() { Ok(greatest) } else { Err(BatchError::TrailingBytes) }
}

#[cfg(test)]
mod tests;
