//! The batches the generator sends and the oracle recognises: encoded once, then only stamped.
//!
//! Every record's value begins with a stamp:
//!
//! ```text
//! 0        8          12         20      24
//! | run id | producer | sequence | index | filler ...
//! ```
//!
//! Run id, producer and sequence (the batch's number among those the producer wrote to the partition)
//! stand in the first record only and are zero in the others; the index is each record's place in its
//! batch and never changes. So a batch costs 20 changed bytes and a CRC corrected by linearity, however
//! large it is, and what follows the stamp is one buffer shared by all connections.

use bytes::Bytes;
use millstream::record::{BatchBuilder, BatchView, CrcShift, HEADER_SIZE};
use millstream::time::Timestamp;

use crate::error::{Error, Result};

/// The part of the stamp that changes.
const STAMP_BYTES: usize = 20;
/// The whole of it, and so the smallest value.
pub const VALUE_BYTES_MIN: usize = 24;
/// Where a batch holds its CRC.
const CRC_AT: usize = 17;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The run of the generator that wrote it.
    pub run: u64,
    /// Which of the run's producers.
    pub producer: u32,
    /// Its number among the producer's batches for the partition, from 0.
    pub sequence: u64,
}

impl Stamp {
    fn bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.run.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.producer.to_be_bytes());
        bytes[12..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    fn read(value: &[u8]) -> Option<Stamp> {
        let (run, rest) = value.split_first_chunk::<8>()?;
        let (producer, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, _) = rest.split_first_chunk::<8>()?;
        Some(Stamp {
            run: u64::from_be_bytes(*run),
            producer: u32::from_be_bytes(*producer),
            sequence: u64::from_be_bytes(*sequence),
        })
    }
}

/// An encoded batch with an empty stamp.
pub struct Template {
    bytes: Bytes,
    stamp_at: usize,
    crc: u32,
    shift: CrcShift,
    records: u32,
}

impl Template {
    /// A batch of `batch_bytes` with values of `record_bytes`; the last value is longer by what is left
    /// over.
    ///
    /// # Errors
    /// If not even one record fits, or values cannot hold a stamp.
    pub fn new(batch_bytes: usize, record_bytes: usize, created: Timestamp) -> Result<Template> {
        if record_bytes < VALUE_BYTES_MIN {
            return Err(Error::Usage(format!(
                "a record needs at least {VALUE_BYTES_MIN} bytes for its stamp"
            )));
        }
        let one = HEADER_SIZE + BatchBuilder::record_size_max(None, Some(&vec![0; record_bytes]));
        if batch_bytes < one {
            return Err(Error::Usage(format!(
                "a batch of {batch_bytes} bytes has no room for such a record"
            )));
        }
        let mut count = 1;
        while encode(count + 1, record_bytes, 0, created)?.len() <= batch_bytes {
            // Doubling, then the exact step: an encode per record would be quadratic.
            let size = encode(count, record_bytes, 0, created)?.len();
            let per_record = size.saturating_sub(HEADER_SIZE) / count + 1;
            count += ((batch_bytes - size) / per_record).max(1);
        }
        while encode(count, record_bytes, 0, created)?.len() > batch_bytes {
            count -= 1;
        }
        let mut spare = batch_bytes - encode(count, record_bytes, 0, created)?.len();
        let mut bytes = encode(count, record_bytes, spare, created)?;
        while bytes.len() > batch_bytes {
            // The longer value's own length prefixes have grown.
            spare = spare.saturating_sub(bytes.len() - batch_bytes);
            bytes = encode(count, record_bytes, spare, created)?;
        }
        Template::of(bytes, count)
    }

    fn of(bytes: Vec<u8>, count: usize) -> Result<Template> {
        let view = BatchView::parse(&bytes)
            .map_err(|e| Error::Usage(format!("the template is no batch: {e}")))?;
        let crc = view.header().crc();
        let value = values(view.payload()).next().flatten();
        let Some(value) = value else {
            return Err(Error::Usage("the template has no record".to_owned()));
        };
        let stamp_at = HEADER_SIZE + value.at;
        let shift = CrcShift::new(bytes.len() - stamp_at - STAMP_BYTES);
        let records =
            u32::try_from(count).map_err(|_| Error::Usage("too many records".to_owned()))?;
        Ok(Template { bytes: Bytes::from(bytes), stamp_at, crc, shift, records })
    }

    /// The whole batch with its empty stamp.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records it holds.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// The length of the part that stamping changes: a copy of it is all a sender needs of its own.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.stamp_at + STAMP_BYTES
    }

    /// What follows the head, the same in every batch.
    #[must_use]
    pub fn tail(&self) -> Bytes {
        self.bytes.slice(self.head_bytes()..)
    }

    /// Stamps a copy of the head, whatever its stamp was before.
    pub fn stamp(&self, head: &mut [u8], stamp: Stamp) {
        let new = stamp.bytes();
        let crc = self.shift.patch(self.crc, &[0; STAMP_BYTES], &new);
        head[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        head[self.stamp_at..self.stamp_at + STAMP_BYTES].copy_from_slice(&new);
    }

    /// A whole stamped batch.
    #[must_use]
    pub fn stamped(&self, stamp: Stamp) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        self.stamp(&mut bytes[..self.head_bytes()], stamp);
        bytes
    }
}

