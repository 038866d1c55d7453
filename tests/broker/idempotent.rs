//! Idempotent producers: Kafka's rules spoken by hand, and librdkafka through `kill -9`.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client::{self, Deliveries};
use crate::outcome::{Result, ensure, eventually, failure};
use crate::wire::{Batch, Bytes, Connection, DESCRIBE_PRODUCERS, INIT_PRODUCER_ID};

const KILLS: usize = 20;
const PARTITIONS: usize = 4;

const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;

/// One librdkafka producer lives through every kill and sends again what it has not heard of.
#[test]
fn kill_under_idempotent_load_loses_and_doubles_nothing() -> Result<()> {
    scenario("idempotent-kill", |home| {
        let address = Broker::lasting_address()?;
        let mut broker = Broker::start_at(home, 2, &address)?;
        client::create(&address, "once", i32::try_from(PARTITIONS)?)?;
        let settings = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.send.max.retries", "1000000"),
            ("message.timeout.ms", "0"),
            ("retry.backoff.ms", "10"),
            ("retry.backoff.max.ms", "50"),
            ("reconnect.backoff.ms", "10"),
            ("reconnect.backoff.max.ms", "100"),
            ("queue.buffering.max.messages", "2000"),
            ("batch.num.messages", "20"),
        ];
        let (producer, deliveries) = client::producer(&address, &settings)?;
        let mut sent = vec![0_usize; PARTITIONS];
        let mut acked = 0;
        for kill in 0..KILLS {
            let enough = acked + 300 + 37 * kill;
            while acked < enough {
                fill(&producer, &mut sent)?;
                producer.poll(Duration::from_millis(1));
                for delivery in deliveries.try_iter() {
                    delivery.offset?;
                    acked += 1;
                }
            }
            fill(&producer, &mut sent)?;
            broker.kill()?;
            // 1, 2, 1, 2, ... cores on the same port.
            broker = Broker::start_at(home, 1 + kill % 2, &address)?;
        }
        producer.flush(PATIENCE)?;
        for delivery in deliveries.try_iter() {
            delivery.offset?;
            acked += 1;
        }
        let total: usize = sent.iter().sum();
        ensure(acked == total, || format!("{acked} of {total} acknowledged"))?;
        let logs = client::read_from(&address, "once", &[0; PARTITIONS])?;
        for (partition, (log, sent)) in logs.iter().zip(&sent).enumerate() {
            let wrong = log.iter().enumerate().find(|(at, stored)| stored.value != value(*at));
            ensure(wrong.is_none(), || format!("partition {partition}: {wrong:?}"))?;
            ensure(log.len() == *sent, || {
                format!("partition {partition}: {} records of {sent} sent", log.len())
            })?;
        }
        eprintln!("{KILLS} kills, {total} records sent, each is there once");
        broker.stop()
    })
}

fn value(number: usize) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

