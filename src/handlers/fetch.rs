//! Fetch: reads from every owner, waits for more if asked to, and sends the records from where they are.
//!
//! Fetch sessions (KIP-227) are always answered "full": session id 0, so clients send whole requests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::{Answer, ClientContext, Dispatch, ReplyHeader, find_topic};
use crate::partition::{Outcome, Slice};
use crate::protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use crate::protocol::{ErrorCode, Records};
use crate::shard::Shard;
use crate::shard::message::{Call, ReadFailure, ReadMany, RemoteRead, Reply};
use crate::time::{Clock, Monotonic};
use crate::types::{Offset, ShardId, TopicPartition};

/// Isolation level READ_COMMITTED.
const READ_COMMITTED: i8 = 1;

/// One partition asked for.
#[derive(Clone, Copy)]
struct Wanted {
    index: i32,
    /// Where it is; or why it is not read.
    target: Result<TopicPartition, ErrorCode>,
    offset: Offset,
    max_bytes: usize,
}

/// What was found for it.
struct Found {
    error: ErrorCode,
    high_watermark: i64,
    log_start: i64,
    slices: Vec<Slice>,
    bytes: usize,
}

struct Plan {
    reply: ReplyHeader,
    /// Name or id of each topic, and which of `wanted` are its.
    topics: Vec<(FetchableTopicResponse, Range<usize>)>,
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
    if request.session_id != 0 {
        // No session was ever given out.
        return whole(ErrorCode::FetchSessionIdNotFound);
    }
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // A client that says it is a broker (CVE-2018-1288).
        return whole(ErrorCode::ClusterAuthorizationFailed);
    }
    let plan = plan(shard, reply, context, request);
    let shard = Rc::clone(shard);
    Dispatch::later(async move { run(&shard, plan).await })
}

fn plan(shard: &Shard, reply: ReplyHeader, context: ClientContext, request: &FetchRequest) -> Plan {
    let image = shard.image();
    let size = |n: i32| usize::try_from(n).unwrap_or(0);
    let mut wanted = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in &request.topics {
        let topic = find_topic(&image, &asked.topic, asked.topic_id);
        let start = wanted.len();
        for partition in &asked.partitions {
            let target = topic.and_then(|topic| {
                if partition.partition < 0 || partition.partition >= topic.partitions {
                    return Err(ErrorCode::UnknownTopicOrPartition);
                }
                check_epoch(shard, partition.current_leader_epoch)?;
                Ok(TopicPartition { topic: topic.id, partition: partition.partition })
            });
            wanted.push(Wanted {
                index: partition.partition,
                target,
                offset: Offset(partition.fetch_offset),
                max_bytes: size(partition.partition_max_bytes),
            });
        }
        let head = FetchableTopicResponse {
            topic: asked.topic.clone(),
            topic_id: asked.topic_id,
            partitions: Vec::new(),
        };
        topics.push((head, start..wanted.len()));
    }
    let max_bytes = size(request.max_bytes)
        .min(shard.broker().config.fetch_max_bytes)
        .min(context.reply_bytes_max);
    Plan {
        reply,
        topics,
        wanted,
        min_bytes: size(request.min_bytes).min(max_bytes.max(1)),
        max_bytes,
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        read_committed: request.isolation_level == READ_COMMITTED,
    }
}

/// KIP-320: a client with another epoch than ours has to look again.
fn check_epoch(shard: &Shard, client: i32) -> Result<(), ErrorCode> {
    let ours = shard.broker().leader_epoch;
    match client {
        -1 => Ok(()),
        epoch if epoch < ours => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > ours => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

async fn run(shard: &Rc<Shard>, plan: Plan) -> Answer {
    let mut found = read(shard, &plan).await;
    let bytes: usize = found.iter().map(|f| f.bytes).sum();
    let failed = found.iter().any(|f| f.error != ErrorCode::None);
    let satisfied = bytes >= plan.min_bytes || failed || plan.wanted.is_empty();
    if !satisfied && !plan.max_wait.is_zero() && !shard.is_stopping() {
        wait(shard, &plan, &found, plan.min_bytes - bytes).await;
        drop(found);
        found = read(shard, &plan).await;
    }
    respond(shard, plan, found)
}

/// Parks the fetch until its partitions have grown enough or its time is over.
async fn wait(shard: &Rc<Shard>, plan: &Plan, found: &[Found], missing: usize) {
    let deadline: Monotonic = Clock::monotonic().plus(plan.max_wait);
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
        read.partitions.push((partition, wanted.offset, wanted.max_bytes));
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
        Found { error, high_watermark: -1, log_start: -1, slices: Vec::new(), bytes: 0 }
    }

    fn local(result: Result<Outcome, ReadFailure>) -> Found {
        match result {
            Ok(outcome) => Found {
                error: ErrorCode::None,
                high_watermark: outcome.high_watermark.0,
                log_start: outcome.log_start.0,
                bytes: outcome.bytes,
                slices: outcome.slices,
            },
            Err(failure) => Found::error(code(failure)),
        }
    }

    fn remote(read: RemoteRead) -> Found {
        let Some(position) = read.position else {
            return Found::error(ErrorCode::UnknownTopicOrPartition);
        };
        let bytes = read.bytes.len();
        Found {
            error: read.failure.map_or(ErrorCode::None, code),
            high_watermark: position.high_watermark.0,
            log_start: position.log_start.0,
            slices: if bytes > 0 { vec![Slice::Owned(read.bytes)] } else { Vec::new() },
            bytes,
        }
    }
}

fn code(failure: ReadFailure) -> ErrorCode {
    match failure {
        ReadFailure::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ReadFailure::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        ReadFailure::Storage => ErrorCode::KafkaStorageError,
    }
}

fn respond(shard: &Shard, plan: Plan, found: Vec<Found>) -> Answer {
    let mut records = Vec::new();
    let mut found = found.into_iter();
    let mut responses = Vec::with_capacity(plan.topics.len());
    for (mut head, range) in plan.topics {
        for wanted in plan.wanted.get(range).unwrap_or(&[]) {
            let Some(found) = found.next() else { break };
            head.partitions.push(partition_data(
                shard,
                wanted,
                found,
                plan.read_committed,
                &mut records,
            ));
        }
        responses.push(head);
    }
    plan.reply.answer_with(FetchResponse { responses, ..Default::default() }, records)
}

fn partition_data(
    shard: &Shard,
    wanted: &Wanted,
    found: Found,
    read_committed: bool,
    records: &mut Vec<Vec<Slice>>,
) -> PartitionData {
    let mut data = PartitionData {
        partition_index: wanted.index,
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
    if found.bytes > 0 {
        data.records = Some(Records::External { token: records.len(), len: found.bytes });
        records.push(found.slices);
    }
    data
}
