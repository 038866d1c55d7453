//! Tasks in the order the seed wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crate::storage::Job;

#[derive(Default)]
pub(super) struct Executor {
    tasks: BTreeMap<u64, Task>,
    next: u64,
}

/// A task; it is not in the executor while it is being polled.
pub(super) struct Task {
    pub(super) job: Job,
    ready: Arc<Ready>,
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Executor {
    pub(super) fn spawn(&mut self, job: Job) {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        self.tasks.insert(self.next, Task { job, ready });
        self.next += 1;
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready().count()
    }

    fn ready(&self) -> impl Iterator<Item = u64> {
        self.tasks.iter().filter(|(_, t)| t.ready.0.load(Ordering::Relaxed)).map(|(id, _)| *id)
    }

    /// Takes the `index`-th ready task out to be polled.
    pub(super) fn take(&mut self, index: usize) -> Option<(u64, Task, Waker)> {
        let id = self.ready().nth(index)?;
        let task = self.tasks.remove(&id)?;
        task.ready.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.ready));
        Some((id, task, waker))
    }

    /// Takes a task back that has not ended.
    pub(super) fn put_back(&mut self, id: u64, task: Task) {
        self.tasks.insert(id, task);
    }

    /// Ends all tasks; the caller drops them.
    pub(super) fn clear(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.tasks).into_values().map(|t| t.job).collect()
    }
}
