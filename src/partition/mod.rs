//! All partitions of one core: appends into the journal, watermarks, reads, drains, checkpoints.
//!
//! Shard: one [`Store`] per shard owns its partitions' memory and files; nothing of it is shared.
//! Units: offsets count records, positions and sizes bytes.
//! Invariants: log start <= high watermark <= log end; the high watermark passes a batch, in offset
//! order, when the class that was asked for it is reached (storage rule 7); nothing is acknowledged
//! after the journal failed.
//! It does not know: topics' configuration beyond what it is told, clients, other cores.

mod compaction;
mod drain;
mod files;
mod indexes;
pub mod metadata_log;
mod read;
pub mod recovery;
mod retention;
mod seal;
mod time;
pub mod verify;
mod write_behind;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use slab::Slab;

pub use self::compaction::{CompactionSettings, Pace};
pub use self::drain::LEADER_EPOCHS;
use self::files::OpenFiles;
pub use self::read::{Outcome, ReadError, ReadRequest, Slice};
pub use self::retention::{DeleteError, LogStartMove};
pub use self::seal::Sealed;
pub use self::time::{TimeQuery, TimedOffset};
use crate::config::TopicConfigs;
use crate::journal::files::FileNumber;
use crate::journal::format::{Chain, EntryKind};
use crate::journal::{Append, Fenced, Journal, Observer, Reach, Round, Slot, Waits};
use crate::log::epochs::{EpochEnd, epoch_at, epoch_end};
use crate::log::producers::{ProducerError, Verdict};
use crate::log::segment::directory;
use crate::log::{Log, LogCheckpoint, LogSettings, Place, Recovered, SealedSegment};
use crate::record::BatchHeader;
use crate::storage::Storage;
use crate::time::{Monotonic, Timestamp};
use crate::types::{Durability, LeaderEpoch, Offset, TopicPartition};

/// How a core stores.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `log.dir`.
    pub data: PathBuf,
    /// Directory of journals and checkpoints.
    pub journal_directory: PathBuf,
    /// This core in this start.
    pub chain: Chain,
    /// Number of starts that followed an unclean stop: the least leader epoch of new batches (rule 6).
    pub incarnation: LeaderEpoch,
    /// Live journal bytes at which a drain pass starts.
    pub drain_bytes: usize,
    /// Written at once to a segment by a drain.
    pub drain_write_bytes: usize,
    /// Bytes of one partition that a drain takes before it flushes the segment.
    pub drain_step_bytes: u64,
    /// `log.index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// Entries of an index that are not in its file yet before a drain writes them.
    pub index_write_entries: usize,
    /// Descriptors kept open for reads.
    pub open_files_max: usize,
}

/// Counts of what the store did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Flushes of segment files.
    pub segment_flushes: u64,
    /// Bytes written to segment files.
    pub segment_write_bytes: u64,
    /// Reads of segment or old journal files.
    pub cold_reads: u64,
    /// Bytes of those reads.
    pub cold_read_bytes: u64,
    /// Record bytes copied in user space on their way out.
    pub bytes_copied: u64,
    /// Segments removed because they were below the log start.
    pub segments_removed: u64,
    /// Drain passes ended.
    pub drain_passes: u64,
    /// Compactions of a partition ended.
    pub compactions: u64,
    /// Log bytes that compactions read, of dirty parts twice.
    pub compaction_read_bytes: u64,
    /// Log bytes that compactions wrote.
    pub compaction_write_bytes: u64,
    /// Watchers told of a moved watermark.
    pub watchers_told: u64,
}

/// Why an append was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// This core does not have the partition.
    UnknownPartition,
    /// The core is fenced after a failed write or flush.
    Fenced,
    /// The batch does not follow what its producer has written.
    Producer(ProducerError),
}

/// Why there will be no room for an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The core is fenced after a failed write or flush.
    Fenced,
    /// The journal is full, and there is no space to drain it to.
    DiskFull,
}

