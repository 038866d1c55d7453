//! ListPartitionReassignments: with one broker, nothing ever moves.

use super::{Dispatch, ReplyHeader};
use crate::protocol::messages::list_partition_reassignments::ListPartitionReassignmentsResponse;

pub(super) fn handle(reply: ReplyHeader) -> Dispatch {
    reply.ready(ListPartitionReassignmentsResponse { error_message: None, ..Default::default() })
}
