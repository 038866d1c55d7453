//! Compaction at work: one pass over one partition at a time, in pieces, and the swap of its files.
//!
//! A pass writes the new segments, with their indexes, under names that end in `.<number>.cleaned`, flushes
//! them and their directory, and only then has a checkpoint tell of them (storage rule 34). Before that
//! checkpoint is durable the old files count, after it the new ones: they are renamed over the old, and
//! the files of segments that were merged into one before them go. A recovery does the same for what a
//! checkpoint says may not be in place. Files under such names that no checkpoint tells of are nothing.
//!
//! A read that began before the renames is thrown away and made again; none begins while they last, which
//! is three renames for each segment. A file that was replaced goes with its last descriptor.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use super::{Partition, Store};
use crate::journal::Fenced;
use crate::limits::{COMPACTION_READ_BYTES, DRAIN_STEP_BYTES};
use crate::log::SealedSegment;
use crate::log::compaction::{
    Cleaner, CompactionCheckpoint, CompactionPlan, CompactionRules, InputSegment, KeyMap, Swap,
};
use crate::log::index::{Greatest, IndexedBatch, SegmentIndex, relative};
use crate::log::segment::path as segment_path;
use crate::record::{BatchHeader, BatchView, HEADER_SIZE, Retained, batches};
use crate::storage::{Buffer, File, Open, Storage, align_down, align_up, block_buffer};
use crate::time::Timestamp;
use crate::types::{Offset, TopicPartition};

/// The files of a segment that a pass writes.
const EXTENSIONS: [&str; 3] = ["log", "index", "timeindex"];

/// The files that a segment may have.
const ALL_EXTENSIONS: [&str; 5] = ["log", "index", "timeindex", "txnindex", "snapshot"];

/// Ends of names of files that are not in place yet.
const CLEANED: &str = ".cleaned";

/// Called after each piece of work with the bytes read and written, and again with none as long as the
/// future says true. Then the pass goes on.
pub type Pace = dyn Fn(u64) -> Pin<Box<dyn Future<Output = bool>>>;

/// How a core compacts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionSettings {
    /// Memory for the map of keys.
    pub map_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: how full the map may get.
    pub load_factor: f64,
}

/// Why a pass ended without a swap.
enum Halt {
    /// The partition is deleted, or the broker stops.
    Gone,
    /// The disk reports an error.
    Disk(io::Error),
    /// A segment does not hold what it should.
    Damaged(String),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Halt {
        Halt::Disk(error)
    }
}

impl From<Fenced> for Halt {
    fn from(_: Fenced) -> Halt {
        Halt::Gone
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    read: u64,
    written: u64,
    segments_before: usize,
    segments_after: usize,
}

/// A partition that is being compacted.
struct Pass<'a> {
    id: TopicPartition,
    directory: &'a Path,
    number: u64,
    interval: u64,
    segment_bytes: u64,
    pace: &'a Pace,
}

fn cleaned_path(directory: &Path, base: Offset, extension: &str, number: u64) -> PathBuf {
    segment_path(directory, base, &format!("{extension}.{number}{CLEANED}"))
}

