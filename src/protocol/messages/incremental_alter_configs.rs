//! IncrementalAlterConfigs: single configs of a resource are changed (KIP-339).

use super::prelude::*;

messages! {
    /// What is to become of configs, or only to be checked.
    struct IncrementalAlterConfigsRequest {
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
        /// 0 SET, 1 DELETE, 2 APPEND, 3 SUBTRACT.
        config_operation: i8 [..];
        value: Option<StrBytes> [..];
    }

    /// What became of the resources.
    struct IncrementalAlterConfigsResponse {
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
