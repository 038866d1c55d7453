//! Kafka's own keys: what a row of the table says, and Kafka's checks of a value with Kafka's messages
//! (`ConfigDef.parseType` and its validators).

pub use super::kafka_keys::{BROKER, CLIENT_METRICS, GROUP, TOPIC};

/// The type of a key's value, as DescribeConfigs tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Boolean,
    /// Text.
    Text,
    /// A 32-bit number.
    Int,
    /// A 16-bit number.
    Short,
    /// A 64-bit number.
    Long,
    /// A number with a fraction.
    Double,
    /// Words with commas.
    List,
    /// The name of a Java class.
    Class,
    /// A secret: never told.
    Password,
}

impl Type {
    /// Its number in DescribeConfigs (`DescribeConfigsResponse.ConfigType`).
    #[must_use]
    pub const fn number(self) -> i8 {
        match self {
            Type::Boolean => 1,
            Type::Text => 2,
            Type::Int => 3,
            Type::Short => 4,
            Type::Long => 5,
            Type::Double => 6,
            Type::List => 7,
            Type::Class => 8,
            Type::Password => 9,
        }
    }

    /// Kafka's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Type::Boolean => "BOOLEAN",
            Type::Text => "STRING",
            Type::Int => "INT",
            Type::Short => "SHORT",
            Type::Long => "LONG",
            Type::Double => "DOUBLE",
            Type::List => "LIST",
            Type::Class => "CLASS",
            Type::Password => "PASSWORD",
        }
    }
}

/// The values that are accepted, beyond their type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// All.
    Any,
    /// Numbers from here on.
    AtLeast(i64),
    /// Numbers from one to the other.
    Between(i64, i64),
    /// Numbers from 0 to 1.
    Ratio,
    /// These words; in a list, each of its elements.
    Words(&'static [&'static str]),
}

/// How a broker key may be changed while the broker runs (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Not at all.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker, or for all.
    ClusterWide,
}

/// One of Kafka's keys.
#[derive(Clone, Copy, Debug)]
pub struct KafkaKey {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its value if nobody sets one; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// What is accepted.
    pub valid: Valid,
    /// How it may be changed.
    pub update: Update,
    /// Whether Kafka leaves it out of its documentation and answers.
    pub internal: bool,
}

/// A row of the table.
pub(super) const fn key(
    name: &'static str,
    kind: Type,
    default: Option<&'static str>,
    valid: Valid,
    update: Update,
    internal: bool,
) -> KafkaKey {
    KafkaKey { name, kind, default, valid, update, internal }
}

/// The row of a name in one of the tables, which are sorted.
#[must_use]
pub fn find(table: &'static [KafkaKey], name: &str) -> Option<&'static KafkaKey> {
    let at = table.binary_search_by(|key| key.name.cmp(name)).ok()?;
    table.get(at)
}

/// The broker keys that a topic key inherits from, first that of the same unit, each with its unit in
/// the topic key's.
#[must_use]
pub fn synonyms(topic_key: &str) -> &'static [(&'static str, i64)] {
    super::kafka_keys::TOPIC_SYNONYMS
        .iter()
        .find(|(name, _)| *name == topic_key)
        .map_or(&[], |(_, synonyms)| synonyms)
}

/// The topic key that inherits from this broker key in its own unit.
#[must_use]
pub fn topic_key_of(broker_key: &str) -> Option<&'static str> {
    let first = |synonyms: &[(&str, i64)]| synonyms.first().is_some_and(|s| s.0 == broker_key);
    super::kafka_keys::TOPIC_SYNONYMS.iter().find(|(_, s)| first(s)).map(|(name, _)| *name)
}

/// All names under which a broker key may be set, itself first or not, in Kafka's order of precedence
/// (`DynamicBrokerConfig.brokerConfigSynonyms`).
#[must_use]
pub fn broker_synonyms(name: &str) -> Vec<&str> {
    let list = super::kafka_keys::TOPIC_SYNONYMS
        .iter()
        .find(|(_, synonyms)| synonyms.len() > 1 && synonyms.iter().any(|s| s.0 == name));
    match list {
        Some((_, synonyms)) => synonyms.iter().map(|s| s.0).collect(),
        None => vec![name],
    }
}

