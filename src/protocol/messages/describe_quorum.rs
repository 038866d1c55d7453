//! DescribeQuorum: who holds the metadata log, and how far (KIP-595).

use super::prelude::*;

messages! {
    /// The partitions, of which there is one.
    struct DescribeQuorumRequest {
        topics: Vec<TopicRequest> [..];
    }

    /// Partitions of one topic.
    struct TopicRequest {
        topic_name: StrBytes [..];
        partitions: Vec<PartitionRequest> [..];
    }

    /// One partition.
    struct PartitionRequest {
        partition_index: i32 [..];
    }

    /// The quorum.
    struct DescribeQuorumResponse {
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [2..] = Some(StrBytes::default());
        topics: Vec<TopicData> [..];
        nodes: Vec<Node> [2..];
    }

    /// Partitions of one topic.
    struct TopicData {
        topic_name: StrBytes [..];
        partitions: Vec<PartitionData> [..];
    }

    /// One partition.
    struct PartitionData {
        partition_index: i32 [..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [2..] = Some(StrBytes::default());
        leader_id: i32 [..];
        leader_epoch: i32 [..];
        high_watermark: i64 [..];
        current_voters: Vec<ReplicaState> [..];
        observers: Vec<ReplicaState> [..];
    }

    /// One voter or observer.
    struct ReplicaState {
        replica_id: i32 [..];
        replica_directory_id: Uuid [2..];
        log_end_offset: i64 [..];
        last_fetch_timestamp: i64 [1..] = -1;
        last_caught_up_timestamp: i64 [1..] = -1;
    }

    /// One node.
    struct Node {
        node_id: i32 [2..];
        listeners: Vec<Listener> [2..];
    }

    /// Where a node is reached.
    struct Listener {
        name: StrBytes [2..];
        host: StrBytes [2..];
        port: u16 [2..];
    }
}
