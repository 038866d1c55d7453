//! `millstream log dump`, `verify`, `seal` and `import`, on what real brokers left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rdkafka::Message;
use rdkafka::message::Headers;
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::Value;

use crate::broker::{Broker, Home, PATIENCE, cores, scenario};
use crate::client;
use crate::outcome::{Context, Result, ensure, failure};
use crate::real::{self, Input, WEB};

/// Small segments and a journal that drains while it is written.
const SETTINGS: &[(&str, &str)] = &[("log.segment.bytes", "1MiB"), ("journal.ring.bytes", "4MiB")];

/// Partitions of the topic that the tests write.
const PARTITIONS: i32 = 2;

fn log(arguments: &[&str], paths: &[&Path]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("log").args(arguments).args(paths).env_remove("MILLSTREAM_CONFIG");
    Ok(command.output()?)
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    streams.concat()
}

/// A command that must succeed: what it prints.
fn done(arguments: &[&str], paths: &[&Path]) -> Result<String> {
    let output = log(arguments, paths)?;
    ensure(output.status.success(), || format!("{arguments:?}: {}", text(&output)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command on the data directory of `home`.
fn on(home: &Home, what: &str, more: &[&str]) -> Result<Output> {
    let data = home.data().display().to_string();
    let cores = cores(1)?;
    let arguments = [&[what, "--data-dir", &data, "--cores", &cores], more].concat();
    log(&arguments, &[])
}

fn done_on(home: &Home, what: &str, more: &[&str]) -> Result<String> {
    let output = on(home, what, more)?;
    ensure(output.status.success(), || format!("{what}: {}", text(&output)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command on the data directory of `home` that must fail, saying each of `words`.
fn refused_on(home: &Home, what: &str, more: &[&str], status: i32, words: &[&str]) -> Result<()> {
    let output = on(home, what, more)?;
    let said = text(&output);
    ensure(
        output.status.code() == Some(status) && words.iter().all(|word| said.contains(word)),
        || format!("{what} {more:?}: {}: {said}", output.status),
    )
}

fn verified(home: &Home) -> Result<Value> {
    Ok(serde_json::from_str(&done_on(home, "verify", &["--json"])?)?)
}

/// Sends record `index` to partition `index % PARTITIONS`.
fn produce(address: &str, topic: &str, codec: &str, records: &[Input]) -> Result<()> {
    let settings = [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("message.send.max.retries", "1000"),
        ("compression.codec", codec),
        ("batch.size", "20000"),
    ];
    let (producer, deliveries) = client::producer(address, &settings)?;
    for (index, input) in records.iter().enumerate() {
        let partition = i32::try_from(index)? % PARTITIONS;
        let mut record =
            BaseRecord::with_opaque_to(topic, index).partition(partition).payload(&input.value);
        if let Some(key) = &input.key {
            record = record.key(key);
        }
        producer.send(record).map_err(|(error, _)| error)?;
        producer.poll(std::time::Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    let acked = deliveries.try_iter().filter(|delivery| delivery.offset.is_ok()).count();
    ensure(acked == records.len(), || format!("{acked} of {} acknowledged", records.len()))
}

/// Reads the topic from its start and compares it with `rounds` times the records.
fn check(address: &str, topic: &str, records: &[Input], rounds: usize) -> Result<()> {
    let read = client::read_from(address, topic, &[0; PARTITIONS as usize])?;
    for (partition, log) in read.iter().enumerate() {
        let of_it = || records.iter().skip(partition).step_by(PARTITIONS as usize);
        let sent: Vec<&Input> = (0..rounds).flat_map(|_| of_it()).collect();
        ensure(log.len() == sent.len(), || format!("{} of {} read", log.len(), sent.len()))?;
        for (stored, input) in log.iter().zip(sent) {
            ensure(stored.key == input.key && stored.value == input.value, || {
                format!("{topic}-{partition}: {stored:?} is not what was sent")
            })?;
        }
    }
    Ok(())
}

/// The files of a directory with this extension, sorted.
fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Sums what a dump says of the segments: records, bytes, and space reserved behind them.
fn dumped(paths: &[&Path]) -> Result<(u64, u64, u64)> {
    let (mut records, mut bytes, mut reserved) = (0, 0, 0);
    for line in done(&["dump", "--json"], paths)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let number = |key: &str| line.get(key).and_then(Value::as_u64).unwrap_or(0);
        records += number("count");
        bytes += number("bytes");
        reserved += number("reservedBytes");
    }
    Ok((records, bytes, reserved))
}

#[test]
fn everything_is_in_segment_files_after_a_seal() -> Result<()> {
    scenario("log-seal", |home| {
        let records = real::records()?;
        let broker = Broker::start_with(home, 2, SETTINGS)?;
        client::create(&broker.address, "t", PARTITIONS)?;
        client::create(&broker.address, "never-written", PARTITIONS)?;
        produce(&broker.address, "t", "none", &records)?;
        broker.kill()?;

        let before = verified(home)?;
        let count = before.get("records").and_then(Value::as_u64);
        ensure(count == Some(records.len() as u64), || format!("{before}"))?;
        ensure(before.get("cleanStop") == Some(&Value::Bool(false)), || format!("{before}"))?;
        let rounds = |found: &Value| found.get("journalRounds").and_then(Value::as_u64);
        ensure(rounds(&before) > Some(0), || format!("{before}"))?;

        done_on(home, "seal", &[])?;
        let after = verified(home)?;
        ensure(after.get("records") == before.get("records"), || format!("{after}"))?;
        ensure(rounds(&after) == Some(0), || format!("{after}"))?;
        let journals = files(&home.data().join("journal"), "journal")?;
        let first_start = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("0000000001-"))
        };
        ensure(!journals.iter().any(first_start), || format!("{journals:?}"))?;

        let mut size = 0;
        for partition in 0..PARTITIONS {
            let directory = home.data().join(format!("t-{partition}"));
            let segments = files(&directory, "log")?;
            ensure(segments.len() > 1, || format!("{segments:?}"))?;
            for segment in &segments {
                size += fs::metadata(segment)?.len();
                for extension in ["index", "timeindex"] {
                    let index = segment.with_extension(extension);
                    ensure(index.exists(), || index.display().to_string())?;
                }
            }
            // One snapshot behind every segment.
            let snapshots = files(&directory, "snapshot")?.len();
            ensure(snapshots == segments.len(), || format!("{snapshots} snapshots"))?;
        }
        let whole = (records.len() as u64, size, 0);
        let (first, second) = (home.data().join("t-0"), home.data().join("t-1"));
        ensure(dumped(&[&home.data()])? == whole, || "a dump of the data directory".to_owned())?;
        ensure(dumped(&[&first, &second])? == whole, || "a dump of the partitions".to_owned())?;
        let shown = done(&["dump", "--records"], &[&first])?;
        for word in ["baseOffset: 0 ", "| offset: 0 CreateTime: ", "isvalid: true", "reserved: 0"] {
            ensure(shown.contains(word), || format!("no {word:?} in the dump"))?;
        }

        // What was sealed is served, and appended to, by any number of cores.
        let broker = Broker::start_with(home, 1, SETTINGS)?;
        check(&broker.address, "t", &records, 1)?;
        produce(&broker.address, "t", "zstd", &records)?;
        produce(&broker.address, "never-written", "lz4", &records)?;
        broker.stop()?;
        done_on(home, "seal", &[])?;
        done_on(home, "seal", &[])?;
        verified(home)?;
        let broker = Broker::start_with(home, 2, SETTINGS)?;
        check(&broker.address, "t", &records, 2)?;
        check(&broker.address, "never-written", &records, 1)?;
        broker.stop()
    })
}

#[test]
fn a_directory_in_use_or_absent_is_refused() -> Result<()> {
    scenario("log-in-use", |home| {
        for what in ["verify", "seal"] {
            refused_on(home, what, &[], 78, &["no data directory", "--data-dir"])?;
            ensure(!home.data().exists(), || format!("{what} made a data directory"))?;
        }
        let broker = Broker::start(home)?;
        let source = kafka_logs().join("visits-0").display().to_string();
        for (what, more) in [("verify", &[][..]), ("seal", &[]), ("import", &[&*source])] {
            refused_on(home, what, more, 78, &["in use by another broker"])?;
        }
        broker.stop()
    })
}

/// Changes a file, runs `verify`, and puts the file back.
fn damaged(
    home: &Home,
    path: &Path,
    words: &[&str],
    damage: impl FnOnce(&mut Vec<u8>),
) -> Result<()> {
    let whole = fs::read(path).context(|| path.display().to_string())?;
    let mut bytes = whole.clone();
    damage(&mut bytes);
    fs::write(path, &bytes)?;
    refused_on(home, "verify", &[], 1, words).context(|| path.display().to_string())?;
    fs::write(path, &whole)?;
    Ok(())
}

fn flip(at: usize) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| {
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
    }
}

#[test]
fn verify_names_what_is_wrong() -> Result<()> {
    scenario("log-verify", |home| {
        let records = real::records_of(WEB)?;
        let broker = Broker::start_with(home, 2, SETTINGS)?;
        client::create(&broker.address, "t", PARTITIONS)?;
        produce(&broker.address, "t", "none", &records)?;
        broker.stop()?;

        // While the end of the log is in the journal.
        let journal = home.data().join("journal");
        verified(home)?;
        let mut hit = 0;
        for path in files(&journal, "journal")? {
            let rounds = fs::read(&path)?;
            // The first round of a file that has one, in its payload.
            if rounds.starts_with(b"MSROUND1") && rounds.get(32..40) == Some(&1_u64.to_be_bytes()) {
                damaged(home, &path, &["problem: ", "round 1 ", "had been flushed"], flip(900))?;
                hit += 1;
            }
        }
        ensure(hit > 0, || "no journal with a first round".to_owned())?;

        done_on(home, "seal", &[])?;
        verified(home)?;
        let partition = home.data().join("t-0");
        let segments = files(&partition, "log")?;
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(failure("no segments"));
        };
        ensure(segments.len() > 1, || format!("{segments:?}"))?;
        let sealed = ["problem: t-0: segment 0: "];
        let says = |word| [&sealed[..], &[word]].concat();
        damaged(home, first, &says("CRC of the batch at offset 0"), flip(100))?;
        damaged(home, first, &says("begins at offset 1 where 0 follows"), flip(7))?;
        damaged(home, first, &says("no batch"), flip(16))?;
        damaged(home, first, &says("the checkpoint says"), |bytes| bytes.truncate(5000))?;
        damaged(home, last, &["the checkpoint says"], |bytes| bytes.extend([0; 10]))?;
        let index = first.with_extension("index");
        damaged(home, &index, &says("of the .index file"), flip(3))?;
        damaged(home, &index, &says("no whole entries"), |bytes| bytes.truncate(13))?;
        let times = first.with_extension("timeindex");
        damaged(home, &times, &says("of the .timeindex file"), flip(7))?;
        damaged(home, &times, &says("does not end"), |bytes| bytes.truncate(12))?;
        let snapshots = files(&partition, "snapshot")?;
        let snapshot = snapshots.first().ok_or_else(|| failure("no snapshot"))?;
        damaged(home, snapshot, &["snapshot", "damaged"], flip(20))?;
        let metadata = partition.join("partition.metadata");
        damaged(home, &metadata, &["names another topic id"], flip(25))?;
        let epochs = partition.join("leader-epoch-checkpoint");
        damaged(home, &epochs, &["leader-epoch-checkpoint is damaged"], flip(2))?;
        for path in files(&journal, "checkpoint")? {
            damaged(home, &path, &["the checkpoint is damaged"], flip(40))?;
        }
        let log = home.data().join("__cluster_metadata-0/metadata.log");
        damaged(home, &log, &["frame 1 is damaged"], flip(30))?;
        for path in [first, &index, &times] {
            let away = path.with_extension("away");
            fs::rename(path, &away)?;
            refused_on(home, "verify", &[], 1, &sealed)?;
            fs::rename(&away, path)?;
        }
        verified(home)?;

        // A dump says it, too.
        let whole = fs::read(first)?;
        let mut bytes = whole.clone();
        flip(100)(&mut bytes);
        fs::write(first, &bytes)?;
        let output = log_of(first)?;
        ensure(
            output.status.code() == Some(1) && text(&output).contains("isvalid: false"),
            || text(&output),
        )?;
        fs::write(first, whole.get(..5000).unwrap_or_default())?;
        let output = log_of(first)?;
        ensure(output.status.code() == Some(1) && text(&output).contains("no whole batch"), || {
            text(&output)
        })
    })
}

fn log_of(path: &Path) -> Result<Output> {
    log(&["dump"], &[path])
}

/// What a broker of Apache Kafka left: see its README.
fn kafka_logs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/kafka-log/logs")
}

/// Record `n` of Kafka's topic `visits` has this timestamp.
fn timestamp_of(n: usize) -> Result<i64> {
    Ok(1_700_000_000_000 + i64::try_from(n)? * 20_000)
}

#[test]
fn a_log_directory_of_kafka_is_served_as_is() -> Result<()> {
    scenario("log-import", |home| {
        let logs = kafka_logs();
        let named = |name: &str| logs.join(name).display().to_string();
        let whole = logs.display().to_string();
        let keep =
            ["--topic-config", "retention.ms=-1", "--topic-config", "index.interval.bytes=1024"];

        // Nothing is taken in unless all that is asked for can be served.
        refused_on(home, "import", &[&whole], 1, &["aborted-0", "was aborted", "leave"])?;
        let coordinator = named("__transaction_state-0");
        refused_on(home, "import", &[&coordinator], 1, &["keeps its own"])?;
        refused_on(home, "import", &[&named("visits-1")], 1, &["name all of them"])?;
        refused_on(home, "import", &[&whole, "--topic", "nobody"], 1, &["no partition of topic"])?;
        let bad = ["--topic", "visits", "--topic-config", "retention.ms=long"];
        refused_on(home, "import", &[&[&*whole], &bad[..]].concat(), 1, &["retention.ms"])?;
        let verified_empty = verified(home)?;
        ensure(verified_empty.get("partitions") == Some(&0.into()), || verified_empty.to_string())?;

        let topics = ["--topic", "visits", "--topic", "orders", "--topic", "empty"];
        let said = done_on(home, "import", &[&[&*whole], &topics[..], &keep].concat())?;
        for line in
            ["visits-0: offsets 0 to 200", "visits-1: offsets 20 to 200", "empty-0: offsets 0 to 0"]
        {
            ensure(said.contains(line), || said.clone())?;
        }
        verified(home)?;
        same_files(&logs.join("visits-0"), &home.data().join("visits-0"))?;
        same_files(&logs.join("visits-1"), &home.data().join("visits-1"))?;
        refused_on(home, "import", &[&named("visits-0")], 1, &["has records here"])?;

        let broker = Broker::start(home)?;
        check_visits(&broker.address)?;
        // Consumers skip the markers of transactions, which have offsets as records do.
        let consumer = client::consumer(&broker.address)?;
        let ends = client::high_watermarks(&consumer, "orders", 1)?;
        ensure(ends == [15], || format!("{ends:?}"))?;
        check_orders(&broker.address)?;

        // It goes on where Kafka ended, also for producers: their ids are not given out again.
        produce(&broker.address, "visits", "zstd", &real::records_of(WEB)?)?;
        let ends = client::high_watermarks(&consumer, "visits", PARTITIONS)?;
        ensure(ends == [5200, 5200], || format!("{ends:?}"))?;
        broker.kill()?;
        verified(home)?;
        let broker = Broker::start(home)?;
        check_visits(&broker.address)?;
        broker.stop()
    })
}

#[test]
fn a_partition_of_kafka_put_in_its_place_is_taken_in_where_it_is() -> Result<()> {
    scenario("log-import-in-place", |home| {
        let broker = Broker::start(home)?;
        client::create(&broker.address, "visits", PARTITIONS)?;
        broker.stop()?;
        let mut places = Vec::new();
        for partition in ["visits-0", "visits-1"] {
            let place = home.data().join(partition);
            fs::create_dir(&place)?;
            for entry in fs::read_dir(kafka_logs().join(partition))? {
                let entry = entry?;
                fs::copy(entry.path(), place.join(entry.file_name()))?;
            }
            places.push(place.display().to_string());
        }
        let arguments: Vec<&str> = places.iter().map(String::as_str).collect();
        done_on(home, "import", &arguments)?;
        verified(home)?;
        // The records are of 2023.
        let broker = Broker::start_with(home, 2, &[("log.retention.ms", "-1")])?;
        let consumer = client::consumer(&broker.address)?;
        let ends = client::high_watermarks(&consumer, "visits", PARTITIONS)?;
        ensure(ends == [200, 200], || format!("{ends:?}"))?;
        check_visits_from(&broker.address, &[0, 0])?;
        broker.stop()
    })
}

/// The segments are Kafka's, byte for byte, and so are the indexes made of them.
fn same_files(kafka: &Path, ours: &Path) -> Result<()> {
    for extension in ["log", "index", "timeindex", "snapshot"] {
        let (theirs, found) = (files(kafka, extension)?, files(ours, extension)?);
        let names = |paths: &[PathBuf]| -> Vec<_> {
            paths.iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect()
        };
        ensure(names(&theirs) == names(&found), || format!("{theirs:?} and {found:?}"))?;
        for (theirs, ours) in theirs.iter().zip(&found) {
            ensure(fs::read(theirs)? == fs::read(ours)?, || {
                format!("{} is not {}", ours.display(), theirs.display())
            })?;
        }
    }
    Ok(())
}

fn check_visits(address: &str) -> Result<()> {
    check_visits_from(address, &[0, 20])
}

/// The first 200 records of each partition, and where timestamps are found.
fn check_visits_from(address: &str, starts: &[i64]) -> Result<()> {
    let lines = real::records_of(WEB)?;
    let mut seen = 0;
    client::visit_from(address, "visits", starts, |partition, message| {
        let offset = usize::try_from(message.offset())?;
        if offset >= 200 {
            return Ok(());
        }
        let number = offset * 2 + partition;
        let input = lines.get(number).ok_or_else(|| failure("no such line"))?;
        let header = message.headers().map(|headers| headers.get(0));
        let same = message.payload() == Some(&input.value[..])
            && message.key() == input.key.as_deref()
            && message.timestamp().to_millis() == Some(timestamp_of(number)?)
            && header.and_then(|header| header.value) == Some(number.to_string().as_bytes());
        seen += 1;
        ensure(same, || format!("visits-{partition}:{offset} is not line {number}"))
    })?;
    let expected = 400 - starts.iter().sum::<i64>();
    ensure(seen == expected, || format!("{seen} of {expected} records"))?;
    for number in [40, 41, 199, 200, 398] {
        let at = timestamp_of(number)?;
        let found = client::offset_at(address, "visits", i32::try_from(number % 2)?, at)?;
        ensure(found == i64::try_from(number / 2)?, || format!("{at} found at {found}"))?;
    }
    Ok(())
}

fn check_orders(address: &str) -> Result<()> {
    let consumer = client::consumer(address)?;
    let mut assignment = rdkafka::TopicPartitionList::new();
    assignment.add_partition_offset("orders", 0, rdkafka::Offset::Beginning)?;
    rdkafka::consumer::Consumer::assign(&consumer, &assignment)?;
    for number in 0..12 {
        let message = crate::outcome::eventually("a record of orders", PATIENCE, || {
            Ok(consumer.poll(std::time::Duration::from_millis(100)).transpose()?)
        })?;
        // A marker behind every fourth.
        let offset = number + number / 4;
        let same = message.offset() == offset
            && message.payload() == Some(format!("value {number}").as_bytes());
        ensure(same, || format!("record {number} at {}", message.offset()))?;
    }
    Ok(())
}
