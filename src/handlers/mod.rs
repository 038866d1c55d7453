//! One file per API: split by owner, route, merge, map errors to Kafka's codes.
//!
//! Shard: runs on the shard of the connection. [`dispatch`] is called with frames in their order of
//! arrival and begins appends before it returns, so their order is fixed; only waiting is left to the
//! future. It does not know sockets.

mod api_versions;
mod create_topics;
mod delete_topics;
mod describe_cluster;
mod fetch;
mod list_offsets;
mod metadata;
mod produce;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::metadata::{Image, Topic, TopicError};
use crate::partition::Slice;
use crate::protocol::{
    ApiKey, ErrorCode, Frame, Request, RequestError, RequestHeader, Response, StrBytes, Version,
    decode_request, encode_response,
};
use crate::shard::Shard;
use crate::types::{TopicId, Uuid};

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// A reply, with the bytes of its external segments by token.
    Reply(Frame, Vec<Vec<Slice>>),
    /// No reply, as to acks=0.
    Nothing,
    /// The connection is to be closed, for this reason.
    Close(String),
}

/// An answer, now or later.
pub enum Dispatch {
    /// Now.
    Ready(Answer),
    /// Later; the future runs to its end even if the client is gone.
    Later(Pin<Box<dyn Future<Output = Answer>>>),
}

impl Dispatch {
    fn later(future: impl Future<Output = Answer> + 'static) -> Dispatch {
        Dispatch::Later(Box::pin(future))
    }
}

/// What handlers may know of the connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientContext {
    /// Bytes that a reply may have, for what the client has not read yet.
    pub reply_bytes_max: usize,
}

/// What a reply needs of its request.
#[derive(Clone, Copy, Debug)]
struct ReplyHeader {
    correlation_id: i32,
    version: Version,
}

impl ReplyHeader {
    fn answer(self, response: impl Into<Response>) -> Answer {
        self.answer_with(response, Vec::new())
    }

    fn answer_with(self, response: impl Into<Response>, records: Vec<Vec<Slice>>) -> Answer {
        match encode_response(self.correlation_id, self.version, &response.into()) {
            Ok(frame) => Answer::Reply(frame, records),
            Err(error) => Answer::Close(format!("a response cannot be encoded: {error}")),
        }
    }

    fn ready(self, response: impl Into<Response>) -> Dispatch {
        Dispatch::Ready(self.answer(response))
    }
}

/// Answers one request frame (without its length).
pub fn dispatch(shard: &Rc<Shard>, context: ClientContext, frame: Bytes) -> Dispatch {
    let (header, request) = match decode_request(frame) {
        Ok(decoded) => decoded,
        Err(error) => return Dispatch::Ready(refuse(&error)),
    };
    let RequestHeader { api_version, correlation_id, .. } = header;
    let reply = ReplyHeader { correlation_id, version: api_version };
    match request {
        Request::ApiVersions(request) => api_versions::handle(reply, &request),
        Request::Metadata(request) => metadata::handle(shard, reply, request),
        Request::Produce(request) => produce::handle(shard, reply, &request),
        Request::Fetch(request) => fetch::handle(shard, reply, context, &request),
        Request::ListOffsets(request) => list_offsets::handle(shard, reply, request),
        Request::CreateTopics(request) => create_topics::handle(shard, reply, request),
        Request::DeleteTopics(request) => delete_topics::handle(shard, reply, request),
        Request::DescribeCluster(request) => describe_cluster::handle(shard, reply, &request),
    }
}

/// Kafka's answers to what it does not serve or cannot read.
fn refuse(error: &RequestError) -> Answer {
    match error {
        RequestError::UnsupportedVersion {
            api_key: ApiKey::ApiVersions, correlation_id, ..
        } => api_versions::unsupported(*correlation_id),
        RequestError::UnsupportedVersion { .. }
        | RequestError::UnsupportedApiKey(_)
        | RequestError::Malformed { .. } => Answer::Close(error.to_string()),
    }
}

/// The topic a request names, by name or by id, as its version has it.
fn find_topic<'a>(image: &'a Image, name: &str, id: Uuid) -> Result<&'a Rc<Topic>, ErrorCode> {
    if name.is_empty() && id != Uuid::nil() {
        image.by_id(TopicId(id)).ok_or(ErrorCode::UnknownTopicId)
    } else {
        image.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

fn topic_error_code(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::InvalidName(_) => ErrorCode::InvalidTopicException,
        TopicError::Exists(_) => ErrorCode::TopicAlreadyExists,
        TopicError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        TopicError::Limit(_) => ErrorCode::PolicyViolation,
    }
}

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from(value.into())
}