impl Store {
    /// Compacts the partition with the greatest dirty part, of those whose topics want it and for which it
    /// is time. False if there is none.
    ///
    /// # Errors
    /// When the core is fenced.
    pub async fn compact(
        self: &Rc<Store>,
        now: Timestamp,
        settings: CompactionSettings,
        pace: &Pace,
    ) -> Result<bool, Fenced> {
        let ids: Vec<TopicPartition> = {
            let state = self.state.borrow();
            let compacted = |p: &&Partition| p.configs.cleanup_compact && !p.uncleanable;
            state.partitions.iter().map(|(_, p)| p).filter(compacted).map(|p| p.id).collect()
        };
        let mut best: Option<(TopicPartition, CompactionPlan)> = None;
        for id in ids {
            if self.with(id, |p| p.log.has_closed()) == Some(true) {
                self.want_seal(id);
            }
            let Some(plan) = self.plan_compaction(id, now).await else { continue };
            if plan.is_due(now) && best.as_ref().is_none_or(|(_, best)| plan.ratio > best.ratio) {
                best = Some((id, plan));
            }
        }
        if self.journal.failure().is_some() {
            return Err(Fenced);
        }
        let Some((id, plan)) = best else { return Ok(false) };
        let begun = self.with(id, |p| {
            let free = !p.trimming && !p.compacting && p.repairing == 0;
            p.compacting |= free;
            free
        });
        if begun != Some(true) {
            return Ok(false);
        }
        let result = self.compact_partition(id, &plan, now, settings, pace).await;
        let compacted = match result {
            Ok(done) => {
                let Done { read, written, segments_before, segments_after } = done;
                tracing::info!(
                    partition = %id, from = %plan.first_dirty, to = %plan.end, read, written,
                    segments_before, segments_after, "compacted"
                );
                self.count(|c| c.compactions += 1);
                true
            }
            Err(Halt::Gone) => false,
            Err(Halt::Disk(error)) => {
                // The next look tries again.
                tracing::error!(partition = %id, %error, "a partition cannot be compacted now");
                false
            }
            Err(Halt::Damaged(why)) => {
                tracing::error!(
                    partition = %id, why, "a partition is not compacted any more: it is damaged; \
                    restore its files, or delete its topic"
                );
                self.with(id, |p| p.uncleanable = true);
                false
            }
        };
        self.with_removed(id, |p| p.compacting = false);
        self.idle.advance(self.idle.reached() + 1);
        self.trim_in_background(id);
        if self.journal.failure().is_some() { Err(Fenced) } else { Ok(compacted) }
    }

    /// What may be compacted of a partition, with all times that are needed to say whether it is due.
    async fn plan_compaction(&self, id: TopicPartition, now: Timestamp) -> Option<CompactionPlan> {
        let plan = |p: &mut Partition| {
            let rules = CompactionRules {
                min_dirty_ratio: p.configs.min_cleanable_dirty_ratio,
                min_lag_ms: p.configs.min_compaction_lag_ms,
                max_lag_ms: p.configs.max_compaction_lag_ms,
            };
            let limit = p.high_watermark;
            Some((p.log.plan_compaction(now, &rules, limit)?, p.directory.clone(), p.swaps))
        };
        let (known, directory, swaps) = self.with(id, plan).flatten()?;
        let unknown: Vec<Offset> = known.unknown_times().collect();
        if unknown.is_empty() {
            return Some(known);
        }
        for base in unknown {
            let path = segment_path(&directory, base, "log");
            // Unreadable now: the next look asks again.
            let first = self.read_range(&path, 0, HEADER_SIZE).await.ok()?;
            let began = BatchHeader::read(first.bytes())?.base_timestamp();
            self.with(id, |p| {
                if p.swaps == swaps
                    && let Some(segment) = p.log.segment_mut(base)
                {
                    segment.began.get_or_insert(began);
                }
            });
        }
        self.with(id, plan).flatten().map(|(plan, _, _)| plan)
    }

