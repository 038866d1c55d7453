//! OffsetCommit: what names a partition that exists goes to the group's coordinator, in one piece.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, find_topic, text};
use crate::coordinator::{Command, Response};
use crate::metadata::Image;
use crate::protocol::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::shard::Shard;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    mut request: OffsetCommitRequest,
) -> Dispatch {
    let image = shard.image();
    let mut asked = std::mem::take(&mut request.topics);
    // For each partition asked for, why it is refused; the rest is asked of the coordinator.
    let mut refused: Vec<Vec<Option<ErrorCode>>> = Vec::with_capacity(asked.len());
    for topic in &mut asked {
        let checks = check(&image, topic);
        let kept = topic.partitions.iter().zip(&checks).filter(|(_, check)| check.is_none());
        let partitions = kept.map(|(partition, _)| partition.clone()).collect::<Vec<_>>();
        if !partitions.is_empty() {
            let (name, topic_id) = (topic.name.clone(), topic.topic_id);
            request.topics.push(OffsetCommitRequestTopic { name, topic_id, partitions });
        }
        refused.push(checks);
    }
    let shard = Rc::clone(shard);
    let version = reply.version.number;
    Dispatch::later(async move {
        let answer = if request.topics.is_empty() {
            Ok(Response::Commit(OffsetCommitResponse::default()))
        } else {
            let group = request.group_id.clone();
            shard.group(&group, Command::Commit { version, request }).await
        };
        reply.answer(respond(asked, &refused, answer))
    })
}

/// Finds the topic and gives it its name; says of each partition whether it may be committed.
fn check(image: &Image, topic: &mut OffsetCommitRequestTopic) -> Vec<Option<ErrorCode>> {
    match find_topic(image, &topic.name, topic.topic_id) {
        Err(code) => vec![Some(code); topic.partitions.len()],
        Ok(found) => {
            topic.name = text(found.name.as_str());
            let exists = |index| (0..found.partitions).contains(&index);
            let unknown = ErrorCode::UnknownTopicOrPartition;
            let check = |index| (!exists(index)).then_some(unknown);
            topic.partitions.iter().map(|p| check(p.partition_index)).collect()
        }
    }
}

fn respond(
    asked: Vec<OffsetCommitRequestTopic>,
    refused: &[Vec<Option<ErrorCode>>],
    answer: Result<Response, ErrorCode>,
) -> OffsetCommitResponse {
    let (committed, failed) = match answer {
        Ok(Response::Commit(response)) => (response.topics, ErrorCode::UnknownServerError),
        Ok(_) => (Vec::new(), ErrorCode::UnknownServerError),
        Err(code) => (Vec::new(), code),
    };
    // In the order in which they were asked.
    let mut committed = committed.into_iter().flat_map(|topic| topic.partitions);
    let topics = asked
        .into_iter()
        .zip(refused)
        .map(|(topic, checks)| OffsetCommitResponseTopic {
            name: topic.name,
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .zip(checks)
                .map(|(partition, check)| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: match check {
                        Some(code) => *code,
                        None => committed.next().map_or(failed, |p| p.error_code),
                    },
                })
                .collect(),
        })
        .collect();
    OffsetCommitResponse { topics, ..Default::default() }
}