/// An append that has its place; it is acknowledged when `sequence` reaches its class.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// First readable offset of the log.
    pub log_start: Offset,
    /// The journal round it is in; 0 if an earlier start wrote it.
    pub sequence: u64,
    /// The greatest timestamp of the batch, if it was in the log already and nothing was appended: the
    /// offset and the round are those of the original.
    pub duplicate: Option<Timestamp>,
}

/// An idempotent producer of a partition, for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of its last record, -1 if it is not known.
    pub last_sequence: i32,
    /// Greatest timestamp of its last batch.
    pub last_timestamp: Timestamp,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// First readable offset.
    pub log_start: Offset,
    /// Exclusive bound for consumers.
    pub high_watermark: Offset,
    /// The next offset to assign.
    pub end: Offset,
    /// Epoch of the current leadership.
    pub leader_epoch: LeaderEpoch,
    /// Epoch of the record at the log start; of the next one if there is none.
    pub start_epoch: LeaderEpoch,
}

/// Somebody who waits for a partition's high watermark to move, as the shard numbers them.
pub type WatchId = u64;

/// Told of watchers whose partition's high watermark moved, and by how many bytes.
pub type Watched = Box<dyn Fn(WatchId, usize)>;

struct Pending {
    sequence: u64,
    class: Durability,
    next_offset: Offset,
    bytes: usize,
}

struct Partition {
    id: TopicPartition,
    directory: PathBuf,
    directory_made: bool,
    /// First and last leader epoch that are in the `leader-epoch-checkpoint` file, with where they began.
    epochs_written: Option<[(LeaderEpoch, Offset); 2]>,
    log: Log,
    configs: Rc<TopicConfigs>,
    high_watermark: Offset,
    pending: VecDeque<Pending>,
    watchers: Vec<WatchId>,
    /// The journal file with the oldest byte that is not drained.
    dirty: Option<FileNumber>,
    /// The journal file with the last remainder entry.
    remainder: Option<FileNumber>,
    draining: bool,
    /// Up to here its segment's blocks are written, unflushed, ahead of the pass that drains them.
    ahead: Option<Place>,
    /// Bytes written to the journal since they were last looked at for writing ahead.
    behind_bytes: usize,
    /// The journal round with the last move of the log start.
    log_start_round: u64,
    /// Segments below the log start are being removed.
    trimming: bool,
    /// It is being compacted, up to the last file that goes.
    compacting: bool,
    /// Files are taking the place of others: no read of sealed segments begins.
    swapping: bool,
    /// Counts the times that this happened.
    swaps: u64,
    /// Indexes of sealed segments that are being written again.
    repairing: u32,
    /// It was found damaged.
    uncleanable: bool,
}

#[derive(Default)]
struct State {
    partitions: Slab<Partition>,
    by_id: HashMap<TopicPartition, Slot>,
    /// Partitions by the journal file with their oldest undrained byte; file 0 is all earlier starts.
    dirty: BTreeMap<FileNumber, BTreeSet<Slot>>,
    /// Rounds with something to be flushed, and their partitions.
    awaiting_flush: VecDeque<(u64, Vec<Slot>)>,
    /// Partitions with a segment that was closed without an append, for the next pass to complete.
    to_seal: BTreeSet<Slot>,
    /// Partitions with enough bytes to be written ahead of the next pass.
    behind: VecDeque<Slot>,
    writing_behind: usize,
    checkpoint_sequence: u64,
    draining: bool,
    stopping: bool,
}

/// One core's partitions.
pub struct Store {
    weak: Weak<Store>,
    storage: Rc<dyn Storage>,
    journal: Rc<Journal>,
    settings: StoreSettings,
    state: RefCell<State>,
    open_files: OpenFiles,
    counters: Cell<StoreCounters>,
    watched: RefCell<Option<Watched>>,
    /// Counts drain passes; 1 more than that when earlier starts' journals are not needed any more.
    passes: Waits,
    /// Counts the ends of passes, also of those that found no space.
    pass_ends: Waits,
    /// What a partition acts on until it is told its topic's configs.
    topic_defaults: Rc<TopicConfigs>,
    recovered_drained: Waits,
    /// Counts ends of work on single partitions.
    idle: Waits,
    failed: RefCell<Option<String>>,
    /// The last drain found no space.
    full: Cell<bool>,
}

