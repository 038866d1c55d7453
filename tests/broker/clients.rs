//! Both real files through librdkafka and through kcat, at every acks and with every codec, and back.
//!
//! Every topic has 64 partitions over two cores, so each connection stands on the wrong core for half
//! of what passes through it, whichever core that is.

use std::collections::BTreeMap;
use std::fs;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use crate::broker::{Broker, Home, PATIENCE, scenario};
use crate::client::{self, Stored};
use crate::kcat;
use crate::outcome::{Context, Result, ensure, failure};
use crate::real::{self, Input, METRICS, WEB};

const PARTITIONS: i32 = 64;
const ACKS: &[&str] = &["0", "1", "all"];
/// `acks=all` with `enable.idempotence`, which is what most clients do by themselves.
const IDEMPOTENT: &str = "idempotent";
const CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];

#[test]
fn librdkafka_streams_the_real_files() -> Result<()> {
    scenario("clients-librdkafka", |home| {
        let broker = Broker::start(home)?;
        let records = real::records()?;
        for codec in ["none", "zstd"] {
            let topic = format!("rdkafka-{IDEMPOTENT}-{codec}");
            librdkafka_round(&broker.address, &topic, IDEMPOTENT, codec, &records)
                .context(|| topic.clone())?;
        }
        for acks in ACKS {
            for codec in CODECS {
                let topic = format!("rdkafka-{acks}-{codec}");
                librdkafka_round(&broker.address, &topic, acks, codec, &records)
                    .context(|| topic.clone())?;
            }
        }
        broker.stop()
    })
}

/// One topic written and read back by librdkafka.
fn librdkafka_round(
    address: &str,
    topic: &str,
    acks: &str,
    codec: &str,
    records: &[Input],
) -> Result<()> {
    client::create(address, topic, PARTITIONS)?;
    let expected = produce(address, topic, acks, codec, records)?;
    client::await_records(address, topic, PARTITIONS, records.len())?;

    let whole = client::read_from(address, topic, &[0; PARTITIONS as usize])?;
    compare(&whole, &expected, records)?;

    // By offset: from the middle of every partition.
    let middles = expected
        .iter()
        .map(|log| i64::try_from(log.len() / 2))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let halves: Vec<Vec<usize>> =
        expected.iter().map(|log| log.get(log.len() / 2..).unwrap_or_default().to_vec()).collect();
    compare(&client::read_from(address, topic, &middles)?, &halves, records)
        .context(|| "from the middle".to_owned())
}

