//! CreatePartitions.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text, topic_error_code};
use crate::protocol::ErrorCode;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use crate::shard::Shard;
use crate::shard::control::refusal;
use crate::shard::message::{ControlOutcome, ControlRequest, MorePartitions};

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: CreatePartitionsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let results = create(&shard, request).await;
        reply.answer(CreatePartitionsResponse { results, ..Default::default() })
    })
}

async fn create(
    shard: &Rc<Shard>,
    request: CreatePartitionsRequest,
) -> Vec<CreatePartitionsTopicResult> {
    let (mut seen, mut doubled) = (BTreeSet::new(), BTreeSet::new());
    for topic in &request.topics {
        if !seen.insert(topic.name.clone()) {
            doubled.insert(topic.name.clone());
        }
    }
    // One row for each name, as in Kafka.
    let mut results: Vec<CreatePartitionsTopicResult> = doubled
        .iter()
        .map(|name| CreatePartitionsTopicResult {
            name: name.clone(),
            error_code: ErrorCode::InvalidRequest,
            error_message: Some(text("Duplicate topic name.")),
        })
        .collect();
    let asked: Vec<_> = request.topics.into_iter().filter(|t| !doubled.contains(&t.name)).collect();
    let topics = asked
        .iter()
        .map(|topic| MorePartitions {
            name: topic.name.to_string(),
            count: topic.count,
            assignments: topic.assignments.as_ref().map(|assignments| {
                assignments.iter().map(|assignment| assignment.broker_ids.clone()).collect()
            }),
        })
        .collect();
    let control = ControlRequest::AddPartitions { topics, validate_only: request.validate_only };
    let outcomes = shard.control(control).await;
    let mut outcomes = outcomes.map(Vec::into_iter);
    results.extend(asked.into_iter().map(|topic| {
        let (error_code, why) = match &mut outcomes {
            Err(failure) => (ErrorCode::KafkaStorageError, Some(failure.0.clone())),
            Ok(outcomes) => match outcomes.next() {
                Some(ControlOutcome::Changed) => (ErrorCode::None, None),
                Some(ControlOutcome::Refused(error)) => {
                    (topic_error_code(&error), Some(refusal(&error).to_owned()))
                }
                _ => (ErrorCode::UnknownServerError, Some("no outcome".to_owned())),
            },
        };
        CreatePartitionsTopicResult { name: topic.name, error_code, error_message: why.map(text) }
    }));
    results
}
