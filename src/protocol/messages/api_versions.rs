//! ApiVersions: which versions of which APIs a broker serves.

use super::prelude::*;

messages! {
    /// A client's first request; it names the client's software (KIP-511).
    struct ApiVersionsRequest {
        client_software_name: StrBytes [3..];
        client_software_version: StrBytes [3..];
    }

    /// What the broker serves.
    struct ApiVersionsResponse {
        error_code: ErrorCode [..];
        api_keys: Vec<ApiVersion> [..];
        throttle_time_ms: i32 [1..];
        supported_features: Vec<SupportedFeatureKey> [3..] tag 0;
        finalized_features_epoch: i64 [3..] tag 1 = -1;
        finalized_features: Vec<FinalizedFeatureKey> [3..] tag 2;
        zk_migration_ready: bool [3..] tag 3;
    }

    /// The versions served of one API.
    struct ApiVersion {
        api_key: i16 [..];
        min_version: i16 [..];
        max_version: i16 [..];
    }

    /// The levels of a feature that the broker can work at (KIP-584).
    struct SupportedFeatureKey {
        name: StrBytes [3..];
        min_version: i16 [3..];
        max_version: i16 [3..];
    }

    /// The levels of a feature that the cluster works at (KIP-584).
    struct FinalizedFeatureKey {
        name: StrBytes [3..];
        max_version_level: i16 [3..];
        min_version_level: i16 [3..];
    }
}
