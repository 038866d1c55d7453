//! The writer of one frame: a list of segments, so that payloads are sent from where they lie.

use bytes::{BufMut, Bytes, BytesMut};

use super::failure::{DecodeError, EncodeError};
use super::reader::Reader;
use super::wire::{Nullable, Version};

/// Bytes shorter than this are copied into the frame: a segment of its own costs more than the copy.
const COPY_MAX: usize = 1024;

/// A piece of a frame, in the order of sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Bytes to send.
    Inline(Bytes),
    /// `len` bytes that the writer never saw; the caller knows them by `token`.
    External {
        /// What the caller gave to [`Records::External`].
        token: usize,
        /// Their number.
        len: usize,
    },
}

/// Record batches in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// The bytes themselves.
    Inline(Bytes),
    /// Bytes in a buffer of the caller's, of which the codec learns only the length.
    External {
        /// Says which buffer; handed back in [`Segment::External`].
        token: usize,
        /// The bytes in it.
        len: usize,
    },
}

impl Records {
    /// No records: zero bytes, which librdkafka needs where null would be legal.
    pub const EMPTY: Records = Records::Inline(Bytes::new());

    /// The bytes on the wire.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Records::Inline(bytes) => bytes.len(),
            Records::External { len, .. } => *len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, unless they are external; what was decoded never is.
    #[must_use]
    pub fn as_inline(&self) -> Option<&Bytes> {
        match self {
            Records::Inline(bytes) => Some(bytes),
            Records::External { .. } => None,
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records::Inline(bytes)
    }
}

impl Nullable for Records {
    fn prefix_size(version: Version) -> usize {
        Bytes::prefix_size(version)
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read(reader, version)?.map(Records::Inline))
    }

    fn write(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        writer.length(value.map(Records::len), version)?;
        match value {
            None => {}
            Some(Records::Inline(bytes)) => writer.append(bytes),
            Some(Records::External { token, len }) => writer.splice(*token, *len),
        }
        Ok(())
    }
}

/// A segment still being written.
#[derive(Debug)]
enum Piece {
    Written(BytesMut),
    Shared(Bytes),
    External { token: usize, len: usize },
}

/// Collects a frame.
#[derive(Debug, Default)]
pub struct Writer {
    finished: Vec<Piece>,
    current: BytesMut,
}

macro_rules! fixed_width {
    ($($type:ident $put:ident),+) => {$(
        #[doc = concat!("Writes a big-endian `", stringify!($type), "`.")]
        pub fn $type(&mut self, value: $type) {
            self.current.$put(value);
        }
    )+};
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty writer with room for `capacity` bytes beside payloads.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer { finished: Vec::new(), current: BytesMut::with_capacity(capacity) }
    }

    fixed_width!(i8 put_i8, i16 put_i16, u16 put_u16, i32 put_i32, i64 put_i64, u128 put_u128);

    /// Writes a boolean as one byte.
    pub fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    /// Writes an unsigned varint.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.current.put_u8(0x80 | low_bits(value));
            value >>= 7;
        }
        self.current.put_u8(low_bits(value));
    }

    /// Writes the length of bytes or the count of an array; `None` is null.
    ///
    /// # Errors
    /// The length does not fit.
    pub fn length(&mut self, len: Option<usize>, version: Version) -> Result<(), EncodeError> {
        if version.flexible {
            return self.compact_length(len);
        }
        self.i32(len.map_or(Ok(-1), |len| i32::try_from(len).map_err(|_| too_long(len)))?);
        Ok(())
    }

    /// Writes the 2-byte length of a string; `None` is null.
    ///
    /// # Errors
    /// The length does not fit.
    pub fn short_length(&mut self, len: Option<usize>) -> Result<(), EncodeError> {
        self.i16(len.map_or(Ok(-1), |len| i16::try_from(len).map_err(|_| too_long(len)))?);
        Ok(())
    }

    /// Writes a compact length; `None` is null.
    ///
    /// # Errors
    /// The length does not fit.
    pub fn compact_length(&mut self, len: Option<usize>) -> Result<(), EncodeError> {
        let value = match len {
            None => 0,
            Some(len) => i32::try_from(len).map_err(|_| too_long(len))?.unsigned_abs() + 1,
        };
        self.unsigned_varint(value);
        Ok(())
    }

    /// Copies bytes into the frame.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.current.extend_from_slice(bytes);
    }

    /// Adds bytes to the frame, without copying them when there are many.
    pub fn append(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_MAX {
            self.copy(bytes);
        } else {
            self.cut();
            self.finished.push(Piece::Shared(bytes.clone()));
        }
    }

    /// Adds a payload that only the caller has.
    pub fn splice(&mut self, token: usize, len: usize) {
        if len > 0 {
            self.cut();
            self.finished.push(Piece::External { token, len });
        }
    }

    /// Writes one tagged field: tag, size, and what `write` writes.
    ///
    /// # Errors
    /// Those of `write`; the field is too long or holds an external payload.
    pub fn tagged_field(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut field = Writer::new();
        write(&mut field)?;
        let bytes = field.into_bytes()?;
        self.unsigned_varint(tag);
        self.unsigned_varint(u32::try_from(bytes.len()).map_err(|_| too_long(bytes.len()))?);
        self.append(&bytes);
        Ok(())
    }

    /// A writer that leaves room for the 4-byte length which [`Writer::into_frame`] fills in.
    #[must_use]
    pub(super) fn for_frame(capacity: usize) -> Writer {
        let mut writer = Writer::with_capacity(capacity);
        writer.i32(0);
        writer
    }

    /// The frame begun with [`Writer::for_frame`].
    ///
    /// # Errors
    /// The frame is longer than its length can say.
    pub(super) fn into_frame(mut self) -> Result<Frame, EncodeError> {
        let len = self.len();
        let prefix =
            i32::try_from(len.saturating_sub(4)).map_err(|_| EncodeError::FrameTooLong { len })?;
        self.cut();
        if let Some(Piece::Written(first)) = self.finished.first_mut()
            && let Some(room) = first.first_chunk_mut()
        {
            *room = prefix.to_be_bytes();
        }
        Ok(Frame { segments: self.into_segments(), len })
    }

    /// The segments written.
    #[must_use]
    pub fn into_segments(mut self) -> Vec<Segment> {
        self.cut();
        let segment = |piece| match piece {
            Piece::Written(bytes) => Segment::Inline(bytes.freeze()),
            Piece::Shared(bytes) => Segment::Inline(bytes),
            Piece::External { token, len } => Segment::External { token, len },
        };
        self.finished.into_iter().map(segment).collect()
    }

    /// Everything written as one piece, copying unless it is one already.
    ///
    /// # Errors
    /// A payload is external.
    pub fn into_bytes(self) -> Result<Bytes, EncodeError> {
        join(self.into_segments())
    }

    /// The bytes written, payloads included.
    #[must_use]
    pub fn len(&self) -> usize {
        let finished = self.finished.iter().map(|piece| match piece {
            Piece::Written(bytes) => bytes.len(),
            Piece::Shared(bytes) => bytes.len(),
            Piece::External { len, .. } => *len,
        });
        finished.sum::<usize>() + self.current.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the current written piece.
    fn cut(&mut self) {
        if !self.current.is_empty() {
            self.finished.push(Piece::Written(self.current.split()));
        }
    }
}

