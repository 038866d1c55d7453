//! Fetch: reads from every owner, waits for more if asked to, and sends the records from where they are.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::{
    Answer, ClientContext, Dispatch, ReplyHeader, check_leader_epoch, find_topic, read_error_code,
    text,
};
use crate::log::epochs::EpochEnd;
use crate::partition::{Outcome, Slice};
use crate::protocol::messages::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData,
};
use crate::protocol::{ErrorCode, Records};
use crate::shard::Shard;
use crate::shard::fetch_sessions::{Asked, Context, NO_SESSION, PartitionName, SessionError, Told};
use crate::shard::message::{Call, PartitionRead, ReadFailure, ReadMany, RemoteRead, Reply};
use crate::time::{Clock, Monotonic};
use crate::types::{Offset, ShardId, TopicPartition};

/// Isolation level READ_COMMITTED.
const READ_COMMITTED: i8 = 1;

/// The first version that names topics by id.
const TOPIC_IDS: i16 = 13;

/// One partition asked for.
struct Wanted {
    asked: Asked,
    /// Where it is; or why it is not read.
    target: Result<TopicPartition, ErrorCode>,
}

/// What was found for it.
struct Found {
    error: ErrorCode,
    high_watermark: i64,
    log_start: i64,
    slices: Vec<Slice>,
    bytes: usize,
    diverging: Option<EpochEnd>,
}

struct Plan {
    reply: ReplyHeader,
    context: Context,
    wanted: Vec<Wanted>,
    min_bytes: usize,
    max_bytes: usize,
    max_wait: Duration,
    read_committed: bool,
}

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    context: ClientContext,
    request: &FetchRequest,
) -> Dispatch {
    let whole = |error_code| reply.ready(FetchResponse { error_code, ..Default::default() });
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // A client that says it is a broker (CVE-2018-1288).
        return whole(ErrorCode::ClusterAuthorizationFailed);
    }
    match plan(shard, reply, context, request) {
        Ok(plan) => {
            let shard = Rc::clone(shard);
            Dispatch::later(async move { run(&shard, plan).await })
        }
        Err(error) => whole(session_error_code(error)),
    }
}

fn session_error_code(error: SessionError) -> ErrorCode {
    match error {
        SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::OtherNaming => ErrorCode::FetchSessionTopicIdError,
    }
}

fn plan(
    shard: &Shard,
    reply: ReplyHeader,
    context: ClientContext,
    request: &FetchRequest,
) -> Result<Plan, SessionError> {
    let size = |n: i32| usize::try_from(n).unwrap_or(0);
    let max_bytes = size(request.max_bytes)
        .min(shard.broker().config.fetch_max_bytes)
        .min(context.reply_bytes_max);
    let (context, asked) = shard.fetch_sessions().begin(
        Clock::monotonic(),
        (request.session_id, request.session_epoch),
        reply.version.number >= TOPIC_IDS,
        asked(request),
        &forgotten(request),
    )?;
    let image = shard.image();
    let target = |asked: &Asked| {
        let PartitionName { topic, topic_id, partition } = &asked.name;
        let topic = find_topic(&image, topic, *topic_id)?;
        if !(0..topic.partitions).contains(partition) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        check_leader_epoch(shard, asked.current_leader_epoch)?;
        Ok(TopicPartition { topic: topic.id, partition: *partition })
    };
    let wanted = asked.into_iter().map(|asked| Wanted { target: target(&asked), asked }).collect();
    Ok(Plan {
        reply,
        context,
        wanted,
        min_bytes: size(request.min_bytes).min(max_bytes.max(1)),
        max_bytes,
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        read_committed: request.isolation_level == READ_COMMITTED,
    })
}

