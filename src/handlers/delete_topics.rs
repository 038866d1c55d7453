//! DeleteTopics, by name or id.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, message, text};
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
    let refuse = |code: ErrorCode| Err((code, code.message()));
    let mut found: Vec<Found> = asked
        .iter()
        .map(
            |one| {
                if enabled { find(&image, one) } else { refuse(ErrorCode::TopicDeletionDisabled) }
            },
        )
        .collect();
    let mut ids: BTreeMap<TopicId, usize> = BTreeMap::new();
    for (_, id) in found.iter().flatten() {
        *ids.entry(*id).or_default() += 1;
    }
    for found in &mut found {
        let doubled = |id: &TopicId| ids.get(id).is_some_and(|count| *count > 1);
        if found.as_ref().is_ok_and(|(_, id)| doubled(id)) {
            *found = Err((ErrorCode::InvalidRequest, "Duplicate topic name or id."));
        }
    }
    let ids = found.iter().flatten().map(|(_, id)| *id).collect();
    let outcomes = shard.control(ControlRequest::Delete(ids)).await;
    let mut outcomes = outcomes.map(Vec::into_iter);
    asked
        .iter()
        .zip(found)
        .map(|(asked, found)| match found {
            Err((code, why)) => result(asked.name.clone(), asked.topic_id, code, why),
            Ok((name, id)) => {
                let code = match outcomes.as_mut().map(Iterator::next) {
                    Ok(Some(ControlOutcome::Deleted)) => ErrorCode::None,
                    Ok(Some(ControlOutcome::Unknown)) => ErrorCode::UnknownTopicOrPartition,
                    Ok(_) => ErrorCode::UnknownServerError,
                    Err(_) => ErrorCode::KafkaStorageError,
                };
                result(Some(name), id.0, code, code.message())
            }
        })
        .collect()
}

fn result(
    name: Option<StrBytes>,
    topic_id: Uuid,
    error_code: ErrorCode,
    why: &str,
) -> DeletableTopicResult {
    DeletableTopicResult { name, topic_id, error_code, error_message: message(error_code, why) }
}

type Found = Result<(StrBytes, TopicId), (ErrorCode, &'static str)>;

fn find(image: &Image, asked: &DeleteTopicState) -> Found {
    let invalid = |why: &'static str| Err((ErrorCode::InvalidRequest, why));
    let unknown = |code: ErrorCode| (code, code.message());
    match &asked.name {
        Some(_) if asked.topic_id != Uuid::nil() => {
            invalid("You may not specify both topic name and topic id.")
        }
        Some(name) => image
            .by_name(name)
            .map(|topic| (name.clone(), topic.id))
            .ok_or(unknown(ErrorCode::UnknownTopicOrPartition)),
        None if asked.topic_id == Uuid::nil() => {
            invalid("Neither topic name nor id were specified.")
        }
        None => image
            .by_id(TopicId(asked.topic_id))
            .map(|topic| (text(topic.name.as_str()), topic.id))
            .ok_or(unknown(ErrorCode::UnknownTopicId)),
    }
}
