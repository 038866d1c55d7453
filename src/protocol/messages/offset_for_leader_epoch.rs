//! OffsetForLeaderEpoch: where the log of an epoch ended (KIP-101, KIP-320).

use super::prelude::*;

messages! {
    /// Asks for the ends of epochs.
    struct OffsetForLeaderEpochRequest {
        /// -1 for a client, -2 for one that debugs.
        replica_id: i32 [3..] = -2;
        topics: Vec<OffsetForLeaderTopic> [..];
    }

    /// The partitions of one topic.
    struct OffsetForLeaderTopic {
        topic: StrBytes [..];
        partitions: Vec<OffsetForLeaderPartition> [..];
    }

    /// The epoch of one partition.
    struct OffsetForLeaderPartition {
        partition: i32 [..];
        /// The leader's epoch as the client knows it; -1 to be let in with any.
        current_leader_epoch: i32 [2..] = -1;
        leader_epoch: i32 [..];
    }

    /// The ends.
    struct OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [2..];
        topics: Vec<OffsetForLeaderTopicResult> [..];
    }

    /// Those of one topic.
    struct OffsetForLeaderTopicResult {
        topic: StrBytes [..];
        partitions: Vec<EpochEndOffset> [..];
    }

    /// The end in one partition; -1 and -1 if the epoch is not known.
    struct EpochEndOffset {
        error_code: ErrorCode [..];
        partition: i32 [..];
        leader_epoch: i32 [1..] = -1;
        end_offset: i64 [..] = -1;
    }
}
