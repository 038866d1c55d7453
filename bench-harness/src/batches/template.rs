//! An encoded batch that is sent again and again, each time with another stamp.

use bytes::Bytes;
use millstream::record::{BatchBuilder, BatchView, CrcShift, HEADER_SIZE};
use millstream::time::Timestamp;

use super::stamp::{STAMP_BYTES, Stamp, VALUE_BYTES_MIN, index_field};
use super::walk::values;
use crate::error::{Error, Result};

/// Where a batch holds its CRC.
const CRC_AT: usize = 17;

/// An encoded batch with an empty stamp.
#[derive(Clone)]
pub struct Template {
    bytes: Bytes,
    stamp_at: usize,
    crc: u32,
    shift: CrcShift,
    records: u32,
}

impl Template {
    /// A batch of `batch_bytes` with values of `record_bytes` of filler; the last value is longer by
    /// what is left over.
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
                "a batch of {batch_bytes} bytes has no room for a record of {record_bytes}: {one} are needed"
            )));
        }
        let mut count = 1;
        while filled(count + 1, record_bytes, 0, created)?.len() <= batch_bytes {
            // Doubling, then the exact step: an encode per record would be quadratic.
            let size = filled(count, record_bytes, 0, created)?.len();
            let per_record = size.saturating_sub(HEADER_SIZE) / count + 1;
            count += ((batch_bytes - size) / per_record).max(1);
        }
        while filled(count, record_bytes, 0, created)?.len() > batch_bytes {
            count -= 1;
        }
        let mut spare = batch_bytes - filled(count, record_bytes, 0, created)?.len();
        let mut bytes = filled(count, record_bytes, spare, created)?;
        while bytes.len() > batch_bytes {
            // The longer value's own length prefixes have grown.
            spare = spare.saturating_sub(bytes.len() - batch_bytes);
            bytes = filled(count, record_bytes, spare, created)?;
        }
        Template::of(bytes, count)
    }

    /// A batch of these keys and bodies, each body behind a stamp of its own.
    ///
    /// # Errors
    /// If there are none, or they are too large for a batch.
    pub fn of_records(records: &[(Option<&[u8]>, &[u8])], created: Timestamp) -> Result<Template> {
        let records = records.iter().map(|(key, body)| (*key, body.to_vec()));
        let records: Vec<_> = records.collect();
        Template::of(encode(&records, created)?, records.len())
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

    /// The CRC of the batch with that stamp: whoever finds it in a batch whose bytes agree with it has
    /// found every byte as it was sent.
    #[must_use]
    pub fn crc(&self, stamp: Stamp) -> u32 {
        self.shift.patch(self.crc, &[0; STAMP_BYTES], &stamp.bytes())
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

/// Bytes that do not compress and have no pattern a wrong place would leave undisturbed.
#[must_use]
pub fn filler(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed ^ 0x9E37_79B9_7F4A_7C15;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

fn filled(count: usize, record_bytes: usize, spare: usize, created: Timestamp) -> Result<Vec<u8>> {
    let body = |index: usize| {
        let spare = if index + 1 == count { spare } else { 0 };
        (None, filler(record_bytes + spare - VALUE_BYTES_MIN, index as u64 + 1))
    };
    encode(&(0..count).map(body).collect::<Vec<_>>(), created)
}

fn encode(records: &[(Option<&[u8]>, Vec<u8>)], created: Timestamp) -> Result<Vec<u8>> {
    let mut builder = BatchBuilder::new();
    for (index, (key, body)) in records.iter().enumerate() {
        let mut value = vec![0; STAMP_BYTES];
        value.extend(index_field(index, records.len()));
        value.extend(body);
        builder.record(created, *key, Some(&value));
    }
    builder.build().map_err(|e| Error::Usage(format!("no such batch: {e}")))
}

#[cfg(test)]
mod tests {
    use super::super::{Disorder, examine, read_stamp};
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn batches_have_the_size_asked_for() {
        for (batch_bytes, record_bytes) in
            [(65_536, 1024), (65_536, 100), (1 << 20, 1000), (4096, 36), (200, 36)]
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
        let lines: Vec<(Option<&[u8]>, &[u8])> =
            vec![(Some(b"a"), b"one"), (None, b""), (Some(b"bc"), b"three")];
        for template in
            [Template::new(20_000, 300, NOW).unwrap(), Template::of_records(&lines, NOW).unwrap()]
        {
            for sequence in [0, 1, u64::MAX, 77] {
                let run = 0xDEAD_BEEF_0000_0001;
                let stamp =
                    Stamp { run, producer: 9, template: 4, sequence, intended_ns: sequence ^ 5 };
                let bytes = template.stamped(stamp);
                let view = BatchView::parse(&bytes).unwrap();
                assert!(view.crc_valid());
                assert_eq!(view.header().crc(), template.crc(stamp));
                assert_eq!(read_stamp(&view), Some(stamp));
                assert_eq!(examine(&view), Disorder::default());
            }
        }
    }

    #[test]
    fn head_and_tail_make_the_batch() {
        let template = Template::new(5000, 100, NOW).unwrap();
        let stamp = Stamp { run: 1, producer: 2, template: 0, sequence: 3, intended_ns: 4 };
        let mut head = template.bytes()[..template.head_bytes()].to_vec();
        template.stamp(&mut head, Stamp { sequence: 2, ..stamp });
        template.stamp(&mut head, stamp);
        head.extend(template.tail());
        assert_eq!(head, template.stamped(stamp));
    }

    #[test]
    fn impossible_templates_are_refused() {
        assert!(Template::new(4096, VALUE_BYTES_MIN - 1, NOW).is_err());
        assert!(Template::new(100, 100, NOW).is_err());
        assert!(Template::of_records(&[], NOW).is_err());
    }
}
