//! Metadata: brokers, topics and who leads their partitions.

use super::prelude::*;

messages! {
    /// Asks for topics: all of them when `topics` is null, or empty in version 0.
    struct MetadataRequest {
        topics: Option<Vec<MetadataRequestTopic>> [..] nullable [1..] = Some(Vec::new());
        allow_auto_topic_creation: bool [4..] = true;
        include_cluster_authorized_operations: bool [8..=10];
        include_topic_authorized_operations: bool [8..];
    }

    /// One topic asked for, by id or, when that is zero, by name.
    struct MetadataRequestTopic {
        topic_id: Uuid [10..];
        name: Option<StrBytes> [..] nullable [10..] = Some(StrBytes::default());
    }

    /// The cluster as the broker knows it.
    struct MetadataResponse {
        throttle_time_ms: i32 [3..];
        brokers: Vec<MetadataResponseBroker> [..];
        cluster_id: Option<StrBytes> [2..];
        controller_id: i32 [1..] = -1;
        topics: Vec<MetadataResponseTopic> [..];
        cluster_authorized_operations: i32 [8..=10] = i32::MIN;
        error_code: ErrorCode [13..];
    }

    /// A broker and where clients reach it.
    struct MetadataResponseBroker {
        node_id: i32 [..];
        host: StrBytes [..];
        port: i32 [..];
        rack: Option<StrBytes> [1..];
    }

    /// A topic or why there is none.
    struct MetadataResponseTopic {
        error_code: ErrorCode [..];
        /// Null when an unknown id was asked for.
        name: Option<StrBytes> [..] nullable [12..] = Some(StrBytes::default());
        topic_id: Uuid [10..];
        is_internal: bool [1..];
        partitions: Vec<MetadataResponsePartition> [..];
        topic_authorized_operations: i32 [8..] = i32::MIN;
    }

    /// A partition, its leader and its replicas.
    struct MetadataResponsePartition {
        error_code: ErrorCode [..];
        partition_index: i32 [..];
        leader_id: i32 [..];
        leader_epoch: i32 [7..] = -1;
        replica_nodes: Vec<i32> [..];
        isr_nodes: Vec<i32> [..];
        offline_replicas: Vec<i32> [5..];
    }
}
