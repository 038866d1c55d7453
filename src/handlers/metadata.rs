//! Metadata: the broker, topics by name or id, and creation of topics that are asked for.

use std::rc::Rc;

use super::create_topics::CLUSTER_METADATA;
use super::{
    CLUSTER_OPERATIONS, ClientContext, Dispatch, ReplyHeader, TOPIC_OPERATIONS, text,
    topic_error_code,
};
use crate::coordinator;
use crate::metadata::{Image, Topic, check_topic_name};
use crate::protocol::ErrorCode;
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::shard::groups::offsets_topic;
use crate::shard::message::{ControlOutcome, ControlRequest, NewTopic};
use crate::shard::{Endpoint, Shard};
use crate::types::{TopicId, Uuid};

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    context: ClientContext,
    request: MetadataRequest,
) -> Dispatch {
    // Version 0 has no null: an empty list means all topics.
    let all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && reply.version.number == 0,
    };
    let wanted = Wanted {
        endpoint: shard.broker().endpoint(context.listener),
        cluster: request.include_cluster_authorized_operations,
        topics: request.include_topic_authorized_operations,
    };
    if all {
        let image = shard.image();
        let topics = image.topics().map(|topic| found(shard, topic)).collect();
        return reply.ready(respond(shard, topics, &wanted));
    }
    let asked = request.topics.unwrap_or_default();
    let image = shard.image();
    let missing = if request.allow_auto_topic_creation {
        missing_names(shard, &image, &asked)
    } else {
        Vec::new()
    };
    if missing.is_empty() {
        let topics = asked.iter().map(|topic| describe(shard, &image, topic, &[])).collect();
        return reply.ready(respond(shard, topics, &wanted));
    }
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let refused = create(&shard, missing).await;
        let image = shard.image();
        let topics = asked.iter().map(|topic| describe(&shard, &image, topic, &refused)).collect();
        reply.answer(respond(&shard, topics, &wanted))
    })
}

fn missing_names(shard: &Shard, image: &Image, asked: &[MetadataRequestTopic]) -> Vec<String> {
    if !shard.broker().config.auto_create_topics_enable {
        return Vec::new();
    }
    let mut names: Vec<String> = asked
        .iter()
        .filter(|topic| topic.topic_id == Uuid::nil())
        .filter_map(|topic| topic.name.as_ref())
        .filter(|name| image.by_name(name).is_none() && check_topic_name(name).is_ok())
        .filter(|name| name.as_str() != CLUSTER_METADATA)
        .map(|name| name.to_string())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Creates topics with the broker's defaults; returns those that were refused.
async fn create(shard: &Rc<Shard>, names: Vec<String>) -> Vec<(String, ErrorCode)> {
    let topics = names
        .iter()
        .map(|name| {
            if name == coordinator::TOPIC {
                return offsets_topic(shard);
            }
            NewTopic {
                name: name.clone(),
                partitions: shard.broker().config.num_partitions,
                configs: Vec::new(),
            }
        })
        .collect();
    let request = ControlRequest::Create { topics, validate_only: false };
    match shard.control(request).await {
        Ok(outcomes) => names
            .into_iter()
            .zip(outcomes)
            .filter_map(|(name, outcome)| match outcome {
                ControlOutcome::Refused(crate::metadata::TopicError::Exists(_)) => None,
                ControlOutcome::Refused(error) => Some((name, topic_error_code(&error))),
                ControlOutcome::Created(_)
                | ControlOutcome::Deleted
                | ControlOutcome::Changed
                | ControlOutcome::Unknown
                | ControlOutcome::ProducerIds(_) => None,
            })
            .collect(),
        Err(failure) => {
            tracing::error!(error = failure.0, "topics cannot be created");
            names.into_iter().map(|name| (name, ErrorCode::KafkaStorageError)).collect()
        }
    }
}

fn describe(
    shard: &Shard,
    image: &Image,
    asked: &MetadataRequestTopic,
    refused: &[(String, ErrorCode)],
) -> MetadataResponseTopic {
    if asked.topic_id != Uuid::nil() {
        return match image.by_id(TopicId(asked.topic_id)) {
            Some(topic) => found(shard, topic),
            None => MetadataResponseTopic {
                error_code: ErrorCode::UnknownTopicId,
                name: None,
                topic_id: asked.topic_id,
                ..Default::default()
            },
        };
    }
    let name = asked.name.clone().unwrap_or_default();
    if let Some(topic) = image.by_name(&name) {
        return found(shard, topic);
    }
    let why = refused.iter().find(|(refused, _)| **refused == *name).map(|(_, code)| *code);
    let error_code = match why {
        Some(code) => code,
        None if check_topic_name(&name).is_err() => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    MetadataResponseTopic { error_code, name: Some(name), ..Default::default() }
}

fn found(shard: &Shard, topic: &Topic) -> MetadataResponseTopic {
    let node = shard.broker().config.node_id;
    let partitions = (0..topic.partitions)
        .map(|partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: node,
            leader_epoch: shard.broker().leader_epoch,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..Default::default()
        })
        .collect();
    MetadataResponseTopic {
        name: Some(text(topic.name.as_str())),
        topic_id: topic.id.0,
        is_internal: topic.is_internal(),
        partitions,
        ..Default::default()
    }
}

/// What is told beside the topics.
#[derive(Clone)]
struct Wanted {
    /// Where this client connects.
    endpoint: Endpoint,
    /// Whether authorised operations were asked for.
    cluster: bool,
    topics: bool,
}

fn respond(
    shard: &Shard,
    mut topics: Vec<MetadataResponseTopic>,
    wanted: &Wanted,
) -> MetadataResponse {
    let broker = shard.broker();
    if wanted.topics {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == ErrorCode::None) {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: broker.config.node_id,
            host: text(wanted.endpoint.host.as_str()),
            port: i32::from(wanted.endpoint.port),
            rack: broker.config.broker_rack.as_deref().map(text),
        }],
        cluster_id: Some(text(broker.cluster_id.as_str())),
        controller_id: broker.config.node_id,
        topics,
        cluster_authorized_operations: if wanted.cluster { CLUSTER_OPERATIONS } else { i32::MIN },
        ..Default::default()
    }
}
