//! DescribeConfigs: every config with its value, its source, and what else could have set it
//! (`ConfigHelper`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::incremental_alter_configs::{
    TYPE_BROKER, TYPE_BROKER_LOGGER, TYPE_CLIENT_METRICS, TYPE_GROUP, TYPE_TOPIC,
};
use super::{Dispatch, ReplyHeader, text};
use crate::config::effect::topic_effect;
use crate::config::kafka::{self, GROUP, Type, Update, broker_synonyms, synonyms};
use crate::config::topic::topic_keys;
use crate::config::{BrokerValue, Config};
use crate::metadata::{ConfigResource, Image, ResourceType, check_topic_name};
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::{ErrorCode, StrBytes};
use crate::shard::Shard;
use crate::shard::control::refusal;

/// Where a value comes from, as Kafka numbers it (`DescribeConfigsResponse.ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    BrokerLogger = 6,
    ClientMetrics = 7,
    Group = 8,
}

/// A place that a value may come from: its name there, the value, and the place.
type Synonym = (&'static str, Option<String>, Source);

/// A config as it stands.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) source: Source,
    synonyms: Vec<Synonym>,
    read_only: bool,
    sensitive: bool,
    kind: Option<Type>,
    doc: Option<&'static str>,
}

type Entries = Result<Vec<Entry>, (ErrorCode, Option<String>)>;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: &DescribeConfigsRequest,
) -> Dispatch {
    let image = shard.image();
    let results = request
        .resources
        .iter()
        .map(|resource| {
            let described = describe(&shard.broker().config, &image, resource);
            let (error_code, error_message, entries) = match described {
                Ok(entries) => (ErrorCode::None, None, entries),
                Err((code, why)) => (code, why.map(text), Vec::new()),
            };
            let asked = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
            let configs = entries
                .into_iter()
                .filter(|entry| asked.is_none_or(|keys| keys.iter().any(|k| **k == *entry.name)))
                .map(|entry| row(entry, request))
                .collect();
            DescribeConfigsResult {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs,
            }
        })
        .collect();
    reply.ready(DescribeConfigsResponse { results, ..Default::default() })
}

fn row(entry: Entry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let shown = |value: Option<String>| value.filter(|_| !entry.sensitive).map(text);
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    DescribeConfigsResourceResult {
        name: text(entry.name),
        value: shown(entry.value),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|(name, value, source)| DescribeConfigsSynonym {
                name: StrBytes::from(name),
                value: shown(value),
                source: source as i8,
            })
            .collect(),
        config_type: entry.kind.map_or(0, Type::number),
        documentation: entry.doc.filter(|_| request.include_documentation).map(text),
    }
}

fn describe(config: &Config, image: &Image, resource: &DescribeConfigsResource) -> Entries {
    let name = resource.resource_name.as_str();
    let refuse = |why: String| Err((ErrorCode::InvalidRequest, Some(why)));
    let dynamic = Dynamic::new(config, image);
    match resource.resource_type {
        TYPE_TOPIC => {
            check_topic_name(name).map_err(|error| {
                (ErrorCode::InvalidTopicException, Some(refusal(&error).to_owned()))
            })?;
            let topic = image.by_name(name).ok_or((ErrorCode::UnknownTopicOrPartition, None))?;
            Ok(topic_entries(config, image, &topic.configs))
        }
        TYPE_BROKER if name.is_empty() => Ok(dynamic.defaults(config)),
        TYPE_BROKER => {
            if broker_id(name)? != config.node_id {
                return refuse(format!(
                    "Unexpected broker id, expected {} or empty string, but received {name}",
                    config.node_id
                ));
            }
            Ok(dynamic.broker(config))
        }
        TYPE_BROKER_LOGGER => {
            if name.is_empty() {
                return refuse("Broker id must not be empty".to_owned());
            }
            if broker_id(name)? != config.node_id {
                return refuse(format!(
                    "Unexpected broker id, expected {} but received {name}",
                    config.node_id
                ));
            }
            let level = config.log_level.to_ascii_uppercase();
            Ok(vec![stored("root", level, Source::BrokerLogger, true)])
        }
        TYPE_CLIENT_METRICS => {
            if name.is_empty() {
                return refuse("Client metrics subscription name must not be empty".to_owned());
            }
            let set = image.configs_of(&ConfigResource::new(ResourceType::ClientMetrics, name));
            let entry =
                |(key, value): (String, String)| stored(&key, value, Source::ClientMetrics, false);
            Ok(set.into_iter().map(entry).collect())
        }
        TYPE_GROUP => {
            if name.is_empty() {
                return refuse("Group name must not be empty".to_owned());
            }
            Ok(group_entries(config, image, name))
        }
        other => refuse(format!("Unsupported resource type: {other}")),
    }
}

fn broker_id(name: &str) -> Result<i32, (ErrorCode, Option<String>)> {
    name.parse().map_err(|_| {
        let why = format!("Broker id must be an integer, but it is: {name}");
        (ErrorCode::InvalidRequest, Some(why))
    })
}

/// A value that nothing is inherited for.
fn stored(name: &str, value: String, source: Source, read_only: bool) -> Entry {
    Entry {
        name: name.to_owned(),
        value: Some(value),
        source,
        synonyms: Vec::new(),
        read_only,
        sensitive: false,
        kind: None,
        doc: None,
    }
}

