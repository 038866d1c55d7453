//! SyncGroup: answered when the leader has assigned and the assignment is durable.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::coordinator::{Command, Response};
use crate::protocol::ErrorCode;
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::shard::Shard;

/// From this version on a member says which protocol it follows (KIP-559).
const PROTOCOL: i16 = 5;

pub(super) fn handle(shard: &Rc<Shard>, reply: ReplyHeader, request: SyncGroupRequest) -> Dispatch {
    let shard = Rc::clone(shard);
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    Dispatch::later(async move {
        let group = request.group_id.clone();
        let answer = if reply.version.number >= PROTOCOL && !named {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else if group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            shard.group(&group, Command::Sync(request)).await
        };
        let refused = |error_code| SyncGroupResponse { error_code, ..Default::default() };
        reply.answer(match answer {
            Ok(Response::Sync(response)) => response,
            Ok(_) => refused(ErrorCode::UnknownServerError),
            Err(code) => refused(code),
        })
    })
}
