//! The group coordinators of a shard: one machine per partition of `__consumer_offsets` that it owns.
//!
//! Shard: all of it belongs to one shard. A command runs where the group's partition is, in order of
//! arrival and without waiting; what it decided is appended to the partition's log, replayed at once, and
//! the answers that tell of it leave when it is flushed. Commits are always flushed, whatever
//! `acks.all.durability` says.
//! Invariants: records are replayed in the order in which they are appended; nothing is answered from a
//! machine whose log is not read yet; every waiter is answered, at the latest when its partition goes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::Shard;
use super::message::{Call, ControlOutcome, ControlRequest, NewTopic, PartitionAppend, Reply};
use crate::coordinator::{
    Answer, Command, GroupMachine, Now, Outcome, Response, TOPIC, Waiter, partition_of,
};
use crate::journal::Waits;
use crate::limits::{COLD_READ_BYTES, DECOMPRESSED_BYTES_MAX};
use crate::metadata::{Topic, TopicError};
use crate::partition::ReadRequest;
use crate::protocol::group_records::GroupRecord;
use crate::protocol::messages::list_groups::ListedGroup;
use crate::protocol::{ErrorCode, StrBytes};
use crate::record::{BatchBuilder, batches, decompress, records};
use crate::time::{Clock, Monotonic, Timestamp};
use crate::types::{Durability, Offset, ShardId, TopicPartition};

/// The coordinator of the groups of one partition.
struct Coordinator {
    id: TopicPartition,
    machine: GroupMachine,
    state: LoadState,
    /// Appends begun.
    appended: u64,
    /// Appends known to be durable; they become so in order.
    durable: Waits,
    /// Topics deleted while the log was read.
    deleted: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoadState {
    Loading,
    Loaded,
    /// The log cannot be read or understood.
    Failed,
}

#[derive(Default)]
struct Waiting {
    /// The answer, and the append it waits for.
    answer: Option<(Answer, Option<u64>)>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct State {
    coordinators: BTreeMap<i32, Coordinator>,
    waiting: BTreeMap<u64, Waiting>,
    next_waiter: u64,
    stopping: bool,
}

/// A shard's group coordinators.
#[derive(Default)]
pub struct Groups {
    shard: RefCell<Weak<Shard>>,
    state: Rc<RefCell<State>>,
    /// The earliest deadline of all machines, so that a tick with nothing to do costs nothing.
    next_deadline: Cell<Option<Monotonic>>,
}

fn now() -> Now {
    Now { monotonic: Clock::monotonic(), timestamp: Clock::timestamp() }
}

/// `__consumer_offsets` as it is created when it is first needed.
#[must_use]
pub fn offsets_topic(shard: &Shard) -> NewTopic {
    let settings = shard.broker().config.groups;
    let config = |key: &str, value: String| (key.to_owned(), value);
    NewTopic {
        name: TOPIC.to_owned(),
        partitions: settings.topic_partitions,
        configs: vec![
            config("cleanup.policy", "compact".to_owned()),
            config("compression.type", "producer".to_owned()),
            config("segment.bytes", settings.topic_segment_bytes.to_string()),
        ],
    }
}

impl Shard {
    /// Sees to it that there is a `__consumer_offsets`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn ensure_offsets_topic(&self) -> Result<(), ErrorCode> {
        if self.image().by_name(TOPIC).is_some() {
            return Ok(());
        }
        let topics = vec![offsets_topic(self)];
        let request = ControlRequest::Create { topics, validate_only: false };
        let refused = match self.control(request).await {
            Ok(outcomes) => outcomes.into_iter().find_map(|outcome| match outcome {
                ControlOutcome::Refused(TopicError::Exists(_)) => None,
                ControlOutcome::Refused(error) => Some(format!("{error:?}")),
                _ => None,
            }),
            Err(failure) => Some(failure.0),
        };
        match refused {
            None => Ok(()),
            Some(why) => {
                tracing::error!(why, "{TOPIC} cannot be created: there are no groups");
                Err(ErrorCode::CoordinatorNotAvailable)
            }
        }
    }