impl KafkaKey {
    /// Checks a value.
    ///
    /// # Errors
    /// Kafka's message.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let refuse = |why: String| {
            Err(format!("Invalid value {value} for configuration {}: {why}", self.name))
        };
        let trimmed = value.trim();
        match self.kind {
            Type::Boolean => {
                if !matches!(trimmed.to_ascii_lowercase().as_str(), "true" | "false") {
                    return refuse("Expected value to be either true or false".to_owned());
                }
            }
            Type::Int | Type::Short | Type::Long => {
                let bits = match self.kind {
                    Type::Short => i64::from(i16::MIN)..=i64::from(i16::MAX),
                    Type::Int => i64::from(i32::MIN)..=i64::from(i32::MAX),
                    _ => i64::MIN..=i64::MAX,
                };
                match trimmed.parse::<i64>().ok().filter(|number| bits.contains(number)) {
                    Some(number) => return self.check_number(number).or_else(refuse),
                    None => return refuse(format!("Not a number of type {}", self.kind.name())),
                }
            }
            Type::Double => match trimmed.parse::<f64>() {
                Ok(number) if self.valid == Valid::Ratio => {
                    if number < 0.0 {
                        return refuse("Value must be at least 0".to_owned());
                    }
                    if number > 1.0 {
                        return refuse("Value must be no more than 1".to_owned());
                    }
                }
                Ok(_) => {}
                Err(_) => return refuse("Not a number of type DOUBLE".to_owned()),
            },
            Type::List => {
                if let Valid::Words(words) = self.valid {
                    let unknown =
                        elements(value).find(|element| !words.contains(element)).is_some();
                    if unknown {
                        return refuse(format!("String must be one of: {}", words.join(", ")));
                    }
                }
                let mut seen: Vec<&str> = elements(value).collect();
                seen.sort_unstable();
                if seen.windows(2).any(|pair| pair.first() == pair.last()) {
                    return refuse(format!(
                        "Configuration '{}' values must not be duplicated.",
                        self.name
                    ));
                }
            }
            Type::Text => {
                if let Valid::Words(words) = self.valid
                    && !words.iter().any(|word| self.same_word(word, trimmed))
                {
                    return refuse(format!("String must be one of: {}", words.join(", ")));
                }
            }
            Type::Class | Type::Password => {}
        }
        Ok(())
    }

    fn same_word(&self, word: &str, value: &str) -> bool {
        // Kafka takes the migration policy in any case and everything else as it is written.
        word == value
            || self.name == "group.consumer.migration.policy" && word.eq_ignore_ascii_case(value)
    }

    fn check_number(&self, number: i64) -> Result<(), String> {
        let (least, most) = match self.valid {
            Valid::AtLeast(least) => (least, i64::MAX),
            Valid::Between(least, most) => (least, most),
            Valid::Any | Valid::Ratio | Valid::Words(_) => return Ok(()),
        };
        // What lies between "the codec's default" and its lowest level.
        if self.name == "compression.gzip.level" && number == 0 {
            return Err("Value must be at least 1 or equal to -1".to_owned());
        }
        if number < least {
            return Err(format!("Value must be at least {least}"));
        }
        if number > most {
            return Err(format!("Value must be no more than {most}"));
        }
        Ok(())
    }

    /// What is accepted, for people.
    #[must_use]
    pub fn accepted(&self) -> String {
        match self.valid {
            Valid::Any => self.kind.name().to_ascii_lowercase(),
            Valid::AtLeast(least) => format!("{least} or more"),
            Valid::Between(least, most) => format!("{least} to {most}"),
            Valid::Ratio => "0 to 1".to_owned(),
            Valid::Words(words) => words.join(", "),
        }
    }
}

/// The elements of a list's value.
pub fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_their_defaults_pass() {
        for table in [BROKER, TOPIC, GROUP, CLIENT_METRICS] {
            assert!(table.is_sorted_by(|a, b| a.name < b.name));
            for key in table {
                if let Some(default) = key.default {
                    assert_eq!(key.check(default), Ok(()), "{}", key.name);
                }
                assert_eq!(find(table, key.name).map(|k| k.name), Some(key.name));
            }
        }
        assert!(BROKER.len() > 250 && TOPIC.len() > 30);
    }

    #[test]
    fn every_synonym_is_a_key() {
        for (topic, brokers) in super::super::kafka_keys::TOPIC_SYNONYMS {
            assert!(find(TOPIC, topic).is_some(), "{topic}");
            for (broker, _) in *brokers {
                assert!(find(BROKER, broker).is_some(), "{broker}");
            }
        }
        assert_eq!(topic_key_of("log.retention.ms"), Some("retention.ms"));
        assert_eq!(topic_key_of("log.retention.hours"), None);
        assert_eq!(broker_synonyms("log.roll.hours"), ["log.roll.ms", "log.roll.hours"]);
        assert_eq!(broker_synonyms("num.partitions"), ["num.partitions"]);
    }

    #[test]
    fn refusals_are_kafkas() {
        let refusal = |name: &str, value: &str| {
            find(TOPIC, name).map(|key| key.check(value).err().unwrap_or_default())
        };
        for (name, value, why) in [
            ("segment.bytes", "12", "Value must be at least 1048576"),
            ("segment.bytes", "x", "Not a number of type INT"),
            ("segment.bytes", "2147483648", "Not a number of type INT"),
            ("retention.ms", "-2", "Value must be at least -1"),
            ("cleanup.policy", "shred", "String must be one of: compact, delete"),
            ("preallocate", "yes", "Expected value to be either true or false"),
            ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
            ("compression.gzip.level", "0", "Value must be at least 1 or equal to -1"),
            ("compression.gzip.level", "10", "Value must be no more than 9"),
        ] {
            let expected = format!("Invalid value {value} for configuration {name}: {why}");
            assert_eq!(refusal(name, value), Some(expected));
        }
        assert_eq!(refusal("cleanup.policy", "compact, delete").as_deref(), Some(""));
        assert!(refusal("cleanup.policy", "delete,delete").unwrap().contains("duplicated"));
    }
}
