//! What no client would send, while a healthy client goes on.
//!
//! Error codes are Kafka's (`org.apache.kafka.common.protocol.Errors`); where Kafka closes the
//! connection, so must the broker. Kafka has no case for a codec it does not know and answers that with
//! UNKNOWN_SERVER_ERROR.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use millstream::time::Clock;

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client;
use crate::outcome::{Context, Result, ensure, eventually, failure, pause};
use crate::wire::{
    API_VERSIONS, Batch, Bytes, CREATE_TOPICS, Connection, DELETE_TOPICS, DESCRIBE_CLUSTER, FETCH,
    LIST_OFFSETS, METADATA, PRODUCE, produce_body, record, request,
};

const UNKNOWN_SERVER_ERROR: i16 = -1;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_RECORD: i16 = 87;

/// What the broker may grow by, whatever it is sent.
const GROWTH_MAX: u64 = 64 << 20;
const HEALTHY_REQUESTS: usize = 10_000;
const VICTIM: &str = "victim";

#[test]
fn bad_input_harms_nobody() -> Result<()> {
    scenario("malformed", |home| {
        let broker = Broker::start(home)?;
        let address = broker.address.clone();
        client::create(&address, VICTIM, 2)?;
        client::create(&address, HEALTHY, i32::try_from(HEALTHY_PARTITIONS)?)?;
        for partition in 0..2 {
            let produced =
                Connection::open(&address)?.produce(VICTIM, partition, -1, &sound().encode())?;
            ensure(produced == Some((0, 0)), || format!("a sound batch: {produced:?}"))?;
        }
        // Buffers for large frames are kept once they were needed, so the first round is not counted:
        // what must not happen is that memory grows with every further one.
        bad_input(&address, || true)?;
        let before = settled_memory(&broker)?;

        let bad_done = Arc::new(AtomicBool::new(false));
        let healthy = {
            let (address, bad_done) = (address.clone(), Arc::clone(&bad_done));
            thread::spawn(move || healthy_client(&address, &bad_done))
        };
        let bad = bad_input(&address, || healthy.is_finished());
        bad_done.store(true, Ordering::Relaxed);
        let ends = healthy.join().map_err(|_| failure("the healthy client panicked"))?;
        let ends = ends.context(|| "the healthy client".to_owned())?;
        bad?;

        let after = settled_memory(&broker)?;
        let grown = after.saturating_sub(before);
        eprintln!("resident memory grew by {} KiB", grown >> 10);
        ensure(grown < GROWTH_MAX, || format!("resident memory grew by {grown} bytes"))?;
        nothing_stored(&address, &ends)?;
        broker.stop()?;

        let broker = Broker::start(home)?;
        nothing_stored(&broker.address, &ends).context(|| "after a restart".to_owned())?;
        let logs = client::read_from(&broker.address, VICTIM, &[0, 0])?;
        ensure(
            logs.iter().all(|log| log.len() == 1 && log.iter().all(|r| r.value == b"sound")),
            || format!("{logs:?}"),
        )?;
        broker.stop()
    })
}

/// Resident memory once it stands still: pools may still be growing after a start.
fn settled_memory(broker: &Broker) -> Result<u64> {
    let mut last = 0u64;
    eventually("resident memory settles", PATIENCE, || {
        pause(std::time::Duration::from_millis(300));
        let now = broker.resident_bytes()?;
        let settled = now.abs_diff(last) < 1 << 20;
        last = now;
        Ok(settled.then_some(now))
    })
}

fn nothing_stored(address: &str, healthy_ends: &[i64]) -> Result<()> {
    let mut connection = Connection::open(address)?;
    for partition in 0..2 {
        let end = connection.log_end(VICTIM, partition)?;
        ensure(end == 1, || format!("{VICTIM}-{partition} ends at {end}, not at 1"))?;
    }
    for (partition, expected) in healthy_ends.iter().enumerate() {
        let end = connection.log_end(HEALTHY, i32::try_from(partition)?)?;
        ensure(end == *expected, || {
            format!("{HEALTHY}-{partition} ends at {end}, not at {expected}")
        })?;
    }
    Ok(())
}

// The healthy client.

const HEALTHY: &str = "healthy";
const HEALTHY_PARTITIONS: usize = 4;

