//! A shard's connections: their count, their ageing, their end.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future;
use slab::Slab;

use super::frames::{FramePool, Receiver, SCRATCH_BYTES};
use super::order::Shared;
use super::{Peer, Settings};
use crate::time::{Clock, Monotonic};

/// Connections are looked at this often at most: thousands of them on every tick would cost more than
/// the accuracy is worth.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How many connections a shard has, readable on every core.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    /// Connections that the shard has or is about to get.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn counter(&self) -> &Arc<AtomicUsize> {
        &self.0
    }
}

/// What a shard's connections have done.
#[derive(Debug, Default)]
pub struct NetCounters {
    /// Connections served since the start.
    pub connections: Cell<u64>,
    /// Frames handed to the service.
    pub requests: Cell<u64>,
    /// Replies whose turn to be sent has come.
    pub replies: Cell<u64>,
    /// Receives that brought bytes.
    pub recv_calls: Cell<u64>,
    /// Sends that the socket took bytes from.
    pub send_calls: Cell<u64>,
    /// Bytes received.
    pub bytes_in: Cell<u64>,
    /// Bytes sent.
    pub bytes_out: Cell<u64>,
    /// Memory for large frames that was used before.
    pub frames_pooled: Cell<u64>,
    /// Memory for large frames that was new.
    pub frames_unpooled: Cell<u64>,
}

impl NetCounters {
    pub(super) fn add(&self, counter: impl Fn(&NetCounters) -> &Cell<u64>, count: usize) {
        let cell = counter(self);
        cell.set(cell.get().wrapping_add(count as u64));
    }
}

/// The connections of one shard and what they share.
pub struct Connections {
    settings: Settings,
    counters: Rc<NetCounters>,
    pool: Arc<FramePool>,
    /// The shard's receive buffer; absent while a connection cuts what it has just received.
    scratch: Cell<Option<Box<[u8]>>>,
    open: RefCell<Slab<Rc<Shared>>>,
    next: Cell<u64>,
    now: Cell<Monotonic>,
    swept: Cell<Monotonic>,
    closing: Cell<bool>,
    emptied: RefCell<Vec<Waker>>,
}

impl Connections {
    /// A shard without connections.
    #[must_use]
    pub fn new(settings: Settings, counters: Rc<NetCounters>) -> Rc<Connections> {
        let now = Clock::monotonic();
        let pool = FramePool::new(settings.pool_bytes_max);
        Rc::new(Connections {
            settings,
            counters,
            pool,
            scratch: Cell::new(None),
            open: RefCell::default(),
            next: Cell::new(0),
            now: Cell::new(now),
            swept: Cell::new(now),
            closing: Cell::new(false),
            emptied: RefCell::default(),
        })
    }

    /// A peer with a number of its own, come by that listener.
    #[must_use]
    pub fn peer(&self, address: SocketAddr, listener: u16) -> Rc<Peer> {
        let connection = self.next.get();
        self.next.set(connection + 1);
        Rc::new(Peer::new(address, connection, listener))
    }

    /// The bounds.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the connections have done.
    #[must_use]
    pub fn counters(&self) -> &Rc<NetCounters> {
        &self.counters
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.borrow().len()
    }

    /// Advances the shard's coarse time and closes the connections that are idle or stuck. To be called
    /// by the shard's ticker.
    pub fn tick(&self, now: Monotonic) {
        self.now.set(now);
        let interval = (self.settings.idle / 4).min(SWEEP_INTERVAL_MAX);
        if now.since(self.swept.get()) < interval {
            return;
        }
        self.swept.set(now);
        for (_, shared) in self.open.borrow().iter() {
            if let Some(reason) = shared.expired(now, self.settings.idle) {
                shared.abort(reason);
            }
        }
    }

    /// Copies the records in replies that wait for their clients, so that none of the shard's shared
    /// buffers stays pinned by a slow reader; returns the bytes copied (storage rule 24).
    pub fn unshare_replies(&self) -> usize {
        self.open.borrow().iter().map(|(_, shared)| shared.unshare()).sum()
    }

    /// Ends all connections: no more requests are read, replies in flight have `grace` to be made and
    /// sent. Returns when no connection is left.
    pub async fn close_all(&self, grace: Duration) {
        self.closing.set(true);
        for (_, shared) in self.open.borrow().iter() {
            shared.drain();
        }
        let emptied = async {
            self.emptied().await;
            true
        };
        let late = async {
            glommio::timer::sleep(grace).await;
            false
        };
        if !future::or(emptied, late).await {
            for (_, shared) in self.open.borrow().iter() {
                shared.abort("the broker stops and the time for its replies is over");
            }
            self.emptied().await;
        }
    }

    async fn emptied(&self) {
        future::poll_fn(|cx| {
            if self.open.borrow().is_empty() {
                return Poll::Ready(());
            }
            self.emptied.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn now(&self) -> Monotonic {
        self.now.get()
    }

    pub(super) fn receiver(&self) -> Receiver {
        Receiver::new(Arc::clone(&self.pool), self.settings.request_bytes_max)
    }

    pub(super) fn take_scratch(&self) -> Box<[u8]> {
        self.scratch.take().unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice())
    }

    pub(super) fn put_scratch(&self, scratch: Box<[u8]>) {
        self.scratch.set(Some(scratch));
    }

    /// Enters a connection, unless the shard takes none any more.
    pub(super) fn enter(self: &Rc<Connections>, shared: &Rc<Shared>) -> Option<Entry> {
        if self.closing.get() {
            return None;
        }
        self.counters.add(|c| &c.connections, 1);
        let key = self.open.borrow_mut().insert(Rc::clone(shared));
        Some(Entry { connections: Rc::clone(self), key })
    }
}

/// A connection's place among those of its shard.
pub(super) struct Entry {
    connections: Rc<Connections>,
    key: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let (_shared, empty) = {
            let mut open = self.connections.open.borrow_mut();
            (open.try_remove(self.key), open.is_empty())
        };
        if empty {
            self.connections.emptied.take().into_iter().for_each(Waker::wake);
        }
    }
}
