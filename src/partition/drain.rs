//! Drains: from ring and journal into segment files, so that journal files can be used again.
//!
//! A pass takes every partition that has undrained bytes in a journal file older than the current one,
//! writes its whole blocks to its segment and flushes them, puts the last partial block into the
//! journal once more (rule 13), then writes a checkpoint; only then are older journal files free
//! (rule 12). A partition that had nothing new for a whole cycle is spilled instead: its partial block
//! goes to the segment padded with zeros.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future::zip;

use super::{CoreCheckpoint, PartitionCheckpoint, Store};
use crate::journal::checkpoint;
use crate::journal::files::FileNumber;
use crate::journal::format::EntryKind;
use crate::journal::{Append, Fenced, Slot};
use crate::limits::{BLOCK, DRAINS_AT_ONCE, RESERVE_STEP_MAX, RESERVE_STEP_MIN};
use crate::log::epochs::checkpoint_text;
use crate::log::segment::path as segment_path;
use crate::log::{DrainPlan, Head, Place, Source};
use crate::storage::{Buffer, File, Open, align_down, align_up, replace_file};
use crate::types::{Durability, Offset, TopicPartition};

/// Kafka's name for the file of leader epochs.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// Bytes in memory that go to `range` of the segment.
pub(super) struct Piece {
    pub(super) range: Range<u64>,
    buffer: PieceBytes,
    start: usize,
}

enum PieceBytes {
    Shared(Buffer),
    Owned(Bytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match &self.buffer {
            PieceBytes::Shared(buffer) => buffer.bytes(),
            PieceBytes::Owned(bytes) => bytes,
        }
    }

    /// Its bytes of the segment.
    pub(super) fn content(&self) -> &[u8] {
        let len = usize_of(self.range.end - self.range.start).unwrap_or(0);
        self.bytes().get(self.start..self.start + len).unwrap_or(&[])
    }
}

fn fenced(_: Fenced) -> io::Error {
    io::Error::other("the core is fenced")
}

impl Store {
    /// Starts a pass if the journal's live window has grown enough.
    pub(super) fn drain_if_needed(&self) {
        if self.journal.live_bytes() >= self.settings.drain_bytes {
            self.start_pass();
        }
    }

    pub(super) fn start_pass(&self) {
        let Some(store) = self.weak.upgrade() else { return };
        {
            let mut state = self.state.borrow_mut();
            if state.draining || state.stopping || self.journal.failure().is_some() {
                return;
            }
            state.draining = true;
        }
        self.storage.spawn(Box::pin(async move {
            let result = store.pass().await;
            store.state.borrow_mut().draining = false;
            match result {
                Ok(()) => {
                    store.count(|c| c.drain_passes += 1);
                    store.passes.advance(store.passes.reached() + 1);
                    store.drain_if_needed();
                }
                // The first failed drain fences the core: simpler than rule 10's second chance, and as
                // safe (docs/decisions/0005-the-first-failed-drain-fences.md).
                Err(error) => store.journal.fence(&error),
            }
        }));
    }

    async fn pass(self: &Rc<Store>) -> io::Result<()> {
        if self.journal.oldest_file() == self.journal.current_file()
            && self.journal.live_bytes() >= self.settings.drain_bytes
        {
            self.journal.roll().await.map_err(fenced)?;
        }
        let work: Vec<Slot> = {
            let mut state = self.state.borrow_mut();
            let current = self.journal.current_file();
            let mut work = std::mem::take(&mut state.to_seal);
            work.extend(state.dirty.range(..current).flat_map(|(_, slots)| slots.iter().copied()));
            work.into_iter().collect()
        };
        let work = Rc::new(RefCell::new(work.into_iter()));
        let worker = || {
            let (store, work) = (Rc::clone(self), Rc::clone(&work));
            async move {
                loop {
                    let next = work.borrow_mut().next();
                    match next {
                        Some(slot) => store.drain(slot).await?,
                        None => return io::Result::Ok(()),
                    }
                }
            }
        };
        const _: () = assert!(DRAINS_AT_ONCE == 4);
        let ((a, b), (c, d)) = zip(zip(worker(), worker()), zip(worker(), worker())).await;
        a.and(b).and(c).and(d)?;
        self.save_checkpoint().await
    }

