//! The 61 bytes in front of a batch's records, read in place.

use zerocopy::byteorder::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::time::Timestamp;
use crate::types::{LeaderEpoch, Offset};

/// The size of a batch without its records.
pub const HEADER_SIZE: usize = size_of::<BatchHeader>();
/// The only record format that Kafka 4 stores.
pub const MAGIC: i8 = 2;

/// Bytes in front of what the batch length counts: the base offset and the length itself.
pub(super) const LENGTH_END: usize = 12;
/// Bytes in front of what the CRC covers.
pub(super) const CRC_END: usize = 21;

const _: () = assert!(HEADER_SIZE == 61, "the fields below are Kafka's, without padding");

/// A batch's header, as it lies in a file or a request.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    pub(super) base_offset: I64,
    pub(super) batch_length: I32,
    pub(super) partition_leader_epoch: I32,
    pub(super) magic: i8,
    pub(super) crc: U32,
    pub(super) attributes: I16,
    pub(super) last_offset_delta: I32,
    pub(super) base_timestamp: I64,
    pub(super) max_timestamp: I64,
    pub(super) producer_id: I64,
    pub(super) producer_epoch: I16,
    pub(super) base_sequence: I32,
    pub(super) records_count: I32,
}

impl BatchHeader {
    /// The header at the start of `bytes`, if they are long enough for one. Nothing is checked.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<&BatchHeader> {
        BatchHeader::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    /// The offset of the batch's first record; 0 from a producer.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.base_offset.get())
    }

    /// The bytes that follow this field, as the header says.
    #[must_use]
    pub fn batch_length(&self) -> i32 {
        self.batch_length.get()
    }

    /// The size of the whole batch, as the header says; `None` if the batch length is negative.
    #[must_use]
    pub fn size(&self) -> Option<usize> {
        usize::try_from(self.batch_length.get()).ok()?.checked_add(LENGTH_END)
    }

    /// The epoch of the leader that appended the batch; -1 from a producer.
    #[must_use]
    pub fn partition_leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.partition_leader_epoch.get())
    }

    /// The record format.
    #[must_use]
    pub fn magic(&self) -> i8 {
        self.magic
    }

    /// The stored CRC-32C of everything behind it.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.crc.get()
    }

    /// Codec and flags.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes(self.attributes.get())
    }

    /// The distance from the base offset to the last offset, which compaction keeps when it removes
    /// the last record.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta.get()
    }

    /// The offset of the batch's last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset().plus(i64::from(self.last_offset_delta()))
    }

    /// The offset that follows the batch.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// What the records' timestamp deltas start from; with
    /// [`has_delete_horizon`](Attributes::has_delete_horizon) it is that horizon instead.
    #[must_use]
    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(self.base_timestamp.get())
    }

    /// The greatest timestamp of the records, or the time of the append.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.max_timestamp.get())
    }

    /// The producer's id; -1 without idempotence.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        self.producer_id.get()
    }

    /// The producer's epoch; -1 without idempotence.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        self.producer_epoch.get()
    }

    /// The sequence number of the first record; -1 without idempotence.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        self.base_sequence.get()
    }

    /// The producer and its sequence, if the batch carries a producer id.
    #[must_use]
    pub fn producer(&self) -> Option<Producer> {
        (self.producer_id() >= 0).then(|| Producer {
            id: self.producer_id(),
            epoch: self.producer_epoch(),
            base_sequence: self.base_sequence(),
        })
    }

    /// The number of records.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.records_count.get()
    }
}

/// Who produced a batch, and where it stands in that producer's sequence (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The producer id.
    pub id: i64,
    /// The producer epoch.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub base_sequence: i32,
}

/// A batch's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec, if its id is known.
    #[must_use]
    pub fn codec(self) -> Option<Codec> {
        Codec::from_id(self.codec_id())
    }

    /// The codec's id, known or not.
    #[must_use]
    pub fn codec_id(self) -> i16 {
        self.0 & Attributes::CODEC
    }

    /// Who set the timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Attributes::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    /// Whether the batch is a control batch: a transaction marker, no records of a client.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }

    /// Whether the base timestamp is the time at which compaction may remove the batch's tombstones
    /// and markers (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Attributes::DELETE_HORIZON != 0
    }

    /// These attributes with another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Attributes {
        Attributes((self.0 & !Attributes::CODEC) | codec.id())
    }

    /// These attributes with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        Attributes(match timestamp_type {
            TimestampType::CreateTime => self.0 & !Attributes::LOG_APPEND_TIME,
            TimestampType::LogAppendTime => self.0 | Attributes::LOG_APPEND_TIME,
        })
    }

    /// These attributes with or without a delete horizon.
    #[must_use]
    pub fn with_delete_horizon(self, set: bool) -> Attributes {
        Attributes(match set {
            true => self.0 | Attributes::DELETE_HORIZON,
            false => self.0 & !Attributes::DELETE_HORIZON,
        })
    }

    /// These attributes marked as part of a transaction.
    #[must_use]
    pub fn transactional(self) -> Attributes {
        Attributes(self.0 | Attributes::TRANSACTIONAL)
    }

    /// These attributes marked as those of a control batch.
    #[must_use]
    pub fn control(self) -> Attributes {
        Attributes(self.0 | Attributes::CONTROL)
    }
}

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy in the framing of the Java library "xerial".
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Codec {
    /// Every codec, by id.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec of an id.
    #[must_use]
    pub fn from_id(id: i16) -> Option<Codec> {
        Codec::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Kafka's id.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// Kafka's name, as in `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// Who sets a topic's record timestamps (KIP-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, when it appends.
    LogAppendTime,
}