fn asked(request: &FetchRequest) -> Vec<Asked> {
    let mut asked = Vec::new();
    for topic in &request.topics {
        // Owned: a session must not hold on to the request's frame.
        let name: Rc<str> = Rc::from(topic.topic.as_str());
        asked.extend(topic.partitions.iter().map(|partition| Asked {
            name: PartitionName {
                topic: Rc::clone(&name),
                topic_id: topic.topic_id,
                partition: partition.partition,
            },
            fetch_offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    asked
}

fn forgotten(request: &FetchRequest) -> Vec<PartitionName> {
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name: Rc<str> = Rc::from(topic.topic.as_str());
        forgotten.extend(topic.partitions.iter().map(|partition| PartitionName {
            topic: Rc::clone(&name),
            topic_id: topic.topic_id,
            partition: *partition,
        }));
    }
    forgotten
}

async fn run(shard: &Rc<Shard>, plan: Plan) -> Answer {
    let deadline: Monotonic = Clock::monotonic().plus(plan.max_wait);
    loop {
        let found = read(shard, &plan).await;
        let bytes: usize = found.iter().map(|f| f.bytes).sum();
        let exception = found.iter().any(Found::is_exception);
        if bytes >= plan.min_bytes
            || exception
            || plan.wanted.is_empty()
            || Clock::monotonic() >= deadline
            || shard.is_stopping()
        {
            return respond(shard, plan, found);
        }
        // What wakes it may be less than it needs: bytes that came between read and watch count for all.
        wait(shard, &plan, &found, plan.min_bytes - bytes, deadline).await;
    }
}

/// Parks the fetch until its partitions have grown enough or its time is over.
async fn wait(
    shard: &Rc<Shard>,
    plan: &Plan,
    found: &[Found],
    missing: usize,
    deadline: Monotonic,
) {
    let park = shard.parked().park(shard.id(), missing, deadline);
    let watch = park.watch();
    for (wanted, found) in plan.wanted.iter().zip(found) {
        if let Ok(partition) = wanted.target {
            shard.watch(watch, partition, Offset(found.high_watermark));
        }
    }
    park.await;
    for wanted in &plan.wanted {
        if let Ok(partition) = wanted.target {
            shard.unwatch(watch, partition);
        }
    }
}

async fn read(shard: &Rc<Shard>, plan: &Plan) -> Vec<Found> {
    let mut by_owner: BTreeMap<ShardId, (Vec<usize>, ReadMany)> = BTreeMap::new();
    for (index, wanted) in plan.wanted.iter().enumerate() {
        let Ok(partition) = wanted.target else { continue };
        let (indexes, read) = by_owner.entry(shard.owner(partition)).or_insert_with(|| {
            (Vec::new(), ReadMany { partitions: Vec::new(), max_bytes: plan.max_bytes })
        });
        indexes.push(index);
        read.partitions.push(PartitionRead {
            partition,
            offset: Offset(wanted.asked.fetch_offset),
            max_bytes: usize::try_from(wanted.asked.max_bytes).unwrap_or(0),
            last_fetched_epoch: wanted.asked.last_fetched_epoch,
        });
    }
    let here = by_owner.remove(&shard.id());
    let calls: Vec<_> = by_owner
        .into_iter()
        .map(|(owner, (indexes, read))| (indexes, shard.router().call(owner, Call::Read(read))))
        .collect();
    let mut found: Vec<Found> = plan
        .wanted
        .iter()
        .map(|wanted| Found::error(wanted.target.err().unwrap_or(ErrorCode::KafkaStorageError)))
        .collect();
    if let Some((indexes, read)) = here {
        let results = shard.read_here(&read).await;
        for (index, result) in indexes.into_iter().zip(results) {
            if let Some(found) = found.get_mut(index) {
                *found = Found::local(result);
            }
        }
    }
    for (indexes, call) in calls {
        let Reply::Read(reads) = call.await else { continue };
        for (index, read) in indexes.into_iter().zip(reads) {
            if let Some(found) = found.get_mut(index) {
                *found = Found::remote(read);
            }
        }
    }
    trim(&mut found, plan.max_bytes);
    found
}

/// Each owner kept to the limit for itself; together they must.
fn trim(found: &mut [Found], max_bytes: usize) {
    let mut taken = 0;
    for found in found {
        if taken > 0 && taken + found.bytes > max_bytes {
            found.slices.clear();
            found.bytes = 0;
        }
        taken += found.bytes;
    }
}

impl Found {
    fn error(error: ErrorCode) -> Found {
        Found {
            error,
            high_watermark: -1,
            log_start: -1,
            slices: Vec::new(),
            bytes: 0,
            diverging: None,
        }
    }

    fn local(result: Result<Outcome, ReadFailure>) -> Found {
        match result {
            Ok(outcome) => Found {
                error: ErrorCode::None,
                high_watermark: outcome.high_watermark.0,
                log_start: outcome.log_start.0,
                bytes: outcome.bytes,
                slices: outcome.slices,
                diverging: outcome.diverging,
            },
            Err(failure) => Found::error(read_error_code(failure)),
        }
    }

    fn remote(read: RemoteRead) -> Found {
        if let Some(failure) = read.failure {
            return Found::error(read_error_code(failure));
        }
        let Some(position) = read.position else {
            return Found::error(ErrorCode::UnknownTopicOrPartition);
        };
        let bytes = read.bytes.len();
        Found {
            error: ErrorCode::None,
            high_watermark: position.high_watermark.0,
            log_start: position.log_start.0,
            slices: if bytes > 0 { vec![Slice::Owned(read.bytes)] } else { Vec::new() },
            bytes,
            diverging: read.diverging,
        }
    }

    /// Whether the client must hear of it at once.
    fn is_exception(&self) -> bool {
        self.error != ErrorCode::None || self.diverging.is_some()
    }

    fn told(&self) -> Told {
        Told {
            records: self.bytes > 0,
            exception: self.is_exception(),
            high_watermark: self.high_watermark,
            log_start: self.log_start,
        }
    }
}

fn respond(shard: &Shard, plan: Plan, found: Vec<Found>) -> Answer {
    let sessions = shard.fetch_sessions();
    let told = || plan.wanted.iter().zip(&found).map(|(w, f)| (&w.asked, f.told()));
    let (session_id, included) = match plan.context {
        Context::Sessionless => (NO_SESSION, None),
        Context::Full => {
            let by_id = plan.reply.version.number >= TOPIC_IDS;
            let partitions = told().map(|(asked, told)| (asked.clone(), told));
            // Before version 7 there are no sessions, and requests have the final epoch.
            (sessions.create(Clock::monotonic(), by_id, partitions), None)
        }
        Context::Incremental { id, epoch } => {
            match sessions.tell(id, epoch, told().map(|(asked, told)| (&asked.name, told))) {
                Ok(included) => (id, Some(included)),
                Err(error) => {
                    let error_code = session_error_code(error);
                    return plan.reply.answer(FetchResponse { error_code, ..Default::default() });
                }
            }
        }
    };
    let mut records = Vec::new();
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (index, (wanted, found)) in plan.wanted.iter().zip(found).enumerate() {
        let is_included = |all: &Vec<bool>| all.get(index).copied().unwrap_or(true);
        if !included.as_ref().is_none_or(is_included) {
            continue;
        }
        let name = &wanted.asked.name;
        let same = |last: &FetchableTopicResponse| {
            *last.topic == *name.topic && last.topic_id == name.topic_id
        };
        if !responses.last().is_some_and(same) {
            responses.push(FetchableTopicResponse {
                topic: text(&*name.topic),
                topic_id: name.topic_id,
                partitions: Vec::new(),
            });
        }
        let data = partition_data(shard, name.partition, found, plan.read_committed, &mut records);
        if let Some(last) = responses.last_mut() {
            last.partitions.push(data);
        }
    }
    plan.reply.answer_with(FetchResponse { session_id, responses, ..Default::default() }, records)
}

fn partition_data(
    shard: &Shard,
    partition_index: i32,
    found: Found,
    read_committed: bool,
    records: &mut Vec<Vec<Slice>>,
) -> PartitionData {
    let mut data = PartitionData {
        partition_index,
        error_code: found.error,
        high_watermark: found.high_watermark,
        last_stable_offset: found.high_watermark,
        log_start_offset: found.log_start,
        aborted_transactions: read_committed.then(Vec::new),
        ..Default::default()
    };
    if matches!(found.error, ErrorCode::FencedLeaderEpoch | ErrorCode::UnknownLeaderEpoch) {
        data.current_leader = LeaderIdAndEpoch {
            leader_id: shard.broker().config.node_id,
            leader_epoch: shard.broker().leader_epoch,
        };
    }
    if let Some(EpochEnd { epoch, end }) = found.diverging {
        data.diverging_epoch = EpochEndOffset { epoch: epoch.0, end_offset: end.0 };
    }
    if found.bytes > 0 {
        data.records = Some(Records::External { token: records.len(), len: found.bytes });
        records.push(found.slices);
    }
    data
}