    /// Asks the coordinator of a group, wherever it is.
    ///
    /// # Errors
    /// What the machine answers, or that it cannot be asked.
    pub async fn group(self: &Rc<Shard>, group: &str, command: Command) -> Answer {
        let target = self.image().by_name(TOPIC).map(|topic| {
            let partition = partition_of(group, topic.partitions);
            (partition, self.owner(TopicPartition { topic: topic.id, partition }))
        });
        let Some((partition, owner)) = target else { return Err(ErrorCode::NotCoordinator) };
        if owner == self.id() {
            return self.groups().call(partition, &command).await;
        }
        match self.router().call(owner, Call::Group { partition, command: Box::new(command) }).await
        {
            Reply::Group(answer) => answer,
            _ => Err(ErrorCode::CoordinatorNotAvailable),
        }
    }

    /// All groups of all shards.
    ///
    /// # Errors
    /// When one of the coordinators is not ready.
    pub async fn list_groups(
        self: &Rc<Shard>,
        states: Vec<StrBytes>,
        types: Vec<StrBytes>,
    ) -> Result<Vec<ListedGroup>, ErrorCode> {
        let calls: Vec<_> = (0..self.shards())
            .map(ShardId)
            .filter(|to| *to != self.id())
            .map(|to| {
                let command = Command::List { states: states.clone(), types: types.clone() };
                self.router().call(to, Call::ListGroups(Box::new(command)))
            })
            .collect();
        let mut groups = Vec::new();
        let mut take = |answer: Answer| match answer {
            Ok(Response::List(listed)) => {
                groups.extend(listed);
                Ok(())
            }
            Ok(_) => Err(ErrorCode::UnknownServerError),
            Err(code) => Err(code),
        };
        take(self.groups().list(&Command::List { states, types }).await)?;
        for call in calls {
            match call.await {
                Reply::Group(answer) => take(answer)?,
                _ => return Err(ErrorCode::CoordinatorNotAvailable),
            }
        }
        Ok(groups)
    }
}

impl Groups {
    /// Says whose groups they are.
    pub(super) fn attach(&self, shard: &Rc<Shard>) {
        *self.shard.borrow_mut() = Rc::downgrade(shard);
    }

    /// Takes over the groups of this shard's partitions of `__consumer_offsets`, and reads them.
    pub(super) fn own(&self, shard: &Shard, topic: &Topic) {
        if topic.name != TOPIC {
            return;
        }
        for partition in 0..topic.partitions {
            let id = TopicPartition { topic: topic.id, partition };
            if shard.owner(id) != shard.id() {
                continue;
            }
            let mut coordinator = Coordinator {
                id,
                machine: GroupMachine::new(shard.broker().config.groups),
                state: LoadState::Loading,
                appended: 0,
                durable: Waits::default(),
                deleted: Vec::new(),
            };
            let empty = shard.store().position(id).is_some_and(|p| p.log_start == p.end);
            if empty {
                // Nothing to read, and nothing comes of it: a new topic serves at once.
                let _nothing = coordinator.machine.loaded(now(), |_| false);
                coordinator.state = LoadState::Loaded;
            }
            self.state.borrow_mut().coordinators.insert(partition, coordinator);
            if empty {
                continue;
            }
            let weak = self.shard.borrow().clone();
            glommio::spawn_local(async move {
                futures_lite::future::yield_now().await;
                if let Some(shard) = weak.upgrade() {
                    load(&shard, partition, id).await;
                }
            })
            .detach();
        }
    }

    /// Asks the coordinator of one of this shard's partitions. What the command decides is decided and
    /// on its way to the log before this returns.
    ///
    /// # Errors
    /// What the machine answers, or that it is not here or not ready.
    pub fn call(
        &self,
        partition: i32,
        command: &Command,
    ) -> impl Future<Output = Answer> + 'static {
        let begun = self.begin(partition, command);
        async move {
            let (wait, durable) = begun?;
            let (answer, append) = wait.await;
            if let Some(append) = append {
                // The core is fenced, or the partition is gone: it may be in the log or not.
                durable.reach(append).await.map_err(|_| ErrorCode::NotCoordinator)?;
            }
            answer
        }
    }

