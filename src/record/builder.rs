//! Writing batches.

use zerocopy::{FromZeros, IntoBytes};

use super::compression::compress;
use super::error::BatchError;
use super::header::{
    Attributes, BatchHeader, CRC_END, Codec, HEADER_SIZE, LENGTH_END, MAGIC, Producer,
};
use super::varint::{put_bytes, put_varint, put_varlong, varint_size};
use crate::time::Timestamp;
use crate::types::{LeaderEpoch, Offset};

/// Gathers records and makes a batch of them.
#[derive(Clone, Debug, Default)]
pub struct BatchBuilder {
    attributes: Attributes,
    producer: Option<Producer>,
    base_offset: Offset,
    leader_epoch: Option<LeaderEpoch>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    records_count: i32,
    records: Vec<u8>,
    /// The record being written, since its size stands in front of it.
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch as a producer sends it: no codec, base offset 0, no leader epoch, no producer.
    #[must_use]
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// Sets codec and flags.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> BatchBuilder {
        self.attributes = attributes;
        self
    }

    /// Sets the idempotent producer.
    #[must_use]
    pub fn producer(mut self, producer: Producer) -> BatchBuilder {
        self.producer = Some(producer);
        self
    }

    /// Sets the codec.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> BatchBuilder {
        self.attributes = self.attributes.with_codec(codec);
        self
    }

    /// Places the batch in a log.
    #[must_use]
    pub fn placed(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> BatchBuilder {
        self.base_offset = base_offset;
        self.leader_epoch = Some(leader_epoch);
        self
    }

    /// Appends a record without headers.
    pub fn record(&mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.record_with_headers(timestamp, key, value, &[]);
    }

    /// Appends a record. A header is a name and a value.
    pub fn record_with_headers(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp.0);
        let record = &mut self.scratch;
        record.clear();
        record.push(0);
        put_varlong(record, timestamp.0.wrapping_sub(base_timestamp));
        put_varint(record, self.records_count);
        put_bytes(record, key);
        put_bytes(record, value);
        put_varint(record, saturated(headers.len()));
        for (name, value) in headers {
            put_bytes(record, Some(name.as_bytes()));
            put_bytes(record, *value);
        }
        put_varint(&mut self.records, saturated(record.len()));
        self.records.extend_from_slice(record);
        self.max_timestamp =
            if self.records_count == 0 { timestamp.0 } else { self.max_timestamp.max(timestamp.0) };
        self.records_count += 1;
    }

    /// The number of records so far.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    /// The size of the batch so far, before compression.
    #[must_use]
    pub fn size(&self) -> usize {
        HEADER_SIZE + self.records.len()
    }

    /// The size that a record would add, at most, before compression.
    #[must_use]
    pub fn record_size_max(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
        let bytes = |b: Option<&[u8]>| b.map_or(1, |b| varint_size(saturated(b.len())) + b.len());
        // Size, attributes, timestamp delta, offset delta, headers count.
        5 + 1 + 10 + 5 + bytes(key) + bytes(value) + 1
    }

    /// The batch.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if the batch length does not fit its field,
    /// [`BatchError::UnknownCodec`] and [`BatchError::Compression`] if the codec fails.
    pub fn build(self) -> Result<Vec<u8>, BatchError> {
        let codec = self
            .attributes
            .codec()
            .ok_or(BatchError::UnknownCodec { id: self.attributes.codec_id() })?;
        let payload = match codec {
            Codec::None => self.records,
            codec => {
                compress(codec, &self.records).map_err(|_| BatchError::Compression { codec })?
            }
        };
        let size = HEADER_SIZE + payload.len();
        let too_large = || BatchError::TooLarge { size, size_max: i32::MAX as usize };
        let batch_length = i32::try_from(size - LENGTH_END).map_err(|_| too_large())?;
        let producer = self.producer.unwrap_or(Producer { id: -1, epoch: -1, base_sequence: -1 });

        let mut header = BatchHeader::new_zeroed();
        header.base_offset.set(self.base_offset.0);
        header.batch_length.set(batch_length);
        header.partition_leader_epoch.set(self.leader_epoch.map_or(-1, |epoch| epoch.0));
        header.magic = MAGIC;
        header.attributes.set(self.attributes.0);
        header.last_offset_delta.set(self.records_count - 1);
        header.base_timestamp.set(self.base_timestamp.unwrap_or(-1));
        header.max_timestamp.set(if self.records_count == 0 { -1 } else { self.max_timestamp });
        header.producer_id.set(producer.id);
        header.producer_epoch.set(producer.epoch);
        header.base_sequence.set(producer.base_sequence);
        header.records_count.set(self.records_count);
        let covered = header.as_bytes().get(CRC_END..).unwrap_or_default();
        header.crc.set(crc32c::crc32c_append(crc32c::crc32c(covered), &payload));

        let mut batch = Vec::with_capacity(size);
        batch.extend_from_slice(header.as_bytes());
        batch.extend_from_slice(&payload);
        Ok(batch)
    }
}

/// A length as the format counts it. A greater one makes the batch too large for its own field.
fn saturated(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
