//! Fetch: records from an offset on.

use super::prelude::*;

messages! {
    /// Asks for records of partitions, within limits of bytes and time.
    struct FetchRequest {
        cluster_id: Option<StrBytes> [12..] tag 0;
        replica_id: i32 [..=14] = -1;
        replica_state: ReplicaState [15..] tag 1;
        max_wait_ms: i32 [..];
        min_bytes: i32 [..];
        max_bytes: i32 [3..] = i32::MAX;
        /// 0 read_uncommitted, 1 read_committed.
        isolation_level: i8 [4..];
        session_id: i32 [7..];
        session_epoch: i32 [7..] = -1;
        topics: Vec<FetchTopic> [..];
        forgotten_topics_data: Vec<ForgottenTopic> [7..];
        rack_id: StrBytes [11..];
    }

    /// The follower that fetches; a consumer has -1.
    struct ReplicaState {
        replica_id: i32 [15..] = -1;
        replica_epoch: i64 [15..] = -1;
    }

    /// The partitions of one topic.
    struct FetchTopic {
        topic: StrBytes [..=12];
        topic_id: Uuid [13..];
        partitions: Vec<FetchPartition> [..];
    }

    /// Where to read one partition.
    struct FetchPartition {
        partition: i32 [..];
        current_leader_epoch: i32 [9..] = -1;
        fetch_offset: i64 [..];
        last_fetched_epoch: i32 [12..] = -1;
        log_start_offset: i64 [5..] = -1;
        partition_max_bytes: i32 [..];
        replica_directory_id: Uuid [17..] tag 0;
        high_watermark: i64 [18..] tag 1 = i64::MAX;
    }

    /// Partitions to drop from a fetch session (KIP-227).
    struct ForgottenTopic {
        topic: StrBytes [7..=12];
        topic_id: Uuid [13..];
        partitions: Vec<i32> [7..];
    }

    /// The records found.
    struct FetchResponse {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [7..];
        session_id: i32 [7..];
        responses: Vec<FetchableTopicResponse> [..];
        node_endpoints: Vec<NodeEndpoint> [16..] tag 0;
    }

    /// The records of one topic.
    struct FetchableTopicResponse {
        topic: StrBytes [..=12];
        topic_id: Uuid [13..];
        partitions: Vec<PartitionData> [..];
    }

    /// The records of one partition.
    struct PartitionData {
        partition_index: i32 [..];
        error_code: ErrorCode [..];
        high_watermark: i64 [..];
        last_stable_offset: i64 [4..] = -1;
        log_start_offset: i64 [5..] = -1;
        diverging_epoch: EpochEndOffset [12..] tag 0;
        current_leader: LeaderIdAndEpoch [12..] tag 1;
        snapshot_id: SnapshotId [12..] tag 2;
        /// Null unless the fetch is read_committed; in the order of `first_offset`.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4..];
        preferred_read_replica: i32 [11..] = -1;
        /// Null is legal but breaks librdkafka: no records are `Records::EMPTY`, which is the default.
        records: Option<Records> [..] = Some(Records::EMPTY);
    }

    /// Where a follower's log parts from the leader's (KIP-595).
    struct EpochEndOffset {
        epoch: i32 [12..] = -1;
        end_offset: i64 [12..] = -1;
    }

    /// The leader to go to instead (KIP-951).
    struct LeaderIdAndEpoch {
        leader_id: i32 [12..] = -1;
        leader_epoch: i32 [12..] = -1;
    }

    /// The snapshot a follower must fetch first (KIP-630).
    struct SnapshotId {
        end_offset: i64 [..] = -1;
        epoch: i32 [..] = -1;
    }

    /// A transaction whose records a read_committed consumer skips.
    struct AbortedTransaction {
        producer_id: i64 [4..];
        first_offset: i64 [4..];
    }

    /// Where the leaders named in the response are reached (KIP-951).
    struct NodeEndpoint {
        node_id: i32 [16..];
        host: StrBytes [16..];
        port: i32 [16..];
        rack: Option<StrBytes> [16..];
    }
}