    fn begin(&self, partition: i32, command: &Command) -> Result<(Wait, Waits), ErrorCode> {
        let (waiter, durable, outcome) = {
            let mut state = self.state.borrow_mut();
            let State { coordinators, waiting, next_waiter, stopping } = &mut *state;
            let coordinator = coordinators.get_mut(&partition).filter(|_| !*stopping);
            let coordinator = coordinator.ok_or(ErrorCode::NotCoordinator)?;
            match coordinator.state {
                LoadState::Loaded => {}
                LoadState::Failed => return Err(ErrorCode::CoordinatorNotAvailable),
                LoadState::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
            }
            *next_waiter += 1;
            let waiter = *next_waiter;
            waiting.insert(waiter, Waiting::default());
            let outcome = coordinator.machine.handle(now(), Waiter(waiter), command);
            (waiter, coordinator.durable.clone(), outcome)
        };
        self.carry_out(partition, outcome);
        Ok((Wait { state: Rc::clone(&self.state), waiter }, durable))
    }

    /// Lists the groups of all of this shard's partitions.
    ///
    /// # Errors
    /// When one of the partitions is not ready.
    pub async fn list(&self, command: &Command) -> Answer {
        let partitions: Vec<i32> = self.state.borrow().coordinators.keys().copied().collect();
        let mut groups = Vec::new();
        for partition in partitions {
            if let Response::List(listed) = self.call(partition, command).await? {
                groups.extend(listed);
            }
        }
        Ok(Response::List(groups))
    }

