//! The records of an uncompressed payload, read in place.

use super::error::RecordFault;
use super::varint::Reader;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The distance from the batch's base offset.
    pub offset_delta: i32,
    /// The distance from the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    /// Reads the next record and checks all of its framing.
    #[inline(always)]
    pub(super) fn read(records: &mut Reader<'a>) -> Result<RecordView<'a>, RecordFault> {
        let size = usize::try_from(records.varint()?).map_err(|_| RecordFault::NegativeLength)?;
        let mut record = Reader { rest: records.take(size)? };
        let _attributes = record.byte()?;
        let timestamp_delta = record.varlong()?;
        let offset_delta = record.varint()?;
        let key = record.nullable()?;
        let value = record.nullable()?;
        let count = record.varint()?;
        let headers = Headers { reader: record, count };
        if count != 0 {
            record = headers.check()?;
        }
        if !record.rest.is_empty() {
            return Err(RecordFault::TrailingBytes);
        }
        Ok(RecordView { offset_delta, timestamp_delta, key, value, headers })
    }
}

/// A record's headers: names and values. Their framing has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    reader: Reader<'a>,
    count: i32,
}

impl<'a> Headers<'a> {
    /// Walks all headers. Gives what follows them.
    fn check(mut self) -> Result<Reader<'a>, RecordFault> {
        if self.count < 0 {
            return Err(RecordFault::NegativeLength);
        }
        for _ in 0..self.count {
            self.header()?;
        }
        Ok(self.reader)
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), RecordFault> {
        let name = self.reader.nullable()?.ok_or(RecordFault::NegativeLength)?;
        Ok((name, self.reader.nullable()?))
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        Iterator::eq(*self, *other)
    }
}

impl Eq for Headers<'_> {}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.count <= 0 {
            return None;
        }
        self.count -= 1;
        self.header().ok()
    }
}

/// Walks records. Ends behind the first fault.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.rest.is_empty() {
            return None;
        }
        let record = RecordView::read(&mut self.reader);
        if record.is_err() {
            self.reader.rest = &[];
        }
        Some(record)
    }
}

/// The records in an uncompressed, or decompressed, payload.
#[must_use]
pub fn records(payload: &[u8]) -> Records<'_> {
    Records { reader: Reader { rest: payload } }
}
