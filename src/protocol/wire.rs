//! What a field is on the wire: its version, how it is read and written.
//!
//! Integers are big-endian. Lengths and counts have two forms: fixed width in the older versions of an
//! API, and from its first flexible version (KIP-482) unsigned varints of the length plus one, where
//! zero is null. [`Field`] hides the difference, so a message names only its fields.

use std::mem::size_of;
use std::ops::RangeBounds;

use bytes::Bytes;

use super::failure::{DecodeCause, DecodeError, EncodeError};
use super::reader::Reader;
use super::string::StrBytes;
use super::writer::Writer;
use crate::types::Uuid;

/// The version of an API that a message is read or written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number in the request header.
    pub number: i16,
    /// Whether lengths are compact and structs end with tagged fields.
    pub flexible: bool,
}

impl Version {
    /// Whether a field that exists in `range` exists in this version.
    pub fn is_in(self, range: impl RangeBounds<i16>) -> bool {
        range.contains(&self.number)
    }
}

/// A value with a place in a message.
///
/// `nullable` says whether the field may be null in `version`; only `Option` looks at it, every other
/// type refuses null.
pub trait Field: Sized {
    /// The fewest bytes a value can take: what bounds an array's count before anything is allocated.
    fn min_size(version: Version) -> usize;

    /// Reads a value.
    ///
    /// # Errors
    /// The bytes are no such value.
    fn decode_field(
        reader: &mut Reader,
        version: Version,
        nullable: bool,
    ) -> Result<Self, DecodeError>;

    /// Writes the value.
    ///
    /// # Errors
    /// The version cannot express the value.
    fn encode_field(
        &self,
        writer: &mut Writer,
        version: Version,
        nullable: bool,
    ) -> Result<(), EncodeError>;
}

/// A value whose length prefix has room for null.
pub trait Nullable: Sized {
    /// The bytes of the shortest value and of null.
    fn prefix_size(version: Version) -> usize;

    /// Reads a value or null.
    ///
    /// # Errors
    /// The bytes are no such value.
    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError>;

    /// Writes a value or null.
    ///
    /// # Errors
    /// The version cannot express the value.
    fn write(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError>;
}

impl<T: Nullable> Field for Option<T> {
    fn min_size(version: Version) -> usize {
        T::prefix_size(version)
    }

    fn decode_field(
        reader: &mut Reader,
        version: Version,
        nullable: bool,
    ) -> Result<Self, DecodeError> {
        match T::read(reader, version)? {
            None if !nullable => Err(DecodeCause::UnexpectedNull.into()),
            value => Ok(value),
        }
    }

    fn encode_field(
        &self,
        writer: &mut Writer,
        version: Version,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        if self.is_none() && !nullable {
            return Err(EncodeError::UnexpectedNull { field: "" });
        }
        T::write(self.as_ref(), writer, version)
    }
}

/// `Field` for types that are `Nullable` too: null is refused.
macro_rules! never_null {
    ($($type:ty $(where $parameter:ident)?),+) => {$(
        impl$(<$parameter: Field>)? Field for $type {
            fn min_size(version: Version) -> usize {
                <Self as Nullable>::prefix_size(version)
            }

            fn decode_field(reader: &mut Reader, version: Version, _: bool) -> Result<Self, DecodeError> {
                Self::read(reader, version)?.ok_or_else(|| DecodeCause::UnexpectedNull.into())
            }

            fn encode_field(&self, writer: &mut Writer, version: Version, _: bool) -> Result<(), EncodeError> {
                Self::write(Some(self), writer, version)
            }
        }
    )+};
}
never_null!(StrBytes, Bytes, Vec<T> where T);

macro_rules! integers {
    ($($type:ident),+) => {$(
        impl Field for $type {
            fn min_size(_: Version) -> usize {
                size_of::<$type>()
            }

            fn decode_field(reader: &mut Reader, _: Version, _: bool) -> Result<Self, DecodeError> {
                reader.$type()
            }

            fn encode_field(&self, writer: &mut Writer, _: Version, _: bool) -> Result<(), EncodeError> {
                writer.$type(*self);
                Ok(())
            }
        }
    )+};
}
integers!(i8, i16, u16, i32, i64, bool);

impl Field for Uuid {
    fn min_size(_: Version) -> usize {
        16
    }

    fn decode_field(reader: &mut Reader, _: Version, _: bool) -> Result<Self, DecodeError> {
        Ok(Uuid::from_u128(reader.u128()?))
    }

    fn encode_field(&self, writer: &mut Writer, _: Version, _: bool) -> Result<(), EncodeError> {
        writer.u128(self.as_u128());
        Ok(())
    }
}

impl Nullable for StrBytes {
    fn prefix_size(version: Version) -> usize {
        if version.flexible { 1 } else { 2 }
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        let len =
            if version.flexible { reader.compact_length()? } else { reader.short_length()? };
        len.map(|len| StrBytes::try_from(reader.take(len)?)).transpose()
    }

    fn write(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        let len = value.map(|value| value.as_bytes().len());
        if version.flexible {
            writer.compact_length(len)?
        } else {
            writer.short_length(len)?
        }
        if let Some(value) = value {
            writer.copy(value.as_bytes());
        }
        Ok(())
    }
}

impl Nullable for Bytes {
    fn prefix_size(version: Version) -> usize {
        if version.flexible { 1 } else { 4 }
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        reader.length(version)?.map(|len| reader.take(len)).transpose()
    }

