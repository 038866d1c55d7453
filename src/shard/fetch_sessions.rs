//! Fetch sessions (KIP-227): what a client fetches is named once; later requests and answers say only
//! what has changed.
//!
//! Shard: each shard has the sessions that were begun on its connections. A client whose next connection
//! is on another shard is told that its session is not found, as after an eviction, and begins a new one.
//! The rules are those of Kafka's `FetchManager`, `FetchSession` and `FetchSessionCacheShard`.
//! It does not know: the wire, where partitions are, how they are read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::limits::{FETCH_SESSION_EVICTION, FETCH_SESSION_PARTITIONS_MAX};
use crate::time::Monotonic;
use crate::types::Uuid;

/// The epoch of a request that begins a session.
pub const INITIAL_EPOCH: i32 = 0;

/// The epoch of a request without session, or that ends one.
pub const FINAL_EPOCH: i32 = -1;

/// No session.
pub const NO_SESSION: i32 = 0;

/// A partition as a client names it: by its topic's name or id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionName {
    /// The topic's name; empty where it is named by id.
    pub topic: Rc<str>,
    /// The topic's id; zero where it is named by name.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
}

/// What a client asks of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub name: PartitionName,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// Bytes at most.
    pub max_bytes: i32,
    /// The leader's epoch as the client knows it.
    pub current_leader_epoch: i32,
    /// The epoch of what it fetched last.
    pub last_fetched_epoch: i32,
}

/// What an answer says of a partition, as far as it decides whether it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether there are records.
    pub records: bool,
    /// Whether there is an error or a diverging epoch.
    pub exception: bool,
    /// The high watermark.
    pub high_watermark: i64,
    /// The log start offset.
    pub log_start: i64,
}

/// Why a session cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// `FETCH_SESSION_ID_NOT_FOUND`
    NotFound,
    /// `INVALID_FETCH_SESSION_EPOCH`
    WrongEpoch,
    /// `FETCH_SESSION_TOPIC_ID_ERROR`
    OtherNaming,
}

/// How a fetch is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// With everything, and no session.
    Sessionless,
    /// With everything, and a new session if there is room.
    Full,
    /// With what has changed.
    Incremental {
        /// The session.
        id: i32,
        /// Its epoch from now on.
        epoch: i32,
    },
}

struct Cached {
    asked: Asked,
    /// As told last; -1 for what was not.
    high_watermark: i64,
    log_start: i64,
}

impl Cached {
    fn new(asked: Asked) -> Cached {
        Cached { asked, high_watermark: -1, log_start: -1 }
    }

    /// Takes what an answer would say; whether it has to.
    fn tell(&mut self, told: &Told) -> bool {
        let changed =
            self.high_watermark != told.high_watermark || self.log_start != told.log_start;
        // After an error everything is news.
        self.high_watermark = if told.exception { -1 } else { told.high_watermark };
        self.log_start = told.log_start;
        told.records || told.exception || changed
    }
}

struct Session {
    epoch: i32,
    by_id: bool,
    created: Monotonic,
    used: Monotonic,
    /// In the order in which they are read: those that had records last come last.
    partitions: BTreeMap<u64, Cached>,
    places: BTreeMap<PartitionName, u64>,
    next_place: u64,
}

impl Session {
    fn new(by_id: bool, now: Monotonic) -> Session {
        Session {
            epoch: next_epoch(INITIAL_EPOCH),
            by_id,
            created: now,
            used: now,
            partitions: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        }
    }

    fn put(&mut self, cached: Cached) {
        self.places.insert(cached.asked.name.clone(), self.next_place);
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn ask(&mut self, asked: Asked) {
        let known = self.places.get(&asked.name).and_then(|place| self.partitions.get_mut(place));
        match known {
            Some(known) => known.asked = asked,
            None => self.put(Cached::new(asked)),
        }
    }

    fn forget(&mut self, name: &PartitionName) {
        if let Some(place) = self.places.remove(name) {
            self.partitions.remove(&place);
        }
    }

    fn tell(&mut self, name: &PartitionName, told: &Told) -> bool {
        let Some(place) = self.places.get(name).copied() else { return false };
        let Some(known) = self.partitions.get_mut(&place) else { return false };
        let news = known.tell(told);
        if told.records
            && let Some(known) = self.partitions.remove(&place)
        {
            self.put(known);
        }
        news
    }
}

fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        ..0 => FINAL_EPOCH,
        i32::MAX => 1,
        epoch => epoch + 1,
    }
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<i32, Session>,
    /// Partitions of all sessions.
    partitions: usize,
}

