//! ListGroups: those of every shard.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::shard::Shard;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: ListGroupsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        reply.answer(match shard.list_groups(request.states_filter, request.types_filter).await {
            Ok(groups) => ListGroupsResponse { groups, ..Default::default() },
            Err(error_code) => ListGroupsResponse { error_code, ..Default::default() },
        })
    })
}