/// At least `HEALTHY_REQUESTS` requests, and more until the bad ones are done; each must succeed.
/// Answers the log ends it knows.
fn healthy_client(address: &str, bad_done: &AtomicBool) -> Result<Vec<i64>> {
    let mut connection = Connection::open(address)?;
    let mut ends = vec![0; HEALTHY_PARTITIONS];
    let mut number = 0;
    while number < HEALTHY_REQUESTS || !bad_done.load(Ordering::Relaxed) {
        let partition = number / 4 % HEALTHY_PARTITIONS;
        let end = ends.get_mut(partition).ok_or_else(|| failure("no such partition"))?;
        let index = i32::try_from(partition)?;
        let value = format!("{partition}:{end}");
        match number % 4 {
            0 => {
                let batch = Batch::of(&[value.as_bytes()], Clock::timestamp().0).encode();
                let produced = connection.produce(HEALTHY, index, 1, &batch)?;
                ensure(produced == Some((0, *end)), || {
                    format!("request {number}: produced {produced:?} at {end}")
                })?;
                *end += 1;
            }
            1 => {
                let (error, records) = fetch(&mut connection, HEALTHY, index, *end - 1)?;
                let wanted = format!("{partition}:{}", *end - 1);
                let found = records.windows(wanted.len()).any(|w| w == wanted.as_bytes());
                ensure(error == 0 && found, || {
                    format!("request {number}: fetched {error}, {records:?}")
                })?;
            }
            2 => {
                let found = connection.log_end(HEALTHY, index)?;
                ensure(found == *end, || format!("request {number}: log end {found}, not {end}"))?;
            }
            _ => {
                let answer =
                    connection.call(METADATA, 4, &Bytes::default().i32(1).string(HEALTHY).i8(0))?;
                let named = answer.rest().windows(HEALTHY.len()).any(|w| w == HEALTHY.as_bytes());
                ensure(named, || format!("request {number}: metadata without the topic"))?;
            }
        }
        number += 1;
    }
    eprintln!("{number} healthy requests");
    Ok(ends)
}

fn fetch_body(topic: &str, partition: i32, offset: i64) -> Bytes {
    let head = Bytes::default().i32(-1).i32(0).i32(0).i32(1 << 20).i8(0);
    head.i32(1).string(topic).i32(1).i32(partition).i64(offset).i32(1 << 20)
}

/// Fetch v4 of one partition: Kafka's error code and the records' bytes.
fn fetch(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<(i16, Vec<u8>)> {
    let mut answer = connection.call(FETCH, 4, &fetch_body(topic, partition, offset))?;
    let (_, _, _, _) = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?);
    let (_, error, _, _) = (answer.i32()?, answer.i16()?, answer.i64()?, answer.i64()?);
    let aborted = answer.i32()?;
    ensure(aborted <= 0, || format!("{aborted} aborted transactions"))?;
    let length = answer.i32()?;
    ensure(length >= 0, || "null records".to_owned())?;
    Ok((error, answer.bytes(usize::try_from(length)?)?))
}

// The bad ones.

/// All cases, once and then again until `enough`; the heavy ones once.
fn bad_input(address: &str, enough: impl Fn() -> bool) -> Result<()> {
    tagged_fields_without_end(address)?;
    let mut rounds = 0;
    loop {
        bad_frames(address)?;
        bad_headers(address)?;
        bad_counts(address)?;
        cut_requests(address)?;
        bad_batches(address)?;
        bad_arguments(address)?;
        rounds += 1;
        if enough() || rounds >= 3 {
            eprintln!("{rounds} rounds of bad input");
            return Ok(());
        }
    }
}

fn closed(
    address: &str,
    case: &str,
    send: impl FnOnce(&mut Connection) -> Result<()>,
) -> Result<()> {
    let mut connection = Connection::open(address)?;
    // The broker may close before all is sent: that is an answer too.
    let sent = send(&mut connection);
    let answer =
        if sent.is_ok() { connection.receive().context(|| case.to_owned())? } else { None };
    ensure(answer.is_none(), || format!("{case}: answered {answer:?} instead of closing"))
}

