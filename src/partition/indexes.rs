//! The files of a segment's indexes: written with the drains, found again after a restart, made whole
//! with the roll.

use std::io;
use std::ops::Range;
use std::path::Path;

use super::drain::Piece;
use super::{Partition, Store};
use crate::limits::COLD_READ_BYTES;
use crate::log::index::{IndexWrite, IndexedBatch, SegmentIndex, relative};
use crate::log::segment::path as segment_path;
use crate::log::{DrainPlan, Head};
use crate::record::{BatchHeader, HEADER_SIZE, batches};
use crate::storage::{Open, block_buffer, is_full, read_file, replace_file};
use crate::types::{Offset, TopicPartition};

/// Extensions of the two files.
const OFFSETS: &str = "index";
const TIMES: &str = "timeindex";

impl Store {
    /// Notes the drained batches in the segment's indexes, and writes what is new of them, unflushed.
    pub(super) async fn note_indexes(
        &self,
        id: TopicPartition,
        plan: &DrainPlan,
        pieces: &[Piece],
        directory: &Path,
    ) -> io::Result<()> {
        self.note_batches(id, plan, pieces);
        let base = plan.from.segment;
        let least = self.settings.index_write_entries;
        let writes = self.with(id, |p| {
            let index = &mut p.log.segment_mut(base)?.index;
            let writes = (index.offsets_to_write(least), index.times_to_write(least));
            Some(writes)
        });
        let Some((offsets, times)) = writes.flatten() else { return Ok(()) };
        // What cannot be written for want of space stays to be written with what comes later.
        if self.write_index(directory, base, OFFSETS, offsets).await? {
            self.with(id, |p| p.log.segment_mut(base).map(|s| s.index.offsets_written()));
        }
        if self.write_index(directory, base, TIMES, times).await? {
            self.with(id, |p| p.log.segment_mut(base).map(|s| s.index.times_written()));
        }
        Ok(())
    }

    /// Notes the drained batches in the indexes in memory.
    pub(super) fn note_batches(&self, id: TopicPartition, plan: &DrainPlan, pieces: &[Piece]) {
        let base = plan.from.segment;
        self.with(id, |p| {
            let interval = p.log.index_interval_bytes();
            for piece in pieces.iter().skip(usize::from(!plan.head.is_empty())) {
                let mut position = piece.range.start;
                for batch in batches(piece.content()) {
                    let Ok(batch) = batch else { break };
                    p.log.note_drained(batch.header());
                    let noted = indexed(batch.header(), base, position, batch.size() as u64);
                    if let Some(segment) = p.log.segment_mut(base) {
                        segment.index.note(&noted, interval);
                    }
                    position += batch.size() as u64;
                }
            }
        });
    }

    async fn write_index(
        &self,
        directory: &Path,
        base: Offset,
        extension: &str,
        write: Option<IndexWrite>,
    ) -> io::Result<bool> {
        let Some(IndexWrite { position, bytes }) = write else { return Ok(false) };
        let path = segment_path(directory, base, extension);
        let file = match self.storage.open(&path, Open::Create).await {
            Err(error) if is_full(&error) => return Ok(false),
            file => file?,
        };
        let written = file.write(block_buffer(&*self.storage, &bytes), position).await;
        file.close().await?;
        match written {
            Err(error) if is_full(&error) => Ok(false),
            written => written.map(|()| true),
        }
    }

    /// Writes the whole indexes of a segment that is complete (rule 14).
    pub(super) async fn seal_indexes(
        &self,
        id: TopicPartition,
        base: Offset,
        directory: &Path,
    ) -> io::Result<()> {
        let bytes = self.with(id, |p| {
            let index = &mut p.log.segment_mut(base)?.index;
            index.seal();
            Some((index.offset_bytes().to_vec(), index.time_bytes().to_vec()))
        });
        let Some((offsets, times)) = bytes.flatten() else { return Ok(()) };
        self.replace_indexes(directory, base, &offsets, &times).await
    }

    async fn replace_indexes(
        &self,
        directory: &Path,
        base: Offset,
        offsets: &[u8],
        times: &[u8],
    ) -> io::Result<()> {
        for (extension, bytes) in [(OFFSETS, offsets), (TIMES, times)] {
            let path = segment_path(directory, base, extension);
            replace_file(&*self.storage, &path, bytes).await?;
        }
        Ok(())
    }

