//! The lines between shards: one channel per ordered pair, batches of messages, answers by number.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::channels::shared_channel::{
    self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender,
};
use slab::Slab;

use super::message::{Call, Reply, ShardMessage, Tell};
use crate::limits::MAILBOX_BATCHES;
use crate::types::ShardId;

/// What one loop turn says to one shard.
type Batch = Vec<ShardMessage>;

/// One shard's ends of all lines, before it runs.
#[derive(Default)]
pub struct Endpoints {
    senders: Vec<Option<SharedSender<Batch>>>,
    receivers: Vec<Option<SharedReceiver<Batch>>>,
}

/// Lines between all of `shards` shards.
#[must_use]
pub fn mesh(shards: usize) -> Vec<Endpoints> {
    let mut ends: Vec<Endpoints> = (0..shards).map(|_| Endpoints::default()).collect();
    for from in 0..shards {
        for to in 0..shards {
            let (sender, receiver) = if from == to {
                (None, None)
            } else {
                let (sender, receiver) = shared_channel::new_bounded(MAILBOX_BATCHES);
                (Some(sender), Some(receiver))
            };
            // Rows are pushed in order, so each vector is indexed by the other shard.
            if let Some(end) = ends.get_mut(from) {
                end.senders.push(sender);
            }
            if let Some(end) = ends.get_mut(to) {
                end.receivers.push(receiver);
            }
        }
    }
    ends
}

struct Line {
    sender: Rc<ConnectedSender<Batch>>,
    outbox: RefCell<Batch>,
    /// A task is sending, or will at the end of this turn.
    sending: Cell<bool>,
}

/// A shard's way to the others.
pub struct Router {
    me: ShardId,
    lines: Vec<Option<Rc<Line>>>,
    waiting: Rc<RefCell<Slab<Waiting>>>,
    hops: Cell<u64>,
}

#[derive(Default)]
struct Waiting {
    reply: Option<Reply>,
    waker: Option<Waker>,
}

/// The messages that arrive at a shard.
pub struct Incoming(ConnectedReceiver<Batch>);

impl Incoming {
    /// The next batch; `None` when the other shard has ended.
    pub async fn next(&self) -> Option<Vec<ShardMessage>> {
        self.0.recv().await
    }
}

impl Router {
    /// Connects the lines; every shard must do so at the same time.
    pub async fn connect(me: ShardId, endpoints: Endpoints) -> (Router, Vec<Incoming>) {
        let mut receiving = Vec::new();
        for receiver in endpoints.receivers.into_iter().flatten() {
            receiving.push(glommio::spawn_local(receiver.connect()));
        }
        let mut lines = Vec::new();
        for sender in endpoints.senders {
            lines.push(match sender {
                Some(sender) => Some(Rc::new(Line {
                    sender: Rc::new(sender.connect().await),
                    outbox: RefCell::default(),
                    sending: Cell::new(false),
                })),
                None => None,
            });
        }
        let mut incoming = Vec::new();
        for receiver in receiving {
            incoming.push(Incoming(receiver.await));
        }
        (Router { me, lines, waiting: Rc::default(), hops: Cell::new(0) }, incoming)
    }

    /// Messages that carried a request or a reply to another core.
    #[must_use]
    pub fn hops(&self) -> u64 {
        self.hops.get()
    }

    /// Asks another shard. The future may be awaited later; the question is on its way at once.
    pub fn call(&self, to: ShardId, body: Call) -> ReplyWait {
        let id = self.waiting.borrow_mut().insert(Waiting::default());
        self.send(to, ShardMessage::Call { from: self.me, id, body });
        ReplyWait { waiting: Rc::clone(&self.waiting), id }
    }

    /// Answers a call.
    pub fn reply(&self, to: ShardId, id: usize, body: Reply) {
        self.send(to, ShardMessage::Reply { id, body });
    }

    /// Says something to another shard.
    pub fn tell(&self, to: ShardId, tell: Tell) {
        self.send(to, ShardMessage::Tell(tell));
    }

    /// Takes an answer that has arrived.
    pub fn take_reply(&self, id: usize, body: Reply) {
        let waker = {
            let mut waiting = self.waiting.borrow_mut();
            let Some(entry) = waiting.get_mut(id) else { return };
            entry.reply = Some(body);
            entry.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn send(&self, to: ShardId, message: ShardMessage) {
        let Some(Some(line)) = self.lines.get(usize::from(to.0)) else { return };
        self.hops.set(self.hops.get() + 1);
        line.outbox.borrow_mut().push(message);
        if line.sending.replace(true) {
            return;
        }
        let line = Rc::clone(line);
        // Runs after whatever else is ready in this turn: its messages share the batch.
        glommio::spawn_local(async move {
            futures_lite::future::yield_now().await;
            loop {
                let batch = std::mem::take(&mut *line.outbox.borrow_mut());
                if batch.is_empty() || line.sender.send(batch).await.is_err() {
                    break;
                }
            }
            line.sending.set(false);
        })
        .detach();
    }
}

/// Waits for an answer.
#[must_use = "the answer is lost unless it is awaited"]
pub struct ReplyWait {
    waiting: Rc<RefCell<Slab<Waiting>>>,
    id: usize,
}

impl Future for ReplyWait {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let mut waiting = self.waiting.borrow_mut();
        let Some(entry) = waiting.get_mut(self.id) else {
            return Poll::Ready(Reply::Done(Err("answered twice".into())));
        };
        match entry.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                entry.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for ReplyWait {
    fn drop(&mut self) {
        self.waiting.borrow_mut().try_remove(self.id);
    }
}
