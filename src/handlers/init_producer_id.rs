//! InitProducerId (KIP-98): a fresh id for each idempotent producer. Transactional ids are refused.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::protocol::ErrorCode;
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::shard::Shard;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: &InitProducerIdRequest,
) -> Dispatch {
    if let Err(error_code) = check(request) {
        return reply.ready(InitProducerIdResponse { error_code, ..Default::default() });
    }
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        reply.answer(match shard.next_producer_id().await {
            Ok(producer_id) => InitProducerIdResponse { producer_id, ..Default::default() },
            Err(failure) => {
                tracing::error!(error = failure.0, "no producer id can be given out");
                let error_code = ErrorCode::KafkaStorageError;
                InitProducerIdResponse { error_code, ..Default::default() }
            }
        })
    })
}

fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    match &request.transactional_id {
        None => Ok(()),
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(id) => {
            // The response has no room for words; clients take this code as final.
            tracing::warn!(
                transactional_id = %id.as_str(),
                "a producer asks for transactions, which are not served yet: leave transactional.id unset"
            );
            Err(ErrorCode::UnsupportedVersion)
        }
    }
}
