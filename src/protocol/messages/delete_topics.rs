//! DeleteTopics.

use super::prelude::*;

messages! {
    /// Topics to delete: `topics` from version 6 on, `topic_names` before.
    struct DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6..];
        topic_names: Vec<StrBytes> [..=5];
        timeout_ms: i32 [..];
    }

    /// One topic, by name or by id.
    struct DeleteTopicState {
        name: Option<StrBytes> [6..];
        topic_id: Uuid [6..];
    }

    /// What became of the topics.
    struct DeleteTopicsResponse {
        throttle_time_ms: i32 [1..];
        responses: Vec<DeletableTopicResult> [..];
    }

    /// The outcome for one topic.
    struct DeletableTopicResult {
        /// Null when an unknown id was asked for.
        name: Option<StrBytes> [..] nullable [6..] = Some(StrBytes::default());
        topic_id: Uuid [6..];
        error_code: ErrorCode [..];
        error_message: Option<StrBytes> [5..];
    }
}