/// What a core's checkpoint holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CoreCheckpoint {
    /// The first journal round of this start that is still needed.
    pub(crate) first_sequence: u64,
    /// Rounds up to here were flushed.
    pub(crate) flushed: u64,
    /// The core's partitions.
    pub(crate) partitions: Vec<PartitionCheckpoint>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartitionCheckpoint {
    pub(crate) id: TopicPartition,
    /// Whether journals of earlier starts still hold bytes of it.
    pub(crate) needs_earlier: bool,
    pub(crate) log: LogCheckpoint,
}

impl Store {
    /// A store over a fresh journal.
    #[must_use]
    pub fn new(
        storage: Rc<dyn Storage>,
        journal: Rc<Journal>,
        settings: StoreSettings,
    ) -> Rc<Store> {
        let open_files = OpenFiles::new(Rc::clone(&storage), settings.open_files_max);
        let store = Rc::new_cyclic(|weak| Store {
            weak: Weak::clone(weak),
            storage,
            journal,
            settings,
            state: RefCell::default(),
            open_files,
            counters: Cell::default(),
            watched: RefCell::new(None),
            passes: Waits::default(),
            pass_ends: Waits::default(),
            topic_defaults: Rc::default(),
            recovered_drained: Waits::default(),
            idle: Waits::default(),
            failed: RefCell::new(None),
            full: Cell::new(false),
        });
        let observer: Weak<dyn Observer> = Rc::downgrade(&store) as Weak<dyn Observer>;
        store.journal.observe(observer);
        store
    }

    /// Says who is told of moved watermarks.
    pub fn on_watched(&self, watched: Watched) {
        *self.watched.borrow_mut() = Some(watched);
    }

    /// Takes ownership of a partition: a new one, or one that was recovered. No file is made.
    pub fn add(
        &self,
        id: TopicPartition,
        topic: &str,
        segment_bytes: u64,
        recovered: Option<Recovered>,
    ) {
        let settings = LogSettings {
            segment_bytes,
            segment_ms: self.topic_defaults.segment_ms,
            index_interval_bytes: self.settings.index_interval_bytes,
        };
        let needs_journal = recovered.as_ref().is_some_and(Recovered::needs_journal);
        let log = recovered.map_or_else(|| Log::new(settings), |r| r.into_log(settings));
        let mut state = self.state.borrow_mut();
        if state.by_id.contains_key(&id) {
            return;
        }
        let entry = state.partitions.vacant_entry();
        let slot = Slot(u32::try_from(entry.key()).unwrap_or(u32::MAX));
        let dirty = needs_journal.then_some(FileNumber(0));
        entry.insert(Partition {
            id,
            directory: directory(&self.settings.data, topic, id.partition),
            directory_made: false,
            epochs_written: None,
            high_watermark: log.end(),
            log,
            configs: Rc::clone(&self.topic_defaults),
            pending: VecDeque::new(),
            watchers: Vec::new(),
            dirty,
            remainder: None,
            draining: false,
            ahead: None,
            behind_bytes: 0,
            log_start_round: 0,
            trimming: false,
            compacting: false,
            swapping: false,
            swaps: 0,
            repairing: 0,
            uncleanable: false,
        });
        state.by_id.insert(id, slot);
        if let Some(file) = dirty {
            state.dirty.entry(file).or_default().insert(slot);
        }
    }

    /// Has a partition act on its topic's configs from now on. What a log begun under others holds stays
    /// as it is.
    pub fn configure(&self, id: TopicPartition, configs: &Rc<TopicConfigs>) {
        self.with(id, |partition| {
            partition.log.configure(LogSettings {
                segment_bytes: configs.segment_bytes,
                // So that records are not kept from compaction for longer (Kafka's `maxSegmentMs`).
                segment_ms: match configs.cleanup_compact {
                    true => configs.segment_ms.min(configs.max_compaction_lag_ms),
                    false => configs.segment_ms,
                },
                index_interval_bytes: configs.index_interval_bytes,
            });
            partition.configs = Rc::clone(configs);
        });
    }

