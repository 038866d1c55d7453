//! AlterPartitionReassignments: partitions are moved, or no longer (KIP-455).

use super::prelude::*;

messages! {
    /// The brokers that partitions are to have.
    struct AlterPartitionReassignmentsRequest {
        timeout_ms: i32 [..] = 60_000;
        allow_replication_factor_change: bool [1..] = true;
        topics: Vec<ReassignableTopic> [..];
    }

    /// Partitions of one topic.
    struct ReassignableTopic {
        name: StrBytes [..];
        partitions: Vec<ReassignablePartition> [..];
    }

    /// One partition; null ends its move.
    struct ReassignablePartition {
        partition_index: i32 [..];
        replicas: Option<Vec<i32>> [..];
    }

    /// What became of it.
    struct AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32 [..];
        allow_replication_factor_change: bool [1..] = true;
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..] = Some(StrBytes::default());
        responses: Vec<ReassignableTopicResponse> [..];
    }

    /// The outcome for partitions of one topic.
    struct ReassignableTopicResponse {
        name: StrBytes [..];
        partitions: Vec<ReassignablePartitionResponse> [..];
    }

    /// The outcome for one partition.
    struct ReassignablePartitionResponse {
        partition_index: i32 [..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..] = Some(StrBytes::default());
    }
}
