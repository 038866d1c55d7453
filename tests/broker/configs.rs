//! Dynamic configs: told with their sources, durable, and in force at once.

use millstream::client::Connection;
use millstream::protocol::ErrorCode;
use millstream::protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult,
};
use millstream::protocol::messages::fetch::{FetchPartition, FetchTopic};
use millstream::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig,
};
use millstream::protocol::messages::*;
use millstream::record::{BatchView, Codec, TimestampType, batches};
use millstream::time::Clock;

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client;
use crate::outcome::{Result, ensure, eventually, failure};
use crate::surface::{create, open, text, topic};
use crate::wire::{Batch, Connection as Wire};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);

/// Changes configs of one resource; the code and message.
fn alter(
    connection: &mut Connection,
    resource_type: i8,
    name: &str,
    changes: &[Change<'_>],
) -> Result<(ErrorCode, String)> {
    alter_or_check(connection, resource_type, name, changes, false)
}

fn alter_or_check(
    connection: &mut Connection,
    resource_type: i8,
    name: &str,
    changes: &[Change<'_>],
    validate_only: bool,
) -> Result<(ErrorCode, String)> {
    let configs = changes
        .iter()
        .map(|(name, config_operation, value)| AlterableConfig {
            name: text(name),
            config_operation: *config_operation,
            value: value.map(text),
        })
        .collect();
    let resource = AlterConfigsResource { resource_type, resource_name: text(name), configs };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let response = connection.call(&request)?.responses.into_iter().next();
    let response = response.ok_or_else(|| failure("no row"))?;
    Ok((response.error_code, response.error_message.unwrap_or_default().to_string()))
}

/// Must succeed.
fn set(connection: &mut Connection, kind: i8, name: &str, key: &str, value: &str) -> Result<()> {
    let altered = alter(connection, kind, name, &[(key, SET, Some(value))])?;
    ensure(altered.0 == ErrorCode::None, || format!("{key}={value}: {altered:?}"))
}

fn describe(
    connection: &mut Connection,
    resource_type: i8,
    name: &str,
) -> Result<Vec<DescribeConfigsResourceResult>> {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: text(name),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let result = connection.call(&request)?.results.into_iter().next();
    let result = result.ok_or_else(|| failure("no result"))?;
    ensure(result.error_code == ErrorCode::None, || format!("{result:?}"))?;
    Ok(result.configs)
}

/// One config: its value and the number of its source.
fn config(connection: &mut Connection, kind: i8, name: &str, key: &str) -> Result<(String, i8)> {
    let configs = describe(connection, kind, name)?;
    let row = configs.into_iter().find(|row| *row.name == *key);
    let row = row.ok_or_else(|| failure(format!("{key} is not told")))?;
    Ok((row.value.unwrap_or_default().to_string(), row.config_source))
}

#[test]
fn configs_are_told_with_their_sources_and_survive_a_kill() -> Result<()> {
    scenario("configs-sources", |home| {
        let settings = [("log.retention.bytes", "5"), ("log.segment.bytes", "64MiB")];
        let broker = Broker::start_with(home, 2, &settings)?;
        let mut connection = open(&broker)?;
        create(&mut connection, vec![topic("t", 2, &[("flush.ms", "7")])], false)?;
        set(&mut connection, BROKER, "", "log.segment.delete.delay.ms", "11")?;
        set(&mut connection, BROKER, "1", "log.cleaner.delete.retention.ms", "12")?;
        set(&mut connection, TOPIC, "t", "retention.ms", "13")?;
        broker.kill()?;

        let broker = Broker::start_with(home, 2, &settings)?;
        let mut connection = open(&broker)?;
        for (key, value, source) in [
            ("flush.ms", "7", 1),
            ("retention.ms", "13", 1),
            ("delete.retention.ms", "12", 2),
            ("file.delete.delay.ms", "11", 3),
            ("retention.bytes", "5", 4),
            ("segment.bytes", "67108864", 4),
            ("index.interval.bytes", "4096", 5),
        ] {
            let told = config(&mut connection, TOPIC, "t", key)?;
            ensure(told == (value.to_owned(), source), || format!("{key}: {told:?}"))?;
        }
        let topic_rows = describe(&mut connection, TOPIC, "t")?;
        ensure(topic_rows.len() == 34, || format!("{} topic configs", topic_rows.len()))?;
        let silent: Vec<_> = topic_rows.iter().filter(|r| r.documentation.is_none()).collect();
        ensure(silent.is_empty(), || format!("{silent:?}"))?;

        let rows = describe(&mut connection, BROKER, "1")?;
        ensure(rows.len() > 280, || format!("{} broker configs", rows.len()))?;
        let row = |key: &str| rows.iter().find(|row| *row.name == *key).cloned();
        let node = row("node.id").ok_or_else(|| failure("no node.id"))?;
        ensure(node.read_only && node.value == Some(text("1")) && node.config_type == 3, || {
            format!("{node:?}")
        })?;
        let secret = row("ssl.keystore.password").ok_or_else(|| failure("no password"))?;
        ensure(secret.is_sensitive && secret.value.is_none() && secret.config_type == 9, || {
            format!("{secret:?}")
        })?;
        let retention = row("log.retention.ms").ok_or_else(|| failure("no log.retention.ms"))?;
        ensure(!retention.read_only && retention.value.is_none(), || format!("{retention:?}"))?;
        let delay = row("log.segment.delete.delay.ms").ok_or_else(|| failure("no delay"))?;
        let synonyms: Vec<_> = delay.synonyms.iter().map(|s| s.source).collect();
        ensure(synonyms == [3, 5], || format!("{delay:?}"))?;
        let all = describe(&mut connection, BROKER, "")?;
        ensure(all.len() == 1, || format!("{all:?}"))?;

        for (kind, name, code) in [
            (TOPIC, "nope", ErrorCode::UnknownTopicOrPartition),
            (TOPIC, "a b", ErrorCode::InvalidTopicException),
            (BROKER, "9", ErrorCode::InvalidRequest),
            (BROKER, "x", ErrorCode::InvalidRequest),
            (99, "x", ErrorCode::InvalidRequest),
        ] {
            let resource = DescribeConfigsResource {
                resource_type: kind,
                resource_name: text(name),
                configuration_keys: None,
            };
            let request =
                DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
            let found = connection.call(&request)?.results.first().map(|r| r.error_code);
            ensure(found == Some(code), || format!("{kind} {name}: {found:?}"))?;
        }
        broker.stop()
    })
}

#[test]
fn changes_are_checked_as_in_kafka() -> Result<()> {
    scenario("configs-checked", |home| {
        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        create(&mut connection, vec![topic("t", 1, &[])], false)?;
        use ErrorCode as E;
        for (kind, name, changes, code, says) in [
            (TOPIC, "t", vec![("x.y", SET, Some("1"))], E::InvalidConfig, "Unknown topic config"),
            (
                TOPIC,
                "t",
                vec![("segment.bytes", SET, Some("1"))],
                E::InvalidConfig,
                "at least 1048576",
            ),
            (
                TOPIC,
                "t",
                vec![("flush.ms", APPEND, Some("1"))],
                E::InvalidConfig,
                "type is not LIST",
            ),
            (
                TOPIC,
                "t",
                vec![("flush.ms", SET, None)],
                E::InvalidRequest,
                "Null value not supported",
            ),
            (TOPIC, "t", vec![("flush.ms", 9, Some("1"))], E::InvalidRequest, "operations type 9"),
            (
                TOPIC,
                "u",
                vec![("flush.ms", SET, Some("1"))],
                E::UnknownTopicOrPartition,
                "does not exist",
            ),
            (
                BROKER,
                "7",
                vec![("log.retention.ms", SET, Some("1"))],
                E::InvalidRequest,
                "expected 1",
            ),
            (
                BROKER,
                "1",
                vec![("node.id", SET, Some("1"))],
                E::InvalidRequest,
                "dynamically: [node.id]",
            ),
            (
                BROKER,
                "",
                vec![("ssl.keystore.type", SET, Some("1"))],
                E::InvalidRequest,
                "per broker",
            ),
            (
                BROKER,
                "1",
                vec![("log.retention.ms", SET, Some("x"))],
                E::InvalidRequest,
                "type LONG",
            ),
            (8, "1", vec![("root", SET, Some("DEBUG"))], E::InvalidRequest, "log.level"),
            (77, "1", vec![("root", SET, Some("1"))], E::InvalidRequest, "resource type 77"),
        ] {
            let (found, why) = alter(&mut connection, kind, name, &changes)?;
            ensure(found == code && why.contains(says), || {
                format!("{changes:?}: {found:?} {why}")
            })?;
        }
        let policy = |connection: &mut Connection| config(connection, TOPIC, "t", "cleanup.policy");
        alter(&mut connection, TOPIC, "t", &[("cleanup.policy", APPEND, Some("compact"))])?;
        let told = policy(&mut connection)?;
        ensure(told == ("delete,compact".to_owned(), 1), || format!("{told:?}"))?;
        alter(&mut connection, TOPIC, "t", &[("cleanup.policy", SUBTRACT, Some("delete"))])?;
        let told = policy(&mut connection)?;
        ensure(told == ("compact".to_owned(), 1), || format!("{told:?}"))?;
        let checked = [("cleanup.policy", DELETE, None)];
        alter_or_check(&mut connection, TOPIC, "t", &checked, true)?;
        ensure(policy(&mut connection)?.0 == "compact", || "a check changed it".to_owned())?;
        alter(&mut connection, TOPIC, "t", &checked)?;
        let told = policy(&mut connection)?;
        ensure(told == ("delete".to_owned(), 5), || format!("{told:?}"))?;
        broker.stop()
    })
}

#[test]
fn alter_configs_replaces_all() -> Result<()> {
    use millstream::protocol::messages::alter_configs::{AlterConfigsResource, AlterableConfig};
    scenario("configs-replaced", |home| {
        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        create(&mut connection, vec![topic("t", 1, &[("flush.ms", "1")])], false)?;
        let configs = vec![AlterableConfig { name: text("retention.ms"), value: Some(text("2")) }];
        let resource =
            AlterConfigsResource { resource_type: TOPIC, resource_name: text("t"), configs };
        let twice = AlterConfigsRequest {
            resources: vec![resource.clone(), resource.clone()],
            validate_only: false,
        };
        let codes: Vec<_> =
            connection.call(&twice)?.responses.iter().map(|r| r.error_code).collect();
        ensure(codes == [ErrorCode::InvalidRequest; 2], || format!("{codes:?}"))?;
        let once = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        let codes: Vec<_> =
            connection.call(&once)?.responses.iter().map(|r| r.error_code).collect();
        ensure(codes == [ErrorCode::None], || format!("{codes:?}"))?;
        let told = config(&mut connection, TOPIC, "t", "retention.ms")?;
        ensure(told == ("2".to_owned(), 1), || format!("{told:?}"))?;
        let told = config(&mut connection, TOPIC, "t", "flush.ms")?;
        ensure(told.1 == 5, || format!("{told:?}"))?;
        broker.stop()
    })
}

/// A batch of records with values, and keys or not.
fn batch(values: &[&[u8]]) -> Vec<u8> {
    Batch::of(values, Clock::timestamp().0).encode()
}

/// The error code of a produce that is refused, or 0.
fn produce(wire: &mut Wire, topic: &str, batch: &[u8]) -> Result<i16> {
    Ok(wire.produce(topic, 0, -1, batch)?.map_or(0, |(code, _)| code))
}

/// The bytes of partition 0 from an offset on.
fn fetch(connection: &mut Connection, topic: &str, fetch_offset: i64) -> Result<Vec<u8>> {
    let metadata = connection.call(&MetadataRequest { topics: None, ..Default::default() })?;
    let found = metadata.topics.iter().find(|t| t.name.as_deref() == Some(topic));
    let topic_id = found.ok_or_else(|| failure("no such topic"))?.topic_id;
    let partition =
        FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let request = FetchRequest {
        max_bytes: 1 << 20,
        topics: vec![FetchTopic { topic_id, partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    };
    let response = connection.call(&request)?;
    let data = response.responses.first().and_then(|t| t.partitions.first());
    let records = data.and_then(|data| data.records.as_ref()).and_then(|r| r.as_inline());
    Ok(records.ok_or_else(|| failure(format!("{response:?}")))?.to_vec())
}

#[test]
fn topic_configs_act_at_once() -> Result<()> {
    scenario("configs-act", |home| {
        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        create(&mut connection, vec![topic("t", 1, &[])], false)?;
        let mut wire = Wire::open(&broker.address)?;
        let large = batch(&[&[1; 3000]]);
        ensure(produce(&mut wire, "t", &large)? == 0, || "refused".to_owned())?;

        // MESSAGE_TOO_LARGE, from the topic's own config, from all brokers', and no more (a trap).
        set(&mut connection, TOPIC, "t", "max.message.bytes", "2000")?;
        let code = produce(&mut wire, "t", &large)?;
        ensure(code == 10, || format!("max.message.bytes: {code}"))?;
        alter(&mut connection, TOPIC, "t", &[("max.message.bytes", DELETE, None)])?;
        ensure(produce(&mut wire, "t", &large)? == 0, || "refused".to_owned())?;
        set(&mut connection, BROKER, "", "message.max.bytes", "2000")?;
        let code = produce(&mut wire, "t", &large)?;
        ensure(code == 10, || format!("message.max.bytes: {code}"))?;
        alter(&mut connection, BROKER, "", &[("message.max.bytes", DELETE, None)])?;

        // Without a key on a compacted topic: INVALID_RECORD (a trap), compressed or not.
        set(&mut connection, TOPIC, "t", "cleanup.policy", "compact")?;
        let code = produce(&mut wire, "t", &large)?;
        ensure(code == 87, || format!("compact: {code}"))?;
        set(&mut connection, TOPIC, "t", "cleanup.policy", "delete")?;

        set(&mut connection, TOPIC, "t", "min.insync.replicas", "2")?;
        let code = produce(&mut wire, "t", &large)?;
        ensure(code == 19, || format!("min.insync.replicas: {code}"))?;
        set(&mut connection, TOPIC, "t", "min.insync.replicas", "1")?;

        set(&mut connection, TOPIC, "t", "message.timestamp.before.max.ms", "1000")?;
        let old = Batch::of(&[b"old"], 1_000_000).encode();
        let code = produce(&mut wire, "t", &old)?;
        ensure(code == 32, || format!("timestamp.before: {code}"))?;
        set(&mut connection, TOPIC, "t", "message.timestamp.type", "LogAppendTime")?;
        let before = wire.log_end("t", 0)?;
        ensure(produce(&mut wire, "t", &old)? == 0, || "append time is refused".to_owned())?;
        set(&mut connection, TOPIC, "t", "compression.type", "zstd")?;
        let raw = batch(&[&[3; 2000], &[4; 2000]]);
        ensure(produce(&mut wire, "t", &raw)? == 0, || "zstd is refused".to_owned())?;
        set(&mut connection, TOPIC, "t", "write.caching", "true")?;
        ensure(produce(&mut wire, "t", &raw)? == 0, || "caching is refused".to_owned())?;

        // What is only received is readable a moment later.
        let found = eventually("all three batches are readable", PATIENCE, || {
            let stored = fetch(&mut connection, "t", before)?;
            let found: Vec<_> = batches(&stored)
                .map(|batch| batch.map(|b: BatchView<'_>| (b.header().attributes(), b.crc_valid())))
                .collect::<std::result::Result<_, _>>()
                .map_err(|error| failure(error.to_string()))?;
            Ok((found.len() >= 3).then_some(found))
        })?;
        let told: Vec<_> =
            found.iter().map(|(a, crc)| (a.codec(), a.timestamp_type(), *crc)).collect();
        let append = TimestampType::LogAppendTime;
        let expected = [
            (Some(Codec::None), append, true),
            (Some(Codec::Zstd), append, true),
            (Some(Codec::Zstd), append, true),
        ];
        ensure(told == expected, || format!("{told:?}"))?;
        let read = client::read_from(&broker.address, "t", &[before + 1])?;
        let values: Vec<_> =
            read.iter().flatten().map(|r| (r.value.len(), r.value.first().copied())).collect();
        let twice = [(2000, Some(3)), (2000, Some(4))].repeat(2);
        ensure(values == twice, || format!("{values:?}"))?;
        broker.stop()
    })
}

#[test]
fn a_new_segment_size_rolls_the_next_segment() -> Result<()> {
    scenario("configs-segment", |home| {
        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        create(&mut connection, vec![topic("t", 1, &[])], false)?;
        let mut wire = Wire::open(&broker.address)?;
        let record = vec![5; 400_000];
        let large = batch(&[&record]);
        for _ in 0..4 {
            ensure(produce(&mut wire, "t", &large)? == 0, || "refused".to_owned())?;
        }
        set(&mut connection, TOPIC, "t", "segment.bytes", "1048576")?;
        for _ in 0..4 {
            ensure(produce(&mut wire, "t", &large)? == 0, || "refused".to_owned())?;
        }
        broker.stop()?;
        let broker = Broker::start(home)?;
        // Four in the first, which was larger already; then two to a segment.
        let expected = [0, 4, 6].map(|base| format!("{base:020}.log"));
        eventually("the recovered segments are drained", PATIENCE, || {
            let mut segments: Vec<String> = std::fs::read_dir(home.data().join("t-0"))?
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .filter(|name| name.ends_with(".log"))
                .collect();
            segments.sort();
            ensure(segments.iter().all(|name| expected.contains(name)), || {
                format!("{segments:?}")
            })?;
            Ok((segments == expected).then_some(()))
        })?;
        broker.stop()
    })
}