    /// The configs that a partition acts on.
    #[must_use]
    pub fn topic_configs(&self, id: TopicPartition) -> Option<Rc<TopicConfigs>> {
        self.with(id, |partition| Rc::clone(&partition.configs))
    }

    /// Ends a partition whose topic is deleted: it is gone from here at once, and when this returns its
    /// directory has another name, so that a topic of the same name may be created. The files are
    /// removed later (storage rule 16).
    ///
    /// # Errors
    /// When the directory cannot be renamed.
    pub async fn remove(&self, id: TopicPartition) -> io::Result<()> {
        let taken = {
            let mut state = self.state.borrow_mut();
            state.by_id.remove(&id)
        };
        let Some(slot) = taken else { return Ok(()) };
        let key = slot.0 as usize;
        loop {
            let at_work = |p: &Partition| p.draining || p.trimming || p.compacting;
            if !self.state.borrow().partitions.get(key).is_some_and(at_work) {
                break;
            }
            let idle = self.idle.reach(self.idle.reached() + 1);
            idle.await.map_err(|_| io::Error::other("the core is fenced"))?;
        }
        let partition = {
            let mut state = self.state.borrow_mut();
            let partition = state.partitions.remove(key);
            if let Some(file) = partition.dirty {
                state.clean(file, slot);
            }
            state.to_seal.remove(&slot);
            partition
        };
        let watchers: Vec<_> = partition.watchers.clone();
        if let Some(watched) = &*self.watched.borrow() {
            for watcher in watchers {
                // Whoever waits for it looks again and finds it gone.
                watched(watcher, usize::MAX);
            }
        }
        self.open_files.forget(&partition.directory).await?;
        let mut gone = partition.directory.clone().into_os_string();
        gone.push(format!(".{}-delete", id.topic.0.simple()));
        let gone = PathBuf::from(gone);
        match self.storage.rename(&partition.directory, &gone).await {
            Ok(()) => {}
            // It never drained: there is no directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        // A read may have opened a file again before the rename; a topic of the same name has its path.
        self.open_files.forget(&partition.directory).await?;
        self.storage.flush_directory(&self.settings.data).await?;
        let storage = Rc::clone(&self.storage);
        self.storage.spawn(Box::pin(async move {
            if let Err(error) = storage.remove_directory(&gone).await {
                tracing::warn!(directory = %gone.display(), %error, "cannot remove");
            }
        }));
        Ok(())
    }

    /// Whether this core has the partition.
    #[must_use]
    pub fn has(&self, id: TopicPartition) -> bool {
        self.state.borrow().by_id.contains_key(&id)
    }

    /// Gives batches their place and offsets. Whoever calls has validated them, counted their records,
    /// and seen to it that the journal has room. A batch of an idempotent producer comes alone.
    ///
    /// # Errors
    /// When the partition is not here, the batch does not follow its producer's last one, or nothing is
    /// taken any more.
    pub fn append(
        &self,
        id: TopicPartition,
        bytes: Bytes,
        records: i64,
        class: Durability,
    ) -> Result<Appended, AppendError> {
        if self.journal.failure().is_some() {
            return Err(AppendError::Fenced);
        }
        let mut state = self.state.borrow_mut();
        let slot = *state.by_id.get(&id).ok_or(AppendError::UnknownPartition)?;
        let partition =
            state.partitions.get_mut(slot.0 as usize).ok_or(AppendError::UnknownPartition)?;
        let header = BatchHeader::read(&bytes).copied();
        if let Some(header) = &header {
            match partition.log.check_producer(header).map_err(AppendError::Producer)? {
                Verdict::New => {}
                Verdict::Duplicate(known) => {
                    return Ok(Appended {
                        base_offset: known.base_offset(),
                        log_start: partition.log.log_start(),
                        sequence: known.round,
                        duplicate: Some(known.timestamp),
                    });
                }
            }
        }
        let epoch = partition.epoch(self.settings.incarnation);
        let len = bytes.len();
        let timestamp = header.map_or(Timestamp(-1), |header| header.max_timestamp());
        let plan = partition.log.append(len, records, timestamp, epoch);
        let sequence = self.journal.append(Append {
            slot,
            kind: EntryKind::Data,
            class,
            partition: id,
            segment: plan.segment,
            position: plan.position,
            base_offset: plan.base_offset,
            next_offset: plan.next_offset,
            leader_epoch: plan.leader_epoch,
            bytes,
        });
        partition.pending.push_back(Pending {
            sequence,
            class,
            next_offset: plan.next_offset,
            bytes: len,
        });
        if let Some(header) = &header {
            let forgotten = partition.log.note_producer(header, plan.base_offset, sequence);
            if forgotten > 0 {
                tracing::warn!(partition = %id, forgotten, "too many idempotent producers: those that \
                    have not written for longest are forgotten");
            }
        }
        Ok(Appended {
            base_offset: plan.base_offset,
            log_start: partition.log.log_start(),
            sequence,
            duplicate: None,
        })
    }

    /// Forgets idempotent producers that have not written for `after_ms`.
    pub fn expire_producers(&self, now: Timestamp, after_ms: i64) {
        for (_, partition) in &mut self.state.borrow_mut().partitions {
            partition.log.expire_producers(now, after_ms);
        }
    }

    /// The idempotent producers of a partition.
    #[must_use]
    pub fn producers(&self, id: TopicPartition) -> Option<Vec<ActiveProducer>> {
        self.with(id, |p| {
            p.log
                .producers()
                .iter()
                .map(|(id, state)| ActiveProducer {
                    id,
                    epoch: state.epoch(),
                    last_sequence: state.last_sequence(),
                    last_timestamp: state.last_timestamp(),
                })
                .collect()
        })
    }

    /// Waits until an append has reached its class.
    pub fn reach(&self, sequence: u64, class: Durability) -> Reach {
        self.journal.reach(sequence, class)
    }

    /// Waits until the journal has room for another append.
    ///
    /// # Errors
    /// When the core has failed, or the journal cannot be drained for want of space.
    pub async fn room(&self) -> Result<(), NoRoom> {
        while !self.journal.has_room() {
            if self.full.get() {
                return Err(NoRoom::DiskFull);
            }
            self.drain_if_needed();
            self.journal.freed().await.map_err(|_| NoRoom::Fenced)?;
        }
        Ok(())
    }

    /// What is to be done from time to time: flushes that are due, and another try where there was no
    /// space.
    pub fn tick(&self, now: Monotonic) {
        self.journal.tick(now);
        if self.full.get() {
            self.start_pass();
        }
    }

    /// Notes that a drain found no space: what it was to drain stays in the journal, and the next tick
    /// tries again.
    fn found_full(&self, error: &io::Error) {
        if !self.full.replace(true) {
            tracing::error!(
                %error,
                directory = %self.settings.data.display(),
                "no space for what is in the journal: nothing is lost, and records are refused when \
                 the journal is full; free some space"
            );
            self.journal.wake_room();
        }
    }

    fn found_space(&self) {
        if self.full.replace(false) {
            tracing::info!("there is space again: the journal is being drained");
        }
    }

    /// Where a partition stands.
    #[must_use]
    pub fn position(&self, id: TopicPartition) -> Option<Position> {
        let state = self.state.borrow();
        let slot = state.by_id.get(&id)?;
        let partition = state.partitions.get(slot.0 as usize)?;
        Some(Position {
            log_start: partition.log.log_start(),
            high_watermark: partition.high_watermark,
            end: partition.log.end(),
            leader_epoch: partition.epoch(self.settings.incarnation),
            start_epoch: epoch_at(partition.log.epochs(), partition.log.log_start())
                .unwrap_or(partition.epoch(self.settings.incarnation)),
        })
    }

    /// Where a leader epoch of a partition ended. The current epoch counts from the log's end on while it
    /// has no records.
    #[must_use]
    pub fn epoch_end(&self, id: TopicPartition, asked: LeaderEpoch) -> Option<Option<EpochEnd>> {
        self.with(id, |p| p.epoch_end(self.settings.incarnation, asked))
    }

    /// A partition's sealed segments that have readable records, and the directory they are in.
    #[must_use]
    pub fn sealed_segments(&self, id: TopicPartition) -> Option<(PathBuf, Vec<SealedSegment>)> {
        self.with(id, |p| {
            let mut sealed = p.log.checkpoint().sealed;
            sealed.retain(|segment| segment.next_offset > p.log.log_start());
            (p.directory.clone(), sealed)
        })
    }

    /// The dirty head of a partition: nothing from there on was compacted.
    #[must_use]
    pub fn cleaned_to(&self, id: TopicPartition) -> Option<Offset> {
        self.with(id, |p| p.log.cleaned_to())
    }

    /// How many bytes a partition's log holds.
    #[must_use]
    pub fn size(&self, id: TopicPartition) -> Option<u64> {
        self.with(id, |partition| partition.log.size())
    }

    /// Has `watcher` told, each time, when the partition's high watermark moves.
    pub fn watch(&self, id: TopicPartition, watcher: WatchId) {
        self.with(id, |p| p.watchers.push(watcher));
    }

    /// Ends a watch.
    pub fn unwatch(&self, id: TopicPartition, watcher: WatchId) {
        self.with(id, |p| p.watchers.retain(|w| *w != watcher));
    }

    fn with<T>(&self, id: TopicPartition, work: impl FnOnce(&mut Partition) -> T) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let slot = *state.by_id.get(&id)?;
        state.partitions.get_mut(slot.0 as usize).map(work)
    }

