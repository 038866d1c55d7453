//! Drains: from ring and journal into segment files, so that journal files can be used again.
//!
//! A pass takes every partition that has undrained bytes in a journal file older than the current one,
//! writes its whole blocks to its segment and flushes them, puts the last partial block into the
//! journal once more (rule 13), then writes a checkpoint; only then are older journal files free
//! (rule 12). A partition that had nothing new for a whole cycle is spilled instead: its partial block
//! goes to the segment padded with zeros. The partitions of a group share the wait for their partial
//! blocks, so ten thousand small ones cost dozens of journal flushes and not ten thousand.
//!
//! A partition that takes much is written ahead of the pass (`write_behind.rs`), which then has only to
//! flush.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::StreamExt;
use futures_lite::future::zip;
use futures_util::stream::FuturesUnordered;

use super::{CoreCheckpoint, Partition, PartitionCheckpoint, Store};
use crate::journal::checkpoint;
use crate::journal::files::FileNumber;
use crate::journal::format::EntryKind;
use crate::journal::{Append, Fenced, Reach, Slot};
use crate::limits::{
    BLOCK, DRAIN_GROUP, DRAINS_AT_ONCE, RESERVE_STEP_MAX, RESERVE_STEP_MIN, SPILLS_PER_PASS,
};
use crate::log::epochs::checkpoint_text;
use crate::log::segment::path as segment_path;
use crate::log::{DrainPlan, Head, Place, Source};
use crate::storage::{Buffer, File, Open, align_down, align_up, is_full, replace_file};
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
    /// Bytes from `start` of a buffer on.
    pub(super) fn shared(range: Range<u64>, buffer: &Buffer, start: usize) -> Piece {
        Piece { range, buffer: PieceBytes::Shared(buffer.clone()), start }
    }

    pub(super) fn owned(range: Range<u64>, bytes: Bytes) -> Piece {
        Piece { range, buffer: PieceBytes::Owned(bytes), start: 0 }
    }

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

/// A partition that a pass has drained, with the round of its partial block.
struct Drained {
    slot: Slot,
    id: TopicPartition,
    remainder: Option<u64>,
    /// The segment it wrote to last.
    open: Option<OpenSegment>,
}

/// A segment that a drain writes to.
struct OpenSegment {
    base: Offset,
    directory: PathBuf,
    file: Rc<dyn File>,
    /// Whether its name is not known to be durable.
    new: bool,
    /// Whether something was written since its last flush.
    unflushed: bool,
}

/// What came of taking a partition for work.
pub(super) enum Begun {
    Yes(TopicPartition),
    /// There is none in this slot any more.
    Gone,
    /// Other work is under way; wait for the end of some.
    Busy(Reach),
}

