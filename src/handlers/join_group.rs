//! JoinGroup: answered when the group's next generation begins.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text};
use crate::coordinator::{Caller, Command, Response};
use crate::protocol::ErrorCode;
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::shard::Shard;
use crate::types::Uuid;

/// From this version on the protocol's name may be null.
const NULL_PROTOCOL: i16 = 7;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    caller: Caller,
    request: JoinGroupRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let (group, member_id) = (request.group_id.clone(), request.member_id.clone());
        let refused =
            |error_code| JoinGroupResponse { member_id, error_code, ..Default::default() };
        let mut response = if group.is_empty() {
            refused(ErrorCode::InvalidGroupId)
        } else {
            let command = Command::Join { caller, request, fresh: Uuid::new_v4() };
            match shard.group(&group, command).await {
                Ok(Response::Join(response)) => response,
                Ok(_) => refused(ErrorCode::UnknownServerError),
                Err(code) => refused(code),
            }
        };
        if response.error_code != ErrorCode::None {
            response.protocol_name = None;
        }
        if reply.version.number < NULL_PROTOCOL && response.protocol_name.is_none() {
            response.protocol_name = Some(text(""));
        }
        reply.answer(response)
    })
}
