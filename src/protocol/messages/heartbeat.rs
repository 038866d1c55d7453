//! Heartbeat: a member is alive, and learns of rebalances.

use super::prelude::*;

messages! {
    /// Keeps the member's session.
    struct HeartbeatRequest {
        group_id: StrBytes [..];
        generation_id: i32 [..];
        member_id: StrBytes [..];
        group_instance_id: Option<StrBytes> [3..];
    }

    /// Nothing, or why the member must act.
    struct HeartbeatResponse {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [..];
    }
}
