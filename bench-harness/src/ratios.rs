//! The ratios that say how good a broker is, by their keys, in a file that several commands fill.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Doing, Error, Result};
use crate::estimate::Estimate;
use crate::result::SCHEMA;

/// All keys, with what is over what.
pub const KEYS: [(&str, &str); 17] = [
    ("produce_1m", "produce, 1 MiB, 16 connections / ingest limit"),
    ("produce_64k_1p", "produce, 64 KiB, 1 partition / ingest limit"),
    ("produce_64k_100p", "produce, 64 KiB, 100 partitions / ingest limit"),
    ("produce_64k_1c", "produce, 64 KiB, 1 connection, 5 in flight / ingest limit"),
    ("fetch_tail_1m", "tail fetch, 1 MiB / memory to socket"),
    ("fetch_tail_64k", "tail fetch, 64 KiB / memory to socket"),
    ("fetch_cold", "cold fetch / best of sendfile and direct read"),
    ("durable_1", "acks=all / acks=1, 1 partition"),
    ("durable_1000", "acks=all / acks=1, 1,000 partitions"),
    ("single_record", "single-record requests / echo"),
    ("cold_beside_tail", "tail p99.9 with a cold reader / without"),
    ("partitions_10k", "sustained rate, 10,000 partitions / 10"),
    ("kafka_cpu_16k", "CPU per GB, 16 KiB / Kafka's"),
    ("kafka_cpu_64k", "CPU per GB, 64 KiB / Kafka's"),
    ("kafka_p99", "end to end p99 at half of Kafka's rate / Kafka's"),
    ("kafka_start", "start to first acked record / Kafka's"),
    ("kafka_memory", "idle memory / Kafka's"),
];

/// Ratios that say something about the harness, not about a broker.
const OF_THE_HARNESS: [(&str, &str); 3] = [
    ("headroom_1m", "generator / broker, 1 MiB"),
    ("headroom_16k", "generator / broker, 16 KiB"),
    ("headroom_4k", "generator / broker, 4 KiB"),
];

/// What a key has, in words.
#[must_use]
pub fn words(key: &str) -> &str {
    let mut all = KEYS.iter().chain(&OF_THE_HARNESS);
    all.find(|(known, _)| *known == key).map_or(key, |(_, words)| words)
}

/// The file: every key is there, null as long as nothing has measured it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RatiosFile {
    /// The version of this format.
    pub schema: u32,
    /// The medians.
    pub ratios: BTreeMap<String, Option<f64>>,
    /// What they were made of.
    pub estimates: BTreeMap<String, Estimate>,
    /// What else the commands had to say.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

impl Default for RatiosFile {
    fn default() -> RatiosFile {
        let ratios = KEYS.iter().map(|(key, _)| ((*key).to_owned(), None)).collect();
        RatiosFile { schema: SCHEMA, ratios, estimates: BTreeMap::new(), more: BTreeMap::new() }
    }
}

impl RatiosFile {
    /// What a file holds so far; nothing if there is none.
    ///
    /// # Errors
    /// If it is something else.
    pub fn load(path: &Path) -> Result<RatiosFile> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(RatiosFile::default());
            }
            Err(error) => return Err(error).doing(path.display()),
        };
        let file: RatiosFile = serde_json::from_str(&text)
            .map_err(|e| Error::Usage(format!("{}: no file of ratios: {e}", path.display())))?;
        if file.schema != SCHEMA {
            let path = path.display();
            return Err(Error::Usage(format!("{path} has schema {}, not {SCHEMA}", file.schema)));
        }
        Ok(file)
    }

    /// Sets what was measured.
    pub fn set(&mut self, estimates: BTreeMap<String, Estimate>) {
        for (key, estimate) in estimates {
            if let Some(median) = self.ratios.get_mut(&key) {
                *median = Some(estimate.median);
            }
            self.estimates.insert(key, estimate);
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn store(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).doing("writing the ratios")?;
        text.push(b'\n');
        std::fs::write(path, text).doing(path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_null_until_measured_and_kept_after() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ratios.json");
        let mut file = RatiosFile::load(&path).unwrap();
        assert!(file.ratios.len() == KEYS.len() && file.ratios.values().all(Option::is_none));
        file.set(BTreeMap::from([("durable_1".to_owned(), Estimate::of([0.5, 0.6, 0.7]))]));
        file.more.insert("command".to_owned(), Value::from("quick"));
        file.store(&path).unwrap();
        let again = RatiosFile::load(&path).unwrap();
        assert_eq!(again.ratios["durable_1"], Some(0.6));
        assert_eq!(again.ratios["kafka_p99"], None);
        assert_eq!(again.more["command"], "quick");
        std::fs::write(&path, "[]").unwrap();
        assert!(RatiosFile::load(&path).is_err());
    }
}
