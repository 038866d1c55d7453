//! The APIs served: one line each, from which everything that knows all of them is generated.
//!
//! Version ranges are Kafka 4.3's. To add an API: its file in `messages`, its handler, a line here.

use super::failure::{DecodeError, EncodeError};
use super::messages::*;
use super::reader::Reader;
use super::wire::Version;
use super::writer::Writer;

/// What the broker serves of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    /// The API.
    pub key: ApiKey,
    /// Kafka's name for it.
    pub name: &'static str,
    /// The lowest version served.
    pub min: i16,
    /// The highest version served.
    pub max: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub first_flexible: i16,
    /// The lowest version that ApiVersions tells: below `min` for Produce, because librdkafka takes a
    /// broker without Produce 0 for one without the message formats it needs (KAFKA-18659).
    pub advertised_min: i16,
}

/// A request as a type, with what belongs to it.
pub trait ApiRequest: Sized {
    /// Its API.
    const KEY: ApiKey;

    /// What answers it.
    type Response: ApiResponse;

    /// Reads the request's body.
    ///
    /// # Errors
    /// The bytes are no such request in `version`.
    fn decode_body(reader: &mut Reader, version: Version) -> Result<Self, DecodeError>;

    /// Writes the request's body.
    ///
    /// # Errors
    /// `version` cannot express a value.
    fn encode_body(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError>;
}

/// A response as a type, with what belongs to it.
pub trait ApiResponse: Sized {
    /// Its API.
    const KEY: ApiKey;

    /// Reads the response's body.
    ///
    /// # Errors
    /// The bytes are no such response in `version`.
    fn decode_body(reader: &mut Reader, version: Version) -> Result<Self, DecodeError>;

    /// Writes the response's body.
    ///
    /// # Errors
    /// `version` cannot express a value.
    fn encode_body(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError>;
}

macro_rules! message_impl {
    ($trait:ident, $message:ident, $key:ident $(, $response:ident)?) => {
        impl $trait for $message {
            const KEY: ApiKey = ApiKey::$key;
            $(type Response = $response;)?

            fn decode_body(reader: &mut Reader, version: Version) -> Result<Self, DecodeError> {
                Self::decode(reader, version)
            }

            fn encode_body(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
                self.encode(writer, version)
            }
        }
    };
}

macro_rules! apis {
    (@or $default:literal) => { $default };
    (@or $default:literal $value:literal) => { $value };
    ($(
        $key:ident = $number:literal, $min:literal..=$max:literal, flexible $flexible:literal $(advertised $advertised:literal)?, $request:ident, $response:ident;
    )+) => {
        /// An API served, by its number on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {$(
            #[doc = concat!("Kafka's API ", stringify!($number), ".")]
            $key = $number,
        )+}

        /// Every API served, in the order of their numbers.
        pub const SUPPORTED: &[Supported] = &[$(Supported {
            key: ApiKey::$key,
            name: stringify!($key),
            min: $min,
            max: $max,
            first_flexible: $flexible,
            advertised_min: apis!(@or $min $($advertised)?),
        }),+];

        impl ApiKey {
            /// The API with this number, if it is served.
            #[must_use]
            pub const fn from_number(number: i16) -> Option<ApiKey> {
                match number {
                    $($number => Some(ApiKey::$key),)+
                    _ => None,
                }
            }

            /// The API's number on the wire.
            #[must_use]
            pub const fn number(self) -> i16 {
                match self {
                    $(ApiKey::$key => $number,)+
                }
            }

            /// What is served of the API.
            #[must_use]
            pub const fn supported(self) -> Supported {
                match self {$(
                    ApiKey::$key => Supported {
                        key: self,
                        name: stringify!($key),
                        min: $min,
                        max: $max,
                        first_flexible: $flexible,
                        advertised_min: apis!(@or $min $($advertised)?),
                    },
                )+}
            }
        }

        /// A request of any API served.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Request {$(
            #[doc = concat!("A request of API ", stringify!($number), ".")]
            $key($request),
        )+}

        impl Request {
            /// The request's API.
            #[must_use]
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Request::$key(_) => ApiKey::$key,)+
                }
            }

            /// Reads a request's body.
            ///
            /// # Errors
            /// The bytes are no such request in `version`.
            pub fn decode(key: ApiKey, reader: &mut Reader, version: Version) -> Result<Request, DecodeError> {
                Ok(match key {
                    $(ApiKey::$key => Request::$key($request::decode(reader, version)?),)+
                })
            }

            /// Writes the request's body.
            ///
            /// # Errors
            /// `version` cannot express a value.
            pub fn encode(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
                match self {
                    $(Request::$key(request) => request.encode(writer, version),)+
                }
            }
        }

        /// A response of any API served.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Response {$(
            #[doc = concat!("A response of API ", stringify!($number), ".")]
            $key($response),
        )+}

        impl Response {
            /// The response's API.
            #[must_use]
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Response::$key(_) => ApiKey::$key,)+
                }
            }

            /// Reads a response's body.
            ///
            /// # Errors
            /// The bytes are no such response in `version`.
            pub fn decode(key: ApiKey, reader: &mut Reader, version: Version) -> Result<Response, DecodeError> {
                Ok(match key {
                    $(ApiKey::$key => Response::$key($response::decode(reader, version)?),)+
                })
            }

            /// Writes the response's body.
            ///
            /// # Errors
            /// `version` cannot express a value.
            pub fn encode(&self, writer: &mut Writer, version: Version) -> Result<(), EncodeError> {
                match self {
                    $(Response::$key(response) => response.encode(writer, version),)+
                }
            }
        }

        $(
            message_impl!(ApiRequest, $request, $key, $response);
            message_impl!(ApiResponse, $response, $key);

            impl From<$request> for Request {
                fn from(request: $request) -> Request {
                    Request::$key(request)
                }
            }

            impl From<$response> for Response {
                fn from(response: $response) -> Response {
                    Response::$key(response)
                }
            }
        )+
    };
}

