//! Compaction with real clients: what is left of a compacted topic, and of the offsets topic.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_lite::future::block_on;
use millstream::time::Clock;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{Broker, Home, PATIENCE, scenario};
use crate::outcome::{Result, ensure, eventually, failure};
use crate::wire::{Batch, Bytes, Connection};
use crate::{client, kcat};

const INVALID_RECORD: i16 = 87;
const POLICY_VIOLATION: i16 = 44;
const OFFSET_COMMIT: i16 = 8;
const DELETE_RECORDS: i16 = 21;

/// Small files, and a look for something to compact whenever there is time.
const SETTINGS: &[(&str, &str)] = &[
    ("journal.ring.bytes", "4MiB"),
    ("log.cleaner.backoff.ms", "50"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.segment.bytes", "1MiB"),
];

fn start(home: &Home) -> Result<Broker> {
    Broker::start_with(home, 2, SETTINGS)
}

fn create(address: &str, name: &str, configs: &[(&str, &str)]) -> Result<()> {
    let mut topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    for (key, value) in configs {
        topic = topic.set(key, value);
    }
    let results = block_on(client::admin(address)?.create_topics([&topic], &AdminOptions::new()))?;
    ensure(results.iter().all(std::result::Result::is_ok), || format!("{results:?}"))
}

/// Key and value by offset.
type Found = BTreeMap<i64, (Vec<u8>, Option<Vec<u8>>)>;

/// Every record up to the high watermark, which never comes nearer.
fn read(address: &str, topic: &str) -> Result<Found> {
    let consumer = client::consumer(address)?;
    let (low, high) = consumer.fetch_watermarks(topic, 0, PATIENCE)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(low))?;
    consumer.assign(&assignment)?;
    let mut found = Found::new();
    let mut next = low;
    while next < high {
        let message = eventually("one more record", PATIENCE, || {
            Ok(consumer.poll(Duration::from_millis(100)).transpose()?)
        })?;
        ensure(message.offset() >= next, || format!("{} after {next}", message.offset()))?;
        next = message.offset() + 1;
        let key = message.key().map(<[u8]>::to_vec).ok_or_else(|| failure("no key"))?;
        found.insert(message.offset(), (key, message.payload().map(<[u8]>::to_vec)));
    }
    Ok(found)
}

/// Base offsets and sizes of a partition's segments.
fn segments(directory: &Path) -> Result<BTreeMap<i64, u64>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A file may have gone since it was listed.
        if let (Some(base), Ok(metadata)) = (name.strip_suffix(".log"), std::fs::metadata(&path)) {
            found.insert(base.parse()?, metadata.len());
        }
    }
    Ok(found)
}

type Model = BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)>;

/// Produces records of some keys, now and then a tombstone, and notes the last of each key.
fn produce(address: &str, topic: &str, codec: &str, count: usize, last: &mut Model) -> Result<()> {
    let (producer, deliveries) = client::producer(
        address,
        &[
            ("enable.idempotence", "true"),
            ("message.send.max.retries", "10"),
            ("compression.codec", codec),
            ("acks", "all"),
        ],
    )?;
    let filler = "x".repeat(400);
    let mut sent = Vec::new();
    for index in 0..count {
        let key = format!("key-{}", (index * 7919) % 997).into_bytes();
        let value = (index % 13 != 0).then(|| format!("{codec} {index} {filler}").into_bytes());
        loop {
            let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, index);
            record = record.key(&key);
            if let Some(value) = &value {
                record = record.payload(value);
            }
            if producer.send(record).is_ok() {
                break;
            }
            producer.poll(Duration::from_millis(10));
        }
        sent.push((key, value));
    }
    producer.flush(PATIENCE)?;
    for _ in 0..count {
        let delivery = deliveries.recv_timeout(PATIENCE).map_err(|e| failure(e.to_string()))?;
        let offset = delivery.offset?;
        let (key, value) = sent.get(delivery.index).cloned().unwrap_or_default();
        let known = last.entry(key).or_insert((-1, None));
        if offset > known.0 {
            *known = (offset, value);
        }
    }
    Ok(())
}

/// Whether below `head` every key is there once at most; and always: the last value of every key is there.
fn is_compacted(address: &str, topic: &str, last: &Model, head: i64) -> Result<bool> {
    let found = read(address, topic)?;
    for (key, (offset, value)) in last {
        match (found.get(offset), value) {
            (Some((k, v)), _) if k == key && v == value => {}
            (None, None) => {}
            (other, _) => {
                return Err(failure(format!(
                    "the last record of {} at {offset} is {other:?}",
                    String::from_utf8_lossy(key)
                )));
            }
        }
    }
    let mut keys: Vec<_> = found.range(..head).map(|(_, (key, _))| key).collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    Ok(keys.len() == count)
}

