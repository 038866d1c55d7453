//! DescribeCluster (KIP-700, KIP-919).

use std::rc::Rc;

use super::{CLUSTER_OPERATIONS, ClientContext, Dispatch, ReplyHeader, text};
use crate::protocol::ErrorCode;
use crate::protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::shard::Shard;

/// Endpoint type of brokers; controllers are 2.
const BROKERS: i8 = 1;

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    context: ClientContext,
    request: &DescribeClusterRequest,
) -> Dispatch {
    if request.endpoint_type != BROKERS {
        let code = if request.endpoint_type == 2 {
            ErrorCode::MismatchedEndpointType
        } else {
            ErrorCode::UnsupportedEndpointType
        };
        return reply.ready(DescribeClusterResponse {
            error_code: code,
            error_message: Some(text(code.message())),
            endpoint_type: request.endpoint_type,
            ..Default::default()
        });
    }
    let broker = shard.broker();
    let endpoint = broker.endpoint(context.listener);
    reply.ready(DescribeClusterResponse {
        cluster_id: text(broker.cluster_id.as_str()),
        controller_id: broker.config.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: broker.config.node_id,
            host: text(endpoint.host.as_str()),
            port: i32::from(endpoint.port),
            rack: broker.config.broker_rack.as_deref().map(text),
            ..Default::default()
        }],
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    })
}
