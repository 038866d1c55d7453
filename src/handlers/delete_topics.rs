//! DeleteTopics, by name or id.

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text};
use crate::metadata::Image;
use crate::protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use crate::protocol::{ErrorCode, StrBytes};
use crate::shard::Shard;
use crate::shard::message::{ControlOutcome, ControlRequest};
use crate::types::{TopicId, Uuid};

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: DeleteTopicsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let by_name = request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
        let asked: Vec<DeleteTopicState> = by_name.chain(request.topics).collect();
        let responses = delete(&shard, &asked).await;
        reply.answer(DeleteTopicsResponse { responses, ..Default::default() })
    })
}

async fn delete(shard: &Rc<Shard>, asked: &[DeleteTopicState]) -> Vec<DeletableTopicResult> {
    let image = shard.image();
    let enabled = shard.broker().config.delete_topic_enable;
    let found: Vec<Result<(StrBytes, TopicId), ErrorCode>> = asked
        .iter()
        .map(
            |asked| {
                if enabled { find(&image, asked) } else { Err(ErrorCode::TopicDeletionDisabled) }
            },
        )
        .collect();
    let ids = found.iter().filter_map(|f| f.as_ref().ok()).map(|(_, id)| *id).collect();
    let outcomes = shard.control(ControlRequest::Delete(ids)).await;
    let mut outcomes = outcomes.map(Vec::into_iter);
    asked
        .iter()
        .zip(found)
        .map(|(asked, found)| {
            let result = |name: Option<StrBytes>, topic_id: Uuid, error_code: ErrorCode| {
                let error_message =
                    (error_code != ErrorCode::None).then(|| text(error_code.message()));
                DeletableTopicResult { name, topic_id, error_code, error_message }
            };
            match (found, &mut outcomes) {
                (Err(code), _) => result(asked.name.clone(), asked.topic_id, code),
                (Ok((name, id)), Ok(outcomes)) => {
                    let code = match outcomes.next() {
                        Some(ControlOutcome::Deleted) => ErrorCode::None,
                        Some(ControlOutcome::Unknown) => ErrorCode::UnknownTopicOrPartition,
                        Some(ControlOutcome::Created(_) | ControlOutcome::Refused(_)) | None => {
                            ErrorCode::UnknownServerError
                        }
                    };
                    result(Some(name), id.0, code)
                }
                (Ok((name, id)), Err(_)) => result(Some(name), id.0, ErrorCode::KafkaStorageError),
            }
        })
        .collect()
}

fn find(image: &Image, asked: &DeleteTopicState) -> Result<(StrBytes, TopicId), ErrorCode> {
    match &asked.name {
        Some(_) if asked.topic_id != Uuid::nil() => Err(ErrorCode::InvalidRequest),
        Some(name) => image
            .by_name(name)
            .map(|topic| (name.clone(), topic.id))
            .ok_or(ErrorCode::UnknownTopicOrPartition),
        None if asked.topic_id == Uuid::nil() => Err(ErrorCode::InvalidRequest),
        None => image
            .by_id(TopicId(asked.topic_id))
            .map(|topic| (text(topic.name.as_str()), topic.id))
            .ok_or(ErrorCode::UnknownTopicId),
    }
}
