//! AlterConfigs: all configs of a resource are replaced.

use super::prelude::*;

messages! {
    /// The configs that resources are to have, or only to be checked.
    struct AlterConfigsRequest {
        resources: Vec<AlterConfigsResource> [..];
        validate_only: bool [..];
    }

    /// One resource.
    struct AlterConfigsResource {
        resource_type: i8 [..];
        resource_name: StrBytes [..];
        configs: Vec<AlterableConfig> [..];
    }

    /// One config.
    struct AlterableConfig {
        name: StrBytes [..];
        value: Option<StrBytes> [..];
    }

    /// What became of the resources.
    struct AlterConfigsResponse {
        throttle_time_ms: i32 [..];
        responses: Vec<AlterConfigsResourceResponse> [..];
    }

    /// The outcome for one resource.
    struct AlterConfigsResourceResponse {
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..];
        resource_type: i8 [..];
        resource_name: StrBytes [..];
    }
}
