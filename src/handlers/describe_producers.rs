//! DescribeProducers (KIP-664): the idempotent producers of partitions, asked of their owners.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, find_partition, text, topic_error_code};
use crate::metadata::check_topic_name;
use crate::partition::ActiveProducer;
use crate::protocol::ErrorCode;
use crate::protocol::messages::describe_producers::{
    DescribeProducersPartitionResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeProducersTopicResponse, ProducerState,
};
use crate::shard::Shard;
use crate::shard::message::{Call, Reply};
use crate::types::{ShardId, TopicPartition};

/// No coordinator ever wrote a marker.
const NO_COORDINATOR_EPOCH: i32 = -1;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: DescribeProducersRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let known = producers(&shard, &request).await;
        let topics = request
            .topics
            .iter()
            .map(|topic| DescribeProducersTopicResponse {
                name: topic.name.clone(),
                partitions: topic
                    .partition_indexes
                    .iter()
                    .map(|index| match resolve(&shard, &topic.name, *index) {
                        Ok(id) => respond(*index, known.get(&id).cloned().flatten()),
                        Err(code) => refuse(*index, code),
                    })
                    .collect(),
            })
            .collect();
        reply.answer(DescribeProducersResponse { topics, ..Default::default() })
    })
}

fn resolve(shard: &Shard, name: &str, partition: i32) -> Result<TopicPartition, ErrorCode> {
    check_topic_name(name).map_err(|error| topic_error_code(&error))?;
    find_partition(shard, name, partition)
}

type Known = BTreeMap<TopicPartition, Option<Vec<ActiveProducer>>>;

async fn producers(shard: &Rc<Shard>, request: &DescribeProducersRequest) -> Known {
    let mut by_owner: BTreeMap<ShardId, Vec<TopicPartition>> = BTreeMap::new();
    for topic in &request.topics {
        for index in &topic.partition_indexes {
            if let Ok(id) = resolve(shard, &topic.name, *index) {
                by_owner.entry(shard.owner(id)).or_default().push(id);
            }
        }
    }
    let mut known = Known::new();
    let mut calls = Vec::new();
    for (owner, ids) in by_owner {
        if owner == shard.id() {
            known.extend(ids.into_iter().map(|id| (id, shard.store().producers(id))));
        } else {
            let call = shard.router().call(owner, Call::Producers(ids.clone()));
            calls.push((ids, call));
        }
    }
    for (ids, call) in calls {
        if let Reply::Producers(found) = call.await {
            known.extend(ids.into_iter().zip(found));
        }
    }
    known
}

fn respond(
    partition_index: i32,
    producers: Option<Vec<ActiveProducer>>,
) -> DescribeProducersPartitionResponse {
    let Some(producers) = producers else {
        return refuse(partition_index, ErrorCode::UnknownTopicOrPartition);
    };
    let active_producers = producers
        .iter()
        .map(|producer| ProducerState {
            producer_id: producer.id,
            producer_epoch: i32::from(producer.epoch),
            last_sequence: producer.last_sequence,
            last_timestamp: producer.last_timestamp.0,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
            ..Default::default()
        })
        .collect();
    DescribeProducersPartitionResponse { partition_index, active_producers, ..Default::default() }
}

fn refuse(partition_index: i32, error_code: ErrorCode) -> DescribeProducersPartitionResponse {
    DescribeProducersPartitionResponse {
        partition_index,
        error_code,
        error_message: Some(text(error_code.message())),
        ..Default::default()
    }
}
