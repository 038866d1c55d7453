//! DeleteGroups: each group by its coordinator.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::coordinator::Command;
use crate::protocol::ErrorCode;
use crate::protocol::messages::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use crate::shard::Shard;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: DeleteGroupsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let mut results = Vec::with_capacity(request.groups_names.len());
        // A group named twice is deleted once, as in Kafka.
        for group_id in request.groups_names.into_iter().collect::<BTreeSet<_>>() {
            let command = Command::Delete { group_id: group_id.clone() };
            let deleted = shard.group(&group_id.clone(), command).await;
            let error_code = deleted.err().unwrap_or(ErrorCode::None);
            results.push(DeletableGroupResult { group_id, error_code });
        }
        reply.answer(DeleteGroupsResponse { results, ..Default::default() })
    })
}
