//! OffsetFetch: where groups stand.

use super::prelude::*;

messages! {
    /// Asks for the positions of one group, from version 8 of several.
    struct OffsetFetchRequest {
        group_id: StrBytes [..=7];
        /// Null for all.
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7] nullable [2..=7] = Some(Vec::new());
        groups: Vec<OffsetFetchRequestGroup> [8..];
        require_stable: bool [7..];
    }

    /// Partitions of one topic.
    struct OffsetFetchRequestTopic {
        name: StrBytes [..=7];
        partition_indexes: Vec<i32> [..=7];
    }

    /// One group asked for.
    struct OffsetFetchRequestGroup {
        group_id: StrBytes [8..];
        member_id: Option<StrBytes> [9..];
        member_epoch: i32 [9..] = -1;
        /// Null for all.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8..] = Some(Vec::new());
    }

    /// Partitions of one topic, named or, from version 10, by id.
    struct OffsetFetchRequestTopics {
        name: StrBytes [8..=9];
        topic_id: Uuid [10..];
        partition_indexes: Vec<i32> [8..];
    }

    /// The positions.
    struct OffsetFetchResponse {
        throttle_time_ms: i32 [3..];
        topics: Vec<OffsetFetchResponseTopic> [..=7];
        error_code: ErrorCode [2..=7];
        groups: Vec<OffsetFetchResponseGroup> [8..];
    }

    /// Positions in one topic.
    struct OffsetFetchResponseTopic {
        name: StrBytes [..=7];
        partitions: Vec<OffsetFetchResponsePartition> [..=7];
    }

    /// The position in one partition; -1 when there is none.
    struct OffsetFetchResponsePartition {
        partition_index: i32 [..=7];
        committed_offset: i64 [..=7];
        committed_leader_epoch: i32 [5..=7] = -1;
        metadata: Option<StrBytes> [..=7] = Some(StrBytes::default());
        error_code: ErrorCode [..=7];
    }

    /// The positions of one group.
    struct OffsetFetchResponseGroup {
        group_id: StrBytes [8..];
        topics: Vec<OffsetFetchResponseTopics> [8..];
        error_code: ErrorCode [8..];
    }

    /// Positions in one topic, named or, from version 10, by id.
    struct OffsetFetchResponseTopics {
        name: StrBytes [8..=9];
        topic_id: Uuid [10..];
        partitions: Vec<OffsetFetchResponsePartitions> [8..];
    }

    /// The position in one partition; -1 when there is none.
    struct OffsetFetchResponsePartitions {
        partition_index: i32 [8..];
        committed_offset: i64 [8..];
        committed_leader_epoch: i32 [8..] = -1;
        metadata: Option<StrBytes> [8..] = Some(StrBytes::default());
        error_code: ErrorCode [8..];
    }
}
