//! Heartbeat.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::coordinator::Command;
use crate::protocol::ErrorCode;
use crate::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::shard::Shard;

pub(super) fn handle(shard: &Rc<Shard>, reply: ReplyHeader, request: HeartbeatRequest) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let group = request.group_id.clone();
        let answer = if group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            shard.group(&group, Command::Heartbeat(request)).await
        };
        let error_code = match answer {
            // The groups are being read: the member is told nothing that would make it join again.
            Ok(_) | Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
            Err(code) => code,
        };
        reply.answer(HeartbeatResponse { error_code, ..Default::default() })
    })
}