    /// As [`Store::with`], also for a partition that is being removed and waits for the work on it to end.
    fn with_removed<T>(
        &self,
        id: TopicPartition,
        work: impl FnOnce(&mut Partition) -> T,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        state.partitions.iter_mut().find(|(_, p)| p.id == id).map(|(_, p)| work(p))
    }

    /// The journal, for its counters and its clock tick.
    #[must_use]
    pub fn journal(&self) -> &Rc<Journal> {
        &self.journal
    }

    /// The number of this start.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.settings.chain.generation
    }

    /// Partitions that this core owns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.borrow().by_id.len()
    }

    /// Whether this core owns no partition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the store did so far.
    #[must_use]
    pub fn counters(&self) -> StoreCounters {
        self.counters.get()
    }

    /// Notes record bytes copied in user space on their way out.
    pub fn count_copied(&self, bytes: usize) {
        self.count(|c| c.bytes_copied += bytes as u64);
    }

    fn count(&self, change: impl FnOnce(&mut StoreCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Why the core is fenced, if it is.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failed.borrow().clone()
    }

    /// Waits until no journal of an earlier start is needed by this core's partitions, and a durable
    /// checkpoint says so.
    ///
    /// # Errors
    /// [`Fenced`] when the core has failed.
    pub async fn recovered_drained(&self) -> Result<(), Fenced> {
        self.start_pass();
        self.recovered_drained.reach(1).await
    }

    /// Ends the rounds, flushes, writes the checkpoint (storage rule 20). Whoever calls has stopped the
    /// appends.
    ///
    /// # Errors
    /// When the disk failed before or during it.
    pub async fn stop(&self) -> io::Result<()> {
        self.state.borrow_mut().stopping = true;
        let fenced = |_: Fenced| io::Error::other("the core is fenced");
        self.journal.quiesce().await.map_err(fenced)?;
        loop {
            let pass = {
                let state = self.state.borrow();
                state.draining.then(|| self.pass_ends.reach(self.pass_ends.reached() + 1))
            };
            match pass {
                Some(pass) => pass.await.map_err(fenced)?,
                None => break,
            }
        }
        self.journal.quiesce().await.map_err(fenced)?;
        self.save_checkpoint().await?;
        self.open_files.close_all().await
    }

    fn advance(&self, slots: impl Iterator<Item = Slot>, written: u64, flushed: u64) {
        let mut told = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            for slot in slots {
                let Some(partition) = state.partitions.get_mut(slot.0 as usize) else { continue };
                let bytes = partition.advance(written, flushed);
                if bytes > 0 {
                    told.extend(partition.watchers.iter().map(|w| (*w, bytes)));
                }
            }
        }
        if told.is_empty() {
            return;
        }
        self.count(|c| c.watchers_told += told.len() as u64);
        if let Some(watched) = &*self.watched.borrow() {
            for (watcher, bytes) in told {
                watched(watcher, bytes);
            }
        }
    }
}

