//! One file per API: split by owner, route, merge, map errors to Kafka's codes.
//!
//! Shard: runs on the shard of the connection. [`dispatch`] is called with frames in their order of
//! arrival and begins appends before it returns, so their order is fixed; only waiting is left to the
//! future. It does not know sockets.

mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::coordinator::Caller;
use crate::metadata::{Image, Topic, TopicError};
use crate::partition::Slice;
use crate::protocol::{
    ApiKey, ErrorCode, Frame, Request, RequestError, RequestHeader, Response, StrBytes, Version,
    decode_request, encode_response,
};
use crate::shard::Shard;
use crate::shard::message::ReadFailure;
use crate::types::{TopicId, TopicPartition, Uuid};

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
    /// The index of the listener that it came by: it decides where the client is told to connect.
    pub listener: u16,
    /// The client's address.
    pub client_host: IpAddr,
}

impl ClientContext {
    fn caller(&self, client_id: Option<StrBytes>, version: Version) -> Caller {
        Caller {
            client_id: client_id.unwrap_or_default(),
            // As Java prints an address without a name.
            client_host: text(format!("/{}", self.client_host)),
            version: version.number,
        }
    }
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
    let RequestHeader { api_version, correlation_id, client_id, .. } = header;
    let reply = ReplyHeader { correlation_id, version: api_version };
    match request {
        Request::ApiVersions(request) => api_versions::handle(reply, &request),
        Request::Metadata(request) => metadata::handle(shard, reply, context, request),
        Request::Produce(request) => produce::handle(shard, reply, &request),
        Request::Fetch(request) => fetch::handle(shard, reply, context, &request),
        Request::ListOffsets(request) => list_offsets::handle(shard, reply, request),
        Request::OffsetCommit(request) => offset_commit::handle(shard, reply, request),
        Request::OffsetFetch(request) => offset_fetch::handle(shard, reply, request),
        Request::FindCoordinator(request) => {
            find_coordinator::handle(shard, reply, context, request)
        }
        Request::JoinGroup(request) => {
            join_group::handle(shard, reply, context.caller(client_id, api_version), request)
        }
        Request::Heartbeat(request) => heartbeat::handle(shard, reply, request),
        Request::LeaveGroup(request) => leave_group::handle(shard, reply, request),
        Request::SyncGroup(request) => sync_group::handle(shard, reply, request),
        Request::DescribeGroups(request) => describe_groups::handle(shard, reply, request),
        Request::ListGroups(request) => list_groups::handle(shard, reply, request),
        Request::DeleteGroups(request) => delete_groups::handle(shard, reply, request),
        Request::OffsetDelete(request) => offset_delete::handle(shard, reply, request),
        Request::CreateTopics(request) => create_topics::handle(shard, reply, request),
        Request::DeleteTopics(request) => delete_topics::handle(shard, reply, request),
        Request::DescribeConfigs(request) => describe_configs::handle(shard, reply, &request),
        Request::AlterConfigs(request) => alter_configs::handle(shard, reply, request),
        Request::DescribeLogDirs(request) => describe_log_dirs::handle(shard, reply, request),
        Request::CreatePartitions(request) => create_partitions::handle(shard, reply, request),
        Request::ElectLeaders(request) => elect_leaders::handle(shard, reply, &request),
        Request::IncrementalAlterConfigs(request) => {
            incremental_alter_configs::handle(shard, reply, request)
        }
        Request::AlterPartitionReassignments(request) => {
            alter_partition_reassignments::handle(shard, reply, &request)
        }
        Request::ListPartitionReassignments(_) => list_partition_reassignments::handle(reply),
        Request::DescribeQuorum(request) => {
            describe_quorum::handle(shard, reply, context, &request)
        }
        Request::ListConfigResources(request) => {
            list_config_resources::handle(shard, reply, &request)
        }
        Request::DescribeTopicPartitions(request) => {
            describe_topic_partitions::handle(shard, reply, &request)
        }
        Request::InitProducerId(request) => init_producer_id::handle(shard, reply, &request),
        Request::OffsetForLeaderEpoch(request) => {
            offset_for_leader_epoch::handle(shard, reply, request)
        }
        Request::DescribeProducers(request) => describe_producers::handle(shard, reply, request),
        Request::DeleteRecords(request) => delete_records::handle(shard, reply, request),
        Request::DescribeCluster(request) => {
            describe_cluster::handle(shard, reply, context, &request)
        }
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

/// KIP-320: a client that knows another leader epoch than ours has to look again. -1 is let in.
fn check_leader_epoch(shard: &Shard, client: i32) -> Result<(), ErrorCode> {
    let ours = shard.broker().leader_epoch;
    match client {
        -1 => Ok(()),
        epoch if epoch < ours => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > ours => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// A partition by its topic's name.
fn find_partition(shard: &Shard, topic: &str, partition: i32) -> Result<TopicPartition, ErrorCode> {
    let image = shard.image();
    let topic = find_topic(&image, topic, Uuid::nil())?;
    if (0..topic.partitions).contains(&partition) {
        Ok(TopicPartition { topic: topic.id, partition })
    } else {
        Err(ErrorCode::UnknownTopicOrPartition)
    }
}

/// Where a partition was not found any more, or could not be read.
fn read_error_code(failure: ReadFailure) -> ErrorCode {
    match failure {
        ReadFailure::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ReadFailure::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        ReadFailure::Storage => ErrorCode::KafkaStorageError,
    }
}

fn topic_error_code(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        TopicError::InvalidConfig(_) => ErrorCode::InvalidConfig,
        TopicError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        TopicError::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        TopicError::InvalidName(_) => ErrorCode::InvalidTopicException,
        TopicError::Exists(_) => ErrorCode::TopicAlreadyExists,
        TopicError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        TopicError::Limit(_) => ErrorCode::PolicyViolation,
    }
}

/// What an authorizer that forbids nothing lets be done with a topic, as a bit for each of Kafka's
/// operations (`AclEntry.supportedOperations`).
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// The same for the cluster.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Text after an error code; none where there is none.
fn message(error_code: ErrorCode, why: &str) -> Option<StrBytes> {
    (error_code != ErrorCode::None).then(|| text(why))
}

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from(value.into())
}