    /// Appends an outcome's records, replays them, and sends its replies.
    fn carry_out(&self, partition: i32, outcome: Outcome) {
        let Some(shard) = self.shard.borrow().upgrade() else { return };
        if !outcome.records.is_empty() {
            self.append(&shard, partition, &outcome.records);
        }
        let mut wakers = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let appended = state.coordinators.get(&partition).map(|c| c.appended);
            for reply in outcome.replies {
                let Some(waiting) = state.waiting.get_mut(&reply.waiter.0) else { continue };
                let append = if reply.when_durable { appended } else { None };
                waiting.answer = Some((reply.answer, append));
                wakers.extend(waiting.waker.take());
            }
            self.note_deadlines(&state);
        }
        for waker in wakers {
            waker.wake();
        }
    }

    fn append(&self, shard: &Rc<Shard>, partition: i32, records: &[GroupRecord]) {
        let now = now();
        let limit = shard.broker().config.groups.batch_bytes_max;
        let built = encode(records, now.timestamp, limit);
        let Some(id) = self.state.borrow().coordinators.get(&partition).map(|c| c.id) else {
            return;
        };
        // No borrow is held here: beginning an append may run other tasks.
        let done = shard.append_here(
            built
                .into_iter()
                .map(|(bytes, records)| PartitionAppend {
                    partition: id,
                    bytes,
                    records,
                    class: Durability::Flushed,
                })
                .collect(),
        );
        let (number, durable) = {
            let mut state = self.state.borrow_mut();
            let Some(coordinator) = state.coordinators.get_mut(&partition) else { return };
            for record in records {
                let _ = coordinator.machine.replay(now, record);
            }
            coordinator.appended += 1;
            (coordinator.appended, coordinator.durable.clone())
        };
        glommio::spawn_local(async move {
            if done.await.iter().all(Result::is_ok) {
                durable.advance(number);
            } else {
                durable.fence();
            }
        })
        .detach();
    }

    fn note_deadlines(&self, state: &State) {
        let deadlines = state.coordinators.values().filter_map(|c| c.machine.next_deadline());
        self.next_deadline.set(deadlines.min());
    }

    /// Acts on the deadlines that are over.
    pub(super) fn tick(&self, at: Monotonic) {
        if self.next_deadline.get().is_none_or(|deadline| deadline > at) {
            return;
        }
        let partitions: Vec<i32> = self.state.borrow().coordinators.keys().copied().collect();
        for partition in partitions {
            loop {
                let outcome = {
                    let mut state = self.state.borrow_mut();
                    let coordinator = state.coordinators.get_mut(&partition);
                    let loaded = coordinator.filter(|c| c.state == LoadState::Loaded);
                    loaded.and_then(|c| c.machine.expire(now()))
                };
                let Some(outcome) = outcome else { break };
                self.carry_out(partition, outcome);
            }
        }
        let state = self.state.borrow();
        self.note_deadlines(&state);
    }

    /// Topics are gone: their offsets are too, durably, when this returns, so that a topic of the same
    /// name begins without any.
    pub(super) async fn topics_deleted(&self, names: &[String]) {
        let mut waits = Vec::new();
        let partitions: Vec<i32> = self.state.borrow().coordinators.keys().copied().collect();
        for partition in partitions {
            let outcome = {
                let mut state = self.state.borrow_mut();
                let Some(coordinator) = state.coordinators.get_mut(&partition) else { continue };
                if coordinator.state != LoadState::Loaded {
                    coordinator.deleted.extend(names.iter().cloned());
                    continue;
                }
                coordinator.machine.topics_deleted(names)
            };
            if outcome.records.is_empty() {
                continue;
            }
            self.carry_out(partition, outcome);
            let state = self.state.borrow();
            let coordinator = state.coordinators.get(&partition);
            waits.extend(coordinator.map(|c| c.durable.reach(c.appended)));
        }
        for wait in waits {
            // A fenced core ends the process.
            let _ = wait.await;
        }
    }

    /// `__consumer_offsets` is deleted: its groups are gone.
    pub(super) fn disown(&self) {
        let coordinators = std::mem::take(&mut self.state.borrow_mut().coordinators);
        for mut coordinator in coordinators.into_values() {
            self.send_off(coordinator.machine.unload(now()));
        }
    }

    /// The broker stops: nobody waits here any more.
    pub(super) fn stop(&self) {
        let outcomes: Vec<Outcome> = {
            let mut state = self.state.borrow_mut();
            state.stopping = true;
            state.coordinators.values_mut().map(|c| c.machine.unload(now())).collect()
        };
        for outcome in outcomes {
            self.send_off(outcome);
        }
    }

    fn send_off(&self, outcome: Outcome) {
        let replies = Outcome { records: Vec::new(), ..outcome };
        // No partition has this number: there is nothing to append or to wait for.
        self.carry_out(-1, replies);
    }
}

/// Waits for an answer of a machine.
struct Wait {
    state: Rc<RefCell<State>>,
    waiter: u64,
}

impl Future for Wait {
    type Output = (Answer, Option<u64>);

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.state.borrow_mut();
        let Some(waiting) = state.waiting.get_mut(&self.waiter) else {
            return Poll::Ready((Err(ErrorCode::UnknownServerError), None));
        };
        match waiting.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.state.borrow_mut().waiting.remove(&self.waiter);
    }
}

/// Batches of at most `limit` bytes, each with its number of records.
fn encode(records: &[GroupRecord], at: Timestamp, limit: usize) -> Vec<(Bytes, i64)> {
    let mut built = Vec::new();
    let mut builder = BatchBuilder::new();
    let finish = |builder: BatchBuilder, built: &mut Vec<(Bytes, i64)>| {
        let count = builder.records_count();
        match builder.build() {
            Ok(batch) if count > 0 => built.push((Bytes::from(batch), i64::from(count))),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a batch of {TOPIC} cannot be built"),
        }
    };
    for record in records {
        let (key, value) = match (record.encode_key(), record.encode_value()) {
            (Ok(key), Ok(value)) => (key, value),
            (Err(error), _) | (_, Err(error)) => {
                // The machine has checked what it decides on.
                tracing::error!(%error, "a record of {TOPIC} cannot be written");
                continue;
            }
        };
        let size = BatchBuilder::record_size_max(Some(&key), value.as_deref());
        if builder.records_count() > 0 && builder.size() + size > limit {
            finish(std::mem::take(&mut builder), &mut built);
        }
        builder.record(at, Some(&key), value.as_deref());
    }
    finish(builder, &mut built);
    built
}

