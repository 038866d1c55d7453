//! DescribeGroups: each group from its coordinator.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text};
use crate::coordinator::{Command, Response};
use crate::protocol::ErrorCode;
use crate::protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup,
};
use crate::shard::Shard;

/// What anybody may do to a group while there is no authorisation, as Kafka's bits: read, delete,
/// describe, describe configs, alter configs.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: DescribeGroupsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let version = reply.version.number;
        let mut groups = Vec::with_capacity(request.groups.len());
        for group_id in request.groups {
            let command = Command::Describe { version, group_id: group_id.clone() };
            let mut group = match shard.group(&group_id.clone(), command).await {
                Ok(Response::Describe(group)) => group,
                Ok(_) => refused(group_id, ErrorCode::UnknownServerError),
                Err(code) => refused(group_id, code),
            };
            if request.include_authorized_operations && group.error_code == ErrorCode::None {
                group.authorized_operations = ALL_OPERATIONS;
            }
            groups.push(group);
        }
        reply.answer(DescribeGroupsResponse { groups, ..Default::default() })
    })
}

fn refused(group_id: crate::protocol::StrBytes, error_code: ErrorCode) -> DescribedGroup {
    let error_message = Some(text(error_code.message()));
    DescribedGroup { group_id, error_code, error_message, ..Default::default() }
}
