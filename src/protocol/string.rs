//! A string that is a slice of the frame it came in.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

use super::failure::{DecodeCause, DecodeError};

/// Immutable UTF-8 text; cloning it copies no text.
///
/// The bytes were checked when it was made. `Deref` checks them once more, since this crate keeps
/// `unsafe` out of the codec: a few nanoseconds for a name. Comparing two of them checks nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StrBytes(Bytes);

impl StrBytes {
    /// A constant as a `StrBytes`.
    #[must_use]
    pub const fn from_static(text: &'static str) -> StrBytes {
        StrBytes(Bytes::from_static(text.as_bytes()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Bytes> for StrBytes {
    type Error = DecodeError;

    fn try_from(bytes: Bytes) -> Result<StrBytes, DecodeError> {
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(StrBytes(bytes)),
            Err(_) => Err(DecodeCause::InvalidUtf8.into()),
        }
    }
}

impl From<&'static str> for StrBytes {
    fn from(text: &'static str) -> StrBytes {
        StrBytes::from_static(text)
    }
}

impl From<String> for StrBytes {
    fn from(text: String) -> StrBytes {
        StrBytes(text.into())
    }
}

impl Deref for StrBytes {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for StrBytes {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for StrBytes {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq<str> for StrBytes {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for StrBytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialOrd for StrBytes {
    fn partial_cmp(&self, other: &StrBytes) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of the bytes, which for UTF-8 is the order of the text.
impl Ord for StrBytes {
    fn cmp(&self, other: &StrBytes) -> Ordering {
        self.0.cmp(&other.0)
    }
}

/// As `str` hashes, so that a map can be asked with a `&str`.
impl Hash for StrBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for StrBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for StrBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn behaves_like_the_text() {
        let text = StrBytes::try_from(Bytes::from("zażółć")).unwrap();
        assert_eq!(text, "zażółć");
        assert_eq!(text.len(), 10);
        let later = StrBytes::from("żaba".to_owned());
        assert!(text < later);
        assert!(HashSet::from([text, later]).contains("zażółć"));
        assert_eq!(
            StrBytes::try_from(Bytes::from_static(&[0xc3])).unwrap_err().cause,
            DecodeCause::InvalidUtf8
        );
    }
}
