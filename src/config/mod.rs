//! Checked settings, passed down as values and never read globally.
//!
//! Keys have Kafka's names wherever Kafka has them. Every effective value remembers its source. A
//! [`Config`] exists only if all values are acceptable, to themselves and to this machine; names that
//! no key has are kept aside, to be warned of and not to stop a start.
//!
//! Read once at the start, on the main thread. It knows neither shards nor topics: what topics
//! override is for `metadata`.

mod cleaner;
pub mod effect;
mod groups;
pub mod kafka;
mod kafka_keys;
mod keys;
mod listener;
pub mod machine;
mod sources;
pub mod topic;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use cleaner::CleanerSettings;
pub use groups::GroupSettings;
use keys::Value;
pub use keys::{KEYS, Key, Kind};
pub use listener::{Listener, NamedListener};
use machine::Machine;
pub use sources::{Settings, Source};
pub use topic::TopicConfigs;
pub use values::BrokerValue;

use crate::limits::BLOCK;
use crate::record::{TimestampType, Validation};
use crate::types::Durability;

/// The broker's settings. Each field has its key's name; sizes are in bytes, `_ms` in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `listeners` with `advertised.listeners`: at least one, all of them without TLS and SASL.
    pub listeners: Vec<NamedListener>,
    /// `node.id`, also `broker.id`.
    pub node_id: i32,
    /// `log.dirs`, also `log.dir`.
    pub log_dir: PathBuf,
    /// `journal.dir`; by default inside `log_dir`, where the journal decides.
    pub journal_dir: Option<PathBuf>,
    /// `cores`: at least one CPU, in rising order, all of them allowed.
    pub cores: Vec<usize>,
    /// `broker.rack`.
    pub broker_rack: Option<String>,
    /// What topics inherit from the keys that were set at the start.
    pub topic_defaults: TopicConfigs,
    /// Every broker key as DescribeConfigs tells it, by name.
    pub broker_values: Arc<Vec<BrokerValue>>,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `message.max.bytes`.
    pub message_max_bytes: usize,
    /// `log.message.timestamp.type`.
    pub log_message_timestamp_type: TimestampType,
    /// `log.message.timestamp.before.max.ms`.
    pub log_message_timestamp_before_max_ms: i64,
    /// `log.message.timestamp.after.max.ms`.
    pub log_message_timestamp_after_max_ms: i64,
    /// `record.validation`.
    pub record_validation: Validation,
    /// `log.segment.bytes`.
    pub log_segment_bytes: u32,
    /// `log.roll.ms`, or `log.roll.hours` in milliseconds.
    pub log_roll_ms: i64,
    /// `log.retention.ms`, or `.minutes` or `.hours` in milliseconds; -1 for ever.
    pub log_retention_ms: i64,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval_ms: u64,
    /// `log.retention.bytes`; -1 without limit.
    pub log_retention_bytes: i64,
    /// `log.index.interval.bytes`.
    pub log_index_interval_bytes: u32,
    /// `log.index.size.max.bytes`.
    pub log_index_size_max_bytes: u32,
    /// `acks.all.durability`: flushed or written.
    pub acks_all_durability: Durability,
    /// `journal.flush.ms`.
    pub journal_flush_ms: u64,
    /// `journal.ring.bytes`, per core, a multiple of [`BLOCK`].
    pub journal_ring_bytes: usize,
    /// `disk.reserve.bytes`.
    pub disk_reserve_bytes: u64,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: usize,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval_ms: u64,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: usize,
    /// `max.request.partition.size.limit`.
    pub max_request_partition_size_limit: i32,
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `connections.max.idle.ms`.
    pub connections_max_idle_ms: u64,
    /// The keys of compaction: `log.cleaner.*`.
    pub cleaner: CleanerSettings,
    /// The keys of groups: `group.*`, `offset.*` and `offsets.*`.
    pub groups: GroupSettings,
    /// `http.listen`: nothing by default.
    pub http_listen: Option<SocketAddr>,
    /// `log.format`.
    pub log_format: LogFormat,
    /// `log.level`: error, warn, info, debug or trace.
    pub log_level: String,
}

/// The form of the broker's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines of `key=value`.
    Text,
    /// One JSON object per line.
    Json,
}

