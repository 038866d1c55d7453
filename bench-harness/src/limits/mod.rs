//! What this machine can do at best, measured in the same run as the broker: programs on plain system
//! calls that move the same frames and leave out everything a broker is for.
//!
//! The measured side is a child process of its own (this binary once more), pinned to the server core
//! with one thread and nothing but epoll and one io_uring; the load side is the calling thread. The
//! child's processor time is read from outside, exactly as a broker's is.

mod child;
mod cold;
mod direct;
mod disk;
mod ingest;
mod kafka_sink;
mod load;
mod serve;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use child::serve_child;
pub use direct::prepare_file;

use crate::environment::{CpuTime, pin_to_core};
use crate::error::{Error, Result};
use crate::stats::Latencies;

/// What the measured side does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Receives frames and forgets them.
    Sink,
    /// And checks their CRC-32C.
    SinkCrc,
    /// And writes them to the disk.
    SinkCrcWrite,
    /// And acknowledges each one when its write has completed: the limit of produce.
    Ingest,
    /// And acknowledges it only when a flush of all that was written has covered it: the limit of durable produce.
    IngestFlush,
    /// Answers small requests with bytes from warm memory: the limit of a tail fetch.
    MemoryToSocket,
    /// Answers with bytes of a file that is in no memory, by `sendfile`.
    SendFile,
    /// Answers with bytes of such a file by direct reads: with `SendFile` the limit of a cold fetch.
    DirectReadToSocket,
    /// Sends the same frame back.
    Echo,
    /// Writes 4 KiB to the disk directly, one after the other.
    #[value(name = "write-4k")]
    #[serde(rename = "write-4k")]
    Write4k,
    /// And flushes each.
    #[value(name = "write-4k-flush")]
    #[serde(rename = "write-4k-flush")]
    Write4kFlush,
    /// Speaks Kafka's protocol, takes what is produced and throws it away: what the generator can do.
    ProduceSink,
}

impl LimitKind {
    /// The stages of the ingest pipeline, each with one more than the one before.
    pub const INGEST_STAGES: [LimitKind; 4] =
        [LimitKind::Sink, LimitKind::SinkCrc, LimitKind::SinkCrcWrite, LimitKind::Ingest];

    /// What it is measured in, and how that follows from a run.
    #[must_use]
    pub fn figure(self) -> (&'static str, fn(&LimitResult) -> f64) {
        match self {
            LimitKind::Echo => {
                ("answers/s", |r| r.answers as f64 / r.elapsed.as_secs_f64().max(1e-9))
            }
            LimitKind::Write4k | LimitKind::Write4kFlush => {
                ("us at the median", |r| r.latency.map_or(0.0, |l| l.p50_us))
            }
            _ => ("GB/s", LimitResult::gb_per_s),
        }
    }

    /// All that `limits` measures unless it is told which.
    pub const ALL: [LimitKind; 11] = [
        LimitKind::Sink,
        LimitKind::SinkCrc,
        LimitKind::SinkCrcWrite,
        LimitKind::Ingest,
        LimitKind::IngestFlush,
        LimitKind::MemoryToSocket,
        LimitKind::SendFile,
        LimitKind::DirectReadToSocket,
        LimitKind::Echo,
        LimitKind::Write4k,
        LimitKind::Write4kFlush,
    ];

    /// Whether it is the disk's alone: no frames, no connections.
    #[must_use]
    pub fn is_disk(self) -> bool {
        matches!(self, LimitKind::Write4k | LimitKind::Write4kFlush)
    }

    pub(crate) fn checks_crc(self) -> bool {
        self.writes() || self == LimitKind::SinkCrc
    }

    /// Whether arriving frames are written.
    pub(crate) fn writes(self) -> bool {
        matches!(self, LimitKind::SinkCrcWrite | LimitKind::Ingest | LimitKind::IngestFlush)
    }

    /// Whether it needs the prepared file.
    #[must_use]
    pub fn needs_file(self) -> bool {
        let reads = matches!(self, LimitKind::SendFile | LimitKind::DirectReadToSocket);
        reads || self.writes() || self.is_disk()
    }

    pub(crate) fn answers(self) -> bool {
        matches!(
            self,
            LimitKind::Ingest
                | LimitKind::IngestFlush
                | LimitKind::MemoryToSocket
                | LimitKind::SendFile
                | LimitKind::DirectReadToSocket
                | LimitKind::Echo
        )
    }
}

/// One limit run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitSpec {
    /// What is measured.
    pub kind: LimitKind,
    /// The size of a frame without its prefix; for memory to socket the size of an answer.
    pub frame_bytes: usize,
    /// How many connections carry them.
    pub connections: usize,
    /// Frames under way on each connection where there is an answer.
    pub in_flight: usize,
    /// What to move in all, rounded up to whole frames on every connection.
    pub bytes: u64,
    /// The core of the measured side; none leaves it to the scheduler.
    pub server_core: Option<usize>,
    /// The core of the load side.
    pub client_core: Option<usize>,
    /// The prepared file the ingest limit writes to.
    pub file: Option<PathBuf>,
    /// Direct writes in flight.
    pub depth: usize,
    /// The warm memory that answers come from.
    pub memory_bytes: usize,
}

