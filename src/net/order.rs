//! The order of replies: requests of one connection as a queue, answered anywhere, sent from its head.
//!
//! Three hold it: the connection, which appends, collects and sends; the tasks that answer; the registry,
//! which ends it. Nobody awaits while holding its state.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::send::{Outbox, Reply};
use super::{Answer, Peer};
use crate::time::Monotonic;

/// What a connection shares with the tasks that answer its requests and with the registry.
pub(super) struct Shared {
    pub(super) peer: Rc<Peer>,
    pub(super) state: RefCell<State>,
    waker: RefCell<Option<Waker>>,
}

/// See [`Shared`].
#[derive(Default)]
pub(super) struct State {
    /// Requests in order of arrival; the first has the number `first`.
    pub(super) slots: VecDeque<Slot>,
    first: u64,
    /// Slots that wait for their answer.
    pub(super) unanswered: usize,
    /// The connection is not read until some request is answered.
    pub(super) paused: bool,
    pub(super) outbox: Outbox,
    pub(super) received_at: Monotonic,
    /// When the client last took bytes, or when it was first offered any after it had taken all.
    sent_at: Monotonic,
    /// No more requests are read.
    pub(super) draining: bool,
    /// Set once the slot that closes the connection is reached.
    pub(super) refused: Option<String>,
    pub(super) aborted: Option<&'static str>,
}

/// A request's place in the order.
pub(super) enum Slot {
    /// Not answered; the bytes of its request.
    Waiting(usize),
    Reply(Reply),
    Nothing,
    Close(String),
}

impl Slot {
    pub(super) fn is_done(&self) -> bool {
        !matches!(self, Slot::Waiting(_))
    }
}

impl Shared {
    pub(super) fn new(peer: Rc<Peer>, now: Monotonic) -> Rc<Shared> {
        let state = State { received_at: now, sent_at: now, ..State::default() };
        Rc::new(Shared { peer, state: RefCell::new(state), waker: RefCell::default() })
    }

    /// Appends a request.
    pub(super) fn begin(&self, bytes: usize) -> u64 {
        let mut state = self.state.borrow_mut();
        state.slots.push_back(Slot::Waiting(bytes));
        state.unanswered += 1;
        self.peer.charge(bytes);
        state.first + state.slots.len() as u64 - 1
    }

    /// Answers a request; whether the connection should know.
    pub(super) fn answer(&self, number: u64, answer: Answer) -> bool {
        let mut state = self.state.borrow_mut();
        let State { slots, first, unanswered, paused, draining, .. } = &mut *state;
        // The connection may be over, or its end be decided by an earlier request.
        let Some(index) = number.checked_sub(*first).and_then(|n| usize::try_from(n).ok()) else {
            return false;
        };
        let Some(slot) = slots.get_mut(index) else { return false };
        if let Slot::Waiting(bytes) = slot {
            self.peer.discharge(*bytes);
            *unanswered -= 1;
        }
        *slot = match answer {
            Answer::Nothing => Slot::Nothing,
            Answer::Close(reason) => Slot::Close(reason),
            Answer::Reply { frame, records } => match Reply::new(frame, records) {
                Ok(reply) => {
                    self.peer.charge(reply.bytes);
                    Slot::Reply(reply)
                }
                Err(reason) => Slot::Close(reason),
            },
        };
        if let Slot::Close(_) = slot {
            slots.truncate(index + 1);
            *draining = true;
        }
        index == 0 || *paused
    }

    pub(super) fn refuse(&self, reason: String) {
        let number = self.begin(0);
        self.answer(number, Answer::Close(reason));
    }

    /// Moves the replies whose turn it is to the outbox; their number.
    pub(super) fn collect(&self, now: Monotonic) -> usize {
        let mut state = self.state.borrow_mut();
        let State { slots, first, outbox, sent_at, refused, .. } = &mut *state;
        let mut count = 0;
        while slots.front().is_some_and(Slot::is_done) {
            let Some(slot) = slots.pop_front() else { break };
            *first += 1;
            match slot {
                Slot::Reply(reply) => {
                    if outbox.is_empty() {
                        *sent_at = now;
                    }
                    outbox.push(reply);
                    count += 1;
                }
                Slot::Close(reason) => *refused = Some(reason),
                Slot::Waiting(_) | Slot::Nothing => {}
            }
        }
        count
    }

    pub(super) fn advance(&self, count: usize, now: Monotonic) {
        let mut state = self.state.borrow_mut();
        state.outbox.advance(count);
        state.sent_at = now;
        self.peer.discharge(count);
    }

    /// Stops the reading of requests; the connection ends when all are answered and sent.
    pub(super) fn drain(&self) {
        self.state.borrow_mut().draining = true;
        self.wake();
    }

    /// Ends the connection whatever is in flight.
    pub(super) fn abort(&self, reason: &'static str) {
        self.state.borrow_mut().aborted = Some(reason);
        self.wake();
    }

    /// Why the connection should end, if it has been still for longer than `idle`.
    pub(super) fn expired(&self, now: Monotonic, idle: Duration) -> Option<&'static str> {
        let state = self.state.borrow();
        if !state.outbox.is_empty() {
            return (now.since(state.sent_at) > idle).then_some("it does not read its replies");
        }
        let active_at = state.received_at.max(state.sent_at);
        (state.slots.is_empty() && now.since(active_at) > idle).then_some("it is idle")
    }

    /// Copies the shared records of all replies that are not sent; the bytes copied.
    pub(super) fn unshare(&self) -> usize {
        let State { slots, outbox, .. } = &mut *self.state.borrow_mut();
        let waiting = slots.iter_mut().map(|slot| match slot {
            Slot::Reply(reply) => reply.unshare(),
            Slot::Waiting(_) | Slot::Nothing | Slot::Close(_) => 0,
        });
        waiting.sum::<usize>() + outbox.unshare()
    }

    /// Drops what will not be sent any more: a task that answers late may hold this for minutes, and
    /// must not hold the memory of other replies with it.
    pub(super) fn clear(&self) {
        let mut state = self.state.borrow_mut();
        state.slots.clear();
        state.outbox = Outbox::default();
    }

    pub(super) fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
