//! JoinGroup: a member joins, or joins again in a rebalance.

use super::prelude::*;

messages! {
    /// Asks for membership in the next generation.
    struct JoinGroupRequest {
        group_id: StrBytes [..];
        session_timeout_ms: i32 [..];
        /// In version 0 the session timeout counts instead.
        rebalance_timeout_ms: i32 [1..] = -1;
        /// Empty for a new member.
        member_id: StrBytes [..];
        group_instance_id: Option<StrBytes> [5..];
        protocol_type: StrBytes [..];
        protocols: Vec<JoinGroupRequestProtocol> [..];
        reason: Option<StrBytes> [8..];
    }

    /// A protocol the member can follow, in order of preference, and what it tells the leader.
    struct JoinGroupRequestProtocol {
        name: StrBytes [..];
        metadata: Bytes [..];
    }

    /// The generation, and for its leader all members.
    struct JoinGroupResponse {
        throttle_time_ms: i32 [2..];
        error_code: ErrorCode [..];
        generation_id: i32 [..] = -1;
        protocol_type: Option<StrBytes> [7..];
        protocol_name: Option<StrBytes> [..] nullable [7..] = Some(StrBytes::default());
        leader: StrBytes [..];
        skip_assignment: bool [9..];
        member_id: StrBytes [..];
        members: Vec<JoinGroupResponseMember> [..];
    }

    /// A member as the leader sees it.
    struct JoinGroupResponseMember {
        member_id: StrBytes [..];
        group_instance_id: Option<StrBytes> [5..];
        metadata: Bytes [..];
    }
}