    /// Writes the checkpoint and lets go of the journal files that it makes unnecessary.
    pub(super) async fn save_checkpoint(&self) -> io::Result<()> {
        let (body, sequence, first_live, recovered_done) = {
            let mut state = self.state.borrow_mut();
            state.checkpoint_sequence += 1;
            // A partition whose bytes of earlier starts are not drained may have any number of this
            // start's files behind them.
            let first_live = match state.dirty.keys().next() {
                Some(FileNumber(0)) => self.journal.oldest_file(),
                Some(oldest) => *oldest,
                None => self.journal.current_file(),
            };
            let body = CoreCheckpoint {
                first_sequence: self.journal.first_sequence(first_live),
                flushed: self.journal.flushed(),
                partitions: state
                    .partitions
                    .iter()
                    .map(|(_, p)| PartitionCheckpoint {
                        id: p.id,
                        needs_earlier: p.dirty == Some(FileNumber(0)),
                        log: p.log.checkpoint(),
                    })
                    .collect(),
            };
            let done = !state.dirty.contains_key(&FileNumber(0));
            (body, state.checkpoint_sequence, first_live, done)
        };
        let chain = self.settings.chain;
        let path = checkpoint::path(&self.settings.journal_directory, chain, sequence);
        checkpoint::save(&*self.storage, &path, chain.generation, sequence, &body).await?;
        for saved in &body.partitions {
            let Some(sealed_to) = saved.log.sealed.last().map(|s| s.next_offset) else { continue };
            let removable = self.with(saved.id, |p| {
                p.log.sealed_saved(sealed_to);
                p.log.first_removable().is_some()
            });
            if removable == Some(true) {
                self.trim_in_background(saved.id);
            }
        }
        self.journal.recycle_below(first_live);
        if recovered_done {
            // Removed files keep their space for as long as they are open.
            self.open_files.forget(&self.settings.journal_directory).await?;
            self.recovered_drained.advance(1);
        }
        Ok(())
    }

    async fn drain(&self, slot: Slot) -> io::Result<()> {
        let Some(id) = self.begin_drain(slot) else { return Ok(()) };
        // Not further than the log's end as of now, or a fast producer would keep the pass from ending.
        let goal = self.with(id, |p| p.log.end_place());
        let mut result = self.drain_step(id, slot, true).await;
        while let Ok(true) = result {
            let drained = self.with(id, |p| p.log.drained());
            if drained >= goal {
                break;
            }
            result = self.drain_step(id, slot, false).await;
        }
        self.end_drain(slot, id);
        result.map(|_| ())
    }

    fn begin_drain(&self, slot: Slot) -> Option<TopicPartition> {
        let mut state = self.state.borrow_mut();
        let partition = state.partitions.get_mut(slot.0 as usize)?;
        if partition.draining {
            return None;
        }
        partition.draining = true;
        Some(partition.id)
    }

    fn end_drain(&self, slot: Slot, id: TopicPartition) {
        let mut state = self.state.borrow_mut();
        let Some(partition) = state.partitions.get_mut(slot.0 as usize) else { return };
        if partition.id != id {
            return;
        }
        partition.draining = false;
        self.idle.advance(self.idle.reached() + 1);
        let in_extent = partition.log.first_undrained().map(|e| match e.source {
            Source::Ring { file, .. } => file,
            Source::Journal { .. } => FileNumber(0),
        });
        let in_head = match partition.log.head() {
            Head::None | Head::Disk(_) => None,
            Head::Memory(_) => partition.remainder,
            Head::Journal { .. } => Some(FileNumber(0)),
        };
        let oldest = in_extent.into_iter().chain(in_head).min();
        if oldest != Some(FileNumber(0)) {
            partition.log.forget_drained_recovered();
        }
        let before = std::mem::replace(&mut partition.dirty, oldest);
        if before != oldest {
            if let Some(file) = before {
                state.clean(file, slot);
            }
            if let Some(file) = oldest {
                state.dirty.entry(file).or_default().insert(slot);
            }
        }
    }

