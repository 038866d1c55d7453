//! Batches that compaction leaves records out of.
//!
//! As Kafka's `MemoryRecords.filterTo`: what is left of a batch keeps base offset, last offset, leader
//! epoch, producer and sequence, and its codec. It differs in that the base timestamp stays as it is unless
//! a delete horizon takes its place, so that the records that stay keep their bytes.

use zerocopy::FromBytes;

use super::batch::BatchView;
use super::compression::{compress, decompress};
use super::error::BatchError;
use super::header::{BatchHeader, CRC_END, Codec, HEADER_SIZE, LENGTH_END, TimestampType};
use super::records::RecordView;
use super::varint::{Reader, put_varint, put_varlong};
use crate::limits::DECOMPRESSED_BYTES_MAX;
use crate::time::Timestamp;

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// All of it, as it is.
    All,
    /// This batch in its place.
    Rewritten(Vec<u8>),
    /// No record.
    Nothing,
}

/// A record that stays: where it is in the payload, and its time.
struct Kept {
    start: usize,
    end: usize,
    timestamp: i64,
}

/// Keeps the records of a batch that `keep` says. If one of them is a tombstone and the batch has no delete
/// horizon, it gets `horizon`: the time from which on its tombstones may go (KIP-534).
///
/// # Errors
/// When the batch is damaged, its records are not what the format says, or cannot be decompressed within
/// bounds.
pub fn retain(
    batch: &BatchView<'_>,
    horizon: Timestamp,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Retained, BatchError> {
    let header = batch.header();
    let codec = codec_of(header)?;
    if !batch.crc_valid() {
        return Err(BatchError::Crc);
    }
    let unpacked;
    let payload = match codec {
        Codec::None => batch.payload(),
        codec => {
            unpacked = unpack(batch, codec)?;
            &unpacked
        }
    };
    let mut reader = Reader { rest: payload };
    let mut kept = Vec::new();
    let (mut all, mut tombstones, mut index) = (true, false, 0);
    while !reader.rest.is_empty() {
        let start = payload.len() - reader.rest.len();
        let record =
            RecordView::read(&mut reader).map_err(|fault| BatchError::Record { index, fault })?;
        index += 1;
        if keep(&record) {
            tombstones |= record.value.is_none();
            let end = payload.len() - reader.rest.len();
            let timestamp = header.base_timestamp().0.wrapping_add(record.timestamp_delta);
            kept.push(Kept { start, end, timestamp });
        } else {
            all = false;
        }
    }
    if kept.is_empty() {
        return Ok(if header.records_count() == 0 { Retained::All } else { Retained::Nothing });
    }
    let horizon = (tombstones && !header.attributes().has_delete_horizon()).then_some(horizon);
    if all && horizon.is_none() {
        return Ok(Retained::All);
    }
    let damaged = BatchError::Truncated;
    let mut records = Vec::with_capacity(payload.len());
    for Kept { start, end, timestamp } in &kept {
        let record = payload.get(*start..*end).ok_or(damaged)?;
        match horizon {
            None => records.extend_from_slice(record),
            Some(horizon) => {
                // Everything but the timestamp's delta stays; that may change the record's size.
                let at = |fault| BatchError::Record { index: 0, fault };
                let mut record = Reader { rest: record };
                record.varint().map_err(at)?;
                let attributes = record.byte().map_err(at)?;
                record.varlong().map_err(at)?;
                let mut body = vec![attributes];
                put_varlong(&mut body, timestamp.wrapping_sub(horizon.0));
                body.extend_from_slice(record.rest);
                put_varint(&mut records, i32::try_from(body.len()).unwrap_or(i32::MAX));
                records.extend_from_slice(&body);
            }
        }
    }
    let payload = match codec {
        Codec::None => records,
        codec => compress(codec, &records).map_err(|_| BatchError::Compression { codec })?,
    };
    let greatest = kept.iter().map(|record| record.timestamp).max().unwrap_or(-1);
    let count = i32::try_from(kept.len()).unwrap_or(i32::MAX);
    rebuilt(batch, &payload, |header| {
        header.records_count.set(count);
        if header.attributes().timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp.set(greatest);
        }
        if let Some(horizon) = horizon {
            header.base_timestamp.set(horizon.0);
            header.attributes.set(header.attributes().with_delete_horizon(true).0);
        }
    })
    .map(Retained::Rewritten)
}

