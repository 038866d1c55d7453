//! DescribeQuorum: the metadata log has one voter, this broker.

use std::rc::Rc;

use super::{ClientContext, Dispatch, ReplyHeader, message, text};
use crate::protocol::ErrorCode;
use crate::protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState,
    TopicData,
};
use crate::shard::Shard;
use crate::time::Clock;

/// Kafka's name of the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    context: ClientContext,
    request: &DescribeQuorumRequest,
) -> Dispatch {
    let asked: Vec<(&str, i32)> = request
        .topics
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| (t.topic_name.as_str(), p.partition_index)))
        .collect();
    let only_metadata = asked == [(METADATA_TOPIC, 0)];
    let topics = request
        .topics
        .iter()
        .map(|topic| TopicData {
            topic_name: topic.topic_name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|p| partition(shard, p.partition_index, only_metadata))
                .collect(),
        })
        .collect();
    let broker = shard.broker();
    let endpoint = broker.endpoint(context.listener);
    let nodes = vec![Node {
        node_id: broker.config.node_id,
        listeners: vec![Listener {
            name: text(endpoint.name.as_str()),
            host: text(endpoint.host.as_str()),
            port: endpoint.port,
        }],
    }];
    reply.ready(DescribeQuorumResponse { error_message: None, topics, nodes, ..Default::default() })
}

fn partition(shard: &Shard, partition_index: i32, known: bool) -> PartitionData {
    if !known {
        let error_code = ErrorCode::UnknownTopicOrPartition;
        return PartitionData {
            partition_index,
            error_code,
            error_message: message(error_code, error_code.message()),
            ..Default::default()
        };
    }
    let broker = shard.broker();
    let end = i64::try_from(shard.image().applied()).unwrap_or(i64::MAX);
    let now = Clock::timestamp().0;
    PartitionData {
        partition_index,
        error_message: None,
        leader_id: broker.config.node_id,
        leader_epoch: broker.leader_epoch,
        high_watermark: end,
        current_voters: vec![ReplicaState {
            replica_id: broker.config.node_id,
            log_end_offset: end,
            last_fetch_timestamp: now,
            last_caught_up_timestamp: now,
            ..Default::default()
        }],
        ..Default::default()
    }
}
