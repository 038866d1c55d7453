//! Whole frames: header and body together, for the broker and for a client.
//!
//! A frame handed in is without its 4-byte length, which `net` has read; a frame handed out has it.

use std::fmt;

use bytes::Bytes;

use super::api::{ApiKey, ApiRequest, ApiResponse, Request, Response};
use super::failure::{DecodeError, EncodeError};
use super::header::{RequestHeader, RequestHeaderStart, ResponseHeader};
use super::reader::Reader;
use super::string::StrBytes;
use super::wire::Version;
use super::writer::{Frame, Writer};

/// Room for a frame's own bytes to begin with: the responses of the hot path fit.
const FRAME_CAPACITY: usize = 256;

/// A frame that is no request the broker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// An API that is not served. Kafka closes the connection.
    UnsupportedApiKey(RequestHeaderStart),
    /// A version that is not served. Kafka answers ApiVersions with UNSUPPORTED_VERSION in version 0
    /// (KIP-511) and closes the connection for any other API.
    UnsupportedVersion {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        api_version: i16,
        /// The number the response must carry.
        correlation_id: i32,
    },
    /// Not a request at all. Kafka closes the connection.
    Malformed {
        /// The API the frame names, if it is served.
        api_key: Option<ApiKey>,
        /// What is wrong.
        error: DecodeError,
    },
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::UnsupportedApiKey(start) => {
                write!(f, "API key {} is not served", start.api_key)
            }
            RequestError::UnsupportedVersion { api_key, api_version, .. } => {
                write!(f, "version {api_version} of {} is not served", api_key.supported().name)
            }
            RequestError::Malformed { api_key: Some(api_key), error } => {
                write!(f, "malformed {} request: {error}", api_key.supported().name)
            }
            RequestError::Malformed { api_key: None, error } => {
                write!(f, "malformed request: {error}")
            }
        }
    }
}

impl std::error::Error for RequestError {}

/// Reads a request frame. As in Kafka, bytes after the request's last field are ignored.
///
/// # Errors
/// The frame is no request the broker serves.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    let mut reader = Reader::new(frame);
    let start = RequestHeaderStart::decode(&mut reader)
        .map_err(|error| RequestError::Malformed { api_key: None, error })?;
    let api_key =
        ApiKey::from_number(start.api_key).ok_or(RequestError::UnsupportedApiKey(start))?;
    let version = api_key.version(start.api_version).ok_or(RequestError::UnsupportedVersion {
        api_key,
        api_version: start.api_version,
        correlation_id: start.correlation_id,
    })?;
    let malformed = |error| RequestError::Malformed { api_key: Some(api_key), error };
    let header = RequestHeader::decode_rest(&mut reader, api_key, version, start.correlation_id)
        .map_err(malformed)?;
    let request = Request::decode(api_key, &mut reader, version).map_err(malformed)?;
    Ok((header, request))
}

/// Writes the answer to the request with that version and correlation id.
///
/// # Errors
/// The version cannot express the response.
pub fn encode_response(
    correlation_id: i32,
    version: Version,
    response: &Response,
) -> Result<Frame, EncodeError> {
    let mut writer = Writer::for_frame(FRAME_CAPACITY);
    ResponseHeader { correlation_id }.encode(&mut writer, response.key(), version);
    response.encode(&mut writer, version)?;
    writer.into_frame()
}

/// Writes a request in a version of its API.
///
/// # Errors
/// The version is not in `SUPPORTED` or cannot express the request.
pub fn encode_request<R: ApiRequest>(
    correlation_id: i32,
    client_id: Option<StrBytes>,
    version: i16,
    request: &R,
) -> Result<Frame, EncodeError> {
    let api_version = R::KEY.version(version).ok_or(EncodeError::UnsupportedVersion { version })?;
    let mut writer = Writer::for_frame(FRAME_CAPACITY);
    RequestHeader { api_key: R::KEY, api_version, correlation_id, client_id }
        .encode(&mut writer)?;
    request.encode_body(&mut writer, api_version)?;
    writer.into_frame()
}

/// Reads the answer to a request of that version.
///
/// # Errors
/// The frame is no such response.
pub fn decode_response<R: ApiResponse>(
    version: Version,
    frame: Bytes,
) -> Result<(ResponseHeader, R), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, R::KEY, version)?;
    Ok((header, R::decode_body(&mut reader, version)?))
}

#[cfg(test)]
mod tests {
    use super::super::failure::DecodeCause;
    use super::super::messages::{ApiVersionsRequest, ApiVersionsResponse};
    use super::*;

    fn request(bytes: &[u8]) -> Result<(RequestHeader, Request), RequestError> {
        decode_request(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn a_request_and_its_answer_cross_the_wire() {
        let sent = ApiVersionsRequest {
            client_software_name: "kcat".into(),
            client_software_version: "1.7".into(),
        };
        let frame = encode_request(7, Some("me".into()), 3, &sent).unwrap().into_bytes().unwrap();
        let (header, received) = decode_request(frame.slice(4..)).unwrap();
        assert_eq!((header.correlation_id, received), (7, sent.into()));

        let answer =
            ApiVersionsResponse { api_keys: super::super::advertised(), ..Default::default() };
        let frame = encode_response(7, header.api_version, &answer.clone().into()).unwrap();
        assert_eq!(frame.len, frame.clone().into_bytes().unwrap().len());
        let frame = frame.into_bytes().unwrap();
        assert_eq!(
            i32::from_be_bytes(*frame.first_chunk().unwrap()),
            i32::try_from(frame.len()).unwrap() - 4
        );
        let read = decode_response::<ApiVersionsResponse>(header.api_version, frame.slice(4..));
        assert_eq!(read, Ok((ResponseHeader { correlation_id: 7 }, answer)));
    }

    #[test]
    fn what_is_not_served_is_told_apart() {
        let start = RequestHeaderStart { api_key: 4, api_version: 0, correlation_id: 5 };
        assert_eq!(request(&[0, 4, 0, 0, 0, 0, 0, 5]), Err(RequestError::UnsupportedApiKey(start)));
        for api_version in [5_i16, -1, i16::MAX] {
            let [high, low] = api_version.to_be_bytes();
            assert_eq!(
                request(&[0, 18, high, low, 0, 0, 0, 6]),
                Err(RequestError::UnsupportedVersion {
                    api_key: ApiKey::ApiVersions,
                    api_version,
                    correlation_id: 6
                })
            );
        }
        let error = request(b"GET").unwrap_err();
        assert_eq!(
            error.to_string(),
            "malformed request: RequestHeader: needs 2 bytes, 1 are left"
        );
        let error = request(&[0, 18, 0, 0, 0, 0, 0, 6, 0xff, 0xfe]).unwrap_err();
        let expected = DecodeError {
            cause: DecodeCause::NegativeLength(-2),
            field: "RequestHeader.client_id",
        };
        assert_eq!(
            error,
            RequestError::Malformed { api_key: Some(ApiKey::ApiVersions), error: expected }
        );
    }

    #[test]
    fn bytes_after_the_request_are_ignored() {
        let frame = [0, 18, 0, 0, 0, 0, 0, 6, 0xff, 0xff, 1, 2, 3];
        assert_eq!(request(&frame).unwrap().1, ApiVersionsRequest::default().into());
    }
}
