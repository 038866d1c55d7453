//! ApiVersions (KIP-35, KIP-511).

use super::{Answer, Dispatch, ReplyHeader};
use crate::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::{ApiKey, ErrorCode, advertised};

pub(super) fn handle(reply: ReplyHeader, request: &ApiVersionsRequest) -> Dispatch {
    let v3 = reply.version.number >= 3;
    let valid = |name: &str| {
        let ends = |c: char| c.is_ascii_alphanumeric();
        let inner = |c: char| ends(c) || matches!(c, '-' | '.');
        name.starts_with(ends) && name.ends_with(ends) && name.chars().all(inner)
    };
    if v3 && !(valid(&request.client_software_name) && valid(&request.client_software_version)) {
        let error_code = ErrorCode::InvalidRequest;
        return reply.ready(ApiVersionsResponse { error_code, ..Default::default() });
    }
    reply.ready(ApiVersionsResponse { api_keys: advertised(), ..Default::default() })
}

/// An unknown version is answered in version 0, with the list, so that the client can ask again.
pub(super) fn unsupported(correlation_id: i32) -> Answer {
    let Some(version) = ApiKey::ApiVersions.version(0) else {
        return Answer::Close("ApiVersions 0 is not served".into());
    };
    ReplyHeader { correlation_id, version }.answer(ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: advertised(),
        ..Default::default()
    })
}