    async fn compact_partition(
        self: &Rc<Store>,
        id: TopicPartition,
        plan: &CompactionPlan,
        now: Timestamp,
        settings: CompactionSettings,
        pace: &Pace,
    ) -> Result<Done, Halt> {
        let known = self.with(id, |p| {
            let configs = Rc::clone(&p.configs);
            (p.directory.clone(), p.log.next_swap(), p.log.index_interval_bytes(), configs)
        });
        let (directory, number, interval, configs) = known.ok_or(Halt::Gone)?;
        let segment_bytes = configs.segment_bytes;
        let pass = Pass { id, directory: &directory, number, interval, segment_bytes, pace };
        self.remove_cleaned(&directory).await?;
        let mut done = Done { segments_before: plan.segments.len(), ..Done::default() };
        let keys = self.map_keys(&pass, plan, settings, &mut done).await?;
        let cleaner = self
            .with(id, |p| Cleaner::new(&p.log, keys, plan.end, now, configs.delete_retention_ms));
        let cleaner = cleaner.ok_or(Halt::Gone)?;
        let swaps = match self.rewrite(&pass, plan, &cleaner, &mut done).await {
            Ok(swaps) => swaps,
            Err(halt) => {
                // What cannot be removed now is removed by the next pass.
                drop(self.remove_cleaned(&directory).await);
                return Err(halt);
            }
        };
        let end = cleaner.end();
        drop(cleaner);
        if swaps.is_empty() {
            self.with(id, |p| p.log.cleaned(end));
            self.remove_cleaned(&directory).await?;
            return Ok(done);
        }
        self.storage.flush_directory(&directory).await?;
        self.with(id, |p| p.log.prepare_swap(swaps, end)).ok_or(Halt::Gone)?;
        self.save_swap(id).await?;
        // What fails from here on leaves old files where a checkpoint says that new ones are.
        match self.swap(&pass).await {
            Ok(()) => Ok(done),
            Err(error) => {
                self.journal.fence(&error);
                Err(Halt::Gone)
            }
        }
    }

    /// Ends a pass that need not go on.
    fn check_wanted(&self, id: TopicPartition) -> Result<(), Halt> {
        let stops = self.state.borrow().stopping || self.journal.failure().is_some();
        if stops || !self.has(id) { Err(Halt::Gone) } else { Ok(()) }
    }

    /// Lets others work.
    async fn rest(&self, pass: &Pass<'_>, bytes: u64) -> Result<(), Halt> {
        let mut bytes = bytes;
        while (pass.pace)(bytes).await {
            self.check_wanted(pass.id)?;
            bytes = 0;
        }
        Ok(())
    }

    /// Whole batches of a segment from `position` on, in one read.
    async fn chunk(
        &self,
        pass: &Pass<'_>,
        file: &Rc<dyn File>,
        segment: &InputSegment,
        position: u64,
    ) -> Result<(Buffer, Range<usize>), Halt> {
        self.check_wanted(pass.id)?;
        let damaged = |why: &str| {
            Halt::Damaged(format!("segment {} at position {position}: {why}", segment.base))
        };
        let left = usize::try_from(segment.len - position).map_err(io::Error::other)?;
        let mut want = COMPACTION_READ_BYTES;
        loop {
            let start = align_down(position);
            let skip = usize::try_from(position - start).map_err(io::Error::other)?;
            let len = left.min(want);
            let buffer = file.read(start, align_up(skip + len)).await?;
            let end = (skip + len).min(buffer.len());
            let bytes = buffer.get(skip..end).unwrap_or(&[]);
            let mut walk = batches(bytes);
            while walk.next().is_some() {}
            let whole = walk.position();
            if whole > 0 {
                return Ok((buffer, skip..skip + whole));
            }
            let size = BatchHeader::read(bytes).and_then(BatchHeader::size);
            let size = size.ok_or_else(|| damaged("no batch"))?;
            if size > left || size <= want {
                return Err(damaged("a batch that is not whole"));
            }
            want = size;
        }
    }

    /// Reads the dirty part of a log into a map of its keys, as far as that has room.
    async fn map_keys(
        &self,
        pass: &Pass<'_>,
        plan: &CompactionPlan,
        settings: CompactionSettings,
        done: &mut Done,
    ) -> Result<KeyMap, Halt> {
        let start = plan.first_dirty;
        let records = relative(start, plan.end);
        let mut keys = KeyMap::new(settings.map_bytes, settings.load_factor, records, start);
        for segment in plan.dirty() {
            let path = segment_path(pass.directory, segment.base, "log");
            let file = self.storage.open(&path, Open::Read).await?;
            let mapped = self.map_segment(pass, &file, segment, start, &mut keys, done).await;
            file.close().await?;
            if !mapped? {
                tracing::info!(
                    partition = %pass.id, end = %keys.next(), wanted = %plan.end,
                    "the map of keys is full: this pass covers less \
                    (log.cleaner.dedupe.buffer.size)"
                );
                break;
            }
            // Gaps at a segment's end have no keys.
            keys.note_end(segment.next_offset);
        }
        Ok(keys)
    }