/// The batch without records: it stands for its offsets, and for its producer's last sequence.
///
/// # Errors
/// [`BatchError::Truncated`] if it is no batch.
pub fn empty_batch(batch: &BatchView<'_>) -> Result<Vec<u8>, BatchError> {
    rebuilt(batch, &[], |header| {
        let attributes = header.attributes().with_codec(Codec::None).with_delete_horizon(false);
        header.attributes.set(attributes.0);
        header.base_timestamp.set(-1);
        header.records_count.set(0);
    })
}

/// Calls `each` for the records of a batch, which may be compressed, until it says false.
///
/// # Errors
/// As [`retain`].
pub fn for_each_record(
    batch: &BatchView<'_>,
    mut each: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<(), BatchError> {
    let codec = codec_of(batch.header())?;
    if !batch.crc_valid() {
        return Err(BatchError::Crc);
    }
    let unpacked;
    let payload = match codec {
        Codec::None => batch.payload(),
        codec => {
            unpacked = unpack(batch, codec)?;
            &unpacked
        }
    };
    let mut reader = Reader { rest: payload };
    let mut index = 0;
    while !reader.rest.is_empty() {
        let record =
            RecordView::read(&mut reader).map_err(|fault| BatchError::Record { index, fault })?;
        if !each(&record) {
            break;
        }
        index += 1;
    }
    Ok(())
}

fn codec_of(header: &BatchHeader) -> Result<Codec, BatchError> {
    let attributes = header.attributes();
    attributes.codec().ok_or(BatchError::UnknownCodec { id: attributes.codec_id() })
}

fn unpack(batch: &BatchView<'_>, codec: Codec) -> Result<Vec<u8>, BatchError> {
    if batch.header().records_count() == 0 {
        return Ok(Vec::new());
    }
    decompress(codec, batch.payload(), DECOMPRESSED_BYTES_MAX)
        .map_err(|_| BatchError::Compression { codec })
}

/// A batch with another payload, a changed header and the CRC of both.
fn rebuilt(
    batch: &BatchView<'_>,
    payload: &[u8],
    change: impl FnOnce(&mut BatchHeader),
) -> Result<Vec<u8>, BatchError> {
    let size = HEADER_SIZE + payload.len();
    let too_large = || BatchError::TooLarge { size, size_max: i32::MAX as usize };
    let batch_length = i32::try_from(size - LENGTH_END).map_err(|_| too_large())?;
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(batch.bytes().get(..HEADER_SIZE).ok_or(BatchError::Truncated)?);
    bytes.extend_from_slice(payload);
    {
        let (header, _) =
            BatchHeader::mut_from_prefix(&mut bytes).map_err(|_| BatchError::Truncated)?;
        header.batch_length.set(batch_length);
        change(header);
    }
    let crc = crc32c::crc32c(bytes.get(CRC_END..).unwrap_or_default());
    let (header, _) =
        BatchHeader::mut_from_prefix(&mut bytes).map_err(|_| BatchError::Truncated)?;
    header.crc.set(crc);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Producer, records};
    use crate::types::{LeaderEpoch, Offset};

    /// Key, value, timestamp of each record.
    type Plain = (Vec<u8>, Option<Vec<u8>>, i64);

    fn contents(bytes: &[u8]) -> Vec<(i32, Plain)> {
        let batch = BatchView::parse(bytes).unwrap();
        assert!(batch.crc_valid());
        let codec = batch.header().attributes().codec().unwrap();
        let payload = match batch.header().records_count() {
            0 => Vec::new(),
            _ => decompress(codec, batch.payload(), 1 << 20).unwrap(),
        };
        let base = batch.header().base_timestamp().0;
        let found: Vec<_> = records(&payload)
            .map(|record| {
                let record = record.unwrap();
                let value = record.value.map(<[u8]>::to_vec);
                let key = record.key.unwrap().to_vec();
                (record.offset_delta, (key, value, base + record.timestamp_delta))
            })
            .collect();
        assert_eq!(found.len(), batch.header().records_count() as usize);
        found
    }

    fn sample(codec: Codec) -> Vec<u8> {
        let producer = Producer { id: 7, epoch: 2, base_sequence: 40 };
        let mut builder =
            BatchBuilder::new().codec(codec).producer(producer).placed(Offset(100), LeaderEpoch(3));
        for i in 0..10_u8 {
            let value = [i; 30];
            let value = (i % 4 != 3).then_some(&value[..]);
            builder.record_with_headers(
                Timestamp(5_000 + i64::from(i) * 7),
                Some(&[b'k', i]),
                value,
                &[("h", Some(&[i]))],
            );
        }
        builder.build().unwrap()
    }

    #[test]
    fn what_stays_keeps_offsets_times_and_producer() {
        for codec in Codec::ALL {
            let bytes = sample(codec);
            let before = contents(&bytes);
            let batch = BatchView::parse(&bytes).unwrap();
            let keep = |record: &RecordView<'_>| record.offset_delta % 3 == 0;
            let Retained::Rewritten(after) = retain(&batch, Timestamp(9_999), keep).unwrap() else {
                panic!("{codec:?}: not rewritten");
            };
            let expected: Vec<_> = before.iter().filter(|r| r.0 % 3 == 0).cloned().collect();
            assert_eq!(contents(&after), expected, "{codec:?}");
            let again = BatchView::parse(&after).unwrap();
            let (old, new) = (batch.header(), again.header());
            assert_eq!(new.base_offset(), old.base_offset());
            assert_eq!(new.last_offset(), old.last_offset());
            assert_eq!(new.partition_leader_epoch(), old.partition_leader_epoch());
            assert_eq!(new.producer(), old.producer());
            assert_eq!(new.attributes().codec(), Some(codec));
            // Record 3 is a tombstone.
            assert!(new.attributes().has_delete_horizon());
            assert_eq!(new.base_timestamp(), Timestamp(9_999));
            assert_eq!(new.max_timestamp(), Timestamp(5_063));
            // A horizon is set once.
            let later = retain(&again, Timestamp(20_000), |_| true).unwrap();
            assert_eq!(later, Retained::All);
            let Retained::Rewritten(less) =
                retain(&again, Timestamp(20_000), |r| r.offset_delta > 0).unwrap()
            else {
                panic!("{codec:?}: not rewritten");
            };
            assert_eq!(contents(&less), expected[1..]);
            let less = BatchView::parse(&less).unwrap();
            assert_eq!(less.header().base_timestamp(), Timestamp(9_999));
        }
    }

    #[test]
    fn nothing_or_all_is_said() {
        let bytes = sample(Codec::Lz4);
        let batch = BatchView::parse(&bytes).unwrap();
        let none = retain(&batch, Timestamp(1), |_| false).unwrap();
        assert_eq!(none, Retained::Nothing);
        let values = |record: &RecordView<'_>| record.value.is_some();
        let Retained::Rewritten(values_only) = retain(&batch, Timestamp(1), values).unwrap() else {
            panic!("not rewritten");
        };
        let batch = BatchView::parse(&values_only).unwrap();
        assert!(!batch.header().attributes().has_delete_horizon());
        assert_eq!(retain(&batch, Timestamp(1), |_| true).unwrap(), Retained::All);
        let empty = empty_batch(&batch).unwrap();
        assert_eq!(empty.len(), HEADER_SIZE);
        assert!(contents(&empty).is_empty());
        let view = BatchView::parse(&empty).unwrap();
        assert_eq!(view.header().next_offset(), Offset(110));
        assert_eq!(view.header().producer(), batch.header().producer());
        assert_eq!(view.header().max_timestamp(), batch.header().max_timestamp());
        assert_eq!(view.header().attributes().codec(), Some(Codec::None));
        assert_eq!(retain(&view, Timestamp(1), |_| true).unwrap(), Retained::All);
    }

    #[test]
    fn damage_is_an_error_and_never_rewritten() {
        let mut bytes = sample(Codec::Zstd);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let batch = BatchView::parse(&bytes).unwrap();
        assert_eq!(retain(&batch, Timestamp(1), |_| true), Err(BatchError::Crc));
        assert_eq!(for_each_record(&batch, |_| true), Err(BatchError::Crc));
    }
}
