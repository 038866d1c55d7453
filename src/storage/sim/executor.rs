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

struct Task {
    /// Absent while the task is being polled.
    job: Option<Job>,
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
        self.tasks.insert(self.next, Task { job: Some(job), ready });
        self.next += 1;
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready().count()
    }

    fn ready(&self) -> impl Iterator<Item = u64> {
        self.tasks
            .iter()
            .filter(|(_, t)| t.job.is_some() && t.ready.0.load(Ordering::Relaxed))
            .map(|(id, _)| *id)
    }

    /// Takes the `index`-th ready task out to be polled.
    pub(super) fn take(&mut self, index: usize) -> Option<(u64, Job, Waker)> {
        let id = self.ready().nth(index)?;
        let task = self.tasks.get_mut(&id)?;
        task.ready.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.ready));
        let job = task.job.take()?;
        Some((id, job, waker))
    }

    pub(super) fn put_back(&mut self, id: u64, job: Job) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.job = Some(job);
        }
    }

    /// Ends all tasks; the caller drops them.
    pub(super) fn clear(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.tasks).into_values().filter_map(|t| t.job).collect()
    }
}