    async fn map_segment(
        &self,
        pass: &Pass<'_>,
        file: &Rc<dyn File>,
        segment: &InputSegment,
        start: Offset,
        keys: &mut KeyMap,
        done: &mut Done,
    ) -> Result<bool, Halt> {
        let mut position = 0;
        while position < segment.len {
            let (buffer, range) = self.chunk(pass, file, segment, position).await?;
            let bytes = range.len() as u64;
            for batch in batches(buffer.get(range).unwrap_or(&[])).flatten() {
                if !keys.note_batch(&batch, start).map_err(|e| damaged(&batch, &e))? {
                    return Ok(false);
                }
            }
            position += bytes;
            done.read += bytes;
            self.count(|c| c.compaction_read_bytes += bytes);
            self.rest(pass, bytes).await?;
        }
        Ok(true)
    }

    /// Writes what is left of the segments below the pass's end. Small ones become one.
    async fn rewrite(
        &self,
        pass: &Pass<'_>,
        plan: &CompactionPlan,
        cleaner: &Cleaner,
        done: &mut Done,
    ) -> Result<Vec<Swap>, Halt> {
        let mut swaps = Vec::new();
        let mut output: Option<Output> = None;
        for segment in plan.segments.iter().filter(|s| s.base < cleaner.end()) {
            let joins = output.as_ref().is_some_and(|o| o.takes(segment, pass.segment_bytes));
            if !joins {
                if let Some(full) = output.take() {
                    swaps.extend(self.finish(pass, full, done).await?);
                }
                output = Some(self.begin(pass, segment.base).await?);
            }
            let Some(output) = &mut output else { continue };
            if joins {
                output.gone.push(segment.base);
                output.changed = true;
            }
            output.file.reserve((output.end() + segment.len).next_multiple_of(4096)).await?;
            let path = segment_path(pass.directory, segment.base, "log");
            let file = self.storage.open(&path, Open::Read).await?;
            let cleaned = self.clean_segment(pass, &file, segment, cleaner, output, done).await;
            file.close().await?;
            cleaned?;
            output.next_offset = segment.next_offset;
        }
        if let Some(last) = output {
            swaps.extend(self.finish(pass, last, done).await?);
        }
        Ok(swaps)
    }

    async fn begin(&self, pass: &Pass<'_>, base: Offset) -> Result<Output, Halt> {
        let path = cleaned_path(pass.directory, base, "log", pass.number);
        let file = self.storage.open(&path, Open::Create).await?;
        // One that a killed process left may be there.
        file.truncate(0).await?;
        Ok(Output {
            file,
            base,
            next_offset: base,
            gone: Vec::new(),
            changed: false,
            buffered: Vec::new(),
            written: 0,
            unflushed: 0,
            index: SegmentIndex::empty(),
            greatest: Greatest::default(),
        })
    }

    async fn clean_segment(
        &self,
        pass: &Pass<'_>,
        file: &Rc<dyn File>,
        segment: &InputSegment,
        cleaner: &Cleaner,
        output: &mut Output,
        done: &mut Done,
    ) -> Result<(), Halt> {
        let mut position = 0;
        while position < segment.len {
            let (buffer, range) = self.chunk(pass, file, segment, position).await?;
            let bytes = range.len() as u64;
            let before = output.end();
            for batch in batches(buffer.get(range).unwrap_or(&[])).flatten() {
                match cleaner.clean(&batch).map_err(|e| damaged(&batch, &e))? {
                    Retained::All => output.push(&batch, pass.interval),
                    Retained::Nothing => output.changed = true,
                    Retained::Rewritten(rewritten) => {
                        output.changed = true;
                        let rewritten =
                            BatchView::parse(&rewritten).map_err(|e| damaged(&batch, &e))?;
                        output.push(&rewritten, pass.interval);
                    }
                }
            }
            position += bytes;
            done.read += bytes;
            let written = output.end() - before;
            done.written += written;
            self.write_out(output, false).await?;
            self.count(|c| {
                c.compaction_read_bytes += bytes;
                c.compaction_write_bytes += written;
            });
            self.rest(pass, bytes + written).await?;
        }
        Ok(())
    }

