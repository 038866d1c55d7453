//! OffsetCommit: a group's positions.

use super::prelude::*;

messages! {
    /// Stores positions for a group.
    struct OffsetCommitRequest {
        group_id: StrBytes [..];
        generation_id_or_member_epoch: i32 [1..] = -1;
        member_id: StrBytes [1..];
        group_instance_id: Option<StrBytes> [7..];
        /// -1 for the broker's own retention.
        retention_time_ms: i64 [2..=4] = -1;
        topics: Vec<OffsetCommitRequestTopic> [..];
    }

    /// Positions in one topic, named or, from version 10, by id.
    struct OffsetCommitRequestTopic {
        name: StrBytes [..=9];
        topic_id: Uuid [10..];
        partitions: Vec<OffsetCommitRequestPartition> [..];
    }

    /// The position in one partition.
    struct OffsetCommitRequestPartition {
        partition_index: i32 [..];
        committed_offset: i64 [..];
        committed_leader_epoch: i32 [6..] = -1;
        committed_metadata: Option<StrBytes> [..] = Some(StrBytes::default());
    }

    /// What became of the positions.
    struct OffsetCommitResponse {
        throttle_time_ms: i32 [3..];
        topics: Vec<OffsetCommitResponseTopic> [..];
    }

    /// The outcome for one topic.
    struct OffsetCommitResponseTopic {
        name: StrBytes [..=9];
        topic_id: Uuid [10..];
        partitions: Vec<OffsetCommitResponsePartition> [..];
    }

    /// The outcome for one partition.
    struct OffsetCommitResponsePartition {
        partition_index: i32 [..];
        error_code: ErrorCode [..];
    }
}
