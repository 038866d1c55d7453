//! DescribeCluster (KIP-700, KIP-919).

use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text};
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
    reply.ready(DescribeClusterResponse {
        cluster_id: text(broker.cluster_id.as_str()),
        controller_id: broker.config.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: broker.config.node_id,
            host: text(broker.advertised_host.as_str()),
            port: i32::from(broker.advertised_port),
            ..Default::default()
        }],
        ..Default::default()
    })
}
