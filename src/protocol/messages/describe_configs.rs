//! DescribeConfigs: the configs of topics, brokers and others, with their sources.

use super::prelude::*;

messages! {
    /// Whose configs are asked for.
    struct DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource> [..];
        include_synonyms: bool [..];
        include_documentation: bool [3..];
    }

    /// One resource; null stands for all its keys.
    struct DescribeConfigsResource {
        resource_type: i8 [..];
        resource_name: StrBytes [..];
        configuration_keys: Option<Vec<StrBytes>> [..];
    }

    /// The configs.
    struct DescribeConfigsResponse {
        throttle_time_ms: i32 [..];
        results: Vec<DescribeConfigsResult> [..];
    }

    /// The configs of one resource.
    struct DescribeConfigsResult {
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [..];
        resource_type: i8 [..];
        resource_name: StrBytes [..];
        configs: Vec<DescribeConfigsResourceResult> [..];
    }

    /// One config.
    struct DescribeConfigsResourceResult {
        name: StrBytes [..];
        /// Null if it is a secret.
        value: Option<StrBytes> [..];
        read_only: bool [..];
        config_source: i8 [..] = -1;
        is_sensitive: bool [..];
        synonyms: Vec<DescribeConfigsSynonym> [..];
        config_type: i8 [3..];
        documentation: Option<StrBytes> [3..];
    }

    /// A config that the value may come from, in order of precedence.
    struct DescribeConfigsSynonym {
        name: StrBytes [..];
        value: Option<StrBytes> [..];
        source: i8 [..];
    }
}
