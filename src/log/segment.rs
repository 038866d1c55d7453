//! A segment: one of Kafka's log files, by its base offset.

use std::path::{Path, PathBuf};

use super::index::OffsetIndex;
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
    /// Its offset index, as far as it is in memory.
    pub index: OffsetIndex,
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