impl State {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }

    /// Makes room for a session of `size` partitions: a stale one goes, or one that is old and not larger.
    fn evict(&mut self, size: usize, now: Monotonic) -> bool {
        let stale = self.sessions.iter().min_by_key(|(_, session)| session.used);
        let stale = stale.filter(|(_, s)| now.since(s.used) > FETCH_SESSION_EVICTION);
        let old = |s: &Session| now.since(s.created) > FETCH_SESSION_EVICTION;
        let small = || {
            let old = self.sessions.iter().filter(|(_, session)| old(session));
            let smallest = old.min_by_key(|(_, s)| (s.partitions.len(), s.used));
            smallest.filter(|(_, session)| session.partitions.len() <= size)
        };
        match stale.or_else(small).map(|(id, _)| *id) {
            Some(id) => {
                self.remove(id);
                true
            }
            None => false,
        }
    }
}

/// A shard's fetch sessions.
pub struct FetchSessions {
    state: RefCell<State>,
    slots: usize,
    shard: u16,
    shards: u16,
}

impl FetchSessions {
    /// Room for `slots` sessions of the broker's `shards` shards together.
    #[must_use]
    pub fn new(slots: usize, shard: u16, shards: u16) -> FetchSessions {
        let slots = slots.div_ceil(usize::from(shards.max(1)));
        FetchSessions { state: RefCell::default(), slots, shard, shards: shards.max(1) }
    }