/// A value that is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key; empty if the source itself is at fault.
    pub key: Box<str>,
    /// The value.
    pub value: String,
    /// Where it was set.
    pub source: Source,
    /// What is wrong with it.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl ConfigError {
    fn file(path: &Path, cause: String, remedy: &str) -> ConfigError {
        let source = Source::File(path.to_owned());
        ConfigError {
            key: "".into(),
            value: String::new(),
            source,
            cause,
            remedy: remedy.to_owned(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError { key, value, source, cause, remedy } = self;
        if key.is_empty() {
            write!(f, "{source} {cause}; {remedy}")
        } else {
            write!(f, "{key} = {value} ({source}) {cause}; {remedy}")
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks all settings against their keys and the machine.
    ///
    /// # Errors
    /// The first value that is not acceptable.
    pub fn new(settings: &Settings, machine: &Machine) -> Result<Config, ConfigError> {
        let checked = Checked { settings };
        // All keys, so that also those are checked that a field is not made of.
        KEYS.iter().try_for_each(|key| checked.value(key.name).map(|_| ()))?;

        let controllers = checked.text("controller.listener.names")?.to_ascii_uppercase();
        let controllers: Vec<String> = kafka::elements(&controllers).map(str::to_owned).collect();
        let parse_list = |text: &str| listener::parse_list(text, &controllers);
        let listeners = listener::combine(
            checked.parsed("listeners", parse_list)?,
            checked.parsed("advertised.listeners", parse_list)?,
            &checked.parsed("listener.security.protocol.map", listener::parse_protocols)?,
        )
        .map_err(|(key, problem)| checked.error(key, problem))?;
        let cores = checked.parsed("cores", |text| parse_cores(text, machine))?;
        let journal_ring_bytes = match checked.value("journal.ring.bytes")? {
            Value::Derived => default_ring_bytes(machine.memory_bytes, cores.len()),
            _ => checked.number::<usize>("journal.ring.bytes")? / BLOCK * BLOCK,
        };
        let journal_dir = checked.text("journal.dir")?;
        let rack = checked.text("broker.rack")?;
        values::check(settings)?;
        let mut config = Config {
            broker_rack: (!rack.is_empty()).then_some(rack),
            topic_defaults: TopicConfigs::default(),
            broker_values: Arc::default(),
            listeners,
            node_id: checked.number("node.id")?,
            log_dir: checked.parsed("log.dirs", parse_log_dirs)?,
            journal_dir: (!journal_dir.is_empty()).then(|| PathBuf::from(journal_dir)),
            num_partitions: checked.number("num.partitions")?,
            default_replication_factor: checked.number("default.replication.factor")?,
            min_insync_replicas: checked.number("min.insync.replicas")?,
            auto_create_topics_enable: checked.boolean("auto.create.topics.enable")?,
            delete_topic_enable: checked.boolean("delete.topic.enable")?,
            message_max_bytes: checked.number("message.max.bytes")?,
            log_message_timestamp_type: match checked.text("log.message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            log_message_timestamp_before_max_ms: checked
                .number("log.message.timestamp.before.max.ms")?,
            log_message_timestamp_after_max_ms: checked
                .number("log.message.timestamp.after.max.ms")?,
            record_validation: match checked.text("record.validation")?.as_str() {
                "full" => Validation::Full,
                _ => Validation::Framing,
            },
            log_segment_bytes: checked.number("log.segment.bytes")?,
            log_roll_ms: checked.duration_ms(&[("log.roll.ms", 1), ("log.roll.hours", HOUR)])?,
            log_retention_ms: checked.duration_ms(&[
                ("log.retention.ms", 1),
                ("log.retention.minutes", MINUTE),
                ("log.retention.hours", HOUR),
            ])?,
            log_retention_check_interval_ms: checked.number("log.retention.check.interval.ms")?,
            log_retention_bytes: checked.number("log.retention.bytes")?,
            log_index_interval_bytes: checked.number("log.index.interval.bytes")?,
            log_index_size_max_bytes: checked.number("log.index.size.max.bytes")?,
            acks_all_durability: match checked.text("acks.all.durability")?.as_str() {
                "written" => Durability::Written,
                _ => Durability::Flushed,
            },
            journal_flush_ms: checked.number("journal.flush.ms")?,
            journal_ring_bytes,
            disk_reserve_bytes: match checked.value("disk.reserve.bytes")? {
                Value::Derived => {
                    RESERVE_LEAST + RESERVE_RINGS * journal_ring_bytes as u64 * cores.len() as u64
                }
                _ => checked.number("disk.reserve.bytes")?,
            },
            cores,
            producer_id_expiration_ms: checked.number("producer.id.expiration.ms")?,
            producer_id_expiration_check_interval_ms: checked
                .number("producer.id.expiration.check.interval.ms")?,
            socket_request_max_bytes: checked.number("socket.request.max.bytes")?,
            fetch_max_bytes: checked.number("fetch.max.bytes")?,
            fetch_session_slots: checked.number("max.incremental.fetch.session.cache.slots")?,
            max_request_partition_size_limit: checked.number("max.request.partition.size.limit")?,
            max_connections: checked.number("max.connections")?,
            max_connections_per_ip: checked.number("max.connections.per.ip")?,
            connections_max_idle_ms: checked.number("connections.max.idle.ms")?,
            cleaner: CleanerSettings::new(&checked)?,
            groups: GroupSettings::new(&checked)?,
            http_listen: checked.parsed("http.listen", parse_http_listen)?,
            log_format: match checked.text("log.format")?.as_str() {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            log_level: checked.text("log.level")?,
        };
        config.topic_defaults = config.inherited(settings);
        config.broker_values = Arc::new(values::values(&config, settings));
        Ok(config)
    }

    /// What topics inherit: the checked fields where there are any, else what was set.
    fn inherited(&self, settings: &Settings) -> TopicConfigs {
        let mut topics = TopicConfigs::default();
        for key in topic::topic_keys() {
            // In rising precedence: the key of the same unit wins.
            for (broker_key, unit) in kafka::synonyms(key.name).iter().rev() {
                let Some(value) = settings.given(broker_key) else { continue };
                match value.trim().parse::<i64>() {
                    Ok(number) if *unit != 1 => {
                        topics.set(key.name, &number.saturating_mul(*unit).to_string());
                    }
                    _ => topics.set(key.name, value),
                }
            }
        }
        topics.max_message_bytes = self.message_max_bytes;
        topics.segment_bytes = u64::from(self.log_segment_bytes);
        topics.segment_ms = self.log_roll_ms;
        topics.segment_index_bytes = u64::from(self.log_index_size_max_bytes);
        topics.index_interval_bytes = u64::from(self.log_index_interval_bytes);
        topics.retention_ms = self.log_retention_ms;
        topics.retention_bytes = self.log_retention_bytes;
        topics.timestamp_type = self.log_message_timestamp_type;
        topics.timestamp_before_max_ms = self.log_message_timestamp_before_max_ms;
        topics.timestamp_after_max_ms = self.log_message_timestamp_after_max_ms;
        topics.min_insync_replicas = self.min_insync_replicas;
        topics.set(topic::WRITE_CACHING, settings.given("log.write.caching").unwrap_or("false"));
        topics
    }

    /// Every key with its effective value and that value's source, as set; derived values as they came
    /// out.
    #[must_use]
    pub fn effective(&self, settings: &Settings) -> Vec<(&'static str, String, Source)> {
        let row = |key: &Key| {
            let setting = settings.get(key);
            let value = match (key.name, setting.value.is_empty()) {
                ("advertised.listeners", true) => {
                    let told = self.listeners.iter();
                    let told = told.map(|l| format!("{}://{}", l.name, l.advertised));
                    told.collect::<Vec<_>>().join(",")
                }
                ("cores", _) => list(&self.cores),
                ("journal.ring.bytes", true) => self.journal_ring_bytes.to_string(),
                ("disk.reserve.bytes", true) => self.disk_reserve_bytes.to_string(),
                ("log.roll.ms", true) => self.log_roll_ms.to_string(),
                ("log.retention.ms", true) => self.log_retention_ms.to_string(),
                _ => setting.value,
            };
            (key.name, value, setting.source)
        };
        KEYS.iter().map(row).collect()
    }
}

/// Besides rings: what segments take ahead of their bytes, indexes and checkpoints.
const RESERVE_LEAST: u64 = 32 * 1024 * 1024;

/// What a core may have to write before it can be without space: its ring to segments, as much of an
/// earlier start, and its journal files.
const RESERVE_RINGS: u64 = 4;

const MINUTE: i64 = 60 * 1000;
const HOUR: i64 = 60 * MINUTE;

/// Settings with access by kind.
struct Checked<'a> {
    settings: &'a Settings,
}

impl Checked<'_> {
    fn error(&self, name: &str, (cause, remedy): (String, String)) -> ConfigError {
        let (value, source) = match keys::find(name).map(|key| self.settings.get(key)) {
            Some(setting) => (setting.value, setting.source),
            None => (String::new(), Source::Default),
        };
        ConfigError { key: name.into(), value, source, cause, remedy }
    }

    fn value(&self, name: &str) -> Result<Value, ConfigError> {
        let Some(key) = keys::find(name) else {
            return Err(self.error(name, ("is not a key".to_owned(), "report this".to_owned())));
        };
        let setting = self.settings.get(key);
        if setting.value.is_empty() && key.default.is_empty() {
            return Ok(Value::Derived);
        }
        key.kind.check(&setting.value).map_err(|problem| self.error(name, problem))
    }

    fn text(&self, name: &str) -> Result<String, ConfigError> {
        match self.value(name)? {
            Value::Text(text) => Ok(text),
            _ => Ok(String::new()),
        }
    }

    fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        Ok(self.value(name)? == Value::Boolean(true))
    }

    fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<T, ConfigError> {
        let problem =
            || self.error(name, ("is out of range".to_owned(), "see --help-config".to_owned()));
        match self.value(name)? {
            Value::Number(number) => T::try_from(number).map_err(|_| problem()),
            _ => Err(problem()),
        }
    }

    /// The first of these keys that is set, in milliseconds. Negative is -1: for ever.
    fn duration_ms(&self, names: &[(&str, i64)]) -> Result<i64, ConfigError> {
        for (name, unit_ms) in names {
            match self.value(name)? {
                Value::Number(0) => {
                    return Err(self.error(
                        name,
                        ("is 0".to_owned(), "give 1 or more, or -1 for no limit".to_owned()),
                    ));
                }
                Value::Number(number) if number < 0 => return Ok(-1),
                Value::Number(number) => return Ok(number.saturating_mul(*unit_ms)),
                _ => {}
            }
        }
        Ok(-1)
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Result<T, ConfigError> {
        parse(&self.text(name)?).map_err(|problem| self.error(name, problem))
    }
}

fn parse_log_dirs(text: &str) -> Result<PathBuf, (String, String)> {
    let refused = |cause: &str, remedy: &str| Err((cause.to_owned(), remedy.to_owned()));
    if text.contains(',') {
        return refused(
            "names several directories",
            "give one; several are not supported yet, join disks by RAID or LVM",
        );
    }
    if text.is_empty() {
        return refused("is empty", "give a directory");
    }
    Ok(PathBuf::from(text))
}

fn parse_http_listen(text: &str) -> Result<Option<SocketAddr>, (String, String)> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        (
            "is no address and port".to_owned(),
            "give one, as 127.0.0.1:9644 or [::1]:9644".to_owned(),
        )
    })
}