fn encode(count: usize, record_bytes: usize, spare: usize, created: Timestamp) -> Result<Vec<u8>> {
    let mut builder = BatchBuilder::new();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for index in 0..count {
        let len = if index + 1 == count { record_bytes + spare } else { record_bytes };
        let mut value = vec![0; STAMP_BYTES];
        value.extend(u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes());
        value.resize_with(len, || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        builder.record(created, None, Some(&value));
    }
    builder.build().map_err(|e| Error::Usage(format!("no such batch: {e}")))
}

/// What the oracle reads in a batch: the stamp, if it is one of ours.
#[must_use]
pub fn read_stamp(batch: &BatchView<'_>) -> Option<Stamp> {
    let value = values(batch.payload()).next()??;
    if value.bytes.len() < VALUE_BYTES_MIN { None } else { Stamp::read(value.bytes) }
}

/// Whether every record of one of our batches is in its place and none is missing.
#[must_use]
pub fn records_in_place(batch: &BatchView<'_>) -> bool {
    let mut count = 0_u32;
    for value in values(batch.payload()) {
        let Some(value) = value else { return false };
        if value.bytes.get(STAMP_BYTES..VALUE_BYTES_MIN) != Some(count.to_be_bytes().as_slice()) {
            return false;
        }
        count += 1;
    }
    i64::from(count) == i64::from(batch.header().records_count())
}

/// A record's key and value, and where in the payload the value lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) bytes: &'a [u8],
    at: usize,
}

/// The values of an uncompressed payload; `None` in the place of a record that is not sound, after
/// which the walk ends. A null value is an empty one.
pub(crate) fn values(payload: &[u8]) -> impl Iterator<Item = Option<Value<'_>>> {
    let mut at = 0;
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || at == payload.len() {
            return None;
        }
        let value = value_at(payload, &mut at);
        broken = value.is_none();
        Some(value)
    })
}

fn value_at<'a>(payload: &'a [u8], at: &mut usize) -> Option<Value<'a>> {
    let length = varint(payload, at)?;
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let record = payload.get(..end)?;
    *at += 1; // attributes
    varint(record, at)?; // timestamp delta
    varint(record, at)?; // offset delta
    let key = nullable(record, at)?;
    let before = *at;
    let bytes = nullable(record, at)?.unwrap_or_default();
    let value_at = if bytes.is_empty() { before } else { *at - bytes.len() };
    *at = end;
    Some(Value { key, bytes, at: value_at })
}

fn nullable<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    let length = varint(bytes, at)?;
    if length == -1 {
        return Some(None);
    }
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let taken = bytes.get(*at..end)?;
    *at = end;
    Some(Some(taken))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn batches_have_the_size_asked_for() {
        for (batch_bytes, record_bytes) in
            [(65_536, 1024), (65_536, 100), (1 << 20, 1000), (4096, 24), (200, 24)]
        {
            let template = Template::new(batch_bytes, record_bytes, NOW).unwrap();
            let short = batch_bytes - template.bytes().len();
            assert!(short <= 4, "{batch_bytes}/{record_bytes}: {short} bytes short");
            let records = usize::try_from(template.records()).unwrap();
            assert!(records >= batch_bytes / (record_bytes + 16).max(1) - 1);
        }
    }

    #[test]
    fn stamping_keeps_the_crc_true_and_is_read_back() {
        let template = Template::new(20_000, 300, NOW).unwrap();
        for sequence in [0, 1, u64::MAX, 77] {
            let stamp = Stamp { run: 0xDEAD_BEEF_0000_0001, producer: 9, sequence };
            let bytes = template.stamped(stamp);
            let view = BatchView::parse(&bytes).unwrap();
            assert!(view.crc_valid());
            assert_eq!(read_stamp(&view), Some(stamp));
            assert!(records_in_place(&view));
        }
    }

    #[test]
    fn head_and_tail_make_the_batch() {
        let template = Template::new(5000, 100, NOW).unwrap();
        let stamp = Stamp { run: 1, producer: 2, sequence: 3 };
        let mut head = template.bytes()[..template.head_bytes()].to_vec();
        template.stamp(&mut head, Stamp { sequence: 2, ..stamp });
        template.stamp(&mut head, stamp);
        head.extend(template.tail());
        assert_eq!(head, template.stamped(stamp));
    }

    #[test]
    fn a_displaced_record_is_seen() {
        let template = Template::new(5000, 100, NOW).unwrap();
        let mut bytes = template.stamped(Stamp::default());
        let second = {
            let view = BatchView::parse(&bytes).unwrap();
            HEADER_SIZE + values(view.payload()).nth(1).unwrap().unwrap().at
        };
        bytes[second + VALUE_BYTES_MIN - 1] = 7;
        assert!(!records_in_place(&BatchView::parse(&bytes).unwrap()));
        assert!(!BatchView::parse(&bytes).unwrap().crc_valid());
    }

    #[test]
    fn impossible_templates_are_refused() {
        assert!(Template::new(4096, VALUE_BYTES_MIN - 1, NOW).is_err());
        assert!(Template::new(100, 100, NOW).is_err());
    }

    #[test]
    fn broken_payloads_end_the_walk() {
        for payload in [&[0xff_u8; 12][..], &[200, 1, 0, 0], &[2, 0], &[1]] {
            assert!(values(payload).last().unwrap().is_none(), "{payload:?}");
        }
        assert!(values(&[]).next().is_none());
    }
}
