//! DescribeTopicPartitions: topics page by page (KIP-966).

use super::prelude::*;

messages! {
    /// The topics, none for all, and where to go on.
    struct DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest> [..];
        response_partition_limit: i32 [..] = 2000;
        cursor: Option<Cursor> [..];
    }

    /// One topic.
    struct TopicRequest {
        name: StrBytes [..];
    }

    /// The first partition of a page.
    struct Cursor {
        topic_name: StrBytes [..];
        partition_index: i32 [..];
    }

    /// A page, and where the next begins.
    struct DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 [..];
        topics: Vec<DescribeTopicPartitionsResponseTopic> [..];
        next_cursor: Option<Cursor> [..];
    }

    /// One topic, or as much of it as fits.
    struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode [..];
        name: Option<StrBytes> [..] = Some(StrBytes::default());
        topic_id: Uuid [..];
        is_internal: bool [..];
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [..];
        topic_authorized_operations: i32 [..] = i32::MIN;
    }

    /// One partition.
    struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode [..];
        partition_index: i32 [..];
        leader_id: i32 [..];
        leader_epoch: i32 [..] = -1;
        replica_nodes: Vec<i32> [..];
        isr_nodes: Vec<i32> [..];
        eligible_leader_replicas: Option<Vec<i32>> [..];
        last_known_elr: Option<Vec<i32>> [..];
        offline_replicas: Vec<i32> [..];
    }
}

nullable_struct!(Cursor);
