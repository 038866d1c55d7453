//! What is sent: templates, and the order in which they go to the partitions.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;

use millstream::time::Timestamp;

use crate::batches::{Template, VALUE_BYTES_MIN};
use crate::error::{Doing, Error, Result};
use crate::random::{Random, Zipf};

/// Where the records come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// One batch of equal records that do not compress, sent to all partitions in turn.
    Filler {
        /// The size of a batch.
        batch_bytes: usize,
        /// The size of a record's value.
        record_bytes: usize,
    },
    /// A stream of lines, each with a key that decides its partition; batches as the stream fills them.
    Lines(Lines),
}

/// A stream of lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// The lines.
    pub source: Source,
    /// The records' keys.
    pub keys: Keys,
    /// A batch is sent when it is this large ...
    pub batch_bytes: usize,
    /// ... or when so many records have come since it was begun, as a linger would have it: what makes
    /// the batches of unpopular partitions small.
    pub linger_records: Option<usize>,
    /// The bytes of templates that are made before the stream repeats.
    pub tape_bytes: usize,
}

/// Where lines come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A website's access log, about 240 bytes a line; this program carries it.
    AccessLog,
    /// A server's metrics as JSON, about 5.6 KB a line; this program carries them.
    Metrics,
    /// A file.
    File(PathBuf),
}

impl Source {
    fn text(&self) -> Result<Cow<'static, str>> {
        Ok(match self {
            Source::AccessLog => {
                Cow::Borrowed(include_str!("../../../tests/data/real/web-access.log"))
            }
            Source::Metrics => {
                Cow::Borrowed(include_str!("../../../tests/data/real/server-metrics.jsonl"))
            }
            Source::File(path) => Cow::Owned(std::fs::read_to_string(path).doing(path.display())?),
        })
    }
}

/// The keys of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keys {
    /// None: partitions in turn.
    None,
    /// A field of the line, counted from 1 and separated by white space.
    Field(usize),
    /// Drawn by Zipf's law.
    Zipf {
        /// Different keys.
        count: usize,
        /// 0 is even, 1 is steep.
        exponent: f64,
    },
}

/// The templates, and which goes where next.
pub(super) struct Tape {
    pub(super) templates: Vec<Template>,
    /// Partition and template, in order; none means the one template to all partitions in turn.
    pub(super) entries: Option<Vec<(i32, u32)>>,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = match self {
            Payload::Filler { batch_bytes, record_bytes } => {
                return write!(
                    f,
                    "batches of {batch_bytes} bytes, values of {record_bytes} that do not compress"
                );
            }
            Payload::Lines(lines) => lines,
        };
        match &lines.source {
            Source::AccessLog => f.write_str("lines of an access log")?,
            Source::Metrics => f.write_str("lines of metrics")?,
            Source::File(path) => write!(f, "lines of {}", path.display())?,
        }
        match lines.keys {
            Keys::None => f.write_str(", no keys")?,
            Keys::Field(field) => write!(f, ", field {field} is the key")?,
            Keys::Zipf { count, exponent } => {
                write!(f, ", {count} keys by Zipf's law with exponent {exponent}")?;
            }
        }
        write!(f, ", batches of at most {} bytes", lines.batch_bytes)?;
        match lines.linger_records {
            Some(linger) => write!(f, ", sent after {linger} records of the stream at the latest"),
            None => Ok(()),
        }
    }
}

impl Payload {
    pub(super) fn tape(&self, partitions: usize, created: Timestamp) -> Result<Tape> {
        match self {
            Payload::Filler { batch_bytes, record_bytes } => {
                let template = Template::new(*batch_bytes, *record_bytes, created)?;
                Ok(Tape { templates: vec![template], entries: None })
            }
            Payload::Lines(lines) => lines.tape(partitions, created),
        }
    }
}

/// A batch being filled.
#[derive(Default)]
struct Open {
    records: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    bytes: usize,
    begun_at: usize,
}

