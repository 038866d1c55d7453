//! DescribeCluster: the brokers and the controller.

use super::prelude::*;

messages! {
    /// Asks for the cluster.
    struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool [..];
        /// 1 brokers, 2 controllers (KIP-919).
        endpoint_type: i8 [1..] = 1;
        include_fenced_brokers: bool [2..];
    }

    /// The cluster as the broker knows it.
    struct DescribeClusterResponse {
        throttle_time_ms: i32 [..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..];
        endpoint_type: i8 [1..] = 1;
        cluster_id: StrBytes [..];
        controller_id: i32 [..] = -1;
        brokers: Vec<DescribeClusterBroker> [..];
        cluster_authorized_operations: i32 [..] = i32::MIN;
    }

    /// A broker and where clients reach it.
    struct DescribeClusterBroker {
        broker_id: i32 [..];
        host: StrBytes [..];
        port: i32 [..];
        rack: Option<StrBytes> [..];
        is_fenced: bool [2..];
    }
}