    /// Writes an output's whole blocks, or all that is left, padded.
    async fn write_out(&self, output: &mut Output, all: bool) -> io::Result<()> {
        let piece = self.settings.drain_write_bytes.max(crate::limits::BLOCK);
        while output.buffered.len() >= piece || (all && !output.buffered.is_empty()) {
            let len = output.buffered.len().min(piece);
            let bytes = output.buffered.get(..len).unwrap_or(&[]);
            let buffer = block_buffer(&*self.storage, bytes);
            output.file.write(buffer, output.written).await?;
            output.buffered.drain(..len);
            output.written += len as u64;
            output.unflushed += len as u64;
            // A flush of very much at once would be felt by the journal.
            if output.unflushed >= DRAIN_STEP_BYTES {
                output.file.flush().await?;
                output.unflushed = 0;
            }
        }
        Ok(())
    }

    /// Completes the files of a new segment; `None` if it is the same as the old one.
    async fn finish(
        &self,
        pass: &Pass<'_>,
        mut output: Output,
        done: &mut Done,
    ) -> Result<Option<Swap>, Halt> {
        done.segments_after += 1;
        if !output.changed {
            output.file.close().await?;
            let path = cleaned_path(pass.directory, output.base, "log", pass.number);
            self.storage.remove(&path).await?;
            return Ok(None);
        }
        let len = output.end();
        self.write_out(&mut output, true).await?;
        output.file.truncate(len).await?;
        output.file.flush().await?;
        output.file.close().await?;
        output.index.seal();
        let files =
            [("index", output.index.offset_bytes()), ("timeindex", output.index.time_bytes())];
        for (extension, bytes) in files {
            let path = cleaned_path(pass.directory, output.base, extension, pass.number);
            let file = self.storage.open(&path, Open::Create).await?;
            file.truncate(0).await?;
            file.write(block_buffer(&*self.storage, bytes), 0).await?;
            file.truncate(bytes.len() as u64).await?;
            file.flush().await?;
            file.close().await?;
        }
        let Output { base, next_offset, greatest, gone, .. } = output;
        let greatest = (greatest.timestamp.0, greatest.offset);
        Ok(Some(Swap { segment: SealedSegment { base, len, next_offset, greatest }, gone }))
    }

    /// Waits until a durable checkpoint tells of the prepared swap.
    async fn save_swap(&self, id: TopicPartition) -> Result<(), Halt> {
        loop {
            // A stop writes a checkpoint of its own, and a recovery does the rest.
            self.check_wanted(id)?;
            if self.with(id, |p| p.log.is_swap_saved()).ok_or(Halt::Gone)? {
                return Ok(());
            }
            self.start_pass();
            self.passes.reach(self.passes.reached() + 1).await?;
        }
    }

    /// Puts the prepared segments in place. The partition may be deleted meanwhile, but its directory is
    /// there until this ends.
    async fn swap(&self, pass: &Pass<'_>) -> io::Result<()> {
        let id = pass.id;
        let swaps = self.with_removed(id, |p| {
            p.swapping = true;
            p.swaps += 1;
            p.log.swaps().to_vec()
        });
        let swaps = swaps.unwrap_or_default();
        let mut placed = Ok(());
        for swap in &swaps {
            placed = self.place(pass, swap).await;
            if placed.is_err() {
                break;
            }
        }
        if placed.is_ok() {
            self.with_removed(id, |p| {
                p.log.switch();
                p.swapping = false;
            });
        }
        self.idle.advance(self.idle.reached() + 1);
        placed?;
        self.storage.flush_directory(pass.directory).await?;
        for base in swaps.iter().flat_map(|swap| &swap.gone) {
            for extension in ALL_EXTENSIONS {
                let path = segment_path(pass.directory, *base, extension);
                self.open_files.forget(&path).await?;
                remove_if_there(&*self.storage, &path).await?;
            }
        }
        self.storage.flush_directory(pass.directory).await?;
        self.with_removed(id, |p| p.log.swap_done());
        Ok(())
    }