impl Lines {
    fn tape(&self, partitions: usize, created: Timestamp) -> Result<Tape> {
        let text = self.source.text()?;
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        if lines.is_empty() || partitions == 0 {
            return Err(Error::Usage("there are no lines, or no partitions".to_owned()));
        }
        let mut random = Random::new(20);
        let zipf = match self.keys {
            Keys::Zipf { count, exponent } => Some(Zipf::new(count, exponent)),
            _ => None,
        };
        let mut open: Vec<Open> = (0..partitions).map(|_| Open::default()).collect();
        let mut lingering: VecDeque<(usize, usize)> = VecDeque::new();
        let mut tape = Tape { templates: Vec::new(), entries: Some(Vec::new()) };
        let (mut at, mut bytes) = (0, 0);
        while bytes < self.tape_bytes.max(self.batch_bytes) {
            let line = lines[at % lines.len()];
            let key = match (&self.keys, &zipf) {
                (_, Some(zipf)) => Some(format!("user-{:06}", zipf.rank(&mut random)).into_bytes()),
                (Keys::Field(field), _) => {
                    let field = line.split_whitespace().nth(field.saturating_sub(1));
                    Some(field.unwrap_or_default().as_bytes().to_vec())
                }
                _ => None,
            };
            let partition = key.as_ref().map_or(at, |key| murmur2(key) as usize) % partitions;
            let size = line.len() + key.as_ref().map_or(0, Vec::len) + VALUE_BYTES_MIN + 12;
            if open[partition].bytes + size > self.batch_bytes {
                bytes += close(&mut open[partition], partition, &mut tape, created)?;
            }
            let batch = &mut open[partition];
            if batch.records.is_empty() {
                batch.begun_at = at;
                lingering.push_back((at, partition));
            }
            batch.bytes += size;
            batch.records.push((key, line.as_bytes().to_vec()));
            at += 1;
            while let (Some((begun, partition)), Some(linger)) =
                (lingering.front().copied(), self.linger_records)
                && begun + linger <= at
            {
                lingering.pop_front();
                if open[partition].begun_at == begun && !open[partition].records.is_empty() {
                    bytes += close(&mut open[partition], partition, &mut tape, created)?;
                }
            }
        }
        Ok(tape)
    }
}

/// Makes a batch of what is there and puts it at the tape's end; its size.
fn close(open: &mut Open, partition: usize, tape: &mut Tape, created: Timestamp) -> Result<usize> {
    let batch = std::mem::take(open);
    if batch.records.is_empty() {
        return Ok(0);
    }
    let records: Vec<(Option<&[u8]>, &[u8])> =
        batch.records.iter().map(|(key, line)| (key.as_deref(), line.as_slice())).collect();
    let template = Template::of_records(&records, created)?;
    let size = template.bytes().len();
    let number = u32::try_from(tape.templates.len())
        .map_err(|_| Error::Usage("too many batches".to_owned()))?;
    tape.templates.push(template);
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    tape.entries.get_or_insert_default().push((partition, number));
    Ok(size)
}

/// The hash by which Kafka's clients place keys (`Utils.murmur2`), without its sign.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn lines(keys: Keys, linger_records: Option<usize>) -> Lines {
        Lines {
            source: Source::AccessLog,
            keys,
            batch_bytes: 8192,
            linger_records,
            tape_bytes: 1 << 20,
        }
    }

    #[test]
    fn keys_are_hashed_as_kafka_hashes_them() {
        // From Kafka's UtilsTest, without their sign.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash.cast_unsigned() & 0x7fff_ffff, "{key}");
        }
    }

    #[test]
    fn skewed_keys_fill_some_partitions_more_than_others() {
        let count = |tape: &Tape| {
            let mut counts = vec![0_u32; 16];
            for (partition, number) in tape.entries.as_ref().unwrap() {
                let template = &tape.templates[*number as usize];
                assert!(template.bytes().len() <= 8192 + 100);
                counts[*partition as usize] += template.records();
            }
            counts.sort_unstable();
            counts
        };
        let even = Payload::Lines(lines(Keys::None, None)).tape(16, NOW).unwrap();
        let steep = Keys::Zipf { count: 10_000, exponent: 1.1 };
        let steep = Payload::Lines(lines(steep, Some(200))).tape(16, NOW).unwrap();
        let (even, steep_counts) = (count(&even), count(&steep));
        assert!(even[0] * 2 > even[15], "{even:?}");
        assert!(steep_counts[0] * 2 < steep_counts[15], "{steep_counts:?}");
        let sizes = steep.templates.iter().map(|t| t.bytes().len());
        assert!(sizes.min() < Some(7000), "lingering makes small batches");
    }
}
