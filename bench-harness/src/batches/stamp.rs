//! What a batch says about itself, at the beginning of its first record's value.
//!
//! ```text
//! 0        8          12         16         24         32      36
//! | run id | producer | template | sequence | intended | index | filler or a line of a file ...
//! ```
//!
//! All but the index stand in the first record only and are zero in the others; the index is each
//! record's place in its batch and never changes. The first record, whose place is known, has the
//! number of records there instead, so that a batch cut short is seen. A batch thus costs 32 changed
//! bytes and a CRC corrected by linearity, however large it is.

use millstream::record::BatchView;

use super::walk::values;

/// The part of the stamp that changes.
pub const STAMP_BYTES: usize = 32;
/// The whole of it, and so the smallest value.
pub const VALUE_BYTES_MIN: usize = 36;
/// Marks the index field of a first record, which holds the number of records.
const COUNT_FLAG: u32 = 1 << 31;

/// What a batch says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The run of the generator that wrote it.
    pub run: u64,
    /// Which of the run's producers.
    pub producer: u32,
    /// Which of the run's templates.
    pub template: u32,
    /// Its number among the producer's batches for the partition, from 0.
    pub sequence: u64,
    /// When it was meant to be sent, on the monotonic clock of the host.
    pub intended_ns: u64,
}

impl Stamp {
    pub(super) fn bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.run.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.producer.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.template.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[24..].copy_from_slice(&self.intended_ns.to_be_bytes());
        bytes
    }

    pub(super) fn read(value: &[u8]) -> Option<Stamp> {
        let (run, rest) = value.split_first_chunk::<8>()?;
        let (producer, rest) = rest.split_first_chunk::<4>()?;
        let (template, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (intended, rest) = rest.split_first_chunk::<8>()?;
        let (index, _) = rest.split_first_chunk::<4>()?;
        if u32::from_be_bytes(*index) & COUNT_FLAG == 0 {
            return None;
        }
        Some(Stamp {
            run: u64::from_be_bytes(*run),
            producer: u32::from_be_bytes(*producer),
            template: u32::from_be_bytes(*template),
            sequence: u64::from_be_bytes(*sequence),
            intended_ns: u64::from_be_bytes(*intended),
        })
    }
}

/// The index field of the record at `index` of `count`.
pub(super) fn index_field(index: usize, count: usize) -> [u8; 4] {
    let number = |n: usize| u32::try_from(n).unwrap_or(COUNT_FLAG - 1).min(COUNT_FLAG - 1);
    if index == 0 { number(count) | COUNT_FLAG } else { number(index) }.to_be_bytes()
}

/// What a value's index field says, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first of so many.
    FirstOf(u32),
    /// One of the others.
    At(u32),
}

pub(super) fn place(value: &[u8]) -> Option<Place> {
    let field = value.get(STAMP_BYTES..VALUE_BYTES_MIN)?.first_chunk::<4>()?;
    let field = u32::from_be_bytes(*field);
    Some(if field & COUNT_FLAG == 0 {
        Place::At(field)
    } else {
        Place::FirstOf(field & !COUNT_FLAG)
    })
}

/// The stamp of a batch, if it is one of ours and its first record is still its first.
#[must_use]
pub fn read_stamp(batch: &BatchView<'_>) -> Option<Stamp> {
    Stamp::read(values(batch.payload()).next()??.bytes)
}
