//! ListConfigResources: what has configs (KIP-1142); version 0 was ListClientMetricsResources.

use super::prelude::*;

messages! {
    /// The types that are asked for; none for all.
    struct ListConfigResourcesRequest {
        resource_types: Vec<i8> [1..];
    }

    /// The resources.
    struct ListConfigResourcesResponse {
        throttle_time_ms: i32 [..];
        error_code: ErrorCode [..];
        config_resources: Vec<ConfigResource> [..];
    }

    /// One resource.
    struct ConfigResource {
        resource_name: StrBytes [..];
        resource_type: i8 [1..] = 16;
    }
}
