//! OffsetDelete.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader};
use crate::coordinator::{Command, Response};
use crate::protocol::ErrorCode;
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use crate::shard::Shard;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    mut request: OffsetDeleteRequest,
) -> Dispatch {
    let unknown = take_unknown(shard, &mut request);
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let group = request.group_id.clone();
        let answer = if group.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            shard.group(&group, Command::DeleteOffsets(request)).await
        };
        let refused = |error_code| OffsetDeleteResponse { error_code, ..Default::default() };
        reply.answer(match answer {
            Ok(Response::DeleteOffsets(mut response)) => {
                merge(&mut response, unknown);
                response
            }
            Ok(_) => refused(ErrorCode::UnknownServerError),
            Err(code) => refused(code),
        })
    })
}

/// Takes the partitions that do not exist out of the request, as they will be answered.
fn take_unknown(
    shard: &Shard,
    request: &mut OffsetDeleteRequest,
) -> Vec<OffsetDeleteResponseTopic> {
    let image = shard.image();
    let mut unknown = Vec::new();
    for topic in &mut request.topics {
        let count = image.by_name(&topic.name).map_or(0, |found| found.partitions);
        let exists = |index: i32| (0..count).contains(&index);
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .filter(|p| !exists(p.partition_index))
            .map(|p| OffsetDeleteResponsePartition {
                partition_index: p.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition,
            })
            .collect();
        if !partitions.is_empty() {
            unknown.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        topic.partitions.retain(|p| exists(p.partition_index));
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}

/// One entry a topic: clients look a topic up by its name.
fn merge(response: &mut OffsetDeleteResponse, unknown: Vec<OffsetDeleteResponseTopic>) {
    for topic in unknown {
        match response.topics.iter_mut().find(|known| known.name == topic.name) {
            Some(known) => known.partitions.extend(topic.partitions),
            None => response.topics.push(topic),
        }
    }
}
