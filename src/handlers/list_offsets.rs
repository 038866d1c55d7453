//! ListOffsets: the ends of a log. Look-ups by time come with the time index.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::partition::Position;
use crate::protocol::ErrorCode;
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use crate::shard::Shard;
use crate::shard::message::{Call, Reply};
use crate::types::{ShardId, TopicPartition};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const EARLIEST_LOCAL: i64 = -4;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: ListOffsetsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let positions = positions(&shard, &request).await;
        let topics = request
            .topics
            .iter()
            .map(|topic| ListOffsetsTopicResponse {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|p| {
                        let id = resolve(&shard, &topic.name, p.partition_index);
                        let position = id.and_then(|id| positions.get(&id).copied().flatten());
                        respond(&shard, p, position)
                    })
                    .collect(),
            })
            .collect();
        reply.answer(ListOffsetsResponse { topics, ..Default::default() })
    })
}

fn resolve(shard: &Shard, topic: &str, partition: i32) -> Option<TopicPartition> {
    let image = shard.image();
    let topic = image.by_name(topic)?;
    (0..topic.partitions)
        .contains(&partition)
        .then_some(TopicPartition { topic: topic.id, partition })
}

async fn positions(
    shard: &Rc<Shard>,
    request: &ListOffsetsRequest,
) -> BTreeMap<TopicPartition, Option<Position>> {
    let mut by_owner: BTreeMap<ShardId, Vec<TopicPartition>> = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if let Some(id) = resolve(shard, &topic.name, partition.partition_index) {
                by_owner.entry(shard.owner(id)).or_default().push(id);
            }
        }
    }
    let mut positions = BTreeMap::new();
    let mut calls = Vec::new();
    for (owner, ids) in by_owner {
        if owner == shard.id() {
            positions.extend(ids.into_iter().map(|id| (id, shard.store().position(id))));
        } else {
            let call = shard.router().call(owner, Call::Positions(ids.clone()));
            calls.push((ids, call));
        }
    }
    for (ids, call) in calls {
        if let Reply::Positions(found) = call.await {
            positions.extend(ids.into_iter().zip(found));
        }
    }
    positions
}

fn respond(
    shard: &Shard,
    asked: &ListOffsetsPartition,
    position: Option<Position>,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        ..Default::default()
    };
    let Some(position) = position else {
        response.error_code = ErrorCode::UnknownTopicOrPartition;
        return response;
    };
    let ours = shard.broker().leader_epoch;
    if asked.current_leader_epoch >= 0 && asked.current_leader_epoch != ours {
        response.error_code = if asked.current_leader_epoch < ours {
            ErrorCode::FencedLeaderEpoch
        } else {
            ErrorCode::UnknownLeaderEpoch
        };
        return response;
    }
    match asked.timestamp {
        LATEST => response.offset = position.high_watermark.0,
        EARLIEST | EARLIEST_LOCAL => response.offset = position.log_start.0,
        // What the broker cannot answer truthfully it says so: the time index is not built yet.
        _ => {
            response.error_code = ErrorCode::UnsupportedForMessageFormat;
            return response;
        }
    }
    response.leader_epoch = position.leader_epoch.0;
    response
}
