//! One core's world: its partitions, its image of the metadata, its lines to the other shards.
//!
//! Shard: one [`Shard`] per executor; nothing of it is shared. What other shards want of it arrives as
//! messages ([`message`]); what it wants of them it asks through [`mailbox::Router`].
//! It does not know: the wire protocol, connections beyond handing them over.

mod compaction;
pub mod control;
pub mod fetch_sessions;
pub mod groups;
pub mod mailbox;
pub mod message;
pub mod parked;
mod producer_ids;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;

use self::compaction::Compaction;
use self::control::Control;
use self::fetch_sessions::FetchSessions;
use self::groups::Groups;
use self::mailbox::{Incoming, Router};
use self::message::{
    AppendDone, AppendFailure, Call, ControlFailure, ControlOutcome, ControlRequest, HandedOver,
    LookUp, LookedUp, PartitionAppend, PartitionRead, ReadFailure, ReadMany, RemoteRead, Reply,
    ShardMessage, Tell,
};
use self::parked::Parked;
use self::producer_ids::ProducerIdBlocks;
use crate::config::Config;
use crate::journal::Waits;
use crate::log::epochs::EpochEnd;
use crate::log::{Recovered, RetentionRules};
use crate::metadata::{Image, MetadataRecord, Topic};
use crate::partition::{DeleteError, NoRoom, Outcome, ReadError, ReadRequest, Store};
use crate::time::{Clock, Monotonic};
use crate::types::{Durability, LeaderEpoch, Offset, ShardId, TopicPartition};

/// Where clients of one listener connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub name: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What is the same on every shard for as long as the broker runs.
#[derive(Clone, Debug)]
pub struct Broker {
    /// The checked configuration.
    pub config: Config,
    /// The cluster's id, from `meta.properties`.
    pub cluster_id: String,
    /// Where clients are told to connect, by the index of the listener they came by; at least one.
    pub advertised: Vec<Endpoint>,
    /// Leader epoch of this start.
    pub leader_epoch: i32,
    /// Bytes that have to become free on the disk before records are taken; 0 while they are.
    pub missing_space: Arc<AtomicU64>,
}

impl Broker {
    /// How many bytes have to become free on the disk before records are taken.
    #[must_use]
    pub fn missing_space(&self) -> Option<u64> {
        Some(self.missing_space.load(Ordering::Relaxed)).filter(|missing| *missing > 0)
    }

    /// Where clients that came by that listener are told to connect.
    #[must_use]
    pub fn endpoint(&self, listener: u16) -> Endpoint {
        let endpoint = self.advertised.get(usize::from(listener));
        endpoint.or(self.advertised.first()).cloned().unwrap_or_default()
    }
}

/// Takes the connections that are handed to a shard.
pub type TakeConnection = Box<dyn Fn(HandedOver)>;

/// A core's world.
pub struct Shard {
    id: ShardId,
    shards: u16,
    broker: Rc<Broker>,
    store: Rc<Store>,
    router: Router,
    image: RefCell<Rc<Image>>,
    parked: Parked,
    groups: Groups,
    fetch_sessions: FetchSessions,
    producer_ids: ProducerIdBlocks,
    /// When idempotent producers are looked through for expired ones.
    expiry_due: Cell<Monotonic>,
    /// When segments are looked through for those to be removed.
    retention_due: Cell<Monotonic>,
    retaining: Rc<Cell<bool>>,
    compaction: Compaction,
    /// Appends in the order in which they came, when they must wait for room.
    turns: Waits,
    turns_given: Cell<u64>,
    control: RefCell<Option<Rc<Control>>>,
    take_connection: RefCell<Option<TakeConnection>>,
    stop_requested: Cell<bool>,
}

/// The shard that owns a partition: round-robin from a start that depends on the topic.
#[must_use]
pub fn owner(partition: TopicPartition, shards: u16) -> ShardId {
    let topic = partition.topic.0.as_u128();
    let start = (topic >> 64) as u64 ^ topic as u64;
    let index = start.wrapping_add(u64::from(partition.partition.unsigned_abs()));
    ShardId(u16::try_from(index % u64::from(shards.max(1))).unwrap_or(0))
}

