//! The notation in which `messages` writes a message down once.
//!
//! ```text
//! /// What the struct is.
//! struct FetchRequest {
//!     replica_id: i32 [..=14] = -1;                                  // versions, default
//!     cluster_id: Option<StrBytes> [12..] tag 0;                     // a tagged field
//!     topics: Option<Vec<Topic>> [..] nullable [1..];                // may be null from version 1 on
//! }
//! ```
//!
//! Names are Kafka's in snake case. `[..]` means every version served. A field that is `Option` may be
//! null in the `nullable` versions, or in all of its own when `nullable` is left out. Without a default
//! a field has its type's: zero, empty, null. In a version that lacks a field, decoding yields the
//! default and encoding leaves it out. Tagged fields are written when they differ from the default, and
//! have no `nullable` of their own.

/// Turns the notation into structs with `Default`, `decode` and `encode`.
macro_rules! messages {
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@nullable $version:ident) => { true };
    (@nullable $version:ident $nullable:expr) => { $version.is_in($nullable) };
    (@untagged => $($body:tt)*) => { $($body)* };
    (@untagged $tag:literal => $($body:tt)*) => {};

    ($(
        $(#[$attribute:meta])*
        struct $name:ident {$(
            $(#[$field_attribute:meta])*
            $field:ident: $type:ty [$versions:expr] $(nullable [$nullable:expr])? $(tag $tag:literal)? $(= $default:expr)?;
        )*}
    )+) => {$(
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {$(
            $(#[$field_attribute])*
            #[doc = concat!("Kafka's field of this name, in versions `", stringify!($versions), "`.")]
            pub $field: $type,
        )*}

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: messages!(@default $($default)?),)* }
            }
        }

        impl $name {
            /// Reads the message's fields; bytes after them are left unread.
            ///
            /// # Errors
            /// The bytes are no such message in `version`.
            pub fn decode(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
                Field::decode_field(reader, version, false)
            }

            /// Writes the message's fields.
            ///
            /// # Errors
            /// `version` cannot express a value.
            pub fn encode(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
                Field::encode_field(self, writer, version, false)
            }

            #[allow(unused_variables, reason = "most structs have no tagged fields of their own")]
            fn decode_tagged(&mut self, tag: u32, reader: &mut Reader, version: Version) -> Result<bool, DecodeError> {
                $($(
                    if tag == $tag && version.is_in($versions) {
                        self.$field = Field::decode_field(reader, version, true)
                            .map_err(|error| error.at(concat!(stringify!($name), ".", stringify!($field))))?;
                        return Ok(true);
                    }
                )?)*
                Ok(false)
            }

            #[allow(unused_variables, reason = "most structs have no tagged fields of their own")]
            fn encode_tagged(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
                let count = 0 $($(+ {
                    let _ = $tag;
                    u32::from(version.is_in($versions) && self.$field != Self::default().$field)
                })?)*;
                writer.unsigned_varint(count);
                $($(
                    if version.is_in($versions) && self.$field != Self::default().$field {
                        writer
                            .tagged_field($tag, |writer| self.$field.encode_field(writer, version, true))
                            .map_err(|error| error.at(concat!(stringify!($name), ".", stringify!($field))))?;
                    }
                )?)*
                Ok(())
            }
        }

        impl Field for $name {
            fn min_size(version: Version) -> usize {
                let mut size = usize::from(version.flexible);
                $(messages!(@untagged $($tag)? => {
                    if version.is_in($versions) {
                        size += <$type as Field>::min_size(version);
                    }
                });)*
                size
            }

            fn decode_field(reader: &mut Reader, version: Version, _: bool) -> Result<Self, DecodeError> {
                let mut message = Self::default();
                $(messages!(@untagged $($tag)? => {
                    if version.is_in($versions) {
                        message.$field = Field::decode_field(reader, version, messages!(@nullable version $($nullable)?))
                            .map_err(|error| error.at(concat!(stringify!($name), ".", stringify!($field))))?;
                    }
                });)*
                if version.flexible {
                    reader
                        .tagged_fields(|tag, reader| message.decode_tagged(tag, reader, version))
                        .map_err(|error| error.at(concat!(stringify!($name), ".tagged_fields")))?;
                }
                Ok(message)
            }

            fn encode_field(&self, writer: &mut Writer, version: Version, _: bool) -> Result<(), EncodeError> {
                $(messages!(@untagged $($tag)? => {
                    if version.is_in($versions) {
                        Field::encode_field(&self.$field, writer, version, messages!(@nullable version $($nullable)?))
                            .map_err(|error| error.at(concat!(stringify!($name), ".", stringify!($field))))?;
                    }
                });)*
                if version.flexible {
                    self.encode_tagged(writer, version)?;
                }
                Ok(())
            }
        }
    )+};
}

/// Lets a struct be null: a byte before it says whether it is there.
macro_rules! nullable_struct {
    ($name:ident) => {
        impl Nullable for $name {
            fn prefix_size(_: Version) -> usize {
                1
            }

            fn read(reader: &mut Reader, version: Version) -> Result<Option<Self>, DecodeError> {
                if reader.i8()? < 0 {
                    return Ok(None);
                }
                Field::decode_field(reader, version, false).map(Some)
            }

            fn write(
                value: Option<&Self>,
                writer: &mut Writer,
                version: Version,
            ) -> Result<(), EncodeError> {
                let Some(value) = value else {
                    writer.i8(-1);
                    return Ok(());
                };
                writer.i8(1);
                value.encode_field(writer, version, false)
            }
        }
    };
}
