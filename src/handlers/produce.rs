//! Produce: checks each batch, begins the local appends at once, sends the rest to their owners, and
//! answers when every append has reached the class that `acks` asks for.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use super::{Answer, Dispatch, ReplyHeader, find_topic, text};
use crate::config::topic::Compression;
use crate::log::producers::ProducerError;
use crate::metadata::Topic;
use crate::protocol::ErrorCode;
use crate::protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use crate::record::{
    BatchError, BatchSummary, Codec, TimestampType, Validation, ValidationRules, recompress,
    refused_records, set_max_timestamp, validate_produce,
};
use crate::shard::Shard;
use crate::shard::message::{AppendDone, AppendFailure, Call, PartitionAppend, Reply};
use crate::time::{Clock, Timestamp};
use crate::types::{Durability, ShardId, TopicPartition};

type Appends = Vec<Result<AppendDone, AppendFailure>>;

/// One partition of the request: what is known of its response, and which append completes it.
struct Part {
    response: PartitionProduceResponse,
    append: Option<(ShardId, usize)>,
}

struct TopicPart {
    head: TopicProduceResponse,
    parts: Vec<Part>,
}

pub(super) fn handle(shard: &Rc<Shard>, reply: ReplyHeader, request: &ProduceRequest) -> Dispatch {
    let refused = refuse_whole(request);
    let mut by_owner: BTreeMap<ShardId, Vec<PartitionAppend>> = BTreeMap::new();
    let topics: Vec<TopicPart> = request
        .topic_data
        .iter()
        .map(|topic| check_topic(shard, reply, request.acks, topic, refused, &mut by_owner))
        .collect();
    // Begun here, in order of arrival: local appends and messages both keep it.
    let mut waits = Vec::with_capacity(by_owner.len());
    let mut here = None;
    for (owner, appends) in by_owner {
        if owner == shard.id() {
            here = Some(shard.append_here(appends));
        } else {
            waits.push((owner, shard.router().call(owner, Call::Append(appends))));
        }
    }
    let me = shard.id();
    let acks = request.acks;
    if here.is_none() && waits.is_empty() {
        return Dispatch::Ready(finish(reply, acks, topics, &BTreeMap::new()));
    }
    Dispatch::later(async move {
        let mut done: BTreeMap<ShardId, Appends> = BTreeMap::new();
        if let Some(here) = here {
            done.insert(me, here.await);
        }
        for (owner, wait) in waits {
            if let Reply::Append(appends) = wait.await {
                done.insert(owner, appends);
            }
        }
        finish(reply, acks, topics, &done)
    })
}

/// What refuses every partition of a request.
fn refuse_whole(request: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    if request.transactional_id.is_some() {
        // No transactional id was ever given out: the coordinator does not exist yet.
        return Some(ErrorCode::InvalidProducerIdMapping);
    }
    None
}

