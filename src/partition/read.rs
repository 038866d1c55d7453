//! Reads: from the ring without a copy, else from segment files or journals of earlier starts.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::{Partition, Store};
use crate::limits::{BLOCK, COLD_READ_BYTES};
use crate::log::epochs::EpochEnd;
use crate::log::index::relative;
use crate::log::segment::path as segment_path;
use crate::log::{Head, Log, Source, select};
use crate::record::{BatchHeader, batches};
use crate::storage::{Buffer, align_down, align_up};
use crate::types::{Offset, TopicPartition};

/// What is wanted of a partition.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset wanted; the batch that holds it is returned whole.
    pub offset: Offset,
    /// About how many bytes; the first batch is returned even if it is larger.
    pub max_bytes: usize,
}

/// A run of whole batches.
#[derive(Clone, Debug)]
pub enum Slice {
    /// In memory that this shard shares by count; sent from there.
    Shared(Buffer, Range<usize>),
    /// Copied.
    Owned(Bytes),
}

impl Slice {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Slice::Shared(buffer, range) => buffer.get(range.clone()).unwrap_or(&[]),
            Slice::Owned(bytes) => bytes,
        }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Slice::Shared(_, range) => range.len(),
            Slice::Owned(bytes) => bytes.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whole batches, in order.
    pub slices: Vec<Slice>,
    /// Their bytes.
    pub bytes: usize,
    /// Exclusive bound for consumers.
    pub high_watermark: Offset,
    /// First readable offset.
    pub log_start: Offset,
    /// Where the log parted from what the client has; there are no batches then.
    pub diverging: Option<EpochEnd>,
}

/// Why nothing can be read.
#[derive(Debug)]
pub enum ReadError {
    /// This core does not have the partition.
    UnknownPartition,
    /// Below the log start or above the log end.
    OffsetOutOfRange {
        /// First readable offset.
        log_start: Offset,
        /// Exclusive bound for consumers.
        high_watermark: Offset,
    },
    /// The disk reports an error, or what it holds is not the log.
    Disk(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Disk(error)
    }
}

enum Cold {
    Journal { path: Rc<Path>, position: u64, len: usize },
    Index { directory: PathBuf, segment: Offset },
    Segment { path: PathBuf, position: u64, limit: u64, head: Head, base: Offset },
}

/// How often a read looks anew before it gives up, when the log changes under it.
const LOOKS_MAX: usize = 4;

impl Store {
    /// Reads what memory holds; `Ok(None)` when it takes the disk.
    ///
    /// # Errors
    /// As [`ReadError`] says; never [`ReadError::Disk`].
    pub fn read_memory(&self, request: &ReadRequest) -> Result<Option<Outcome>, ReadError> {
        let state = self.state.borrow();
        let partition = state
            .by_id
            .get(&request.partition)
            .and_then(|slot| state.partitions.get(slot.0 as usize))
            .ok_or(ReadError::UnknownPartition)?;
        check(partition, request.offset)?;
        let limit = partition.high_watermark;
        let mut outcome = partition.empty();
        if request.offset >= limit {
            return Ok(Some(outcome));
        }
        let Some(extents) = partition.log.extents_from(request.offset) else { return Ok(None) };
        let mut offset = request.offset;
        for extent in extents {
            let Source::Ring { buffer, start, .. } = &extent.source else { break };
            let left = request.max_bytes.saturating_sub(outcome.bytes);
            let whole =
                offset <= extent.base_offset && extent.next_offset <= limit && extent.len <= left;
            let range = if whole {
                *start..*start + extent.len
            } else {
                if left == 0 && outcome.bytes > 0 {
                    break;
                }
                let bytes = buffer.get(*start..*start + extent.len).unwrap_or(&[]);
                let selection = select(bytes, offset, limit, left);
                let Some(first) = selection.start else { break };
                let taken = selection.end.saturating_sub(first);
                if taken == 0 || (outcome.bytes > 0 && taken > left) {
                    break;
                }
                outcome.take(Slice::Shared(buffer.clone(), *start + first..*start + selection.end));
                if selection.stopped || selection.end < extent.len {
                    break;
                }
                offset = extent.next_offset;
                continue;
            };
            outcome.take(Slice::Shared(buffer.clone(), range));
            offset = extent.next_offset;
        }
        Ok((outcome.bytes > 0).then_some(outcome))
    }