/// Frames whose length is wrong, or which are no frames.
fn bad_frames(address: &str) -> Result<()> {
    for length in [-1, 0, 1, 3, 7, i32::MIN, i32::MAX, 104_857_601] {
        closed(address, &format!("a frame of {length}"), |c| {
            c.send_raw(&length.to_be_bytes())?;
            c.send_raw(&[0; 64])?;
            c.end()
        })?;
    }
    closed(address, "a frame that ends early", |c| {
        c.send_raw(&[0, 0, 0, 100])?;
        c.send_raw(&request(METADATA, 4, 1, &Bytes::default().i32(0).i8(0)).0)?;
        c.end()
    })?;
    closed(address, "half a length", |c| {
        c.send_raw(&[0, 0])?;
        c.end()
    })?;
    let strangers: [(&str, &[u8]); 3] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and whatever follows a ClientHello's head"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    ];
    for (name, bytes) in strangers {
        closed(address, name, |c| {
            c.send_raw(bytes)?;
            c.end()
        })?;
    }
    Ok(())
}

/// Requests whose header is wrong, or names what is not served.
fn bad_headers(address: &str) -> Result<()> {
    let header = |api, version| Bytes::default().i16(api).i16(version).i32(1);
    let cases = [
        ("an unknown API", header(999, 0).string("x")),
        ("a negative API", header(-1, 0).string("x")),
        ("a version above all", header(METADATA, 99).string("x").i32(0)),
        ("a negative version", header(METADATA, -1).string("x").i32(0)),
        ("a version below all", header(FETCH, 3).string("x")),
        ("Produce v2, advertised and refused", header(PRODUCE, 2).string("x")),
        ("a client id of length -2", header(METADATA, 4).i16(-2)),
        ("a client id longer than the frame", header(METADATA, 4).i16(i16::MAX)),
        ("no client id", header(METADATA, 4)),
    ];
    for (case, bytes) in cases {
        closed(address, case, |c| c.send_frame(&bytes.0))?;
    }
    // ApiVersions has an answer for every version: its first form, with what is served (KIP-511).
    for version in [5, 99, i16::MAX] {
        let mut answer =
            Connection::open(address)?.call(API_VERSIONS, version, &Bytes::default())?;
        let (error, count) = (answer.i16()?, answer.i32()?);
        ensure(error == UNSUPPORTED_VERSION, || {
            format!("ApiVersions v{version} answered {error}")
        })?;
        ensure(count > 0, || format!("ApiVersions v{version} answered {count} keys"))?;
    }
    Ok(())
}

/// Counts and lengths beyond what the frame can hold, or negative where null is not allowed.
fn bad_counts(address: &str) -> Result<()> {
    for count in [i32::MAX, 1 << 24, -2, i32::MIN] {
        let start = |api| match api {
            PRODUCE => Bytes::default().i16(-1).i16(1).i32(1000),
            FETCH => Bytes::default().i32(-1).i32(0).i32(0).i32(1000).i8(0),
            LIST_OFFSETS => Bytes::default().i32(-1),
            _ => Bytes::default(),
        };
        for (api, version) in [
            (PRODUCE, 7),
            (FETCH, 4),
            (LIST_OFFSETS, 1),
            (METADATA, 4),
            (CREATE_TOPICS, 2),
            (DELETE_TOPICS, 1),
        ] {
            let body = start(api).i32(count);
            let case = format!("API {api} with {count} elements");
            closed(address, &case, |c| c.send_frame(&request(api, version, 1, &body).0))?;
        }
        // One level down, where another loop reads.
        let inner = start(PRODUCE).i32(1).string(VICTIM).i32(count);
        closed(address, &format!("{count} partitions"), |c| {
            c.send_frame(&request(PRODUCE, 7, 1, &inner).0)
        })?;
        let records = produce_body(VICTIM, 0, 1).i32(count);
        closed(address, &format!("{count} bytes of records"), |c| {
            c.send_frame(&request(PRODUCE, 7, 1, &records).0)
        })?;
    }
    // The flexible form: compact array, then a header without end.
    let flexible = |api: i16, version: i16| request(api, version, 1, &Bytes::default()).varint(0);
    for (case, payload) in [
        ("a compact array without end", flexible(METADATA, 9).varint(u32::MAX)),
        ("a compact string without end", flexible(METADATA, 9).varint(2).varint(u32::MAX)),
        ("a varint of six bytes", flexible(METADATA, 9).raw(&[0xff; 6])),
        (
            "a tagged field longer than the frame",
            flexible(DESCRIBE_CLUSTER, 0).i8(0).varint(1).varint(0).varint(u32::MAX),
        ),
        ("more tagged fields than bytes", flexible(DESCRIBE_CLUSTER, 0).i8(0).varint(u32::MAX)),
    ] {
        closed(address, case, |c| c.send_frame(&payload.0))?;
    }
    Ok(())
}