    /// Sees to it, before a drain notes batches in a segment's indexes, that these are in memory and that
    /// their files hold nothing else.
    pub(super) async fn prepare_indexes(
        &self,
        id: TopicPartition,
        directory: &Path,
        base: Offset,
    ) -> io::Result<()> {
        let complete = |p: &mut Partition| {
            p.log.segment_mut(base).is_some_and(|segment| segment.index.is_complete())
        };
        if !self.with(id, complete).unwrap_or(true) {
            self.load_indexes(id, directory, base).await?;
        }
        let cut = self.with(id, |p| p.log.segment_mut(base)?.index.files_to_cut()).flatten();
        let Some((offsets, times)) = cut else { return Ok(()) };
        for (extension, len) in [(OFFSETS, offsets), (TIMES, times)] {
            let path = segment_path(directory, base, extension);
            // The lock waits for writes of a killed process.
            let file = match self.storage.open(&path, Open::Write).await {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if file.size().await? > len {
                file.truncate(len).await?;
                file.flush().await?;
            }
            file.close().await?;
        }
        self.with(id, |p| {
            if let Some(segment) = p.log.segment_mut(base) {
                segment.index.files_cut();
            }
        });
        Ok(())
    }

    /// Loads a segment's indexes: from their files as far as these can be true, the rest by walking the
    /// segment. Those of a sealed segment that are missing or damaged are written again.
    pub(super) async fn load_indexes(
        &self,
        id: TopicPartition,
        directory: &Path,
        base: Offset,
    ) -> io::Result<()> {
        self.swapped(id).await.map_err(|_| io::Error::other("the core is fenced"))?;
        let known = self.with(id, |p| {
            let segment = p.log.segment_of(base)?;
            let drained = segment.base == p.log.drained().segment;
            let head = if drained { p.log.head().clone() } else { Head::None };
            let interval = p.log.index_interval_bytes();
            let place = (segment.sealed, p.log.file_limit(segment), p.swaps);
            Some((place, head, interval))
        });
        let Some(((sealed, limit, swaps), head, interval)) = known.flatten() else {
            return Ok(());
        };
        let offsets = self.read_index(directory, base, OFFSETS).await?;
        let times = self.read_index(directory, base, TIMES).await?;
        let found = match (&offsets, &times) {
            (Some(offsets), Some(times)) if sealed => {
                SegmentIndex::from_sealed_files(offsets, times, limit)
            }
            _ => None,
        };
        let mut index = match found {
            Some(index) => index,
            None => {
                let (offsets, times) = (offsets.unwrap_or_default(), times.unwrap_or_default());
                let mut index = SegmentIndex::from_files(&offsets, &times, limit);
                let log = segment_path(directory, base, "log");
                let position =
                    self.complete_indexes(&log, base, limit, interval, &mut index).await?;
                let rest = position..limit;
                self.note_head(&log, base, rest, &head, interval, &mut index).await?;
                if sealed {
                    index.seal();
                    self.repair_indexes(id, directory, base, &index).await?;
                }
                index
            }
        };
        index.complete();
        self.with(id, |p| {
            if let Some(segment) = p.log.segment_mut(base)
                && !segment.index.is_complete()
                && segment.sealed == sealed
                && p.swaps == swaps
            {
                segment.index = index;
            }
        });
        Ok(())
    }

    /// Writes the indexes of a sealed segment again, unless a compaction is about to do so.
    async fn repair_indexes(
        &self,
        id: TopicPartition,
        directory: &Path,
        base: Offset,
        index: &SegmentIndex,
    ) -> io::Result<()> {
        let begun = self.with(id, |p| {
            p.repairing += u32::from(!p.compacting);
            !p.compacting
        });
        if begun != Some(true) {
            return Ok(());
        }
        let (offsets, times) = (index.offset_bytes(), index.time_bytes());
        let written = self.replace_indexes(directory, base, offsets, times).await;
        self.with_removed(id, |p| p.repairing -= 1);
        written
    }

    async fn read_index(
        &self,
        directory: &Path,
        base: Offset,
        extension: &str,
    ) -> io::Result<Option<Vec<u8>>> {
        match read_file(&*self.storage, &segment_path(directory, base, extension)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Walks what of a segment's file the indexes do not have. Returns where its last whole batch ends.
    async fn complete_indexes(
        &self,
        path: &Path,
        base: Offset,
        limit: u64,
        interval: u64,
        index: &mut SegmentIndex,
    ) -> io::Result<u64> {
        // The unflushed files may hold anything: the last entry must name a batch.
        while let Some((offset, position)) = index.last() {
            let slice = self.read_range(path, position, HEADER_SIZE).await?;
            let fits = BatchHeader::read(slice.bytes())
                .is_some_and(|h| relative(base, h.next_offset()) - 1 == offset);
            if fits {
                break;
            }
            index.distrust_last_block();
        }
        let mut position = index.noted_to();
        while position < limit {
            let len = usize::try_from(limit - position).map_err(io::Error::other)?;
            let slice = self.read_range(path, position, len.min(COLD_READ_BYTES)).await?;
            let mut at = 0_u64;
            for batch in batches(slice.bytes()) {
                let Ok(batch) = batch else { break };
                let size = batch.size() as u64;
                index.note(&indexed(batch.header(), base, position + at, size), interval);
                at += size;
            }
            if at == 0 {
                // A batch larger than one read: its header says enough.
                let Some(header) = BatchHeader::read(slice.bytes()) else { break };
                let Some(size) = header.size().map(|size| size as u64) else { break };
                if position + size > limit {
                    break;
                }
                index.note(&indexed(header, base, position, size), interval);
                at = size;
            }
            position += at;
        }
        Ok(position)
    }

    /// Notes the batches that begin in `rest`, the end of a segment's file, or in the head behind it: the
    /// drain that made that head had noted them.
    async fn note_head(
        &self,
        path: &Path,
        base: Offset,
        rest: Range<u64>,
        head: &Head,
        interval: u64,
        index: &mut SegmentIndex,
    ) -> io::Result<()> {
        let head = self.head_bytes(head).await?;
        if head.is_empty() {
            return Ok(());
        }
        let len = usize::try_from(rest.end - rest.start).map_err(io::Error::other)?;
        let mut bytes = if len > 0 {
            self.read_range(path, rest.start, len).await?.bytes().to_vec()
        } else {
            Vec::new()
        };
        bytes.extend_from_slice(&head);
        let mut position = rest.start;
        for batch in batches(&bytes).flatten() {
            let size = batch.size() as u64;
            let noted = indexed(batch.header(), base, position, size);
            index.note(&noted, interval);
            position += size;
        }
        Ok(())
    }
}

fn indexed(header: &BatchHeader, base: Offset, position: u64, len: u64) -> IndexedBatch {
    IndexedBatch {
        relative_offset: relative(base, header.next_offset()) - 1,
        position,
        len,
        timestamp: header.max_timestamp(),
    }
}
