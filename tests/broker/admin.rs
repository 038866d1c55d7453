//! Topics: created, listed, deleted, and created again under the same name.

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client;
use crate::kcat;
use crate::outcome::{Result, ensure};
use crate::wire::{Batch, Connection};

#[test]
fn topics_are_created_listed_and_deleted() -> Result<()> {
    scenario("admin-topics", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "first", 3)?;
        client::create(&broker.address, "second", 64)?;
        let again = client::create_topic(&broker.address, "first", 3)?;
        ensure(again == Err(RDKafkaErrorCode::TopicAlreadyExists), || {
            format!("created twice: {again:?}")
        })?;
        let listed = list(&broker.address)?;
        ensure(listed.contains("topic \"first\" with 3 partitions"), || listed.clone())?;
        ensure(listed.contains("topic \"second\" with 64 partitions"), || listed.clone())?;

        let deleted = client::delete_topic(&broker.address, "second")?;
        ensure(deleted.is_ok(), || format!("deleted: {deleted:?}"))?;
        let unknown = client::delete_topic(&broker.address, "second")?;
        ensure(unknown == Err(RDKafkaErrorCode::UnknownTopicOrPartition), || {
            format!("deleted twice: {unknown:?}")
        })?;
        broker.stop()?;

        let broker = Broker::start(home)?;
        let listed = list(&broker.address)?;
        ensure(listed.contains("topic \"first\" with 3 partitions"), || listed.clone())?;
        ensure(!listed.contains("second"), || listed.clone())?;
        broker.stop()
    })
}

fn list(address: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&kcat::run(address, &["-L"])?).into_owned())
}

#[test]
fn a_topic_comes_into_being_with_its_first_record() -> Result<()> {
    scenario("admin-auto", |home| {
        let line = home.file("line");
        std::fs::write(&line, "hello\n")?;
        let line = line.display().to_string();
        let broker = Broker::start_with(home, 2, &[("num.partitions", "5")])?;

        // A consumer's metadata request does not ask for it to be created.
        let consumer = client::consumer(&broker.address)?;
        let metadata = consumer.fetch_metadata(Some("made-by-use"), PATIENCE)?;
        let error = metadata.topics().first().and_then(rdkafka::metadata::MetadataTopic::error);
        ensure(error.is_some(), || "a topic nobody made has no error".to_owned())?;
        let listed = list(&broker.address)?;
        ensure(!listed.contains("made-by-use"), || listed.clone())?;

        kcat::run(&broker.address, &["-P", "-t", "made-by-use", "-l", &line])?;
        let listed = list(&broker.address)?;
        ensure(listed.contains("topic \"made-by-use\" with 5 partitions"), || listed.clone())?;
        let read = kcat::run(
            &broker.address,
            &["-C", "-t", "made-by-use", "-o", "beginning", "-e", "-q"],
        )?;
        ensure(read == b"hello\n", || String::from_utf8_lossy(&read).into_owned())?;
        broker.stop()?;

        let broker = Broker::start_with(home, 2, &[("auto.create.topics.enable", "false")])?;
        let refused = kcat::run(
            &broker.address,
            &["-P", "-t", "not-made", "-l", &line, "-X", "message.timeout.ms=3000"],
        );
        ensure(refused.is_err(), || "a record went to a topic that may not be created".to_owned())?;
        let listed = list(&broker.address)?;
        ensure(!listed.contains("not-made"), || listed.clone())?;
        broker.stop()
    })
}

#[test]
fn a_topic_made_again_holds_nothing_old() -> Result<()> {
    scenario("admin-again", |home| {
        let mut broker = Broker::start(home)?;
        for life in 0..3 {
            client::create(&broker.address, "again", 2)?;
            for partition in 0..2 {
                let mut connection = Connection::open(&broker.address)?;
                let end = connection.log_end("again", partition)?;
                ensure(end == 0, || format!("life {life}: partition {partition} begins at {end}"))?;
                let value = format!("life {life}");
                let batch =
                    Batch::of(&[value.as_bytes()], millstream::time::Clock::timestamp().0).encode();
                let produced = connection.produce("again", partition, -1, &batch)?;
                ensure(produced == Some((0, 0)), || format!("life {life}: {produced:?}"))?;
            }
            // Also across restarts: after the first life a clean one, after the second a kill.
            match life {
                0 => broker.stop()?,
                1 => broker.kill()?,
                _ => drop(broker),
            }
            broker = Broker::start(home)?;
            let logs = client::read_from(&broker.address, "again", &[0, 0])?;
            for log in logs {
                let values: Vec<_> =
                    log.iter().map(|r| String::from_utf8_lossy(&r.value)).collect();
                ensure(values == [format!("life {life}")], || format!("life {life}: {values:?}"))?;
            }
            let deleted = client::delete_topic(&broker.address, "again")?;
            ensure(deleted.is_ok(), || format!("life {life}: {deleted:?}"))?;
        }
        broker.stop()
    })
}
