//! ListOffsets: the offset at a time, or at an end of the log.

use super::prelude::*;

messages! {
    /// Asks for offsets of partitions.
    struct ListOffsetsRequest {
        /// -1 for a client.
        replica_id: i32 [..];
        /// 0 read_uncommitted, 1 read_committed.
        isolation_level: i8 [2..];
        topics: Vec<ListOffsetsTopic> [..];
        timeout_ms: i32 [10..];
    }

    /// The partitions of one topic.
    struct ListOffsetsTopic {
        name: StrBytes [..];
        partitions: Vec<ListOffsetsPartition> [..];
    }

    /// What to look for in one partition.
    struct ListOffsetsPartition {
        partition_index: i32 [..];
        current_leader_epoch: i32 [4..] = -1;
        /// A time, or below zero: -1 latest, -2 earliest, -3 the largest timestamp (from version 7),
        /// -4 earliest local (8), -5 latest tiered (9), -6 earliest pending upload (11).
        timestamp: i64 [..];
    }

    /// The offsets found.
    struct ListOffsetsResponse {
        throttle_time_ms: i32 [2..];
        topics: Vec<ListOffsetsTopicResponse> [..];
    }

    /// The offsets of one topic.
    struct ListOffsetsTopicResponse {
        name: StrBytes [..];
        partitions: Vec<ListOffsetsPartitionResponse> [..];
    }

    /// The offset found in one partition, -1 if there is none.
    struct ListOffsetsPartitionResponse {
        partition_index: i32 [..];
        error_code: ErrorCode [..];
        timestamp: i64 [..] = -1;
        offset: i64 [..] = -1;
        leader_epoch: i32 [4..] = -1;
    }
}
