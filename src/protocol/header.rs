//! Request and response headers.
//!
//! A request of a flexible version has header 2, any other header 1; header 0 died with
//! ControlledShutdown 0. The client id keeps its 2-byte length even in header 2, so that an old broker
//! can read the header of an ApiVersions request newer than itself.

use super::api::ApiKey;
use super::failure::{DecodeError, EncodeError};
use super::reader::Reader;
use super::string::StrBytes;
use super::wire::{Field, Version};
use super::writer::Writer;

/// What comes before every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// The API's version, one that is served.
    pub api_version: Version,
    /// The number the response must carry.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<StrBytes>,
}

/// The part of a request header that has one form in all versions and for all APIs, even unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeaderStart {
    /// The number of the API.
    pub api_key: i16,
    /// The number of its version.
    pub api_version: i16,
    /// The number the response must carry.
    pub correlation_id: i32,
}

/// What comes before every response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The number from the request's header.
    pub correlation_id: i32,
}

/// Strings as they are in every version of a request header.
const FIXED: Version = Version { number: 1, flexible: false };

impl RequestHeaderStart {
    /// Reads the first 8 bytes of a request.
    ///
    /// # Errors
    /// The frame is shorter.
    pub fn decode(reader: &mut Reader) -> Result<RequestHeaderStart, DecodeError> {
        let at = |error: DecodeError| error.at("RequestHeader");
        Ok(RequestHeaderStart {
            api_key: reader.i16().map_err(at)?,
            api_version: reader.i16().map_err(at)?,
            correlation_id: reader.i32().map_err(at)?,
        })
    }
}

impl RequestHeader {
    /// Reads what follows `RequestHeaderStart`.
    ///
    /// # Errors
    /// The bytes are no request header.
    pub fn decode_rest(
        reader: &mut Reader,
        api_key: ApiKey,
        api_version: Version,
        correlation_id: i32,
    ) -> Result<RequestHeader, DecodeError> {
        let client_id = Field::decode_field(reader, FIXED, true)
            .map_err(|error| error.at("RequestHeader.client_id"))?;
        if api_version.flexible {
            skip_tagged_fields(reader).map_err(|error| error.at("RequestHeader.tagged_fields"))?;
        }
        Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
    }

    /// Writes the header.
    ///
    /// # Errors
    /// The client id is too long.
    pub fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.i16(self.api_key.number());
        writer.i16(self.api_version.number);
        writer.i32(self.correlation_id);
        self.client_id
            .encode_field(writer, FIXED, true)
            .map_err(|error| error.at("RequestHeader.client_id"))?;
        if self.api_version.flexible {
            writer.unsigned_varint(0);
        }
        Ok(())
    }
}

impl ResponseHeader {
    /// Reads the header of a response to a request of that API and version.
    ///
    /// # Errors
    /// The bytes are no response header.
    pub fn decode(
        reader: &mut Reader,
        api_key: ApiKey,
        version: Version,
    ) -> Result<ResponseHeader, DecodeError> {
        let correlation_id =
            reader.i32().map_err(|error| error.at("ResponseHeader.correlation_id"))?;
        if has_tagged_fields(api_key, version) {
            skip_tagged_fields(reader).map_err(|error| error.at("ResponseHeader.tagged_fields"))?;
        }
        Ok(ResponseHeader { correlation_id })
    }

    /// Writes the header of a response to a request of that API and version.
    pub fn encode(self, writer: &mut Writer, api_key: ApiKey, version: Version) {
        writer.i32(self.correlation_id);
        if has_tagged_fields(api_key, version) {
            writer.unsigned_varint(0);
        }
    }
}

/// ApiVersions is answered with header 0 in every version: the client cannot know yet whether the broker
/// understood the version it asked in (KIP-511).
fn has_tagged_fields(api_key: ApiKey, version: Version) -> bool {
    version.flexible && api_key != ApiKey::ApiVersions
}

fn skip_tagged_fields(reader: &mut Reader) -> Result<(), DecodeError> {
    reader.tagged_fields(|_, _| Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_versions_is_answered_with_header_0() {
        for (key, number, expected) in
            [(ApiKey::ApiVersions, 4, 4), (ApiKey::Metadata, 9, 5), (ApiKey::Metadata, 8, 4)]
        {
            let mut writer = Writer::new();
            ResponseHeader { correlation_id: 7 }.encode(
                &mut writer,
                key,
                key.version(number).unwrap(),
            );
            assert_eq!(writer.len(), expected, "{key:?} {number}");
        }
    }

    #[test]
    fn the_client_id_is_never_compact() {
        let header = RequestHeader {
            api_key: ApiKey::ApiVersions,
            api_version: ApiKey::ApiVersions.version(3).unwrap(),
            correlation_id: 7,
            client_id: Some("me".into()),
        };
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        let bytes = writer.into_bytes().unwrap();
        assert_eq!(bytes.as_ref(), [0, 18, 0, 3, 0, 0, 0, 7, 0, 2, b'm', b'e', 0]);
        let mut reader = Reader::new(bytes);
        let start = RequestHeaderStart::decode(&mut reader).unwrap();
        let rest = RequestHeader::decode_rest(
            &mut reader,
            header.api_key,
            header.api_version,
            start.correlation_id,
        );
        assert_eq!(rest, Ok(header));
    }
}
