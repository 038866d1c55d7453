//! A million records through a restart.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client;
use crate::outcome::{Context, Result, ensure, failure};

const RECORDS: usize = 1_000_000;
const PARTITIONS: usize = 8;
const SIZE: usize = 100;
const TOPIC: &str = "million";

/// The value of record `number`: its number, then bytes that follow from it.
fn value(number: usize, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(format!("{number:016}").as_bytes());
    let mut state = u64::try_from(number).unwrap_or(u64::MAX);
    while into.len() < SIZE {
        // SplitMix64: neighbours share nothing, so a record out of place cannot look right.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        into.extend_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes());
    }
    into.truncate(SIZE);
}

#[test]
fn a_million_records_survive_a_restart() -> Result<()> {
    scenario("million", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, TOPIC, i32::try_from(PARTITIONS)?)?;
        produce(&broker.address)?;
        broker.stop()?;

        let broker = Broker::start(home)?;
        let mut expected = Vec::new();
        let mut next = [0; PARTITIONS];
        client::visit_from(&broker.address, TOPIC, &[0; PARTITIONS], |partition, message| {
            let count = next.get_mut(partition).ok_or_else(|| failure("no such partition"))?;
            value(*count * PARTITIONS + partition, &mut expected);
            *count += 1;
            ensure(message.payload() == Some(&expected[..]), || {
                format!("{partition}:{} differs", message.offset())
            })
        })?;
        let read: usize = next.iter().sum();
        ensure(read == RECORDS, || format!("{read} of {RECORDS} records came back"))?;
        broker.stop()
    })
}

fn produce(address: &str) -> Result<()> {
    let settings = [("acks", "all"), ("batch.num.messages", "10000"), ("linger.ms", "20")];
    let (producer, deliveries) = client::producer(address, &settings)?;
    let mut delivered = 0;
    let mut settle = || -> Result<()> {
        for delivery in deliveries.try_iter() {
            let offset = delivery.offset.context(|| format!("record {}", delivery.index))?;
            let place =
                usize::try_from(offset)? * PARTITIONS + usize::try_from(delivery.partition)?;
            ensure(place == delivery.index, || {
                format!("record {} acknowledged at {place}", delivery.index)
            })?;
            delivered += 1;
        }
        Ok(())
    };
    let mut bytes = Vec::new();
    for number in 0..RECORDS {
        value(number, &mut bytes);
        loop {
            let record: BaseRecord<'_, (), Vec<u8>, usize> =
                BaseRecord::with_opaque_to(TOPIC, number)
                    .partition(i32::try_from(number % PARTITIONS)?)
                    .payload(&bytes);
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(1));
                    settle()?;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(PATIENCE)?;
    settle()?;
    ensure(delivered == RECORDS, || format!("{delivered} of {RECORDS} records acknowledged"))
}
