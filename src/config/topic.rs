//! What topics are told: the typed values of a topic's configs, after inheritance.
//!
//! A topic inherits from the broker's configuration, by Kafka's synonyms; what was set dynamically for all
//! brokers, for this broker, and for the topic itself goes over it, in that order.

use std::collections::BTreeMap;

use super::kafka::{self, KafkaKey, TOPIC, elements};
use crate::record::{Codec, TimestampType};

/// A topic key of our own.
pub const WRITE_CACHING: &str = "write.caching";

/// Topic keys that Kafka does not have.
pub const OWN_TOPIC: &[KafkaKey] = &[kafka::key(
    WRITE_CACHING,
    kafka::Type::Boolean,
    Some("false"),
    kafka::Valid::Any,
    kafka::Update::ClusterWide,
    false,
)];

/// A topic key, Kafka's or ours.
#[must_use]
pub fn topic_key(name: &str) -> Option<&'static KafkaKey> {
    kafka::find(TOPIC, name).or_else(|| OWN_TOPIC.iter().find(|key| key.name == name))
}

/// All topic keys that a client is told of, in their order.
pub fn topic_keys() -> impl Iterator<Item = &'static KafkaKey> {
    TOPIC.iter().chain(OWN_TOPIC).filter(|key| !key.internal)
}

/// `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent it.
    Producer,
    /// Always this codec; [`Codec::None`] for `uncompressed`.
    Always(Codec),
}

