//! LeaveGroup: members leave, or are removed by an administrator.

use super::prelude::*;

messages! {
    /// Removes one member, from version 3 several.
    struct LeaveGroupRequest {
        group_id: StrBytes [..];
        member_id: StrBytes [..=2];
        members: Vec<MemberIdentity> [3..];
    }

    /// A member, by its id, its instance id, or both.
    struct MemberIdentity {
        member_id: StrBytes [3..];
        group_instance_id: Option<StrBytes> [3..];
        reason: Option<StrBytes> [5..];
    }

    /// What became of the members.
    struct LeaveGroupResponse {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [..];
        members: Vec<MemberResponse> [3..];
    }

    /// What became of one member.
    struct MemberResponse {
        member_id: StrBytes [3..];
        group_instance_id: Option<StrBytes> [3..];
        error_code: ErrorCode [3..];
    }
}
