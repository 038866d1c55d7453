//! InitProducerId: an id with which a producer's batches are told apart (KIP-98).

use super::prelude::*;

messages! {
    /// Asks for a producer id.
    struct InitProducerIdRequest {
        /// Null without transactions.
        transactional_id: Option<StrBytes> [..];
        transaction_timeout_ms: i32 [..];
        /// The id and epoch that a transactional producer has (KIP-360), or -1.
        producer_id: i64 [3..] = -1;
        producer_epoch: i16 [3..] = -1;
    }

    /// The id.
    struct InitProducerIdResponse {
        throttle_time_ms: i32 [..];
        error_code: ErrorCode [..];
        producer_id: i64 [..] = -1;
        producer_epoch: i16 [..];
    }
}