/// A frame ready to send, its 4-byte length included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The pieces, in the order of sending.
    pub segments: Vec<Segment>,
    /// The bytes of all pieces.
    pub len: usize,
}

impl Frame {
    /// The frame as one piece, copying unless it is one already.
    ///
    /// # Errors
    /// A payload is external.
    pub fn into_bytes(self) -> Result<Bytes, EncodeError> {
        join(self.segments)
    }
}

fn join(mut segments: Vec<Segment>) -> Result<Bytes, EncodeError> {
    if let [Segment::Inline(bytes)] = segments.as_mut_slice() {
        return Ok(std::mem::take(bytes));
    }
    let mut joined = BytesMut::new();
    for segment in segments {
        match segment {
            Segment::Inline(bytes) => joined.extend_from_slice(&bytes),
            Segment::External { .. } => return Err(EncodeError::ExternalPayload),
        }
    }
    Ok(joined.freeze())
}

/// The seven lowest bits.
fn low_bits(value: u32) -> u8 {
    let [lowest, ..] = value.to_le_bytes();
    lowest & 0x7f
}

fn too_long(len: usize) -> EncodeError {
    EncodeError::TooLong { field: "", len }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Field;
    use super::*;

    const FLEXIBLE: Version = Version { number: 0, flexible: true };

    #[test]
    fn payloads_are_neither_copied_nor_seen() {
        let shared = Bytes::from(vec![7; COPY_MAX]);
        let mut writer = Writer::for_frame(64);
        writer.i8(1);
        for records in
            [Records::External { token: 9, len: 300 }, shared.clone().into(), Records::EMPTY]
        {
            Some(records).encode_field(&mut writer, FLEXIBLE, false).unwrap();
        }
        let frame = writer.into_frame().unwrap();
        // Length 1332 = 1 + (2 + 300) + (2 + 1024) + 1, not counting itself.
        let expected = [
            Segment::Inline(Bytes::from_static(&[0, 0, 0x05, 0x32, 1, 0xad, 0x02])),
            Segment::External { token: 9, len: 300 },
            Segment::Inline(Bytes::from_static(&[0x81, 0x08])),
            Segment::Inline(shared.clone()),
            Segment::Inline(Bytes::from_static(&[1])),
        ];
        assert_eq!((frame.segments.as_slice(), frame.len), (expected.as_slice(), 1334));
        let kept = frame.segments.iter().any(
            |segment| matches!(segment, Segment::Inline(bytes) if bytes.as_ptr() == shared.as_ptr()),
        );
        assert!(kept);
        assert_eq!(frame.into_bytes(), Err(EncodeError::ExternalPayload));
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let mut writer = Writer::new();
        assert_eq!(writer.short_length(Some(32_768)), Err(too_long(32_768)));
        assert_eq!(writer.compact_length(Some(1 << 31)), Err(too_long(1 << 31)));
        writer.compact_length(Some((1 << 31) - 1)).unwrap();
        assert_eq!(writer.into_bytes().unwrap().as_ref(), [0x80, 0x80, 0x80, 0x80, 0x08]);
    }
}
