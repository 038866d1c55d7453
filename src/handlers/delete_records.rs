//! DeleteRecords: moves log starts, each on the shard that owns the partition.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::partition::DeleteError;
use crate::protocol::ErrorCode;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::shard::Shard;
use crate::shard::message::{Call, Reply};
use crate::types::{Offset, ShardId, TopicPartition};

/// The offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

type Outcomes = BTreeMap<TopicPartition, Result<Offset, DeleteError>>;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: DeleteRecordsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let outcomes = delete(&shard, &request).await;
        let topics = request
            .topics
            .iter()
            .map(|topic| DeleteRecordsTopicResult {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|asked| result(&shard, &topic.name, asked, &outcomes))
                    .collect(),
            })
            .collect();
        reply.answer(DeleteRecordsResponse { topics, ..Default::default() })
    })
}

/// What is asked of a partition, or why it is refused.
fn check(
    shard: &Shard,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<(TopicPartition, Option<Offset>), ErrorCode> {
    let image = shard.image();
    let topic = image.by_name(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.is_internal() {
        // Its records are the state of coordinators, not a stream.
        return Err(ErrorCode::InvalidTopicException);
    }
    if !(0..topic.partitions).contains(&asked.partition_index) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    if !topic.effective.cleanup_delete {
        // A compacted topic without `delete` loses records by tombstones only.
        return Err(ErrorCode::PolicyViolation);
    }
    let id = TopicPartition { topic: topic.id, partition: asked.partition_index };
    match asked.offset {
        HIGH_WATERMARK => Ok((id, None)),
        offset if offset >= 0 => Ok((id, Some(Offset(offset)))),
        _ => Err(ErrorCode::OffsetOutOfRange),
    }
}

async fn delete(shard: &Rc<Shard>, request: &DeleteRecordsRequest) -> Outcomes {
    let mut by_owner: BTreeMap<ShardId, Vec<(TopicPartition, Option<Offset>)>> = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if let Ok((id, before)) = check(shard, &topic.name, partition) {
                by_owner.entry(shard.owner(id)).or_default().push((id, before));
            }
        }
    }
    let mut outcomes = Outcomes::new();
    let mut here = None;
    let mut calls = Vec::new();
    for (owner, partitions) in by_owner {
        if owner == shard.id() {
            here = Some(partitions);
        } else {
            let ids: Vec<_> = partitions.iter().map(|(id, _)| *id).collect();
            calls.push((ids, shard.router().call(owner, Call::DeleteRecords(partitions))));
        }
    }
    if let Some(partitions) = here {
        let ids: Vec<_> = partitions.iter().map(|(id, _)| *id).collect();
        outcomes.extend(ids.into_iter().zip(shard.delete_records_here(partitions).await));
    }
    for (ids, call) in calls {
        if let Reply::DeleteRecords(results) = call.await {
            outcomes.extend(ids.into_iter().zip(results));
        }
    }
    outcomes
}

fn result(
    shard: &Shard,
    topic: &str,
    asked: &DeleteRecordsPartition,
    outcomes: &Outcomes,
) -> DeleteRecordsPartitionResult {
    let outcome = check(shard, topic, asked).and_then(|(id, _)| match outcomes.get(&id) {
        Some(Ok(low)) => Ok(*low),
        Some(Err(DeleteError::UnknownPartition)) => Err(ErrorCode::UnknownTopicOrPartition),
        Some(Err(DeleteError::OffsetOutOfRange)) => Err(ErrorCode::OffsetOutOfRange),
        Some(Err(DeleteError::Fenced)) | None => Err(ErrorCode::KafkaStorageError),
    });
    DeleteRecordsPartitionResult {
        partition_index: asked.partition_index,
        low_watermark: outcome.map_or(-1, |low| low.0),
        error_code: outcome.err().unwrap_or(ErrorCode::None),
    }
}
