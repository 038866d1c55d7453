//! ListOffsets by time, leader epochs, fetch sessions: spoken by hand.

use crate::broker::{Broker, scenario};
use crate::client;
use crate::outcome::{Context, Result, ensure, failure};
use crate::wire::{Batch, Bytes, Connection, FETCH, LIST_OFFSETS, OFFSET_FOR_LEADER_EPOCH};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

const INVALID_REQUEST: i16 = 42;
const UNSUPPORTED_VERSION: i16 = 35;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// ListOffsets v5 (or v4) for one partition: error, timestamp, offset, leader epoch.
fn list(
    connection: &mut Connection,
    partition: i32,
    epoch: i32,
    timestamp: i64,
) -> Result<(i16, i64, i64, i32)> {
    let body = Bytes::default().i32(-1).i8(0).i32(1).string("times").i32(1);
    let body = body.i32(partition).i32(epoch).i64(timestamp);
    let mut answer = connection.call(LIST_OFFSETS, 5, &body)?;
    let (_, _, _, _) = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?);
    let _partition = answer.i32()?;
    Ok((answer.i16()?, answer.i64()?, answer.i64()?, answer.i32()?))
}

/// ListOffsets v11, which is flexible, for one partition: the same.
fn list_newest(connection: &mut Connection, timestamp: i64) -> Result<(i16, i64, i64, i32)> {
    let body = Bytes::default().varint(0).i32(-1).i8(0).varint(2).varint(6).raw(b"times");
    let body = body.varint(2).i32(0).i32(-1).i64(timestamp).varint(0).varint(0).i32(0).varint(0);
    let mut answer = connection.call(LIST_OFFSETS, 11, &body)?;
    // Tags, throttle time, one topic, its name, one partition, its number.
    answer.bytes(1 + 4 + 1 + 6 + 1 + 4)?;
    Ok((answer.i16()?, answer.i64()?, answer.i64()?, answer.i32()?))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    ensure(found == expected, || format!("{what}: {found:?}, not {expected:?}"))
}

/// Ten batches of three records; record `n` has timestamp `base + 10 n`.
fn fill(connection: &mut Connection, base: i64) -> Result<()> {
    for number in 0..10_i64 {
        let first = base + number * 30;
        let records = [(0, 0), (1, 10), (2, 20)];
        let payload = records.map(|(delta, later)| timed_record(delta, later)).concat();
        let batch = Batch::of(&[b"", b"", b""], first).with(|b| {
            b.payload = payload;
            b.max_timestamp = first + 20;
        });
        let produced = connection.produce("times", 0, -1, &batch.encode())?;
        expect("produced", produced, Some((0, number * 3)))?;
    }
    Ok(())
}

fn timed_record(offset_delta: i64, timestamp_delta: i64) -> Vec<u8> {
    let body = Bytes::default().i8(0).zigzag(timestamp_delta).zigzag(offset_delta);
    let body = body.zigzag(-1).zigzag(1).raw(b"v").zigzag(0);
    Bytes::default().zigzag(body.0.len() as i64).raw(&body.0).0
}