/// 20 million empty tagged fields in a request's header: whatever the broker makes of them, it must not
/// keep them (CVE-2026-111115).
fn tagged_fields_without_end(address: &str) -> Result<()> {
    const FIELDS: u32 = 20_000_000;
    let head = request(API_VERSIONS, 3, 1, &Bytes::default()).varint(FIELDS);
    let length = head.0.len() + 2 * FIELDS as usize + 3;
    let mut connection = Connection::open(address)?;
    let send = |c: &mut Connection| {
        c.send_raw(&i32::try_from(length)?.to_be_bytes())?;
        c.send_raw(&head.0)?;
        let chunk = [0; 1 << 16];
        let mut left = length - head.0.len();
        while left > 0 {
            let part = chunk.get(..left.min(chunk.len())).unwrap_or_default();
            c.send_raw(part)?;
            left -= part.len();
        }
        c.end()
    };
    // Refused halfway, closed, or answered: all is well that ends.
    if send(&mut connection).is_ok() {
        connection.receive().context(|| "20 million tagged fields".to_owned())?;
    }
    Ok(())
}

/// A sound request cut at every byte: none may be taken for a whole one.
fn cut_requests(address: &str) -> Result<()> {
    let body = produce_body(VICTIM, 0, 1).bytes(&sound().encode());
    let whole = request(PRODUCE, 7, 1, &body).0;
    for length in 0..whole.len() {
        let cut = whole.get(..length).unwrap_or_default();
        closed(address, &format!("a Produce cut at {length} of {}", whole.len()), |c| {
            c.send_frame(cut)
        })?;
    }
    Ok(())
}

fn sound() -> Batch {
    Batch::of(&[b"sound"], Clock::timestamp().0)
}

