//! DescribeGroups: states and members of groups.

use super::prelude::*;

messages! {
    /// Asks for groups by id.
    struct DescribeGroupsRequest {
        groups: Vec<StrBytes> [..];
        include_authorized_operations: bool [3..];
    }

    /// The groups.
    struct DescribeGroupsResponse {
        throttle_time_ms: i32 [1..];
        groups: Vec<DescribedGroup> [..];
    }

    /// A group and its members.
    struct DescribedGroup {
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [6..];
        group_id: StrBytes [..];
        group_state: StrBytes [..];
        protocol_type: StrBytes [..];
        /// The chosen protocol of a stable group.
        protocol_data: StrBytes [..];
        members: Vec<DescribedGroupMember> [..];
        authorized_operations: i32 [3..] = i32::MIN;
    }

    /// A member; what it told the leader and what it was assigned, in a stable group.
    struct DescribedGroupMember {
        member_id: StrBytes [..];
        group_instance_id: Option<StrBytes> [4..];
        client_id: StrBytes [..];
        client_host: StrBytes [..];
        member_metadata: Bytes [..];
        member_assignment: Bytes [..];
    }
}
