//! The table of keys: the one place that says what can be configured. Reading, checking, printing and
//! the help are driven by it.

/// What a key's value must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A whole number in a range.
    Number(i64, i64),
    /// A number of bytes in a range; suffixes KiB, MiB, GiB and TiB are accepted.
    Bytes(i64, i64),
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// The name that Kafka would give it.
    pub(super) const fn type_name(self) -> &'static str {
        match self {
            Kind::Text | Kind::Choice(_) => "STRING",
            Kind::Boolean => "BOOLEAN",
            Kind::Number(..) | Kind::Bytes(..) => "LONG",
        }
    }
}

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Kafka's name, or ours where Kafka has none.
    pub name: &'static str,
    /// Other names of the same setting, which `name` overrides.
    pub aliases: &'static [&'static str],
    /// What values are accepted.
    pub kind: Kind,
    /// The value if no source sets one. Empty: derived, as the doc line says.
    pub default: &'static str,
    /// One line of help.
    pub doc: &'static str,
}

const I32: i64 = i32::MAX as i64;
const I64: i64 = i64::MAX;

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, aliases: &[], kind, default, doc }
}

const fn aliased(aliases: &'static [&'static str], key: Key) -> Key {
    Key { aliases, ..key }
}

use Kind::{Boolean, Bytes, Choice, Number, Text};

/// Every key, in the order in which they are printed.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("listeners", Text, "PLAINTEXT://127.0.0.1:9092", "Addresses to listen on, [NAME://]host:port with commas; port 0 takes a free one"),
    key("advertised.listeners", Text, "", "Addresses given to clients, by the listener they came by; derived: that of listeners, or the host's name if it is any address"),
    key("controller.listener.names", Text, "", "Listeners of Kafka's controllers: not opened, for this broker is its own controller"),
    key("listener.security.protocol.map", Text, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", "What each listener's name stands for; PLAINTEXT is the only protocol so far"),
    aliased(&["broker.id"], key("node.id", Number(0, I32), "1", "This broker's id")),
    key("broker.rack", Text, "", "Where this broker stands, told to clients"),
    aliased(&["log.dir"], key("log.dirs", Text, "./data", "Data directory; one only so far")),
    key("journal.dir", Text, "", "Directory of the journals; derived: inside the data directory (ours)"),
    key("cores", Text, "auto", "CPUs to use, as 0,2-3; auto: all that affinity and cgroup quota allow (ours)"),

    key("num.partitions", Number(1, I32), "1", "Partitions of a topic created without a count"),
    key("default.replication.factor", Number(1, 1), "1", "Replicas of a topic created without a count; one only so far"),
    key("min.insync.replicas", Number(1, I32), "1", "Replicas that acks=all needs"),
    key("auto.create.topics.enable", Boolean, "true", "Create a topic when a client asks for one that is missing"),
    key("delete.topic.enable", Boolean, "true", "Let clients delete topics"),

    key("log.write.caching", Boolean, "false", "Acknowledge records when they are received; topics: write.caching (ours)"),

    key("message.max.bytes", Bytes(0, I32), "1048588", "Greatest size of a record batch; topics: max.message.bytes"),
    key("log.message.timestamp.type", Choice(&["CreateTime", "LogAppendTime"]), "CreateTime", "Who sets timestamps: the producer or the broker"),
    key("log.message.timestamp.before.max.ms", Number(0, I64), "9223372036854775807", "How far a timestamp may lie in the past"),
    key("log.message.timestamp.after.max.ms", Number(0, I64), "3600000", "How far a timestamp may lie in the future"),
    key("record.validation", Choice(&["framing", "full"]), "framing", "Check compressed batches by their header, or decompress them as Kafka does (ours)"),

    key("log.segment.bytes", Bytes(1 << 20, I32), "1073741824", "Size at which a segment is rolled"),
    key("log.roll.ms", Number(1, I64), "", "Age at which a segment is rolled; derived: log.roll.hours"),
    key("log.roll.hours", Number(1, I32), "168", "Age at which a segment is rolled"),
    key("log.retention.ms", Number(-1, I64), "", "How long records are kept, -1: for ever; derived: log.retention.minutes, then .hours"),
    key("log.retention.minutes", Number(-1, I32), "", "How long records are kept; derived: log.retention.hours"),
    key("log.retention.hours", Number(-1, I32), "168", "How long records are kept"),
    key("log.retention.check.interval.ms", Number(1, I64), "300000", "Time between looks for segments to remove"),
    key("log.retention.bytes", Bytes(-1, I64), "-1", "Size to which a partition is cut, -1: no limit"),
    key("log.index.interval.bytes", Bytes(0, I32), "4096", "Log bytes per entry of the offset index"),
    key("log.index.size.max.bytes", Bytes(4, I32), "10485760", "Greatest size of an index file"),

    key("log.cleaner.enable", Boolean, "true", "Compact topics whose cleanup.policy says so"),
    key("log.cleaner.backoff.ms", Number(0, I64), "15000", "Time between looks for something to compact when there was nothing"),
    key("log.cleaner.dedupe.buffer.size", Bytes(1 << 20, I64), "134217728", "Memory for the keys of what is compacted, over all cores; each has at least 1 MiB. What does not fit is left to the next pass"),
    key("log.cleaner.io.buffer.load.factor", Text, "0.9", "How full that memory may get"),
    key("log.cleaner.io.max.bytes.per.second", Text, "1.7976931348623157E308", "Bytes that compaction reads and writes in a second, over all cores"),

    key("producer.id.expiration.ms", Number(1, I32), "86400000", "How long an idempotent producer that does not write is remembered"),
    key("producer.id.expiration.check.interval.ms", Number(1, I32), "600000", "How often idempotent producers are looked through for expired ones"),

    key("acks.all.durability", Choice(&["flushed", "written"]), "flushed", "What acks=all waits for: flushed survives power loss, written only the death of the process (ours)"),
    key("journal.flush.ms", Number(1, I32), "100", "Longest time that acks=1 data stays unflushed (ours)"),
    key("journal.ring.bytes", Bytes(1 << 20, I64), "", "Memory per core for the journal's live rounds; derived: 256 MiB, at most 1/16 of the memory limit and 1/4 over all cores (ours)"),

    key("disk.reserve.bytes", Bytes(0, I64), "", "Space that is kept free on the disk of the data directory: below it, records are refused; derived: 32 MiB and four times journal.ring.bytes for each core, which is what may have to be written (ours)"),

    key("socket.request.max.bytes", Bytes(1, I32), "104857600", "Greatest size of a request"),
    key("fetch.max.bytes", Bytes(1024, I32), "57671680", "Greatest size of a fetch response"),
    key("max.incremental.fetch.session.cache.slots", Number(0, I32), "1000", "Greatest number of fetch sessions"),
    key("max.connections", Number(0, I32), "10000", "Greatest number of connections; Kafka has no limit"),
    key("max.connections.per.ip", Number(0, I32), "2000", "Greatest number of connections from one address; Kafka has no limit"),
    key("max.request.partition.size.limit", Number(1, I32), "2000", "Partitions in one answer to DescribeTopicPartitions"),
    key("connections.max.idle.ms", Number(1, I64), "600000", "Idle time after which a connection is closed"),

    key("group.initial.rebalance.delay.ms", Number(0, I32), "3000", "How long the first rebalance of a group waits for more members"),
    key("group.min.session.timeout.ms", Number(1, I32), "6000", "Least session timeout a member may ask for"),
    key("group.max.session.timeout.ms", Number(1, I32), "1800000", "Greatest session timeout a member may ask for"),
    key("group.max.size", Number(1, I32), "2147483647", "Greatest number of members of a group"),
    key("offset.metadata.max.bytes", Number(0, I32), "4096", "Greatest size of the metadata committed with an offset"),
    key("offsets.retention.minutes", Number(1, I32), "10080", "How long offsets are kept once the group is empty, or without members after the last commit"),
    key("offsets.retention.check.interval.ms", Number(1, I64), "600000", "Time between looks for offsets to expire"),
    key("offsets.topic.num.partitions", Number(1, 10_000), "50", "Partitions of __consumer_offsets when it is created"),
    key("offsets.topic.segment.bytes", Bytes(1 << 20, I32), "104857600", "Segment size of __consumer_offsets when it is created"),
    key("offsets.topic.replication.factor", Number(1, 3), "1", "Replicas of __consumer_offsets; always one, since there is one broker"),

    key("http.listen", Text, "", "Address of the HTTP port with /metrics, /livez and /readyz, as 127.0.0.1:9644; port 0 takes a free one; empty: none. It asks nobody who they are (ours)"),
    key("log.format", Choice(&["text", "json"]), "text", "Form of the broker's own log (ours)"),
    key("log.level", Choice(&["error", "warn", "info", "debug", "trace"]), "info", "Least severe level of the broker's own log (ours)"),
];