/// Reads a partition's log into its machine.
async fn load(shard: &Rc<Shard>, partition: i32, id: TopicPartition) {
    let read = read_log(shard, partition, id).await;
    let groups = shard.groups();
    let outcome = {
        let image = shard.image();
        let mut state = groups.state.borrow_mut();
        let Some(coordinator) = state.coordinators.get_mut(&partition).filter(|c| c.id == id)
        else {
            return;
        };
        match read {
            Ok(count) => {
                if count > 0 {
                    tracing::info!(partition, records = count, "groups loaded");
                }
                coordinator.state = LoadState::Loaded;
                let deleted = std::mem::take(&mut coordinator.deleted);
                coordinator.machine.loaded(now(), |topic| {
                    image.by_name(topic).is_none() || deleted.iter().any(|name| name == topic)
                })
            }
            Err(why) => {
                tracing::error!(
                    partition,
                    why,
                    "the groups of this partition of {TOPIC} cannot be read and are not served; \
                     restore the partition's files, or delete the topic and lose all offsets"
                );
                coordinator.state = LoadState::Failed;
                return;
            }
        }
    };
    groups.carry_out(partition, outcome);
}

async fn read_log(shard: &Rc<Shard>, index: i32, id: TopicPartition) -> Result<u64, String> {
    let gone = || "the partition is gone".to_owned();
    let position = shard.store().position(id).ok_or_else(gone)?;
    let mut offset = position.log_start;
    let mut count = 0;
    while offset < position.end {
        let request = ReadRequest { partition: id, offset, max_bytes: COLD_READ_BYTES };
        let outcome = shard.store().read(&request).await.map_err(|error| format!("{error:?}"))?;
        let before = offset;
        for slice in &outcome.slices {
            let (next, replayed) = replay(shard.groups(), index, slice.bytes())?;
            offset = next.max(offset);
            count += replayed;
        }
        if offset == before {
            return Err(format!("nothing can be read at offset {offset}"));
        }
        futures_lite::future::yield_now().await;
    }
    Ok(count)
}

/// Replays whole batches; the offset behind them, and how many records.
fn replay(groups: &Groups, index: i32, bytes: &[u8]) -> Result<(Offset, u64), String> {
    let mut state = groups.state.borrow_mut();
    let machine = match state.coordinators.get_mut(&index) {
        Some(coordinator) => &mut coordinator.machine,
        None => return Err("the partition is gone".to_owned()),
    };
    let now = now();
    let mut next = Offset::ZERO;
    let mut count = 0;
    for batch in batches(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        let header = batch.header();
        next = header.next_offset();
        if header.attributes().is_control() {
            continue;
        }
        let codec = header.attributes().codec().ok_or("a batch of an unknown codec")?;
        let payload = decompress(codec, batch.payload(), DECOMPRESSED_BYTES_MAX)
            .map_err(|error| error.to_string())?;
        for record in records(&payload) {
            let record = record.map_err(|fault| format!("{fault:?}"))?;
            let Some(key) = record.key else { continue };
            let decoded = GroupRecord::decode(
                Bytes::copy_from_slice(key),
                record.value.map(Bytes::copy_from_slice),
            );
            match decoded {
                Ok(Some(record)) => {
                    let _ = machine.replay(now, &record);
                }
                Ok(None) => tracing::debug!("a record of a kind that is not known is left out"),
                Err(error) => return Err(error.to_string()),
            }
            count += 1;
        }
    }
    Ok((next, count))
}
