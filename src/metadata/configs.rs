//! Configs that were set while the broker runs: whose, and what may become of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Metadata, MetadataRecord, TopicError, check_topic_name};
use crate::config::kafka::{self, BROKER, CLIENT_METRICS, GROUP, Type, elements};
use crate::config::topic::{check_topic, topic_key};

/// What can have configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceType {
    /// A topic, by name.
    Topic,
    /// A broker, by id; all of them by the empty name.
    Broker,
    /// A subscription to clients' metrics (KIP-714).
    ClientMetrics,
    /// A group.
    Group,
}

/// Whose configs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConfigResource {
    /// What it is.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
}

impl ConfigResource {
    /// A resource.
    #[must_use]
    pub fn new(kind: ResourceType, name: impl Into<String>) -> ConfigResource {
        ConfigResource { kind, name: name.into() }
    }
}

/// What is to become of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    /// It gets this value.
    Set(String),
    /// It is inherited again.
    Delete,
    /// These elements are added to its list.
    Append(String),
    /// These elements are taken from its list.
    Subtract(String),
}

/// A change of one resource's configs; all of it is done or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The resource.
    pub resource: ConfigResource,
    /// The changes, each key once.
    pub changes: Vec<(String, ConfigOp)>,
    /// Whether what is not named is deleted (AlterConfigs, against IncrementalAlterConfigs).
    pub replace: bool,
}

impl Metadata {
    /// Decides on a change of configs (`ConfigurationControlManager`).
    ///
    /// # Errors
    /// As Kafka's controller refuses it.
    pub fn alter_configs(&self, change: &ConfigChange) -> Result<Vec<MetadataRecord>, TopicError> {
        let resource = &change.resource;
        let before = self.image().configs_of(resource);
        let mut after = if change.replace { BTreeMap::new() } else { before.clone() };
        for (key, op) in &change.changes {
            let value = match op {
                ConfigOp::Set(value) => Some(value.clone()),
                ConfigOp::Delete => None,
                ConfigOp::Append(more) => Some(listed(resource.kind, &before, key, more, true)?),
                ConfigOp::Subtract(less) => Some(listed(resource.kind, &before, key, less, false)?),
            };
            match value {
                Some(value) => after.insert(key.clone(), value),
                None => after.remove(key),
            };
        }
        self.check_configs(resource, &after)?;
        let set = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
        let mut records: Vec<MetadataRecord> =
            set.map(|(key, value)| record(resource, key, Some(value.clone()))).collect();
        let removed = before.keys().filter(|key| !after.contains_key(*key));
        records.extend(removed.map(|key| record(resource, key, None)));
        Ok(records)
    }

    fn check_configs(
        &self,
        resource: &ConfigResource,
        configs: &BTreeMap<String, String>,
    ) -> Result<(), TopicError> {
        let name = resource.name.as_str();
        match resource.kind {
            ResourceType::Topic => {
                if name.is_empty() {
                    let why = "Default topic resources are not allowed.";
                    return Err(TopicError::InvalidRequest(why.into()));
                }
                check_topic_name(name)?;
                check_topic(configs, self.image().inherited())
                    .map_err(TopicError::InvalidConfig)?;
                match self.image().by_name(name) {
                    Some(_) => Ok(()),
                    None => {
                        Err(TopicError::UnknownTopic(format!("The topic '{name}' does not exist.")))
                    }
                }
            }
            ResourceType::Broker => {
                // Names that nobody knows may be a plugin's, as in Kafka; they are stored and do nothing.
                let mut known = configs
                    .iter()
                    .filter_map(|(key, value)| Some((kafka::find(BROKER, key)?, value)));
                known
                    .try_for_each(|(key, value)| key.check(value))
                    .map_err(TopicError::InvalidRequest)
            }
            ResourceType::Group => {
                if name.is_empty() {
                    let why = "Default group resources are not allowed.";
                    return Err(TopicError::InvalidRequest(why.into()));
                }
                for (key, value) in configs {
                    let Some(known) = kafka::find(GROUP, key) else {
                        let why = format!("Unknown group config name: {key}");
                        return Err(TopicError::InvalidConfig(why));
                    };
                    known.check(value).map_err(TopicError::InvalidConfig)?;
                }
                Ok(())
            }
            ResourceType::ClientMetrics => check_subscription(name, configs),
        }
    }
}

