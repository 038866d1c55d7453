//! LeaveGroup.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::coordinator::{Command, Response};
use crate::protocol::ErrorCode;
use crate::protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};
use crate::shard::Shard;

/// From this version on several members leave at once (KIP-345).
const MEMBERS: i16 = 3;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: LeaveGroupRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let members = if reply.version.number >= MEMBERS {
            request.members
        } else {
            vec![MemberIdentity { member_id: request.member_id, ..Default::default() }]
        };
        let group = request.group_id;
        let answer = if group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            let command = Command::Leave { group_id: group.clone(), members: members.clone() };
            shard.group(&group, command).await
        };
        let refused = |error_code| LeaveGroupResponse { error_code, ..Default::default() };
        let mut response = match answer {
            Ok(Response::Leave(response)) => response,
            Ok(_) => refused(ErrorCode::UnknownServerError),
            // There is no such group: each member is told for itself.
            Err(ErrorCode::UnknownMemberId) => unknown(members),
            Err(code) => refused(code),
        };
        if reply.version.number < MEMBERS {
            let one = response.members.first().map(|m| m.error_code);
            if response.error_code == ErrorCode::None {
                response.error_code = one.unwrap_or(ErrorCode::None);
            }
        }
        reply.answer(response)
    })
}

fn unknown(members: Vec<MemberIdentity>) -> LeaveGroupResponse {
    let members = members
        .into_iter()
        .map(|m| MemberResponse {
            member_id: m.member_id,
            group_instance_id: m.group_instance_id,
            error_code: ErrorCode::UnknownMemberId,
        })
        .collect();
    LeaveGroupResponse { members, ..Default::default() }
}
