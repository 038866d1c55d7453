//! CreateTopics.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::describe_configs::topic_entries;
use super::{Dispatch, ReplyHeader, text, topic_error_code};
use crate::config::topic::check_topic;
use crate::metadata::{check_replicas, check_topic_name};
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use crate::protocol::{ErrorCode, StrBytes};
use crate::shard::Shard;
use crate::shard::control::refusal;
use crate::shard::message::{ControlOutcome, ControlRequest, NewTopic};

/// The topic that Kafka keeps its metadata in. No client may have one of this name, as in Kafka
/// (`ControllerApis.createTopics`); the other internal topics may be created and deleted by clients.
pub(super) const CLUSTER_METADATA: &str = "__cluster_metadata";

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: CreateTopicsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let topics = create(&shard, &request).await;
        reply.answer(CreateTopicsResponse { topics, ..Default::default() })
    })
}

async fn create(shard: &Rc<Shard>, request: &CreateTopicsRequest) -> Vec<CreatableTopicResult> {
    let (mut seen, mut doubled) = (BTreeSet::new(), BTreeSet::new());
    for topic in &request.topics {
        if !seen.insert(topic.name.as_str()) {
            doubled.insert(topic.name.as_str());
        }
    }
    let asked: Vec<&CreatableTopic> =
        request.topics.iter().filter(|topic| !doubled.contains(topic.name.as_str())).collect();
    let checked: Vec<Result<NewTopic, (ErrorCode, String)>> =
        asked.iter().map(|topic| check(shard, topic)).collect();
    let topics = checked.iter().filter_map(|c| c.as_ref().ok()).cloned().collect();
    let control = ControlRequest::Create { topics, validate_only: request.validate_only };
    let outcomes = shard.control(control).await;
    let mut outcomes = outcomes.map(Vec::into_iter);
    let created = asked.iter().zip(checked).map(|(topic, checked)| {
        let new = match checked {
            Err((code, why)) => return failed(&topic.name, code, why),
            Ok(new) => new,
        };
        match outcomes.as_mut().map(Iterator::next) {
            Ok(Some(ControlOutcome::Created(id))) => CreatableTopicResult {
                name: topic.name.clone(),
                topic_id: if request.validate_only { Default::default() } else { id.0 },
                num_partitions: new.partitions,
                replication_factor: 1,
                configs: Some(configs(shard, &new)),
                ..Default::default()
            },
            Ok(Some(ControlOutcome::Refused(error))) => {
                failed(&topic.name, topic_error_code(&error), refusal(&error).to_owned())
            }
            Ok(_) => failed(&topic.name, ErrorCode::UnknownServerError, "no outcome".to_owned()),
            Err(failure) => failed(&topic.name, ErrorCode::KafkaStorageError, failure.0.clone()),
        }
    });
    let mut results: Vec<CreatableTopicResult> = created.collect();
    // One row for each name, as in Kafka.
    results.extend(doubled.into_iter().map(|name| {
        failed(&text(name), ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned())
    }));
    results
}

/// What the machine does not know: the brokers, and nulls. In Kafka's order of checks, so that a topic
/// that cannot be created for its name is left to the machine.
fn check(shard: &Shard, topic: &CreatableTopic) -> Result<NewTopic, (ErrorCode, String)> {
    let config = &shard.broker().config;
    let image = shard.image();
    let name = topic.name.to_string();
    if name == CLUSTER_METADATA {
        let why = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
        return Err((ErrorCode::InvalidRequest, why));
    }
    if check_topic_name(&name).is_err()
        || image.by_name(&name).is_some()
        || image.colliding(&name).is_some()
    {
        return Ok(NewTopic { name, partitions: 1, configs: Vec::new() });
    }
    let nulls = topic.configs.iter().filter(|config| config.value.is_none());
    let nulls: Vec<&str> = nulls.map(|config| config.name.as_str()).collect();
    if !nulls.is_empty() {
        let why = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err((ErrorCode::InvalidConfig, why));
    }
    let configs: BTreeMap<String, String> = topic
        .configs
        .iter()
        .map(|config| {
            (config.name.to_string(), config.value.clone().unwrap_or_default().to_string())
        })
        .collect();
    check_topic(&configs, image.inherited()).map_err(|why| (ErrorCode::InvalidConfig, why))?;
    let partitions = if topic.assignments.is_empty() {
        match topic.replication_factor {
            -1 | 1 => {}
            factor if factor <= 0 => {
                let why =
                    "Replication factor must be larger than 0, or -1 to use the default value.";
                return Err((ErrorCode::InvalidReplicationFactor, why.to_owned()));
            }
            factor => {
                let why = format!(
                    "Unable to replicate the partition {factor} time(s): The target replication \
                     factor of {factor} cannot be reached because only 1 broker(s) are registered."
                );
                return Err((ErrorCode::InvalidReplicationFactor, why));
            }
        }
        match topic.num_partitions {
            -1 => config.num_partitions,
            n => n,
        }
    } else {
        check_assignments(config.node_id, topic)?
    };
    Ok(NewTopic { name, partitions, configs: configs.into_iter().collect() })
}

/// Manual assignments: partitions 0 to n-1, each to this broker alone.
fn check_assignments(node: i32, topic: &CreatableTopic) -> Result<i32, (ErrorCode, String)> {
    if topic.replication_factor != -1 {
        let why = "A manual partition assignment was specified, but replication factor was not set \
                   to -1.";
        return Err((ErrorCode::InvalidRequest, why.to_owned()));
    }
    if topic.num_partitions != -1 {
        let why =
            "A manual partition assignment was specified, but numPartitions was not set to -1.";
        return Err((ErrorCode::InvalidRequest, why.to_owned()));
    }
    let refuse = |why: String| Err((ErrorCode::InvalidReplicaAssignment, why));
    let mut indexes = BTreeSet::new();
    for assignment in &topic.assignments {
        if !indexes.insert(assignment.partition_index) {
            return refuse(format!(
                "Found multiple manual partition assignments for partition {}",
                assignment.partition_index
            ));
        }
        check_replicas(&assignment.broker_ids, node)
            .map_err(|error| (topic_error_code(&error), refusal(&error).to_owned()))?;
    }
    if !indexes.iter().copied().eq((0..).take(indexes.len())) {
        return refuse("partitions should be a consecutive 0-based integer sequence".to_owned());
    }
    i32::try_from(indexes.len()).or_else(|_| refuse("too many partitions".to_owned()))
}

/// All configs of the new topic, as they are in force (KIP-525).
fn configs(shard: &Shard, topic: &NewTopic) -> Vec<CreatableTopicConfigs> {
    topic_entries(&shard.broker().config, &shard.image(), &topic.configs)
        .into_iter()
        .map(|entry| CreatableTopicConfigs {
            name: text(entry.name),
            value: entry.value.map(text),
            config_source: entry.source as i8,
            ..Default::default()
        })
        .collect()
}

fn failed(name: &StrBytes, error_code: ErrorCode, why: String) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.clone(),
        error_code,
        error_message: Some(text(why)),
        configs: None,
        ..Default::default()
    }
}
