//! A segment: one of Kafka's log files, by its base offset.

use std::path::{Path, PathBuf};

use super::index::{Greatest, SegmentIndex};
use crate::time::Timestamp;
use crate::types::Offset;

/// One segment of a log.
#[derive(Debug)]
pub struct Segment {
    /// Offset of its first record; names its files.
    pub base: Offset,
    /// Log bytes, drained or not; never what `stat` says (space is reserved ahead).
    pub len: u64,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// Whether its files are complete, cut to size and flushed.
    pub sealed: bool,
    /// Timestamp of its first batch, or, after a start, of the first one appended since.
    pub began: Option<Timestamp>,
    /// The greatest timestamp of all its batches.
    pub greatest: Greatest,
    /// Its indexes, as far as they are in memory.
    pub index: SegmentIndex,
}

impl Segment {
    /// An empty segment that begins at `base`.
    #[must_use]
    pub fn new(base: Offset) -> Segment {
        Segment {
            base,
            len: 0,
            next_offset: base,
            sealed: false,
            began: None,
            greatest: Greatest::default(),
            index: SegmentIndex::empty(),
        }
    }

    /// Milliseconds from its first batch to one of `timestamp`; 0 where either has no time.
    #[must_use]
    pub fn age_at(&self, timestamp: Timestamp) -> i64 {
        match self.began {
            Some(began) if began.0 >= 0 && timestamp.0 >= 0 => timestamp.0.saturating_sub(began.0),
            _ => 0,
        }
    }
}

/// `<directory>/<20-digit base offset>.<extension>`.
#[must_use]
pub fn path(directory: &Path, base: Offset, extension: &str) -> PathBuf {
    directory.join(format!("{:020}.{extension}", base.0))
}

/// The directory of a partition, as Kafka names it.
#[must_use]
pub fn directory(data: &Path, topic: &str, partition: i32) -> PathBuf {
    data.join(format!("{topic}-{partition}"))
}
