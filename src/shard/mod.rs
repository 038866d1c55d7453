//! One core's world: its partitions, its image of the metadata, its lines to the other shards.
//!
//! Shard: one [`Shard`] per executor; nothing of it is shared. What other shards want of it arrives as
//! messages ([`message`]); what it wants of them it asks through [`mailbox::Router`].
//! It does not know: the wire protocol, connections beyond handing them over.

pub mod control;
pub mod mailbox;
pub mod message;
pub mod parked;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::BytesMut;

use self::control::Control;
use self::mailbox::{Incoming, Router};
use self::message::{
    AppendDone, AppendFailure, Call, ControlFailure, ControlOutcome, ControlRequest, HandedOver,
    PartitionAppend, ReadFailure, ReadMany, RemoteRead, Reply, ShardMessage, Tell,
};
use self::parked::Parked;
use crate::config::Config;
use crate::journal::Waits;
use crate::log::Recovered;
use crate::metadata::{Image, MetadataRecord, Topic};
use crate::partition::{Outcome, ReadError, ReadRequest, Store};
use crate::time::Monotonic;
use crate::types::{Durability, Offset, ShardId, TopicPartition};

/// What is the same on every shard for as long as the broker runs.
#[derive(Clone, Debug)]
pub struct Broker {
    /// The checked configuration.
    pub config: Config,
    /// The cluster's id, from `meta.properties`.
    pub cluster_id: String,
    /// Host that clients are told.
    pub advertised_host: String,
    /// Port that clients are told.
    pub advertised_port: u16,
    /// Leader epoch of this start.
    pub leader_epoch: i32,
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
        let shard = Rc::new(Shard {
            id,
            shards,
            broker: Rc::new(broker),
            store,
            router,
            image: RefCell::new(Rc::new(image)),
            parked: Parked::default(),
            turns: Waits::default(),
            turns_given: Cell::new(0),
            control: RefCell::new(None),
            take_connection: RefCell::new(None),
            stop_requested: Cell::new(false),
        });
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
        let segment_bytes = topic
            .config("segment.bytes")
            .and_then(|v| v.parse().ok())
            .unwrap_or(u64::from(self.broker.config.log_segment_bytes));
        for partition in 0..topic.partitions {
            let id = TopicPartition { topic: topic.id, partition };
            if owner(id, self.shards) == self.id {
                self.store.add(id, &topic.name, segment_bytes, recovered(id));
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

    /// Delayed fetches.
    #[must_use]
    pub fn parked(&self) -> &Parked {
        &self.parked
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
    }

    /// The shard's clock tick.
    pub fn tick(&self, now: Monotonic) {
        self.store.journal().tick(now);
        self.parked.tick(now);
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
                    let room =
                        shard.turns.reach(given).await.is_ok() && shard.store.room().await.is_ok();
                    let begun = shard.begin_appends(&appends);
                    shard.turns.advance(given + 1);
                    if room { begun } else { vec![Err(AppendFailure::Storage); appends.len()] }
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
                let done =
                    AppendDone { base_offset: appended.base_offset, log_start: appended.log_start };
                Ok((done, appended.sequence))
            })
            .collect()
    }

    /// Reads partitions that this shard owns.
    pub async fn read_here(&self, read: &ReadMany) -> Vec<Result<Outcome, ReadFailure>> {
        let mut left = read.max_bytes;
        let mut taken = 0;
        let mut results = Vec::with_capacity(read.partitions.len());
        for (partition, offset, max_bytes) in &read.partitions {
            if left == 0 && taken > 0 {
                // No room: where it stands is still said.
                let nothing = ReadRequest { partition: *partition, offset: *offset, max_bytes: 0 };
                results.push(self.position_of(&nothing));
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
                Ok(outcome) if taken > 0 && outcome.bytes > left => self.position_of(&request),
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

    fn position_of(&self, request: &ReadRequest) -> Result<Outcome, ReadFailure> {
        let position =
            self.store.position(request.partition).ok_or(ReadFailure::UnknownPartition)?;
        Ok(Outcome {
            slices: Vec::new(),
            bytes: 0,
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
        let mut image = Image::clone(&self.image.borrow());
        let mut deleted = Vec::new();
        for record in records {
            match record {
                MetadataRecord::Topic { name, id, partitions, configs } => {
                    let topic = Topic {
                        name: name.clone(),
                        id: *id,
                        partitions: *partitions,
                        configs: configs.clone(),
                    };
                    self.own(&topic, |_| None);
                    image.insert(topic);
                }
                MetadataRecord::TopicDeleted { id } => {
                    deleted.extend(image.by_id(*id).cloned());
                    image.remove(*id);
                }
                MetadataRecord::Start { .. }
                | MetadataRecord::CleanStop { .. }
                | MetadataRecord::OldJournalsDropped { .. } => {}
            }
        }
        *self.image.borrow_mut() = Rc::new(image);
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
            Call::Positions(partitions) => {
                let positions = partitions.into_iter().map(|p| self.store.position(p)).collect();
                self.router.reply(from, id, Reply::Positions(positions));
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
        for ((partition, _, _), result) in read.partitions.iter().zip(results) {
            let position = self.store.position(*partition);
            reads.push(match result {
                Ok(outcome) => {
                    let mut bytes = BytesMut::with_capacity(outcome.bytes);
                    for slice in &outcome.slices {
                        bytes.extend_from_slice(slice.bytes());
                    }
                    self.store.count_copied(outcome.bytes);
                    RemoteRead { position, bytes: bytes.freeze(), failure: None }
                }
                Err(failure) => {
                    RemoteRead { position, bytes: bytes::Bytes::new(), failure: Some(failure) }
                }
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
