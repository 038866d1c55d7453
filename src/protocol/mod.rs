//! The wire codec: Kafka's messages as plain structs, and back.
//!
//! No shard owns it and it keeps no state: bytes in, values out. It knows nothing of sockets, topics,
//! authorisation or what a record batch contains.
//!
//! Invariants:
//!
//! - **The API version ends here.** A message is one struct with the union of all versions' fields; a
//!   field that the version lacks has its default. Only the response's encoding needs the version again.
//! - **Decoding borrows.** Strings, bytes and records are slices of the frame, so no byte of a payload is
//!   copied; what must outlive the request is copied by whoever keeps it.
//! - **No length is believed.** Counts are checked against the bytes that remain before anything is
//!   allocated, unknown tagged fields are skipped unstored and their number is bounded, nothing panics.
//! - **Encoding does not copy payloads.** A frame is a list of [`Segment`]s. [`Records::Inline`] of some
//!   size becomes a segment of its own; [`Records::External`] becomes a [`Segment::External`] that holds
//!   a length and the caller's token, and the caller sends its own buffer there in one vectored send. An
//!   empty fetch result is [`Records::EMPTY`], zero-length and never null.
//!
//! A message is written down once, in the notation of `macros.rs`, and an API is one line in `api.rs`.
//! The source for both is Kafka 4.3's message definitions.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[macro_use]
mod macros;

mod api;
mod error;
mod failure;
mod frame;
pub mod group_records;
mod header;
pub mod messages;
mod reader;
mod string;
mod wire;
mod writer;

pub use api::{
    ApiKey, ApiRequest, ApiResponse, Request, Response, SUPPORTED, Supported, advertised,
};
pub use error::{ErrorCode, UnknownErrorCode};
pub use failure::{DecodeCause, DecodeError, EncodeError};
pub use frame::{RequestError, decode_request, decode_response, encode_request, encode_response};
pub use header::{RequestHeader, RequestHeaderStart, ResponseHeader};
pub use reader::Reader;
pub use string::StrBytes;
pub use wire::{Field, Nullable, Version};
pub use writer::{Frame, Records, Segment, Writer};
