//! One core's journal: every append of every partition of the core, in rounds.
//!
//! Shard: one [`Journal`] per shard, never shared. Units: bytes; sequences count rounds from 1.
//! Invariants: `flushed <= written <= submitted`; a round's bytes never change after submission; two
//! writes in flight never touch one block; after the first failed write or flush nothing is
//! acknowledged (storage rules 2, 3, 10).
//! It does not know: what a segment is, who drains it, what a record means beyond its batch header.

pub mod checkpoint;
pub mod files;
pub mod format;
mod round;
pub mod scan;
pub mod waits;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use self::files::{FileNumber, Files};
use self::format::Chain;
pub use self::round::{Append, Placed, Round, Slot};
pub use self::waits::{Fenced, Reach, Waits};
use crate::limits::{ROUND_EAGER_BYTES, ROUNDS_IN_FLIGHT_MAX};
use crate::storage::{Storage, is_full};
use crate::time::Monotonic;
use crate::types::Durability;

/// How a journal is laid out.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The directory of all journal files.
    pub directory: PathBuf,
    /// This core's chain.
    pub chain: Chain,
    /// Seed of this generation's checksums.
    pub salt: u32,
    /// `journal.ring.bytes`: bound of the rounds kept in memory, and so of the live window.
    pub ring_bytes: usize,
    /// Size of a journal file.
    pub file_bytes: usize,
    /// Size of the first file, small so that a start is quick.
    pub first_file_bytes: usize,
    /// Appends from this size on are copied into their round as they come
    /// ([`ROUND_COPY_BYTES_MIN`](crate::limits::ROUND_COPY_BYTES_MIN) but in tests).
    pub copy_bytes_min: usize,
    /// `journal.flush.ms`, in nanoseconds: how long written bytes may stay unflushed.
    pub flush_interval: std::time::Duration,
}

/// Counts of what the journal asked the disk for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCounters {
    /// Rounds written.
    pub writes: u64,
    /// Bytes of those rounds.
    pub write_bytes: u64,
    /// Flushes of journal files.
    pub flushes: u64,
    /// Times an append had to wait for room in the ring.
    pub room_waits: u64,
}

/// Who is told what becomes of rounds: the owner of the partitions.
pub trait Observer {
    /// A round has its place in memory and in the file, and is being written.
    fn placed(&self, round: &Round);
    /// All rounds up to `sequence` are written; `rounds` are the newly covered ones.
    fn written(&self, sequence: u64, rounds: &[Rc<Round>]);
    /// All rounds up to `sequence` are flushed.
    fn flushed(&self, sequence: u64);
    /// The memory of `round` is needed: forget it.
    fn released(&self, round: &Round);
    /// The core is fenced (storage rule 10).
    fn fenced(&self, error: &io::Error);
}

struct State {
    files: Files,
    open: round::Open,
    /// Rounds with an append that asked to be flushed, not flushed yet.
    flush_wanted: VecDeque<u64>,
    /// Sequence the next submitted round gets.
    next_sequence: u64,
    last_checksum: u32,
    in_flight: VecDeque<InFlight>,
    /// Rounds whose memory is held, oldest first.
    ring: VecDeque<Rc<Round>>,
    ring_bytes: usize,
    /// Bytes of rounds in files that are still live.
    live_bytes: usize,
    flushing: bool,
    last_flush: Monotonic,
    scheduled: bool,
    /// A file that takes so many bytes is wanted, and there was no space for it.
    unprepared: Option<usize>,
    stopped: Option<io::ErrorKind>,
}

struct InFlight {
    round: Rc<Round>,
    done: bool,
}

/// A core's journal.
pub struct Journal {
    storage: Rc<dyn Storage>,
    settings: JournalSettings,
    state: RefCell<State>,
    counters: Cell<JournalCounters>,
    written: Waits,
    flushed: Waits,
    room: Waits,
    /// Counts files made ready.
    prepared: Waits,
    observer: RefCell<Option<Weak<dyn Observer>>>,
}

impl Journal {
    /// Opens a new journal with its first file in place. The chain must be fresh: its generation is
    /// already durable in the metadata log.
    ///
    /// # Errors
    /// Whatever the disk reports.
    pub async fn open(
        storage: Rc<dyn Storage>,
        settings: JournalSettings,
    ) -> io::Result<Rc<Journal>> {
        let first = files::prepare(
            Rc::clone(&storage),
            files::path(&settings.directory, settings.chain, 0),
            settings.first_file_bytes,
        )
        .await?;
        let files = Files::new(first);
        let open = round::Open::new(settings.copy_bytes_min);
        Ok(Rc::new(Journal {
            storage,
            settings,
            state: RefCell::new(State {
                files,
                open,
                flush_wanted: VecDeque::new(),
                next_sequence: 1,
                last_checksum: 0,
                in_flight: VecDeque::new(),
                ring: VecDeque::new(),
                ring_bytes: 0,
                live_bytes: 0,
                flushing: false,
                last_flush: Monotonic::default(),
                scheduled: false,
                unprepared: None,
                stopped: None,
            }),
            counters: Cell::default(),
            written: Waits::default(),
            flushed: Waits::default(),
            room: Waits::default(),
            prepared: Waits::default(),
            observer: RefCell::new(None),
        }))
    }