/// Produces all records and answers what each partition must hold: indexes into `records`, in order.
fn produce(
    address: &str,
    topic: &str,
    acks: &str,
    codec: &str,
    records: &[Input],
) -> Result<Vec<Vec<usize>>> {
    let mut settings = vec![("compression.codec", codec)];
    match acks {
        IDEMPOTENT => settings.extend([
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.send.max.retries", "1000"),
        ]),
        acks => settings.push(("acks", acks)),
    }
    let (producer, deliveries) = client::producer(address, &settings)?;
    let mut expected = vec![Vec::new(); PARTITIONS as usize];
    for (index, input) in records.iter().enumerate() {
        // The key decides; a record without one goes where its number says.
        let hash = input.key.as_ref().map_or(u32::try_from(index)?, |key| crc32c::crc32c(key));
        let partition = i32::try_from(hash % PARTITIONS as u32)?;
        let log: &mut Vec<usize> = expected
            .get_mut(usize::try_from(partition)?)
            .ok_or_else(|| failure("no such partition"))?;
        log.push(index);
        let headers = headers(input, index);
        loop {
            let mut record =
                BaseRecord::with_opaque_to(topic, index).partition(partition).payload(&input.value);
            if let Some(key) = &input.key {
                record = record.key(key);
            }
            match producer.send(record.headers(headers.clone())) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(std::time::Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(PATIENCE)?;
    let mut delivered = 0;
    for delivery in deliveries.try_iter() {
        let offset = delivery.offset.context(|| format!("record {}", delivery.index))?;
        let log = expected
            .get(usize::try_from(delivery.partition)?)
            .ok_or_else(|| failure("no such partition"))?;
        if acks != "0" {
            let at = log.get(usize::try_from(offset)?);
            ensure(at == Some(&delivery.index), || {
                format!("record {} acknowledged at {}:{offset}", delivery.index, delivery.partition)
            })?;
        }
        delivered += 1;
    }
    ensure(delivered == records.len(), || {
        format!("{delivered} of {} records delivered", records.len())
    })?;
    Ok(expected)
}

fn headers(input: &Input, index: usize) -> OwnedHeaders {
    let line = index.to_be_bytes();
    OwnedHeaders::new()
        .insert(Header { key: "file", value: Some(input.file) })
        .insert(Header { key: "line", value: Some(&line[..]) })
        .insert(Header { key: "nothing", value: None::<&[u8]> })
}

/// Key, value and headers of every record, at its place.
fn compare(read: &[Vec<Stored>], expected: &[Vec<usize>], records: &[Input]) -> Result<()> {
    for (partition, (log, indexes)) in read.iter().zip(expected).enumerate() {
        ensure(log.len() == indexes.len(), || {
            format!(
                "partition {partition} holds {} records, {} were sent",
                log.len(),
                indexes.len()
            )
        })?;
        for (stored, index) in log.iter().zip(indexes) {
            let input = records.get(*index).ok_or_else(|| failure("no such record"))?;
            let headers = [
                ("file".to_owned(), Some(input.file.as_bytes().to_vec())),
                ("line".to_owned(), Some(index.to_be_bytes().to_vec())),
                ("nothing".to_owned(), None),
            ];
            let same =
                stored.key == input.key && stored.value == input.value && stored.headers == headers;
            ensure(same, || {
                format!("{partition}:{} is not record {index}: {stored:?}", stored.offset)
            })?;
        }
    }
    Ok(())
}

#[test]
fn kcat_streams_the_real_files() -> Result<()> {
    scenario("clients-kcat", |home| {
        let broker = Broker::start(home)?;
        let web = real::records_of(WEB)?;
        let metrics = real::records_of(METRICS)?;
        let keyed = keyed_file(home, &web)?;
        for acks in ACKS {
            for codec in CODECS {
                let topic = format!("kcat-{acks}-{codec}");
                kcat_produces(&broker.address, &topic, acks, codec, &keyed)
                    .context(|| topic.clone())?;
                client::await_records(
                    &broker.address,
                    &topic,
                    PARTITIONS,
                    web.len() + metrics.len(),
                )?;
                kcat_reads(&broker.address, &topic, &web, &metrics).context(|| topic.clone())?;
            }
        }
        broker.stop()
    })
}

/// The web log as kcat takes keys: `key TAB line`. No line of it holds a tab.
fn keyed_file(home: &Home, web: &[Input]) -> Result<String> {
    let path = home.file("web-access.keyed");
    let mut bytes = Vec::new();
    for input in web {
        bytes.extend_from_slice(input.key.as_deref().unwrap_or_default());
        bytes.push(b'\t');
        bytes.extend_from_slice(&input.value);
        bytes.push(b'\n');
    }
    fs::write(&path, bytes)?;
    Ok(path.display().to_string())
}

/// The partition the metrics go to; any will do, and one makes their order exact.
const METRICS_PARTITION: i32 = 7;

fn kcat_produces(address: &str, topic: &str, acks: &str, codec: &str, keyed: &str) -> Result<()> {
    client::create(address, topic, PARTITIONS)?;
    let acks = format!("acks={acks}");
    let common = ["-P", "-t", topic, "-z", codec, "-X", &acks];
    let web = ["-K", "\\t", "-H", "file=web-access.log", "-H", "origin=kcat", "-l", keyed];
    kcat::run(address, &[&common[..], &web[..]].concat())?;
    let partition = METRICS_PARTITION.to_string();
    let path = real::path(METRICS).display().to_string();
    let metrics =
        ["-p", &partition, "-H", "file=server-metrics.jsonl", "-H", "origin=kcat", "-l", &path];
    kcat::run(address, &[&common[..], &metrics[..]].concat())?;
    Ok(())
}

/// One line of kcat's output.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    partition: usize,
    offset: usize,
    headers: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
}

fn kcat_consumes(address: &str, topic: &str, arguments: &[&str]) -> Result<Vec<Printed>> {
    let common = ["-C", "-t", topic, "-e", "-q", "-f", "%p\\t%o\\t%h\\t%k\\t%s\\n"];
    let output = kcat::run(address, &[&common[..], arguments].concat())?;
    let lines = output.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            printed(line).ok_or_else(|| failure(String::from_utf8_lossy(line).into_owned()))
        })
        .collect()
}

