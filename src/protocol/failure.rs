//! What can go wrong between bytes and messages, each cause by its name.

use std::fmt;

/// Why bytes are not the message they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeCause {
    /// The field needs more bytes than the frame has left.
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes left in the frame.
        remaining: usize,
    },
    /// A length or count below zero that does not mean null.
    NegativeLength(i32),
    /// An array count that the rest of the frame cannot hold even with the smallest elements.
    CountTooLarge {
        /// The elements announced.
        count: usize,
        /// Bytes left in the frame.
        remaining: usize,
    },
    /// More array elements than one frame may become in memory ([`crate::limits::DECODED_BYTES_BASE`]).
    TooManyElements {
        /// The elements announced by the array that went beyond.
        count: usize,
    },
    /// Null where the version does not allow it.
    UnexpectedNull,
    /// A string that is not UTF-8.
    InvalidUtf8,
    /// A varint of more than 32 bits.
    VarintTooLong,
    /// More tagged fields in one struct than [`crate::limits::TAGGED_FIELDS_MAX`].
    TooManyTaggedFields(u32),
    /// A tagged field whose content is shorter than its size says.
    TaggedFieldSize {
        /// The field's tag.
        tag: u32,
        /// Bytes left over after reading it.
        unread: usize,
    },
    /// A stored value of a version that is not known.
    UnknownVersion {
        /// The version.
        number: i16,
    },
}

/// Bytes that are not the message they claim to be: what is wrong and in which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub cause: DecodeCause,
    /// The innermost field, as `Struct.field`; empty when the error lies in no named field.
    pub field: &'static str,
}

impl DecodeError {
    /// Names the field unless an inner one is named already.
    #[must_use]
    pub fn at(mut self, field: &'static str) -> DecodeError {
        if self.field.is_empty() {
            self.field = field;
        }
        self
    }
}

impl From<DecodeCause> for DecodeError {
    fn from(cause: DecodeCause) -> DecodeError {
        DecodeError { cause, field: "" }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "frame" } else { self.field };
        match self.cause {
            DecodeCause::Truncated { needed, remaining } => {
                write!(f, "{field}: needs {needed} bytes, {remaining} are left")
            }
            DecodeCause::NegativeLength(length) => write!(f, "{field}: length {length}"),
            DecodeCause::CountTooLarge { count, remaining } => {
                write!(f, "{field}: {count} elements cannot fit in {remaining} bytes")
            }
            DecodeCause::TooManyElements { count } => {
                write!(f, "{field}: {count} elements are too many for a frame of this size")
            }
            DecodeCause::UnexpectedNull => {
                write!(f, "{field}: null is not allowed in this version")
            }
            DecodeCause::InvalidUtf8 => write!(f, "{field}: not UTF-8"),
            DecodeCause::UnknownVersion { number } => {
                write!(f, "{field}: version {number} is not known")
            }
            DecodeCause::VarintTooLong => write!(f, "{field}: varint longer than 32 bits"),
            DecodeCause::TooManyTaggedFields(count) => write!(f, "{field}: {count} tagged fields"),
            DecodeCause::TaggedFieldSize { tag, unread } => {
                write!(f, "{field}: tagged field {tag} is {unread} bytes shorter than its size")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// A message that cannot be written in the version asked for: a mistake of the caller, not of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The field is null and the version has no null for it.
    UnexpectedNull {
        /// The field, as `Struct.field`.
        field: &'static str,
    },
    /// The field is longer than its length prefix can say.
    TooLong {
        /// The field, as `Struct.field`.
        field: &'static str,
        /// Its bytes or elements.
        len: usize,
    },
    /// The whole frame is longer than its 4-byte length can say.
    FrameTooLong {
        /// Its bytes.
        len: usize,
    },
    /// The version is not one that `SUPPORTED` serves.
    UnsupportedVersion {
        /// The version.
        version: i16,
    },
    /// The bytes of a frame with an external payload were asked for.
    ExternalPayload,
}

impl EncodeError {
    /// Names the field unless an inner one is named already.
    #[must_use]
    pub fn at(mut self, place: &'static str) -> EncodeError {
        match &mut self {
            EncodeError::UnexpectedNull { field } | EncodeError::TooLong { field, .. }
                if field.is_empty() =>
            {
                *field = place;
            }
            _ => {}
        }
        self
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::UnexpectedNull { field } => {
                write!(f, "{field}: null has no form in this version")
            }
            EncodeError::TooLong { field, len } => {
                write!(f, "{field}: {len} is too long for its length prefix")
            }
            EncodeError::FrameTooLong { len } => write!(f, "frame of {len} bytes"),
            EncodeError::UnsupportedVersion { version } => {
                write!(f, "version {version} is not served")
            }
            EncodeError::ExternalPayload => write!(f, "the frame's payload lies outside of it"),
        }
    }
}

impl std::error::Error for EncodeError {}