    fn write(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        writer.length(value.map(Bytes::len), version)?;
        if let Some(value) = value {
            writer.append(value);
        }
        Ok(())
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn prefix_size(version: Version) -> usize {
        if version.flexible { 1 } else { 4 }
    }

    fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
        let Some(count) = reader.count::<T>(version, T::min_size(version))? else {
            return Ok(None);
        };
        // A count that fits may still lie about what follows, and an element is larger in memory than on
        // the wire: reserve no more than the frame's own size and grow as elements really arrive.
        let mut elements =
            Vec::with_capacity(count.min(reader.remaining() / size_of::<T>().max(1)));
        for _ in 0..count {
            elements.push(T::decode_field(reader, version, false)?);
        }
        Ok(Some(elements))
    }

    fn write(
        value: Option<&Self>,
        writer: &mut Writer,
        version: Version,
    ) -> Result<(), EncodeError> {
        writer.length(value.map(Vec::len), version)?;
        for element in value.into_iter().flatten() {
            element.encode_field(writer, version, false)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: Version = Version { number: 0, flexible: false };
    const FLEXIBLE: Version = Version { number: 0, flexible: true };

    fn encoded<T: Field>(value: &T, version: Version) -> Vec<u8> {
        let mut writer = Writer::new();
        value.encode_field(&mut writer, version, true).unwrap();
        writer.into_bytes().unwrap().to_vec()
    }

    fn decoded<T: Field>(bytes: &[u8], version: Version, nullable: bool) -> Result<T, DecodeCause> {
        T::decode_field(&mut Reader::new(Bytes::copy_from_slice(bytes)), version, nullable)
            .map_err(|error| error.cause)
    }

    #[test]
    fn null_empty_and_present_have_their_own_forms() {
        type Text = Option<StrBytes>;
        let cases: [(Text, &[u8], &[u8]); 3] = [
            (None, &[0xff, 0xff], &[0]),
            (Some("".into()), &[0, 0], &[1]),
            (Some("ab".into()), &[0, 2, b'a', b'b'], &[3, b'a', b'b']),
        ];
        for (value, fixed, flexible) in cases {
            assert_eq!(encoded(&value, FIXED), fixed);
            assert_eq!(encoded(&value, FLEXIBLE), flexible);
            assert_eq!(decoded::<Text>(fixed, FIXED, true), Ok(value.clone()));
            assert_eq!(decoded::<Text>(flexible, FLEXIBLE, true), Ok(value));
        }
        let array: Option<Vec<i32>> = Some(vec![1, -1]);
        assert_eq!(encoded(&array, FIXED), [0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(encoded(&array, FLEXIBLE), [3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(encoded(&None::<Bytes>, FIXED), [0xff; 4]);
    }

    #[test]
    fn null_is_refused_where_the_version_has_none() {
        assert_eq!(
            decoded::<Option<StrBytes>>(&[0], FLEXIBLE, false),
            Err(DecodeCause::UnexpectedNull)
        );
        assert_eq!(
            decoded::<StrBytes>(&[0xff, 0xff], FIXED, true),
            Err(DecodeCause::UnexpectedNull)
        );
        assert_eq!(decoded::<Vec<i8>>(&[0xff; 4], FIXED, false), Err(DecodeCause::UnexpectedNull));
        let error = None::<StrBytes>.encode_field(&mut Writer::new(), FIXED, false);
        assert_eq!(error, Err(EncodeError::UnexpectedNull { field: "" }));
    }

    #[test]
    fn lengths_are_checked_before_use() {
        let huge = [0x7f, 0xff, 0xff, 0xff, 0, 0];
        let count = DecodeCause::CountTooLarge { count: 0x7fff_ffff, remaining: 2 };
        assert_eq!(decoded::<Vec<i8>>(&huge, FIXED, false), Err(count));
        assert_eq!(decoded::<Vec<i32>>(&[2, 0, 0, 0], FLEXIBLE, false), {
            Err(DecodeCause::CountTooLarge { count: 1, remaining: 3 })
        });
        assert_eq!(decoded::<Bytes>(&huge, FIXED, false), {
            Err(DecodeCause::Truncated { needed: 0x7fff_ffff, remaining: 2 })
        });
        assert_eq!(
            decoded::<Option<StrBytes>>(&[0xff, 0xfe], FIXED, true),
            Err(DecodeCause::NegativeLength(-2))
        );
        assert_eq!(decoded::<StrBytes>(&[2, 0xff], FLEXIBLE, false), Err(DecodeCause::InvalidUtf8));
        assert_eq!(
            decoded::<i64>(&[0; 7], FIXED, false),
            Err(DecodeCause::Truncated { needed: 8, remaining: 7 })
        );
    }

    #[test]
    fn decoded_bytes_point_into_the_frame() {
        let frame = Bytes::from(vec![4, b'a', b'b', b'c']);
        let bytes = Bytes::decode_field(&mut Reader::new(frame.clone()), FLEXIBLE, false).unwrap();
        assert_eq!(bytes.as_ptr(), frame.slice(1..).as_ptr());
    }
}