    /// Says who is told of rounds.
    pub fn observe(&self, observer: Weak<dyn Observer>) {
        *self.observer.borrow_mut() = Some(observer);
    }

    /// Puts an append into a round and returns that round's sequence. The order of appends is the order
    /// of these calls.
    pub fn append(self: &Rc<Journal>, append: Append) -> u64 {
        let (sequence, pushed) = {
            let mut state = self.state.borrow_mut();
            let class = append.class;
            let pushed = state.open.push(&*self.storage, append);
            let sequence = state.next_sequence + state.open.rounds() - 1;
            if class == Durability::Flushed && state.flush_wanted.back() != Some(&sequence) {
                state.flush_wanted.push_back(sequence);
            }
            (sequence, pushed)
        };
        if let Err(error) = pushed {
            self.fence(&misfit(&error));
        }
        self.schedule();
        sequence
    }

    /// Waits until the round `sequence` has reached `class`.
    pub fn reach(self: &Rc<Journal>, sequence: u64, class: Durability) -> Reach {
        match class {
            Durability::Received => self.written.reach(0),
            Durability::Written => self.written.reach(sequence),
            Durability::Flushed => self.flushed.reach(sequence),
        }
    }

    /// Whether an append may be taken now; else wait for [`Journal::freed`]. The last eighth of the ring
    /// is kept for drains.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.state.borrow();
        state.live_bytes + state.open.bytes()
            < self.settings.ring_bytes - self.settings.ring_bytes / 8
    }

    /// Waits until older rounds have been drained, or [`Journal::wake_room`] says to look again.
    ///
    /// # Errors
    /// [`Fenced`] when the core has failed.
    pub async fn freed(&self) -> Result<(), Fenced> {
        self.count(|c| c.room_waits += 1);
        self.room.reach(self.room.reached() + 1).await
    }

    /// Has whoever waits for room look again.
    pub fn wake_room(&self) {
        self.room.advance(self.room.reached() + 1);
    }

    /// Bytes of rounds that are not drained yet, with those still open.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let state = self.state.borrow();
        state.live_bytes + state.open.bytes()
    }

    /// Longest completed prefix.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.reached()
    }

    /// Longest flushed prefix.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.flushed.reached()
    }

    /// What the journal asked the disk for so far.
    #[must_use]
    pub fn counters(&self) -> JournalCounters {
        self.counters.get()
    }

    /// The error that fenced the core, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<io::ErrorKind> {
        self.state.borrow().stopped
    }

    /// The number of the file now being filled.
    #[must_use]
    pub fn current_file(&self) -> FileNumber {
        self.state.borrow().files.current_number()
    }

    /// The number of the oldest file that is still needed.
    #[must_use]
    pub fn oldest_file(&self) -> FileNumber {
        self.state.borrow().files.first_live()
    }

    /// The first round of file `number`, or the next round if it holds none yet: where a chain that no
    /// longer needs older files starts.
    #[must_use]
    pub fn first_sequence(&self, number: FileNumber) -> u64 {
        let state = self.state.borrow();
        state.files.first_sequence(number).unwrap_or(state.next_sequence)
    }

    /// Lets files below `number` be used again: everything in them is in segments that are flushed, and
    /// a durable checkpoint says so (storage rule 12).
    pub fn recycle_below(self: &Rc<Journal>, number: FileNumber) {
        {
            let mut state = self.state.borrow_mut();
            state.files.recycle_below(number);
            state.live_bytes =
                state.ring.iter().filter(|r| r.file >= number).map(|r| r.buffer.len()).sum();
        }
        self.room.advance(self.room.reached() + 1);
        self.schedule();
    }

    /// Ends the current file, so that a drain can free it: without that, a ring that one file fills
    /// (a round larger than the ring's bound is enough) would have no room ever again.
    ///
    /// # Errors
    /// [`Fenced`] when the core has failed.
    pub async fn roll(self: &Rc<Journal>) -> Result<(), Fenced> {
        loop {
            if self.state.borrow_mut().files.roll() {
                return Ok(());
            }
            let prepared = self.prepared.reach(self.prepared.reached() + 1);
            self.prepare_file(0);
            prepared.await?;
        }
    }

    /// Flushes what has been written for longer than `journal.flush.ms` (storage rule 7).
    pub fn tick(self: &Rc<Journal>, now: Monotonic) {
        let due = {
            let state = self.state.borrow();
            self.written.reached() > self.flushed.reached()
                && now.since(state.last_flush) >= self.settings.flush_interval
        };
        if due {
            self.state.borrow_mut().last_flush = now;
            self.start_flush();
        }
        let unprepared = self.state.borrow_mut().unprepared.take();
        if let Some(len) = unprepared {
            self.prepare_file(len);
        }
    }

    /// Waits until everything appended so far is flushed.
    ///
    /// # Errors
    /// [`Fenced`] when the core has failed.
    pub async fn quiesce(self: &Rc<Journal>) -> Result<(), Fenced> {
        let last = {
            let mut state = self.state.borrow_mut();
            let last = state.next_sequence - 1 + state.open.rounds();
            // A flush under way may cover less: its end then starts the next one.
            if state.flush_wanted.back().is_none_or(|back| *back < last) {
                state.flush_wanted.push_back(last);
            }
            last
        };
        self.written.reach(last).await?;
        let reach = self.flushed.reach(last);
        self.start_flush();
        reach.await
    }

    fn count(&self, change: impl FnOnce(&mut JournalCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    fn observer(&self) -> Option<Rc<dyn Observer>> {
        self.observer.borrow().as_ref().and_then(Weak::upgrade)
    }

    /// Submits at the end of this loop turn, so that whatever else arrives in it shares the round.
    fn schedule(self: &Rc<Journal>) {
        let already = std::mem::replace(&mut self.state.borrow_mut().scheduled, true);
        if !already {
            let journal = Rc::clone(self);
            self.storage.spawn(Box::pin(async move {
                journal.state.borrow_mut().scheduled = false;
                journal.submit();
            }));
        }
    }

    fn submit(self: &Rc<Journal>) {
        loop {
            let round = {
                let mut state = self.state.borrow_mut();
                let busy = state.in_flight.len();
                let wanted = state.open.rounds() > 0
                    && state.stopped.is_none()
                    && (busy == 0
                        || (busy < ROUNDS_IN_FLIGHT_MAX
                            && state.open.bytes() >= ROUND_EAGER_BYTES));
                if !wanted {
                    break;
                }
                let len = state.open.next_len();
                if !state.files.make_current(len) {
                    drop(state);
                    self.prepare_file(len);
                    break;
                }
                match self.close_round(&mut state) {
                    Ok(round) => round,
                    Err(error) => {
                        drop(state);
                        self.fence(&error);
                        break;
                    }
                }
            };
            self.count(|c| {
                c.writes += 1;
                c.write_bytes += round.buffer.len() as u64;
            });
            if let Some(observer) = self.observer() {
                observer.placed(&round);
            }
            self.write(round);
            self.release_memory();
        }
        if self.state.borrow_mut().files.wants_spare() {
            self.prepare_file(0);
        }
    }

    fn close_round(&self, state: &mut State) -> io::Result<Rc<Round>> {
        let sequence = state.next_sequence;
        let header = format::RoundHeader {
            chain: self.settings.chain,
            sequence,
            written: self.written.reached(),
            flushed: self.flushed.reached(),
            previous_checksum: state.last_checksum,
            checksum: 0,
            entry_count: 0,
            round_len: 0,
        };
        let encoded = state
            .open
            .close(&*self.storage, self.settings.salt, &header)
            .map_err(|error| misfit(&error))?;
        let (file, position) = state.files.place(encoded.buffer.len(), sequence);
        let round = Rc::new(Round {
            sequence,
            file,
            position,
            buffer: encoded.buffer,
            memory: encoded.memory,
            placed: encoded.placed,
        });
        state.next_sequence += 1;
        state.last_checksum = encoded.checksum;
        state.live_bytes += round.buffer.len();
        state.ring_bytes += round.memory;
        state.ring.push_back(Rc::clone(&round));
        state.in_flight.push_back(InFlight { round: Rc::clone(&round), done: false });
        Ok(round)
    }

    fn write(self: &Rc<Journal>, round: Rc<Round>) {
        let write = self
            .state
            .borrow()
            .files
            .handle(round.file)
            .map(|file| file.write(round.buffer.clone(), round.position));
        let Some(write) = write else {
            self.fence(&io::Error::other("a round's file is gone"));
            return;
        };
        let journal = Rc::clone(self);
        let sequence = round.sequence;
        self.storage.spawn(Box::pin(async move {
            match write.await {
                Ok(()) => journal.round_done(sequence),
                Err(error) => journal.fence(&error),
            }
        }));
    }

    fn round_done(self: &Rc<Journal>, sequence: u64) {
        let mut covered = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            if state.stopped.is_some() {
                return;
            }
            if let Some(entry) = state.in_flight.iter_mut().find(|f| f.round.sequence == sequence) {
                entry.done = true;
            }
            while state.in_flight.front().is_some_and(|f| f.done) {
                covered.extend(state.in_flight.pop_front().map(|f| f.round));
            }
        }
        if let Some(last) = covered.last().map(|r| r.sequence) {
            if let Some(observer) = self.observer() {
                observer.written(last, &covered);
            }
            self.written.advance(last);
            self.flush_if_awaited();
        }
        self.submit();
    }

    fn flush_if_awaited(self: &Rc<Journal>) {
        let awaited = {
            let mut state = self.state.borrow_mut();
            let flushed = self.flushed.reached();
            while state.flush_wanted.front().is_some_and(|s| *s <= flushed) {
                state.flush_wanted.pop_front();
            }
            state.flush_wanted.front().is_some_and(|s| *s <= self.written.reached())
        };
        if awaited {
            self.start_flush();
        }
    }

    /// Flushes what is written now; one at a time, the next starts when this one ends if somebody
    /// waits by then.
    fn start_flush(self: &Rc<Journal>) {
        let target = self.written.reached();
        let handles = {
            let mut state = self.state.borrow_mut();
            if state.flushing || state.stopped.is_some() || target <= self.flushed.reached() {
                return;
            }
            state.flushing = true;
            state.files.unflushed(self.flushed.reached(), target)
        };
        self.count(|c| c.flushes += handles.len() as u64);
        // Submitted here, not when the task first runs: the flush covers exactly what is written now.
        let flushes: Vec<_> = handles.iter().map(|file| file.flush()).collect();
        let journal = Rc::clone(self);
        self.storage.spawn(Box::pin(async move {
            let mut failed = None;
            for flush in flushes {
                if let Err(error) = flush.await {
                    failed = Some(error);
                }
            }
            match failed {
                None => journal.flush_done(target),
                Some(error) => journal.fence(&error),
            }
        }));
    }

    fn flush_done(self: &Rc<Journal>, target: u64) {
        {
            let mut state = self.state.borrow_mut();
            state.flushing = false;
            if state.stopped.is_some() {
                return;
            }
        }
        if let Some(observer) = self.observer() {
            observer.flushed(target);
        }
        self.flushed.advance(target);
        self.flush_if_awaited();
    }

    /// Gives up the oldest drained rounds' memory while the ring is over its bound.
    fn release_memory(&self) {
        loop {
            let round = {
                let mut state = self.state.borrow_mut();
                let live = state.files.first_live();
                let over = state.ring_bytes > self.settings.ring_bytes;
                match state.ring.front() {
                    Some(front) if over && front.file < live => {
                        let round = state.ring.pop_front();
                        if let Some(round) = &round {
                            state.ring_bytes -= round.memory;
                        }
                        round
                    }
                    _ => None,
                }
            };
            match (round, self.observer()) {
                (Some(round), Some(observer)) => observer.released(&round),
                (Some(_), None) => {}
                (None, _) => break,
            }
        }
    }

    fn prepare_file(self: &Rc<Journal>, len: usize) {
        let number = {
            let mut state = self.state.borrow_mut();
            if let Some(wanted) = &mut state.unprepared {
                // There was no space a moment ago.
                *wanted = len.max(*wanted);
                return;
            }
            match state.files.begin_prepare() {
                Some(number) => number,
                None => return,
            }
        };
        let size = self.settings.file_bytes.max(crate::storage::align_up(len));
        let path = files::path(&self.settings.directory, self.settings.chain, number);
        let journal = Rc::clone(self);
        let preparing = files::prepare(Rc::clone(&self.storage), path.clone(), size);
        self.storage.spawn(Box::pin(async move {
            match preparing.await {
                Ok(file) => {
                    journal.state.borrow_mut().files.end_prepare(file);
                    journal.prepared.advance(journal.prepared.reached() + 1);
                    journal.submit();
                }
                Err(error) if is_full(&error) => {
                    // Rounds wait for it; the next tick tries again.
                    let gone = journal.storage.remove(&path).await;
                    let mut state = journal.state.borrow_mut();
                    state.files.abandon_prepare();
                    state.unprepared = Some(len);
                    tracing::warn!(%error, removed = gone.is_ok(), "no space for another journal file");
                }
                Err(error) => journal.fence(&error),
            }
        }));
    }

    /// Nothing is acknowledged after this (storage rule 10).
    pub fn fence(&self, error: &io::Error) {
        let first = self.state.borrow_mut().stopped.replace(error.kind()).is_none();
        if first {
            self.written.fence();
            self.flushed.fence();
            self.room.fence();
            self.prepared.fence();
            if let Some(observer) = self.observer() {
                observer.fenced(error);
            }
        }
    }
}

/// A defect of this process: the appends of a round do not fit together.
fn misfit(error: &format::RoundError) -> io::Error {
    io::Error::other(format!("a round does not fit together: {error:?}"))
}
