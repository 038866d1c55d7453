//! What each of Kafka's keys does here: it acts, it is accepted without effect, or it is refused, and why.
//! `docs/compatibility.md` is written from this, and a test keeps it so.

use super::kafka::{self, BROKER, synonyms};
use super::keys;
use super::topic::WRITE_CACHING;

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What Kafka's documentation says, or what the text says.
    Acts(&'static str),
    /// It is checked, stored and told; it changes nothing, for this reason.
    NoEffect(&'static str),
    /// Any value but the default stops the start, for this reason.
    Refused(&'static str),
}

const ONE_NODE: &str = "one node";
const NOT_YET: &str = "not built yet";
const TIERED: &str = "no tiered storage";

/// The topic keys: what each does, and its documentation in a line.
#[rustfmt::skip]
const TOPICS: &[(&str, Effect, &str)] = &[
    ("cleanup.policy", Effect::Acts(""), "What becomes of old records: delete, compact, or both."),
    ("compression.gzip.level", Effect::Acts(""), "Level at which the broker compresses with gzip, -1 for the codec's own."),
    ("compression.lz4.level", Effect::NoEffect("the encoder has one level"), "Level at which the broker compresses with lz4."),
    ("compression.type", Effect::Acts(""), "Codec of stored batches; producer keeps them as they came."),
    ("compression.zstd.level", Effect::Acts(""), "Level at which the broker compresses with zstd."),
    ("delete.retention.ms", Effect::Acts(""), "How long tombstones of a compacted topic are kept."),
    ("file.delete.delay.ms", Effect::NoEffect("files go as soon as nobody reads them"), "Time between a file's removal from the log and from the disk."),
    ("flush.messages", Effect::NoEffect("acknowledgements decide what is flushed: acks=all always is"), "Records after which the log is flushed."),
    ("flush.ms", Effect::NoEffect("acknowledgements decide what is flushed, and journal.flush.ms for the rest"), "Time after which the log is flushed."),
    ("follower.replication.throttled.replicas", Effect::NoEffect(ONE_NODE), "Replicas whose followers are throttled."),
    ("index.interval.bytes", Effect::Acts(""), "Log bytes per entry of the offset index."),
    ("leader.replication.throttled.replicas", Effect::NoEffect(ONE_NODE), "Replicas whose leaders are throttled."),
    ("local.retention.bytes", Effect::NoEffect(TIERED), "Size of what is kept here of a tiered partition."),
    ("local.retention.ms", Effect::NoEffect(TIERED), "Age of what is kept here of a tiered partition."),
    ("max.compaction.lag.ms", Effect::Acts(""), "Longest time before a record may be compacted."),
    ("max.message.bytes", Effect::Acts(""), "Greatest size of a record batch."),
    ("message.timestamp.after.max.ms", Effect::Acts(""), "How far a timestamp may lie in the future."),
    ("message.timestamp.before.max.ms", Effect::Acts(""), "How far a timestamp may lie in the past."),
    ("message.timestamp.type", Effect::Acts(""), "Who sets timestamps: CreateTime the producer, LogAppendTime the broker."),
    ("min.cleanable.dirty.ratio", Effect::Acts(""), "Share of a log that must be new before it is compacted."),
    ("min.compaction.lag.ms", Effect::Acts(""), "Shortest time before a record may be compacted."),
    ("min.insync.replicas", Effect::Acts("there is one replica: with more, acks=all gets NOT_ENOUGH_REPLICAS"), "Replicas that acks=all needs."),
    ("preallocate", Effect::NoEffect("space is always reserved ahead"), "Reserve a segment's space when it begins."),
    ("remote.log.copy.disable", Effect::NoEffect(TIERED), "Copy no more segments to tiered storage."),
    ("remote.log.delete.on.disable", Effect::NoEffect(TIERED), "Delete what is tiered when tiering is turned off."),
    ("remote.storage.enable", Effect::Refused("true is refused, as Kafka does without tiered storage"), "Keep old segments in tiered storage."),
    ("retention.bytes", Effect::Acts(""), "Size to which a partition is cut, -1 for no limit."),
    ("retention.ms", Effect::Acts(""), "How long records are kept, -1 for ever."),
    ("segment.bytes", Effect::Acts(""), "Size at which a segment is rolled."),
    ("segment.index.bytes", Effect::NoEffect("an index is as large as its segment needs"), "Greatest size of an index file."),
    ("segment.jitter.ms", Effect::NoEffect(NOT_YET), "Random part of the time after which a segment is rolled."),
    ("segment.ms", Effect::Acts(""), "Age at which a segment is rolled."),
    ("unclean.leader.election.enable", Effect::NoEffect(ONE_NODE), "Let a replica that is not in sync become leader."),
    (WRITE_CACHING, Effect::Acts("ours: every acks is answered when the records are received"), "Acknowledge records when they are received, before they are on the disk."),
];

/// What a topic key does, and its documentation.
#[must_use]
pub fn topic_effect(name: &str) -> Option<(Effect, &'static str)> {
    TOPICS.iter().find(|row| row.0 == name).map(|row| (row.1, row.2))
}

/// Broker keys that stop the start unless they have their default.
#[rustfmt::skip]
const REFUSED: &[(&str, &str)] = &[
    ("alter.config.policy.class.name", "Java classes are not run, and what it forbids would be allowed"),
    ("authorizer.class.name", "there is no authorizer yet, and what it forbids would be allowed"),
    ("client.quota.callback.class", "Java classes are not run"),
    ("config.providers", "Java classes are not run, and references would be taken for values"),
    ("create.topic.policy.class.name", "Java classes are not run, and what it forbids would be allowed"),
    ("remote.log.storage.system.enable", "there is no tiered storage"),
];

/// Why the broker keys of these prefixes have no effect. The first that fits counts.
#[rustfmt::skip]
const WITHOUT_EFFECT: &[(&[&str], &str)] = &[
    (&["add.partitions.to.txn.", "transaction", "producer.id."], "transactions are not built yet"),
    (&["group.share.", "share."], "share groups are not built yet"),
    (&["group.streams."], "streams groups are not built yet"),
    (&["group.consumer.", "group.coordinator.rebalance."], "groups of KIP-848 are not built yet"),
    (&["offsets.topic.replication."], "one node: nothing is replicated"),
    (&["group.", "offset.", "offsets."], "each core runs the coordinators of its own partitions"),
    (&["alter.log.dirs.", "cordoned.", "log.dir.failure."], "one data directory"),
    (&["controller.", "controlled.", "broker.", "initial.broker.", "metadata.", "process.roles", "early.start.", "internal.", "unstable.", "server.max.startup", "leader.imbalance."], "one node, which is its own controller"),
    (&["replica.", "replication.", "num.replica.", "auto.leader.", "unclean.", "inter.broker.", "follower.", "default.replication."], "one node: nothing is replicated"),
    (&["sasl.", "ssl.", "security.", "delegation.", "connections.max.reauth", "connection.failed", "principal."], "no TLS and no SASL yet"),
    (&["remote.", "log.local."], TIERED),
    (&["quota."], "no quotas yet"),
    (&["kafka.metrics", "metric", "telemetry."], "there are no Java reporters"),
    (&["num.", "background.", "queued."], "one executor per core stands for all thread pools"),
    (&["log.cleaner.threads"], "each core compacts its own partitions, one at a time"),
    (&["log.cleaner.io.buffer.size"], "segments are read in pieces of 256 KiB, larger batches whole"),
    (&["log.flush."], "acknowledgements decide what is flushed, and journal.flush.ms for the rest"),
    (&["log.roll.", "log.initial."], NOT_YET),
    (&["log.index.size."], "an index is as large as its segment needs"),
    (&["log.preallocate"], "space is always reserved ahead"),
    (&["log.segment.delete."], "files go as soon as nobody reads them"),
    (&["delete.records.purgatory", "fetch.purgatory", "producer.purgatory"], "delayed requests are removed at once"),
    (&["max.connection.creation.rate", "max.connections.per.ip.overrides"], NOT_YET),
    (&["socket.", "request.timeout.ms"], "the kernel's own settings are used"),
    (&["compression.lz4."], "the encoder has one level"),
];

/// What a broker key does; `None` for a name that neither Kafka nor we have.
#[must_use]
pub fn broker_effect(name: &str) -> Option<Effect> {
    let known = kafka::find(BROKER, name).is_some() || keys::find(name).is_some();
    if !known {
        return None;
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some(Effect::Refused(why));
    }
    // A key that topics inherit from does what the topic's does.
    let inherits = TOPICS.iter().find(|(topic, _, _)| synonyms(topic).iter().any(|s| s.0 == name));
    if let Some((topic, effect, _)) = inherits
        && *topic != "min.insync.replicas"
    {
        return Some(*effect);
    }
    if keys::find(name).is_some_and(|key| !key.name.ends_with("replication.factor")) {
        return Some(Effect::Acts(""));
    }
    let why = WITHOUT_EFFECT
        .iter()
        .find(|(prefixes, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .map_or("", |(_, why)| *why);
    Some(Effect::NoEffect(why))
}

/// Our documentation of a broker key, if it acts.
#[must_use]
pub fn broker_doc(name: &str) -> Option<&'static str> {
    if let Some(key) = keys::find(name) {
        return Some(key.doc);
    }
    let (_, effect, doc) =
        TOPICS.iter().find(|(topic, _, _)| synonyms(topic).iter().any(|s| s.0 == name))?;
    matches!(effect, Effect::Acts(_)).then_some(*doc)
}

/// The reference of all keys as `docs/compatibility.md` has it.
#[must_use]
pub fn reference() -> String {
    let told = |effect: Effect| match effect {
        Effect::Acts("") => ("acts", ""),
        Effect::Acts(how) => ("acts", how),
        Effect::NoEffect(why) => ("no effect", why),
        Effect::Refused(why) => ("refused", why),
    };
    let cell = |text: &str| text.replace('|', "\\|");
    let mut out = String::from(
        "### Topic configs\n\n| key | type | default | accepted | effect | |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for key in super::topic::topic_keys() {
        let (what, why) = topic_effect(key.name).map_or(("", ""), |(effect, _)| told(effect));
        out.push_str(&format!(
            "| `{}` | {} | {} | {} | {what} | {why} |\n",
            key.name,
            key.kind.name().to_ascii_lowercase(),
            cell(key.default.unwrap_or("null")),
            cell(&key.accepted()),
        ));
    }
    out.push_str("\n### Broker keys\n\n| key | type | default | effect | |\n| --- | --- | --- | --- | --- |\n");
    let mut names: Vec<&str> = BROKER.iter().filter(|key| !key.internal).map(|k| k.name).collect();
    names.extend(keys::KEYS.iter().map(|key| key.name));
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (what, why) = broker_effect(name).map_or(("", ""), told);
        let kafka = kafka::find(BROKER, name);
        let ours = keys::KEYS.iter().find(|key| key.name == name);
        let kind =
            kafka.map_or_else(|| ours.map_or("", |key| key.kind.type_name()), |k| k.kind.name());
        let default = match ours {
            Some(key) if key.default.is_empty() => "derived",
            Some(key) => key.default,
            None => kafka.and_then(|key| key.default).unwrap_or("null"),
        };
        let why = match (kafka, ours) {
            (None, Some(_)) => "ours",
            (Some(kafka), Some(ours))
                if !ours.default.is_empty()
                    && kafka.default != Some(ours.default)
                    && why.is_empty() =>
            {
                &format!("Kafka: {}", kafka.default.unwrap_or("null"))
            }
            _ => why,
        };
        out.push_str(&format!(
            "| `{name}` | {} | {} | {what} | {why} |\n",
            kind.to_ascii_lowercase(),
            cell(default)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::topic::topic_keys;
    use super::*;

    #[test]
    fn every_key_says_what_it_does() {
        for key in topic_keys() {
            assert!(
                topic_effect(key.name).is_some_and(|(_, doc)| doc.ends_with('.')),
                "{}",
                key.name
            );
        }
        for key in BROKER.iter().filter(|key| !key.internal) {
            match broker_effect(key.name) {
                Some(Effect::NoEffect(why)) => assert!(!why.is_empty(), "{}", key.name),
                Some(Effect::Acts(_)) => assert!(broker_doc(key.name).is_some(), "{}", key.name),
                Some(Effect::Refused(_)) => {}
                None => panic!("{}", key.name),
            }
        }
        assert_eq!(broker_effect("zookeeper.connect"), None);
        assert_eq!(broker_effect("node.id"), Some(Effect::Acts("")));
    }

    #[test]
    fn refused_keys_are_kafkas() {
        for (name, _) in REFUSED {
            assert!(kafka::find(BROKER, name).is_some(), "{name}");
        }
    }
}
