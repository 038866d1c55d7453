//! When a shard compacts, and how fast.
//!
//! One partition at a time, as long as there is one to compact, and then not before `log.cleaner.backoff.ms`
//! have passed. After each piece of work a pass rests for as long as the piece took, and for longer where
//! `log.cleaner.io.max.bytes.per.second` says so: requests and the journal have at least half of the core
//! and of the disk.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use crate::config::CleanerSettings;
use crate::partition::{CompactionSettings, Pace};
use crate::time::{Clock, Monotonic};

/// The shortest rest after a piece of work.
const REST_MIN: Duration = Duration::from_micros(500);

/// The longest rest at once: a pass looks whether it is still wanted in between.
const REST_MAX: Duration = Duration::from_millis(100);

/// The longest rest after a piece of work that a rate asks for, in seconds.
const RATE_REST_MAX: f64 = 3600.0;

/// A shard's compaction.
#[derive(Default)]
pub(super) struct Compaction {
    due: Rc<Cell<Monotonic>>,
    running: Rc<Cell<bool>>,
}

impl Compaction {
    /// Begins to compact if it is time.
    pub(super) fn tick(&self, shard: &Shard, now: Monotonic) {
        let settings = shard.broker().config.cleaner;
        if !settings.enable || now < self.due.get() || self.running.replace(true) {
            return;
        }
        let (due, running) = (Rc::clone(&self.due), Rc::clone(&self.running));
        let (store, cores) = (Rc::clone(shard.store()), shard.shards());
        let memory = CompactionSettings {
            map_bytes: settings.map_bytes(cores),
            load_factor: settings.load_factor,
        };
        glommio::spawn_local(async move {
            let pace = pace(&settings, cores);
            loop {
                match store.compact(Clock::timestamp(), memory, &*pace).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => {
                        tracing::debug!("compaction ends: the core is fenced");
                        break;
                    }
                }
            }
            due.set(Clock::monotonic().plus(settings.backoff));
            running.set(false);
        })
        .detach();
    }
}

/// Rests after each piece of work.
fn pace(settings: &CleanerSettings, cores: u16) -> Box<Pace> {
    let rate = settings.io_max_bytes_per_second / f64::from(cores.max(1));
    // When the work began that a rest follows, and when that rest ends.
    let (began, until) = (Clock::monotonic(), Clock::monotonic());
    let times = Rc::new(Cell::new((began, until)));
    Box::new(move |bytes| {
        let times = Rc::clone(&times);
        Box::pin(async move {
            let now = Clock::monotonic();
            let (began, mut until) = times.get();
            if bytes > 0 {
                let worked = now.since(began);
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                let allowed = Duration::from_secs_f64((bytes as f64 / rate).min(RATE_REST_MAX));
                // Waits for a checkpoint are no work.
                let rest = worked.clamp(REST_MIN, REST_MAX);
                until = now.plus(rest.max(allowed.saturating_sub(worked)));
            }
            glommio::timer::sleep(until.since(now).min(REST_MAX)).await;
            let now = Clock::monotonic();
            times.set((now, until));
            now < until
        })
    })
}
