//! DescribeTopicPartitions: topics by name, a page of partitions at a time
//! (`DescribeTopicPartitionsRequestHandler`).

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Answer, Dispatch, ReplyHeader, TOPIC_OPERATIONS, text};
use crate::metadata::{Topic, check_topic_name};
use crate::protocol::ErrorCode;
use crate::protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::shard::Shard;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: &DescribeTopicPartitionsRequest,
) -> Dispatch {
    if request.cursor.as_ref().is_some_and(|cursor| cursor.partition_index < 0) {
        // The response has no place for an error: Kafka's own answer ends the connection too.
        let why = "a cursor's partition must not be negative".to_owned();
        return Dispatch::Ready(Answer::Close(why));
    }
    reply.ready(page(shard, request))
}

fn page(
    shard: &Shard,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = shard.image();
    let all = request.topics.is_empty();
    let mut names: BTreeSet<&str> = if all {
        image.topics().map(|topic| topic.name.as_str()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    if let Some(cursor) = &request.cursor {
        names = names.split_off(cursor.topic_name.as_str());
    }
    let limit = shard.broker().config.max_request_partition_size_limit;
    let mut left = request.response_partition_limit.min(limit).max(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let Some(topic) = image.by_name(name) else {
            let known = check_topic_name(name).is_ok();
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: if known {
                    ErrorCode::UnknownTopicOrPartition
                } else {
                    ErrorCode::InvalidTopicException
                },
                name: Some(text(name)),
                ..Default::default()
            });
            continue;
        };
        let first = match &request.cursor {
            Some(cursor) if cursor.topic_name.as_str() == name => cursor.partition_index,
            _ => 0,
        };
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: text(name), partition_index: 0 });
            break;
        }
        let end = topic.partitions.min(first.saturating_add(left));
        response.topics.push(describe(shard, topic, first, end));
        left -= (end - first).max(0);
        if end < topic.partitions {
            response.next_cursor = Some(Cursor { topic_name: text(name), partition_index: end });
            break;
        }
    }
    response
}

fn describe(
    shard: &Shard,
    topic: &Topic,
    first: i32,
    end: i32,
) -> DescribeTopicPartitionsResponseTopic {
    let node = shard.broker().config.node_id;
    let partitions = (first..end)
        .map(|partition_index| DescribeTopicPartitionsResponsePartition {
            partition_index,
            leader_id: node,
            leader_epoch: shard.broker().leader_epoch,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        })
        .collect();
    DescribeTopicPartitionsResponseTopic {
        name: Some(text(topic.name.as_str())),
        topic_id: topic.id.0,
        is_internal: topic.is_internal(),
        partitions,
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..Default::default()
    }
}
