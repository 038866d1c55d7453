//! The codecs, in the framings that Kafka's Java client reads and writes.
//!
//! Decompression is bounded: a few kilobytes may stand for gigabytes.

use std::fmt;
use std::io::{self, Read, Write};

use super::header::Codec;

/// Why bytes cannot be decompressed or compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompressionError {
    /// The bytes are not what the codec produces.
    Corrupt {
        /// The codec.
        codec: Codec,
        /// What it says of them.
        cause: String,
    },
    /// The output would be larger than allowed.
    TooLarge {
        /// The limit.
        output_bytes_max: usize,
    },
}

impl fmt::Display for CompressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompressionError::Corrupt { codec, cause } => write!(f, "{}: {cause}", codec.name()),
            CompressionError::TooLarge { output_bytes_max } => {
                write!(f, "decompressed records exceed {output_bytes_max} bytes")
            }
        }
    }
}

impl std::error::Error for CompressionError {}

/// Decompresses a batch's payload to at most `output_bytes_max` bytes.
///
/// # Errors
/// See [`CompressionError`].
pub fn decompress(
    codec: Codec,
    bytes: &[u8],
    output_bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Codec::None => read_bounded(codec, bytes, output_bytes_max),
        Codec::Gzip => {
            read_bounded(codec, flate2::bufread::MultiGzDecoder::new(bytes), output_bytes_max)
        }
        Codec::Snappy => snappy_decompress(bytes, output_bytes_max),
        // The decoder takes four bytes of anything for the end of the input.
        Codec::Lz4 if bytes.len() < LZ4_FRAME_HEADER => {
            Err(corrupt(codec, &"the frame is incomplete"))
        }
        Codec::Lz4 => {
            read_bounded(codec, lz4_flex::frame::FrameDecoder::new(bytes), output_bytes_max)
        }
        Codec::Zstd => {
            let decoder =
                zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| corrupt(codec, &e))?;
            read_bounded(codec, decoder, output_bytes_max)
        }
    }
}

/// Compresses records into a batch's payload, at the codec's default level.
///
/// # Errors
/// [`CompressionError::Corrupt`] if the codec itself fails.
pub fn compress(codec: Codec, records: &[u8]) -> Result<Vec<u8>, CompressionError> {
    compress_at(codec, records, None)
}

/// Compresses records into a batch's payload, at a level of the codec's own scale. Snappy and lz4 have
/// one level here.
///
/// # Errors
/// [`CompressionError::Corrupt`] if the codec itself fails.
pub(super) fn compress_at(
    codec: Codec,
    records: &[u8],
    level: Option<i32>,
) -> Result<Vec<u8>, CompressionError> {
    let compressed = match codec {
        Codec::None => Ok(records.to_vec()),
        Codec::Gzip => {
            // -1 is the codec's own default.
            let level = level.and_then(|level| u32::try_from(level).ok());
            let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(records).and_then(|()| encoder.finish())
        }
        Codec::Snappy => snappy_compress(records),
        Codec::Lz4 => lz4_compress(records),
        Codec::Zstd => {
            zstd::stream::encode_all(records, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))
        }
    };
    compressed.map_err(|e| corrupt(codec, &e))
}

/// Magic, flags, block size and their checksum.
const LZ4_FRAME_HEADER: usize = 7;

fn read_bounded(
    codec: Codec,
    reader: impl Read,
    output_bytes_max: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    let one_more = u64::try_from(output_bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(one_more).read_to_end(&mut output).map_err(|e| corrupt(codec, &e))?;
    if output.len() > output_bytes_max {
        return Err(CompressionError::TooLarge { output_bytes_max });
    }
    Ok(output)
}

fn corrupt(codec: Codec, cause: &dyn fmt::Display) -> CompressionError {
    CompressionError::Corrupt { codec, cause: cause.to_string() }
}

/// Kafka's Java reader takes independent blocks only.
fn lz4_compress(records: &[u8]) -> io::Result<Vec<u8>> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(records)?;
    encoder.finish().map_err(io::Error::other)
}

/// "\x82SNAPPY\0", then version and oldest compatible version.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Only this part of the header tells the framing from raw Snappy.
const XERIAL_MAGIC: usize = 8;
/// What snappy-java puts into one block.
const XERIAL_BLOCK: usize = 32 * 1024;

/// Blocks of raw Snappy, each behind its length.
fn snappy_compress(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = XERIAL_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK) {
        let block = encoder.compress_vec(block)?;
        let length = u32::try_from(block.len()).map_err(io::Error::other)?;
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(&block);
    }
    Ok(output)
}

fn snappy_decompress(bytes: &[u8], output_bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = Vec::new();
    let framed = XERIAL_HEADER.get(..XERIAL_MAGIC).is_some_and(|magic| bytes.starts_with(magic));
    if !framed {
        // snappy-java reads raw Snappy too, and some clients send it.
        snappy_block(bytes, &mut output, output_bytes_max)?;
        return Ok(output);
    }
    let truncated = || corrupt(Codec::Snappy, &"the last block is incomplete");
    let mut rest = bytes.get(XERIAL_HEADER.len()..).ok_or_else(truncated)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk().ok_or_else(truncated)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| truncated())?;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(truncated)?;
        snappy_block(block, &mut output, output_bytes_max)?;
        rest = behind;
    }
    Ok(output)
}

/// Appends one raw block to the output.
fn snappy_block(
    block: &[u8],
    output: &mut Vec<u8>,
    output_bytes_max: usize,
) -> Result<(), CompressionError> {
    let before = output.len();
    let length = snap::raw::decompress_len(block).map_err(|e| corrupt(Codec::Snappy, &e))?;
    if length > output_bytes_max - before {
        return Err(CompressionError::TooLarge { output_bytes_max });
    }
    output.resize(before + length, 0);
    let room = output.get_mut(before..).unwrap_or_default();
    let written = snap::raw::Decoder::new()
        .decompress(block, room)
        .map_err(|e| corrupt(Codec::Snappy, &e))?;
    output.truncate(before + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_to_the_byte() {
        let records = vec![7; 100_000];
        for codec in Codec::ALL {
            let compressed = compress(codec, &records).unwrap();
            assert_eq!(
                decompress(codec, &compressed, records.len()),
                Ok(records.clone()),
                "{codec:?}"
            );
            for output_bytes_max in [0, 10, records.len() - 1] {
                let refused = CompressionError::TooLarge { output_bytes_max };
                assert_eq!(
                    decompress(codec, &compressed, output_bytes_max),
                    Err(refused),
                    "{codec:?}"
                );
            }
        }
    }

    #[test]
    fn nonsense_is_an_error_value() {
        let nonsense: Vec<u8> = (0..200).map(|i| ((i * 37 + 11) % 256) as u8).collect();
        for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::None) {
            for length in 1..nonsense.len() {
                assert!(
                    decompress(codec, &nonsense[..length], 1 << 20).is_err(),
                    "{codec:?} {length}"
                );
            }
        }
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let raw = snap::raw::Encoder::new().compress_vec(b"raw raw raw raw").unwrap();
        assert_eq!(decompress(Codec::Snappy, &raw, 100), Ok(b"raw raw raw raw".to_vec()));
    }
}
