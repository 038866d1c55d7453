//! ListConfigResources: topics, this broker and its logger, and whatever else has configs.

use std::rc::Rc;

use super::incremental_alter_configs::{
    TYPE_BROKER, TYPE_BROKER_LOGGER, TYPE_CLIENT_METRICS, TYPE_GROUP, TYPE_TOPIC,
};
use super::{Dispatch, ReplyHeader, text};
use crate::metadata::ResourceType;
use crate::protocol::ErrorCode;
use crate::protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::shard::Shard;

const ALL: [i8; 5] = [TYPE_GROUP, TYPE_CLIENT_METRICS, TYPE_BROKER_LOGGER, TYPE_BROKER, TYPE_TOPIC];

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: &ListConfigResourcesRequest,
) -> Dispatch {
    if request.resource_types.iter().any(|kind| !ALL.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion;
        return reply.ready(ListConfigResourcesResponse { error_code, ..Default::default() });
    }
    let asked = |kind: i8| match reply.version.number {
        // This version knew no other type.
        0 => kind == TYPE_CLIENT_METRICS,
        _ => request.resource_types.is_empty() || request.resource_types.contains(&kind),
    };
    let mut config_resources = Vec::new();
    let mut add = |resource_type: i8, name: &str| {
        if asked(resource_type) {
            config_resources.push(ConfigResource { resource_name: text(name), resource_type });
        }
    };
    let image = shard.image();
    let node = shard.broker().config.node_id.to_string();
    for (resource, _) in image.resources() {
        match resource.kind {
            ResourceType::Group => add(TYPE_GROUP, &resource.name),
            ResourceType::ClientMetrics => add(TYPE_CLIENT_METRICS, &resource.name),
            // Brokers are listed because they are there, topics too.
            ResourceType::Broker | ResourceType::Topic => {}
        }
    }
    add(TYPE_BROKER_LOGGER, &node);
    add(TYPE_BROKER, &node);
    for topic in image.topics() {
        add(TYPE_TOPIC, &topic.name);
    }
    reply.ready(ListConfigResourcesResponse { config_resources, ..Default::default() })
}
