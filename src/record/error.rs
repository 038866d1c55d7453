//! Why bytes are not an acceptable batch.

use std::fmt;

use super::header::Codec;

/// Why a batch was refused. Each cause has Kafka's error number, see [`BatchError::error_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// There is no batch at all. INVALID_RECORD.
    Empty,
    /// The bytes end inside the batch. INVALID_RECORD.
    Truncated,
    /// Bytes follow the batch: a Produce request carries exactly one batch per partition.
    /// INVALID_RECORD. (Kafka drops a broken tail in silence; here it is refused too.)
    MoreThanOne,
    /// The batch length is smaller than a header. CORRUPT_MESSAGE.
    BatchLength {
        /// The declared length.
        length: i32,
    },
    /// Another record format: INVALID_RECORD for the old formats 0 and 1, CORRUPT_MESSAGE for numbers
    /// that never existed.
    Magic {
        /// The declared format.
        magic: i8,
    },
    /// The batch is larger than `max.message.bytes` allows. MESSAGE_TOO_LARGE.
    TooLarge {
        /// The whole batch's size.
        size: usize,
        /// The limit.
        size_max: usize,
    },
    /// The CRC does not fit the bytes. CORRUPT_MESSAGE.
    Crc,
    /// The codec does not exist. UNKNOWN_SERVER_ERROR: Kafka has no case for it.
    UnknownCodec {
        /// Its number.
        id: i16,
    },
    /// The request's version is too old for the codec (KIP-110). UNSUPPORTED_COMPRESSION_TYPE.
    CodecNotAllowed {
        /// The codec.
        codec: Codec,
    },
    /// A producer must leave the base offset 0. INVALID_RECORD.
    BaseOffset {
        /// What it sent.
        base_offset: i64,
    },
    /// Count and offsets contradict each other or are not positive. INVALID_RECORD.
    Count {
        /// The declared number of records.
        records_count: i32,
        /// The declared distance to the last offset.
        last_offset_delta: i32,
    },
    /// Only the broker writes control batches. INVALID_RECORD.
    Control,
    /// A producer id without a sequence number. INVALID_RECORD.
    Sequence {
        /// The sequence number.
        base_sequence: i32,
    },
    /// Transactions are not supported yet. UNSUPPORTED_FOR_MESSAGE_FORMAT, Kafka's answer where a log
    /// cannot hold transactional records.
    Transactional,
    /// Only the broker sets append time. INVALID_TIMESTAMP.
    LogAppendTime,
    /// A timestamp is too far in the past or the future. INVALID_TIMESTAMP.
    Timestamp {
        /// The timestamp.
        timestamp: i64,
        /// The record's index; `None` if the header said it.
        index: Option<i32>,
    },
    /// A record is not what the format says. INVALID_RECORD.
    Record {
        /// The record's index in the batch.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The records cannot be decompressed, or to more than the limit. INVALID_RECORD.
    Compression {
        /// The codec.
        codec: Codec,
    },
    /// Bytes are left behind the last record. INVALID_RECORD.
    TrailingBytes,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// A field passes the end of the record, or the record the end of the batch.
    Truncated,
    /// A number does not end where the longest of its kind would.
    VarintTooLong,
    /// A length is negative where null is impossible, or below -1.
    NegativeLength,
    /// The record is longer than its fields.
    TrailingBytes,
    /// The offset delta is not the record's index.
    OffsetDelta,
    /// A compacted topic takes no records without a key.
    NoKey,
}

impl BatchError {
    /// Kafka's number for this cause.
    #[must_use]
    pub fn error_code(&self) -> i16 {
        const UNKNOWN_SERVER_ERROR: i16 = -1;
        const CORRUPT_MESSAGE: i16 = 2;
        const MESSAGE_TOO_LARGE: i16 = 10;
        const INVALID_TIMESTAMP: i16 = 32;
        const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
        const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
        const INVALID_RECORD: i16 = 87;
        match self {
            BatchError::BatchLength { .. } | BatchError::Crc => CORRUPT_MESSAGE,
            BatchError::Magic { magic: 0 | 1 } => INVALID_RECORD,
            BatchError::Magic { .. } => CORRUPT_MESSAGE,
            BatchError::TooLarge { .. } => MESSAGE_TOO_LARGE,
            // Kafka has no case for it; this is what its clients get, and they do not retry it.
            BatchError::UnknownCodec { .. } => UNKNOWN_SERVER_ERROR,
            BatchError::CodecNotAllowed { .. } => UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::Transactional => UNSUPPORTED_FOR_MESSAGE_FORMAT,
            BatchError::LogAppendTime | BatchError::Timestamp { .. } => INVALID_TIMESTAMP,
            BatchError::Empty
            | BatchError::Truncated
            | BatchError::MoreThanOne
            | BatchError::BaseOffset { .. }
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::Sequence { .. }
            | BatchError::Record { .. }
            | BatchError::Compression { .. }
            | BatchError::TrailingBytes => INVALID_RECORD,
        }
    }

    /// The record at fault, for the record errors of a Produce response (KIP-467).
    #[must_use]
    pub fn record_index(&self) -> Option<i32> {
        match self {
            BatchError::Record { index, .. } => Some(*index),
            BatchError::Timestamp { index, .. } => *index,
            _ => None,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Empty => write!(f, "no record batch"),
            BatchError::Truncated => write!(f, "the record batch is incomplete"),
            BatchError::MoreThanOne => write!(f, "more than one record batch for one partition"),
            BatchError::BatchLength { length } => {
                write!(f, "batch length {length} is smaller than a header")
            }
            BatchError::Magic { magic } => write!(f, "record format {magic}; only 2 is supported"),
            BatchError::TooLarge { size, size_max } => {
                write!(
                    f,
                    "the record batch has {size} bytes, more than max.message.bytes = {size_max}"
                )
            }
            BatchError::Crc => write!(f, "the record batch does not match its CRC"),
            BatchError::UnknownCodec { id } => write!(f, "unknown compression codec {id}"),
            BatchError::CodecNotAllowed { codec } => {
                write!(f, "this version of Produce does not allow {} compression", codec.name())
            }
            BatchError::BaseOffset { base_offset } => {
                write!(f, "base offset {base_offset} from a producer, not 0")
            }
            BatchError::Count { records_count, last_offset_delta } => {
                write!(f, "{records_count} records with last offset delta {last_offset_delta}")
            }
            BatchError::Control => write!(f, "a client sent a control batch"),
            BatchError::Sequence { base_sequence } => {
                write!(f, "producer id with sequence number {base_sequence}")
            }
            BatchError::Transactional => write!(f, "transactional records are not supported yet"),
            BatchError::LogAppendTime => {
                write!(f, "a producer set the timestamp type to append time")
            }
            BatchError::Timestamp { timestamp, .. } => {
                write!(f, "timestamp {timestamp} is outside of what the topic accepts")
            }
            BatchError::Record { index, fault } => write!(f, "record {index}: {fault}"),
            BatchError::Compression { codec } => {
                write!(f, "records cannot be decompressed with {}", codec.name())
            }
            BatchError::TrailingBytes => write!(f, "bytes behind the last record"),
        }
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecordFault::Truncated => "a field passes the end",
            RecordFault::VarintTooLong => "a number has too many bytes",
            RecordFault::NegativeLength => "a length is negative",
            RecordFault::TrailingBytes => "bytes behind the last field",
            RecordFault::OffsetDelta => "the offset delta is not the index",
            RecordFault::NoKey => "no key, but the topic is compacted",
        })
    }
}

impl std::error::Error for BatchError {}
impl std::error::Error for RecordFault {}
