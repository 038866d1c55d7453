//! Produce: record batches to append. Versions 0 to 2 carry record formats that Kafka 4 dropped.

use super::prelude::*;

messages! {
    /// Batches for partitions of several topics.
    struct ProduceRequest {
        transactional_id: Option<StrBytes> [3..];
        /// 0, 1, or -1 for all.
        acks: i16 [..];
        timeout_ms: i32 [..];
        topic_data: Vec<TopicProduceData> [..];
    }

    /// The batches for one topic.
    struct TopicProduceData {
        name: StrBytes [..=12];
        topic_id: Uuid [13..];
        partition_data: Vec<PartitionProduceData> [..];
    }

    /// The batches for one partition: a slice of the request's frame.
    struct PartitionProduceData {
        index: i32 [..];
        records: Option<Bytes> [..];
    }

    /// What became of the batches.
    struct ProduceResponse {
        responses: Vec<TopicProduceResponse> [..];
        throttle_time_ms: i32 [1..];
        node_endpoints: Vec<NodeEndpoint> [10..] tag 0;
    }

    /// The outcome for one topic.
    struct TopicProduceResponse {
        name: StrBytes [..=12];
        topic_id: Uuid [13..];
        partition_responses: Vec<PartitionProduceResponse> [..];
    }

    /// The outcome for one partition.
    struct PartitionProduceResponse {
        index: i32 [..];
        error_code: ErrorCode [..];
        base_offset: i64 [..];
        /// -1 unless the topic takes its timestamps from the log.
        log_append_time_ms: i64 [2..] = -1;
        log_start_offset: i64 [5..] = -1;
        record_errors: Vec<BatchIndexAndErrorMessage> [8..];
        error_message: Option<StrBytes> [8..];
        current_leader: LeaderIdAndEpoch [10..] tag 0;
    }

    /// A record that caused its batch to be refused (KIP-467).
    struct BatchIndexAndErrorMessage {
        batch_index: i32 [8..];
        batch_index_error_message: Option<StrBytes> [8..];
    }

    /// The leader to go to instead (KIP-951).
    struct LeaderIdAndEpoch {
        leader_id: i32 [10..] = -1;
        leader_epoch: i32 [10..] = -1;
    }

    /// Where the leaders named in the response are reached (KIP-951).
    struct NodeEndpoint {
        node_id: i32 [10..];
        host: StrBytes [10..];
        port: i32 [10..];
        rack: Option<StrBytes> [10..];
    }
}
