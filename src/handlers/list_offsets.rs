//! ListOffsets: the ends of a log, and offsets by time.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, check_leader_epoch, find_partition, read_error_code};
use crate::partition::TimeQuery;
use crate::protocol::ErrorCode;
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use crate::shard::Shard;
use crate::shard::message::{Call, LookUp, LookedUp, ReadFailure, Reply};
use crate::time::Timestamp;
use crate::types::ShardId;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// A client that debugs: it may look past the high watermark.
const DEBUGGING_REPLICA_ID: i32 = -2;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: ListOffsetsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let version = reply.version.number;
        let twice = named_twice(&request);
        let found = look_up(&shard, &request, version).await;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let respond = |asked: &ListOffsetsPartition| {
                let question = if twice.contains(&(topic.name.as_str(), asked.partition_index)) {
                    Err(ErrorCode::InvalidRequest)
                } else {
                    resolve(&shard, &topic.name, asked, version)
                };
                let answer = question.and_then(|question| match found.get(&question) {
                    Some(Ok(answer)) => Ok(*answer),
                    Some(Err(failure)) => Err(read_error_code(*failure)),
                    None => Err(ErrorCode::UnknownTopicOrPartition),
                });
                match answer {
                    Ok(answer) => respond(&request, asked, &answer),
                    Err(error_code) => ListOffsetsPartitionResponse {
                        partition_index: asked.partition_index,
                        error_code,
                        ..Default::default()
                    },
                }
            };
            let partitions = topic.partitions.iter().map(respond).collect();
            topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
        }
        reply.answer(ListOffsetsResponse { topics, ..Default::default() })
    })
}

/// Partitions that a request names more than once; Kafka refuses them.
fn named_twice(request: &ListOffsetsRequest) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.as_str(), p.partition_index)))
        .filter(|named| !seen.insert(*named))
        .collect()
}

fn resolve(
    shard: &Shard,
    topic: &str,
    asked: &ListOffsetsPartition,
    version: i16,
) -> Result<LookUp, ErrorCode> {
    let least_version = match asked.timestamp {
        LATEST | EARLIEST | 0.. => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => i16::MAX,
    };
    if version < least_version {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let partition = find_partition(shard, topic, asked.partition_index)?;
    check_leader_epoch(shard, asked.current_leader_epoch)?;
    let query = match asked.timestamp {
        MAX_TIMESTAMP => Some(TimeQuery::Greatest),
        timestamp @ 0.. => Some(TimeQuery::At(Timestamp(timestamp))),
        _ => None,
    };
    Ok(LookUp { partition, query })
}

async fn look_up(
    shard: &Rc<Shard>,
    request: &ListOffsetsRequest,
    version: i16,
) -> BTreeMap<LookUp, Result<LookedUp, ReadFailure>> {
    let mut by_owner: BTreeMap<ShardId, BTreeSet<LookUp>> = BTreeMap::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            if let Ok(question) = resolve(shard, &topic.name, asked, version) {
                by_owner.entry(shard.owner(question.partition)).or_default().insert(question);
            }
        }
    }
    let mut here = Vec::new();
    let mut calls = Vec::new();
    for (owner, questions) in by_owner {
        let questions: Vec<LookUp> = questions.into_iter().collect();
        if owner == shard.id() {
            here = questions;
        } else {
            let call = shard.router().call(owner, Call::LookUp(questions.clone()));
            calls.push((questions, call));
        }
    }
    let mut found = BTreeMap::new();
    let answers = shard.look_up_here(&here).await;
    found.extend(here.into_iter().zip(answers));
    for (questions, call) in calls {
        if let Reply::LookUp(answers) = call.await {
            found.extend(questions.into_iter().zip(answers));
        }
    }
    found
}

fn respond(
    request: &ListOffsetsRequest,
    asked: &ListOffsetsPartition,
    answer: &LookedUp,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        ..Default::default()
    };
    let position = answer.position;
    match asked.timestamp {
        LATEST => {
            let debugs = request.replica_id == DEBUGGING_REPLICA_ID;
            response.offset = if debugs { position.end.0 } else { position.high_watermark.0 };
            response.leader_epoch = position.leader_epoch.0;
        }
        EARLIEST | EARLIEST_LOCAL => {
            response.offset = position.log_start.0;
            response.leader_epoch = position.start_epoch.0;
        }
        // There is no remote storage: -1, as in Kafka without it.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => {}
        _ => {
            if let Some(found) = answer.found {
                response.timestamp = found.timestamp.0;
                response.offset = found.offset.0;
                response.leader_epoch = found.leader_epoch.0;
            }
        }
    }
    response
}
