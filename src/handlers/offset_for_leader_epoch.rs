//! OffsetForLeaderEpoch (KIP-320): where an epoch of a partition ended, so that a consumer finds out
//! whether what it read is still the log.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, check_leader_epoch, find_partition};
use crate::log::epochs::EpochEnd;
use crate::protocol::ErrorCode;
use crate::protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use crate::shard::Shard;
use crate::shard::message::{Call, Reply};
use crate::types::{LeaderEpoch, ShardId, TopicPartition};

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: OffsetForLeaderEpochRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let ends = ends(&shard, &request).await;
        let topics = request
            .topics
            .iter()
            .map(|topic| OffsetForLeaderTopicResult {
                topic: topic.topic.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|asked| {
                        let end = resolve(&shard, &topic.topic, asked).and_then(|question| {
                            let end = ends.get(&question).copied().flatten();
                            end.ok_or(ErrorCode::UnknownTopicOrPartition)
                        });
                        respond(asked.partition, end)
                    })
                    .collect(),
            })
            .collect();
        reply.answer(OffsetForLeaderEpochResponse { topics, ..Default::default() })
    })
}

type Question = (TopicPartition, LeaderEpoch);

fn resolve(
    shard: &Shard,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Question, ErrorCode> {
    let partition = find_partition(shard, topic, asked.partition)?;
    check_leader_epoch(shard, asked.current_leader_epoch)?;
    Ok((partition, LeaderEpoch(asked.leader_epoch)))
}

async fn ends(
    shard: &Rc<Shard>,
    request: &OffsetForLeaderEpochRequest,
) -> BTreeMap<Question, Option<Option<EpochEnd>>> {
    let mut by_owner: BTreeMap<ShardId, Vec<Question>> = BTreeMap::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            if let Ok(question) = resolve(shard, &topic.topic, asked) {
                by_owner.entry(shard.owner(question.0)).or_default().push(question);
            }
        }
    }
    let mut ends = BTreeMap::new();
    let mut calls = Vec::new();
    for (owner, questions) in by_owner {
        if owner == shard.id() {
            let store = shard.store();
            ends.extend(questions.into_iter().map(|q| (q, store.epoch_end(q.0, q.1))));
        } else {
            let call = shard.router().call(owner, Call::EpochEnds(questions.clone()));
            calls.push((questions, call));
        }
    }
    for (questions, call) in calls {
        if let Reply::EpochEnds(found) = call.await {
            ends.extend(questions.into_iter().zip(found));
        }
    }
    ends
}

fn respond(partition: i32, end: Result<Option<EpochEnd>, ErrorCode>) -> EpochEndOffset {
    match end {
        Ok(Some(EpochEnd { epoch, end })) => EpochEndOffset {
            partition,
            leader_epoch: epoch.0,
            end_offset: end.0,
            ..Default::default()
        },
        Ok(None) => EpochEndOffset { partition, ..Default::default() },
        Err(error_code) => EpochEndOffset { error_code, partition, ..Default::default() },
    }
}