fn check_topic(
    shard: &Shard,
    reply: ReplyHeader,
    acks: i16,
    data: &TopicProduceData,
    refused: Option<ErrorCode>,
    by_owner: &mut BTreeMap<ShardId, Vec<PartitionAppend>>,
) -> TopicPart {
    let image = shard.image();
    let topic = find_topic(&image, &data.name, data.topic_id);
    // What is in them comes from the coordinators alone.
    let internal = topic.ok().filter(|topic| topic.is_internal());
    let why = internal.map(|topic| format!("Cannot append to internal topic {}", topic.name));
    let topic = if why.is_some() { Err(ErrorCode::InvalidTopicException) } else { topic };
    let full = shard.broker().missing_space().map(|missing| {
        format!("the broker's disk is nearly full: {missing} bytes more have to be free")
    });
    let parts = data
        .partition_data
        .iter()
        .map(|partition| {
            let checked = match (refused, topic) {
                (None, Ok(_)) if full.is_some() => {
                    let code = ErrorCode::KafkaStorageError;
                    Err(refusal(partition.index, code, full.as_deref()))
                }
                (Some(code), _) => Err(refusal(partition.index, code, None)),
                (None, Err(code)) => Err(refusal(partition.index, code, why.as_deref())),
                // There is one replica.
                (None, Ok(topic)) if acks == -1 && topic.effective.min_insync_replicas > 1 => {
                    Err(refusal(partition.index, ErrorCode::NotEnoughReplicas, None))
                }
                (None, Ok(topic)) => check_partition(shard, reply, topic, partition),
            };
            match checked {
                Ok((id, bytes, summary, log_append_time_ms)) => {
                    let owner = shard.owner(id);
                    let appends = by_owner.entry(owner).or_default();
                    appends.push(PartitionAppend {
                        partition: id,
                        bytes,
                        records: i64::from(summary.last_offset_delta) + 1,
                        class: match topic {
                            Ok(topic) if topic.effective.write_caching => Durability::Received,
                            _ => shard.class_of(acks),
                        },
                    });
                    Part {
                        response: PartitionProduceResponse {
                            index: partition.index,
                            log_append_time_ms,
                            ..Default::default()
                        },
                        append: Some((owner, appends.len() - 1)),
                    }
                }
                Err(response) => Part { response, append: None },
            }
        })
        .collect();
    let head = TopicProduceResponse {
        name: data.name.clone(),
        topic_id: data.topic_id,
        partition_responses: Vec::new(),
    };
    TopicPart { head, parts }
}

/// The last is the append time, -1 if the topic has its producers' times.
type Checked = Result<(TopicPartition, Bytes, BatchSummary, i64), PartitionProduceResponse>;

fn check_partition(
    shard: &Shard,
    reply: ReplyHeader,
    topic: &Topic,
    data: &PartitionProduceData,
) -> Checked {
    if data.index < 0 || data.index >= topic.partitions {
        return Err(refusal(data.index, ErrorCode::UnknownTopicOrPartition, None));
    }
    let rules = rules(shard, reply, topic);
    let records = data.records.clone().unwrap_or_default();
    let summary = validate_produce(&records, &rules).map_err(|error| {
        let mut response = refuse_batch(data.index, &error);
        if error.record_index().is_some() {
            response.record_errors = record_errors(&records, &rules);
        }
        response
    })?;
    let bytes =
        stamp_time(records, &rules, &summary).map_err(|error| refuse_batch(data.index, &error))?;
    let bytes = compress(topic, bytes).map_err(|error| refuse_batch(data.index, &error))?;
    let log_append_time_ms = match rules.timestamp_type {
        TimestampType::LogAppendTime => rules.now.0,
        TimestampType::CreateTime => -1,
    };
    let id = TopicPartition { topic: topic.id, partition: data.index };
    Ok((id, bytes, summary, log_append_time_ms))
}

fn rules(shard: &Shard, reply: ReplyHeader, topic: &Topic) -> ValidationRules {
    let configs = &topic.effective;
    ValidationRules {
        message_bytes_max: configs.max_message_bytes,
        timestamp_type: configs.timestamp_type,
        timestamp_before_ms_max: configs.timestamp_before_max_ms,
        timestamp_after_ms_max: configs.timestamp_after_max_ms,
        now: Clock::timestamp(),
        keys_required: configs.cleanup_compact,
        // Keys cannot be seen without decompressing.
        validation: if configs.cleanup_compact {
            Validation::Full
        } else {
            shard.broker().config.record_validation
        },
        zstd_allowed: reply.version.number >= 7,
    }
}

/// Compresses a batch anew where the topic has a codec of its own.
fn compress(topic: &Topic, records: Bytes) -> Result<Bytes, BatchError> {
    let configs = &topic.effective;
    let Compression::Always(codec) = configs.compression else { return Ok(records) };
    let level = match codec {
        Codec::Gzip => Some(configs.compression_gzip_level),
        Codec::Zstd => Some(configs.compression_zstd_level),
        Codec::None | Codec::Snappy | Codec::Lz4 => None,
    };
    Ok(recompress(&records, codec, level)?.map_or(records, Bytes::from))
}