/// Record batches that must not be stored, and the codes they are refused with.
fn bad_batches(address: &str) -> Result<()> {
    const CORRUPT_OR_INVALID: &[i16] = &[CORRUPT_MESSAGE, INVALID_RECORD];
    let invalid = &[INVALID_RECORD][..];
    let corrupt = &[CORRUPT_MESSAGE][..];
    let payload = |bytes: Bytes| sound().with(|b| b.payload = bytes.0);
    let now = Clock::timestamp().0;
    let days = 24 * 3600 * 1000;
    let two = Batch::of(&[b"one", b"two"], now);
    let huge = vec![b'x'; 1_048_588];
    let cases: Vec<(&str, Vec<u8>, &[i16])> = vec![
        ("a wrong CRC", sound().with(|b| b.crc = Some(0xdead_beef)).encode(), corrupt),
        ("magic 0", sound().with(|b| b.magic = 0).encode(), CORRUPT_OR_INVALID),
        ("magic 1", sound().with(|b| b.magic = 1).encode(), CORRUPT_OR_INVALID),
        ("magic 3", sound().with(|b| b.magic = 3).encode(), CORRUPT_OR_INVALID),
        ("magic -1", sound().with(|b| b.magic = -1).encode(), CORRUPT_OR_INVALID),
        ("a negative batch length", sound().with(|b| b.length = Some(-1)).encode(), corrupt),
        ("a batch length of nothing", sound().with(|b| b.length = Some(0)).encode(), corrupt),
        (
            "a batch shorter than its header",
            sound().with(|b| b.length = Some(48)).encode(),
            corrupt,
        ),
        (
            "a batch longer than the records",
            sound().with(|b| b.length = Some(1 << 20)).encode(),
            CORRUPT_OR_INVALID,
        ),
        (
            "a batch length of 2^31-1",
            sound().with(|b| b.length = Some(i32::MAX)).encode(),
            CORRUPT_OR_INVALID,
        ),
        ("no batch", Vec::new(), CORRUPT_OR_INVALID),
        (
            "half a header",
            sound().encode().get(..30).unwrap_or_default().to_vec(),
            CORRUPT_OR_INVALID,
        ),
        ("two batches", [sound().encode(), sound().encode()].concat(), invalid),
        ("a batch and a rest", [&sound().encode()[..], &[0; 7]].concat(), CORRUPT_OR_INVALID),
        (
            "more records said than there",
            sound()
                .with(|b| {
                    b.count = 2;
                    b.last_offset_delta = 1;
                })
                .encode(),
            invalid,
        ),
        (
            "fewer records said than there",
            two.clone()
                .with(|b| {
                    b.count = 1;
                    b.last_offset_delta = 0;
                })
                .encode(),
            invalid,
        ),
        (
            "2^31-1 records said",
            sound()
                .with(|b| {
                    b.count = i32::MAX;
                    b.last_offset_delta = i32::MAX - 1;
                })
                .encode(),
            invalid,
        ),
        (
            "no records",
            sound()
                .with(|b| {
                    b.count = 0;
                    b.last_offset_delta = -1;
                    b.payload.clear();
                })
                .encode(),
            invalid,
        ),
        ("a negative count", sound().with(|b| b.count = -1).encode(), invalid),
        (
            "a last offset delta above the count",
            sound().with(|b| b.last_offset_delta = 100).encode(),
            invalid,
        ),
        (
            "a negative last offset delta",
            sound().with(|b| b.last_offset_delta = -1).encode(),
            invalid,
        ),
        (
            "a compressed batch whose count is not its span",
            two.clone()
                .with(|b| {
                    b.attributes = 1;
                    b.count = 5;
                })
                .encode(),
            invalid,
        ),
        (
            "a codec that does not exist",
            sound().with(|b| b.attributes = 7).encode(),
            &[UNKNOWN_SERVER_ERROR],
        ),
        ("a control batch", sound().with(|b| b.attributes = 0x20).encode(), invalid),
        (
            "a record of negative length",
            payload(Bytes::default().zigzag(-5).raw(&[0; 11])).encode(),
            invalid,
        ),
        (
            "a record longer than its batch",
            payload(Bytes::default().zigzag(1 << 20).raw(&[0; 11])).encode(),
            invalid,
        ),
        (
            "a record of 2^31-1 bytes",
            payload(Bytes::default().zigzag(i64::from(i32::MAX)).raw(&[0; 11])).encode(),
            invalid,
        ),
        (
            "a key longer than its record",
            payload(Bytes::default().zigzag(8).i8(0).zigzag(0).zigzag(0).zigzag(1000).raw(&[0; 4]))
                .encode(),
            invalid,
        ),
        (
            "a value of length -2",
            payload(
                Bytes::default()
                    .zigzag(6)
                    .i8(0)
                    .zigzag(0)
                    .zigzag(0)
                    .zigzag(-1)
                    .zigzag(-2)
                    .zigzag(0),
            )
            .encode(),
            invalid,
        ),
        (
            "a negative number of headers",
            payload(
                Bytes::default()
                    .zigzag(6)
                    .i8(0)
                    .zigzag(0)
                    .zigzag(0)
                    .zigzag(-1)
                    .zigzag(0)
                    .zigzag(-1),
            )
            .encode(),
            invalid,
        ),
        (
            "more headers than bytes",
            payload(
                Bytes::default()
                    .zigzag(9)
                    .i8(0)
                    .zigzag(0)
                    .zigzag(0)
                    .zigzag(-1)
                    .zigzag(0)
                    .zigzag(1 << 24),
            )
            .encode(),
            invalid,
        ),
        (
            "a record with bytes left over",
            payload(
                Bytes::default()
                    .zigzag(9)
                    .i8(0)
                    .zigzag(0)
                    .zigzag(0)
                    .zigzag(-1)
                    .zigzag(0)
                    .zigzag(0)
                    .raw(&[0; 3]),
            )
            .encode(),
            invalid,
        ),
        (
            "offset deltas that skip",
            sound()
                .with(|b| {
                    b.payload = record(1, b"sound").0;
                })
                .encode(),
            invalid,
        ),
        ("a varint without end", payload(Bytes::default().raw(&[0xff; 12])).encode(), invalid),
        (
            "a timestamp two days ahead",
            Batch::of(&[b"x"], now + 2 * days).encode(),
            &[INVALID_TIMESTAMP],
        ),
        (
            "a timestamp at the end of time",
            Batch::of(&[b"x"], i64::MAX).encode(),
            &[INVALID_TIMESTAMP],
        ),
        (
            "a batch above message.max.bytes",
            Batch::of(&[&huge], now).encode(),
            &[MESSAGE_TOO_LARGE],
        ),
    ];
    for acks in [1, -1] {
        for (case, records, codes) in &cases {
            let mut connection = Connection::open(address)?;
            let produced =
                connection.produce(VICTIM, 0, acks, records).context(|| (*case).to_owned())?;
            let refused = produced.is_some_and(|(error, _)| codes.contains(&error));
            ensure(refused, || format!("{case}, acks={acks}: {produced:?}, not one of {codes:?}"))?;
            // The connection outlives a refused batch.
            connection.api_versions().context(|| (*case).to_owned())?;
        }
    }
    // Under acks=0 there is no answer: Kafka closes the connection, so that the producer notices.
    let body = produce_body(VICTIM, 0, 0).bytes(&sound().with(|b| b.crc = Some(1)).encode());
    closed(address, "a wrong CRC under acks=0", |c| c.send_frame(&request(PRODUCE, 7, 1, &body).0))
}

