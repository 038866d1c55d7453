//! CreateTopics.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text, topic_error_code};
use crate::metadata::topic_configs;
use crate::protocol::ErrorCode;
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use crate::shard::Shard;
use crate::shard::control::refusal;
use crate::shard::message::{ControlOutcome, ControlRequest, NewTopic};

/// Config source DYNAMIC_TOPIC_CONFIG.
const SOURCE_TOPIC: i8 = 1;

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
    let mut seen = BTreeSet::new();
    let doubled: BTreeSet<&str> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .filter(|name| !seen.insert(*name))
        .collect();
    let checked: Vec<Result<NewTopic, (ErrorCode, String)>> = request
        .topics
        .iter()
        .map(|topic| {
            if doubled.contains(topic.name.as_str()) {
                let why = "Found multiple entries for this topic.".to_owned();
                return Err((ErrorCode::InvalidRequest, why));
            }
            check(shard, topic)
        })
        .collect();
    let topics = checked.iter().filter_map(|c| c.as_ref().ok()).cloned().collect();
    let control = ControlRequest::Create { topics, validate_only: request.validate_only };
    let mut outcomes = match shard.control(control).await {
        Ok(outcomes) => outcomes.into_iter(),
        Err(failure) => {
            let fail = |topic: &CreatableTopic| {
                failed(topic, ErrorCode::KafkaStorageError, failure.0.clone())
            };
            return request.topics.iter().map(fail).collect();
        }
    };
    request
        .topics
        .iter()
        .zip(checked)
        .map(|(topic, checked)| match checked {
            Err((code, why)) => failed(topic, code, why),
            Ok(new) => match outcomes.next() {
                Some(ControlOutcome::Created(id)) => CreatableTopicResult {
                    name: topic.name.clone(),
                    topic_id: if request.validate_only { Default::default() } else { id.0 },
                    num_partitions: new.partitions,
                    replication_factor: 1,
                    configs: Some(configs(&new)),
                    ..Default::default()
                },
                Some(ControlOutcome::Refused(error)) => {
                    failed(topic, topic_error_code(&error), refusal(&error).to_owned())
                }
                Some(ControlOutcome::Deleted | ControlOutcome::Unknown) | None => {
                    failed(topic, ErrorCode::UnknownServerError, "no outcome".to_owned())
                }
            },
        })
        .collect()
}

fn check(shard: &Shard, topic: &CreatableTopic) -> Result<NewTopic, (ErrorCode, String)> {
    let config = &shard.broker().config;
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
    let mut configs = Vec::new();
    for config in &topic.configs {
        let value = config.value.as_deref();
        let Some(value) = value else {
            let why = format!("Null value not supported for topic configs: {}", config.name);
            return Err((ErrorCode::InvalidConfig, why));
        };
        topic_configs::check(&config.name, value).map_err(|why| (ErrorCode::InvalidConfig, why))?;
        configs.push((config.name.to_string(), value.to_owned()));
    }
    configs.sort();
    Ok(NewTopic { name: topic.name.to_string(), partitions, configs })
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
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let refuse = |why: &str| Err((ErrorCode::InvalidReplicaAssignment, why.to_owned()));
    if !indexes.iter().copied().eq((0..).take(indexes.len())) {
        return refuse("partitions should be a consecutive 0-based integer sequence");
    }
    if topic.assignments.iter().any(|a| a.broker_ids != [node]) {
        return refuse("The manual partition assignment includes a broker that is not registered.");
    }
    i32::try_from(indexes.len()).or_else(|_| refuse("too many partitions"))
}

fn configs(topic: &NewTopic) -> Vec<CreatableTopicConfigs> {
    topic
        .configs
        .iter()
        .map(|(name, value)| CreatableTopicConfigs {
            name: text(name.as_str()),
            value: Some(text(value.as_str())),
            config_source: SOURCE_TOPIC,
            ..Default::default()
        })
        .collect()
}

fn failed(topic: &CreatableTopic, error_code: ErrorCode, why: String) -> CreatableTopicResult {
    CreatableTopicResult {
        name: topic.name.clone(),
        error_code,
        error_message: Some(text(why)),
        configs: None,
        ..Default::default()
    }
}