fn record(resource: &ConfigResource, key: &str, value: Option<String>) -> MetadataRecord {
    MetadataRecord::Config { resource: resource.clone(), key: key.to_owned(), value }
}

/// The list of a key with elements added or taken away.
fn listed(
    kind: ResourceType,
    before: &BTreeMap<String, String>,
    key: &str,
    change: &str,
    add: bool,
) -> Result<String, TopicError> {
    let row = match kind {
        ResourceType::Topic => topic_key(key),
        ResourceType::Broker => kafka::find(BROKER, key),
        ResourceType::Group => kafka::find(GROUP, key),
        ResourceType::ClientMetrics => kafka::find(CLIENT_METRICS, key),
    };
    let Some(row) = row.filter(|row| row.kind == Type::List) else {
        let op = if add { "APPEND" } else { "SUBTRACT" };
        return Err(TopicError::InvalidConfig(format!(
            "Can't {op} to key {key} because its type is not LIST."
        )));
    };
    let old = before.get(key).map(String::as_str).or(row.default).unwrap_or("");
    let mut parts: Vec<&str> = elements(old).collect();
    for element in change.split(',') {
        match parts.iter().position(|part| *part == element) {
            None if add => parts.push(element),
            Some(at) if !add => {
                parts.remove(at);
            }
            _ => {}
        }
    }
    Ok(parts.join(","))
}

