//! ListPartitionReassignments: moves of partitions that are under way (KIP-455).

use super::prelude::*;

messages! {
    /// The partitions; null for all.
    struct ListPartitionReassignmentsRequest {
        timeout_ms: i32 [..] = 60_000;
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [..];
    }

    /// Partitions of one topic.
    struct ListPartitionReassignmentsTopics {
        name: StrBytes [..];
        partition_indexes: Vec<i32> [..];
    }

    /// The moves.
    struct ListPartitionReassignmentsResponse {
        throttle_time_ms: i32 [..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..] = Some(StrBytes::default());
        topics: Vec<OngoingTopicReassignment> [..];
    }

    /// Moves of one topic.
    struct OngoingTopicReassignment {
        name: StrBytes [..];
        partitions: Vec<OngoingPartitionReassignment> [..];
    }

    /// The move of one partition.
    struct OngoingPartitionReassignment {
        partition_index: i32 [..];
        replicas: Vec<i32> [..];
        adding_replicas: Vec<i32> [..];
        removing_replicas: Vec<i32> [..];
    }
}