/// The key of a name or alias.
#[must_use]
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.aliases.contains(&name))
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// The key has no default and no source sets it.
    Derived,
    /// A text or a choice.
    Text(String),
    /// A boolean.
    Boolean(bool),
    /// A number, or a number of bytes.
    Number(i64),
}

impl Kind {
    /// Checks a value. The error says what is wrong and what is accepted.
    pub(super) fn check(self, text: &str) -> Result<Value, (String, String)> {
        let within = |number: Option<i64>, least: i64, greatest: i64, what: &str| match number {
            None => Err((format!("is not {what}"), format!("give {what}, as {}", least.max(1)))),
            Some(n) if n < least => {
                Err((format!("is less than {least}"), format!("give {least} or more")))
            }
            Some(n) if n > greatest => {
                Err((format!("is more than {greatest}"), format!("give {greatest} or less")))
            }
            Some(n) => Ok(Value::Number(n)),
        };
        let text = text.trim();
        match self {
            Text => Ok(Value::Text(text.to_owned())),
            Number(least, greatest) => within(text.parse().ok(), least, greatest, "a whole number"),
            Bytes(least, greatest) => within(bytes(text), least, greatest, "a number of bytes"),
            Boolean => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err(("is not a boolean".to_owned(), "give true or false".to_owned())),
            },
            Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Choice(words) => {
                Err(("is not known".to_owned(), format!("give {}", words.join(" or "))))
            }
        }
    }
}

/// A number of bytes, with or without a suffix.
fn bytes(text: &str) -> Option<i64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    match units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift))) {
        Some((number, shift)) => number.trim_end().parse::<i64>().ok()?.checked_mul(1 << shift),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            assert!(key.kind.check(key.default).is_ok(), "{}", key.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> =
            KEYS.iter().flat_map(|key| key.aliases.iter().chain([&key.name])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn sizes_take_suffixes() {
        let kind = Bytes(0, I64);
        for (text, size) in
            [("5", 5), ("64MiB", 64 << 20), ("2 GiB", 2 << 30), ("1TiB", 1 << 40), (" 7KiB ", 7168)]
        {
            assert_eq!(kind.check(text), Ok(Value::Number(size)), "{text}");
        }
        for text in ["", "x", "1MB", "9999999999TiB", "-1", "1.5GiB"] {
            assert!(kind.check(text).is_err(), "{text}");
        }
    }
}
