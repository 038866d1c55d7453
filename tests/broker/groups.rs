//! Consumer groups with librdkafka and kcat: members share partitions, come, go, crash and return, and
//! nobody's committed offset is lost by a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{Broker, Home, PATIENCE, scenario};
use crate::client;
use crate::kcat;
use crate::outcome::{Context, Result, ensure, eventually, failure};

/// Counts rebalances; commits what was processed before partitions go.
#[derive(Default)]
pub(crate) struct Watch {
    pub(crate) rebalances: std::sync::atomic::AtomicUsize,
}

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn post_rebalance(&self, _: &BaseConsumer<Watch>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.rebalances.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// A member of a group that commits when it is told to.
pub(crate) fn member(
    address: &str,
    group: &str,
    topic: &str,
    settings: &[(&str, &str)],
) -> Result<BaseConsumer<Watch>> {
    let mut config = client::config(address);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "200")
        .set("fetch.wait.max.ms", "50");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer<Watch> = config.create_with_context(Watch::default())?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

fn assigned(consumer: &BaseConsumer<Watch>) -> Result<BTreeSet<i32>> {
    Ok(consumer.assignment()?.elements().iter().map(|e| e.partition()).collect())
}

fn produce(address: &str, topic: &str, partitions: i32, from: i64, count: i64) -> Result<()> {
    let mut connection = crate::wire::Connection::open(address)?;
    for partition in 0..partitions {
        let values: Vec<Vec<u8>> =
            (from..from + count).map(|n| format!("{partition}/{n}").into_bytes()).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let at = millstream::time::Clock::timestamp().0;
        let batch = crate::wire::Batch::of(&values, at).encode();
        let produced = connection.produce(topic, partition, -1, &batch)?;
        ensure(produced.is_some_and(|(code, _)| code == 0), || format!("produced: {produced:?}"))?;
    }
    Ok(())
}

/// Reads with all `members` until every partition has been read to `end`, and commits each record.
/// A record read twice, or out of order, is a failure.
fn read_to(
    members: &[&BaseConsumer<Watch>],
    next: &mut BTreeMap<i32, i64>,
    partitions: i32,
    end: i64,
) -> Result<()> {
    let done =
        |next: &BTreeMap<i32, i64>| (0..partitions).all(|p| next.get(&p).copied() == Some(end));
    let mut idle = 0;
    while !done(next) {
        let mut got = false;
        for member in members {
            let Some(message) = member.poll(Duration::from_millis(20)) else { continue };
            let message = match message {
                // It finds the broker again by itself.
                Err(error) if is_transport(&error) => continue,
                other => other?,
            };
            got = true;
            let expected = next.entry(message.partition()).or_insert(0);
            ensure(message.offset() == *expected, || {
                format!(
                    "partition {}: offset {}, {expected} expected",
                    message.partition(),
                    message.offset()
                )
            })?;
            *expected += 1;
            member.commit_message(&message, CommitMode::Sync)?;
        }
        idle = if got { 0 } else { idle + 1 };
        ensure(idle < 3_000, || format!("nothing more comes: {next:?} of {end}"))?;
    }
    Ok(())
}

/// Whether the broker is away, not the record.
fn is_transport(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
        )
    )
}

/// Polls all members until each partition has one owner, spread over all of them.
fn settle(members: &[&BaseConsumer<Watch>], partitions: i32) -> Result<()> {
    eventually("every member has a part", PATIENCE, || {
        let mut owned = BTreeMap::new();
        let mut all = true;
        for member in members {
            if let Some(message) = member.poll(Duration::from_millis(10)) {
                // Read again from the last commit after the next rebalance.
                let message = message?;
                member.seek(
                    message.topic(),
                    message.partition(),
                    Offset::Offset(message.offset()),
                    Duration::from_secs(5),
                )?;
            }
            let parts = assigned(member)?;
            all &= !parts.is_empty();
            for part in parts {
                *owned.entry(part).or_insert(0) += 1;
            }
        }
        let whole = owned.len() == usize::try_from(partitions)? && owned.values().all(|n| *n == 1);
        Ok((all && whole).then_some(()))
    })
}