    /// Reads, from the disk if need be.
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub async fn read(&self, request: &ReadRequest) -> Result<Outcome, ReadError> {
        let mut request = *request;
        let mut looks = 0;
        // Each time round either answers or loads one index; the log may move meanwhile.
        while looks < LOOKS_MAX {
            if let Some(outcome) = self.read_memory(&request)? {
                return Ok(outcome);
            }
            self.swapped(request.partition)
                .await
                .map_err(|_| ReadError::Disk(io::Error::other("the core is fenced")))?;
            let (cold, swaps) = self
                .with(request.partition, |p| Some((p.plan_cold(request.offset)?, p.swaps)))
                .flatten()
                .ok_or(ReadError::UnknownPartition)?;
            looks += 1;
            let mut of_segment = None;
            let raw = match cold {
                Cold::Index { directory, segment } => {
                    match self.load_indexes(request.partition, &directory, segment).await {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(error.into());
                        }
                        _ => continue,
                    }
                }
                Cold::Journal { path, position, len } => {
                    self.read_range(&path, position, len).await.map(|slice| vec![slice])
                }
                Cold::Segment { path, position, limit, head, base } => {
                    of_segment = Some(base);
                    self.read_segment(&path, position, limit, &head, &request).await
                }
            };
            if self.with(request.partition, |p| p.swaps) != Some(swaps) {
                // Compaction has put other files in place meanwhile.
                looks -= 1;
                continue;
            }
            let raw = match raw {
                // An old journal that was drained meanwhile, or the partition is deleted: look again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                raw => raw?,
            };
            let gaps = of_segment.map(|base| {
                self.with(request.partition, |p| {
                    (base < p.log.cleaned_to(), p.log.segment_after(base))
                })
            });
            let (gaps, next_segment) = gaps.flatten().unwrap_or_default();
            if let Some(outcome) = self.cut(&request, raw, gaps)? {
                return Ok(outcome);
            }
            if gaps && let Some(next) = next_segment.filter(|next| *next > request.offset) {
                // Compaction has left nothing from here to the segment's end.
                request.offset = next;
                looks = 0;
            }
        }
        Err(ReadError::Disk(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("partition {}: no batch at offset {}", request.partition, request.offset),
        )))
    }

    /// Cuts raw bytes, which start at a batch, to what was asked for and may be seen.
    fn cut(
        &self,
        request: &ReadRequest,
        raw: Vec<Slice>,
        gaps: bool,
    ) -> Result<Option<Outcome>, ReadError> {
        let (mut outcome, limit) = self
            .with(request.partition, |p| (p.empty(), p.high_watermark))
            .ok_or(ReadError::UnknownPartition)?;
        let mut offset = request.offset;
        for slice in raw {
            let left = request.max_bytes.saturating_sub(outcome.bytes);
            let selection = select(slice.bytes(), offset, limit, left);
            let Some(first) = selection.start else { continue };
            let taken = selection.end.saturating_sub(first);
            if taken == 0 || (outcome.bytes > 0 && taken > left) {
                break;
            }
            let taken = slice.bytes().get(first..selection.end).unwrap_or(&[]);
            if !continuous(taken, offset, gaps) {
                return Err(ReadError::Disk(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("partition {}: offsets do not follow at {offset}", request.partition),
                )));
            }
            outcome.take(match slice {
                Slice::Shared(buffer, range) => {
                    Slice::Shared(buffer, range.start + first..range.start + selection.end)
                }
                Slice::Owned(bytes) => Slice::Owned(bytes.slice(first..selection.end)),
            });
            offset = selection.next_offset;
            if selection.stopped {
                break;
            }
        }
        Ok((outcome.bytes > 0).then_some(outcome))
    }

    pub(super) async fn read_range(
        &self,
        path: &Path,
        position: u64,
        len: usize,
    ) -> io::Result<Slice> {
        let file = self.open_files.get(path).await?;
        let start = align_down(position);
        let skip = usize::try_from(position - start).map_err(io::Error::other)?;
        let buffer = file.read(start, align_up(skip + len)).await?;
        self.count(|c| {
            c.cold_reads += 1;
            c.cold_read_bytes += buffer.len() as u64;
        });
        let end = (skip + len).min(buffer.len());
        Ok(Slice::Shared(buffer, skip.min(end)..end))
    }

    /// Bytes from a batch at `position` on, up to about a cold read's worth, with the batch that
    /// straddles file and head put together.
    async fn read_segment(
        &self,
        path: &Path,
        position: u64,
        limit: u64,
        head: &Head,
        request: &ReadRequest,
    ) -> io::Result<Vec<Slice>> {
        if position >= limit {
            // Nothing of it is in the file; there may be no file yet.
            return Ok(vec![Slice::Owned(self.head_bytes(head).await?)]);
        }
        let mut position = position;
        let mut want = request.max_bytes.clamp(16 * BLOCK, COLD_READ_BYTES);
        loop {
            let len = usize::try_from(limit.saturating_sub(position)).map_err(io::Error::other)?;
            let slice = self.read_range(path, position, len.min(want)).await?;
            let bytes = slice.bytes();
            let selection = select(bytes, request.offset, Offset(i64::MAX), usize::MAX);
            let whole = if selection.end > 0 { selection.end } else { selection.walked };
            let reached = position + bytes.len() as u64 >= limit;
            if selection.end > 0 && !reached {
                return Ok(vec![slice]);
            }
            if reached {
                // What is left over is the first part of a batch whose rest is in the head.
                let rest = bytes.get(whole..).unwrap_or(&[]);
                let tail = self.head_bytes(head).await?;
                let mut joined = BytesMut::with_capacity(rest.len() + tail.len());
                joined.extend_from_slice(rest);
                joined.extend_from_slice(&tail);
                self.count(|c| c.bytes_copied += joined.len() as u64);
                return Ok(vec![slice, Slice::Owned(joined.freeze())]);
            }
            if selection.walked > 0 {
                position += selection.walked as u64;
            } else {
                let need = BatchHeader::read(bytes).and_then(BatchHeader::size).unwrap_or(0);
                if need <= want {
                    return Ok(vec![slice]);
                }
                want = need;
            }
        }
    }

    pub(super) async fn head_bytes(&self, head: &Head) -> io::Result<Bytes> {
        match head {
            // A spilled head is in the file, below its limit.
            Head::None | Head::Disk(_) => Ok(Bytes::new()),
            Head::Memory(bytes) => Ok(bytes.clone()),
            Head::Journal { path, position, len } => {
                let slice = self.read_range(path, *position, *len).await?;
                Ok(Bytes::copy_from_slice(slice.bytes()))
            }
        }
    }
}

