//! SyncGroup: the leader tells the assignment, the others ask for theirs.

use super::prelude::*;

messages! {
    /// Asks for the member's assignment; from the leader, tells everybody's.
    struct SyncGroupRequest {
        group_id: StrBytes [..];
        generation_id: i32 [..];
        member_id: StrBytes [..];
        group_instance_id: Option<StrBytes> [3..];
        protocol_type: Option<StrBytes> [5..];
        protocol_name: Option<StrBytes> [5..];
        assignments: Vec<SyncGroupRequestAssignment> [..];
    }

    /// What the leader assigns to one member.
    struct SyncGroupRequestAssignment {
        member_id: StrBytes [..];
        assignment: Bytes [..];
    }

    /// The member's assignment.
    struct SyncGroupResponse {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [..];
        protocol_type: Option<StrBytes> [5..];
        protocol_name: Option<StrBytes> [5..];
        assignment: Bytes [..];
    }
}