impl Shard {
    /// A shard with its partitions and lines.
    #[must_use]
    pub fn new(
        id: ShardId,
        shards: u16,
        broker: Broker,
        store: Rc<Store>,
        router: Router,
        image: Image,
    ) -> Rc<Shard> {
        let slots = broker.config.fetch_session_slots;
        let fetch_sessions = FetchSessions::new(slots, id.0, shards);
        let shard = Rc::new(Shard {
            id,
            shards,
            broker: Rc::new(broker),
            store,
            router,
            image: RefCell::new(Rc::new(image)),
            parked: Parked::default(),
            groups: Groups::default(),
            fetch_sessions,
            producer_ids: ProducerIdBlocks::default(),
            expiry_due: Cell::default(),
            retention_due: Cell::default(),
            retaining: Rc::default(),
            compaction: Compaction::default(),
            turns: Waits::default(),
            turns_given: Cell::new(0),
            control: RefCell::new(None),
            take_connection: RefCell::new(None),
            stop_requested: Cell::new(false),
        });
        shard.groups.attach(&shard);
        let told = Rc::downgrade(&shard);
        shard.store.on_watched(Box::new(move |watch, bytes| {
            if let Some(shard) = told.upgrade() {
                shard.moved(watch, bytes);
            }
        }));
        shard
    }

    /// Takes ownership of this shard's partitions of a topic.
    pub fn own(
        &self,
        topic: &Topic,
        mut recovered: impl FnMut(TopicPartition) -> Option<Recovered>,
    ) {
        for partition in 0..topic.partitions {
            let id = TopicPartition { topic: topic.id, partition };
            if owner(id, self.shards) == self.id {
                self.store.add(id, &topic.name, topic.effective.segment_bytes, recovered(id));
                self.store.configure(id, &topic.effective);
            }
        }
        self.groups.own(self, topic);
    }

    /// Tells this shard's partitions of topics whose configs are other than before.
    fn configure(&self, before: &Image, after: &Image) {
        for topic in after.topics() {
            let same = before.by_id(topic.id).is_some_and(|old| old.effective == topic.effective);
            if !same {
                for partition in 0..topic.partitions {
                    let id = TopicPartition { topic: topic.id, partition };
                    self.store.configure(id, &topic.effective);
                }
            }
        }
    }

    /// Makes this shard the one that changes metadata.
    pub fn set_control(&self, control: Control) {
        *self.control.borrow_mut() = Some(Rc::new(control));
    }

    /// Says who takes connections.
    pub fn on_connection(&self, take: TakeConnection) {
        *self.take_connection.borrow_mut() = Some(take);
    }

    /// This shard's index.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// What is the same everywhere.
    #[must_use]
    pub fn broker(&self) -> &Rc<Broker> {
        &self.broker
    }

    /// This core's partitions.
    #[must_use]
    pub fn store(&self) -> &Rc<Store> {
        &self.store
    }

    /// The lines to other shards.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The topics, as of now.
    #[must_use]
    pub fn image(&self) -> Rc<Image> {
        Rc::clone(&self.image.borrow())
    }

    /// Fetch sessions of this shard's connections.
    #[must_use]
    pub fn fetch_sessions(&self) -> &FetchSessions {
        &self.fetch_sessions
    }

    /// Delayed fetches.
    #[must_use]
    pub fn parked(&self) -> &Parked {
        &self.parked
    }

    /// The group coordinators.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The owner of a partition.
    #[must_use]
    pub fn owner(&self, partition: TopicPartition) -> ShardId {
        owner(partition, self.shards)
    }

