//! ListGroups: all groups of the broker.

use super::prelude::*;

messages! {
    /// Asks for groups, only those in some states (KIP-518) or of some types (KIP-848) if any are named.
    struct ListGroupsRequest {
        states_filter: Vec<StrBytes> [4..];
        types_filter: Vec<StrBytes> [5..];
    }

    /// The groups.
    struct ListGroupsResponse {
        throttle_time_ms: i32 [1..];
        error_code: ErrorCode [..];
        groups: Vec<ListedGroup> [..];
    }

    /// A group in a line.
    struct ListedGroup {
        group_id: StrBytes [..];
        protocol_type: StrBytes [..];
        group_state: StrBytes [4..];
        group_type: StrBytes [5..];
    }
}