#[test]
fn offsets_are_found_by_time_and_epoch() -> Result<()> {
    scenario("times", |home| {
        let mut broker = Broker::start(home)?;
        client::create(&broker.address, "times", 1)?;
        let base = millstream::time::Clock::timestamp().0 - 1_000_000;
        let mut connection = Connection::open(&broker.address)?;
        let nothing = list(&mut connection, 0, -1, base)?;
        expect("in an empty log", nothing, (0, -1, -1, -1))?;
        expect("its start", list(&mut connection, 0, -1, EARLIEST)?, (0, -1, 0, 0))?;
        let newest = list_newest(&mut connection, MAX_TIMESTAMP)?;
        expect("its greatest", newest, (0, -1, -1, -1))?;
        fill(&mut connection, base)?;

        // First as it is in memory, then after a kill, then after a clean stop.
        for (life, epoch) in [(0, 0), (1, 1), (2, 1)] {
            let mut connection = Connection::open(&broker.address)?;
            for (timestamp, found) in [
                (0, Some(0)),
                (base, Some(0)),
                (base + 1, Some(1)),
                (base + 10, Some(1)),
                (base + 141, Some(15)),
                (base + 290, Some(29)),
                (base + 291, None),
            ] {
                let expected = found.map_or((0, -1, -1, -1), |n| (0, base + n * 10, n, 0));
                let got = list(&mut connection, 0, -1, timestamp)?;
                expect(&format!("life {life}, {}", timestamp - base), got, expected)?;
            }
            let current = format!("life {life}, the epoch");
            expect(&current, list(&mut connection, 0, epoch, LATEST)?, (0, -1, 30, epoch))?;
            expect(&current, list(&mut connection, 0, -1, EARLIEST)?, (0, -1, 0, 0))?;
            let ahead = list(&mut connection, 0, epoch + 1, LATEST)?.0;
            expect(&current, ahead, UNKNOWN_LEADER_EPOCH)?;
            if epoch > 0 {
                let behind = list(&mut connection, 0, epoch - 1, LATEST)?.0;
                expect(&current, behind, FENCED_LEADER_EPOCH)?;
            }
            expect("v11", list_newest(&mut connection, MAX_TIMESTAMP)?, (0, base + 290, 29, 0))?;
            expect("v11", list_newest(&mut connection, EARLIEST_LOCAL)?, (0, -1, 0, 0))?;
            expect("v11", list_newest(&mut connection, LATEST_TIERED)?, (0, -1, -1, -1))?;
            let pending = list_newest(&mut connection, EARLIEST_PENDING_UPLOAD)?;
            expect("v11", pending, (0, -1, -1, -1))?;
            expect("v11", list_newest(&mut connection, -7)?.0, UNSUPPORTED_VERSION)?;
            expect("v5", list(&mut connection, 0, -1, MAX_TIMESTAMP)?.0, UNSUPPORTED_VERSION)?;
            let missing = list(&mut connection, 9, -1, LATEST)?.0;
            expect("a partition there is not", missing, UNKNOWN_TOPIC_OR_PARTITION)?;

            // Nothing was appended under the later epoch: the first one ends with the log.
            let end = |connection: &mut Connection, asked| epoch_end(connection, epoch, asked);
            expect("epoch 0", end(&mut connection, 0)?, (0, 0, 30))?;
            expect("the epoch", end(&mut connection, epoch)?, (0, epoch, 30))?;
            expect("a later one", end(&mut connection, epoch + 1)?, (0, -1, -1))?;
            let fenced = epoch_end(&mut connection, epoch + 1, 0)?.0;
            expect("fenced", fenced, UNKNOWN_LEADER_EPOCH)?;
            match life {
                0 => broker.kill()?,
                _ => broker.stop()?,
            }
            broker = Broker::start(home)?;
        }
        let mut connection = Connection::open(&broker.address)?;
        let late = Batch::of(&[b"late"], base).encode();
        expect("late", connection.produce("times", 0, -1, &late)?, Some((0, 30)))?;
        expect("epoch 0", epoch_end(&mut connection, 1, 0)?, (0, 0, 30))?;
        expect("epoch 1", epoch_end(&mut connection, 1, 1)?, (0, 1, 31))?;
        broker.stop()
    })
}

/// OffsetForLeaderEpoch v3: error, epoch, end.
fn epoch_end(connection: &mut Connection, current: i32, asked: i32) -> Result<(i16, i32, i64)> {
    let body =
        Bytes::default().i32(-1).i32(1).string("times").i32(1).i32(0).i32(current).i32(asked);
    let mut answer = connection.call(OFFSET_FOR_LEADER_EPOCH, 3, &body)?;
    let (_, _, _, _) = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?);
    let error = answer.i16()?;
    let _partition = answer.i32()?;
    Ok((error, answer.i32()?, answer.i64()?))
}

