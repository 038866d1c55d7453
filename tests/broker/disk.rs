//! The disk at its worst: without space, and with writes that fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use millstream::time::Clock;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::broker::{Broker, Home, PATIENCE, scenario};
use crate::client;
use crate::load::Stream;
use crate::outcome::{Result, ensure, eventually, failure};
use crate::real;
use crate::wire::{Batch, Bytes, Connection, FETCH};

const KAFKA_STORAGE_ERROR: i16 = 56;
const DELETE_RECORDS: i16 = 21;

/// A small ext4 of its own under the data directory; unmounted when dropped.
struct SmallDisk {
    mounted: PathBuf,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(home: &Home, mebibytes: u64) -> Result<Option<SmallDisk>> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not shown here: only root can mount a small disk");
            return Ok(None);
        }
        let image = home.file("disk.img");
        std::fs::File::create(&image)?.set_len(mebibytes << 20)?;
        std::fs::create_dir_all(home.data())?;
        let loop_option = [Path::new("-o"), Path::new("loop"), &image, &home.data()];
        let mounted = run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image])
            .and_then(|()| run("mount", &loop_option));
        if let Err(error) = mounted {
            // As in a container: there is nothing of ours to test then.
            eprintln!("not shown here: no small disk can be mounted: {error:?}");
            return Ok(None);
        }
        Ok(Some(SmallDisk { mounted: home.data() }))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A broker that was killed may hold it for a moment.
        let lazily = [Path::new("-l"), &self.mounted];
        let _ = run("umount", &[self.mounted.as_path()]).or_else(|_| run("umount", &lazily));
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let done = Command::new(program).args(arguments).output()?;
    ensure(done.status.success(), || {
        format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr))
    })
}

fn produce(connection: &mut Connection, topic: &str, batch: &[u8]) -> Result<i16> {
    let answer = connection.produce(topic, 0, 1, batch)?;
    answer.map(|(error, _)| error).ok_or_else(|| failure("no answer to a produce"))
}

/// Produces until it is refused for want of space; how many were taken.
fn fill(connection: &mut Connection, topic: &str, batch: &[u8]) -> Result<i64> {
    for taken in 0..10_000 {
        match produce(connection, topic, batch)? {
            0 => {}
            KAFKA_STORAGE_ERROR => return Ok(taken),
            error => return Err(failure(format!("batch {taken} was answered {error}"))),
        }
    }
    Err(failure("a full disk takes everything"))
}

/// The number of the first record read from `offset` on.
fn first_record(connection: &mut Connection, topic: &str, offset: i64) -> Result<i64> {
    let head = Bytes::default().i32(-1).i32(0).i32(0).i32(1 << 20).i8(0);
    let body = head.i32(1).string(topic).i32(1).i32(0).i64(offset).i32(1 << 20);
    let mut answer = connection.call(FETCH, 4, &body)?;
    let _ = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
    let (error, _, _, _) = (answer.i16()?, answer.i64()?, answer.i64()?, answer.i32()?);
    ensure(error == 0, || format!("a fetch at {offset} was answered {error}"))?;
    let bytes = answer.i32()?;
    ensure(bytes > 0, || format!("a fetch at {offset} brought nothing"))?;
    answer.i64()
}

#[test]
fn a_full_disk_refuses_records_and_nothing_else() -> Result<()> {
    scenario("disk-full", |home| {
        let Some(_disk) = SmallDisk::mount(home, 192)? else { return Ok(()) };
        // 48 MiB are kept free.
        let settings = [
            ("journal.ring.bytes", "4MiB"),
            ("log.segment.bytes", "1MiB"),
            ("log.retention.check.interval.ms", "100"),
        ];
        let broker = Broker::start_with(home, 1, &settings)?;
        let batch = Batch::of(&[&vec![b'x'; 64 << 10]], Clock::timestamp().0).encode();
        client::create(&broker.address, "kept", 1)?;
        client::create(&broker.address, "cut", 1)?;
        client::create(&broker.address, "gone", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        for topic in ["cut", "gone"] {
            for _ in 0..400 {
                ensure(produce(&mut connection, topic, &batch)? == 0, || topic.to_owned())?;
            }
        }
        let mut taken = fill(&mut connection, "kept", &batch)?;
        let said = broker.said()?;
        ensure(said.contains("records are refused until"), || said)?;

        // Fetch goes on, and so does the broker after a kill.
        ensure(first_record(&mut connection, "kept", taken / 2)? == taken / 2, || {
            "fetch".to_owned()
        })?;
        broker.kill()?;
        let broker = Broker::start_with(home, 1, &settings)?;
        let mut connection = Connection::open(&broker.address)?;
        ensure(connection.log_end("kept", 0)? == taken, || "records are lost".to_owned())?;
        // The journals of the first start are gone by now or later: there may be some space.
        taken += fill(&mut connection, "kept", &batch)?;

        // Records deleted, then a topic deleted: each time records are taken again, by itself.
        let body = Bytes::default().i32(1).string("cut").i32(1).i32(0).i64(390).i32(1000);
        let mut answer = connection.call(DELETE_RECORDS, 1, &body)?;
        let _ = (answer.i32()?, answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
        let (low, error) = (answer.i64()?, answer.i16()?);
        ensure((low, error) == (390, 0), || format!("DeleteRecords: {error}, {low}"))?;
        for deleted in ["records", "a topic"] {
            if deleted == "a topic" {
                taken += fill(&mut connection, "kept", &batch)?;
                ensure(client::delete_topic(&broker.address, "gone")?.is_ok(), || {
                    "delete".to_owned()
                })?;
            }
            eventually("records are taken again", PATIENCE, || {
                Ok((produce(&mut connection, "kept", &batch)? == 0).then_some(()))
            })?;
            taken += 1;
        }
        ensure(connection.log_end("kept", 0)? == taken, || "the count is wrong".to_owned())?;
        for offset in (0..taken).step_by(7) {
            ensure(first_record(&mut connection, "kept", offset)? == offset, || {
                format!("record {offset} is not there")
            })?;
        }
        broker.stop()
    })
}

#[test]
fn a_failed_write_ends_the_broker_and_loses_nothing() -> Result<()> {
    let lines = real::records()?;
    scenario("disk-failed", |home| {
        // Ignored, the signal leaves the error: as a disk would, from now on every write fails.
        let launcher = ["env", "--ignore-signal=XFSZ"];
        let mut broker = Broker::spawn_through(&launcher, home, 1, &[])?;
        broker.await_ready()?;
        let mut stream = Stream::create(&broker.address, "all", 4, &lines)?;
        let mut load = stream.begin(&broker.address)?;
        eventually("records are acknowledged", PATIENCE, || {
            stream.push(&mut load)?;
            Ok((load.acked > 2_000).then_some(()))
        })?;
        let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw);
        let none = Rlimit { current: Some(4096), maximum: None };
        prlimit(pid, Resource::Fsize, none)?;
        let status = eventually("the broker ends", PATIENCE, || {
            // Deliveries may fail from here on; what is acknowledged is held against the next start.
            let _ = stream.push(&mut load);
            broker.exited()
        })?;
        ensure(status.code() == Some(1), || format!("it ended with {status}"))?;
        let said = broker.said()?;
        ensure(said.contains("File too large"), || said)?;
        stream.end(load)?;
        let broker = Broker::start_with(home, 1, &[])?;
        stream.check(&broker.address)?;
        broker.stop()
    })
}
