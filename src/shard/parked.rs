//! Delayed fetches: those that wait for more bytes, woken by exactly the append that satisfies them, or
//! by the ticker when their time is over.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::partition::WatchId;
use crate::time::Monotonic;
use crate::types::ShardId;

const SHARD_SHIFT: u32 = 48;

#[derive(Default)]
struct State {
    fetches: BTreeMap<WatchId, Fetch>,
    deadlines: BTreeSet<(Monotonic, WatchId)>,
    next: u64,
}

struct Fetch {
    missing: usize,
    deadline: Monotonic,
    done: bool,
    waker: Option<Waker>,
}

/// A shard's delayed fetches.
#[derive(Default)]
pub struct Parked {
    state: Rc<RefCell<State>>,
    wakeups: Cell<u64>,
    timeouts: Cell<u64>,
}

/// The shard on which a watcher waits.
#[must_use]
pub fn shard_of(watch: WatchId) -> ShardId {
    ShardId(u16::try_from(watch >> SHARD_SHIFT).unwrap_or(u16::MAX))
}

impl Parked {
    /// Parks a fetch of shard `me` until `missing` more bytes have come or `deadline` is over.
    pub fn park(&self, me: ShardId, missing: usize, deadline: Monotonic) -> Park {
        let mut state = self.state.borrow_mut();
        state.next += 1;
        let watch = (u64::from(me.0) << SHARD_SHIFT) | (state.next & ((1 << SHARD_SHIFT) - 1));
        state.fetches.insert(watch, Fetch { missing, deadline, done: false, waker: None });
        state.deadlines.insert((deadline, watch));
        Park { state: Rc::clone(&self.state), watch }
    }

    /// A watched partition has `bytes` more.
    pub fn moved(&self, watch: WatchId, bytes: usize) {
        let waker = {
            let mut state = self.state.borrow_mut();
            let Some(fetch) = state.fetches.get_mut(&watch) else { return };
            fetch.missing = fetch.missing.saturating_sub(bytes);
            if fetch.missing > 0 || fetch.done {
                return;
            }
            fetch.done = true;
            fetch.waker.take()
        };
        self.wakeups.set(self.wakeups.get() + 1);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the waits whose time is over.
    pub fn tick(&self, now: Monotonic) {
        let mut wakers = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            while let Some((deadline, watch)) = state.deadlines.first().copied() {
                if deadline > now {
                    break;
                }
                state.deadlines.pop_first();
                if let Some(fetch) = state.fetches.get_mut(&watch).filter(|f| !f.done) {
                    fetch.done = true;
                    self.timeouts.set(self.timeouts.get() + 1);
                    wakers.extend(fetch.waker.take());
                }
            }
        }
        for waker in wakers {
            waker.wake();
        }
    }

    /// Fetches woken because an append satisfied them.
    #[must_use]
    pub fn wakeups(&self) -> u64 {
        self.wakeups.get()
    }

    /// Fetches answered because their time was over.
    #[must_use]
    pub fn timeouts(&self) -> u64 {
        self.timeouts.get()
    }

    /// Fetches that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.borrow().fetches.len()
    }

    /// Whether no fetch waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends all waits, so that their requests are answered before the broker stops.
    pub fn release_all(&self) {
        self.tick(Monotonic(u64::MAX));
    }
}

/// A parked fetch.
#[must_use = "a parked fetch waits only while it is awaited"]
pub struct Park {
    state: Rc<RefCell<State>>,
    watch: WatchId,
}

impl Park {
    /// Its number, for watches.
    #[must_use]
    pub fn watch(&self) -> WatchId {
        self.watch
    }
}

impl Future for Park {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        match state.fetches.get_mut(&self.watch) {
            Some(fetch) if !fetch.done => {
                fetch.waker = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Park {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        if let Some(fetch) = state.fetches.remove(&self.watch) {
            state.deadlines.remove(&(fetch.deadline, self.watch));
        }
    }
}
