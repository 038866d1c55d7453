//! `millstream topic produce` and `consume`: lines to records and back.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use millstream::protocol::messages::fetch::{FetchPartition, FetchTopic};
use millstream::protocol::messages::metadata::MetadataResponseTopic;
use millstream::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use millstream::protocol::messages::{FetchRequest, ProduceRequest};
use millstream::protocol::{ErrorCode, StrBytes};
use millstream::record::{BatchBuilder, BatchView, Codec, batches, decompress, records};
use millstream::time::Clock;
use serde_json::json;

use super::Failure;
use super::remote::{Session, assignment, refused};
use super::topic::{EARLIEST, LATEST, offsets};

/// Records of one partition that go out together.
const BATCH_BYTES: usize = 64 * 1024;

/// Read at once.
const FETCH_BYTES: i32 = 1 << 20;

/// What a batch may decompress to.
const RECORDS_BYTES_MAX: usize = 128 << 20;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Acks {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Codec {
        match compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ProduceArgs {
    /// The topic
    name: String,
    /// What stands between a line's key and its value; without it lines have no key
    #[arg(short, long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Partition for all records; by the key if left out, without a key in turn
    #[arg(short, long)]
    partition: Option<i32>,
    /// Acknowledgement to wait for
    #[arg(long, value_enum, default_value = "all")]
    acks: Acks,
    /// Codec of the batches
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// A header of every record
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = assignment)]
    headers: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    /// The topic
    name: String,
    /// One partition only
    #[arg(short, long)]
    partition: Option<i32>,
    /// Where to begin: beginning, end, or an offset
    #[arg(long, value_name = "OFFSET", default_value = "beginning")]
    from: String,
    /// End after so many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    max_records: Option<u64>,
    /// Wait for more at the end
    #[arg(short, long)]
    follow: bool,
    /// Print key, tab, value
    #[arg(short, long)]
    keys: bool,
}

struct Producer<'a> {
    session: &'a mut Session,
    args: &'a ProduceArgs,
    topic: MetadataResponseTopic,
    open: BTreeMap<i32, BatchBuilder>,
    sent: u64,
}

pub(super) fn produce(
    session: &mut Session,
    args: &ProduceArgs,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let topic = session.topic(&args.name)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    if let Some(partition) = args.partition.filter(|partition| !(0..count).contains(partition)) {
        return Err(Failure::Runtime(format!(
            "topic {} has no partition {partition}; it has 0 to {}",
            args.name,
            count - 1
        )));
    }
    let mut producer = Producer { session, args, topic, open: BTreeMap::new(), sent: 0 };
    let input = io::stdin();
    // Somebody who types wants to see each line arrive.
    let at_once = input.is_terminal();
    let mut turn = 0;
    for (number, line) in input.lock().split(b'\n').enumerate() {
        let line = line.map_err(|error| {
            Failure::Runtime(format!("standard input cannot be read: {error}; give another"))
        })?;
        let (key, value) = match &args.key_separator {
            None => (None, line.as_slice()),
            Some(separator) => match split(&line, separator.as_bytes()) {
                Some((key, value)) => (Some(key), value),
                None => {
                    return Err(Failure::Runtime(format!(
                        "line {} has no '{separator}'; every line needs a key, or leave \
                         --key-separator out",
                        number + 1
                    )));
                }
            },
        };
        let partition = match (args.partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, count),
            (None, None) => turn % count.max(1),
        };
        let full = producer.add(partition, key, value);
        if full || at_once {
            producer.flush(partition)?;
            turn = turn.wrapping_add(1) & i32::MAX;
        }
    }
    let rest: Vec<i32> = producer.open.keys().copied().collect();
    for partition in rest {
        producer.flush(partition)?;
    }
    let sent = producer.sent;
    if as_json {
        return Ok(super::remote::json(out, &json!({ "topic": args.name, "records": sent }))?);
    }
    eprintln!("{sent} records to {}", args.name);
    Ok(())
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((line.get(..at)?, line.get(at + separator.len()..)?))
}

/// The partition of a key: Kafka's own choice, so that other clients agree (`BuiltInPartitioner`).
fn partition_of(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff).cast_signed() % count.max(1)
}

