//! Zig-zag variable-length integers, and a reader that never passes the end.

use super::error::RecordFault;

/// Reads the fields of records from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// One byte.
    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8, RecordFault> {
        let (byte, rest) = self.rest.split_first().ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// The next `length` bytes.
    #[inline(always)]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], RecordFault> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RecordFault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes behind their length; `None` for -1. Kafka reads any negative length as null; nothing
    /// writes one, and some clients cannot read it.
    #[inline(always)]
    pub(super) fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordFault> {
        match self.varint()? {
            -1 => Ok(None),
            length => self
                .take(usize::try_from(length).map_err(|_| RecordFault::NegativeLength)?)
                .map(Some),
        }
    }

    /// An integer of at most 32 bits.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "at most 35 bits, cut to 32 as Kafka does")]
    pub(super) fn varint(&mut self) -> Result<i32, RecordFault> {
        let raw = self.unsigned(5)? as u32;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// An integer of at most 64 bits.
    #[inline(always)]
    pub(super) fn varlong(&mut self) -> Result<i64, RecordFault> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Little-endian groups of seven bits; a set high bit says that more follow.
    #[inline(always)]
    fn unsigned(&mut self, bytes_max: u32) -> Result<u64, RecordFault> {
        // One or two bytes hold nearly every field of small records.
        match *self.rest {
            [first, ref rest @ ..] if first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(first))
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.rest = rest;
                Ok(u64::from(first & 0x7f) | u64::from(second) << 7)
            }
            _ => self.unsigned_long(bytes_max),
        }
    }

    #[inline(never)]
    fn unsigned_long(&mut self, bytes_max: u32) -> Result<u64, RecordFault> {
        let mut value = 0;
        for group in 0..bytes_max {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * group);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordFault::VarintTooLong)
    }
}

/// Appends an integer of at most 32 bits.
pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends an integer of at most 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends bytes behind their length, or -1 for none.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

/// The number of bytes that an integer takes.
pub(super) fn varint_size(value: i32) -> usize {
    (zigzag(i64::from(value)) | 1).ilog2() as usize / 7 + 1
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_written() {
        for value in [0, -1, 1, 63, -64, 64, 8191, 8192, i32::MAX, i32::MIN] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(varint_size(value), bytes.len(), "{value}");
            assert_eq!(Reader { rest: &bytes }.varint(), Ok(value));
        }
        for value in [0, -1, i64::MAX, i64::MIN, 1 << 40] {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            assert_eq!(Reader { rest: &bytes }.varlong(), Ok(value));
        }
    }

    #[test]
    fn numbers_without_an_end_are_refused() {
        let endless = [0xff; 11];
        assert_eq!(Reader { rest: &endless }.varint(), Err(RecordFault::VarintTooLong));
        assert_eq!(Reader { rest: &endless }.varlong(), Err(RecordFault::VarintTooLong));
        assert_eq!(Reader { rest: &endless[..3] }.varint(), Err(RecordFault::Truncated));
    }
}