/// Sound requests for what cannot be.
fn bad_arguments(address: &str) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let long = "x".repeat(250);
    let mut produce = |topic: &str, partition, acks, codes: &[i16]| {
        let produced = connection.produce(topic, partition, acks, &sound().encode())?;
        let refused = produced.is_some_and(|(error, _)| codes.contains(&error));
        ensure(refused, || {
            format!("Produce to {topic}-{partition}, acks={acks}: {produced:?}, not {codes:?}")
        })
    };
    let unknown = &[UNKNOWN_TOPIC_OR_PARTITION][..];
    let bad_name = &[INVALID_TOPIC_EXCEPTION, UNKNOWN_TOPIC_OR_PARTITION][..];
    produce("nowhere", 0, 1, unknown)?;
    produce(VICTIM, 2, 1, unknown)?;
    produce(VICTIM, -1, 1, unknown)?;
    produce(VICTIM, i32::MAX, 1, unknown)?;
    produce(VICTIM, 0, 7, &[INVALID_REQUIRED_ACKS])?;
    produce(VICTIM, 0, -2, &[INVALID_REQUIRED_ACKS])?;
    for name in ["", ".", "..", "a/b", "../../etc", "a b", "a\u{0}b", &long] {
        produce(name, 0, 1, bad_name)?;
    }

    for (topic, partition, offset, code) in [
        ("nowhere", 0, 0, UNKNOWN_TOPIC_OR_PARTITION),
        (VICTIM, 2, 0, UNKNOWN_TOPIC_OR_PARTITION),
        (VICTIM, -1, 0, UNKNOWN_TOPIC_OR_PARTITION),
        (VICTIM, 0, 2, OFFSET_OUT_OF_RANGE),
        (VICTIM, 0, -1, OFFSET_OUT_OF_RANGE),
        (VICTIM, 0, i64::MAX, OFFSET_OUT_OF_RANGE),
        (VICTIM, 0, i64::MIN, OFFSET_OUT_OF_RANGE),
    ] {
        let (error, records) = fetch(&mut connection, topic, partition, offset)?;
        let refused = error == code && records.is_empty();
        ensure(refused, || format!("Fetch of {topic}-{partition}:{offset}: {error}, not {code}"))?;
    }

    for (topic, partitions, replicas, code) in [
        ("", 1, 1, INVALID_TOPIC_EXCEPTION),
        ("..", 1, 1, INVALID_TOPIC_EXCEPTION),
        ("../escape", 1, 1, INVALID_TOPIC_EXCEPTION),
        ("a b", 1, 1, INVALID_TOPIC_EXCEPTION),
        (&long, 1, 1, INVALID_TOPIC_EXCEPTION),
        ("none", 0, 1, INVALID_PARTITIONS),
        ("negative", -7, 1, INVALID_PARTITIONS),
        ("replicas", 1, 3, INVALID_REPLICATION_FACTOR),
        ("no-replica", 1, 0, INVALID_REPLICATION_FACTOR),
        (VICTIM, 1, 1, TOPIC_ALREADY_EXISTS),
    ] {
        let body =
            Bytes::default().i32(1).string(topic).i32(partitions).i16(replicas).i32(0).i32(0);
        let mut answer = connection.call(CREATE_TOPICS, 2, &body.i32(30_000).i8(0))?;
        let (_, _, _, error) = (answer.i32()?, answer.i32()?, answer.string()?, answer.i16()?);
        ensure(error == code, || {
            format!("CreateTopics of {topic}, {partitions}, {replicas}: {error}, not {code}")
        })?;
    }

    let mut answer = connection.call(
        DELETE_TOPICS,
        1,
        &Bytes::default().i32(1).string("nowhere").i32(30_000),
    )?;
    let (_, _, _, error) = (answer.i32()?, answer.i32()?, answer.string()?, answer.i16()?);
    ensure(error == UNKNOWN_TOPIC_OR_PARTITION, || format!("DeleteTopics of nowhere: {error}"))
}