impl LimitSpec {
    /// A run with the usual settings.
    #[must_use]
    pub fn new(kind: LimitKind, frame_bytes: usize, connections: usize, bytes: u64) -> LimitSpec {
        LimitSpec {
            kind,
            frame_bytes,
            connections,
            in_flight: 4,
            bytes,
            server_core: None,
            client_core: None,
            file: None,
            depth: 4,
            memory_bytes: 256 << 20,
        }
    }

    fn frames_per_connection(&self) -> u64 {
        self.bytes.div_ceil((self.frame_bytes * self.connections) as u64).max(1)
    }
}

/// What a limit run moved and what it cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitResult {
    /// What was measured.
    pub kind: LimitKind,
    /// The size of a frame.
    pub frame_bytes: usize,
    /// How many connections there were.
    pub connections: usize,
    /// Frames moved.
    pub frames: u64,
    /// Frames answered or acknowledged.
    pub answers: u64,
    /// Payload bytes moved (frames without prefixes; for memory to socket the answers).
    pub bytes: u64,
    /// From the first byte sent to the last answer (without answers: to the end of the last connection).
    pub elapsed: Duration,
    /// Processor time of the measured side.
    pub server_cpu: CpuTime,
    /// Processor time of the load side.
    pub client_cpu: CpuTime,
    /// Direct writes, if there were any.
    pub writes: u64,
    /// Time from the sending of a frame's first byte to its answer.
    pub latency: Option<Latencies>,
}

impl LimitResult {
    /// 10^9 bytes per second.
    #[must_use]
    pub fn gb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What the child says when all connections have ended.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ServerReport {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) writes: u64,
    pub(crate) crc_mismatches: u64,
}

/// Runs one limit with `program` (this binary) as the measured side.
///
/// # Errors
/// If the child cannot be started, breaks off, counts other frames than were sent, or saw a bad CRC.
pub fn run(spec: &LimitSpec, program: &Path) -> Result<LimitResult> {
    if spec.kind.is_disk() {
        return run_disk(spec);
    }
    if let Some(core) = spec.client_core {
        pin_to_core(core)?;
    }
    let child = child::Child::start(spec, program)?;
    let before = (CpuTime::of_process(child.pid())?, CpuTime::of_self()?);
    let load = load::drive(spec, child.address())?;
    let after = (CpuTime::of_process(child.pid())?, CpuTime::of_self()?);
    let report = child.finish()?;
    load::check(spec, &load, &report)?;
    Ok(LimitResult {
        kind: spec.kind,
        frame_bytes: spec.frame_bytes,
        connections: spec.connections,
        frames: report.frames,
        answers: load.answers,
        bytes: report.frames * spec.frame_bytes as u64,
        elapsed: load.elapsed,
        server_cpu: after.0.since(before.0),
        client_cpu: after.1.since(before.1),
        writes: report.writes,
        latency: load.latency,
    })
}

/// The disk's limits run on the server core of this very process: nobody else is involved.
fn run_disk(spec: &LimitSpec) -> Result<LimitResult> {
    if let Some(core) = spec.server_core {
        pin_to_core(core)?;
    }
    let file = spec.file.as_ref();
    let file = file.ok_or_else(|| Error::Usage("this limit needs a prepared file".to_owned()))?;
    let before = CpuTime::of_self()?;
    let writes = disk::run(file, DISK_RUN, spec.kind == LimitKind::Write4kFlush)?;
    let cpu = CpuTime::of_self()?.since(before);
    if let Some(core) = spec.client_core {
        pin_to_core(core)?;
    }
    Ok(LimitResult {
        kind: spec.kind,
        frame_bytes: millstream::limits::BLOCK,
        connections: 0,
        frames: writes.count,
        answers: writes.count,
        bytes: writes.count * millstream::limits::BLOCK as u64,
        elapsed: writes.elapsed,
        server_cpu: cpu,
        client_cpu: CpuTime::default(),
        writes: writes.count,
        latency: Some(writes.latency),
    })
}

/// Writes of 4 KiB are measured for so long.
const DISK_RUN: Duration = Duration::from_millis(500);

/// A broker that throws everything away, as a process of its own; it ends when this is dropped.
pub struct ProduceSink {
    child: child::Child,
}

impl ProduceSink {
    /// Starts it on `core`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(core: Option<usize>, program: &Path) -> Result<ProduceSink> {
        let spec =
            LimitSpec { server_core: core, ..LimitSpec::new(LimitKind::ProduceSink, 1, 1, 1) };
        Ok(ProduceSink { child: child::Child::start(&spec, program)? })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.child.address().to_string()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(self) -> Result<()> {
        self.child.end()
    }
}