/// `ClientMetricsConfigs.validate`.
fn check_subscription(name: &str, configs: &BTreeMap<String, String>) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::InvalidRequest("Subscription name can't be empty".into()));
    }
    for (key, value) in configs {
        let Some(known) = kafka::find(CLIENT_METRICS, key) else {
            let why = format!("Unknown client metrics configuration: {key}");
            return Err(TopicError::InvalidRequest(why));
        };
        known.check(value).map_err(TopicError::InvalidRequest)?;
        let in_range = |ms: i64| (100..=3_600_000).contains(&ms);
        if key == "interval.ms" && !value.trim().parse().is_ok_and(in_range) {
            return Err(TopicError::InvalidRequest(format!(
                "Invalid value {value} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
            )));
        }
        if key == "match" {
            let named = |pattern: &str| {
                pattern.split_once('=').is_some_and(|(k, v)| !k.is_empty() && !v.is_empty())
            };
            if let Some(pattern) = elements(value).find(|pattern| !named(pattern)) {
                let why = format!("Illegal client matching pattern: {pattern}");
                return Err(TopicError::InvalidConfig(why));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicId;

    fn metadata() -> Metadata {
        let mut metadata = Metadata::default();
        let record = metadata.create_topic("t", TopicId::random(), 1, Vec::new()).unwrap();
        metadata.replay(&record);
        metadata
    }

    fn alter(
        metadata: &mut Metadata,
        kind: ResourceType,
        name: &str,
        replace: bool,
        changes: &[(&str, ConfigOp)],
    ) -> Result<usize, TopicError> {
        let changes = changes.iter().map(|(key, op)| ((*key).to_owned(), op.clone())).collect();
        let change = ConfigChange { resource: ConfigResource::new(kind, name), changes, replace };
        let records = metadata.alter_configs(&change)?;
        for record in &records {
            metadata.replay(record);
        }
        Ok(records.len())
    }

    fn set(value: &str) -> ConfigOp {
        ConfigOp::Set(value.to_owned())
    }

    #[test]
    fn configs_are_set_listed_deleted_and_replaced() {
        let mut metadata = metadata();
        let topic = ResourceType::Topic;
        assert_eq!(alter(&mut metadata, topic, "t", false, &[("retention.ms", set("5"))]), Ok(1));
        assert_eq!(alter(&mut metadata, topic, "t", false, &[("retention.ms", set("5"))]), Ok(0));
        let append = ConfigOp::Append("compact".to_owned());
        assert_eq!(alter(&mut metadata, topic, "t", false, &[("cleanup.policy", append)]), Ok(1));
        let configs = metadata.image().by_name("t").unwrap().effective.clone();
        assert!(configs.cleanup_compact && configs.cleanup_delete && configs.retention_ms == 5);
        let subtract = ConfigOp::Subtract("delete".to_owned());
        alter(&mut metadata, topic, "t", false, &[("cleanup.policy", subtract)]).unwrap();
        assert_eq!(
            metadata.image().by_name("t").unwrap().config("cleanup.policy"),
            Some("compact")
        );
        let delete = [("retention.ms", ConfigOp::Delete)];
        assert_eq!(alter(&mut metadata, topic, "t", false, &delete), Ok(1));
        assert_eq!(metadata.image().by_name("t").unwrap().effective.retention_ms, 604_800_000);
        assert_eq!(alter(&mut metadata, topic, "t", true, &[("flush.ms", set("7"))]), Ok(2));
        let topic = metadata.image().by_name("t").unwrap();
        assert_eq!(topic.configs, [("flush.ms".to_owned(), "7".to_owned())]);
    }

    #[test]
    fn refusals_change_nothing() {
        let mut metadata = metadata();
        let topic = ResourceType::Topic;
        let refused = |metadata: &mut Metadata, kind, name: &str, key, op| {
            alter(metadata, kind, name, false, &[("segment.bytes", set("1048576")), (key, op)])
                .unwrap_err()
        };
        let why = refused(&mut metadata, topic, "t", "segment.byts", set("1"));
        assert_eq!(
            why,
            TopicError::InvalidConfig("Unknown topic config name: segment.byts".into())
        );
        let why = refused(&mut metadata, topic, "t", "retention.ms", ConfigOp::Append("1".into()));
        assert!(matches!(why, TopicError::InvalidConfig(why) if why.contains("APPEND")));
        let why = refused(&mut metadata, topic, "u", "retention.ms", set("1"));
        assert!(matches!(why, TopicError::UnknownTopic(_)));
        let why = refused(&mut metadata, ResourceType::Broker, "1", "log.retention.ms", set("x"));
        assert!(matches!(why, TopicError::InvalidRequest(why) if why.contains("LONG")));
        assert!(metadata.image().by_name("t").unwrap().configs.is_empty());
    }

    #[test]
    fn topics_inherit_what_brokers_are_told() {
        let mut metadata = metadata();
        let broker = ResourceType::Broker;
        metadata.set_broker(1, crate::config::TopicConfigs::default());
        alter(&mut metadata, broker, "", false, &[("log.retention.ms", set("9"))]).unwrap();
        assert_eq!(metadata.image().by_name("t").unwrap().effective.retention_ms, 9);
        alter(&mut metadata, broker, "1", false, &[("log.retention.ms", set("8"))]).unwrap();
        alter(&mut metadata, broker, "2", false, &[("log.retention.ms", set("7"))]).unwrap();
        assert_eq!(metadata.image().by_name("t").unwrap().effective.retention_ms, 8);
        let mut again = Metadata::default();
        again.set_broker(1, crate::config::TopicConfigs::default());
        for record in metadata.snapshot() {
            again.replay(&record);
        }
        assert_eq!(again.image().by_name("t"), metadata.image().by_name("t"));
        assert_eq!(again.image().resources().count(), 3);
    }

    #[test]
    fn groups_and_subscriptions_are_checked() {
        let mut metadata = metadata();
        let (group, metrics) = (ResourceType::Group, ResourceType::ClientMetrics);
        let ok = [("consumer.session.timeout.ms", set("50000"))];
        assert_eq!(alter(&mut metadata, group, "g", false, &ok), Ok(1));
        assert!(alter(&mut metadata, group, "", false, &ok).is_err());
        assert!(alter(&mut metadata, group, "g", false, &[("x", set("1"))]).is_err());
        let ok = [("interval.ms", set("500")), ("match", set("client_id=a.*"))];
        assert_eq!(alter(&mut metadata, metrics, "m", false, &ok), Ok(2));
        for (key, value) in [("interval.ms", "5"), ("match", "a"), ("x", "1")] {
            assert!(alter(&mut metadata, metrics, "m", false, &[(key, set(value))]).is_err());
        }
        assert!(alter(&mut metadata, metrics, "", false, &ok).is_err());
    }
}
