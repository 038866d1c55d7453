//! A file as records, one per line, and back: real input, compared byte for byte.
//!
//! A record's partition follows from its key or, without keys, from its line's number, so that reading
//! back needs nothing but the file. Throughput is no concern here: one request at a time per broker.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use millstream::protocol::Records;
use millstream::protocol::messages::fetch::{FetchPartition, FetchTopic};
use millstream::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use millstream::protocol::messages::{FetchRequest, ProduceRequest};
use millstream::record::{BatchBuilder, batches};
use millstream::time::Clock;
use serde::{Deserialize, Serialize};

use crate::batches::values;
use crate::driver::control::{Control, Topic, check, offset_ranges};
use crate::error::{Doing, Error, Result};

/// A replay.
#[derive(Clone, Debug)]
pub struct ReplaySpec {
    /// Any broker of the cluster.
    pub bootstrap: String,
    /// The topic, created if it does not exist.
    pub topic: String,
    /// Partitions of a topic that has to be created.
    pub partitions: i32,
    /// The file.
    pub file: PathBuf,
    /// Which field of a line, counted from 1 and separated by white space, is the key.
    pub key_field: Option<usize>,
    /// The most that goes into one batch, as long as a line does not take more.
    pub batch_bytes: usize,
    /// Produce the file.
    pub produce: bool,
    /// Read it back: behind what was there before if it was produced, from the log's start otherwise.
    pub verify: bool,
}

/// What a replay did and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayResult {
    /// Lines in the file.
    pub lines: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Batches sent.
    pub batches: u64,
    /// Records read back.
    pub read: u64,
    /// The first difference of each partition that has one.
    pub differences: Vec<String>,
}

type Line<'a> = (Option<&'a [u8]>, &'a [u8]);

/// Replays as told.
///
/// # Errors
/// If the file or the broker cannot be read, or the broker refuses a batch.
pub fn run(spec: &ReplaySpec) -> Result<ReplayResult> {
    let text = std::fs::read(&spec.file).doing(spec.file.display())?;
    let mut control = Control::connect(&spec.bootstrap)?;
    let topic = control.topic(&spec.topic, spec.produce.then_some(spec.partitions))?;
    let before = offset_ranges(&topic)?;
    let lines = deal(&text, spec.key_field, topic.leaders.len());
    let mut brokers = Brokers::default();
    let mut result = ReplayResult {
        lines: lines.iter().map(|l| l.len() as u64).sum(),
        bytes: lines.iter().flatten().map(|(_, line)| line.len() as u64).sum(),
        ..ReplayResult::default()
    };
    if spec.produce {
        for (partition, lines) in (0..).zip(&lines) {
            let control = brokers.leader(&topic, partition)?;
            result.batches += produce(control, &topic, partition, lines, spec.batch_bytes)?;
        }
    }
    if spec.verify {
        for ((partition, lines), (first, next)) in (0..).zip(&lines).zip(before) {
            let from = if spec.produce { next } else { first };
            let control = brokers.leader(&topic, partition)?;
            let (read, difference) = compare(control, &topic, partition, from, lines)?;
            result.read += read;
            result
                .differences
                .extend(difference.map(|d| format!("{}-{partition}: {d}", spec.topic)));
        }
    }
    Ok(result)
}

/// The lines of each partition, in order, with their keys.
fn deal(text: &[u8], key_field: Option<usize>, partitions: usize) -> Vec<Vec<Line<'_>>> {
    let mut dealt = vec![Vec::new(); partitions.max(1)];
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return dealt;
    }
    for (number, line) in whole.split(|b| *b == b'\n').enumerate() {
        let key = key_field.and_then(|n| {
            line.split(u8::is_ascii_whitespace)
                .filter(|field| !field.is_empty())
                .nth(n.saturating_sub(1))
        });
        let place = key.map_or(number, |key| crc32c::crc32c(key) as usize);
        let partition = place % dealt.len();
        dealt[partition].push((key, line));
    }
    dealt
}

#[derive(Default)]
struct Brokers(BTreeMap<String, Control>);

impl Brokers {
    fn leader(&mut self, topic: &Topic, partition: usize) -> Result<&mut Control> {
        let address = &topic.leaders[partition];
        match self.0.entry(address.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(Control::connect(address)?)),
        }
    }
}

