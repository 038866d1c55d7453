//! CreateTopics.

use super::prelude::*;

messages! {
    /// Topics to create, or only to check.
    struct CreateTopicsRequest {
        topics: Vec<CreatableTopic> [..];
        timeout_ms: i32 [..] = 60_000;
        validate_only: bool [1..];
    }

    /// One topic to create.
    struct CreatableTopic {
        name: StrBytes [..];
        /// -1 for the broker's default, or when there are assignments.
        num_partitions: i32 [..];
        /// -1 for the broker's default, or when there are assignments.
        replication_factor: i16 [..];
        assignments: Vec<CreatableReplicaAssignment> [..];
        configs: Vec<CreatableTopicConfig> [..];
    }

    /// The brokers of one partition, when the client chooses them.
    struct CreatableReplicaAssignment {
        partition_index: i32 [..];
        broker_ids: Vec<i32> [..];
    }

    /// A config of the topic.
    struct CreatableTopicConfig {
        name: StrBytes [..];
        value: Option<StrBytes> [..];
    }

    /// What became of the topics.
    struct CreateTopicsResponse {
        throttle_time_ms: i32 [2..];
        topics: Vec<CreatableTopicResult> [..];
    }

    /// The outcome for one topic, and from version 5 what it is like (KIP-525).
    struct CreatableTopicResult {
        name: StrBytes [..];
        topic_id: Uuid [7..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [1..];
        /// Why the configs are not told: the principal may not describe them.
        topic_config_error_code: ErrorCode [5..] tag 0;
        num_partitions: i32 [5..] = -1;
        replication_factor: i16 [5..] = -1;
        configs: Option<Vec<CreatableTopicConfigs>> [5..] = Some(Vec::new());
    }

    /// A config of the topic as it is in force.
    struct CreatableTopicConfigs {
        name: StrBytes [5..];
        value: Option<StrBytes> [5..];
        read_only: bool [5..];
        config_source: i8 [5..] = -1;
        is_sensitive: bool [5..];
    }
}
