//! Every broker key with its value, as DescribeConfigs tells it, and the checks of those that no field of
//! the configuration is made of.

use super::effect::{Effect, broker_doc, broker_effect};
use super::kafka::{self, BROKER, KafkaKey, Type, Update};
use super::keys::{KEYS, Kind, Value};
use super::{Config, ConfigError, Settings};

/// A broker key as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerValue {
    /// The key.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// What was set at the start, under this name.
    pub set: Option<String>,
    /// What it is if nobody sets it.
    pub default: Option<String>,
    /// How it may be changed while the broker runs.
    pub update: Update,
    /// Our line of documentation, if the key acts.
    pub doc: Option<&'static str>,
}

impl BrokerValue {
    /// Whether its value is a secret.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.kind == Type::Password
    }

    /// The value in force since the start.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.set.as_deref().or(self.default.as_deref())
    }
}

/// Checks what was set under names that have no field: Kafka would refuse it too, or ignoring it would be
/// unsafe.
pub(super) fn check(settings: &Settings) -> Result<(), ConfigError> {
    for (name, value, source) in settings.all_given() {
        let Some(key) = kafka::find(BROKER, name) else { continue };
        let problem = |cause: String, remedy: String| ConfigError {
            key: name.into(),
            value: if key.kind == Type::Password { "[hidden]".into() } else { value.to_owned() },
            source: source.clone(),
            cause,
            remedy,
        };
        if let Some(Effect::Refused(why)) = broker_effect(name)
            && key.default.unwrap_or("") != value.trim()
        {
            return Err(problem(format!("is refused: {why}"), "take it out".to_owned()));
        }
        if super::keys::find(name).is_none()
            && let Err(why) = key.check(value)
        {
            let cause = why.split_once(": ").map_or(why.as_str(), |(_, cause)| cause);
            let remedy = format!("give {}", key.accepted());
            return Err(problem(format!("is not accepted: {cause}"), remedy));
        }
    }
    Ok(())
}

/// All keys, Kafka's and ours, by name. Those that Kafka keeps to itself only if they were set.
pub(super) fn values(config: &Config, settings: &Settings) -> Vec<BrokerValue> {
    let mut values: Vec<BrokerValue> = BROKER
        .iter()
        .filter(|key| !key.internal || settings.given(key.name).is_some())
        .map(|key| BrokerValue {
            name: key.name,
            kind: key.kind,
            set: settings.given(key.name).map(|value| plain(key.name, value)),
            default: default(config, key),
            update: update(key),
            doc: broker_doc(key.name),
        })
        .collect();
    let effective = config.effective(settings);
    let own = KEYS.iter().filter(|key| kafka::find(BROKER, key.name).is_none());
    values.extend(own.map(|key| BrokerValue {
        name: key.name,
        kind: match key.kind {
            Kind::Text | Kind::Choice(_) => Type::Text,
            Kind::Boolean => Type::Boolean,
            Kind::Number(..) | Kind::Bytes(..) => Type::Long,
        },
        set: settings.given(key.name).map(|value| plain(key.name, value)),
        default: match key.default {
            "" => effective.iter().find(|row| row.0 == key.name).map(|row| row.1.clone()),
            default => Some(default.to_owned()),
        },
        update: Update::ReadOnly,
        doc: Some(key.doc),
    }));
    values.sort_by_key(|value| value.name);
    values
}

/// A value as Kafka writes it: bytes without their suffixes.
fn plain(name: &str, value: &str) -> String {
    match super::keys::find(name).map(|key| key.kind.check(value)) {
        Some(Ok(Value::Number(number))) => number.to_string(),
        Some(Ok(Value::Boolean(boolean))) => boolean.to_string(),
        _ => value.trim().to_owned(),
    }
}

fn default(config: &Config, key: &KafkaKey) -> Option<String> {
    match key.name {
        "node.id" | "broker.id" => return Some(config.node_id.to_string()),
        "log.dir" => return Some(config.log_dir.display().to_string()),
        _ => {}
    }
    match KEYS.iter().find(|ours| ours.name == key.name) {
        Some(ours) if !ours.default.is_empty() => Some(plain(key.name, ours.default)),
        _ => key.default.map(str::to_owned),
    }
}

/// What Kafka lets be changed while the broker runs, less what is read once here.
fn update(key: &KafkaKey) -> Update {
    let inherited = kafka::topic_key_of(key.name).is_some();
    match broker_effect(key.name) {
        Some(Effect::Acts(_) | Effect::Refused(_)) if !inherited => Update::ReadOnly,
        _ => key.update,
    }
}
