//! OffsetDelete: positions in topics that the group does not consume any more.

use super::prelude::*;

messages! {
    /// Positions to delete.
    struct OffsetDeleteRequest {
        group_id: StrBytes [..];
        topics: Vec<OffsetDeleteRequestTopic> [..];
    }

    /// Partitions of one topic.
    struct OffsetDeleteRequestTopic {
        name: StrBytes [..];
        partitions: Vec<OffsetDeleteRequestPartition> [..];
    }

    /// One partition.
    struct OffsetDeleteRequestPartition {
        partition_index: i32 [..];
    }

    /// What became of the positions.
    struct OffsetDeleteResponse {
        error_code: ErrorCode [..];
        throttle_time_ms: i32 [..];
        topics: Vec<OffsetDeleteResponseTopic> [..];
    }

    /// The outcome for one topic.
    struct OffsetDeleteResponseTopic {
        name: StrBytes [..];
        partitions: Vec<OffsetDeleteResponsePartition> [..];
    }

    /// The outcome for one partition.
    struct OffsetDeleteResponsePartition {
        partition_index: i32 [..];
        error_code: ErrorCode [..];
    }
}