/// Rewrites the maximum timestamp where the batch does not say it, or the topic has append time. The
/// one case in which a batch's bytes are copied before the journal.
fn stamp_time(
    records: Bytes,
    rules: &ValidationRules,
    summary: &BatchSummary,
) -> Result<Bytes, BatchError> {
    let append_time = rules.timestamp_type == TimestampType::LogAppendTime;
    if summary.max_timestamp_declared && !append_time {
        return Ok(records);
    }
    let max: Timestamp = if append_time { rules.now } else { summary.max_timestamp };
    let mut bytes = records.to_vec();
    set_max_timestamp(&mut bytes, rules.timestamp_type, max)?;
    Ok(Bytes::from(bytes))
}

fn refuse_batch(index: i32, error: &BatchError) -> PartitionProduceResponse {
    let code = ErrorCode::try_from(error.error_code()).unwrap_or(ErrorCode::UnknownServerError);
    let message = error.to_string();
    refusal(index, code, Some(&message))
}

/// Each record at fault: the client sends the others again without them.
fn record_errors(records: &[u8], rules: &ValidationRules) -> Vec<BatchIndexAndErrorMessage> {
    refused_records(records, rules)
        .into_iter()
        .map(|(batch_index, error)| BatchIndexAndErrorMessage {
            batch_index,
            batch_index_error_message: Some(text(error.to_string())),
        })
        .collect()
}

fn refusal(index: i32, error_code: ErrorCode, message: Option<&str>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code,
        base_offset: -1,
        log_start_offset: -1,
        error_message: message.map(text),
        ..Default::default()
    }
}

fn finish(
    reply: ReplyHeader,
    acks: i16,
    topics: Vec<TopicPart>,
    done: &BTreeMap<ShardId, Appends>,
) -> Answer {
    let mut failed = None;
    let mut responses = Vec::with_capacity(topics.len());
    for TopicPart { mut head, parts } in topics {
        for Part { mut response, append } in parts {
            if let Some((owner, index)) = append {
                let result = done.get(&owner).and_then(|appends| appends.get(index));
                complete(&mut response, result.copied());
            }
            if response.error_code != ErrorCode::None {
                failed = Some((response.index, response.error_code));
            }
            head.partition_responses.push(response);
        }
        responses.push(head);
    }
    match (acks, failed) {
        // There is no reply to carry the error: Kafka closes the connection.
        (0, Some((index, code))) => Answer::Close(format!(
            "produce with acks=0 failed for partition {index}: {}",
            code.message()
        )),
        (0, None) => Answer::Nothing,
        _ => reply.answer(ProduceResponse { responses, ..Default::default() }),
    }
}

fn complete(
    response: &mut PartitionProduceResponse,
    result: Option<Result<AppendDone, AppendFailure>>,
) {
    match result {
        Some(Ok(done)) => {
            response.base_offset = done.base_offset.0;
            if let Some(timestamp) = done.duplicate {
                // As Kafka, whatever the topic's timestamp type.
                response.log_append_time_ms = timestamp.0;
            }
            response.log_start_offset = done.log_start.0;
        }
        Some(Err(AppendFailure::UnknownPartition)) => {
            *response = refusal(response.index, ErrorCode::UnknownTopicOrPartition, None);
        }
        Some(Err(AppendFailure::Producer(error))) => {
            let code = match error {
                ProducerError::OldEpoch { .. } => ErrorCode::InvalidProducerEpoch,
                ProducerError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            };
            *response = refusal(response.index, code, Some(&error.to_string()));
        }
        Some(Err(AppendFailure::DiskFull)) => {
            let code = ErrorCode::KafkaStorageError;
            *response = refusal(response.index, code, Some("there is no space left on the disk"));
        }
        Some(Err(AppendFailure::Storage)) | None => {
            *response = refusal(response.index, ErrorCode::KafkaStorageError, None);
        }
    }
}
