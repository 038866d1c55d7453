//! The real files as records.

use std::fs;
use std::path::PathBuf;

use crate::outcome::{Context, Result};

/// A record to send. Its index in its list is its identity.
pub(crate) struct Input {
    /// The file's name; also sent as the header `file`.
    pub(crate) file: &'static str,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
}

/// The activity stream: web access lines, keyed by their first field.
pub(crate) const WEB: &str = "web-access.log";
/// The metrics: status snapshots without a key.
pub(crate) const METRICS: &str = "server-metrics.jsonl";

/// Where a real file lies.
pub(crate) fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/real").join(file)
}

/// The records of both files, in order.
pub(crate) fn records() -> Result<Vec<Input>> {
    let mut records = records_of(WEB)?;
    records.extend(records_of(METRICS)?);
    Ok(records)
}

/// The records of one file: its lines without the newline.
pub(crate) fn records_of(file: &'static str) -> Result<Vec<Input>> {
    let bytes = fs::read(path(file)).context(|| file.to_owned())?;
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let record = |line: &[u8]| {
        let first = line.split(|b| *b == b' ').next().unwrap_or(line);
        Input { file, key: (file == WEB).then(|| first.to_vec()), value: line.to_vec() }
    };
    Ok(lines.map(record).collect())
}
