//! The disk alone: one small direct write after another, each waited for.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use millstream::limits::BLOCK;
use millstream::time::Clock;

use super::direct::{Pieces, open_direct};
use crate::error::{Doing, Result};
use crate::stats::{Histogram, Latencies};

/// What a run of writes took.
pub(super) struct Writes {
    pub(super) count: u64,
    pub(super) elapsed: Duration,
    pub(super) latency: Latencies,
}

/// Writes blocks into a file that has been written before, for so long, each flushed if `sync`.
pub(super) fn run(path: &Path, length: Duration, sync: bool) -> Result<Writes> {
    let file = open_direct(path, false)?;
    let size = file.metadata().doing(path.display())?.len();
    let pieces = Pieces::new(1);
    let block = &pieces.get(0)[..BLOCK];
    let mut histogram = Histogram::new();
    let begin = Clock::monotonic();
    let (mut count, mut at) = (0, 0);
    while Clock::monotonic().since(begin) < length {
        let started = Clock::monotonic();
        file.write_all_at(block, at).doing("writing a block")?;
        if sync {
            file.sync_data().doing("flushing a block")?;
        }
        histogram.record(Clock::monotonic().since(started));
        count += 1;
        at += BLOCK as u64;
        if at + BLOCK as u64 > size {
            at = 0;
        }
    }
    let elapsed = Clock::monotonic().since(begin);
    Ok(Writes { count, elapsed, latency: histogram.summary() })
}