#[test]
fn the_last_value_of_every_key_is_left() -> Result<()> {
    scenario("compaction", |home| {
        let broker = start(home)?;
        let configs = [("cleanup.policy", "compact"), ("segment.bytes", "1048576")];
        create(&broker.address, "kept", &configs)?;
        let mut last = Model::new();
        for codec in ["none", "lz4", "none", "zstd", "none"] {
            produce(&broker.address, "kept", codec, 6_000, &mut last)?;
        }
        ensure(last.len() == 997, || format!("{} keys", last.len()))?;
        let directory = home.data().join("kept-0");
        // The newest file may be that of the active segment: everything below it is compacted in the end.
        let head = eventually("older values go", PATIENCE, || {
            let head = segments(&directory)?.keys().next_back().copied().unwrap_or(0);
            let done = head > 20_000 && is_compacted(&broker.address, "kept", &last, head)?;
            Ok(done.then_some(head))
        })?;
        let left = read(&broker.address, "kept")?.range(..head).count();
        ensure(left < 2 * last.len(), || format!("{left} records are left below {head}"))?;

        // Another client sees the same.
        let output = kcat::run(
            &broker.address,
            &["-C", "-t", "kept", "-o", "beginning", "-e", "-q", "-f", "%o %k %S\n"],
        )?;
        let lines = String::from_utf8(output)?;
        let mut offsets = BTreeMap::new();
        for line in lines.lines() {
            let mut fields = line.split(' ');
            let offset: i64 = fields.next().unwrap_or_default().parse()?;
            offsets.insert(offset, fields.next().unwrap_or_default().as_bytes().to_vec());
        }
        for (key, (offset, value)) in last.iter().filter(|(_, (_, value))| value.is_some()) {
            ensure(offsets.get(offset) == Some(key), || {
                format!("kcat did not get {offset} ({} bytes)", value.as_ref().map_or(0, Vec::len))
            })?;
        }

        broker.kill()?;
        let broker = start(home)?;
        ensure(is_compacted(&broker.address, "kept", &last, head)?, || {
            format!("values below {head} are back after a kill")
        })?;
        // It goes on: what is written now is compacted with the rest.
        produce(&broker.address, "kept", "none", 12_000, &mut last)?;
        eventually("older values go again", PATIENCE, || {
            let next = segments(&directory)?.keys().next_back().copied().unwrap_or(0);
            let done = next > head && is_compacted(&broker.address, "kept", &last, next)?;
            Ok(done.then_some(()))
        })?;
        eventually("no file under another name is left", PATIENCE, || {
            let entries = std::fs::read_dir(&directory)?.flatten();
            let left = entries.filter(|e| e.file_name().to_string_lossy().ends_with(".cleaned"));
            Ok((left.count() == 0).then_some(()))
        })?;
        broker.stop()
    })
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() -> Result<()> {
    scenario("compaction-keyless", |home| {
        let broker = start(home)?;
        create(&broker.address, "keyed", &[("cleanup.policy", "compact,delete")])?;
        let mut connection = Connection::open(&broker.address)?;
        let keyless = Batch::of(&[b"value"], Clock::timestamp().0).encode();
        let produced = connection.produce("keyed", 0, -1, &keyless)?;
        ensure(produced.is_some_and(|(error, _)| error == INVALID_RECORD), || {
            format!("{produced:?}")
        })?;
        ensure(connection.log_end("keyed", 0)? == 0, || "it was stored".to_owned())?;
        // Without `delete` in the policy, records go by tombstones only.
        create(&broker.address, "compacted", &[("cleanup.policy", "compact")])?;
        for (topic, expected) in [("keyed", 0), ("compacted", POLICY_VIOLATION)] {
            let body = Bytes::default().i32(1).string(topic).i32(1).i32(0).i64(0).i32(1000);
            let mut answer = connection.call(DELETE_RECORDS, 1, &body)?;
            let _ = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
            let (_, error) = (answer.i64()?, answer.i16()?);
            ensure(error == expected, || format!("DeleteRecords of {topic} answered {error}"))?;
        }
        broker.stop()
    })
}

#[test]
fn a_restart_reads_few_of_many_commits() -> Result<()> {
    const COMMITS: i64 = 3_000;
    scenario("compaction-offsets", |home| {
        let broker = start(home)?;
        client::create(&broker.address, "t", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        connection.find_coordinator("g")?;
        // 4,000 characters with each: 3,000 commits make eleven segments.
        let metadata = "m".repeat(4_000);
        for offset in 0..COMMITS {
            let head = Bytes::default().string("g").i32(-1).string("").i64(-1);
            let body = head.i32(1).string("t").i32(1).i32(0).i64(offset).string(&metadata);
            let mut answer = connection.call(OFFSET_COMMIT, 2, &body)?;
            let _ = (answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
            let error = answer.i16()?;
            ensure(error == 0, || format!("commit {offset} answered {error}"))?;
        }
        let directory = home.data().join("__consumer_offsets-0");
        eventually("old commits go", PATIENCE, || {
            let sealed = segments(&directory)?;
            let active = sealed.keys().next_back().copied().unwrap_or(0);
            let bytes: u64 = sealed.range(..active).map(|(_, bytes)| bytes).sum();
            Ok((active > COMMITS / 2 && bytes < 64 << 10).then_some(()))
        })?;
        broker.kill()?;
        let broker = start(home)?;
        let mut connection = Connection::open(&broker.address)?;
        let committed = eventually("the group is loaded", PATIENCE, || {
            Ok(connection.committed("g", "t", 0)?.ok())
        })?;
        ensure(committed == COMMITS - 1, || format!("committed is {committed}"))?;
        let said = broker.said()?;
        let line = said.lines().find(|line| line.contains("groups loaded")).unwrap_or_default();
        let count = line.split("records=").nth(1).and_then(|rest| rest.split(' ').next());
        let count: i64 = count.unwrap_or_default().parse()?;
        ensure(count < COMMITS / 3, || format!("the restart has read {count} of {COMMITS}"))?;
        broker.stop()
    })
}