impl State {
    /// Notes that a partition has nothing undrained in `file` any more.
    fn clean(&mut self, file: FileNumber, slot: Slot) {
        if let Some(slots) = self.dirty.get_mut(&file) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.dirty.remove(&file);
            }
        }
    }
}

impl Partition {
    fn epoch_end(&self, incarnation: LeaderEpoch, asked: LeaderEpoch) -> Option<EpochEnd> {
        let (log_start, end) = (self.log.log_start(), self.log.end());
        let current = self.epoch(incarnation);
        if self.log.last_epoch() == Some(current) {
            return epoch_end(self.log.epochs(), asked, log_start, end);
        }
        let mut epochs = self.log.epochs().to_vec();
        epochs.push((current, end));
        epoch_end(&epochs, asked, log_start, end)
    }

    fn epoch(&self, incarnation: LeaderEpoch) -> LeaderEpoch {
        self.log.last_epoch().map_or(incarnation, |last| last.max(incarnation))
    }

    /// Moves the high watermark as far as it goes; returns the bytes it passed.
    fn advance(&mut self, written: u64, flushed: u64) -> usize {
        let mut bytes = 0;
        while let Some(first) = self.pending.front() {
            let reached = match first.class {
                Durability::Received | Durability::Written => first.sequence <= written,
                Durability::Flushed => first.sequence <= flushed,
            };
            if !reached {
                break;
            }
            debug_assert!(self.high_watermark <= first.next_offset);
            self.high_watermark = first.next_offset;
            bytes += first.bytes;
            self.pending.pop_front();
        }
        debug_assert!(self.high_watermark <= self.log.end());
        bytes
    }
}