#[test]
fn a_partition_named_twice_is_refused() -> Result<()> {
    scenario("times-twice", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "times", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        let body = Bytes::default().i32(-1).i32(1).string("times").i32(2);
        let mut answer = connection.call(LIST_OFFSETS, 1, &body.i32(0).i64(-1).i32(0).i64(-2))?;
        let (_, _, count) = (answer.i32()?, answer.string()?, answer.i32()?);
        expect("answers", count, 2)?;
        for _ in 0..2 {
            let (_, error, _, _) = (answer.i32()?, answer.i16()?, answer.i64()?, answer.i64()?);
            expect("named twice", error, INVALID_REQUEST)?;
        }
        broker.stop()
    })
}

#[test]
fn append_time_is_told() -> Result<()> {
    scenario("times-append", |home| {
        let settings = [("log.message.timestamp.type", "LogAppendTime")];
        let broker = Broker::start_with(home, 2, &settings)?;
        client::create(&broker.address, "times", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        let before = millstream::time::Clock::timestamp().0;
        let body = crate::wire::produce_body("times", 0, -1);
        let body = body.bytes(&Batch::of(&[b"a", b"b"], 77).encode());
        let mut answer = connection.call(crate::wire::PRODUCE, 7, &body)?;
        expect("produced", crate::wire::produced(&mut answer)?, (0, 0))?;
        let told = answer.i64()?;
        let after = millstream::time::Clock::timestamp().0;
        ensure((before..=after).contains(&told), || format!("{told} in {before}..={after}"))?;
        expect("by time", list(&mut connection, 0, -1, told)?, (0, told, 0, 0))?;
        expect("greatest", list_newest(&mut connection, MAX_TIMESTAMP)?, (0, told, 0, 0))?;
        broker.stop()
    })
}

/// One partition of a Fetch answer: index, error, high watermark, bytes of records.
type Fetched = (i32, i16, i64, i32);

/// Fetch v7: error, session id, partitions. Asks for `partitions` from an offset on, forgets others.
fn fetch(
    connection: &mut Connection,
    (session, epoch): (i32, i32),
    (wait, least): (i32, i32),
    partitions: &[(i32, i64)],
    forgotten: &[i32],
) -> Result<(i16, i32, Vec<Fetched>)> {
    let body = Bytes::default().i32(-1).i32(wait).i32(least).i32(1 << 20).i8(0);
    let mut body = body.i32(session).i32(epoch);
    body = if partitions.is_empty() {
        body.i32(0)
    } else {
        body.i32(1).string("times").i32(i32::try_from(partitions.len())?)
    };
    for (partition, offset) in partitions {
        body = body.i32(*partition).i64(*offset).i64(-1).i32(1 << 20);
    }
    body = if forgotten.is_empty() {
        body.i32(0)
    } else {
        body.i32(1).string("times").i32(i32::try_from(forgotten.len())?)
    };
    for partition in forgotten {
        body = body.i32(*partition);
    }
    let mut answer = connection.call(FETCH, 7, &body)?;
    let (_, error, session, topics) = (answer.i32()?, answer.i16()?, answer.i32()?, answer.i32()?);
    let mut fetched = Vec::new();
    for _ in 0..topics {
        let (_, count) = (answer.string()?, answer.i32()?);
        for _ in 0..count {
            let (index, error) = (answer.i32()?, answer.i16()?);
            let (high_watermark, _, _) = (answer.i64()?, answer.i64()?, answer.i64()?);
            let aborted = answer.i32()?;
            ensure(aborted <= 0, || format!("{aborted} aborted transactions"))?;
            let length = answer.i32()?;
            // Null records break librdkafka.
            answer.bytes(usize::try_from(length).context(|| "null records".to_owned())?)?;
            fetched.push((index, error, high_watermark, length));
        }
    }
    fetched.sort_unstable();
    Ok((error, session, fetched))
}

#[test]
fn fetch_sessions_say_only_what_has_changed() -> Result<()> {
    scenario("fetch-sessions", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "times", 4)?;
        let mut connection = Connection::open(&broker.address)?;
        let now = millstream::time::Clock::timestamp().0;
        let batch = Batch::of(&[b"one"], now).encode();
        let length = i32::try_from(batch.len())?;
        let mut producer = Connection::open(&broker.address)?;
        producer.produce("times", 1, -1, &batch)?;

        let all = [(0, 0), (1, 0), (2, 0), (3, 0)];
        let (error, session, fetched) = fetch(&mut connection, (0, 0), (0, 1), &all, &[])?;
        ensure(error == 0 && session > 0, || format!("{error}, session {session}"))?;
        let expected = vec![(0, 0, 0, 0), (1, 0, 1, length), (2, 0, 0, 0), (3, 0, 0, 0)];
        expect("the first answer", fetched, expected)?;

        // Only partition 1 moves on; nothing is new.
        let quiet = fetch(&mut connection, (session, 1), (0, 1), &[(1, 1)], &[])?;
        expect("nothing new", quiet, (0, session, vec![]))?;
        producer.produce("times", 3, -1, &batch)?;
        let news = fetch(&mut connection, (session, 2), (0, 1), &[], &[])?;
        expect("partition 3", news, (0, session, vec![(3, 0, 1, length)]))?;
        // A forgotten one is not told of any more.
        producer.produce("times", 0, -1, &batch)?;
        let quiet = fetch(&mut connection, (session, 3), (0, 1), &[(3, 1)], &[0])?;
        expect("forgotten", quiet, (0, session, vec![]))?;
        let unknown = fetch(&mut connection, (session, 4), (0, 1), &[(7, 0)], &[])?;
        expect("no such partition", unknown, (0, session, vec![(7, 3, -1, 0)]))?;

        let wrong = fetch(&mut connection, (session, 9), (0, 1), &[], &[])?;
        expect("a wrong epoch", wrong, (INVALID_FETCH_SESSION_EPOCH, 0, vec![]))?;
        let missing = fetch(&mut connection, (session + 2, 1), (0, 1), &[], &[])?;
        expect("no such session", missing, (FETCH_SESSION_ID_NOT_FOUND, 0, vec![]))?;
        let last = fetch(&mut connection, (session, -1), (0, 1), &[(2, 0)], &[])?;
        expect("the end", last, (0, 0, vec![(2, 0, 0, 0)]))?;
        let missing = fetch(&mut connection, (session, 5), (0, 1), &[], &[])?;
        expect("after its end", missing, (FETCH_SESSION_ID_NOT_FOUND, 0, vec![]))?;
        broker.stop()
    })
}

#[test]
fn a_delayed_fetch_waits_for_all_its_bytes() -> Result<()> {
    scenario("fetch-delayed", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "times", 4)?;
        let batch = Batch::of(&[b"one"], millstream::time::Clock::timestamp().0).encode();
        let length = i32::try_from(batch.len())?;
        for round in 0..20_i64 {
            let address = broker.address.clone();
            let sent = batch.clone();
            let producer = std::thread::spawn(move || {
                let mut producer = Connection::open(&address).ok()?;
                for partition in 0..4 {
                    producer.produce("times", partition, -1, &sent).ok()??;
                }
                Some(())
            });
            // Bytes come while it reads, while it begins to watch, and while it waits.
            let mut connection = Connection::open(&broker.address)?;
            let all = [(0, round), (1, round), (2, round), (3, round)];
            let (error, _, fetched) =
                fetch(&mut connection, (0, -1), (30_000, 4 * length), &all, &[])?;
            let bytes: i32 = fetched.iter().map(|f| f.3).sum();
            expect("bytes", (error, bytes), (0, 4 * length))?;
            let done = producer.join().map_err(|_| failure("the producer panicked"))?;
            ensure(done.is_some(), || "the producer failed".to_owned())?;
        }
        broker.stop()
    })
}