fn printed(line: &[u8]) -> Option<Printed> {
    let mut fields = line.splitn(5, |b| *b == b'\t');
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    Some(Printed {
        partition: number(fields.next()?)?,
        offset: number(fields.next()?)?,
        headers: fields.next()?.to_vec(),
        key: fields.next()?.to_vec(),
        value: fields.next()?.to_vec(),
    })
}

fn kcat_reads(address: &str, topic: &str, web: &[Input], metrics: &[Input]) -> Result<()> {
    let all = kcat_consumes(address, topic, &["-o", "beginning"])?;
    ensure(all.len() == web.len() + metrics.len(), || format!("kcat read {} records", all.len()))?;

    // kcat's partitioner is its own: a key's partition is the one its first record was found in.
    let (mut places, mut ends) = (BTreeMap::new(), vec![0; PARTITIONS as usize]);
    let mut found: Vec<Vec<&Printed>> = vec![Vec::new(); PARTITIONS as usize];
    let mut found_metrics = Vec::new();
    for record in &all {
        let end = ends.get_mut(record.partition).ok_or_else(|| failure("no such partition"))?;
        ensure(record.offset == *end, || format!("{record:?} where offset {end} follows"))?;
        *end += 1;
        if record.headers == b"file=web-access.log,origin=kcat" {
            places.entry(record.key.clone()).or_insert(record.partition);
            found
                .get_mut(record.partition)
                .ok_or_else(|| failure("no such partition"))?
                .push(record);
        } else {
            ensure(record.headers == b"file=server-metrics.jsonl,origin=kcat", || {
                format!("headers of {record:?}")
            })?;
            ensure(record.partition == METRICS_PARTITION as usize, || {
                format!("partition of {record:?}")
            })?;
            found_metrics.push(record);
        }
    }
    ensure(places.len() > 1 && ends.iter().filter(|end| **end > 0).count() > 1, || {
        "all in one place".to_owned()
    })?;

    same_lines(&found_metrics, &metrics.iter().collect::<Vec<_>>())
        .context(|| METRICS.to_owned())?;
    let place = |input: &Input| input.key.as_ref().and_then(|key| places.get(key)).copied();
    for (partition, found) in found.iter().enumerate() {
        let sent: Vec<&Input> =
            web.iter().filter(|input| place(input) == Some(partition)).collect();
        same_lines(found, &sent).context(|| format!("{WEB}, partition {partition}"))?;
    }

    // By offset: the second half of the partition that holds both files.
    let whole: Vec<&Printed> =
        all.iter().filter(|r| r.partition == METRICS_PARTITION as usize).collect();
    let (partition, middle) = (METRICS_PARTITION.to_string(), (whole.len() / 2).to_string());
    let half = kcat_consumes(address, topic, &["-p", &partition, "-o", &middle])?;
    let same = half.iter().eq(whole.get(whole.len() / 2..).unwrap_or_default().iter().copied());
    ensure(same, || format!("from offset {middle}, {} records that differ", half.len()))
}

fn same_lines(found: &[&Printed], sent: &[&Input]) -> Result<()> {
    ensure(found.len() == sent.len(), || {
        format!("{} records, {} were sent", found.len(), sent.len())
    })?;
    for (record, input) in found.iter().zip(sent) {
        let same =
            record.value == input.value && record.key == input.key.as_deref().unwrap_or_default();
        ensure(same, || format!("{record:?} is not what was sent"))?;
    }
    Ok(())
}
