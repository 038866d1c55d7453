//! DeleteRecords.

use super::prelude::*;

messages! {
    /// Partitions and the offsets that they are to start at.
    struct DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic> [..];
        timeout_ms: i32 [..];
    }

    /// One topic of the request.
    struct DeleteRecordsTopic {
        name: StrBytes [..];
        partitions: Vec<DeleteRecordsPartition> [..];
    }

    /// One partition: `offset` -1 stands for the high watermark.
    struct DeleteRecordsPartition {
        partition_index: i32 [..];
        offset: i64 [..];
    }

    /// What became of the partitions.
    struct DeleteRecordsResponse {
        throttle_time_ms: i32 [..];
        topics: Vec<DeleteRecordsTopicResult> [..];
    }

    /// The outcome for one topic.
    struct DeleteRecordsTopicResult {
        name: StrBytes [..];
        partitions: Vec<DeleteRecordsPartitionResult> [..];
    }

    /// The outcome for one partition.
    struct DeleteRecordsPartitionResult {
        partition_index: i32 [..];
        /// The new log start, -1 if it failed.
        low_watermark: i64 [..];
        error_code: ErrorCode [..];
    }
}