/// All configs of a topic that has set `own`.
pub(super) fn topic_entries(
    config: &Config,
    image: &Image,
    own: &[(String, String)],
) -> Vec<Entry> {
    let effective = image.inherited().with_topic(own);
    let dynamic = Dynamic::new(config, image);
    topic_keys()
        .map(|key| {
            let set = own.iter().find(|(name, _)| name == key.name).map(|(_, value)| value.clone());
            let mut inherited = match synonyms(key.name).first() {
                Some((broker_key, _)) => dynamic.synonyms(config, broker_key),
                None => Vec::new(),
            };
            let value = set
                .clone()
                .or_else(|| effective.text(key.name))
                .or_else(|| inherited.first().and_then(|(_, value, _)| value.clone()))
                .or_else(|| key.default.map(str::to_owned));
            if let Some(value) = set {
                inherited.insert(0, (key.name, Some(value), Source::Topic));
            }
            Entry {
                name: key.name.to_owned(),
                value,
                source: inherited.first().map_or(Source::Default, |synonym| synonym.2),
                synonyms: inherited,
                read_only: false,
                sensitive: false,
                kind: Some(key.kind),
                doc: topic_effect(key.name).map(|(_, doc)| doc),
            }
        })
        .collect()
}

fn group_entries(config: &Config, image: &Image, name: &str) -> Vec<Entry> {
    let own = image.configs_of(&ConfigResource::new(ResourceType::Group, name));
    let keys = GROUP.iter().filter(|key| !key.internal);
    keys.map(|key| {
        let set = own.get(key.name).cloned();
        let source = if set.is_some() { Source::Group } else { Source::Default };
        let broker_key = format!("group.{}", key.name);
        let inherited = config.broker_values.iter().find(|value| value.name == broker_key);
        let value = set
            .or_else(|| inherited.and_then(BrokerValue::value).map(str::to_owned))
            .or_else(|| key.default.map(str::to_owned));
        Entry {
            name: key.name.to_owned(),
            value: value.clone(),
            source,
            synonyms: vec![(key.name, value, source)],
            read_only: false,
            sensitive: false,
            kind: Some(key.kind),
            doc: None,
        }
    })
    .collect()
}

/// What was changed for brokers since the start.
struct Dynamic {
    this: BTreeMap<String, String>,
    all: BTreeMap<String, String>,
}

impl Dynamic {
    fn new(config: &Config, image: &Image) -> Dynamic {
        let of = |name: String| image.configs_of(&ConfigResource::new(ResourceType::Broker, name));
        Dynamic { this: of(config.node_id.to_string()), all: of(String::new()) }
    }

    /// The places that a broker key's value may come from, the one in force first. What comes before the
    /// key itself is left out, as in Kafka.
    fn synonyms(&self, config: &Config, name: &str) -> Vec<Synonym> {
        let names = broker_synonyms(name);
        let values: Vec<&BrokerValue> = names
            .iter()
            .filter_map(|name| config.broker_values.iter().find(|value| value.name == *name))
            .collect();
        let mut found: Vec<Synonym> = Vec::new();
        let mut add = |source: Source, of: &dyn Fn(&BrokerValue) -> Option<String>| {
            for value in &values {
                if let Some(text) = of(value) {
                    found.push((value.name, Some(text), source));
                }
            }
        };
        add(Source::DynamicBroker, &|value| self.this.get(value.name).cloned());
        add(Source::DynamicDefaultBroker, &|value| self.all.get(value.name).cloned());
        add(Source::StaticBroker, &|value| value.set.clone());
        add(Source::Default, &|value| value.default.clone());
        found.into_iter().skip_while(|synonym| synonym.0 != name).collect()
    }

    /// All configs of this broker.
    fn broker(&self, config: &Config) -> Vec<Entry> {
        let mut entries: Vec<Entry> = config
            .broker_values
            .iter()
            .map(|value| {
                let synonyms = self.synonyms(config, value.name);
                let head = synonyms.first();
                Entry {
                    name: value.name.to_owned(),
                    value: head.and_then(|synonym| synonym.1.clone()),
                    source: head.map_or(Source::Default, |synonym| synonym.2),
                    read_only: value.update == Update::ReadOnly,
                    sensitive: value.is_sensitive(),
                    kind: Some(value.kind),
                    doc: value.doc,
                    synonyms,
                }
            })
            .collect();
        let unknown = self.this.iter().chain(&self.all).filter(|(key, _)| !is_known(config, key));
        for (key, _) in unknown {
            let source = if self.this.contains_key(key) {
                Source::DynamicBroker
            } else {
                Source::DynamicDefaultBroker
            };
            if !entries.iter().any(|entry| entry.name == *key) {
                entries.push(secret(key, source));
            }
        }
        entries
    }

    /// What was set for all brokers.
    fn defaults(&self, config: &Config) -> Vec<Entry> {
        self.all
            .iter()
            .map(|(key, set)| {
                let known = config.broker_values.iter().find(|value| value.name == key);
                let Some(value) = known else { return secret(key, Source::DynamicDefaultBroker) };
                Entry {
                    name: key.clone(),
                    value: Some(set.clone()),
                    source: Source::DynamicDefaultBroker,
                    synonyms: vec![(value.name, Some(set.clone()), Source::DynamicDefaultBroker)],
                    read_only: value.update == Update::ReadOnly,
                    sensitive: value.is_sensitive(),
                    kind: Some(value.kind),
                    doc: value.doc,
                }
            })
            .collect()
    }
}

fn is_known(config: &Config, key: &str) -> bool {
    kafka::find(kafka::BROKER, key).is_some()
        || config.broker_values.iter().any(|value| value.name == key)
}

/// A key that nobody knows may hold a secret.
fn secret(name: &str, source: Source) -> Entry {
    Entry {
        name: name.to_owned(),
        value: None,
        source,
        synonyms: Vec::new(),
        read_only: true,
        sensitive: true,
        kind: None,
        doc: None,
    }
}