apis! {
    Produce = 0, 3..=13, flexible 9 advertised 0, ProduceRequest, ProduceResponse;
    Fetch = 1, 4..=18, flexible 12, FetchRequest, FetchResponse;
    ListOffsets = 2, 1..=11, flexible 6, ListOffsetsRequest, ListOffsetsResponse;
    Metadata = 3, 0..=13, flexible 9, MetadataRequest, MetadataResponse;
    OffsetCommit = 8, 2..=10, flexible 8, OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch = 9, 1..=10, flexible 6, OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator = 10, 0..=6, flexible 3, FindCoordinatorRequest, FindCoordinatorResponse;
    JoinGroup = 11, 0..=9, flexible 6, JoinGroupRequest, JoinGroupResponse;
    Heartbeat = 12, 0..=4, flexible 4, HeartbeatRequest, HeartbeatResponse;
    LeaveGroup = 13, 0..=5, flexible 4, LeaveGroupRequest, LeaveGroupResponse;
    SyncGroup = 14, 0..=5, flexible 4, SyncGroupRequest, SyncGroupResponse;
    DescribeGroups = 15, 0..=6, flexible 5, DescribeGroupsRequest, DescribeGroupsResponse;
    ListGroups = 16, 0..=5, flexible 3, ListGroupsRequest, ListGroupsResponse;
    ApiVersions = 18, 0..=4, flexible 3, ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics = 19, 2..=7, flexible 5, CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics = 20, 1..=6, flexible 4, DeleteTopicsRequest, DeleteTopicsResponse;
    DeleteRecords = 21, 0..=2, flexible 2, DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId = 22, 0..=5, flexible 2, InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    DescribeConfigs = 32, 1..=4, flexible 4, DescribeConfigsRequest, DescribeConfigsResponse;
    AlterConfigs = 33, 0..=2, flexible 2, AlterConfigsRequest, AlterConfigsResponse;
    DescribeLogDirs = 35, 1..=5, flexible 2, DescribeLogDirsRequest, DescribeLogDirsResponse;
    CreatePartitions = 37, 0..=3, flexible 2, CreatePartitionsRequest, CreatePartitionsResponse;
    DeleteGroups = 42, 0..=2, flexible 2, DeleteGroupsRequest, DeleteGroupsResponse;
    ElectLeaders = 43, 0..=2, flexible 2, ElectLeadersRequest, ElectLeadersResponse;
    IncrementalAlterConfigs = 44, 0..=1, flexible 1, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    AlterPartitionReassignments = 45, 0..=1, flexible 0, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    ListPartitionReassignments = 46, 0..=0, flexible 0, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    OffsetDelete = 47, 0..=0, flexible 1, OffsetDeleteRequest, OffsetDeleteResponse;
    DescribeQuorum = 55, 0..=2, flexible 0, DescribeQuorumRequest, DescribeQuorumResponse;
    DescribeCluster = 60, 0..=2, flexible 0, DescribeClusterRequest, DescribeClusterResponse;
    DescribeProducers = 61, 0..=0, flexible 0, DescribeProducersRequest, DescribeProducersResponse;
    ListConfigResources = 74, 0..=1, flexible 0, ListConfigResourcesRequest, ListConfigResourcesResponse;
    DescribeTopicPartitions = 75, 0..=0, flexible 0, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
}

impl ApiKey {
    /// The version of that number, if it is served.
    #[must_use]
    pub fn version(self, number: i16) -> Option<Version> {
        let supported = self.supported();
        (supported.min..=supported.max).contains(&number).then(|| supported.version(number))
    }
}

impl Supported {
    /// A version of the API, served or not.
    pub(super) fn version(self, number: i16) -> Version {
        Version { number, flexible: number >= self.first_flexible }
    }
}

/// The rows of an ApiVersions response: every API served, with the versions to advertise.
#[must_use]
pub fn advertised() -> Vec<api_versions::ApiVersion> {
    let row = |api: &Supported| api_versions::ApiVersion {
        api_key: api.key.number(),
        min_version: api.advertised_min,
        max_version: api.max,
    };
    SUPPORTED.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_consistent() {
        assert!(SUPPORTED.is_sorted_by(|a, b| a.key.number() < b.key.number()));
        for api in SUPPORTED {
            assert_eq!(ApiKey::from_number(api.key.number()), Some(api.key));
            assert_eq!(api.key.supported(), *api);
            assert!(api.advertised_min <= api.min && api.min <= api.max, "{api:?}");
            assert_eq!(api.key.version(api.min - 1), None);
            assert_eq!(api.key.version(api.max + 1), None);
        }
        assert_eq!(ApiKey::from_number(-1), None);
    }

    #[test]
    fn produce_is_advertised_from_0() {
        let produce = advertised().into_iter().next().unwrap();
        assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
        assert_eq!(ApiKey::Produce.version(2), None);
    }
}