impl Outcome {
    fn take(&mut self, slice: Slice) {
        self.bytes += slice.len();
        self.slices.push(slice);
    }
}

impl Partition {
    fn empty(&self) -> Outcome {
        Outcome {
            slices: Vec::new(),
            bytes: 0,
            high_watermark: self.high_watermark,
            log_start: self.log.log_start(),
            diverging: None,
        }
    }

    fn plan_cold(&mut self, offset: Offset) -> Option<Cold> {
        let log: &Log = &self.log;
        if let Some(extent) = log.extents_from(offset).and_then(|mut e| e.next())
            && let Source::Journal { path, position } = &extent.source
        {
            return Some(Cold::Journal {
                path: Rc::clone(path),
                position: *position,
                len: extent.len,
            });
        }
        let segment = log.segment_of(offset)?;
        if !segment.index.is_complete() {
            return Some(Cold::Index { directory: self.directory.clone(), segment: segment.base });
        }
        let head =
            if segment.base == log.drained().segment { log.head().clone() } else { Head::None };
        let limit = log.file_limit(segment);
        Some(Cold::Segment {
            path: segment_path(&self.directory, segment.base, "log"),
            position: segment.index.position(relative(segment.base, offset), limit),
            limit,
            head,
            base: segment.base,
        })
    }
}

fn check(partition: &Partition, offset: Offset) -> Result<(), ReadError> {
    if offset < partition.log.log_start() || offset > partition.log.end() {
        return Err(ReadError::OffsetOutOfRange {
            log_start: partition.log.log_start(),
            high_watermark: partition.high_watermark,
        });
    }
    Ok(())
}

/// Whether the batches follow each other, and the first holds `offset` (storage rule 15). Between those of
/// a compacted segment there may be `gaps`.
fn continuous(bytes: &[u8], offset: Offset, gaps: bool) -> bool {
    let mut expected: Option<Offset> = None;
    for batch in batches(bytes) {
        let Ok(batch) = batch else { return false };
        let header = batch.header();
        let follows = match expected {
            Some(expected) => {
                header.base_offset() == expected || (gaps && header.base_offset() > expected)
            }
            None => (header.base_offset() <= offset || gaps) && offset < header.next_offset(),
        };
        if !follows {
            return false;
        }
        expected = Some(header.next_offset());
    }
    true
}
