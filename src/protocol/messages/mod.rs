//! The messages, one file per API, in the notation of `macros.rs`.
//!
//! A file's structs and fields have Kafka's names, in Kafka's order, since the order is the wire's.

pub mod api_versions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod fetch;
pub mod list_offsets;
pub mod metadata;
pub mod produce;

pub use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub use create_topics::{CreateTopicsRequest, CreateTopicsResponse};
pub use delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
pub use describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
pub use fetch::{FetchRequest, FetchResponse};
pub use list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
pub use metadata::{MetadataRequest, MetadataResponse};
pub use produce::{ProduceRequest, ProduceResponse};

/// Everything the notation uses.
mod prelude {
    pub(super) use bytes::Bytes;

    pub(super) use crate::protocol::error::ErrorCode;
    pub(super) use crate::protocol::reader::Reader;
    pub(super) use crate::protocol::string::StrBytes;
    pub(super) use crate::protocol::wire::{DecodeError, EncodeError, Field, Version};
    pub(super) use crate::protocol::writer::{Records, Writer};
    pub(super) use crate::types::Uuid;
}
