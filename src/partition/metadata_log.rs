//! The metadata log: control records, each flushed before anything it says is acted on (rule 11).
//!
//! Shard: core 0 appends; every other core acts on images it is sent. The log is a chain of frames of
//! whole blocks; a torn last frame was never acted on and is overwritten.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::BLOCK;
use crate::storage::{File, Open, Storage, align_up, block_buffer};

const MAGIC: [u8; 8] = *b"MSMETA01";

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Frame {
    magic: [u8; 8],
    checksum: U32,
    length: U32,
    sequence: U64,
}

const FRAME_LEN: usize = size_of::<Frame>();

/// Space that is kept for records to come.
const RESERVE_BYTES: u64 = 256 * 1024;

/// An open metadata log.
pub struct MetadataLog {
    storage: Rc<dyn Storage>,
    path: PathBuf,
    file: Rc<dyn File>,
    end: u64,
    /// Space that is kept, from the file's start.
    reserved: u64,
    sequence: u64,
}

fn checksum(frame: &Frame, body: &[u8]) -> u32 {
    let fields = frame.as_bytes();
    crc32c::crc32c_append(crc32c::crc32c(fields.get(12..).unwrap_or(fields)), body)
}

fn encode<T: Serialize>(sequence: u64, records: &[T]) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(records)?;
    let mut frame = Frame {
        magic: MAGIC,
        checksum: U32::ZERO,
        length: u32::try_from(body.len()).map_err(io::Error::other)?.into(),
        sequence: sequence.into(),
    };
    frame.checksum = checksum(&frame, &body).into();
    let mut bytes = frame.as_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes.resize(align_up(bytes.len()), 0);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let (frame, rest) = Frame::ref_from_prefix(bytes).ok()?;
    if frame.magic != MAGIC {
        return None;
    }
    let body = rest.get(..frame.length.get() as usize)?;
    let whole = checksum(frame, body) == frame.checksum.get();
    whole.then(|| (frame.sequence.get(), body, align_up(FRAME_LEN + body.len())))
}

impl MetadataLog {
    /// Opens or creates the log at `path` and gives all its records.
    ///
    /// # Errors
    /// Whatever the disk reports; `InvalidData` when a frame before the last is damaged.
    pub async fn open<T: DeserializeOwned>(
        storage: Rc<dyn Storage>,
        path: &Path,
    ) -> io::Result<(MetadataLog, Vec<T>)> {
        if let Some(directory) = path.parent() {
            storage.create_directory(directory).await?;
            if let Some(above) = directory.parent() {
                storage.flush_directory(above).await?;
            }
        }
        let file = storage.open(path, Open::Create).await?;
        if let Some(directory) = path.parent() {
            storage.flush_directory(directory).await?;
        }
        let size = usize::try_from(file.size().await?).map_err(io::Error::other)?;
        let buffer = file.read(0, align_up(size.max(1))).await?;
        let bytes = buffer.bytes();
        let mut records = Vec::new();
        let (mut at, mut sequence) = (0, 0);
        while let Some((found, body, len)) = bytes.get(at..).and_then(decode) {
            if found != sequence + 1 {
                break;
            }
            records.extend(serde_json::from_slice::<Vec<T>>(body)?);
            sequence = found;
            at += len;
        }
        let lost = bytes
            .get(at..)
            .unwrap_or(&[])
            .chunks(BLOCK)
            .enumerate()
            .filter_map(|(i, _)| decode(bytes.get(at + i * BLOCK..)?))
            .any(|(found, _, _)| found > sequence + 1);
        if lost {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{}: frame {} is damaged although later ones are whole: restore the data \
                     directory from a copy",
                    path.display(),
                    sequence + 1
                ),
            ));
        }
        let log = MetadataLog {
            storage,
            path: path.to_owned(),
            file,
            end: at as u64,
            reserved: 0,
            sequence,
        };
        Ok((log, records))
    }

    /// Appends records and flushes them.
    ///
    /// # Errors
    /// Whatever the disk reports. Unless it had no space ([`is_full`](crate::storage::is_full)), the
    /// records may or may not be in the log then, and nothing more may be appended.
    pub async fn append<T: Serialize>(&mut self, records: &[T]) -> io::Result<()> {
        let bytes = encode(self.sequence + 1, records)?;
        let buffer = block_buffer(&*self.storage, &bytes);
        self.reserve(bytes.len() as u64).await;
        self.file.write(buffer, self.end).await?;
        self.file.flush().await?;
        self.sequence += 1;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Keeps space for records to come, so that a topic can still be deleted when the disk is full.
    async fn reserve(&mut self, len: u64) {
        if self.end + len > self.reserved {
            let wanted = (self.end + len).next_multiple_of(RESERVE_BYTES) + RESERVE_BYTES;
            match self.file.reserve(wanted).await {
                Ok(()) => self.reserved = wanted,
                Err(error) => tracing::debug!(%error, "no space is kept for the metadata log"),
            }
        }
    }

    /// Closes the log, and with it its lock.
    ///
    /// # Errors
    /// Whatever the disk reports.
    pub async fn close(self) -> io::Result<()> {
        self.file.close().await
    }

    /// Bytes of the log.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether nothing was ever appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Replaces the log by one that holds just `records`.
    ///
    /// # Errors
    /// Whatever the disk reports; the old log is then still in place.
    pub async fn rewrite<T: Serialize>(&mut self, records: &[T]) -> io::Result<()> {
        let bytes = encode(1, records)?;
        self.file.close().await?;
        crate::storage::replace_file(&*self.storage, &self.path, &bytes).await?;
        self.file = self.storage.open(&self.path, Open::Write).await?;
        self.sequence = 1;
        self.end = bytes.len() as u64;
        self.reserved = 0;
        Ok(())
    }
}