/// Murmur2 with Kafka's seed (`Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let (blocks, tail) = data.as_chunks::<4>();
    for block in blocks {
        let mut k = u32::from_le_bytes(*block).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

impl Producer<'_> {
    /// Adds a record; whether its batch is full.
    fn add(&mut self, partition: i32, key: Option<&[u8]>, value: &[u8]) -> bool {
        let codec = Codec::from(self.args.compression);
        let batch = self.open.entry(partition).or_insert_with(|| BatchBuilder::new().codec(codec));
        let headers: Vec<(&str, Option<&[u8]>)> = self
            .args
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value.as_bytes())))
            .collect();
        batch.record_with_headers(Clock::timestamp(), key, Some(value), &headers);
        batch.size() >= BATCH_BYTES
    }

    fn flush(&mut self, partition: i32) -> Result<(), Failure> {
        let Some(batch) = self.open.remove(&partition) else { return Ok(()) };
        let count = batch.records_count();
        let bytes = batch.build().map_err(|error| {
            Failure::Runtime(format!("the records cannot be made a batch: {error}; send less"))
        })?;
        let name = &self.args.name;
        let led = self.topic.partitions.iter().find(|p| p.partition_index == partition);
        let leader = led.map_or(-1, |partition| partition.leader_id);
        let data = PartitionProduceData { index: partition, records: Some(Bytes::from(bytes)) };
        let request = ProduceRequest {
            acks: match self.args.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: StrBytes::from(name.clone()),
                topic_id: self.topic.topic_id,
                partition_data: vec![data],
            }],
            ..Default::default()
        };
        let connection = self.session.broker(leader)?;
        if matches!(self.args.acks, Acks::None) {
            connection.tell(&request)?;
            self.sent += u64::from(count.unsigned_abs());
            return Ok(());
        }
        let response = connection.call(&request)?;
        for result in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            if result.error_code != ErrorCode::None {
                let what = format!(
                    "{count} records for {name}-{partition} were refused after {} were sent",
                    self.sent
                );
                let remedy = "see the topic's configs with `millstream topic describe`";
                return Err(refused(
                    &what,
                    result.error_code,
                    result.error_message.as_ref(),
                    remedy,
                ));
            }
        }
        self.sent += u64::from(count.unsigned_abs());
        Ok(())
    }
}

pub(super) fn consume(
    session: &mut Session,
    args: &ConsumeArgs,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let topic = session.topic(&args.name)?;
    let ends = offsets(session, &topic, LATEST)?;
    let mut next = match args.from.as_str() {
        "beginning" | "earliest" => offsets(session, &topic, EARLIEST)?,
        "end" | "latest" => ends.clone(),
        offset => {
            let offset = offset.parse::<i64>().ok().filter(|offset| *offset >= 0);
            let offset = offset.ok_or_else(|| {
                Failure::Usage(format!("--from {}: give beginning, end or an offset", args.from))
            })?;
            ends.keys().map(|partition| (*partition, offset)).collect()
        }
    };
    if let Some(only) = args.partition {
        next.retain(|partition, _| *partition == only);
        if next.is_empty() {
            return Err(Failure::Runtime(format!(
                "topic {} has no partition {only}; see `millstream topic describe {0}`",
                args.name
            )));
        }
    }
    let mut left = args.max_records.unwrap_or(u64::MAX);
    loop {
        if !args.follow {
            next.retain(|partition, offset| ends.get(partition).is_some_and(|end| *offset < *end));
        }
        if next.is_empty() || left == 0 {
            return Ok(out.flush()?);
        }
        let leaders: BTreeMap<i32, Vec<(i32, i64)>> = by_leader(&topic, &next);
        for (leader, partitions) in leaders {
            let fetched = fetch(session, leader, args, &topic, &partitions)?;
            for (partition, bytes) in fetched {
                let from = next.get(&partition).copied().unwrap_or(0);
                let stop = if args.follow { None } else { ends.get(&partition).copied() };
                let mut print = |record: &Record<'_>| print(record, args, as_json, out);
                let range = Range { partition, from, stop };
                let reached = each(&bytes, range, &mut left, &mut print)?;
                next.insert(partition, reached);
            }
        }
        out.flush()?;
    }
}

fn by_leader(
    topic: &MetadataResponseTopic,
    next: &BTreeMap<i32, i64>,
) -> BTreeMap<i32, Vec<(i32, i64)>> {
    let mut leaders: BTreeMap<i32, Vec<(i32, i64)>> = BTreeMap::new();
    for partition in &topic.partitions {
        if let Some(offset) = next.get(&partition.partition_index) {
            let wanted = (partition.partition_index, *offset);
            leaders.entry(partition.leader_id).or_default().push(wanted);
        }
    }
    leaders
}