/// A topic's configs in force. Each field has its key's name; sizes are in bytes, `_ms` in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfigs {
    /// Whether `cleanup.policy` has `delete`.
    pub cleanup_delete: bool,
    /// Whether `cleanup.policy` has `compact`.
    pub cleanup_compact: bool,
    /// `compression.type`.
    pub compression: Compression,
    /// `compression.gzip.level`; -1 for the codec's own default.
    pub compression_gzip_level: i32,
    /// `compression.lz4.level`.
    pub compression_lz4_level: i32,
    /// `compression.zstd.level`.
    pub compression_zstd_level: i32,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`.
    pub flush_messages: i64,
    /// `flush.ms`.
    pub flush_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `retention.bytes`; -1 without limit.
    pub retention_bytes: i64,
    /// `retention.ms`; -1 for ever.
    pub retention_ms: i64,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `write.caching`: acknowledged when received (ours).
    pub write_caching: bool,
}

impl Default for TopicConfigs {
    /// Kafka's defaults.
    fn default() -> TopicConfigs {
        TopicConfigs {
            cleanup_delete: true,
            cleanup_compact: false,
            compression: Compression::Producer,
            compression_gzip_level: -1,
            compression_lz4_level: 9,
            compression_zstd_level: 3,
            delete_retention_ms: 86_400_000,
            file_delete_delay_ms: 60_000,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            index_interval_bytes: 4096,
            max_compaction_lag_ms: i64::MAX,
            max_message_bytes: 1_048_588,
            timestamp_after_max_ms: 3_600_000,
            timestamp_before_max_ms: i64::MAX,
            timestamp_type: TimestampType::CreateTime,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            min_insync_replicas: 1,
            retention_bytes: -1,
            retention_ms: 604_800_000,
            segment_bytes: 1 << 30,
            segment_index_bytes: 10 << 20,
            segment_jitter_ms: 0,
            segment_ms: 604_800_000,
            write_caching: false,
        }
    }
}

fn put<T: std::str::FromStr>(field: &mut T, value: &str) {
    if let Ok(value) = value.trim().parse() {
        *field = value;
    }
}

impl TopicConfigs {
    /// Sets one topic key to a checked value. Keys without effect change nothing.
    pub fn set(&mut self, key: &str, value: &str) {
        match key {
            "cleanup.policy" => {
                self.cleanup_delete = elements(value).any(|policy| policy == "delete");
                self.cleanup_compact = elements(value).any(|policy| policy == "compact");
            }
            "compression.type" => self.compression = compression(value),
            "compression.gzip.level" => put(&mut self.compression_gzip_level, value),
            "compression.lz4.level" => put(&mut self.compression_lz4_level, value),
            "compression.zstd.level" => put(&mut self.compression_zstd_level, value),
            "delete.retention.ms" => put(&mut self.delete_retention_ms, value),
            "file.delete.delay.ms" => put(&mut self.file_delete_delay_ms, value),
            "flush.messages" => put(&mut self.flush_messages, value),
            "flush.ms" => put(&mut self.flush_ms, value),
            "index.interval.bytes" => put(&mut self.index_interval_bytes, value),
            "max.compaction.lag.ms" => put(&mut self.max_compaction_lag_ms, value),
            "max.message.bytes" => put(&mut self.max_message_bytes, value),
            "message.timestamp.after.max.ms" => put(&mut self.timestamp_after_max_ms, value),
            "message.timestamp.before.max.ms" => put(&mut self.timestamp_before_max_ms, value),
            "message.timestamp.type" => {
                self.timestamp_type = match value {
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => TimestampType::CreateTime,
                };
            }
            "min.cleanable.dirty.ratio" => put(&mut self.min_cleanable_dirty_ratio, value),
            "min.compaction.lag.ms" => put(&mut self.min_compaction_lag_ms, value),
            "min.insync.replicas" => put(&mut self.min_insync_replicas, value),
            "retention.bytes" => put(&mut self.retention_bytes, value),
            "retention.ms" => put(&mut self.retention_ms, value),
            "segment.bytes" => put(&mut self.segment_bytes, value),
            "segment.index.bytes" => put(&mut self.segment_index_bytes, value),
            "segment.jitter.ms" => put(&mut self.segment_jitter_ms, value),
            "segment.ms" => put(&mut self.segment_ms, value),
            WRITE_CACHING => self.write_caching = value.trim().eq_ignore_ascii_case("true"),
            _ => {}
        }
    }

    /// These, with what was set dynamically for brokers over them.
    #[must_use]
    pub fn with_broker<'a>(
        &self,
        broker_configs: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> TopicConfigs {
        let mut configs = self.clone();
        for (name, value) in broker_configs {
            if let Some(key) = kafka::topic_key_of(name) {
                configs.set(key, value);
            }
        }
        configs
    }

    /// These, with a topic's own over them.
    #[must_use]
    pub fn with_topic(&self, own: &[(String, String)]) -> TopicConfigs {
        let mut configs = self.clone();
        for (name, value) in own {
            configs.set(name, value);
        }
        configs
    }

    /// The value of a key as text, as DescribeConfigs tells it; `None` for keys without effect, whose
    /// value is what was set.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        Some(match key {
            "cleanup.policy" => match (self.cleanup_compact, self.cleanup_delete) {
                (true, true) => "compact,delete".to_owned(),
                (true, false) => "compact".to_owned(),
                (false, true) => "delete".to_owned(),
                (false, false) => String::new(),
            },
            "compression.type" => match self.compression {
                Compression::Producer => "producer".to_owned(),
                Compression::Always(Codec::None) => "uncompressed".to_owned(),
                Compression::Always(codec) => codec.name().to_owned(),
            },
            "compression.gzip.level" => self.compression_gzip_level.to_string(),
            "compression.lz4.level" => self.compression_lz4_level.to_string(),
            "compression.zstd.level" => self.compression_zstd_level.to_string(),
            "delete.retention.ms" => self.delete_retention_ms.to_string(),
            "file.delete.delay.ms" => self.file_delete_delay_ms.to_string(),
            "flush.messages" => self.flush_messages.to_string(),
            "flush.ms" => self.flush_ms.to_string(),
            "index.interval.bytes" => self.index_interval_bytes.to_string(),
            "max.compaction.lag.ms" => self.max_compaction_lag_ms.to_string(),
            "max.message.bytes" => self.max_message_bytes.to_string(),
            "message.timestamp.after.max.ms" => self.timestamp_after_max_ms.to_string(),
            "message.timestamp.before.max.ms" => self.timestamp_before_max_ms.to_string(),
            "message.timestamp.type" => match self.timestamp_type {
                TimestampType::CreateTime => "CreateTime".to_owned(),
                TimestampType::LogAppendTime => "LogAppendTime".to_owned(),
            },
            "min.cleanable.dirty.ratio" => format!("{:?}", self.min_cleanable_dirty_ratio),
            "min.compaction.lag.ms" => self.min_compaction_lag_ms.to_string(),
            "min.insync.replicas" => self.min_insync_replicas.to_string(),
            "retention.bytes" => self.retention_bytes.to_string(),
            "retention.ms" => self.retention_ms.to_string(),
            "segment.bytes" => self.segment_bytes.to_string(),
            "segment.index.bytes" => self.segment_index_bytes.to_string(),
            "segment.jitter.ms" => self.segment_jitter_ms.to_string(),
            "segment.ms" => self.segment_ms.to_string(),
            WRITE_CACHING => self.write_caching.to_string(),
            _ => return None,
        })
    }
}

fn compression(value: &str) -> Compression {
    match value {
        "uncompressed" => Compression::Always(Codec::None),
        "gzip" => Compression::Always(Codec::Gzip),
        "snappy" => Compression::Always(Codec::Snappy),
        "lz4" => Compression::Always(Codec::Lz4),
        "zstd" => Compression::Always(Codec::Zstd),
        _ => Compression::Producer,
    }
}

/// Checks a topic's own configs as a whole (`LogConfig.validate`).
///
/// # Errors
/// Kafka's message for the first that is not accepted.
pub fn check_topic(own: &BTreeMap<String, String>, broker: &TopicConfigs) -> Result<(), String> {
    let mut configs = broker.clone();
    for (name, value) in own {
        let key = topic_key(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        key.check(value)?;
        configs.set(name, value);
    }
    if own.get("remote.storage.enable").is_some_and(|value| value.trim() == "true") {
        return Err("Tiered Storage functionality is disabled in the broker. Topic cannot be \
                    configured with remote log storage."
            .to_owned());
    }
    if configs.min_compaction_lag_ms > configs.max_compaction_lag_ms {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            configs.min_compaction_lag_ms, configs.max_compaction_lag_ms
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let defaults = TopicConfigs::default();
        for key in topic_keys() {
            if let Some(text) = defaults.text(key.name) {
                assert_eq!(Some(text.as_str()), key.default, "{}", key.name);
            }
        }
    }

    #[test]
    fn setting_shows() {
        let mut configs = TopicConfigs::default();
        for (key, value) in [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact,delete"),
            ("compression.type", "zstd"),
            ("compression.type", "uncompressed"),
            ("message.timestamp.type", "LogAppendTime"),
            ("retention.ms", "-1"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("segment.bytes", "1048576"),
            ("write.caching", "true"),
        ] {
            configs.set(key, value);
            assert_eq!(configs.text(key).as_deref(), Some(value), "{key}");
        }
    }

    #[test]
    fn layers_go_over_each_other() {
        let broker: BTreeMap<String, String> =
            own(&[("log.retention.ms", "5"), ("message.max.bytes", "7"), ("num.io.threads", "1")])
                .into_iter()
                .collect();
        let inherited = TopicConfigs::default().with_broker(&broker);
        assert_eq!((inherited.retention_ms, inherited.max_message_bytes), (5, 7));
        let topic = inherited.with_topic(&own(&[("retention.ms", "6")]));
        assert_eq!((topic.retention_ms, topic.max_message_bytes), (6, 7));
    }

    #[test]
    fn a_whole_is_checked() {
        let check = |pairs: &[(&str, &str)]| {
            check_topic(&own(pairs).into_iter().collect(), &TopicConfigs::default())
        };
        assert_eq!(check(&[("retention.ms", "5"), ("preallocate", "true")]), Ok(()));
        assert!(check(&[("retention.mss", "5")]).unwrap_err().contains("Unknown topic config"));
        assert!(check(&[("remote.storage.enable", "true")]).unwrap_err().contains("Tiered"));
        let lag = check(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "3")]);
        assert!(lag.unwrap_err().contains("(5) > max.compaction.lag.ms (3)"));
    }
}