fn produce(
    control: &mut Control,
    topic: &Topic,
    partition: usize,
    lines: &[Line<'_>],
    most: usize,
) -> Result<u64> {
    let mut count = 0;
    let mut rest = lines.iter().peekable();
    while rest.peek().is_some() {
        let now = Clock::timestamp();
        let mut builder = BatchBuilder::new();
        while let Some((key, line)) = rest.peek() {
            let size = builder.size() + BatchBuilder::record_size_max(*key, Some(line));
            if size > most && builder.records_count() > 0 {
                break;
            }
            builder.record(now, *key, Some(line));
            rest.next();
        }
        let batch =
            builder.build().map_err(|e| Error::Usage(format!("a line is too long: {e}")))?;
        send(control, topic, partition, batch)?;
        count += 1;
    }
    Ok(count)
}

fn send(control: &mut Control, topic: &Topic, partition: usize, batch: Vec<u8>) -> Result<()> {
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.clone().into(),
            topic_id: topic.id,
            partition_data: vec![PartitionProduceData {
                index: index(partition),
                records: Some(Bytes::from(batch)),
            }],
        }],
    };
    let response = control.call(&request)?;
    let answer = response.responses.iter().flat_map(|t| &t.partition_responses).next();
    let answer =
        answer.ok_or_else(|| Error::Peer("a Produce response without partitions".to_owned()))?;
    check(answer.error_code, &format!("producing to {}-{partition}", topic.name))
}

fn index(partition: usize) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// Reads as many records as there are lines, from `offset` on; returns how many came and the first that
/// is another.
fn compare(
    control: &mut Control,
    topic: &Topic,
    partition: usize,
    mut offset: i64,
    lines: &[Line<'_>],
) -> Result<(u64, Option<String>)> {
    let mut expected = lines.iter();
    let mut read = 0;
    let begin = Clock::monotonic();
    while expected.len() > 0 {
        let records = fetch(control, topic, partition, offset)?;
        let before = offset;
        for batch in batches(&records) {
            // The last one may be cut off; anything else shows as a record that is another.
            let Ok(batch) = batch else { break };
            if !batch.crc_valid() || batch.header().base_offset().0 != offset {
                return Ok((
                    read,
                    Some(format!("the batch at offset {offset} is corrupt or elsewhere")),
                ));
            }
            for value in values(batch.payload()) {
                let got = value.map(|v| (v.key, v.bytes));
                match expected.next() {
                    Some(line) if got == Some(*line) => read += 1,
                    Some(_) => {
                        return Ok((
                            read,
                            Some(format!("line {} of the partition differs", read + 1)),
                        ));
                    }
                    // Whatever else was produced meanwhile.
                    None => return Ok((read, None)),
                }
            }
            offset = batch.header().next_offset().0;
        }
        if offset == before && Clock::monotonic().since(begin) > COMPLETE_WITHIN {
            return Ok((read, Some(format!("{} records are missing", expected.len()))));
        }
    }
    Ok((read, None))
}

/// What was acknowledged is readable at once; the rest of the time is for a slow machine.
const COMPLETE_WITHIN: Duration = Duration::from_secs(10);

fn fetch(control: &mut Control, topic: &Topic, partition: usize, offset: i64) -> Result<Bytes> {
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 8 << 20,
        topics: vec![FetchTopic {
            topic: topic.name.clone().into(),
            topic_id: topic.id,
            partitions: vec![FetchPartition {
                partition: index(partition),
                fetch_offset: offset,
                partition_max_bytes: 8 << 20,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let response = control.call(&request)?;
    check(response.error_code, "Fetch")?;
    let data = response.responses.into_iter().flat_map(|t| t.partitions).next();
    let data = data.ok_or_else(|| Error::Peer("a Fetch response without partitions".to_owned()))?;
    check(data.error_code, &format!("fetching {}-{partition}", topic.name))?;
    Ok(data.records.as_ref().and_then(Records::as_inline).cloned().unwrap_or_default())
}

/// The name of a file without its ending, for a topic.
#[must_use]
pub fn topic_name(file: &Path) -> String {
    let stem =
        file.file_stem().map_or_else(|| "replay".to_owned(), |s| s.to_string_lossy().into_owned());
    stem.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dealt_by_key_and_keep_their_order() {
        let text = b"a 1\nb 2\na 3\n\nb 4 \na 5\n";
        let dealt = deal(text, Some(1), 3);
        assert_eq!(dealt.iter().map(Vec::len).sum::<usize>(), 6);
        let of_a: Vec<_> =
            dealt.iter().flatten().filter(|(key, _)| *key == Some(b"a")).map(|(_, l)| *l).collect();
        assert_eq!(of_a, [b"a 1", b"a 3", b"a 5"]);
        assert!(dealt.iter().flatten().any(|(key, line)| key.is_none() && line.is_empty()));
    }

    #[test]
    fn without_keys_lines_take_turns() {
        let dealt = deal(b"0\n1\n2\n3\n4", None, 2);
        assert_eq!(dealt[0].iter().map(|(_, l)| *l).collect::<Vec<_>>(), [b"0", b"2", b"4"]);
        assert!(deal(b"", None, 2).iter().all(Vec::is_empty));
    }

    #[test]
    fn topic_names_are_legal() {
        assert_eq!(topic_name(Path::new("data/web access.log")), "web_access");
    }
}
