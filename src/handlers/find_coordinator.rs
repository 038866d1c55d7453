//! FindCoordinator: this broker, once the topic that holds the groups exists.

use std::rc::Rc;

use super::{Answer, ClientContext, Dispatch, ReplyHeader, text};
use crate::protocol::ErrorCode;
use crate::protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use crate::shard::Shard;

/// The key type of groups.
const GROUP: i8 = 0;
/// From this version on several keys are asked for at once.
const KEYS: i16 = 4;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    context: ClientContext,
    request: FindCoordinatorRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let found = find(&shard, request.key_type).await;
        respond(&shard, reply, context, &request, found)
    })
}

async fn find(shard: &Rc<Shard>, key_type: i8) -> Result<(), (ErrorCode, &'static str)> {
    if key_type != GROUP {
        // Not to be tried again: clients take this for final.
        let why =
            "only groups have a coordinator: transactions and share groups are not served yet";
        return Err((ErrorCode::InvalidRequest, why));
    }
    shard.ensure_offsets_topic().await.map_err(|code| (code, code.message()))
}

fn respond(
    shard: &Shard,
    reply: ReplyHeader,
    context: ClientContext,
    request: &FindCoordinatorRequest,
    found: Result<(), (ErrorCode, &'static str)>,
) -> Answer {
    let broker = shard.broker();
    let endpoint = broker.endpoint(context.listener);
    let (node_id, host, port, error_code, error_message) = match found {
        Ok(()) => (
            broker.config.node_id,
            text(endpoint.host.as_str()),
            i32::from(endpoint.port),
            ErrorCode::None,
            None,
        ),
        Err((code, why)) => (-1, text(""), -1, code, Some(text(why))),
    };
    if reply.version.number < KEYS {
        return reply.answer(FindCoordinatorResponse {
            error_code,
            error_message,
            node_id,
            host,
            port,
            ..Default::default()
        });
    }
    let coordinators = request
        .coordinator_keys
        .iter()
        .map(|key| Coordinator {
            key: key.clone(),
            node_id,
            host: host.clone(),
            port,
            error_code,
            error_message: error_message.clone(),
        })
        .collect();
    reply.answer(FindCoordinatorResponse { coordinators, ..Default::default() })
}
