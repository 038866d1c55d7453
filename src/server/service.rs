//! Between connections and handlers.

use std::rc::Rc;

use bytes::Bytes;

use crate::handlers::{self, Answer, ClientContext, Dispatch};
use crate::net;
use crate::shard::Shard;

/// Answers the requests of a shard's connections.
pub(super) struct BrokerService {
    pub(super) shard: Rc<Shard>,
    /// Bytes of a connection's unread replies.
    pub(super) reply_bytes_max: usize,
}

fn answer(answer: Answer) -> net::Answer {
    match answer {
        Answer::Reply(frame, records) => net::Answer::Reply { frame, records },
        Answer::Nothing => net::Answer::Nothing,
        Answer::Close(why) => net::Answer::Close(why),
    }
}

impl net::Service for BrokerService {
    fn call(self: Rc<Self>, peer: &Rc<net::Peer>, frame: Bytes) -> net::Call {
        let left = self.reply_bytes_max.saturating_sub(peer.pending_bytes());
        // Never nothing: a fetch always moves on by one batch.
        let context = ClientContext {
            reply_bytes_max: left.max(1),
            listener: peer.listener(),
            client_host: peer.address().ip(),
        };
        match handlers::dispatch(&self.shard, context, frame) {
            Dispatch::Ready(ready) => net::Call::Ready(answer(ready)),
            Dispatch::Later(later) => {
                net::Call::Later(Box::pin(async move { answer(later.await) }))
            }
        }
    }
}