/// Fills the producer's queue, round robin.
fn fill(producer: &BaseProducer<Deliveries>, sent: &mut [usize]) -> Result<()> {
    loop {
        for (partition, sent) in sent.iter_mut().enumerate() {
            let bytes = value(*sent);
            let record: BaseRecord<'_, (), Vec<u8>, usize> =
                BaseRecord::with_opaque_to("once", *sent)
                    .partition(i32::try_from(partition)?)
                    .payload(&bytes);
            match producer.send(record) {
                Ok(()) => *sent += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    return Ok(());
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

fn init(connection: &mut Connection, transactional_id: Option<&str>) -> Result<(i16, i64, i16)> {
    let body = match transactional_id {
        Some(id) => Bytes::default().string(id),
        None => Bytes::default().i16(-1),
    };
    let mut answer = connection.call(INIT_PRODUCER_ID, 0, &body.i32(60_000))?;
    let _throttle = answer.i32()?;
    Ok((answer.i16()?, answer.i64()?, answer.i16()?))
}

fn batch(producer: (i64, i16), sequence: i32, count: i64) -> Vec<u8> {
    let values: Vec<Vec<u8>> = (0..count).map(|i| format!("{sequence}+{i}").into_bytes()).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    Batch::of(&values, millstream::time::Clock::timestamp().0)
        .with(|b| b.producer = (producer.0, producer.1, sequence))
        .encode()
}

#[test]
fn producers_follow_kafkas_rules() -> Result<()> {
    scenario("idempotent-rules", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "rules", 2)?;
        let mut ids = Vec::new();
        for _ in 0..3 {
            // Each on a connection, and so perhaps a core, of its own.
            let mut connection = Connection::open(&broker.address)?;
            for _ in 0..700 {
                let (error, id, epoch) = init(&mut connection, None)?;
                ensure((error, epoch) == (0, 0), || format!("InitProducerId: {error} {epoch}"))?;
                ids.push(id);
            }
        }
        let mut connection = Connection::open(&broker.address)?;
        let refused = init(&mut connection, Some("payments"))?;
        ensure(refused == (UNSUPPORTED_VERSION, -1, 0), || format!("{refused:?}"))?;
        let refused = init(&mut connection, Some(""))?;
        ensure(refused == (INVALID_REQUEST, -1, 0), || format!("{refused:?}"))?;
        // The log is written by a thread of its own.
        eventually("the broker's log says why", PATIENCE, || {
            let said = broker.said()?;
            Ok((said.contains("transactions") && said.contains("payments")).then_some(()))
        })?;

        let id = *ids.first().ok_or_else(|| failure("no id"))?;
        for partition in 0..2 {
            let mut expect = |producer, sequence, count, expected: (i16, i64)| {
                let sent = batch(producer, sequence, count);
                let got = connection.produce("rules", partition, -1, &sent)?;
                ensure(got == Some(expected), || {
                    format!("{producer:?} sequence {sequence}, {count} records: {got:?}")
                })
            };
            // What nothing is known of may begin anywhere.
            expect((id, 3), 10, 2, (0, 0))?;
            expect((id, 3), 12, 3, (0, 2))?;
            expect((id, 3), 10, 2, (0, 0))?;
            expect((id, 3), 12, 3, (0, 2))?;
            expect((id, 3), 12, 2, (OUT_OF_ORDER_SEQUENCE_NUMBER, -1))?;
            expect((id, 3), 16, 1, (OUT_OF_ORDER_SEQUENCE_NUMBER, -1))?;
            expect((id, 2), 15, 1, (INVALID_PRODUCER_EPOCH, -1))?;
            expect((id, 4), 15, 1, (OUT_OF_ORDER_SEQUENCE_NUMBER, -1))?;
            expect((id, 4), 0, 1, (0, 5))?;
            expect((id, 3), 12, 3, (INVALID_PRODUCER_EPOCH, -1))?;
            expect((id, 4), 1, 1, (0, 6))?;
        }
        broker.kill()?;

        let broker = Broker::start(home)?;
        let mut connection = Connection::open(&broker.address)?;
        for partition in 0..2 {
            for (sequence, expected) in [(1, (0, 6)), (0, (0, 5)), (3, (45, -1)), (2, (0, 7))] {
                let sent = batch((id, 4), sequence, 1);
                let got = connection.produce("rules", partition, -1, &sent)?;
                ensure(got == Some(expected), || format!("after a kill: {sequence}: {got:?}"))?;
            }
        }
        for _ in 0..700 {
            ids.push(init(&mut connection, None)?.1);
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        ensure(ids.len() == count, || format!("{count} ids, {} different", ids.len()))?;
        describes(&mut connection, id)?;
        broker.stop()
    })
}

/// DescribeProducers v0: both partitions know the producer, and a third one there is not.
fn describes(connection: &mut Connection, id: i64) -> Result<()> {
    let body = Bytes::default().varint(0).varint(2).varint(6).raw(b"rules");
    let body = body.varint(4).i32(0).i32(1).i32(2).varint(0).varint(0);
    let mut answer = connection.call(DESCRIBE_PRODUCERS, 0, &body)?;
    // Tags, throttle time, topics, name.
    let head = answer.bytes(1 + 4 + 1 + 6)?;
    ensure(head == *b"\0\0\0\0\0\x02\x06rules", || format!("{head:?}"))?;
    let partitions = answer.bytes(1)?;
    ensure(partitions == [4], || format!("{partitions:?}"))?;
    for partition in 0..2 {
        ensure(answer.i32()? == partition && answer.i16()? == 0, || format!("{partition}"))?;
        let message_and_count = answer.bytes(2)?;
        ensure(message_and_count == [0, 2], || format!("{message_and_count:?}"))?;
        let (known, epoch, sequence) = (answer.i64()?, answer.i32()?, answer.i32()?);
        ensure((known, epoch, sequence) == (id, 4, 2), || format!("{known} {epoch} {sequence}"))?;
        let age = millstream::time::Clock::timestamp().0 - answer.i64()?;
        ensure(age >= 0, || format!("a timestamp {age} ms ago"))?;
        let (coordinator, transaction) = (answer.i32()?, answer.i64()?);
        ensure((coordinator, transaction) == (-1, -1), || format!("{coordinator} {transaction}"))?;
        ensure(answer.bytes(2)? == [0, 0], || "tags".to_owned())?;
    }
    ensure(answer.i32()? == 2 && answer.i16()? == 3, || "a third partition".to_owned())
}

#[test]
fn producers_expire() -> Result<()> {
    scenario("idempotent-expire", |home| {
        let settings = [
            ("producer.id.expiration.ms", "200"),
            ("producer.id.expiration.check.interval.ms", "20"),
        ];
        let broker = Broker::start_with(home, 2, &settings)?;
        client::create(&broker.address, "short", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        let first = connection.produce("short", 0, -1, &batch((5, 0), 0, 1))?;
        ensure(first == Some((0, 0)), || format!("{first:?}"))?;
        // Once it is forgotten, a gap in its sequence is none any more.
        eventually("the producer is forgotten", PATIENCE, || {
            let sent = connection.produce("short", 0, -1, &batch((5, 0), 9, 1))?;
            Ok((sent == Some((0, 1))).then_some(()))
        })?;
        broker.stop()
    })
}
