//! Deadlines by what they are for; the machine's only notion of time passing.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::StrBytes;
use crate::time::Monotonic;

/// What a deadline is for. At one instant they come in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A group's members have had time to join.
    Join(StrBytes),
    /// A group's members have had time to ask for their assignment.
    Sync(StrBytes),
    /// A member's session, by group and member id.
    Session(StrBytes, StrBytes),
    /// Offsets may have expired.
    Retention,
}

/// The deadlines of a machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Monotonic, Timer)>,
    deadlines: BTreeMap<Timer, Monotonic>,
}

impl Timers {
    /// Sets a deadline; an earlier one for the same thing is gone.
    pub(super) fn set(&mut self, timer: Timer, deadline: Monotonic) {
        if let Some(before) = self.deadlines.insert(timer.clone(), deadline) {
            self.order.remove(&(before, timer.clone()));
        }
        self.order.insert((deadline, timer));
    }

    /// Takes a deadline away.
    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(before) = self.deadlines.remove(timer) {
            self.order.remove(&(before, timer.clone()));
        }
    }

    /// Takes the first deadline that is over.
    pub(super) fn pop(&mut self, now: Monotonic) -> Option<Timer> {
        let (deadline, _) = self.order.first()?;
        if *deadline > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }

    /// The first deadline.
    pub(super) fn next(&self) -> Option<Monotonic> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
