//! FindCoordinator: the broker that coordinates a group.

use super::prelude::*;

messages! {
    /// Asks for one coordinator, from version 4 for several (KIP-699).
    struct FindCoordinatorRequest {
        key: StrBytes [..=3];
        /// 0 for groups, 1 for transactions, 2 for share groups.
        key_type: i8 [1..];
        coordinator_keys: Vec<StrBytes> [4..];
    }

    /// Where the coordinators are.
    struct FindCoordinatorResponse {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [..=3];
        error_message: Option<StrBytes> [1..=3] = Some(StrBytes::default());
        node_id: i32 [..=3];
        host: StrBytes [..=3];
        port: i32 [..=3];
        coordinators: Vec<Coordinator> [4..];
    }

    /// Where the coordinator of one key is.
    struct Coordinator {
        key: StrBytes [4..];
        node_id: i32 [4..];
        host: StrBytes [4..];
        port: i32 [4..];
        error_code: ErrorCode [4..];
        error_message: Option<StrBytes> [4..] = Some(StrBytes::default());
    }
}