/// CPU numbers and ranges, in any order.
fn parse_cores(text: &str, machine: &Machine) -> Result<Vec<usize>, (String, String)> {
    if text == "auto" {
        return Ok(machine.default_cores());
    }
    let syntax = || {
        ("is no list of CPUs".to_owned(), "give auto, or numbers and ranges as 0,2-3".to_owned())
    };
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| syntax())?;
        let last: usize = last.trim().parse().map_err(|_| syntax())?;
        let allowed = format!("choose from {}", list(&machine.cpus));
        if first > last {
            return Err(syntax());
        }
        if let Some(cpu) = (first..=last).find(|cpu| !machine.cpus.contains(cpu)) {
            return Err((format!("names CPU {cpu}, which this process may not use"), allowed));
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    let count = cores.len();
    cores.dedup();
    if cores.len() < count {
        return Err(("names a CPU twice".to_owned(), "name each CPU once".to_owned()));
    }
    Ok(cores)
}

/// CPU numbers with commas.
fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// 256 MiB, at most 1/16 of the memory, and at most a quarter of it over all cores.
fn default_ring_bytes(memory_bytes: u64, cores: usize) -> usize {
    const RING: usize = 256 << 20;
    let memory = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    (RING.min(memory / 16).min(memory / 4 / cores.max(1)) / BLOCK * BLOCK).max(1 << 20)
}

#[cfg(test)]
mod tests;
