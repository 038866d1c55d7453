//! Offsets by time: the time index leads near a record, whose batch is then looked into.

use std::io;

use super::{ReadError, ReadRequest, Store};
use crate::limits::{COLD_READ_BYTES, DECOMPRESSED_BYTES_MAX};
use crate::log::index::relative;
use crate::record::{BatchView, Codec, TimestampType, batches, decompress, records};
use crate::time::Timestamp;
use crate::types::{LeaderEpoch, Offset, TopicPartition};

/// How often a look-up loads indexes before it gives up: they are loaded once, unless the segment is
/// sealed at that very moment.
const LOADS_MAX: usize = 4;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeQuery {
    /// The first record whose timestamp is this or later.
    At(Timestamp),
    /// The first record with the greatest timestamp.
    Greatest,
}

/// A record by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl Store {
    /// Finds a record by its timestamp, below the high watermark.
    ///
    /// # Errors
    /// As [`ReadError`] says; never [`ReadError::OffsetOutOfRange`].
    pub async fn offset_at(
        &self,
        id: TopicPartition,
        query: TimeQuery,
    ) -> Result<Option<TimedOffset>, ReadError> {
        match query {
            TimeQuery::At(timestamp) => match self.offset_before(id, timestamp).await? {
                Some(start) => self.first_from(id, start, timestamp).await,
                None => Ok(None),
            },
            TimeQuery::Greatest => {
                let known = self.with(id, |p| (p.log.greatest(), p.log.log_start()));
                let (greatest, log_start) = known.ok_or(ReadError::UnknownPartition)?;
                if greatest.timestamp.0 < 0 {
                    return Ok(None);
                }
                if greatest.offset >= log_start {
                    let found = self.first_from(id, greatest.offset, greatest.timestamp).await?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                // The record that had it is deleted, or not readable yet.
                self.greatest_from(id, log_start).await
            }
        }
    }

    /// The first record from the batch that holds `offset` on whose timestamp is `wanted` or later.
    async fn first_from(
        &self,
        id: TopicPartition,
        mut offset: Offset,
        wanted: Timestamp,
    ) -> Result<Option<TimedOffset>, ReadError> {
        loop {
            // The log start may move while this reads.
            let bounds = self.with(id, |p| (p.log.log_start(), p.high_watermark));
            let (log_start, limit) = bounds.ok_or(ReadError::UnknownPartition)?;
            offset = offset.max(log_start);
            if offset >= limit {
                return Ok(None);
            }
            let request = ReadRequest { partition: id, offset, max_bytes: COLD_READ_BYTES };
            let outcome = match self.read(&request).await {
                Err(ReadError::OffsetOutOfRange { .. }) => continue,
                outcome => outcome?,
            };
            if outcome.bytes == 0 {
                return Ok(None);
            }
            for batch in outcome.slices.iter().flat_map(|slice| batches(slice.bytes())).flatten() {
                offset = batch.header().next_offset();
                if batch.header().max_timestamp() < wanted {
                    continue;
                }
                let found = record_at(&batch, wanted, log_start)
                    .map_err(|why| damaged(id, &batch, &why))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
    }

    /// The first record with the greatest timestamp from `offset` on, by reading all.
    async fn greatest_from(
        &self,
        id: TopicPartition,
        mut offset: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let log_start = offset;
        let mut greatest: Option<TimedOffset> = None;
        loop {
            let limit = self.with(id, |p| p.high_watermark).ok_or(ReadError::UnknownPartition)?;
            if offset >= limit {
                return Ok(greatest);
            }
            let request = ReadRequest { partition: id, offset, max_bytes: COLD_READ_BYTES };
            let outcome = match self.read(&request).await {
                // The log start has moved on.
                Err(ReadError::OffsetOutOfRange { log_start, .. }) => {
                    offset = offset.max(log_start);
                    continue;
                }
                outcome => outcome?,
            };
            if outcome.bytes == 0 {
                return Ok(greatest);
            }
            for batch in outcome.slices.iter().flat_map(|slice| batches(slice.bytes())).flatten() {
                offset = batch.header().next_offset();
                // Look into a batch only for a record that beats what is known, until none does.
                loop {
                    let wanted = greatest.map_or(Timestamp(0), |g| Timestamp(g.timestamp.0 + 1));
                    if batch.header().max_timestamp() < wanted {
                        break;
                    }
                    let found = record_at(&batch, wanted, log_start)
                        .map_err(|why| damaged(id, &batch, &why))?;
                    match found {
                        Some(found) => greatest = Some(found),
                        None => break,
                    }
                }
            }
        }
    }

    /// An offset before which no timestamp is `timestamp` or later; `None` if none is in the whole log.
    async fn offset_before(
        &self,
        id: TopicPartition,
        timestamp: Timestamp,
    ) -> Result<Option<Offset>, ReadError> {
        // Each time round either answers or loads the indexes of one segment; the log may move meanwhile.
        for _ in 0..LOADS_MAX {
            let looked = self.with(id, |p| {
                let segment = p.log.segment_at(timestamp)?;
                // What is not drained has no indexes.
                let known = segment.index.is_complete() || p.log.file_limit(segment) == 0;
                let offset = segment.base.plus(segment.index.offset_before(timestamp));
                Some(if known { Ok(offset) } else { Err((segment.base, p.directory.clone())) })
            });
            match looked.ok_or(ReadError::UnknownPartition)? {
                None => return Ok(None),
                Some(Ok(offset)) => return Ok(Some(offset)),
                Some(Err((base, directory))) => {
                    match self.load_indexes(id, &directory, base).await {
                        // The partition is being deleted: look again.
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
            }
        }
        Err(ReadError::Disk(io::Error::new(
            io::ErrorKind::NotFound,
            format!("partition {id}: a segment cannot be read to find timestamp {}", timestamp.0),
        )))
    }
}

fn damaged(id: TopicPartition, batch: &BatchView<'_>, why: &str) -> ReadError {
    let base = batch.header().base_offset();
    let why = format!("partition {id}: the batch at offset {base}: {why}");
    ReadError::Disk(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// The first record of a batch at or after `log_start` whose timestamp is `wanted` or later.
fn record_at(
    batch: &BatchView<'_>,
    wanted: Timestamp,
    log_start: Offset,
) -> Result<Option<TimedOffset>, String> {
    let header = batch.header();
    let leader_epoch = header.partition_leader_epoch();
    let found = |timestamp, offset| Ok(Some(TimedOffset { timestamp, offset, leader_epoch }));
    if header.records_count() == 0 {
        // Compaction has left its offsets only.
        return Ok(None);
    }
    // All records of such a batch have the batch's time.
    let append_time = (header.attributes().timestamp_type() == TimestampType::LogAppendTime)
        .then(|| header.max_timestamp().0);
    let codec = header.attributes().codec().ok_or("its codec is not known")?;
    let unpacked;
    let payload = match codec {
        Codec::None => batch.payload(),
        codec => {
            unpacked = decompress(codec, batch.payload(), DECOMPRESSED_BYTES_MAX)
                .map_err(|error| format!("it cannot be decompressed: {error:?}"))?;
            &unpacked
        }
    };
    let least = relative(header.base_offset(), log_start);
    for record in records(payload) {
        let record = record.map_err(|fault| format!("a record is damaged: {fault:?}"))?;
        let timestamp = header.base_timestamp().0.wrapping_add(record.timestamp_delta);
        let timestamp = append_time.unwrap_or(timestamp);
        if timestamp >= wanted.0 && i64::from(record.offset_delta) >= least {
            let offset = header.base_offset().plus(i64::from(record.offset_delta));
            return found(Timestamp(timestamp), offset);
        }
    }
    Ok(None)
}
