//! CreatePartitions: more partitions of topics that exist.

use super::prelude::*;

messages! {
    /// Topics that are to have more partitions, or only to be checked.
    struct CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic> [..];
        timeout_ms: i32 [..];
        validate_only: bool [..];
    }

    /// One topic.
    struct CreatePartitionsTopic {
        name: StrBytes [..];
        /// How many partitions it is to have.
        count: i32 [..];
        /// The brokers of each new partition, if the client chooses them.
        assignments: Option<Vec<CreatePartitionsAssignment>> [..];
    }

    /// The brokers of one new partition.
    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32> [..];
    }

    /// What became of the topics.
    struct CreatePartitionsResponse {
        throttle_time_ms: i32 [..];
        results: Vec<CreatePartitionsTopicResult> [..];
    }

    /// The outcome for one topic.
    struct CreatePartitionsTopicResult {
        name: StrBytes [..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..];
    }
}
