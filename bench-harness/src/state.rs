//! The acknowledgements a producer run has received, kept in a file that outlives the broker and the
//! run: one line per fact, appended whole, and never more than was acknowledged.
//!
//! ```text
//! run <run id> topic <name>
//! acked <run id> <partition> <producer> <end>       every sequence below <end> is answered
//! failed <run id> <partition> <producer> <sequence> but this one was refused
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use millstream::time::{Clock, Monotonic};

use crate::error::{Doing, Error, Result};

/// The batches one producer writes to one partition in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// The run.
    pub run: u64,
    /// The partition.
    pub partition: i32,
    /// The producer.
    pub producer: u32,
}

/// What was answered of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    /// All sequences below it are answered.
    pub end: u64,
    /// Those of them that were answered with an error.
    pub failed: BTreeSet<u64>,
}

/// How old an acknowledgement gets before it is on file: what a killed generator forgets.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// Writes the file.
pub struct StateWriter {
    file: File,
    changed: BTreeMap<Stream, u64>,
    failed: Vec<(Stream, u64)>,
    written: Monotonic,
}

impl StateWriter {
    /// Appends a run to the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn open(path: &Path, run: u64, topic: &str) -> Result<StateWriter> {
        let file = OpenOptions::new().append(true).create(true).open(path).doing(path.display())?;
        let mut writer = StateWriter {
            file,
            changed: BTreeMap::new(),
            failed: Vec::new(),
            written: Clock::monotonic(),
        };
        writer.append(&format!("run {run} topic {topic}\n"))?;
        Ok(writer)
    }

    /// Every sequence of the stream below `end` is answered.
    pub fn acked(&mut self, stream: Stream, end: u64) {
        self.changed.insert(stream, end);
    }

    /// One of them was refused. To be called before `acked` passes it.
    pub fn failed(&mut self, stream: Stream, sequence: u64) {
        self.failed.push((stream, sequence));
    }

    /// Writes what is new if the last write is long enough ago.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn tick(&mut self, now: Monotonic) -> Result<()> {
        if now.since(self.written) < WRITE_EVERY { Ok(()) } else { self.flush(now) }
    }

    /// Writes what is new.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self, now: Monotonic) -> Result<()> {
        self.written = now;
        // Refusals first, so that no prefix of the file claims more than was acknowledged.
        let mut lines = String::new();
        for (s, sequence) in self.failed.drain(..) {
            lines
                .push_str(&format!("failed {} {} {} {sequence}\n", s.run, s.partition, s.producer));
        }
        for (s, end) in std::mem::take(&mut self.changed) {
            lines.push_str(&format!("acked {} {} {} {end}\n", s.run, s.partition, s.producer));
        }
        if lines.is_empty() { Ok(()) } else { self.append(&lines) }
    }

    fn append(&mut self, lines: &str) -> Result<()> {
        self.file.write_all(lines.as_bytes()).doing("writing the state file")
    }
}

/// The contents of a state file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The topic of its runs.
    pub topic: String,
    /// What was answered.
    pub streams: BTreeMap<Stream, Acked>,
}

impl State {
    /// Reads a state file; a last line without its end is not there yet.
    ///
    /// # Errors
    /// If it cannot be read, is not a state file, or its runs wrote to different topics.
    pub fn read(path: &Path) -> Result<State> {
        State::parse(&std::fs::read_to_string(path).doing(path.display())?)
    }

    fn parse(text: &str) -> Result<State> {
        let mut state = State::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            state
                .line(line)
                .ok_or_else(|| Error::Usage(format!("no line of a state file: {line:?}")))?;
        }
        Ok(state)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["run", _, "topic", topic] if self.topic.is_empty() || self.topic == *topic => {
                self.topic = (*topic).to_owned();
            }
            [fact @ ("acked" | "failed"), run, partition, producer, value] => {
                let stream = Stream {
                    run: run.parse().ok()?,
                    partition: partition.parse().ok()?,
                    producer: producer.parse().ok()?,
                };
                let value = value.parse().ok()?;
                let acked = self.streams.entry(stream).or_default();
                if *fact == "acked" {
                    acked.end = acked.end.max(value);
                } else {
                    acked.failed.insert(value);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// What was answered of one partition.
    #[must_use]
    pub fn of_partition(&self, partition: i32) -> BTreeMap<Stream, Acked> {
        let streams = self.streams.iter().filter(|(stream, _)| stream.partition == partition);
        streams.map(|(stream, acked)| (*stream, acked.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let stream = Stream { run: 5, partition: 1, producer: 2 };
        let mut writer = StateWriter::open(&path, 5, "t").unwrap();
        writer.failed(stream, 3);
        writer.acked(stream, 2);
        writer.acked(stream, 9);
        writer.flush(Clock::monotonic()).unwrap();
        let mut again = StateWriter::open(&path, 6, "t").unwrap();
        again.acked(Stream { run: 6, ..stream }, 1);
        again.flush(Clock::monotonic()).unwrap();
        let state = State::read(&path).unwrap();
        assert_eq!(state.topic, "t");
        assert_eq!(state.streams[&stream], Acked { end: 9, failed: BTreeSet::from([3]) });
        assert_eq!(state.of_partition(1).len(), 2);
        assert!(state.of_partition(0).is_empty());
    }

    #[test]
    fn a_torn_last_line_claims_nothing() {
        let state = State::parse("run 1 topic t\nacked 1 0 0 10\nacked 1 0 0 1999").unwrap();
        assert_eq!(state.streams[&Stream { run: 1, partition: 0, producer: 0 }].end, 10);
        assert!(State::parse("hello\n").is_err());
        assert!(State::parse("run 1 topic a\nrun 2 topic b\n").is_err());
    }
}