    async fn place(&self, pass: &Pass<'_>, swap: &Swap) -> io::Result<()> {
        let base = swap.segment.base;
        for extension in EXTENSIONS {
            let from = cleaned_path(pass.directory, base, extension, pass.number);
            self.storage.rename(&from, &segment_path(pass.directory, base, extension)).await?;
        }
        // Also one that a read has opened just before the rename.
        self.open_files.forget(&segment_path(pass.directory, base, "log")).await
    }

    /// Removes what passes that came to nothing have left.
    async fn remove_cleaned(&self, directory: &Path) -> io::Result<()> {
        for name in self.storage.list(directory).await? {
            if name.ends_with(CLEANED) {
                remove_if_there(&*self.storage, &directory.join(name)).await?;
            }
        }
        Ok(())
    }

    /// Waits while files take the place of others.
    pub(super) async fn swapped(&self, id: TopicPartition) -> Result<(), Fenced> {
        while self.with(id, |p| p.swapping) == Some(true) {
            self.idle.reach(self.idle.reached() + 1).await?;
        }
        Ok(())
    }
}

/// A new segment that is being written.
struct Output {
    file: Rc<dyn File>,
    base: Offset,
    next_offset: Offset,
    gone: Vec<Offset>,
    changed: bool,
    /// Bytes that follow those in the file.
    buffered: Vec<u8>,
    written: u64,
    unflushed: u64,
    index: SegmentIndex,
    greatest: Greatest,
}

impl Output {
    fn end(&self) -> u64 {
        self.written + self.buffered.len() as u64
    }

    /// Whether what is left of a segment fits too, however much that is.
    fn takes(&self, segment: &InputSegment, segment_bytes: u64) -> bool {
        self.end() + segment.len <= segment_bytes
            && relative(self.base, segment.next_offset) <= i64::from(i32::MAX)
    }

    fn push(&mut self, batch: &BatchView<'_>, interval: u64) {
        let header = batch.header();
        self.index.note(
            &IndexedBatch {
                relative_offset: relative(self.base, header.last_offset()),
                position: self.end(),
                len: batch.size() as u64,
                timestamp: header.max_timestamp(),
            },
            interval,
        );
        self.greatest.note(header.max_timestamp(), header.last_offset());
        self.buffered.extend_from_slice(batch.bytes());
    }
}

fn damaged(batch: &BatchView<'_>, why: &crate::record::BatchError) -> Halt {
    Halt::Damaged(format!("the batch at offset {}: {why}", batch.header().base_offset()))
}

async fn remove_if_there(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts in place what a checkpoint says may not be: the last steps of a compaction that a crash cut off.
///
/// # Errors
/// Whatever the disk reports.
pub(super) async fn finish_swaps(
    storage: &dyn Storage,
    directory: &Path,
    compaction: &CompactionCheckpoint,
) -> io::Result<()> {
    for (base, _) in &compaction.pending {
        for extension in EXTENSIONS {
            let from = cleaned_path(directory, *base, extension, compaction.number);
            match storage.rename(&from, &segment_path(directory, *base, extension)).await {
                // It was in place already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    storage.flush_directory(directory).await?;
    for base in compaction.pending.iter().flat_map(|(_, gone)| gone) {
        for extension in ALL_EXTENSIONS {
            remove_if_there(storage, &segment_path(directory, *base, extension)).await?;
        }
    }
    storage.flush_directory(directory).await
}
