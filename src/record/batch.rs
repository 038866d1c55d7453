//! Whole batches: finding their borders, checking their CRC, and the changes a broker may make.

use zerocopy::FromBytes;

use super::crc::crc_patch;
use super::error::BatchError;
use super::header::{BatchHeader, CRC_END, HEADER_SIZE, MAGIC, TimestampType};
use crate::time::Timestamp;
use crate::types::{LeaderEpoch, Offset};

/// One whole batch of format 2 inside a longer buffer. Its borders are sound; its contents are not
/// checked.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] if the bytes end inside the batch, and a cause if they are no batch
    /// of format 2.
    pub fn parse(bytes: &'a [u8]) -> Result<BatchView<'a>, BatchError> {
        let header = BatchHeader::read(bytes).ok_or(BatchError::Truncated)?;
        if header.magic() != MAGIC {
            return Err(BatchError::Magic { magic: header.magic() });
        }
        let length = header.batch_length();
        let size = header
            .size()
            .filter(|size| *size >= HEADER_SIZE)
            .ok_or(BatchError::BatchLength { length })?;
        let bytes = bytes.get(..size).ok_or(BatchError::Truncated)?;
        Ok(BatchView { header, bytes })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &'a BatchHeader {
        self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The size of the whole batch.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The records: as they are, or compressed.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(HEADER_SIZE..).unwrap_or_default()
    }

    /// Whether the stored CRC is that of the covered bytes. Reads the whole batch.
    #[must_use]
    pub fn crc_valid(&self) -> bool {
        crc32c::crc32c(self.crc_covered()) == self.header.crc()
    }

    /// What the CRC covers: everything from the attributes on.
    #[must_use]
    pub fn crc_covered(&self) -> &'a [u8] {
        self.bytes.get(CRC_END..).unwrap_or_default()
    }
}

/// Walks batches that lie one behind the other.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    position: usize,
}

impl Batches<'_> {
    /// The end of the last batch that was returned: everything before it is whole batches.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchView::parse(self.rest) {
            Ok(batch) => {
                self.rest = self.rest.get(batch.size()..).unwrap_or_default();
                self.position += batch.size();
                Some(Ok(batch))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The batches in `bytes`. The walk ends behind the first error; an incomplete last batch, usual at
/// the end of a fetch, is [`BatchError::Truncated`].
#[must_use]
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes, position: 0 }
}

/// Writes where a batch stands in its log. Both fields lie outside the CRC, so it stays valid.
///
/// # Errors
/// [`BatchError::Truncated`] if `batch` is shorter than a header.
pub fn stamp(
    batch: &mut [u8],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> Result<(), BatchError> {
    let (header, _) = BatchHeader::mut_from_prefix(batch).map_err(|_| BatchError::Truncated)?;
    header.base_offset.set(base_offset.0);
    header.partition_leader_epoch.set(leader_epoch.0);
    Ok(())
}

/// Sets timestamp type and greatest timestamp, and corrects the CRC without reading the records: for
/// append time (KIP-32), and for a producer that declared a wrong greatest timestamp. The CRC must be
/// valid before. Does nothing if both are set already.
///
/// # Errors
/// The causes of [`BatchView::parse`].
pub fn set_max_timestamp(
    batch: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp: Timestamp,
) -> Result<(), BatchError> {
    /// Attributes, last offset delta, base timestamp, max timestamp.
    const CHANGED: std::ops::Range<usize> = CRC_END..CRC_END + 22;

    let size = BatchView::parse(batch)?.size();
    let old: [u8; CHANGED.end - CHANGED.start] =
        batch.get(CHANGED).and_then(|b| b.try_into().ok()).ok_or(BatchError::Truncated)?;
    let (header, _) =
        BatchHeader::mut_from_prefix(&mut *batch).map_err(|_| BatchError::Truncated)?;
    header.attributes.set(header.attributes().with_timestamp_type(timestamp_type).0);
    header.max_timestamp.set(max_timestamp.0);
    let crc = header.crc();
    let new = batch.get(CHANGED).unwrap_or_default();
    if old == new {
        return Ok(());
    }
    let crc = crc_patch(crc, &old, new, size - CHANGED.end);
    let (header, _) = BatchHeader::mut_from_prefix(batch).map_err(|_| BatchError::Truncated)?;
    header.crc.set(crc);
    Ok(())
}
