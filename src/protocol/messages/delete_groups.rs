//! DeleteGroups: groups without members, with all their positions.

use super::prelude::*;

messages! {
    /// Groups to delete.
    struct DeleteGroupsRequest {
        groups_names: Vec<StrBytes> [..];
    }

    /// What became of the groups.
    struct DeleteGroupsResponse {
        throttle_time_ms: i32 [..];
        results: Vec<DeletableGroupResult> [..];
    }

    /// The outcome for one group.
    struct DeletableGroupResult {
        group_id: StrBytes [..];
        error_code: ErrorCode [..];
    }
}
