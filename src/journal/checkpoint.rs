//! Small checksummed files written whole, in two generations (storage section 1).
//!
//! What a checkpoint holds is its owner's business; this knows how one is written so that a crash at
//! any point leaves the one before.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::format::Chain;
use crate::storage::{Storage, read_file, replace_file};

const MAGIC: [u8; 8] = *b"MSCHKPT2";
const MAGIC_FAMILY: &[u8] = b"MSCHKPT";

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    checksum: U32,
    length: U32,
    generation: U64,
    sequence: U64,
}

/// A checkpoint as it was found.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The start of the broker that wrote it.
    pub generation: u64,
    /// Its number within that start.
    pub sequence: u64,
    /// What it holds.
    pub body: T,
}

/// Extension of checkpoints.
pub const EXTENSION: &str = "checkpoint";

/// Where the checkpoints of one core in one start are; they alternate between two names. Those of
/// earlier starts stay until every core has one of its own: partitions may have moved between cores.
#[must_use]
pub fn path(directory: &Path, chain: Chain, sequence: u64) -> PathBuf {
    let Chain { generation, core } = chain;
    directory.join(format!("{generation:010}-{core:03}-{}.{EXTENSION}", sequence % 2))
}

/// Writes a checkpoint durably.
///
/// # Errors
/// Whatever the disk reports; the checkpoint before it is then still whole.
pub async fn save<T: Serialize>(
    storage: &dyn Storage,
    path: &Path,
    generation: u64,
    sequence: u64,
    body: &T,
) -> io::Result<()> {
    let body = postcard::to_allocvec(body).map_err(io::Error::other)?;
    let mut header = Header {
        magic: MAGIC,
        checksum: U32::ZERO,
        length: u32::try_from(body.len()).map_err(io::Error::other)?.into(),
        generation: generation.into(),
        sequence: sequence.into(),
    };
    header.checksum = checksum(&header, &body).into();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(&body);
    replace_file(storage, path, &bytes).await
}

fn checksum(header: &Header, body: &[u8]) -> u32 {
    let fields = header.as_bytes();
    crc32c::crc32c_append(crc32c::crc32c(fields.get(12..).unwrap_or(fields)), body)
}

/// Reads a checkpoint; `None` when it is not a whole one.
///
/// # Errors
/// Whatever the disk reports.
pub async fn load<T: DeserializeOwned>(
    storage: &dyn Storage,
    path: &Path,
) -> io::Result<Option<Loaded<T>>> {
    let bytes = read_file(storage, path).await?;
    let Ok((header, rest)) = Header::ref_from_prefix(&bytes) else {
        return Ok(None);
    };
    let Some(body) = rest.get(..header.length.get() as usize) else {
        return Ok(None);
    };
    if header.magic.starts_with(MAGIC_FAMILY) && header.magic != MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} was written by a version of millstream with another checkpoint format: start that \
                 version, or choose another directory with --data-dir",
                path.display()
            ),
        ));
    }
    if header.magic != MAGIC || checksum(header, body) != header.checksum.get() {
        return Ok(None);
    }
    Ok(postcard::from_bytes(body).ok().map(|body| Loaded {
        generation: header.generation.get(),
        sequence: header.sequence.get(),
        body,
    }))
}
