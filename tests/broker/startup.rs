//! How fast it is there, and how little it does when nothing happens. Figures are printed, not asserted:
//! they belong to the machine and the build profile.

use std::time::Duration;

use millstream::time::Clock;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client;
use crate::outcome::{Context, Result, ensure, eventually, pause};
use crate::wire::{Batch, Bytes, Connection, METADATA};

#[test]
fn first_ack_from_an_empty_directory() -> Result<()> {
    scenario("startup-empty", |home| {
        let started = Clock::monotonic();
        let broker = Broker::start(home)?;
        let mut connection = Connection::open(&broker.address)?;
        let create = Bytes::default().i32(1).string("first").i8(1);
        let batch = Batch::of(&[b"first"], Clock::timestamp().0).encode();
        eventually("the first record is acknowledged", PATIENCE, || {
            connection.call(METADATA, 4, &create)?;
            Ok(connection.produce("first", 0, -1, &batch)?.filter(|(error, _)| *error == 0))
        })?;
        eprintln!(
            "start to first record acknowledged with acks=all: {:?}",
            Clock::monotonic().since(started)
        );
        broker.stop()
    })
}

const PARTITIONS: i32 = 1_000;
/// Enough to fill the journals of two cores at their default size.
const FILL: usize = 256 << 20;
const RECORD: usize = 16 << 10;

#[test]
fn ready_after_kill_with_a_thousand_partitions() -> Result<()> {
    scenario("startup-kill", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "wide", PARTITIONS)?;
        let (producer, deliveries) = client::producer(&broker.address, &[("acks", "1")])?;
        let value = vec![b'x'; RECORD];
        for index in 0..FILL / RECORD {
            loop {
                let record: BaseRecord<'_, (), Vec<u8>, usize> =
                    BaseRecord::with_opaque_to("wide", index)
                        .partition(i32::try_from(index)? % PARTITIONS)
                        .payload(&value);
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        producer.poll(Duration::from_millis(1));
                    }
                    Err((error, _)) => return Err(error.into()),
                }
            }
        }
        producer.flush(PATIENCE)?;
        let mut acked = 0i64;
        for delivery in deliveries.try_iter() {
            delivery.offset.context(|| format!("record {}", delivery.index))?;
            acked += 1;
        }
        broker.kill()?;

        let started = Clock::monotonic();
        let broker = Broker::start(home)?;
        eprintln!(
            "ready after kill -9 with {PARTITIONS} partitions and {} MiB: {:?}",
            FILL >> 20,
            Clock::monotonic().since(started)
        );
        let consumer = client::consumer(&broker.address)?;
        let sum: i64 = client::high_watermarks(&consumer, "wide", PARTITIONS)?.iter().sum();
        ensure(sum == acked, || format!("{sum} records readable, {acked} acknowledged"))?;
        broker.stop()
    })
}

#[test]
fn idle_shards_use_little_cpu() -> Result<()> {
    scenario("startup-idle", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "idle", 64)?;
        let _connection = Connection::open(&broker.address)?;
        // Work that follows a start is not idling.
        pause(Duration::from_secs(1));
        let (ticks, started) = (broker.cpu_ticks()?, Clock::monotonic());
        pause(Duration::from_secs(4));
        let used = broker.cpu_ticks()? - ticks;
        let elapsed = Clock::monotonic().since(started).as_millis();
        let used_ms = u128::from(used * 1000 / rustix::param::clock_ticks_per_second());
        let per_mille = used_ms * 1000 / elapsed / 2;
        eprintln!("idle: {}.{} % of a CPU per shard", per_mille / 10, per_mille % 10);
        // CPU time does not grow with the machine's load: this much means that a shard polls.
        ensure(per_mille < 500, || format!("{per_mille} per mille of a CPU per shard while idle"))?;
        broker.stop()
    })
}