pub(super) fn fenced(_: Fenced) -> io::Error {
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
            store.pass_ends.advance(store.pass_ends.reached() + 1);
            match result {
                Ok(()) => {
                    store.found_space();
                    store.count(|c| c.drain_passes += 1);
                    store.passes.advance(store.passes.reached() + 1);
                    store.drain_if_needed();
                }
                // What it would have drained stays in the journal, until there is space again.
                Err(error) if is_full(&error) => store.found_full(&error),
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
        let spills = Cell::new(SPILLS_PER_PASS);
        for group in work.chunks(DRAIN_GROUP) {
            self.drain_group(group, &spills).await?;
        }
        self.save_checkpoint().await
    }

    /// Drains some partitions, and waits once for the partial blocks that all of them put into the journal.
    async fn drain_group(&self, slots: &[Slot], spills: &Cell<usize>) -> io::Result<()> {
        let work = RefCell::new(slots.iter().copied());
        let drained = RefCell::new(Vec::new());
        let full = RefCell::new(None);
        let worker = || async {
            loop {
                let next = work.borrow_mut().next();
                let Some(slot) = next else { return io::Result::Ok(()) };
                match self.drain(slot, spills).await {
                    Ok(Some(done)) => drained.borrow_mut().push(done),
                    Ok(None) => {}
                    // There is no need to try the others; those that are through are finished below.
                    Err(error) if is_full(&error) => {
                        *full.borrow_mut() = Some(error);
                        work.borrow_mut().by_ref().for_each(drop);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        const _: () = assert!(DRAINS_AT_ONCE == 4);
        let ((a, b), (c, d)) = zip(zip(worker(), worker()), zip(worker(), worker())).await;
        a.and(b).and(c).and(d)?;
        let drained = drained.into_inner();
        // All at once, so that the disk flushes once for many files.
        let mut segments: FuturesUnordered<_> = drained
            .iter()
            .filter_map(|d| d.open.as_ref())
            .map(|o| self.finish_segment(o))
            .collect();
        let remainders = async {
            match drained.iter().filter_map(|d| d.remainder).max() {
                Some(last) => self.journal.reach(last, Durability::Flushed).await.map_err(fenced),
                None => Ok(()),
            }
        };
        let flushed = async {
            // Also after an error: an operation under way must not be dropped.
            let mut all = Ok(());
            while let Some(result) = segments.next().await {
                all = all.and(result);
            }
            all
        };
        let (segments, remainders) = zip(flushed, remainders).await;
        segments.and(remainders)?;
        // Until here no journal file was let go, whatever the logs already count as drained.
        for done in &drained {
            self.end_work(done.slot, done.id);
        }
        full.into_inner().map_or(Ok(()), Err)
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
                p.log.log_start_saved(saved.log.log_start);
                p.log.swap_saved(saved.log.compaction.number);
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

    /// Drains a partition as far as its log goes now; `None` if it is gone.
    async fn drain(&self, slot: Slot, spills: &Cell<usize>) -> io::Result<Option<Drained>> {
        let id = loop {
            match self.begin_work(slot) {
                Begun::Yes(id) => break id,
                Begun::Gone => return Ok(None),
                // It is being written ahead.
                Begun::Busy(ended) => ended.await.map_err(fenced)?,
            }
        };
        // Not further than the log's end as of now, or a fast producer would keep the pass from ending.
        let goal = self.with(id, |p| p.log.end_place());
        let mut open = None;
        let mut result = self.drain_step(id, slot, &mut open, Some(spills)).await;
        while let Ok(true) = result {
            let drained = self.with(id, |p| p.log.drained());
            if drained >= goal {
                break;
            }
            result = self.drain_step(id, slot, &mut open, None).await;
        }
        if let Err(error) = result {
            if is_full(&error)
                && let Some(segment) = open
            {
                // What earlier steps wrote counts as drained, for the checkpoint of a stop as well.
                self.finish_segment(&segment).await.map_err(io::Error::other)?;
                if let Some(sequence) = self.journal_head(id, slot) {
                    self.journal.reach(sequence, Durability::Flushed).await.map_err(fenced)?;
                }
            }
            self.release_work(slot);
            return Err(error);
        }
        let remainder = self.journal_head(id, slot);
        Ok(Some(Drained { slot, id, remainder, open }))
    }

    /// Puts the partial block after what is drained into the journal again; the round it is in. One that
    /// is spilled, or in the journal of an earlier start, stays where it is.
    fn journal_head(&self, id: TopicPartition, slot: Slot) -> Option<u64> {
        let head = |p: &mut Partition| match p.log.head() {
            Head::Memory(bytes) => Some((p.log.drained(), bytes.clone(), p.log.head_next_offset())),
            _ => None,
        };
        let (place, bytes, next) = self.with(id, head).flatten()?;
        self.append_remainder(id, slot, place, bytes, next)
    }

    /// Has what a drain wrote last, and the names of new files, flushed.
    async fn finish_segment(&self, open: &OpenSegment) -> io::Result<()> {
        if open.unflushed {
            open.file.flush().await?;
            self.count(|c| c.segment_flushes += 1);
        }
        open.file.close().await?;
        if open.new {
            self.storage.flush_directory(&open.directory).await?;
        }
        Ok(())
    }

    /// Takes a partition for work that no other work on it may meet.
    pub(super) fn begin_work(&self, slot: Slot) -> Begun {
        let mut state = self.state.borrow_mut();
        let Some(partition) = state.partitions.get_mut(slot.0 as usize) else { return Begun::Gone };
        if partition.draining {
            return Begun::Busy(self.idle.reach(self.idle.reached() + 1));
        }
        partition.draining = true;
        Begun::Yes(partition.id)
    }

    /// Ends work on a partition that drained nothing: its journal files are needed as before.
    pub(super) fn release_work(&self, slot: Slot) {
        if let Some(partition) = self.state.borrow_mut().partitions.get_mut(slot.0 as usize) {
            partition.draining = false;
        }
        self.idle.advance(self.idle.reached() + 1);
    }

    /// Ends work on a partition, and notes which journal file holds its oldest byte now.
    fn end_work(&self, slot: Slot, id: TopicPartition) {
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
    /// cycle, which comes with the spills that are left, may find the partition idle.
    async fn drain_step(
        &self,
        id: TopicPartition,
        slot: Slot,
        open: &mut Option<OpenSegment>,
        first: Option<&Cell<usize>>,
    ) -> io::Result<bool> {
        let written = self.journal.written();
        let planned = self
            .with(id, |p| {
                let plan = p.log.plan_drain(written, self.settings.drain_step_bytes)?;
                Some((plan, p.directory.clone()))
            })
            .flatten();
        let Some((plan, directory)) = planned else { return Ok(false) };
        if plan.extents.is_empty() && !plan.last {
            let Some(spills) = first else { return Ok(false) };
            // A file or more for each: where many have become idle at once, most stay in the journal.
            if matches!(plan.head, Head::Memory(_)) && spills.get() == 0 {
                return Ok(false);
            }
            spills.set(spills.get().saturating_sub(1));
        }
        if self.fits_in_memory(id, &plan) {
            let head = match &plan.head {
                Head::Memory(bytes) => bytes.clone(),
                _ => Bytes::new(),
            };
            let pieces = self.load_pieces(&plan, head).await?;
            self.note_batches(id, &plan, &pieces);
            let tail = partial_block(&pieces, 0, plan.to)?;
            self.with(id, |p| p.log.drained_to(plan.from, Head::Memory(tail), plan.next_offset));
            return Ok(false);
        }
        self.make_directory(id, &directory).await?;
        self.prepare_indexes(id, &directory, plan.from.segment).await?;
        let mut segment = match open.take() {
            Some(segment) if segment.base == plan.from.segment => segment,
            before => {
                if let Some(before) = before {
                    self.finish_segment(&before).await?;
                }
                let path = segment_path(&directory, plan.from.segment, "log");
                OpenSegment {
                    base: plan.from.segment,
                    file: self.storage.open(&path, Open::Create).await?,
                    new: plan.from.position == 0 && !matches!(plan.head, Head::Disk(_)),
                    directory,
                    unflushed: false,
                }
            }
        };
        let result = self.drain_into(id, slot, &plan, &mut segment).await;
        let directory = segment.directory.clone();
        *open = Some(segment);
        let (place, head, more) = result?;
        match place {
            Some(place) => {
                self.with(id, |p| p.log.drained_to(place, head, plan.next_offset));
            }
            None => {
                if let Some(segment) = open.take() {
                    self.finish_segment(&segment).await?;
                }
                self.with(id, |p| p.log.sealed(plan.from.segment));
            }
        }
        self.write_epochs(id, &directory, plan.next_offset).await?;
        Ok(more)
    }

    /// Whether a partition has less than a block altogether, so that it needs no file yet.
    fn fits_in_memory(&self, id: TopicPartition, plan: &DrainPlan) -> bool {
        let complete = |p: &mut Partition| {
            p.log.segment_mut(plan.from.segment).is_some_and(|s| s.index.is_complete())
        };
        plan.from.position == 0
            && plan.to < BLOCK as u64
            && !plan.last
            && !plan.extents.is_empty()
            && matches!(plan.head, Head::None | Head::Memory(_))
            && self.with(id, complete).unwrap_or(false)
    }

    async fn drain_into(
        &self,
        id: TopicPartition,
        slot: Slot,
        plan: &DrainPlan,
        segment: &mut OpenSegment,
    ) -> io::Result<(Option<Place>, Head, bool)> {
        let (file, directory) = (Rc::clone(&segment.file), segment.directory.clone());
        let from = plan.from.position;
        let head_len = plan.head.len() as u64;
        let idle = plan.extents.is_empty() && !plan.last;
        // A step of its own, which can be done again: with the batches of a segment's last extents noted
        // in its indexes, it could not.
        let seal = plan.last && plan.extents.is_empty();
        let head = self.load_head(&plan.head, &file, from).await?;
        let whole = if seal || idle { align_up_u64(plan.to) } else { align_down(plan.to) };
        if matches!(plan.head, Head::Disk(_)) && whole > from {
            // The block on disk is about to be written again: it must not be the only copy (rule 13).
            let next = self.with(id, |p| p.log.head_next_offset()).unwrap_or_default();
            if let Some(sequence) = self.append_remainder(id, slot, plan.from, head.clone(), next) {
                self.journal.reach(sequence, Durability::Flushed).await.map_err(fenced)?;
            }
        }
        let pieces = self.load_pieces(plan, head).await?;
        let ahead = self.with(id, |p| p.ahead).flatten();
        let unwritten = match ahead {
            Some(ahead) if ahead.segment == plan.from.segment => ahead.position.max(from),
            _ => from,
        };
        if whole > unwritten {
            self.write_blocks(&file, unwritten..whole, &pieces).await?;
        }
        if !idle {
            self.note_indexes(id, plan, &pieces, &directory).await?;
        }
        segment.unflushed |= whole > from;
        if seal {
            file.truncate(plan.to).await?;
            file.flush().await?;
            segment.unflushed = false;
            self.count(|c| c.segment_flushes += 1);
            self.seal_indexes(id, plan.from.segment, &directory).await?;
            self.write_snapshot(id, plan.next_offset, &directory).await?;
            return Ok((None, Head::None, true));
        }
        let place = |position| Some(Place { segment: plan.from.segment, position });
        if idle {
            return Ok((place(from), Head::Disk(usize_of(head_len)?), false));
        }
        if plan.to == whole {
            return Ok((place(whole), Head::None, whole > from || plan.last));
        }
        let tail = partial_block(&pieces, whole, plan.to)?;
        // A step that moved nothing out ends the drain: the rest waits for more to come.
        Ok((place(whole), Head::Memory(tail), whole > from || plan.last))
    }

    /// Puts the partial block at `place`, which is journaled already, into the journal again; the round
    /// it is in.
    fn append_remainder(
        &self,
        id: TopicPartition,
        slot: Slot,
        place: Place,
        bytes: Bytes,
        next_offset: Offset,
    ) -> Option<u64> {
        let leader_epoch = self.with(id, |p| p.epoch(self.settings.incarnation))?;
        Some(self.journal.append(Append {
            slot,
            kind: EntryKind::Remainder,
            class: Durability::Flushed,
            partition: id,
            segment: place.segment,
            position: place.position,
            base_offset: next_offset,
            next_offset,
            leader_epoch,
            bytes,
        }))
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
            pieces.push(Piece::owned(range, head));
        }
        for extent in &plan.extents {
            let range = extent.position..extent.end();
            match &extent.source {
                Source::Ring { buffer, start, .. } => {
                    pieces.push(Piece::shared(range, buffer, *start));
                }
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

    pub(super) async fn write_blocks(
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
    pub(super) async fn make_directory(
        &self,
        id: TopicPartition,
        directory: &Path,
    ) -> io::Result<()> {
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

/// The segment's bytes from `at` to `end`, less than a block.
fn partial_block(pieces: &[Piece], at: u64, end: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize_of(end - at)?];
    copy_range(pieces, at, &mut bytes)?;
    Ok(Bytes::from(bytes))
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
