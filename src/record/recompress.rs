//! Changing a batch's codec, for topics that have a `compression.type` of their own.

use zerocopy::FromBytes;

use super::batch::BatchView;
use super::compression::{compress_at, decompress};
use super::error::BatchError;
use super::header::{BatchHeader, CRC_END, Codec, HEADER_SIZE, LENGTH_END};
use crate::limits::DECOMPRESSED_BYTES_MAX;

/// The same batch with another codec and a new CRC; `None` if it has the codec already, whatever the
/// level, as in Kafka.
///
/// # Errors
/// What is no batch, or cannot be decompressed within bounds.
pub fn recompress(
    batch: &[u8],
    codec: Codec,
    level: Option<i32>,
) -> Result<Option<Vec<u8>>, BatchError> {
    let view = BatchView::parse(batch)?;
    let attributes = view.header().attributes();
    let old = attributes.codec().ok_or(BatchError::UnknownCodec { id: attributes.codec_id() })?;
    if old == codec {
        return Ok(None);
    }
    let records = decompress(old, view.payload(), DECOMPRESSED_BYTES_MAX)
        .map_err(|_| BatchError::Compression { codec: old })?;
    let payload =
        compress_at(codec, &records, level).map_err(|_| BatchError::Compression { codec })?;
    let size = HEADER_SIZE + payload.len();
    let too_large = || BatchError::TooLarge { size, size_max: i32::MAX as usize };
    let batch_length = i32::try_from(size - LENGTH_END).map_err(|_| too_large())?;
    let mut changed = Vec::with_capacity(size);
    changed.extend_from_slice(batch.get(..HEADER_SIZE).ok_or(BatchError::Truncated)?);
    changed.extend_from_slice(&payload);
    {
        let (header, _) =
            BatchHeader::mut_from_prefix(&mut changed).map_err(|_| BatchError::Truncated)?;
        header.batch_length.set(batch_length);
        header.attributes.set(attributes.with_codec(codec).0);
    }
    let crc = crc32c::crc32c(changed.get(CRC_END..).unwrap_or_default());
    let (header, _) =
        BatchHeader::mut_from_prefix(&mut changed).map_err(|_| BatchError::Truncated)?;
    header.crc.set(crc);
    Ok(Some(changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, records};
    use crate::time::Timestamp;

    #[test]
    fn every_codec_becomes_every_other() {
        for from in Codec::ALL {
            let mut builder = BatchBuilder::new().codec(from);
            for i in 0..50_u8 {
                builder.record(Timestamp(1000 + i64::from(i)), Some(&[i]), Some(&[i; 100]));
            }
            let batch = builder.build().unwrap();
            for to in Codec::ALL {
                let changed = recompress(&batch, to, None).unwrap();
                assert_eq!(changed.is_none(), from == to);
                let Some(changed) = changed else { continue };
                let view = BatchView::parse(&changed).unwrap();
                assert!(view.crc_valid());
                assert_eq!(view.header().attributes().codec(), Some(to));
                let records_of = |bytes: &[u8]| {
                    let view = BatchView::parse(bytes).unwrap();
                    let codec = view.header().attributes().codec().unwrap();
                    decompress(codec, view.payload(), 1 << 20).unwrap()
                };
                assert_eq!(records_of(&changed), records_of(&batch));
                assert_eq!(records(&records_of(&changed)).count(), 50);
            }
        }
    }

    #[test]
    fn levels_count_and_nonsense_is_refused() {
        let mut builder = BatchBuilder::new();
        let text = (0..20_000_u32).map(|i| (i * i % 251) as u8).collect::<Vec<u8>>();
        builder.record(Timestamp(1), None, Some(&text));
        let batch = builder.build().unwrap();
        for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Zstd, 1, 19)] {
            let size = |level| recompress(&batch, codec, Some(level)).unwrap().unwrap().len();
            assert!(size(high) <= size(low), "{codec:?}");
        }
        assert!(recompress(&batch[..70], Codec::Gzip, None).is_err());
    }
}
