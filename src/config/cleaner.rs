//! What concerns compaction: the keys of Kafka's log cleaner.

use std::time::Duration;

use super::{Checked, ConfigError};
use crate::limits::COMPACTION_MAP_BYTES_MIN;

/// Settings of the compaction. Each field has its key's name, without `log.cleaner.`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerSettings {
    /// `enable`.
    pub enable: bool,
    /// `backoff.ms`.
    pub backoff: Duration,
    /// `dedupe.buffer.size`, over all cores.
    pub dedupe_buffer_size: usize,
    /// `io.buffer.load.factor`.
    pub load_factor: f64,
    /// `io.max.bytes.per.second`, over all cores.
    pub io_max_bytes_per_second: f64,
}

impl CleanerSettings {
    pub(super) fn new(checked: &Checked<'_>) -> Result<CleanerSettings, ConfigError> {
        let load_factor = checked.parsed("log.cleaner.io.buffer.load.factor", positive)?;
        Ok(CleanerSettings {
            enable: checked.boolean("log.cleaner.enable")?,
            backoff: Duration::from_millis(checked.number("log.cleaner.backoff.ms")?),
            dedupe_buffer_size: checked.number("log.cleaner.dedupe.buffer.size")?,
            load_factor,
            io_max_bytes_per_second: checked
                .parsed("log.cleaner.io.max.bytes.per.second", positive)?,
        })
    }

    /// What each of `cores` may use for its map of keys.
    #[must_use]
    pub fn map_bytes(&self, cores: u16) -> usize {
        (self.dedupe_buffer_size / usize::from(cores.max(1))).max(COMPACTION_MAP_BYTES_MIN)
    }
}

fn positive(text: &str) -> Result<f64, (String, String)> {
    match text.trim().parse::<f64>() {
        Ok(number) if number > 0.0 => Ok(number),
        Ok(_) => Err(("is not above 0".to_owned(), "give a number above 0".to_owned())),
        Err(_) => Err(("is not a number".to_owned(), "give a number, as 0.9".to_owned())),
    }
}
