//! IncrementalAlterConfigs, and what AlterConfigs has in common with it (`ConfigAdminManager`).

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text, topic_error_code};
use crate::config::kafka::{self, BROKER, Update};
use crate::metadata::{ConfigChange, ConfigOp, ConfigResource, ResourceType};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::protocol::{ErrorCode, StrBytes};
use crate::shard::Shard;
use crate::shard::control::refusal;
use crate::shard::message::{ControlOutcome, ControlRequest};

pub(super) const TYPE_TOPIC: i8 = 2;
pub(super) const TYPE_BROKER: i8 = 4;
pub(super) const TYPE_BROKER_LOGGER: i8 = 8;
pub(super) const TYPE_CLIENT_METRICS: i8 = 16;
pub(super) const TYPE_GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A resource whose configs are to change, as either API says it.
pub(super) struct Asked {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    /// Key, operation and value.
    pub(super) configs: Vec<(StrBytes, i8, Option<StrBytes>)>,
    /// Whether what is not named is deleted.
    pub(super) replace: bool,
}

type Refusal = (ErrorCode, String);

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: IncrementalAlterConfigsRequest,
) -> Dispatch {
    let asked: Vec<Asked> = request
        .resources
        .into_iter()
        .map(|resource| Asked {
            kind: resource.resource_type,
            name: resource.resource_name,
            configs: resource
                .configs
                .into_iter()
                .map(|config| (config.name, config.config_operation, config.value))
                .collect(),
            replace: false,
        })
        .collect();
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let outcomes = alter(&shard, asked, request.validate_only).await;
        let responses = outcomes
            .into_iter()
            .map(|(asked, error_code, error_message)| AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: asked.kind,
                resource_name: asked.name,
            })
            .collect();
        reply.answer(IncrementalAlterConfigsResponse { responses, ..Default::default() })
    })
}

/// Changes configs; each resource comes back, in order, with what is to be answered of it.
pub(super) async fn alter(
    shard: &Rc<Shard>,
    asked: Vec<Asked>,
    validate_only: bool,
) -> Vec<(Asked, ErrorCode, Option<StrBytes>)> {
    let outcomes = change(shard, &asked, validate_only).await;
    asked
        .into_iter()
        .zip(outcomes)
        .map(|(asked, outcome)| match outcome {
            Ok(()) => (asked, ErrorCode::None, None),
            Err((code, why)) => (asked, code, Some(text(why))),
        })
        .collect()
}

async fn change(
    shard: &Rc<Shard>,
    asked: &[Asked],
    validate_only: bool,
) -> Vec<Result<(), Refusal>> {
    let checked: Vec<Result<ConfigChange, Refusal>> =
        asked.iter().map(|resource| check(shard, asked, resource)).collect();
    let changes = checked.iter().filter_map(|c| c.as_ref().ok()).cloned().collect();
    let outcomes = shard.control(ControlRequest::AlterConfigs { changes, validate_only }).await;
    let mut outcomes = outcomes.map(Vec::into_iter);
    checked
        .into_iter()
        .map(|checked| {
            checked?;
            match &mut outcomes {
                Err(failure) => Err((ErrorCode::KafkaStorageError, failure.0.clone())),
                Ok(outcomes) => match outcomes.next() {
                    Some(ControlOutcome::Changed) => Ok(()),
                    Some(ControlOutcome::Refused(error)) => {
                        Err((topic_error_code(&error), refusal(&error).to_owned()))
                    }
                    _ => Err((ErrorCode::UnknownServerError, "no outcome".to_owned())),
                },
            }
        })
        .collect()
}

/// What the broker checks before its controller sees it.
fn check(shard: &Shard, all: &[Asked], asked: &Asked) -> Result<ConfigChange, Refusal> {
    let refuse = |why: String| Err((ErrorCode::InvalidRequest, why));
    let same = all.iter().filter(|other| (other.kind, &other.name) == (asked.kind, &asked.name));
    if same.count() > 1 {
        return refuse("Each resource must appear at most once.".to_owned());
    }
    let mut seen = BTreeSet::new();
    if !asked.configs.iter().all(|(name, _, _)| seen.insert(name.as_str())) {
        return refuse("Error due to duplicate config keys".to_owned());
    }
    let nulls = asked.configs.iter().filter(|(_, op, value)| *op != DELETE && value.is_none());
    let nulls: Vec<&str> = nulls.map(|(name, _, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        return refuse(format!("Null value not supported for : {}", nulls.join(", ")));
    }
    let mut changes = Vec::with_capacity(asked.configs.len());
    for (name, op, value) in &asked.configs {
        let value = value.as_ref().map_or_else(String::new, |value| value.to_string());
        let op = match *op {
            SET => ConfigOp::Set(value),
            DELETE => ConfigOp::Delete,
            APPEND => ConfigOp::Append(value),
            SUBTRACT => ConfigOp::Subtract(value),
            other => return refuse(format!("Unknown operations type {other}")),
        };
        changes.push((name.to_string(), op));
    }
    let kind = match asked.kind {
        TYPE_TOPIC => ResourceType::Topic,
        TYPE_GROUP => ResourceType::Group,
        TYPE_CLIENT_METRICS => ResourceType::ClientMetrics,
        TYPE_BROKER => {
            check_broker(shard, &asked.name, &changes)?;
            ResourceType::Broker
        }
        TYPE_BROKER_LOGGER if !asked.replace => {
            return refuse(
                "The broker's log level is set at its start: set log.level there".to_owned(),
            );
        }
        other => return refuse(format!("Unknown resource type {other}")),
    };
    let resource = ConfigResource::new(kind, asked.name.to_string());
    Ok(ConfigChange { resource, changes, replace: asked.replace })
}

/// Only this broker's or all brokers' configs, and of those only what may change while they run.
fn check_broker(shard: &Shard, name: &str, changes: &[(String, ConfigOp)]) -> Result<(), Refusal> {
    let refuse = |why: String| Err((ErrorCode::InvalidRequest, why));
    let node_id = shard.broker().config.node_id;
    if !name.is_empty() {
        match name.parse::<i32>() {
            Err(_) => return refuse(format!("Node id must be an integer, but it is: {name}")),
            Ok(id) if id != node_id => {
                return refuse(format!(
                    "Unexpected broker id, expected {node_id}, but received {name}"
                ));
            }
            Ok(_) => {}
        }
    }
    let kept = changes.iter().filter(|(_, op)| *op != ConfigOp::Delete);
    let of = |update: Update| -> Vec<&str> {
        let values = &shard.broker().config.broker_values;
        let known = |key: &str| values.iter().any(|v| v.name == key && v.update == update);
        kept.clone().map(|(key, _)| key.as_str()).filter(|key| known(key)).collect()
    };
    let fixed = of(Update::ReadOnly);
    if !fixed.is_empty() {
        return refuse(format!("Cannot update these configs dynamically: [{}]", fixed.join(", ")));
    }
    let single = of(Update::PerBroker);
    if name.is_empty() && !single.is_empty() {
        return refuse(format!(
            "Cannot update these configs at default cluster level, broker configs must be updated \
             per broker: [{}]",
            single.join(", ")
        ));
    }
    for (key, op) in changes {
        if let (Some(row), ConfigOp::Set(value)) = (kafka::find(BROKER, key), op) {
            row.check(value).or_else(refuse)?;
        }
    }
    Ok(())
}
