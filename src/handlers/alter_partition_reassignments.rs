//! AlterPartitionReassignments: the only broker is where every partition is already.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, message, topic_error_code};
use crate::metadata::check_replicas;
use crate::protocol::ErrorCode;
use crate::protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::shard::Shard;
use crate::shard::control::refusal;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: &AlterPartitionReassignmentsRequest,
) -> Dispatch {
    let responses = request
        .topics
        .iter()
        .map(|topic| ReassignableTopicResponse {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let (error_code, why) = reassign(shard, &topic.name, partition);
                    ReassignablePartitionResponse {
                        partition_index: partition.partition_index,
                        error_code,
                        error_message: message(error_code, &why),
                    }
                })
                .collect(),
        })
        .collect();
    reply.ready(AlterPartitionReassignmentsResponse {
        error_message: None,
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses,
        ..Default::default()
    })
}

fn reassign(shard: &Shard, name: &str, asked: &ReassignablePartition) -> (ErrorCode, String) {
    let image = shard.image();
    let unknown = |why: String| (ErrorCode::UnknownTopicOrPartition, why);
    let Some(topic) = image.by_name(name) else {
        return unknown(format!("Unable to find a topic named {name}."));
    };
    if !(0..topic.partitions).contains(&asked.partition_index) {
        return unknown(format!("Unable to find partition {name}:{}.", asked.partition_index));
    }
    let Some(replicas) = &asked.replicas else {
        let code = ErrorCode::NoReassignmentInProgress;
        return (code, "No partition reassignment is in progress.".to_owned());
    };
    match check_replicas(replicas, shard.broker().config.node_id) {
        // It is there already.
        Ok(()) => (ErrorCode::None, String::new()),
        Err(error) => (topic_error_code(&error), refusal(&error).to_owned()),
    }
}
