//! The old end of a log: retention by size and by time, and DeleteRecords.

use std::path::Path;

use millstream::time::Clock;

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client;
use crate::outcome::{Result, ensure, eventually};
use crate::wire::{Batch, Bytes, Connection, FETCH};

const DELETE_RECORDS: i16 = 21;
const OFFSET_OUT_OF_RANGE: i16 = 1;

/// Small files and frequent checks.
const SETTINGS: &[(&str, &str)] = &[
    ("log.retention.check.interval.ms", "100"),
    ("journal.ring.bytes", "4MiB"),
    ("log.segment.bytes", "1MiB"),
];

fn start(home: &crate::broker::Home, more: &[(&str, &str)]) -> Result<Broker> {
    Broker::start_with(home, 2, &[SETTINGS, more].concat())
}

/// Produces `count` batches of one record of 64 KiB at `timestamp`.
fn fill(connection: &mut Connection, topic: &str, count: usize, timestamp: i64) -> Result<()> {
    let batch = Batch::of(&[&vec![b'x'; 64 << 10]], timestamp).encode();
    for _ in 0..count {
        let produced = connection.produce(topic, 0, 1, &batch)?;
        ensure(produced.is_some_and(|(error, _)| error == 0), || format!("{produced:?}"))?;
    }
    Ok(())
}

/// The log start (ListOffsets v1, earliest).
fn log_start(connection: &mut Connection, topic: &str) -> Result<i64> {
    let body = Bytes::default().i32(-1).i32(1).string(topic).i32(1).i32(0).i64(-2);
    let mut answer = connection.call(crate::wire::LIST_OFFSETS, 1, &body)?;
    let (_, _, _, _) = (answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
    let (error, _, offset) = (answer.i16()?, answer.i64()?, answer.i64()?);
    ensure(error == 0, || format!("ListOffsets answered {error}"))?;
    Ok(offset)
}

fn fetch_error(connection: &mut Connection, topic: &str, offset: i64) -> Result<i16> {
    let head = Bytes::default().i32(-1).i32(0).i32(0).i32(1 << 20).i8(0);
    let body = head.i32(1).string(topic).i32(1).i32(0).i64(offset).i32(1 << 20);
    let mut answer = connection.call(FETCH, 4, &body)?;
    let _ = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
    answer.i16()
}

fn segments(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        count += usize::from(entry?.path().extension().is_some_and(|e| e == "log"));
    }
    Ok(count)
}

#[test]
fn retention_by_size_bounds_the_disk() -> Result<()> {
    scenario("retention-size", |home| {
        let broker = start(home, &[("log.retention.bytes", "3145728")])?;
        client::create(&broker.address, "sized", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        // 16 MiB in segments of 1 MiB, of which 3 MiB may stay.
        fill(&mut connection, "sized", 256, Clock::timestamp().0)?;
        let kept = eventually("old segments go", PATIENCE, || {
            let start = log_start(&mut connection, "sized")?;
            let files = segments(&home.data().join("sized-0"))?;
            Ok((start > 150 && files <= 8).then_some(start))
        })?;
        // Whole segments only, and never more than asked: at least 3 MiB are left.
        ensure(kept <= 256 - 48, || format!("the log starts at {kept} of 256"))?;
        let error = fetch_error(&mut connection, "sized", kept - 1)?;
        ensure(error == OFFSET_OUT_OF_RANGE, || format!("a fetch below it got {error}"))?;
        ensure(fetch_error(&mut connection, "sized", kept)? == 0, || "no fetch at it".to_owned())?;
        broker.kill()?;
        let broker = start(home, &[("log.retention.bytes", "3145728")])?;
        let mut connection = Connection::open(&broker.address)?;
        let after = log_start(&mut connection, "sized")?;
        ensure(after >= kept, || format!("the log start went back from {kept} to {after}"))?;
        ensure(connection.log_end("sized", 0)? == 256, || "records are lost".to_owned())?;
        broker.stop()
    })
}

#[test]
fn retention_by_time_empties_a_log() -> Result<()> {
    scenario("retention-time", |home| {
        let broker = start(home, &[("log.retention.ms", "60000")])?;
        client::create(&broker.address, "timed", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        let now = Clock::timestamp().0;
        // Two minutes old, as if they had been here for so long.
        fill(&mut connection, "timed", 40, now - 120_000)?;
        eventually("all of it goes", PATIENCE, || {
            Ok((log_start(&mut connection, "timed")? == 40).then_some(()))
        })?;
        fill(&mut connection, "timed", 5, now)?;
        ensure(connection.log_end("timed", 0)? == 45, || "the log does not go on".to_owned())?;
        ensure(fetch_error(&mut connection, "timed", 40)? == 0, || "no fetch".to_owned())?;
        ensure(log_start(&mut connection, "timed")? == 40, || "young records went".to_owned())?;
        broker.stop()
    })
}

#[test]
fn deleted_records_stay_deleted() -> Result<()> {
    scenario("retention-delete", |home| {
        let broker = start(home, &[])?;
        client::create(&broker.address, "cut", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        fill(&mut connection, "cut", 30, Clock::timestamp().0)?;
        // Offset asked for, error code, low watermark.
        let cases =
            [(10, 0, 10), (5, 0, 10), (31, OFFSET_OUT_OF_RANGE, -1), (-1, 0, 30), (-2, 1, -1)];
        for (offset, expected_error, expected) in cases {
            let body = Bytes::default().i32(1).string("cut").i32(1).i32(0).i64(offset).i32(1000);
            let mut answer = connection.call(DELETE_RECORDS, 1, &body)?;
            let _ = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
            let (low, error) = (answer.i64()?, answer.i16()?);
            ensure((error, low) == (expected_error, expected), || {
                format!("DeleteRecords to {offset}: error {error}, low watermark {low}")
            })?;
        }
        broker.kill()?;
        let broker = start(home, &[])?;
        let mut connection = Connection::open(&broker.address)?;
        let start = log_start(&mut connection, "cut")?;
        ensure(start == 30, || format!("the log starts at {start} after a kill"))?;
        broker.stop()
    })
}
