//! A plain client for the command line and the tests: one request at a time over a blocking socket, with
//! the broker's own codec, to any Kafka broker.
//!
//! It runs on its caller's thread and never on a shard's. It does not know topics' partitions, retries or
//! groups: whoever asks looks after that.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::{
    ApiKey, ApiRequest, ErrorCode, Segment, StrBytes, Version, decode_response, encode_request,
};

/// A longer answer is a mistake of whatever answers.
const FRAME_BYTES_MAX: usize = 256 << 20;

const CLIENT_ID: &str = "millstream";

/// Why a request has no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there.
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        why: String,
    },
    /// The connection ended or timed out.
    Lost {
        /// With whom.
        address: String,
        /// What was asked.
        api: ApiKey,
        /// What the system says.
        why: String,
    },
    /// What answers is no such broker.
    Peer {
        /// Who.
        address: String,
        /// What it did.
        why: String,
    },
    /// The broker does not serve the API in any version known here.
    NotServed {
        /// Who.
        address: String,
        /// The API.
        api: ApiKey,
    },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { address, why } => write!(
                f,
                "cannot connect to {address}: {why}; start a broker there, or name another with \
                 --bootstrap-server"
            ),
            ClientError::Lost { address, api, why } => write!(
                f,
                "{address} did not answer {}: {why}; see the broker's log, or try again",
                api.supported().name
            ),
            ClientError::Peer { address, why } => {
                write!(f, "{address} is no Kafka broker, or a broken one: {why}; check the address")
            }
            ClientError::NotServed { address, api } => write!(
                f,
                "{address} does not serve {}, which this needs; use a newer broker",
                api.supported().name
            ),
        }
    }
}

impl std::error::Error for ClientError {}

/// A connection to one broker.
pub struct Connection {
    stream: TcpStream,
    address: String,
    /// The newest version that both sides know, by API.
    versions: BTreeMap<i16, i16>,
    correlation_id: i32,
}

impl Connection {
    /// Connects, and asks what the broker serves.
    ///
    /// # Errors
    /// Nobody listens there, or it is no broker.
    pub fn open(address: &str, timeout: Duration) -> Result<Connection, ClientError> {
        let unreachable = |error: io::Error| ClientError::Unreachable {
            address: address.to_owned(),
            why: error.to_string(),
        };
        let stream = connect(address, timeout).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_read_timeout(Some(timeout)).map_err(unreachable)?;
        stream.set_write_timeout(Some(timeout)).map_err(unreachable)?;
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            versions: BTreeMap::new(),
            correlation_id: 0,
        };
        // Version 0 is understood by all and says all that is needed.
        let Some(version) = ApiKey::ApiVersions.version(0) else {
            return Err(connection.not_served(ApiKey::ApiVersions));
        };
        let response = connection.call_in(version, &ApiVersionsRequest::default())?;
        if response.error_code != ErrorCode::None {
            return Err(connection.peer(response.error_code.message()));
        }
        connection.versions = common(&response);
        Ok(connection)
    }

    /// Where the broker is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The version in which an API is asked, if both sides know one.
    #[must_use]
    pub fn version(&self, api: ApiKey) -> Option<Version> {
        self.versions.get(&api.number()).and_then(|number| api.version(*number))
    }

    /// Asks in the newest common version and waits for the answer.
    ///
    /// # Errors
    /// See [`ClientError`]. Error codes inside the answer are the caller's.
    pub fn call<R: ApiRequest>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        let version = self.version(R::KEY).ok_or_else(|| self.not_served(R::KEY))?;
        self.call_in(version, request)
    }

    /// Asks in a version of the caller's choice.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call_in<R: ApiRequest>(
        &mut self,
        version: Version,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.send(version, request)?;
        let frame = self.receive().map_err(|error| self.lost(R::KEY, &error))?;
        let (header, response) = decode_response::<R::Response>(version, frame)
            .map_err(|error| self.peer(&error.to_string()))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.peer("it answers another request"));
        }
        Ok(response)
    }

    /// Asks what is not answered, as Produce with acks 0.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn tell<R: ApiRequest>(&mut self, request: &R) -> Result<(), ClientError> {
        let version = self.version(R::KEY).ok_or_else(|| self.not_served(R::KEY))?;
        self.send(version, request)
    }

    fn send<R: ApiRequest>(&mut self, version: Version, request: &R) -> Result<(), ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let client_id = Some(StrBytes::from_static(CLIENT_ID));
        let frame = encode_request(self.correlation_id, client_id, version.number, request)
            .map_err(|error| self.peer(&format!("the request cannot be written: {error}")))?;
        for segment in &frame.segments {
            if let Segment::Inline(bytes) = segment {
                self.stream.write_all(bytes).map_err(|error| self.lost(R::KEY, &error))?;
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other("an impossible length of its answer"));
        }
        // Grown as bytes arrive: a length may lie.
        let mut frame = Vec::new();
        let wanted = length as u64;
        (&mut self.stream).take(wanted).read_to_end(&mut frame)?;
        if frame.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Bytes::from(frame))
    }

    fn lost(&self, api: ApiKey, error: &io::Error) -> ClientError {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it took too long".to_owned(),
            io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        };
        ClientError::Lost { address: self.address.clone(), api, why }
    }

    fn peer(&self, why: &str) -> ClientError {
        ClientError::Peer { address: self.address.clone(), why: why.to_owned() }
    }

    fn not_served(&self, api: ApiKey) -> ClientError {
        ClientError::NotServed { address: self.address.clone(), api }
    }
}

/// Tries every address that the name stands for.
fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn common(response: &ApiVersionsResponse) -> BTreeMap<i16, i16> {
    let newest = |offered: &crate::protocol::messages::api_versions::ApiVersion| {
        let ours = ApiKey::from_number(offered.api_key)?.supported();
        let newest = ours.max.min(offered.max_version);
        (newest >= ours.min.max(offered.min_version)).then_some((offered.api_key, newest))
    };
    response.api_keys.iter().filter_map(newest).collect()
}