    /// Drains the next step of a partition; says whether it moved anything. Only the first step of a
    /// cycle may find the partition idle.
    async fn drain_step(&self, id: TopicPartition, slot: Slot, first: bool) -> io::Result<bool> {
        let written = self.journal.written();
        let planned = self
            .with(id, |p| {
                let plan = p.log.plan_drain(written, self.settings.drain_step_bytes)?;
                Some((plan, p.directory.clone()))
            })
            .flatten();
        let Some((plan, directory)) = planned else { return Ok(false) };
        if !first && plan.extents.is_empty() && !plan.last {
            return Ok(false);
        }
        self.make_directory(id, &directory).await?;
        self.prepare_indexes(id, &directory, plan.from.segment).await?;
        let path = segment_path(&directory, plan.from.segment, "log");
        let new_file = plan.from.position == 0 && !matches!(plan.head, Head::Disk(_));
        let file = self.storage.open(&path, Open::Create).await?;
        let more = self.drain_into(id, slot, &plan, &directory, &file).await;
        file.close().await?;
        if new_file {
            self.storage.flush_directory(&directory).await?;
        }
        let (place, head, more) = more?;
        self.with(id, |p| match place {
            Some(place) => p.log.drained_to(place, head, plan.next_offset),
            None => p.log.sealed(plan.from.segment),
        });
        self.write_epochs(id, &directory, plan.next_offset).await?;
        Ok(more)
    }

    async fn drain_into(
        &self,
        id: TopicPartition,
        slot: Slot,
        plan: &DrainPlan,
        directory: &Path,
        file: &Rc<dyn File>,
    ) -> io::Result<(Option<Place>, Head, bool)> {
        let from = plan.from.position;
        let head_len = plan.head.len() as u64;
        let idle = plan.extents.is_empty() && !plan.last;
        let head = self.load_head(&plan.head, file, from).await?;
        if let Head::Disk(_) = plan.head {
            // The block on disk is about to be written again: it must not be the only copy (rule 13).
            let next_offset = self.with(id, |p| p.log.head_next_offset()).unwrap_or_default();
            self.journal_remainder(id, slot, plan, from, head.clone(), next_offset).await?;
        }
        let pieces = self.load_pieces(plan, head).await?;
        let whole = if plan.last || idle { align_up_u64(plan.to) } else { align_down(plan.to) };
        if whole > from {
            self.write_blocks(file, from..whole, &pieces).await?;
        }
        if !idle {
            self.note_indexes(id, plan, &pieces, directory).await?;
        }
        if plan.last {
            file.truncate(plan.to).await?;
        }
        if whole > from || plan.last {
            file.flush().await?;
            self.count(|c| c.segment_flushes += 1);
        }
        if plan.last {
            self.seal_indexes(id, plan.from.segment, directory).await?;
            self.write_snapshot(id, plan.next_offset, directory).await?;
            return Ok((None, Head::None, true));
        }
        let place = |position| Some(Place { segment: plan.from.segment, position });
        if idle {
            return Ok((place(from), Head::Disk(usize_of(head_len)?), false));
        }
        let rest = plan.to - whole;
        if rest == 0 {
            return Ok((place(whole), Head::None, whole > from));
        }
        let mut tail = vec![0; usize_of(rest)?];
        copy_range(&pieces, whole, &mut tail)?;
        let tail = Bytes::from(tail);
        self.journal_remainder(id, slot, plan, whole, tail.clone(), plan.next_offset).await?;
        // A step that moved nothing out ends the drain: the rest waits for more to come.
        Ok((place(whole), Head::Memory(tail), whole > from))
    }

    /// Puts bytes that are journaled already into the journal again, and waits until they are flushed.
    async fn journal_remainder(
        &self,
        id: TopicPartition,
        slot: Slot,
        plan: &DrainPlan,
        position: u64,
        bytes: Bytes,
        next_offset: Offset,
    ) -> io::Result<()> {
        let epoch = self.with(id, |p| p.epoch(self.settings.incarnation));
        let Some(leader_epoch) = epoch else { return Ok(()) };
        let sequence = self.journal.append(Append {
            slot,
            kind: EntryKind::Remainder,
            class: Durability::Flushed,
            partition: id,
            segment: plan.from.segment,
            position,
            base_offset: next_offset,
            next_offset,
            leader_epoch,
            bytes,
        });
        self.journal.reach(sequence, Durability::Flushed).await.map_err(fenced)
    }