/// The group's committed offsets, as a fresh client sees them.
fn committed(address: &str, group: &str, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>> {
    let mut config = client::config(address);
    config.set("group.id", group).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let found = eventually("committed offsets", PATIENCE, || {
        match consumer.committed_offsets(list.clone(), Duration::from_secs(5)) {
            Ok(found) => Ok(Some(found)),
            // The broker has just started: its groups are being read.
            Err(KafkaError::OffsetFetch(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    let offsets = (0..partitions).map(|partition| {
        let element = found.find_partition(topic, partition);
        element.and_then(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    });
    Ok(offsets.collect())
}

const QUICK: &[(&str, &str)] = &[("group.initial.rebalance.delay.ms", "100")];

#[test]
fn members_share_a_topic_eagerly() -> Result<()> {
    sharing("groups-eager", "range")
}

#[test]
fn members_share_a_topic_cooperatively() -> Result<()> {
    sharing("groups-cooperative", "cooperative-sticky")
}

fn sharing(name: &str, strategy: &str) -> Result<()> {
    scenario(name, |home| {
        let broker = Broker::start_with(home, 2, QUICK)?;
        client::create(&broker.address, "shared", 6)?;
        produce(&broker.address, "shared", 6, 0, 20)?;
        let settings = [("partition.assignment.strategy", strategy)];
        let mut next = BTreeMap::new();

        let first = member(&broker.address, "g", "shared", &settings)?;
        read_to(&[&first], &mut next, 6, 20)?;
        let second = member(&broker.address, "g", "shared", &settings)?;
        settle(&[&first, &second], 6)?;
        produce(&broker.address, "shared", 6, 20, 20)?;
        read_to(&[&first, &second], &mut next, 6, 40)?;

        // One leaves, as a consumer that is closed does; the other gets all.
        drop(first);
        settle(&[&second], 6)?;
        produce(&broker.address, "shared", 6, 40, 20)?;
        read_to(&[&second], &mut next, 6, 60)?;
        let found = committed(&broker.address, "g", "shared", 6)?;
        ensure(found == vec![Some(60); 6], || format!("{found:?}"))?;
        drop(second);
        broker.stop()
    })
}

#[test]
fn offsets_and_groups_survive_restarts() -> Result<()> {
    scenario("groups-restart", |home| {
        let mut broker = Broker::start_with(home, 2, QUICK)?;
        client::create(&broker.address, "kept", 4)?;
        let mut next = BTreeMap::new();
        for life in 0..4 {
            produce(&broker.address, "kept", 4, life * 10, 10)?;
            let consumer = member(&broker.address, "g", "kept", &[])?;
            read_to(&[&consumer], &mut next, 4, (life + 1) * 10)
                .context(|| format!("life {life}"))?;
            match life {
                0 | 2 => broker.stop()?,
                _ => broker.kill()?,
            }
            drop(consumer);
            // The number of cores changes, and with it who owns which groups.
            let cores = usize::try_from(1 + life % 2)?;
            broker = Broker::start_with(home, cores, QUICK)?;
            let found = committed(&broker.address, "g", "kept", 4)?;
            ensure(found == vec![Some((life + 1) * 10); 4], || format!("life {life}: {found:?}"))?;
        }
        broker.stop()
    })
}

#[test]
fn a_restart_of_the_broker_is_no_rebalance() -> Result<()> {
    scenario("groups-return", |home| {
        let broker = Broker::start_at_with(home, 2, &Broker::lasting_address()?, QUICK)?;
        client::create(&broker.address, "static", 2)?;
        let address = broker.address.clone();
        let settings: &[(&str, &str)] = &[
            ("group.instance.id", "one"),
            ("session.timeout.ms", "60000"),
            ("reconnect.backoff.ms", "10"),
            ("reconnect.backoff.max.ms", "50"),
        ];
        let consumer = member(&address, "g", "static", settings)?;
        let mut next = BTreeMap::new();
        produce(&address, "static", 2, 0, 5)?;
        read_to(&[&consumer], &mut next, 2, 5)?;
        broker.kill()?;
        let broker = Broker::start_at_with(home, 2, &address, QUICK)?;
        produce(&broker.address, "static", 2, 5, 5)?;
        read_to(&[&consumer], &mut next, 2, 10)?;
        let rebalances = consumer.context().rebalances.load(std::sync::atomic::Ordering::Relaxed);
        ensure(rebalances == 1, || format!("{rebalances} rebalances, one expected"))?;
        drop(consumer);
        broker.stop()
    })
}

#[test]
fn kcat_reads_as_a_group_and_sees_the_offsets_topic() -> Result<()> {
    scenario("groups-kcat", |home| {
        let broker = Broker::start_with(home, 2, QUICK)?;
        client::create(&broker.address, "piped", 2)?;
        produce(&broker.address, "piped", 2, 0, 3)?;
        let read = |count: &str| {
            let arguments =
                ["-G", "piping", "-c", count, "-q", "-X", "auto.offset.reset=earliest", "piped"];
            kcat::run(&broker.address, &arguments)
        };
        let first = String::from_utf8_lossy(&read("6")?).into_owned();
        let lines: BTreeSet<&str> = first.lines().collect();
        let expected = BTreeSet::from(["0/0", "0/1", "0/2", "1/0", "1/1", "1/2"]);
        ensure(lines == expected, || first.clone())?;
        // What was read is committed: another member goes on behind it.
        produce(&broker.address, "piped", 2, 3, 1)?;
        let second = String::from_utf8_lossy(&read("2")?).into_owned();
        let lines: BTreeSet<&str> = second.lines().collect();
        ensure(lines == BTreeSet::from(["0/3", "1/3"]), || second.clone())?;

        let listed = String::from_utf8_lossy(&kcat::run(&broker.address, &["-L"])?).into_owned();
        ensure(listed.contains("topic \"__consumer_offsets\" with 50 partitions"), || listed)?;
        let arguments = ["-C", "-t", "__consumer_offsets", "-o", "beginning", "-e", "-q"];
        let records = kcat::run(&broker.address, &[&arguments[..], &["-f", "%K %S\n"]].concat())?;
        let records = String::from_utf8_lossy(&records).into_owned();
        // The key of a group `piping` has 2 bytes of kind and 2 of length; some of its values are long.
        ensure(records.lines().any(|line| line.starts_with("10 ")), || records.clone())?;
        let refused = write_to_offsets(home, &broker);
        ensure(refused.is_err(), || "a client wrote to __consumer_offsets".to_owned())?;
        broker.stop()
    })
}

/// What no client may do: the coordinator would read it at its next start.
fn write_to_offsets(home: &Home, broker: &Broker) -> Result<()> {
    let line = home.file("line");
    std::fs::write(&line, "hello\n")?;
    let line = line.display().to_string();
    let arguments =
        ["-P", "-t", "__consumer_offsets", "-l", &line, "-X", "message.timeout.ms=3000"];
    kcat::run(&broker.address, &arguments).map(|_| ())
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() -> Result<()> {
    scenario("groups-deleted-topic", |home| {
        let mut broker = Broker::start_with(home, 2, QUICK)?;
        for life in 0..3 {
            client::create(&broker.address, "again", 1)?;
            let found = committed(&broker.address, "g", "again", 1)?;
            ensure(found == vec![None], || format!("life {life}: {found:?}"))?;
            produce(&broker.address, "again", 1, 0, 5)?;
            let consumer = member(&broker.address, "g", "again", &[])?;
            read_to(&[&consumer], &mut BTreeMap::new(), 1, 5)?;
            drop(consumer);
            let deleted = client::delete_topic(&broker.address, "again")?;
            deleted.map_err(|code| failure(format!("life {life}: {code}")))?;
            if life == 1 {
                broker.kill()?;
                broker = Broker::start_with(home, 2, QUICK)?;
            }
        }
        broker.stop()
    })
}

#[test]
fn internal_topics_are_what_they_are_in_kafka() -> Result<()> {
    scenario("groups-internal", |home| {
        let mut broker = Broker::start_with(home, 2, QUICK)?;
        let refused = client::create_topic(&broker.address, "__cluster_metadata", 1)?;
        ensure(refused == Err(RDKafkaErrorCode::InvalidRequest), || format!("{refused:?}"))?;

        // A client may make the topic of groups before the broker does: they live in its partitions.
        client::create(&broker.address, "__consumer_offsets", 3)?;
        let again = client::create_topic(&broker.address, "__consumer_offsets", 5)?;
        ensure(again == Err(RDKafkaErrorCode::TopicAlreadyExists), || format!("{again:?}"))?;
        client::create(&broker.address, "t", 1)?;
        produce(&broker.address, "t", 1, 0, 5)?;
        let consumer = member(&broker.address, "g", "t", &[])?;
        read_to(&[&consumer], &mut BTreeMap::new(), 1, 5)?;
        drop(consumer);
        broker.kill()?;
        broker = Broker::start_with(home, 2, QUICK)?;
        let found = committed(&broker.address, "g", "t", 1)?;
        ensure(found == [Some(5)], || format!("{found:?}"))?;

        // Nobody but the coordinators writes to it or cuts it short.
        for topic in ["__consumer_offsets", "__transaction_state", "__share_group_state"] {
            let there = client::create_topic(&broker.address, topic, 1)?;
            let offsets = topic == "__consumer_offsets";
            ensure(there.is_err() == offsets, || format!("{topic}: {there:?}"))?;
            let batch = crate::wire::Batch::of(&[b"x"], 1).encode();
            let mut wire = crate::wire::Connection::open(&broker.address)?;
            let written = wire.produce(topic, 0, -1, &batch)?;
            let invalid = RDKafkaErrorCode::InvalidTopic as i16;
            ensure(written.is_some_and(|(code, _)| code == invalid), || format!("{written:?}"))?;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, 0, Offset::End)?;
            let admin = client::admin(&broker.address)?;
            let options = rdkafka::admin::AdminOptions::new();
            let cut = futures_lite::future::block_on(admin.delete_records(&list, &options))?;
            let errors: Vec<_> = cut.elements().iter().map(|e| e.error()).collect();
            let code = errors.first().and_then(|e| e.as_ref().err()?.rdkafka_error_code());
            ensure(code == Some(RDKafkaErrorCode::InvalidTopic), || format!("{errors:?}"))?;
        }

        // Whoever deletes it deletes the groups; the next to ask for a coordinator has a new one.
        let deleted = client::delete_topic(&broker.address, "__consumer_offsets")?;
        deleted.map_err(|code| failure(format!("deleting: {code}")))?;
        let found = committed(&broker.address, "g", "t", 1)?;
        ensure(found == [None], || format!("{found:?}"))?;
        let consumer = member(&broker.address, "g", "t", &[])?;
        read_to(&[&consumer], &mut BTreeMap::new(), 1, 5)?;
        let listed = String::from_utf8_lossy(&kcat::run(&broker.address, &["-L"])?).into_owned();
        ensure(listed.contains("topic \"__consumer_offsets\" with 50 partitions"), || listed)?;
        broker.stop()
    })
}
