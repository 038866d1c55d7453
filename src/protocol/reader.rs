//! A checked reader over one frame.
//!
//! It borrows: strings and bytes come out as slices of the frame's own memory, so whoever keeps one
//! keeps the whole frame alive and should copy what outlives the request.

use bytes::{Buf, Bytes};

use super::failure::{DecodeCause, DecodeError};
use super::wire::Version;
use crate::limits::{DECODED_BYTES_BASE, DECODED_BYTES_PER_FRAME_BYTE, TAGGED_FIELDS_MAX};

/// Reads a frame from front to back; every read is checked against the bytes that remain.
#[derive(Debug)]
pub struct Reader {
    input: Bytes,
    /// What arrays may still take in memory.
    budget: usize,
}

macro_rules! fixed_width {
    ($($type:ident $get:ident),+) => {$(
        #[doc = concat!("Reads a big-endian `", stringify!($type), "`.")]
        ///
        /// # Errors
        /// The frame ends before.
        pub fn $type(&mut self) -> Result<$type, DecodeError> {
            let cause = DecodeCause::Truncated { needed: size_of::<$type>(), remaining: self.remaining() };
            self.input.$get().map_err(|_| cause.into())
        }
    )+};
}

impl Reader {
    /// A reader at the start of `input`.
    #[must_use]
    pub fn new(input: Bytes) -> Reader {
        let budget = DECODED_BYTES_BASE + DECODED_BYTES_PER_FRAME_BYTE.saturating_mul(input.len());
        Reader { input, budget }
    }

    fixed_width!(u8 try_get_u8, i8 try_get_i8, i16 try_get_i16, u16 try_get_u16, i32 try_get_i32, i64 try_get_i64, u128 try_get_u128);

    /// Reads a boolean: as in Kafka, any byte but zero is true.
    ///
    /// # Errors
    /// The frame ends before.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// Takes the next `len` bytes without copying them.
    ///
    /// # Errors
    /// The frame has fewer.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let remaining = self.remaining();
        if len > remaining {
            return Err(DecodeCause::Truncated { needed: len, remaining }.into());
        }
        Ok(self.input.split_to(len))
    }

    /// Reads an unsigned varint of at most 32 bits.
    ///
    /// # Errors
    /// The frame ends before, or the varint is longer.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeCause::VarintTooLong.into())
    }

    /// Reads the length of bytes or the count of an array; `None` is null.
    ///
    /// # Errors
    /// The frame ends before, or the length is negative.
    pub fn length(&mut self, version: Version) -> Result<Option<usize>, DecodeError> {
        if version.flexible { self.compact_length() } else { self.i32().and_then(nonnegative) }
    }

    /// Reads the 2-byte length of a string; `None` is null.
    ///
    /// # Errors
    /// The frame ends before, or the length is negative.
    pub fn short_length(&mut self) -> Result<Option<usize>, DecodeError> {
        self.i16().and_then(|length| nonnegative(length.into()))
    }

    /// Reads a compact length, one more than what it counts; `None` is null.
    ///
    /// # Errors
    /// The frame ends before, or the varint is too long.
    pub fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        // A usize has at least 32 bits on every machine with io_uring.
        Ok(self.unsigned_varint()?.checked_sub(1).and_then(|length| usize::try_from(length).ok()))
    }

    /// Reads the count of an array of `T`, whose elements take `min_size` bytes or more; `None` is null.
    ///
    /// # Errors
    /// The rest of the frame cannot hold as many, or memory may not.
    pub fn count<T>(
        &mut self,
        version: Version,
        min_size: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(version)? else {
            return Ok(None);
        };
        let remaining = self.remaining();
        if count > remaining / min_size.max(1) {
            return Err(DecodeCause::CountTooLarge { count, remaining }.into());
        }
        match self.budget.checked_sub(count.saturating_mul(size_of::<T>())) {
            None => Err(DecodeCause::TooManyElements { count }.into()),
            Some(budget) => {
                self.budget = budget;
                Ok(Some(count))
            }
        }
    }

    /// Reads a struct's tagged fields. `known` gets each tag with a reader of exactly its bytes and says
    /// whether it knows the tag; the others are skipped without being stored.
    ///
    /// # Errors
    /// The frame ends before, there are too many, or a known one has bytes left over.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        if count > TAGGED_FIELDS_MAX {
            return Err(DecodeCause::TooManyTaggedFields(count).into());
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let len = usize::try_from(self.unsigned_varint()?).unwrap_or(usize::MAX);
            let mut field = Reader { input: self.take(len)?, budget: self.budget };
            let unread = if known(tag, &mut field)? { field.remaining() } else { 0 };
            self.budget = field.budget;
            if unread > 0 {
                return Err(DecodeCause::TaggedFieldSize { tag, unread }.into());
            }
        }
        Ok(())
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.input.len()
    }
}

/// -1 is null; anything else below zero is hostile.
fn nonnegative(length: i32) -> Result<Option<usize>, DecodeError> {
    match usize::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(DecodeCause::NegativeLength(length).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn varints_end_at_32_bits() {
        let cases: [(&[u8], Result<u32, DecodeCause>); 6] = [
            (&[0], Ok(0)),
            (&[0xac, 0x02], Ok(300)),
            (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(DecodeCause::VarintTooLong)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(DecodeCause::VarintTooLong)),
            (&[0x80], Err(DecodeCause::Truncated { needed: 1, remaining: 0 })),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                reader(bytes).unsigned_varint().map_err(|error| error.cause),
                expected,
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn arrays_share_the_frames_budget() {
        let version = Version { number: 0, flexible: false };
        // A count of 32,768 elements of 32 bytes takes the whole base.
        let mut input = reader(&[&[0, 0, 0x80, 0][..], &[0, 0, 0x80, 0], &[0; 40_000]].concat());
        input.budget = DECODED_BYTES_BASE;
        assert_eq!(input.count::<[u8; 32]>(version, 1), Ok(Some(32_768)));
        let error = input.count::<[u8; 32]>(version, 1).unwrap_err();
        assert_eq!(error.cause, DecodeCause::TooManyElements { count: 32_768 });
    }

    #[test]
    fn unknown_tagged_fields_are_skipped_and_counted() {
        let mut seen = Vec::new();
        let mut input = reader(&[2, 5, 2, 0xaa, 0xbb, 6, 1, 7, 42]);
        let result = input.tagged_fields(|tag, field| {
            seen.push(tag);
            if tag == 6 {
                field.i8()?;
            }
            Ok(tag == 6)
        });
        assert_eq!((result, seen, input.i8()), (Ok(()), vec![5, 6], Ok(42)));

        let error = reader(&[1, 0, 2, 1, 1])
            .tagged_fields(|_, field| field.i8().map(|_| true))
            .unwrap_err();
        assert_eq!(error.cause, DecodeCause::TaggedFieldSize { tag: 0, unread: 1 });
        let error = reader(&[0xff, 0xff, 0x7f]).tagged_fields(|_, _| Ok(false)).unwrap_err();
        assert_eq!(error.cause, DecodeCause::TooManyTaggedFields(0x1f_ffff));
    }
}
