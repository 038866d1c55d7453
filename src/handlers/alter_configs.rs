//! AlterConfigs: like IncrementalAlterConfigs with every key set, and the others deleted.

use std::rc::Rc;

use super::incremental_alter_configs::{Asked, alter};
use super::{Dispatch, ReplyHeader};
use crate::protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use crate::shard::Shard;

/// SET, as IncrementalAlterConfigs numbers it.
const SET: i8 = 0;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: AlterConfigsRequest,
) -> Dispatch {
    let asked: Vec<Asked> = request
        .resources
        .into_iter()
        .map(|resource| Asked {
            kind: resource.resource_type,
            name: resource.resource_name,
            configs: resource.configs.into_iter().map(|c| (c.name, SET, c.value)).collect(),
            replace: true,
        })
        .collect();
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let outcomes = alter(&shard, asked, request.validate_only).await;
        let responses = outcomes
            .into_iter()
            .map(|(asked, error_code, error_message)| AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: asked.kind,
                resource_name: asked.name,
            })
            .collect();
        reply.answer(AlterConfigsResponse { responses, ..Default::default() })
    })
}
