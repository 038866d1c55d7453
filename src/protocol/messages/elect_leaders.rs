//! ElectLeaders: partitions are to be led by their preferred leader, or by any (KIP-460).

use super::prelude::*;

messages! {
    /// The partitions; null for all.
    struct ElectLeadersRequest {
        /// 0 preferred, 1 unclean.
        election_type: i8 [1..];
        topic_partitions: Option<Vec<TopicPartitions>> [..] = Some(Vec::new());
        timeout_ms: i32 [..] = 60_000;
    }

    /// Partitions of one topic.
    struct TopicPartitions {
        topic: StrBytes [..];
        partitions: Vec<i32> [..];
    }

    /// What became of it.
    struct ElectLeadersResponse {
        throttle_time_ms: i32 [..];
        error_code: ErrorCode [1..];
        replica_election_results: Vec<ReplicaElectionResult> [..];
    }

    /// The outcome for partitions of one topic.
    struct ReplicaElectionResult {
        topic: StrBytes [..];
        partition_result: Vec<PartitionResult> [..];
    }

    /// The outcome for one partition.
    struct PartitionResult {
        partition_id: i32 [..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..] = Some(StrBytes::default());
    }
}