    /// Takes a request: how it is answered, and what it asks for in all.
    ///
    /// # Errors
    /// When it names a session that cannot be used.
    pub fn begin(
        &self,
        now: Monotonic,
        (id, epoch): (i32, i32),
        by_id: bool,
        asked: Vec<Asked>,
        forgotten: &[PartitionName],
    ) -> Result<(Context, Vec<Asked>), SessionError> {
        let state = &mut *self.state.borrow_mut();
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            state.remove(id);
            let context = if epoch == FINAL_EPOCH { Context::Sessionless } else { Context::Full };
            return Ok((context, asked));
        }
        let session = state.sessions.get_mut(&id).ok_or(SessionError::NotFound)?;
        if session.by_id != by_id {
            return Err(SessionError::OtherNaming);
        }
        if session.epoch != epoch {
            return Err(SessionError::WrongEpoch);
        }
        let before = session.partitions.len();
        for asked in asked {
            session.ask(asked);
        }
        for name in forgotten {
            session.forget(name);
        }
        session.epoch = next_epoch(epoch);
        session.used = now;
        let epoch = session.epoch;
        let all: Vec<Asked> = session.partitions.values().map(|c| c.asked.clone()).collect();
        state.partitions = state.partitions + all.len() - before;
        if all.is_empty() {
            state.remove(id);
            return Ok((Context::Sessionless, all));
        }
        if state.partitions > FETCH_SESSION_PARTITIONS_MAX {
            state.remove(id);
            return Err(SessionError::NotFound);
        }
        Ok((Context::Incremental { id, epoch }, all))
    }

    /// Begins a session with what was asked and is about to be told; its id, or [`NO_SESSION`].
    pub fn create(
        &self,
        now: Monotonic,
        by_id: bool,
        partitions: impl ExactSizeIterator<Item = (Asked, Told)>,
    ) -> i32 {
        let state = &mut *self.state.borrow_mut();
        let size = partitions.len();
        if size == 0 || state.partitions + size > FETCH_SESSION_PARTITIONS_MAX {
            return NO_SESSION;
        }
        if state.sessions.len() >= self.slots && !state.evict(size, now) {
            return NO_SESSION;
        }
        let mut session = Session::new(by_id, now);
        for (asked, told) in partitions {
            let mut cached = Cached::new(asked);
            cached.tell(&told);
            session.forget(&cached.asked.name);
            session.put(cached);
        }
        let id = loop {
            // Another shard's ids have another remainder.
            let (shard, shards) = (i32::from(self.shard), i32::from(self.shards));
            let id = rand::random_range(1..i32::MAX / shards) * shards + shard;
            if !state.sessions.contains_key(&id) {
                break id;
            }
        };
        state.partitions += session.partitions.len();
        state.sessions.insert(id, session);
        id
    }

    /// Says of an incremental answer which partitions it has to hold.
    ///
    /// # Errors
    /// When another request has used the session meanwhile, or it is gone.
    pub fn tell<'a>(
        &self,
        id: i32,
        epoch: i32,
        told: impl Iterator<Item = (&'a PartitionName, Told)>,
    ) -> Result<Vec<bool>, SessionError> {
        let mut state = self.state.borrow_mut();
        match state.sessions.get_mut(&id) {
            Some(session) if session.epoch == epoch => {
                Ok(told.map(|(name, told)| session.tell(name, &told)).collect())
            }
            _ => Err(SessionError::WrongEpoch),
        }
    }

    /// Sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.borrow().sessions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Told = Told { records: false, exception: false, high_watermark: 9, log_start: 0 };

    fn asked(partition: i32) -> Asked {
        Asked {
            name: PartitionName { topic: "t".into(), topic_id: Uuid::nil(), partition },
            fetch_offset: 0,
            max_bytes: 100,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    fn create(sessions: &FetchSessions, now: u64, partitions: i32) -> i32 {
        let partitions: Vec<_> = (0..partitions).map(|p| (asked(p), TOLD)).collect();
        sessions.create(at(now), false, partitions.into_iter())
    }

    fn order(asked: &[Asked]) -> Vec<i32> {
        asked.iter().map(|a| a.name.partition).collect()
    }

    #[test]
    fn only_news_is_told_and_records_go_to_the_end() {
        let sessions = FetchSessions::new(10, 1, 2);
        let id = create(&sessions, 0, 3);
        assert!(id > 0 && id % 2 == 1);
        let begun = sessions.begin(at(1), (id, 1), false, vec![], &[]);
        let (context, all) = begun.unwrap();
        assert_eq!(context, Context::Incremental { id, epoch: 2 });
        assert_eq!(order(&all), [0, 1, 2]);
        let told = [
            Told { records: true, high_watermark: 12, ..TOLD },
            TOLD,
            Told { high_watermark: 10, ..TOLD },
        ];
        let tell = |told: [Told; 3], all: &[Asked], epoch| {
            sessions.tell(id, epoch, all.iter().map(|a| &a.name).zip(told))
        };
        assert_eq!(tell(told, &all, 2), Ok(vec![true, false, true]));

        // A partition is dropped, another comes, one moves on.
        let moved = Asked { fetch_offset: 12, ..asked(0) };
        let forgotten = [asked(1).name];
        let begun =
            sessions.begin(at(2), (id, 2), false, vec![moved.clone(), asked(7)], &forgotten);
        let (_, all) = begun.unwrap();
        assert_eq!(order(&all), [2, 0, 7]);
        assert_eq!(all[1], moved);
        let error = Told { exception: true, high_watermark: 12, ..TOLD };
        let told = [Told { high_watermark: 10, ..TOLD }, error, TOLD];
        assert_eq!(tell(told, &all, 3), Ok(vec![false, true, true]));
        // After an error the same watermark is news again.
        sessions.begin(at(3), (id, 3), false, vec![], &[]).unwrap();
        let told = [Told { high_watermark: 10, ..TOLD }, Told { high_watermark: 12, ..TOLD }, TOLD];
        assert_eq!(tell(told, &all, 4), Ok(vec![false, true, false]));
        assert_eq!(tell(told, &all, 3), Err(SessionError::WrongEpoch));
    }

    #[test]
    fn sessions_are_used_in_order_and_by_one_naming() {
        let sessions = FetchSessions::new(10, 0, 1);
        let id = create(&sessions, 0, 1);
        let begin = |epoch, by_id| sessions.begin(at(1), (id, epoch), by_id, vec![], &[]);
        assert_eq!(begin(2, false).unwrap_err(), SessionError::WrongEpoch);
        assert_eq!(begin(1, true).unwrap_err(), SessionError::OtherNaming);
        assert!(begin(1, false).is_ok());
        assert_eq!(begin(1, false).unwrap_err(), SessionError::WrongEpoch);
        let unknown = sessions.begin(at(1), (id + 1, 1), false, vec![], &[]);
        assert_eq!(unknown.unwrap_err(), SessionError::NotFound);
        // A final request ends it; so does one that forgets everything.
        assert_eq!(begin(FINAL_EPOCH, false).unwrap().0, Context::Sessionless);
        assert_eq!(begin(2, false).unwrap_err(), SessionError::NotFound);
        let id = create(&sessions, 0, 1);
        let begun = sessions.begin(at(1), (id, 1), false, vec![], &[asked(0).name]);
        assert_eq!(begun.unwrap().0, Context::Sessionless);
        assert!(sessions.is_empty() && sessions.state.borrow().partitions == 0);
        assert_eq!(create(&sessions, 0, 0), NO_SESSION);
        assert_eq!(next_epoch(i32::MAX), 1);
    }

    #[test]
    fn a_full_cache_lets_go_of_what_is_stale_or_small() {
        let sessions = FetchSessions::new(2, 0, 1);
        let (first, second) = (create(&sessions, 0, 5), create(&sessions, 1, 3));
        assert_eq!(create(&sessions, 100, 9), NO_SESSION);
        let used = |id, epoch, now| sessions.begin(at(now), (id, epoch), false, vec![], &[]);
        used(first, 1, 100).unwrap();
        used(second, 1, 100).unwrap();
        // Both are old now and neither is stale: only one that is not larger goes.
        assert_eq!(create(&sessions, 150, 2), NO_SESSION);
        let third = create(&sessions, 150, 4);
        assert_ne!(third, NO_SESSION);
        assert_eq!(used(second, 2, 150).unwrap_err(), SessionError::NotFound);
        used(first, 2, 150).unwrap();
        // Stale is whoever was not heard of for two minutes.
        assert_ne!(create(&sessions, 280, 1), NO_SESSION);
        assert_eq!(sessions.len(), 2);
    }
}