    /// Whether the broker is stopping: delayed fetches are not parked any more.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop_requested.get()
    }

    /// Ends delayed fetches, now and from now on.
    pub fn begin_stop(&self) {
        self.stop_requested.set(true);
        self.parked.release_all();
        self.groups.stop();
    }

    /// The shard's clock tick.
    pub fn tick(&self, now: Monotonic) {
        self.store.tick(now);
        self.parked.tick(now);
        self.groups.tick(now);
        if now >= self.expiry_due.get() {
            let config = &self.broker.config;
            let interval = Duration::from_millis(config.producer_id_expiration_check_interval_ms);
            self.expiry_due.set(now.plus(interval));
            self.store.expire_producers(Clock::timestamp(), config.producer_id_expiration_ms);
        }
        if now >= self.retention_due.get() {
            let interval = self.broker.config.log_retention_check_interval_ms;
            self.retention_due.set(now.plus(Duration::from_millis(interval)));
            self.retain();
        }
        self.compaction.tick(self, now);
    }

    /// Moves log starts as the topics' retention says, unless that is under way.
    fn retain(&self) {
        if self.retaining.replace(true) {
            return;
        }
        let (store, retaining) = (Rc::clone(&self.store), Rc::clone(&self.retaining));
        glommio::spawn_local(async move {
            let configs = Rc::clone(&store);
            let rules = move |id| {
                let configs = configs.topic_configs(id)?;
                configs.cleanup_delete.then(|| RetentionRules {
                    ms: (configs.retention_ms >= 0).then_some(configs.retention_ms),
                    bytes: u64::try_from(configs.retention_bytes).ok(),
                })
            };
            if store.retain(Clock::timestamp(), rules).await.is_err() {
                tracing::debug!("retention ends: the core is fenced");
            }
            retaining.set(false);
        })
        .detach();
    }

    /// A producer id that was never given out before.
    ///
    /// # Errors
    /// When the metadata log has failed.
    pub async fn next_producer_id(&self) -> Result<i64, ControlFailure> {
        self.producer_ids.next(|| self.control(ControlRequest::ProducerIds)).await
    }

    /// Hands a connection to a shard.
    pub fn hand_over(&self, to: ShardId, accepted: HandedOver) {
        if to == self.id {
            self.take(accepted);
        } else {
            self.router.tell(to, Tell::Connection(accepted));
        }
    }

    fn take(&self, accepted: HandedOver) {
        if let Some(take) = &*self.take_connection.borrow() {
            take(accepted);
        }
    }

    fn moved(&self, watch: u64, bytes: usize) {
        let of = parked::shard_of(watch);
        if of == self.id {
            self.parked.moved(watch, bytes);
        } else {
            self.router.tell(of, Tell::Moved { watch, bytes });
        }
    }

    /// Has `watch` told when the partition's high watermark is above `seen`.
    pub fn watch(&self, watch: u64, partition: TopicPartition, seen: Offset) {
        let owner = self.owner(partition);
        if owner == self.id {
            self.watch_here(watch, partition, seen);
        } else {
            self.router.tell(owner, Tell::Watch { watch, partition, seen });
        }
    }

    fn watch_here(&self, watch: u64, partition: TopicPartition, seen: Offset) {
        self.store.watch(partition, watch);
        let now = self.store.position(partition).map(|p| p.high_watermark);
        if now.is_none_or(|now| now > seen) {
            // It moved between the read and the watch, or is gone: the fetch looks again.
            self.moved(watch, usize::MAX);
        }
    }

    /// Ends a watch.
    pub fn unwatch(&self, watch: u64, partition: TopicPartition) {
        let owner = self.owner(partition);
        if owner == self.id {
            self.store.unwatch(partition, watch);
        } else {
            self.router.tell(owner, Tell::Unwatch { watch, partition });
        }
    }

    /// Appends to partitions that this shard owns, in the order of these calls; the future ends when
    /// every append has reached its class.
    pub fn append_here(
        self: &Rc<Shard>,
        appends: Vec<PartitionAppend>,
    ) -> impl Future<Output = Vec<Result<AppendDone, AppendFailure>>> + 'static {
        let shard = Rc::clone(self);
        let given = self.turns_given.get();
        let at_once = self.turns.reached() == given && self.store.journal().has_room();
        let begun = at_once.then(|| self.begin_appends(&appends));
        if !at_once {
            self.turns_given.set(given + 1);
        }
        async move {
            let begun = match begun {
                Some(begun) => begun,
                None => {
                    let turn = shard.turns.reach(given).await.is_ok();
                    let refused = match shard.store.room().await {
                        Ok(()) if turn => None,
                        Err(NoRoom::DiskFull) => Some(AppendFailure::DiskFull),
                        _ => Some(AppendFailure::Storage),
                    };
                    let begun = match refused {
                        None => shard.begin_appends(&appends),
                        Some(failure) => vec![Err(failure); appends.len()],
                    };
                    shard.turns.advance(given + 1);
                    begun
                }
            };
            let mut done = Vec::with_capacity(begun.len());
            for (begun, append) in begun.into_iter().zip(&appends) {
                done.push(match begun {
                    Ok((appended, sequence)) => {
                        let reached = shard.store.reach(sequence, append.class).await;
                        reached.map(|()| appended).map_err(|_| AppendFailure::Storage)
                    }
                    Err(failure) => Err(failure),
                });
            }
            done
        }
    }

    fn begin_appends(
        &self,
        appends: &[PartitionAppend],
    ) -> Vec<Result<(AppendDone, u64), AppendFailure>> {
        appends
            .iter()
            .map(|a| {
                let appended =
                    self.store.append(a.partition, a.bytes.clone(), a.records, a.class)?;
                let done = AppendDone {
                    base_offset: appended.base_offset,
                    log_start: appended.log_start,
                    duplicate: appended.duplicate,
                };
                Ok((done, appended.sequence))
            })
            .collect()
    }

    /// Reads partitions that this shard owns.
    pub async fn read_here(&self, read: &ReadMany) -> Vec<Result<Outcome, ReadFailure>> {
        let mut left = read.max_bytes;
        let mut taken = 0;
        let mut results = Vec::with_capacity(read.partitions.len());
        for PartitionRead { partition, offset, max_bytes, last_fetched_epoch } in &read.partitions {
            match self.diverges(*partition, *offset, *last_fetched_epoch) {
                Ok(None) => {}
                other => {
                    results.push(other.and_then(|diverging| {
                        let nothing = self.position_of(*partition)?;
                        Ok(Outcome { diverging, ..nothing })
                    }));
                    continue;
                }
            }
            if left == 0 && taken > 0 {
                // No room: where it stands is still said.
                results.push(self.position_of(*partition));
                continue;
            }
            let request = ReadRequest {
                partition: *partition,
                offset: *offset,
                max_bytes: (*max_bytes).min(left),
            };
            let result = match self.store.read_memory(&request) {
                Ok(Some(outcome)) => Ok(outcome),
                Ok(None) => self.store.read(&request).await,
                Err(error) => Err(error),
            };
            let result = result.map_err(|error| failure(*partition, &error));
            let result = match result {
                // A first batch larger than what is left is for the next fetch.
                Ok(outcome) if taken > 0 && outcome.bytes > left => self.position_of(*partition),
                other => other,
            };
            if let Ok(outcome) = &result {
                left = left.saturating_sub(outcome.bytes);
                taken += outcome.bytes;
            }
            results.push(result);
        }
        results
    }

    /// Moves log starts of partitions that this shard owns; one flush covers them all.
    pub async fn delete_records_here(
        &self,
        partitions: Vec<(TopicPartition, Option<Offset>)>,
    ) -> Vec<Result<Offset, DeleteError>> {
        let begun: Vec<_> = partitions
            .into_iter()
            .map(|(id, before)| self.store.begin_delete_records(id, before))
            .collect();
        let mut results = Vec::with_capacity(begun.len());
        for begun in begun {
            results.push(match begun {
                Ok(begun) => self.store.finish_delete_records(begun).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Looks up what this shard owns.
    pub async fn look_up_here(&self, questions: &[LookUp]) -> Vec<Result<LookedUp, ReadFailure>> {
        let mut answers = Vec::with_capacity(questions.len());
        for LookUp { partition, query } in questions {
            let found = match query {
                Some(query) => self.store.offset_at(*partition, *query).await,
                None => Ok(None),
            };
            let found = found.map_err(|error| failure(*partition, &error));
            answers.push(found.and_then(|found| {
                let position = self.store.position(*partition);
                Ok(LookedUp { position: position.ok_or(ReadFailure::UnknownPartition)?, found })
            }));
        }
        answers
    }

    /// Where a log parted from what a client fetched last (KIP-595): records up to `offset`, the last one
    /// of `epoch`.
    fn diverges(
        &self,
        partition: TopicPartition,
        offset: Offset,
        epoch: i32,
    ) -> Result<Option<EpochEnd>, ReadFailure> {
        if epoch < 0 {
            return Ok(None);
        }
        let end = self.store.epoch_end(partition, LeaderEpoch(epoch));
        let end = end.ok_or(ReadFailure::UnknownPartition)?;
        let position = self.store.position(partition).ok_or(ReadFailure::UnknownPartition)?;
        match end {
            Some(_) if offset < position.log_start => Err(ReadFailure::OffsetOutOfRange),
            Some(end) => Ok((end.epoch.0 < epoch || end.end < offset).then_some(end)),
            None => Err(ReadFailure::OffsetOutOfRange),
        }
    }

    fn position_of(&self, partition: TopicPartition) -> Result<Outcome, ReadFailure> {
        let position = self.store.position(partition).ok_or(ReadFailure::UnknownPartition)?;
        Ok(Outcome {
            slices: Vec::new(),
            bytes: 0,
            diverging: None,
            high_watermark: position.high_watermark,
            log_start: position.log_start,
        })
    }

    /// Asks for a change of metadata, wherever this shard is.
    ///
    /// # Errors
    /// When the metadata log has failed.
    pub async fn control(
        &self,
        request: ControlRequest,
    ) -> Result<Vec<ControlOutcome>, ControlFailure> {
        let here = self.control.borrow().clone();
        match here {
            Some(control) => control.request(request).await,
            None => match self.router.call(ShardId(0), Call::Control(request)).await {
                Reply::Control(result) => result,
                _ => Err(ControlFailure("not an answer to a metadata change".into())),
            },
        }
    }

    /// Appends a record of the broker's own life (shard 0 only).
    ///
    /// # Errors
    /// When the metadata log has failed.
    pub async fn record(&self, record: MetadataRecord) -> Result<(), ControlFailure> {
        let here = self.control.borrow().clone();
        match here {
            Some(control) => control.record(record).await.map(|_| ()),
            None => Err(ControlFailure("only shard 0 changes metadata".into())),
        }
    }

    /// Acts on durable metadata records.
    ///
    /// # Errors
    /// When a deleted partition's files cannot be moved away.
    pub async fn replay(&self, records: &[MetadataRecord]) -> io::Result<()> {
        let before = self.image();
        let mut image = Image::clone(&before);
        let mut deleted = Vec::new();
        for record in records {
            if let MetadataRecord::TopicDeleted { id } = record {
                deleted.extend(image.by_id(*id).cloned());
            }
            image.replay(record);
            if let MetadataRecord::Topic { id, .. } | MetadataRecord::PartitionCount { id, .. } =
                record
                && let Some(topic) = image.by_id(*id)
            {
                self.own(topic, |_| None);
            }
        }
        self.configure(&before, &image);
        *self.image.borrow_mut() = Rc::new(image);
        if !deleted.is_empty() {
            let names: Vec<String> = deleted.iter().map(|topic| topic.name.clone()).collect();
            if names.iter().any(|name| name == crate::coordinator::TOPIC) {
                self.groups.disown();
            }
            self.groups.topics_deleted(&names).await;
        }
        for topic in deleted {
            for partition in 0..topic.partitions {
                let id = TopicPartition { topic: topic.id, partition };
                if self.owner(id) == self.id {
                    self.store.remove(id).await?;
                }
            }
        }
        Ok(())
    }

    /// Serves what one other shard sends, until it ends.
    pub async fn serve(self: Rc<Shard>, incoming: Incoming) {
        while let Some(batch) = incoming.next().await {
            for message in batch {
                self.take_message(message);
            }
        }
    }

    fn take_message(self: &Rc<Shard>, message: ShardMessage) {
        match message {
            ShardMessage::Reply { id, body } => self.router.take_reply(id, body),
            ShardMessage::Tell(Tell::Connection(accepted)) => self.take(accepted),
            ShardMessage::Tell(Tell::Watch { watch, partition, seen }) => {
                self.watch_here(watch, partition, seen);
            }
            ShardMessage::Tell(Tell::Unwatch { watch, partition }) => {
                self.store.unwatch(partition, watch);
            }
            ShardMessage::Tell(Tell::Moved { watch, bytes }) => self.parked.moved(watch, bytes),
            ShardMessage::Call { from, id, body } => self.take_call(from, id, body),
        }
    }

    fn take_call(self: &Rc<Shard>, from: ShardId, id: usize, body: Call) {
        let shard = Rc::clone(self);
        match body {
            Call::Append(appends) => {
                // Begun here, in order of arrival; only the waiting is a task's.
                let done = shard.append_here(appends);
                glommio::spawn_local(async move {
                    shard.router.reply(from, id, Reply::Append(done.await));
                })
                .detach();
            }
            Call::Read(read) => {
                glommio::spawn_local(async move {
                    let results = shard.read_here(&read).await;
                    let reply = shard.copy_out(&read, results);
                    shard.router.reply(from, id, Reply::Read(reply));
                })
                .detach();
            }
            Call::LookUp(questions) => {
                glommio::spawn_local(async move {
                    let found = shard.look_up_here(&questions).await;
                    shard.router.reply(from, id, Reply::LookUp(found));
                })
                .detach();
            }
            Call::EpochEnds(questions) => {
                let end = |(partition, epoch)| self.store.epoch_end(partition, epoch);
                let ends = questions.into_iter().map(end).collect();
                self.router.reply(from, id, Reply::EpochEnds(ends));
            }
            Call::Sizes(partitions) => {
                let sizes = partitions.into_iter().map(|p| self.store.size(p)).collect();
                self.router.reply(from, id, Reply::Sizes(sizes));
            }
            Call::Group { partition, command } => {
                // Decided here, in order of arrival; only the waiting is a task's.
                let answer = self.groups.call(partition, &command);
                glommio::spawn_local(async move {
                    shard.router.reply(from, id, Reply::Group(answer.await));
                })
                .detach();
            }
            Call::ListGroups(command) => {
                glommio::spawn_local(async move {
                    let answer = shard.groups.list(&command).await;
                    shard.router.reply(from, id, Reply::Group(answer));
                })
                .detach();
            }
            Call::Producers(partitions) => {
                let producers = partitions.into_iter().map(|p| self.store.producers(p)).collect();
                self.router.reply(from, id, Reply::Producers(producers));
            }
            Call::DeleteRecords(partitions) => {
                glommio::spawn_local(async move {
                    let results = shard.delete_records_here(partitions).await;
                    shard.router.reply(from, id, Reply::DeleteRecords(results));
                })
                .detach();
            }
            Call::Control(request) => {
                glommio::spawn_local(async move {
                    let result = shard.control(request).await;
                    shard.router.reply(from, id, Reply::Control(result));
                })
                .detach();
            }
            Call::Replay(records) => {
                glommio::spawn_local(async move {
                    let done = shard.replay(&records).await.map_err(|e| e.to_string());
                    shard.router.reply(from, id, Reply::Done(done));
                })
                .detach();
            }
            Call::DrainRecovered => {
                glommio::spawn_local(async move {
                    let done = shard.store.recovered_drained().await;
                    let done = done.map_err(|_| "the core is fenced".to_owned());
                    shard.router.reply(from, id, Reply::Done(done));
                })
                .detach();
            }
            Call::Stop => {
                glommio::spawn_local(async move {
                    let done = shard.store.stop().await.map_err(|e| e.to_string());
                    shard.router.reply(from, id, Reply::Done(done));
                })
                .detach();
            }
        }
    }

    /// The one copy of record bytes that crosses cores.
    fn copy_out(
        &self,
        read: &ReadMany,
        results: Vec<Result<Outcome, ReadFailure>>,
    ) -> Vec<RemoteRead> {
        let mut reads = Vec::with_capacity(results.len());
        for (asked, result) in read.partitions.iter().zip(results) {
            let position = self.store.position(asked.partition);
            reads.push(match result {
                Ok(outcome) => {
                    let mut bytes = BytesMut::with_capacity(outcome.bytes);
                    for slice in &outcome.slices {
                        bytes.extend_from_slice(slice.bytes());
                    }
                    self.store.count_copied(outcome.bytes);
                    let diverging = outcome.diverging;
                    RemoteRead { position, bytes: bytes.freeze(), diverging, failure: None }
                }
                Err(failure) => RemoteRead {
                    position,
                    bytes: bytes::Bytes::new(),
                    diverging: None,
                    failure: Some(failure),
                },
            });
        }
        reads
    }

    /// The class that an acknowledgement of `acks` asks for, with `acks.all.durability`.
    #[must_use]
    pub fn class_of(&self, acks: i16) -> Durability {
        match acks {
            0 => Durability::Received,
            1 => Durability::Written,
            _ => self.broker.config.acks_all_durability,
        }
    }
}

fn failure(partition: TopicPartition, error: &ReadError) -> ReadFailure {
    match error {
        ReadError::UnknownPartition => ReadFailure::UnknownPartition,
        ReadError::OffsetOutOfRange { .. } => ReadFailure::OffsetOutOfRange,
        ReadError::Disk(error) => {
            tracing::error!(%partition, %error, "a read failed");
            ReadFailure::Storage
        }
    }
}