impl Observer for Store {
    fn placed(&self, round: &Round) {
        let mut state = self.state.borrow_mut();
        let State { partitions, dirty, .. } = &mut *state;
        for placed in &round.placed {
            let Some(partition) = partitions.get_mut(placed.slot.0 as usize) else { continue };
            if partition.id != placed.entry.partition {
                // Deleted meanwhile, and its number is another's now.
                continue;
            }
            match placed.entry.kind {
                EntryKind::Data => {
                    partition.log.placed(round, &placed.entry);
                    if partition.dirty.is_none() {
                        partition.dirty = Some(round.file);
                        dirty.entry(round.file).or_default().insert(placed.slot);
                    }
                }
                EntryKind::Remainder => partition.remainder = Some(round.file),
                EntryKind::LogStart => {}
            }
        }
    }

    fn written(&self, sequence: u64, rounds: &[Rc<Round>]) {
        let flushed = self.journal.flushed();
        for round in rounds {
            let flush = round.placed.iter().any(|p| p.entry.class == Durability::Flushed);
            if flush {
                let slots = round.placed.iter().map(|p| p.slot).collect();
                self.state.borrow_mut().awaiting_flush.push_back((round.sequence, slots));
            }
            self.advance(round.placed.iter().map(|p| p.slot), sequence, flushed);
        }
        self.note_behind(rounds);
        self.drain_if_needed();
    }

    fn flushed(&self, sequence: u64) {
        let written = self.journal.written();
        loop {
            let next = {
                let mut state = self.state.borrow_mut();
                match state.awaiting_flush.front() {
                    Some((first, _)) if *first <= sequence => state.awaiting_flush.pop_front(),
                    _ => None,
                }
            };
            let Some((_, slots)) = next else { break };
            self.advance(slots.into_iter(), written, sequence);
        }
    }

    fn released(&self, round: &Round) {
        let mut state = self.state.borrow_mut();
        for placed in &round.placed {
            if let Some(partition) = state.partitions.get_mut(placed.slot.0 as usize) {
                partition.log.released(round.sequence);
            }
        }
    }

    fn fenced(&self, error: &io::Error) {
        self.failed.borrow_mut().get_or_insert_with(|| error.to_string());
        self.passes.fence();
        self.pass_ends.fence();
        self.recovered_drained.fence();
        self.idle.fence();
    }
}
