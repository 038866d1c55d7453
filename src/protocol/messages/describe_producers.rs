//! DescribeProducers: the idempotent producers that partitions know (KIP-664).

use super::prelude::*;

messages! {
    /// Asks for the producers of partitions.
    struct DescribeProducersRequest {
        topics: Vec<DescribeProducersTopic> [..];
    }

    /// The partitions of one topic.
    struct DescribeProducersTopic {
        name: StrBytes [..];
        partition_indexes: Vec<i32> [..];
    }

    /// The producers.
    struct DescribeProducersResponse {
        throttle_time_ms: i32 [..];
        topics: Vec<DescribeProducersTopicResponse> [..];
    }

    /// Those of one topic.
    struct DescribeProducersTopicResponse {
        name: StrBytes [..];
        partitions: Vec<DescribeProducersPartitionResponse> [..];
    }

    /// Those of one partition.
    struct DescribeProducersPartitionResponse {
        partition_index: i32 [..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..];
        active_producers: Vec<ProducerState> [..];
    }

    /// One producer.
    struct ProducerState {
        producer_id: i64 [..];
        producer_epoch: i32 [..];
        last_sequence: i32 [..] = -1;
        last_timestamp: i64 [..] = -1;
        coordinator_epoch: i32 [..];
        current_txn_start_offset: i64 [..] = -1;
    }
}
