//! OffsetFetch: one group or several, each from its coordinator.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text};
use crate::coordinator::{Command, Response};
use crate::metadata::Image;
use crate::protocol::ErrorCode;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::shard::Shard;
use crate::types::{TopicId, Uuid};

/// From this version on several groups are asked for at once (KIP-709).
const GROUPS: i16 = 8;
/// From this version on topics have ids instead of names.
const TOPIC_IDS: i16 = 10;
/// From this version on there is an error code for the whole group.
const GROUP_ERROR: i16 = 2;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: OffsetFetchRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let version = reply.version.number;
        if version < GROUPS {
            let group = one_group(request);
            let found = fetch(&shard, version, &group).await;
            return reply.answer(in_old_form(version, &group, found));
        }
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            groups.push(fetch(&shard, version, group).await);
        }
        reply.answer(OffsetFetchResponse { groups, ..Default::default() })
    })
}

fn one_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..Default::default()
            })
            .collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() }
}

async fn fetch(
    shard: &Rc<Shard>,
    version: i16,
    asked: &OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let image = shard.image();
    let mut request = asked.clone();
    let mut unknown = Vec::new();
    if version >= TOPIC_IDS
        && let Some(topics) = &mut request.topics
    {
        for topic in topics.iter_mut() {
            topic.name = image
                .by_id(TopicId(topic.topic_id))
                .map(|found| text(found.name.as_str()))
                .unwrap_or_default();
        }
        let known = |topic: &OffsetFetchRequestTopics| !topic.name.is_empty();
        unknown = topics.iter().filter(|t| !known(t)).map(unknown_topic).collect();
        topics.retain(known);
    }
    let answer = shard.group(&request.group_id.clone(), Command::Fetch(request)).await;
    let refused = |error_code| OffsetFetchResponseGroup {
        group_id: asked.group_id.clone(),
        error_code,
        ..Default::default()
    };
    match answer {
        Ok(Response::Fetch(mut response)) => {
            if version >= TOPIC_IDS && asked.topics.is_none() {
                response.topics = with_ids(&image, response.topics);
            }
            response.topics.append(&mut unknown);
            response
        }
        Ok(_) => refused(ErrorCode::UnknownServerError),
        Err(code) => refused(code),
    }
}

fn unknown_topic(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let partition = |index: &i32| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        error_code: ErrorCode::UnknownTopicId,
        ..Default::default()
    };
    OffsetFetchResponseTopics {
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(partition).collect(),
        ..Default::default()
    }
}

/// What was asked for as "all" has names only; a topic without an id cannot be told.
fn with_ids(
    image: &Image,
    topics: Vec<OffsetFetchResponseTopics>,
) -> Vec<OffsetFetchResponseTopics> {
    let with_id = |mut topic: OffsetFetchResponseTopics| {
        topic.topic_id = image.by_name(&topic.name).map_or(Uuid::nil(), |found| found.id.0);
        (topic.topic_id != Uuid::nil()).then_some(topic)
    };
    topics.into_iter().filter_map(with_id).collect()
}

fn in_old_form(
    version: i16,
    asked: &OffsetFetchRequestGroup,
    found: OffsetFetchResponseGroup,
) -> OffsetFetchResponse {
    if found.error_code != ErrorCode::None && version < GROUP_ERROR {
        // The error can only be told of partitions.
        let failed = |index: &i32| OffsetFetchResponsePartition {
            partition_index: *index,
            committed_offset: -1,
            error_code: found.error_code,
            ..Default::default()
        };
        let topics = asked
            .topics
            .iter()
            .flatten()
            .map(|topic| OffsetFetchResponseTopic {
                name: topic.name.clone(),
                partitions: topic.partition_indexes.iter().map(failed).collect(),
            })
            .collect();
        return OffsetFetchResponse { topics, ..Default::default() };
    }
    let topics = found
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|p| OffsetFetchResponsePartition {
                    partition_index: p.partition_index,
                    committed_offset: p.committed_offset,
                    committed_leader_epoch: p.committed_leader_epoch,
                    metadata: p.metadata,
                    error_code: p.error_code,
                })
                .collect(),
        })
        .collect();
    OffsetFetchResponse { topics, error_code: found.error_code, ..Default::default() }
}