    async fn load_head(&self, head: &Head, file: &Rc<dyn File>, from: u64) -> io::Result<Bytes> {
        match head {
            Head::None => Ok(Bytes::new()),
            Head::Memory(bytes) => Ok(bytes.clone()),
            Head::Disk(len) => {
                let block = file.read(from, BLOCK).await?;
                block.get(0..*len).map(Bytes::copy_from_slice).ok_or_else(|| short(from))
            }
            Head::Journal { path, position, len } => {
                let file = self.open_files.get(path).await?;
                let start = align_down(*position);
                let skip = usize_of(position - start)?;
                let buffer = file.read(start, align_up(skip + len)).await?;
                buffer
                    .get(skip..skip + len)
                    .map(Bytes::copy_from_slice)
                    .ok_or_else(|| short(*position))
            }
        }
    }

    async fn load_pieces(&self, plan: &DrainPlan, head: Bytes) -> io::Result<Vec<Piece>> {
        let from = plan.from.position;
        let mut pieces = Vec::with_capacity(plan.extents.len() + 1);
        if !head.is_empty() {
            let range = from..from + head.len() as u64;
            pieces.push(Piece { range, buffer: PieceBytes::Owned(head), start: 0 });
        }
        for extent in &plan.extents {
            let range = extent.position..extent.end();
            match &extent.source {
                Source::Ring { buffer, start, .. } => pieces.push(Piece {
                    range,
                    buffer: PieceBytes::Shared(buffer.clone()),
                    start: *start,
                }),
                Source::Journal { path, position } => {
                    let file = self.open_files.get(path).await?;
                    let start = align_down(*position);
                    let skip = usize_of(position - start)?;
                    let buffer = file.read(start, align_up(skip + extent.len)).await?;
                    pieces.push(Piece { range, buffer: PieceBytes::Shared(buffer), start: skip });
                }
            }
        }
        Ok(pieces)
    }

    async fn write_blocks(
        &self,
        file: &Rc<dyn File>,
        range: Range<u64>,
        pieces: &[Piece],
    ) -> io::Result<()> {
        self.reserve(file, range.end).await?;
        let mut at = range.start;
        while at < range.end {
            let first = self.write_chunk(file, at, range.end, pieces)?;
            at = first.1;
            if at < range.end {
                let second = self.write_chunk(file, at, range.end, pieces)?;
                at = second.1;
                let (a, b) = zip(first.0, second.0).await;
                a.and(b)?;
            } else {
                first.0.await?;
            }
        }
        self.count(|c| c.segment_write_bytes += range.end - range.start);
        Ok(())
    }

    fn write_chunk(
        &self,
        file: &Rc<dyn File>,
        at: u64,
        end: u64,
        pieces: &[Piece],
    ) -> io::Result<(crate::storage::Io<()>, u64)> {
        let len = usize_of(end - at)?.min(self.settings.drain_write_bytes);
        let mut buffer = self.storage.allocate(len);
        copy_range(pieces, at, buffer.bytes_mut())?;
        Ok((file.write(buffer.freeze(), at), at + len as u64))
    }

    async fn reserve(&self, file: &Rc<dyn File>, end: u64) -> io::Result<()> {
        let size = file.size().await?;
        if size >= end {
            return Ok(());
        }
        let step = size.clamp(RESERVE_STEP_MIN, RESERVE_STEP_MAX);
        file.reserve(end.next_multiple_of(step)).await
    }

    /// Writes Kafka's file of leader epochs when a drain has brought a new one. Recovery does not read it.
    async fn write_epochs(
        &self,
        id: TopicPartition,
        directory: &Path,
        end: Offset,
    ) -> io::Result<()> {
        let changed = self.with(id, |p| {
            let known = p.log.epochs().partition_point(|(_, began)| *began < end);
            let known = p.log.epochs().get(..known)?;
            let ends = known.first().zip(known.last()).map(|(first, last)| [*first, *last]);
            let before = std::mem::replace(&mut p.epochs_written, ends);
            (before != ends).then(|| checkpoint_text(p.log.epochs(), end))
        });
        match changed.flatten() {
            Some(text) => {
                let path = directory.join(LEADER_EPOCHS);
                replace_file(&*self.storage, &path, text.as_bytes()).await
            }
            None => Ok(()),
        }
    }