fn fetch(
    session: &mut Session,
    leader: i32,
    args: &ConsumeArgs,
    topic: &MetadataResponseTopic,
    partitions: &[(i32, i64)],
) -> Result<Vec<(i32, Bytes)>, Failure> {
    let partitions = partitions
        .iter()
        .map(|(partition, fetch_offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes: FETCH_BYTES,
            ..Default::default()
        })
        .collect();
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 16 * FETCH_BYTES,
        topics: vec![FetchTopic {
            topic: StrBytes::from(args.name.clone()),
            topic_id: topic.topic_id,
            partitions,
        }],
        ..Default::default()
    };
    let response = session.broker(leader)?.call(&request)?;
    if response.error_code != ErrorCode::None {
        return Err(refused(
            &format!("reading {}", args.name),
            response.error_code,
            None,
            "try again",
        ));
    }
    let mut fetched = Vec::new();
    for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        match data.error_code {
            ErrorCode::None => {
                let bytes = data.records.as_ref().and_then(|records| records.as_inline());
                fetched.push((data.partition_index, bytes.cloned().unwrap_or_default()));
            }
            code => {
                let what = format!("reading {}-{}", args.name, data.partition_index);
                let remedy = match code {
                    ErrorCode::OffsetOutOfRange => {
                        "see START and END of `millstream topic describe`"
                    }
                    _ => "try again",
                };
                return Err(refused(&what, code, None, remedy));
            }
        }
    }
    Ok(fetched)
}

/// A record as it is printed.
struct Record<'a> {
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<(String, Option<String>)>,
}

/// Where records are wanted.
#[derive(Clone, Copy)]
struct Range {
    partition: i32,
    from: i64,
    stop: Option<i64>,
}

/// Shows every record of the range; gives the offset after the last batch.
fn each(
    bytes: &[u8],
    range: Range,
    left: &mut u64,
    show: &mut impl FnMut(&Record<'_>) -> io::Result<()>,
) -> Result<i64, Failure> {
    let damaged = |why: String| {
        let from = range.from;
        Failure::Runtime(format!(
            "partition {} at offset {from}: {why}; the log is damaged there, go on with --from",
            range.partition
        ))
    };
    let mut reached = range.from;
    for batch in batches(bytes) {
        // The last one may be cut off.
        let Ok(batch) = batch else { break };
        show_batch(&batch, range, left, show).map_err(|error| match error {
            Stop::Output(error) => error.into(),
            Stop::Damaged(why) => damaged(why),
        })?;
        reached = batch.header().next_offset().0.max(reached);
        if *left == 0 {
            break;
        }
    }
    Ok(reached)
}

enum Stop {
    Output(io::Error),
    Damaged(String),
}

fn show_batch(
    batch: &BatchView<'_>,
    range: Range,
    left: &mut u64,
    show: &mut impl FnMut(&Record<'_>) -> io::Result<()>,
) -> Result<(), Stop> {
    let header = batch.header();
    let attributes = header.attributes();
    if attributes.is_control() {
        return Ok(());
    }
    let codec = attributes.codec().ok_or_else(|| Stop::Damaged("a codec nobody knows".into()))?;
    let payload = decompress(codec, batch.payload(), RECORDS_BYTES_MAX)
        .map_err(|error| Stop::Damaged(error.to_string()))?;
    for record in records(&payload) {
        let record = record.map_err(|fault| Stop::Damaged(format!("{fault:?}")))?;
        let offset = header.base_offset().0 + i64::from(record.offset_delta);
        if offset < range.from || range.stop.is_some_and(|stop| offset >= stop) || *left == 0 {
            continue;
        }
        *left -= 1;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = Record {
            partition: range.partition,
            offset,
            timestamp: header.base_timestamp().0.wrapping_add(record.timestamp_delta),
            key: record.key,
            value: record.value,
            headers: record.headers.map(|(name, value)| (text(name), value.map(text))).collect(),
        };
        show(&shown).map_err(Stop::Output)?;
    }
    Ok(())
}

fn print(
    record: &Record<'_>,
    args: &ConsumeArgs,
    as_json: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if as_json {
        let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        let value = json!({
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": text(record.key),
            "value": text(record.value),
            "headers": record.headers,
        });
        return writeln!(out, "{value}");
    }
    if args.keys {
        out.write_all(record.key.unwrap_or(b""))?;
        out.write_all(b"\t")?;
    }
    out.write_all(record.value.unwrap_or(b""))?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_clients_send_them() {
        // From Kafka's own UtilsTest.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn lines_are_split_at_the_first_separator() {
        let parts = split(b"a::b::c", b"::");
        assert_eq!(parts, Some((&b"a"[..], &b"b::c"[..])));
        assert_eq!(split(b"abc", b":"), None);
    }
}
