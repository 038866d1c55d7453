//! DescribeLogDirs: data directories, and the sizes of the partitions in them.

use super::prelude::*;

messages! {
    /// The partitions; null for all.
    struct DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>> [..] = Some(Vec::new());
    }

    /// Partitions of one topic.
    struct DescribableLogDirTopic {
        topic: StrBytes [..];
        partitions: Vec<i32> [..];
    }

    /// The directories.
    struct DescribeLogDirsResponse {
        throttle_time_ms: i32 [..];
        error_code: ErrorCode [3..];
        results: Vec<DescribeLogDirsResult> [..];
    }

    /// One directory.
    struct DescribeLogDirsResult {
        error_code: ErrorCode [..];
        log_dir: StrBytes [..];
        topics: Vec<DescribeLogDirsTopic> [..];
        total_bytes: i64 [4..] = -1;
        usable_bytes: i64 [4..] = -1;
        is_cordoned: bool [5..];
    }

    /// One topic in it.
    struct DescribeLogDirsTopic {
        name: StrBytes [..];
        partitions: Vec<DescribeLogDirsPartition> [..];
    }

    /// One partition in it.
    struct DescribeLogDirsPartition {
        partition_index: i32 [..];
        partition_size: i64 [..];
        offset_lag: i64 [..];
        is_future_key: bool [..];
    }
}