    /// Writes the producers as of a segment's end under the name of the next segment, as Kafka does. A
    /// partition without producers has no such files.
    async fn write_snapshot(
        &self,
        id: TopicPartition,
        end: Offset,
        directory: &Path,
    ) -> io::Result<()> {
        let bytes = self.with(id, |p| {
            let producers = p.log.drained_producers();
            (!producers.is_empty()).then(|| producers.snapshot())
        });
        let path = segment_path(directory, end, "snapshot");
        match bytes.flatten() {
            Some(bytes) => replace_file(&*self.storage, &path, &bytes).await,
            // One of records that a power cut took may be there.
            None => match self.storage.remove(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Makes a partition's directory with its `partition.metadata` before its first drain (rule 16).
    async fn make_directory(&self, id: TopicPartition, directory: &Path) -> io::Result<()> {
        if self.with(id, |p| p.directory_made).unwrap_or(true) {
            return Ok(());
        }
        let path = directory.join(super::recovery::PARTITION_METADATA);
        let content = super::recovery::partition_metadata(id.topic);
        self.storage.create_directory(directory).await?;
        let known = crate::storage::read_file(&*self.storage, &path).await;
        if !known.is_ok_and(|bytes| bytes == content.as_bytes()) {
            replace_file(&*self.storage, &path, content.as_bytes()).await?;
        }
        // Even when the file was there: a process killed right here left its directory's name unflushed.
        self.storage.flush_directory(&self.settings.data).await?;
        self.with(id, |p| p.directory_made = true);
        Ok(())
    }
}

/// Fills `out` with the segment's bytes from `at` on; what lies past the last piece becomes zeros.
fn copy_range(pieces: &[Piece], at: u64, out: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    for piece in pieces {
        if filled == out.len() {
            break;
        }
        let here = at + filled as u64;
        if piece.range.end <= here {
            continue;
        }
        if piece.range.start > here {
            return Err(short(here));
        }
        let skip = usize_of(here - piece.range.start)?;
        let have = usize_of(piece.range.end - here)?;
        let len = have.min(out.len() - filled);
        let start = piece.start + skip;
        let bytes = piece.bytes().get(start..start + len).ok_or_else(|| short(here))?;
        out.get_mut(filled..filled + len).ok_or_else(|| short(here))?.copy_from_slice(bytes);
        filled += len;
    }
    out.get_mut(filled..).ok_or_else(|| short(at))?.fill(0);
    Ok(())
}

fn short(position: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("bytes at position {position} are neither in the ring nor in a journal"),
    )
}

fn usize_of(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(io::Error::other)
}

fn align_up_u64(value: u64) -> u64 {
    value.next_multiple_of(BLOCK as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(range: Range<u64>, byte: u8) -> Piece {
        let len = usize_of(range.end - range.start).unwrap();
        Piece { range, buffer: PieceBytes::Owned(Bytes::from(vec![byte; len])), start: 0 }
    }

    #[test]
    fn a_range_is_put_together_from_the_pieces_it_touches() {
        let pieces = [piece(0..3, 1), piece(3..8, 2), piece(8..9, 3), piece(9..12, 4)];
        // at, length, what is filled in; bytes past the last piece are zeros.
        let cases: [(u64, usize, &[u8]); 5] = [
            (0, 3, &[1, 1, 1]),
            // It ends inside a piece that others follow, as every full chunk of a large drain does.
            (0, 5, &[1, 1, 1, 2, 2]),
            (5, 5, &[2, 2, 2, 3, 4]),
            (9, 5, &[4, 4, 4, 0, 0]),
            (12, 1, &[0]),
        ];
        for (at, len, expected) in cases {
            let mut out = vec![0xa5; len];
            copy_range(&pieces, at, &mut out).unwrap();
            assert_eq!(out, expected, "{len} bytes at {at}");
        }
        let hole = [piece(0..3, 1), piece(4..8, 2)];
        assert!(copy_range(&hole, 0, &mut [0; 8]).is_err());
        assert!(copy_range(&hole, 0, &mut [0; 3]).is_ok());
    }
}
