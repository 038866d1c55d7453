//! librdkafka, as these tests use it.

use std::sync::mpsc;
use std::time::Duration;

use futures_lite::future::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::broker::PATIENCE;
use crate::outcome::{Context, Result, ensure, eventually, failure};

/// The settings every client here starts from.
pub(crate) fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("broker.address.family", "v4");
    config
}

/// An admin client.
pub(crate) fn admin(address: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(config(address).create()?)
}

/// Creates a topic with one replica; Kafka's error code if it is refused.
pub(crate) fn create_topic(
    address: &str,
    name: &str,
    partitions: i32,
) -> Result<std::result::Result<(), RDKafkaErrorCode>> {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let results = block_on(admin(address)?.create_topics([&topic], &AdminOptions::new()))?;
    let result =
        results.into_iter().next().ok_or_else(|| failure("CreateTopics answered nothing"))?;
    Ok(result.map(|_| ()).map_err(|(_, code)| code))
}

/// Creates a topic that must not be refused.
pub(crate) fn create(address: &str, name: &str, partitions: i32) -> Result<()> {
    create_topic(address, name, partitions)?
        .map_err(|code| failure(format!("creating {name}: {code}")))
}

/// Deletes a topic; Kafka's error code if it is refused.
pub(crate) fn delete_topic(
    address: &str,
    name: &str,
) -> Result<std::result::Result<(), RDKafkaErrorCode>> {
    let results = block_on(admin(address)?.delete_topics(&[name], &AdminOptions::new()))?;
    let result =
        results.into_iter().next().ok_or_else(|| failure("DeleteTopics answered nothing"))?;
    Ok(result.map(|_| ()).map_err(|(_, code)| code))
}

// Producing.

/// What became of one record.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The number it was sent with.
    pub(crate) index: usize,
    pub(crate) partition: i32,
    /// Its offset (negative under acks=0), or why it was not acknowledged.
    pub(crate) offset: std::result::Result<i64, KafkaError>,
}

/// Passes every delivery on.
pub(crate) struct Deliveries(mpsc::Sender<Delivery>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let delivery = match result {
            Ok(m) => Delivery { index, partition: m.partition(), offset: Ok(m.offset()) },
            Err((error, m)) => {
                Delivery { index, partition: m.partition(), offset: Err(error.clone()) }
            }
        };
        // The receiver goes first when a test has failed.
        let _ = self.0.send(delivery);
    }
}

/// A producer and where its deliveries arrive. It never retries: what is acknowledged was sent once.
pub(crate) fn producer(
    address: &str,
    settings: &[(&str, &str)],
) -> Result<(BaseProducer<Deliveries>, mpsc::Receiver<Delivery>)> {
    let (sender, receiver) = mpsc::channel();
    let mut config = config(address);
    config.set("enable.idempotence", "false").set("message.send.max.retries", "0");
    config.set("queue.buffering.max.messages", "100000").set("linger.ms", "2");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    Ok((config.create_with_context(Deliveries(sender))?, receiver))
}

// Reading.

/// A record as a consumer got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    fn of(message: &BorrowedMessage<'_>) -> Stored {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
        });
        Stored {
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// A consumer without a group: it is assigned its partitions and commits nothing.
pub(crate) fn consumer(address: &str) -> Result<BaseConsumer> {
    let mut config = config(address);
    // librdkafka wants a group's name even where no group is used.
    config
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error");
    config
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "10");
    config.set("queued.max.messages.kbytes", "65536");
    Ok(config.create()?)
}

/// The log end of every partition as consumers see it: the high watermarks.
pub(crate) fn high_watermarks(
    consumer: &BaseConsumer,
    topic: &str,
    partitions: i32,
) -> Result<Vec<i64>> {
    let watermark = |partition| {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, PATIENCE)
            .context(|| format!("watermarks of {topic}-{partition}"))?;
        ensure(0 <= low && low <= high, || {
            format!("{topic}-{partition}: watermarks {low}, {high}")
        })?;
        Ok(high)
    };
    (0..partitions).map(watermark).collect()
}

/// Waits until the topic holds `count` records. Under acks=0 there is nothing else to wait on.
pub(crate) fn await_records(
    address: &str,
    topic: &str,
    partitions: i32,
    count: usize,
) -> Result<()> {
    let consumer = consumer(address)?;
    let count = i64::try_from(count)?;
    eventually(&format!("{topic} holds {count} records"), PATIENCE, || {
        let sum: i64 = high_watermarks(&consumer, topic, partitions)?.iter().sum();
        ensure(sum <= count, || format!("{topic} holds {sum} records, {count} were sent"))?;
        Ok((sum == count).then_some(()))
    })
}

/// Reads every partition from its start to its high watermark; offsets must follow one another.
pub(crate) fn read_from(address: &str, topic: &str, starts: &[i64]) -> Result<Vec<Vec<Stored>>> {
    let mut read: Vec<Vec<Stored>> = starts.iter().map(|_| Vec::new()).collect();
    visit_from(address, topic, starts, |partition, message| {
        let log = read.get_mut(partition).ok_or_else(|| failure("a partition not asked for"))?;
        log.push(Stored::of(message));
        Ok(())
    })?;
    Ok(read)
}

/// Shows `visit` every record of every partition from its start to its high watermark, in order.
/// Answers where each ends.
pub(crate) fn visit_from(
    address: &str,
    topic: &str,
    starts: &[i64],
    mut visit: impl FnMut(usize, &BorrowedMessage<'_>) -> Result<()>,
) -> Result<Vec<i64>> {
    let consumer = consumer(address)?;
    let ends = high_watermarks(&consumer, topic, i32::try_from(starts.len())?)?;
    let mut next = starts.to_vec();
    let mut left = 0;
    let mut assignment = TopicPartitionList::new();
    for (partition, (start, end)) in starts.iter().zip(&ends).enumerate() {
        ensure(start <= end, || format!("{topic}-{partition} ends at {end}, below {start}"))?;
        if start < end {
            assignment.add_partition_offset(
                topic,
                i32::try_from(partition)?,
                Offset::Offset(*start),
            )?;
            left += end - start;
        }
    }
    consumer.assign(&assignment)?;
    while left > 0 {
        let message = eventually(&format!("{left} more records of {topic}"), PATIENCE, || {
            Ok(consumer.poll(Duration::from_millis(100)).transpose()?)
        })?;
        let partition = usize::try_from(message.partition())?;
        let (Some(expected), Some(end)) = (next.get_mut(partition), ends.get(partition)) else {
            return Err(failure(format!(
                "a record of {topic}-{partition}, which was not asked for"
            )));
        };
        let offset = message.offset();
        ensure(offset == *expected, || {
            format!("{topic}-{partition}: offset {offset} where {expected} follows")
        })?;
        *expected += 1;
        // A producer may be at work: what lies behind the end is for the next reader.
        if offset < *end {
            left -= 1;
            visit(partition, &message)?;
        }
    }
    Ok(ends)
}

/// The first offset whose record has this timestamp or a later one.
pub(crate) fn offset_at(address: &str, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(timestamp))?;
    let told = consumer(address)?.offsets_for_times(asked, PATIENCE)?;
    match told.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Ok(offset),
        other => Err(failure(format!("{topic}-{partition} at {timestamp}: {other:?}"))),
    }
}
