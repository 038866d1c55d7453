//! Tasks that wait for a sequence to be reached.
//!
//! The wait list holds ids into a slab, each with its own task's one waker: a runtime whose waker count
//! is small (glommio's has 16 bits) never sees more than one clone per waiting task (storage rule 26).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// The journal of this core has failed: nothing is acknowledged any more until a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced;

#[derive(Default)]
struct State {
    reached: u64,
    fenced: bool,
    /// Sorted by target.
    list: VecDeque<(u64, usize)>,
    wakers: Slab<Waker>,
}

/// A sequence that only grows, and those who wait for it.
#[derive(Clone, Default)]
pub struct Waits(Rc<RefCell<State>>);

impl Waits {
    /// How far the sequence has come.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.0.borrow().reached
    }

    /// Advances the sequence and wakes whom it satisfies; returns how many.
    pub fn advance(&self, reached: u64) -> usize {
        let mut woken = 0;
        loop {
            let waker = {
                let mut state = self.0.borrow_mut();
                state.reached = state.reached.max(reached);
                let Some((target, key)) = state.list.front().copied() else {
                    break;
                };
                if target > state.reached {
                    break;
                }
                state.list.pop_front();
                state.wakers.try_remove(key)
            };
            if let Some(waker) = waker {
                waker.wake();
                woken += 1;
            }
        }
        woken
    }

    /// Ends every wait with [`Fenced`].
    pub fn fence(&self) {
        let wakers = {
            let mut state = self.0.borrow_mut();
            state.fenced = true;
            state.list.clear();
            std::mem::take(&mut state.wakers)
        };
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// Waits until `target` is reached.
    pub fn reach(&self, target: u64) -> Reach {
        Reach { waits: self.clone(), target, key: None }
    }
}

/// A wait for a sequence.
#[must_use = "a wait does nothing until it is awaited"]
pub struct Reach {
    waits: Waits,
    target: u64,
    key: Option<usize>,
}

impl Future for Reach {
    type Output = Result<(), Fenced>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (target, known) = (self.target, self.key);
        let key = {
            let mut state = self.waits.0.borrow_mut();
            if state.reached >= target {
                None
            } else if state.fenced {
                return Poll::Ready(Err(Fenced));
            } else if let Some(key) = known {
                if let Some(waker) = state.wakers.get_mut(key) {
                    waker.clone_from(context.waker());
                }
                Some(key)
            } else {
                let key = state.wakers.insert(context.waker().clone());
                let at = state.list.partition_point(|(t, _)| *t <= target);
                state.list.insert(at, (target, key));
                Some(key)
            }
        };
        self.key = key;
        match key {
            Some(_) => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = self.waits.0.borrow_mut();
        if let Some(at) = state.list.iter().position(|(t, k)| *t == self.target && *k == key) {
            state.list.remove(at);
            state.wakers.try_remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(reach: &mut Reach) -> Poll<Result<(), Fenced>> {
        Pin::new(reach).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn wakes_exactly_those_whose_target_is_reached() {
        let waits = Waits::default();
        let (mut third, mut first) = (waits.reach(3), waits.reach(1));
        assert!(poll(&mut third).is_pending());
        assert!(poll(&mut first).is_pending());
        assert_eq!(waits.advance(2), 1);
        assert_eq!(poll(&mut first), Poll::Ready(Ok(())));
        assert!(poll(&mut third).is_pending());
        drop(third);
        assert_eq!(waits.advance(9), 0);
    }

    #[test]
    fn a_fence_ends_every_wait_but_not_what_was_reached() {
        let waits = Waits::default();
        waits.advance(4);
        let mut late = waits.reach(5);
        assert!(poll(&mut late).is_pending());
        waits.fence();
        assert_eq!(poll(&mut late), Poll::Ready(Err(Fenced)));
        assert_eq!(poll(&mut waits.reach(4)), Poll::Ready(Ok(())));
        assert_eq!(poll(&mut waits.reach(6)), Poll::Ready(Err(Fenced)));
    }
}
