//! ElectLeaders: the only broker leads every partition already.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text};
use crate::protocol::ErrorCode;
use crate::protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use crate::shard::Shard;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: &ElectLeadersRequest,
) -> Dispatch {
    if !matches!(request.election_type, 0 | 1) {
        let error_code = ErrorCode::InvalidRequest;
        return reply.ready(ElectLeadersResponse { error_code, ..Default::default() });
    }
    let image = shard.image();
    let replica_election_results = match &request.topic_partitions {
        // Partitions that have the wanted leader are left out when all are asked for.
        None => image
            .topics()
            .map(|topic| ReplicaElectionResult {
                topic: text(topic.name.as_str()),
                partition_result: Vec::new(),
            })
            .collect(),
        Some(topics) => topics
            .iter()
            .map(|asked| {
                let partitions = image.by_name(&asked.topic).map(|topic| topic.partitions);
                ReplicaElectionResult {
                    topic: asked.topic.clone(),
                    partition_result: asked
                        .partitions
                        .iter()
                        .map(|partition| elect(&asked.topic, partitions, *partition))
                        .collect(),
                }
            })
            .collect(),
    };
    reply.ready(ElectLeadersResponse { replica_election_results, ..Default::default() })
}

fn elect(topic: &str, partitions: Option<i32>, partition_id: i32) -> PartitionResult {
    let (error_code, why) = match partitions {
        None => (ErrorCode::UnknownTopicOrPartition, format!("No such topic as {topic}")),
        Some(count) if !(0..count).contains(&partition_id) => (
            ErrorCode::UnknownTopicOrPartition,
            format!("No such partition as {topic}-{partition_id}"),
        ),
        Some(_) => (
            ErrorCode::ElectionNotNeeded,
            "Leader election not needed for topic partition.".to_owned(),
        ),
    };
    PartitionResult { partition_id, error_code, error_message: Some(text(why)) }
}
